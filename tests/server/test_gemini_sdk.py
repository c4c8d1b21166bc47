"""Gemini through the gateway: OpenAI's client with provider gemini, Google's own on the forward."""

import asyncio
import base64
import hashlib
import io
import json

import httpx
import openai
import pytest
from google import genai
from google.genai import errors, types
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests import openai_types
from tests.server.conftest import GEMINI_KEYS, config_for
from tests.server.running import running

FLASH, THIRD = "gemini/gemini-2.5-flash", "gemini/gemini-3-pro-preview"
KEY = "AIza-operators-own"
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": CITY}}
    for name in ("get_weather", "get news")  # Gemini takes no blanks in names
]
CITIES = [{"city": "Paris"}, {"city": "Oslo"}]
# As the upstream knows them.
BOTH = 'call get_weather with {"city": "Paris"} and get_news with {"city": "Oslo"}'


def ask(text):
    return [{"role": "user", "content": text}]


@pytest.fixture(scope="module")
def door(simulator, tmp_path_factory):
    gemini = {
        "google_gemini": {
            "api_url": f"{simulator.url}/gemini",
            "api_keys": [{"id": "g1", "val": KEY}],
        }
    }
    folder = tmp_path_factory.mktemp("gemini")
    with running(folder, config_for(simulator.url) | gemini) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def client(door):
    with openai.OpenAI(base_url=f"{door.url}/c/v1", api_key="pool", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def native(door):
    options = types.HttpOptions(base_url=f"{door.url}/gemini")
    made = genai.Client(api_key="pool", http_options=options)
    yield made
    made.close()


def strict(model, value):
    return openai_types.strictly(model, value.model_dump_json(exclude_unset=True))


def test_a_chat_gets_its_answer(client):
    answer = strict(
        ChatCompletion,
        client.chat.completions.create(
            model="gemini-2.5-flash", messages=ask("blue moon"), extra_body={"provider": "gemini"}
        ),
    )
    assert answer.choices[0].message.content == "You said: blue moon"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens > 0
    assert answer.model_extra["gemini"] == {"type": "api", "index": "g1"}


def test_a_stream_says_the_same_with_role_and_usage(client):
    chunks = [
        strict(ChatCompletionChunk, chunk)
        for chunk in client.chat.completions.create(
            model=FLASH,
            messages=[{"role": "system", "content": "be brief"}, *ask("blue moon")],
            stream=True,
            stream_options={"include_usage": True},
        )
    ]
    assert chunks[0].choices[0].delta.role == "assistant"
    told = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(told) == "You said: blue moon"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 4


def test_an_image_goes_along_and_thoughts_come_back(client):
    parts = [
        {"type": "text", "text": "what is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
    ]
    answer = client.chat.completions.create(
        model=FLASH, messages=[{"role": "user", "content": parts}], reasoning_effort="low"
    )
    assert answer.choices[0].message.content == "You said: what is this?"
    assert "Considering" in answer.choices[0].message.reasoning_content
    assert answer.usage.completion_tokens_details.reasoning_tokens > 0


@pytest.mark.parametrize("keeps_extra", [True, False])
@pytest.mark.parametrize("model", [FLASH, THIRD])
@pytest.mark.parametrize("streams", [False, True])
def test_parallel_tools_make_the_whole_round(client, model, streams, keeps_extra):
    if streams:
        with client.chat.completions.stream(model=model, messages=ask(BOTH), tools=TOOLS) as stream:
            answer = stream.get_final_completion()
    else:
        answer = client.chat.completions.create(model=model, messages=ask(BOTH), tools=TOOLS)
    message = answer.choices[0].message
    assert answer.choices[0].finish_reason == "tool_calls"
    assert [c.function.name for c in message.tool_calls] == ["get_weather", "get news"]
    assert [json.loads(c.function.arguments) for c in message.tool_calls] == CITIES
    said = [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.function.name, "arguments": call.function.arguments},
        }
        | ({"extra_content": call.model_extra.get("extra_content")} if keeps_extra else {})
        for call in message.tool_calls
    ]
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": f"sunny {at}"}
        for at, call in enumerate(message.tool_calls)
    ]
    told = client.chat.completions.create(
        model=model,
        messages=[*ask(BOTH), {"role": "assistant", "tool_calls": said}, *reversed(results)],
        tools=TOOLS,
    )
    text = told.choices[0].message.content
    assert text.index("sunny 0") < text.index("sunny 1")


def test_a_schema_is_filled(client):
    form = {"type": "json_schema", "json_schema": {"name": "c", "schema": CITY, "strict": True}}
    answer = client.chat.completions.create(
        model=FLASH, messages=ask("Paris"), response_format=form
    )
    assert json.loads(answer.choices[0].message.content) == {"city": "Paris"}


def test_a_blocked_prompt_is_a_refusal(client):
    answer = client.chat.completions.create(model="gemini/blocked-flash", messages=ask("a"))
    assert answer.choices[0].message.content is None
    assert answer.choices[0].message.refusal == "blocked: PROHIBITED_CONTENT"
    assert answer.choices[0].finish_reason == "content_filter"


@pytest.mark.parametrize(
    ("model", "error", "status", "code"),
    [
        ("missing-model", openai.NotFoundError, 404, "model_not_found"),
        ("sim-400", openai.BadRequestError, 400, "invalid_argument"),
        ("sim-401", openai.AuthenticationError, 401, "invalid_api_key"),
        ("sim-403", openai.PermissionDeniedError, 403, "permission_denied"),
        ("sim-500", openai.InternalServerError, 500, "internal"),
        ("sim-503", openai.InternalServerError, 503, "unavailable"),
        ("malformed-flash", openai.InternalServerError, 502, "malformed_function_call"),
        ("../v1", openai.BadRequestError, 400, "invalid_parameter"),
    ],
)
@pytest.mark.parametrize("streams", [False, True])
def test_every_failure_is_the_clients_own_error(door, model, error, status, code, streams):
    # A caller's own key each time: a key of the pool would have to rest.
    key = f"AIza-{model.strip('./')}-{streams}"
    with (
        openai.OpenAI(base_url=f"{door.url}/c/v1", api_key=key, max_retries=0) as client,
        pytest.raises(error) as caught,
    ):
        client.chat.completions.create(model="gemini/" + model, messages=ask("a"), stream=streams)
    assert (caught.value.status_code, caught.value.code) == (status, code)
    assert key not in str(caught.value)


def test_the_delay_in_a_quotas_body_becomes_retry_after(door):
    with (
        openai.OpenAI(base_url=f"{door.url}/c/v1", api_key="AIza-limited-7", max_retries=0) as own,
        pytest.raises(openai.RateLimitError) as caught,
    ):
        own.chat.completions.create(model=FLASH, messages=ask("a"))
    assert caught.value.response.headers["retry-after"] == "7"
    assert caught.value.code == "rate_limit_exceeded"


def test_an_overload_in_mid_stream_comes_after_the_text(client):
    texts = []
    with pytest.raises(openai.APIError) as caught:
        for chunk in client.chat.completions.create(
            model="gemini/gemini-2.5-flash-sim-error-event-2", messages=ask("a b c"), stream=True
        ):
            texts.append(chunk.choices[0].delta.content or "")
    assert "".join(texts) == "You said:"
    assert caught.value.code == "unavailable"


def test_what_was_dropped_is_named(client):
    reply = client.chat.completions.with_raw_response.create(
        model=FLASH, messages=ask("a"), presence_penalty=1, user="u"
    )
    assert reply.headers["x-gateway-dropped-params"] == "presence_penalty, user"


# Google's own client on /gemini


def test_googles_client_talks_streams_counts_and_embeds(native):
    assert native.models.generate_content(model="gemini-2.5-flash", contents="a").text == (
        "You said: a"
    )
    stream = native.models.generate_content_stream(model="gemini-2.5-flash", contents="a b")
    assert "".join(chunk.text for chunk in stream) == "You said: a b"
    assert native.models.count_tokens(model="gemini-2.5-flash", contents="a").total_tokens == 5
    embedded = native.models.embed_content(model="gemini-embedding-001", contents="a")
    assert len(embedded.embeddings[0].values) == 3072
    assert "models/gemini-2.5-flash" in [model.name for model in native.models.list()]


def test_googles_client_uploads_through_the_gateway(native, door, simulator):
    content = b"abc" * 4_000_000
    file = native.files.upload(file=io.BytesIO(content), config={"mime_type": "image/png"})
    assert file.size_bytes == len(content)
    # The start and two pieces of at most 8 MiB: none went past us to the upstream's own address.
    uploads = simulator.last(3, path="/gemini/upload/")
    assert sum(each["body_bytes"] for each in uploads[1:]) == len(content)
    door.wait_lines(
        lambda lines: sum(line.get("bytes_in", 0) for line in lines) >= len(content),
        route="/gemini/*",
    )
    native.files.delete(name=file.name)


def test_an_error_reaches_googles_client_as_it_is(native):
    with pytest.raises(errors.ClientError) as caught:
        native.models.generate_content(model="missing-model", contents="a")
    assert (caught.value.code, caught.value.status) == (404, "NOT_FOUND")


def test_a_pool_key_is_in_a_header_and_in_no_url(native, client, simulator, door):
    native.models.generate_content(model="gemini-2.5-flash", contents="a")
    client.chat.completions.create(model=FLASH, messages=ask("a"))
    for seen in simulator.last(2, path="/gemini/"):
        assert "key=" not in seen["target"]
        assert dict(map(tuple, seen["headers"]))["x-goog-api-key"] == KEY
    assert KEY not in door.out.read_text() + door.err.read_text()


def test_a_key_in_the_query_is_the_callers_and_moves_into_the_header(door, simulator):
    path = "/gemini/v1beta/models/gemini-2.5-flash:generateContent"
    own = "AIza-callers-query"
    reply = httpx.post(
        f"{door.url}{path}?key={own}&alt=json", json={"contents": [{"parts": [{"text": "a"}]}]}
    )
    assert reply.status_code == 200
    seen = simulator.last(1, key=own)[0]
    assert seen["target"].endswith(":generateContent?alt=json")


def test_googles_openai_layer_gets_the_pool_key_as_a_bearer(door):
    base = f"{door.url}/gemini/v1beta/openai/"
    with openai.OpenAI(base_url=base, api_key="pool", max_retries=0) as layer:
        answer = layer.chat.completions.create(model="gemini-2.5-flash", messages=ask("a"))
    assert answer.choices[0].message.content == "You said: a"


@pytest.mark.parametrize("dummy", ["pool", "none", "EMPTY"])
def test_a_dummy_key_of_googles_client_means_the_pool(door, simulator, dummy):
    options = types.HttpOptions(base_url=f"{door.url}/gemini")
    with genai.Client(api_key=dummy, http_options=options) as client:
        assert client.models.generate_content(model="gemini-2.5-flash", contents="a").text
    assert simulator.last(1, path="/gemini/")[0]["key"] == KEY
    path = f"{door.url}/gemini/v1beta/models?key={dummy}"
    assert httpx.get(path).status_code == 200
    assert simulator.last(1, path="/gemini/v1beta/models")[0]["key"] == KEY


def test_an_api_key_as_a_bearer_is_moved_where_google_looks(door, simulator):
    def models(token):
        url, headers = f"{door.url}/gemini/v1beta/models", {"authorization": f"Bearer {token}"}
        reply = httpx.get(url, headers=headers)
        seen = simulator.last(1, path="/gemini/v1beta/models")[0]
        return reply.status_code, {name.lower(): value for name, value in seen["headers"]}

    status, headers = models("AIza-callers-bearer")
    assert status == 200 and headers["x-goog-api-key"] == "AIza-callers-bearer"
    assert "authorization" not in headers
    status, headers = models("ya29.callers-token")
    assert status == 200 and headers["authorization"] == "Bearer ya29.callers-token"
    assert "x-goog-api-key" not in headers


@pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession")  # the SDK's own
def test_googles_async_client_holds_a_conversation(door):
    async def talk():
        options = types.HttpOptions(base_url=f"{door.url}/gemini")
        client = genai.Client(api_key="pool", http_options=options)
        chat = client.aio.chats.create(model="gemini-2.5-flash")
        texts = []
        for question in ("one", "two"):
            stream = await chat.send_message_stream(question)
            texts.append("".join([chunk.text or "" async for chunk in stream]))
        await client.aio.aclose()
        client.close()
        return texts

    assert asyncio.run(talk()) == ["You said: one", "You said: two"]


def test_googles_client_calls_functions_thinks_and_fills_schemas(door):
    options = types.HttpOptions(base_url=f"{door.url}/gemini", api_version="v1beta")
    with genai.Client(api_key="pool", http_options=options) as native:
        weather = types.FunctionDeclaration(name="get_weather", parameters_json_schema=CITY)
        config = types.GenerateContentConfig(tools=[types.Tool(function_declarations=[weather])])
        asked = native.models.generate_content(
            model="gemini-3-flash-preview", contents=BOTH, config=config
        )
        (call,) = asked.function_calls
        assert (call.name, call.args) == ("get_weather", {"city": "Paris"})
        # The signature travels back inside the content; the simulator refuses one that is missing.
        result = types.Part.from_function_response(name=call.name, response={"result": "sunny"})
        told = native.models.generate_content(
            model="gemini-3-flash-preview",
            contents=[
                types.UserContent(BOTH),
                asked.candidates[0].content,
                types.UserContent([result]),
            ],
            config=config,
        )
        assert "sunny" in told.text
        config = types.GenerateContentConfig(
            response_mime_type="application/json",
            response_json_schema=CITY,
            thinking_config=types.ThinkingConfig(include_thoughts=True, thinking_budget=1024),
        )
        filled = native.models.generate_content(
            model="gemini-2.5-flash", contents="Paris", config=config
        )
        assert json.loads(filled.text) == {"city": "Paris"}
        assert filled.candidates[0].content.parts[0].thought


def test_a_file_is_uploaded_listed_used_and_deleted(native):
    content = bytes(range(256)) * 4000
    made = native.files.upload(
        file=io.BytesIO(content), config={"mime_type": "image/png", "display_name": "a picture"}
    )
    assert base64.b64decode(made.sha256_hash).decode() == hashlib.sha256(content).hexdigest()
    assert native.files.get(name=made.name).state == types.FileState.ACTIVE
    assert made.name in [file.name for file in native.files.list()]
    told = native.models.generate_content(model="gemini-2.5-flash", contents=["what?", made])
    assert told.text == "You said: what?"
    native.files.delete(name=made.name)
    with pytest.raises(errors.ClientError):
        native.files.get(name=made.name)


@pytest.mark.parametrize(
    ("model", "error", "status"),
    [
        ("sim-400", errors.ClientError, "INVALID_ARGUMENT"),
        ("sim-429", errors.ClientError, "RESOURCE_EXHAUSTED"),
        ("sim-503", errors.ServerError, "UNAVAILABLE"),
    ],
)
def test_errors_reach_googles_client_streamed_and_not(door, model, error, status):
    options = types.HttpOptions(base_url=f"{door.url}/gemini")
    with genai.Client(api_key="AIza-own-errors", http_options=options) as client:
        for call in (client.models.generate_content, client.models.generate_content_stream):
            with pytest.raises(error) as caught:
                list(call(model=model, contents="a"))
            assert caught.value.status == status


# POST /gemini/openai: a generateContent body with `model` in it, OpenAI's answer out

BODY = {
    "model": "gemini-2.5-flash",
    "systemInstruction": {"parts": [{"text": "brief"}]},
    "contents": [{"role": "user", "parts": [{"text": "blue moon"}]}],
    "generationConfig": {"temperature": 0, "maxOutputTokens": 100},
}


def post_native(doors, body=BODY, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(f"{doors.url}/gemini/openai", json=body, headers=headers, timeout=20)


def test_a_gemini_body_is_answered_with_a_completion(doors):
    reply = post_native(doors)
    openai_types.completion(reply.content)
    answer = reply.json()
    assert answer["choices"][0]["message"]["content"] == "You said: blue moon"
    assert answer["gemini"] == {"type": "api", "index": reply.headers["x-auth-id"]}


def test_a_gemini_body_is_answered_with_chunks_when_it_says_stream(doors):
    reply = post_native(doors, BODY | {"stream": True})
    assert reply.headers["content-type"].startswith("text/event-stream")
    chunks = openai_types.chunks_of(reply.content)
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "You said: blue moon"
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_the_default_model_is_the_configs(doors, simulator):
    body = {name: value for name, value in BODY.items() if name != "model"}
    assert post_native(doors, body, x_auth_id="g1").status_code == 200
    (seen,) = simulator.last(1, path="/gemini/v1beta/models/")
    assert seen["target"].endswith("/models/gemini-2.5-flash-lite:generateContent")


@pytest.mark.parametrize(
    ("headers", "version", "used"),
    [
        ({"x_auth_id": "g1"}, "v1beta", GEMINI_KEYS["g1"]),
        ({"x_auth_id": "g2"}, "v1alpha", GEMINI_KEYS["g2"]),
        # x-version speaks for the caller's own key only.
        ({"x_auth_id": "g1", "x_version": "v1"}, "v1beta", GEMINI_KEYS["g1"]),
        ({"authorization": "Bearer AIza-own", "x_auth_id": "g2"}, "v1beta", "AIza-own"),
        ({"authorization": "Bearer AIza-own", "x_version": "v1alpha"}, "v1alpha", "AIza-own"),
        (
            {"authorization": "Bearer AIza-first", "x_goog_api_key": "AIza-second"},
            "v1beta",
            "AIza-first",
        ),
        ({"authorization": "Bearer pool", "x_goog_api_key": "AIza-own"}, "v1beta", "AIza-own"),
        ({"authorization": "none", "x_auth_id": "g2"}, "v1alpha", GEMINI_KEYS["g2"]),
    ],
)
def test_credentials_are_looked_for_in_order_and_bring_their_version(
    doors, simulator, headers, version, used
):
    reply = post_native(doors, **headers)
    assert reply.status_code == 200, reply.text
    (seen,) = simulator.last(1, path="/gemini/v1", model="gemini-2.5-flash")
    assert (seen["key"], seen["target"].split("/")[2]) == (used, version)
    assert "key=" not in seen["target"]
    assert reply.headers.get("x-auth-id") == next(
        (i for i, value in GEMINI_KEYS.items() if value == used), None
    )


def test_without_any_credential_each_key_gets_its_turn(doors):
    assert {post_native(doors).headers["x-auth-id"] for _ in range(20)} == {"g1", "g2"}


def test_a_wrong_version_and_an_unknown_id_are_refused_by_name(doors):
    reply = post_native(doors, authorization="Bearer AIza-own", x_version="../v1")
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "x-version")
    reply = post_native(doors, x_auth_id="g9")
    assert reply.status_code == 401 and "'g9'" in reply.json()["error"]["message"]


def test_no_secret_and_no_prompt_is_in_the_log(doors):
    log = doors.out.read_text() + doors.err.read_text()
    assert "blue moon" not in log and "AIza-own" not in log
    for secret in GEMINI_KEYS.values():
        assert secret not in log
