"""Google's own SDK against the simulator itself, and the wire as it was recorded."""

import base64
import hashlib
import io
import json
import urllib.error
import urllib.request

import pytest
from google import genai
from google.genai import errors, types

from app.wire.errors import GatewayError
from app.wire.events import Text
from tests.providers.gemini.calls import RECORDED, decode

KEY = "AIza-sdk-test"
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CALL_BOTH = 'call get_weather with {"city": "Paris"} and get_news'
TOOLS = types.Tool(
    function_declarations=[
        types.FunctionDeclaration(name=name, parameters_json_schema=CITY)
        for name in ("get_weather", "get_news")
    ]
)
BY_HAND = types.AutomaticFunctionCallingConfig(disable=True)


def make_client(simulator, key=KEY, version="v1beta"):
    options = types.HttpOptions(base_url=f"{simulator.url}/gemini", api_version=version)
    return genai.Client(api_key=key, http_options=options)


@pytest.fixture(scope="module")
def client(simulator):
    made = make_client(simulator)
    yield made
    made.close()


def post(simulator, path, body, key=KEY):
    """A raw request: status, headers, body."""
    request = urllib.request.Request(
        f"{simulator.url}/gemini{path}",
        json.dumps(body).encode(),
        {"content-type": "application/json", **({"x-goog-api-key": key} if key else {})},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, reply.headers, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def ask(text, **more):
    return {"contents": [{"role": "user", "parts": [{"text": text}]}], **more}


@pytest.mark.parametrize("model", ["gemini-2.5-flash", "gemini-3-flash-preview"])
def test_a_chat_answers_its_own_question(client, model):
    answer = client.models.generate_content(model=model, contents="blue moon")
    assert answer.text == "You said: blue moon"
    assert answer.model_version == model
    usage = answer.usage_metadata
    thoughts = usage.thoughts_token_count or 0
    assert usage.total_token_count == (
        usage.prompt_token_count + usage.candidates_token_count + thoughts
    )


@pytest.mark.parametrize("model", ["gemini-2.5-flash", "gemini-3-flash-preview"])
def test_a_stream_says_what_the_whole_answer_says(client, model):
    chunks = list(client.models.generate_content_stream(model=model, contents="blue moon"))
    assert "".join(chunk.text or "" for chunk in chunks) == "You said: blue moon"
    reasons = [chunk.candidates[0].finish_reason for chunk in chunks]
    assert reasons == [None] * (len(chunks) - 1) + [types.FinishReason.STOP]
    counts = [chunk.usage_metadata.total_token_count for chunk in chunks]
    assert counts == sorted(counts)
    assert len({chunk.response_id for chunk in chunks}) == 1


@pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession")  # the SDK's own
def test_a_chat_session_streams_through_the_async_client_too(simulator):
    import asyncio

    async def talk():
        client = make_client(simulator)
        chat = client.aio.chats.create(model="gemini-2.5-flash")
        texts = []
        for question in ("one", "two"):
            stream = await chat.send_message_stream(question)
            texts.append("".join([chunk.text or "" async for chunk in stream]))
        await client.aio.aclose()
        client.close()
        return texts

    assert asyncio.run(talk()) == ["You said: one", "You said: two"]


def test_thoughts_come_before_the_answer_when_they_are_asked_for(client):
    config = types.GenerateContentConfig(
        thinking_config=types.ThinkingConfig(include_thoughts=True, thinking_budget=1024)
    )
    answer = client.models.generate_content(
        model="gemini-2.5-flash", contents="blue moon", config=config
    )
    thought, text = answer.candidates[0].content.parts
    assert thought.thought and not text.thought
    assert text.text == "You said: blue moon"
    assert answer.usage_metadata.thoughts_token_count > 0


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("model", ["gemini-2.5-flash", "gemini-3-pro-preview"])
def test_parallel_tools_are_called_and_their_results_told(client, model, streams):
    config = types.GenerateContentConfig(tools=[TOOLS], automatic_function_calling=BY_HAND)
    contents = [types.Content(role="user", parts=[types.Part(text=CALL_BOTH)])]
    if streams:
        chunks = client.models.generate_content_stream(
            model=model, contents=contents, config=config
        )
        parts = [p for c in chunks for p in c.candidates[0].content.parts if p.function_call]
    else:
        answer = client.models.generate_content(model=model, contents=contents, config=config)
        parts = answer.candidates[0].content.parts
    calls = [part.function_call for part in parts]
    assert [call.name for call in calls] == ["get_weather", "get_news"]
    assert [call.args for call in calls] == [{"city": "Paris"}, {"city": "example"}]
    assert [bool(part.thought_signature) for part in parts] == [True, False]
    results = [
        types.Part.from_function_response(name=call.name, response={"result": "sunny"})
        for call in calls
    ]
    contents += [
        types.Content(role="model", parts=parts),
        types.Content(role="user", parts=results),
    ]
    told = client.models.generate_content(model=model, contents=contents, config=config)
    assert told.text.startswith("The tool said: ") and "sunny" in told.text


def test_the_sdk_calls_functions_by_itself(client):
    def get_weather(city: str) -> str:
        """Tells the weather."""
        return f"sunny in {city}"

    answer = client.models.generate_content(
        model="gemini-3-flash-preview",
        contents=CALL_BOTH,
        config=types.GenerateContentConfig(tools=[get_weather]),
    )
    assert "sunny in Paris" in answer.text


def test_gemini_3_insists_on_the_signature_of_the_first_call(client):
    def loop(signature, model="gemini-3-pro-preview", name="get_weather"):
        call = types.Part(
            function_call=types.FunctionCall(name=name, args={"city": "Paris"}),
            thought_signature=signature,
        )
        result = types.Part.from_function_response(name=name, response={"result": "x"})
        return client.models.generate_content(
            model=model,
            contents=[
                types.Content(role="user", parts=[types.Part(text="Paris")]),
                types.Content(role="model", parts=[call]),
                types.Content(role="user", parts=[result]),
            ],
        )

    with pytest.raises(errors.ClientError, match="missing a thought_signature") as caught:
        loop(None)
    assert caught.value.code == 400
    assert loop(None, model="gemini-2.5-flash").text
    foreign = client.models.generate_content(
        model="gemini-3-pro-preview",
        contents=CALL_BOTH,
        config=types.GenerateContentConfig(tools=[TOOLS], automatic_function_calling=BY_HAND),
    )
    signature = foreign.candidates[0].content.parts[0].thought_signature
    assert loop(signature).text
    with pytest.raises(errors.ClientError, match="signature is not valid"):
        loop(signature, name="get_news")


def test_a_forced_function_is_the_only_one_called(client):
    config = types.GenerateContentConfig(
        tools=[TOOLS],
        automatic_function_calling=BY_HAND,
        tool_config=types.ToolConfig(
            function_calling_config=types.FunctionCallingConfig(
                mode="ANY", allowed_function_names=["get_news"]
            )
        ),
    )
    answer = client.models.generate_content(
        model="gemini-2.5-flash", contents="Paris", config=config
    )
    assert [call.name for call in answer.function_calls] == ["get_news"]


def test_a_schema_is_filled(client):
    config = types.GenerateContentConfig(
        response_mime_type="application/json", response_json_schema=CITY
    )
    answer = client.models.generate_content(
        model="gemini-2.5-flash", contents="Paris", config=config
    )
    assert answer.parsed == {"city": "Paris"} or json.loads(answer.text) == {"city": "Paris"}


def test_endings_of_every_kind(client):
    limited = types.GenerateContentConfig(max_output_tokens=2)
    answer = client.models.generate_content(
        model="gemini-2.5-flash", contents="a b c", config=limited
    )
    assert answer.candidates[0].finish_reason == types.FinishReason.MAX_TOKENS
    assert answer.text == "You said:"
    spent = client.models.generate_content(model="gemini-2.5-pro", contents="a", config=limited)
    assert spent.candidates[0].finish_reason == types.FinishReason.MAX_TOKENS
    assert spent.candidates[0].content.parts is None
    blocked = client.models.generate_content(model="blocked-flash", contents="a")
    assert blocked.candidates is None
    assert blocked.prompt_feedback.block_reason == types.BlockedReason.PROHIBITED_CONTENT
    broken = client.models.generate_content(model="malformed-flash", contents="a")
    assert broken.candidates[0].finish_reason == types.FinishReason.MALFORMED_FUNCTION_CALL
    unsafe = client.models.generate_content(model="sim-refusal", contents="a")
    assert unsafe.candidates[0].finish_reason == types.FinishReason.SAFETY


def test_tokens_are_counted_and_texts_embedded(client):
    counted = client.models.count_tokens(model="gemini-2.5-flash", contents="blue moon")
    answer = client.models.generate_content(model="gemini-2.5-flash", contents="blue moon")
    assert counted.total_tokens == answer.usage_metadata.prompt_token_count
    config = types.EmbedContentConfig(output_dimensionality=8)
    many = client.models.embed_content(
        model="gemini-embedding-001", contents=["a", "b", "a"], config=config
    )
    first, second, third = (one.values for one in many.embeddings)
    assert len(first) == 8
    assert first == third != second


def test_models_are_listed_page_by_page(client):
    names = [model.name for model in client.models.list(config={"page_size": 2})]
    assert "models/gemini-2.5-flash" in names and len(names) == len(set(names)) > 4
    one = client.models.get(model="gemini-2.5-flash")
    assert "generateContent" in one.supported_actions
    with pytest.raises(errors.ClientError) as caught:
        client.models.get(model="gemini-9")
    assert caught.value.code == 404


def test_a_file_is_uploaded_asked_about_used_and_deleted(client, simulator):
    content = bytes(range(256)) * 40_000  # more than one piece of 8 MiB
    uploaded = client.files.upload(
        file=io.BytesIO(content), config={"mime_type": "image/png", "display_name": "a picture"}
    )
    assert uploaded.size_bytes == len(content)
    assert base64.b64decode(uploaded.sha256_hash).decode() == hashlib.sha256(content).hexdigest()
    assert uploaded.uri.startswith(simulator.url)
    assert client.files.get(name=uploaded.name).state == types.FileState.ACTIVE
    assert uploaded.name in [file.name for file in client.files.list()]
    answer = client.models.generate_content(
        model="gemini-2.5-flash", contents=["what is this?", uploaded]
    )
    assert answer.text == "You said: what is this?"
    client.files.delete(name=uploaded.name)
    with pytest.raises(errors.ClientError) as caught:
        client.files.get(name=uploaded.name)
    assert caught.value.code == 403


@pytest.mark.parametrize(
    ("model", "error", "code", "status"),
    [
        ("missing-model", errors.ClientError, 404, "NOT_FOUND"),
        ("sim-400", errors.ClientError, 400, "INVALID_ARGUMENT"),
        ("sim-401", errors.ClientError, 400, "INVALID_ARGUMENT"),
        ("sim-402", errors.ClientError, 400, "FAILED_PRECONDITION"),
        ("sim-403", errors.ClientError, 403, "PERMISSION_DENIED"),
        ("sim-413", errors.ClientError, 413, "INVALID_ARGUMENT"),
        ("sim-429", errors.ClientError, 429, "RESOURCE_EXHAUSTED"),
        ("sim-quota", errors.ClientError, 429, "RESOURCE_EXHAUSTED"),
        ("sim-499", errors.ClientError, 499, "CANCELLED"),
        ("sim-500", errors.ServerError, 500, "INTERNAL"),
        ("sim-503", errors.ServerError, 503, "UNAVAILABLE"),
        ("sim-504", errors.ServerError, 504, "DEADLINE_EXCEEDED"),
    ],
)
def test_every_refusal_is_the_sdks_own_error(client, model, error, code, status):
    with pytest.raises(error) as caught:
        client.models.generate_content(model=model, contents="a")
    assert (caught.value.code, caught.value.status) == (code, status)
    with pytest.raises(error) as caught:
        list(client.models.generate_content_stream(model=model, contents="a"))
    assert (caught.value.code, caught.value.status) == (code, status)


@pytest.mark.parametrize(
    ("key", "code", "said"),
    [
        ("AIza-bad", 400, "API key not valid"),
        ("something", 400, "API key not valid"),
        ("AIza-expired", 400, "API key expired"),
        ("AIza-region", 400, "User location is not supported"),
        ("AIza-leaked", 403, "reported as leaked"),
        ("AIza-limited-7", 429, "exceeded your current quota"),
    ],
)
def test_a_key_that_opens_nothing_is_told_why(simulator, key, code, said):
    with make_client(simulator, key) as client, pytest.raises(errors.ClientError) as caught:
        client.models.generate_content(model="gemini-2.5-flash", contents="a")
    assert caught.value.code == code
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("headers", "query", "code"),
    [
        ({}, "", 403),
        ({}, f"?key={KEY}", 200),
        ({"x-goog-api-key": KEY}, "", 200),
        ({"authorization": f"Bearer {KEY}"}, "", 401),
        ({"authorization": "Bearer ya29.token"}, "", 200),
        ({"authorization": "Bearer ya29.bad"}, "", 401),
    ],
)
def test_a_key_is_looked_for_where_google_looks(simulator, headers, query, code):
    path = f"{simulator.url}/gemini/v1beta/models/gemini-2.5-flash:generateContent{query}"
    request = urllib.request.Request(path, json.dumps(ask("a")).encode(), headers)
    try:
        status = urllib.request.urlopen(request, timeout=10).status
    except urllib.error.HTTPError as error:
        status = error.code
    assert status == code


def test_googles_openai_layer_takes_the_key_as_a_bearer(simulator):
    import openai

    base = f"{simulator.url}/gemini/v1beta/openai/"
    with openai.OpenAI(base_url=base, api_key=KEY) as client:
        answer = client.chat.completions.create(
            model="gemini-2.5-flash", messages=[{"role": "user", "content": "blue moon"}]
        )
        assert answer.choices[0].message.content == "You said: blue moon"
        assert "models/gemini-2.5-flash" in [model.id for model in client.models.list()]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "contents is not specified"),
        ({**ask("a"), "model": "x"}, 'Unknown name "model"'),
        ({**ask("a"), "generationConfig": {"maxTokens": 1}}, 'Unknown name "maxTokens"'),
        (ask("a", generationConfig={"temperature": 3}), "temperature"),
        (ask("a", generationConfig={"stopSequences": list("abcdef")}), "must not exceed 5"),
        (ask("a", generationConfig={"candidateCount": 2}), "Multiple candidates is not enabled"),
        (ask("a", generationConfig={"presencePenalty": 1}), "Penalty is not enabled"),
        (ask("a", generationConfig={"responseLogprobs": True}), "Logprobs is not enabled"),
        (ask("a", generationConfig={"responseSchema": {"type": "STRING"}}), "response_mime_type"),
        (
            ask("a", generationConfig={"thinkingConfig": {"thinkingLevel": "LOW"}}),
            "Thinking level is not supported",
        ),
        ({"contents": [{"role": "user", "parts": []}]}, "must not be empty"),
        ({"contents": [{"role": "bot", "parts": [{"text": "a"}]}]}, "valid role"),
        (
            {"contents": [{"role": "model", "parts": [{"functionCall": {"name": "f"}}]}]},
            "function call turn comes immediately after",
        ),
        (
            {
                "contents": [
                    {"role": "user", "parts": [{"text": "a"}]},
                    {"role": "model", "parts": [{"functionCall": {"name": "f"}}]},
                    {"role": "user", "parts": [{"text": "b"}]},
                ]
            },
            "number of function response parts",
        ),
        (ask("a", tools=[{"functionDeclarations": [{"name": "a b"}]}]), "Invalid function name"),
        (ask("a", systemInstruction=[{"parts": []}]), "system_instruction"),
        (
            {"contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": "<"}}]}]},
            "inline_data.data",
        ),
    ],
)
def test_what_gemini_refuses_is_refused(simulator, body, said):
    path = "/v1beta/models/gemini-2.5-flash:generateContent"
    status, _, answer = post(simulator, path, body)
    assert status == 400
    assert said in json.loads(answer)["error"]["message"]


def test_version_v1_has_never_heard_of_instructions(simulator):
    body = ask("a", systemInstruction={"parts": [{"text": "s"}]})
    status, _, answer = post(simulator, "/v1/models/gemini-2.5-flash:generateContent", body)
    assert status == 400 and b'Unknown name \\"systemInstruction\\"' in answer
    assert post(simulator, "/v9/models/gemini-2.5-flash:generateContent", ask("a"))[0] == 404


# The wire itself


STREAM = "/v1beta/models/gemini-2.5-flash:streamGenerateContent"


def test_the_two_framings_are_the_recorded_ones(simulator):
    _, headers, sse = post(simulator, STREAM + "?alt=sse", ask("blue moon"))
    assert headers["content-type"] == "text/event-stream"
    assert headers["content-disposition"] == "attachment"
    assert sse.startswith(b'data: {"candidates": [{"content": {"parts": [{"text": "You"}],"role"')
    assert sse.endswith(b"}\r\n\r\n") and b"[DONE]" not in sse
    _, headers, array = post(simulator, STREAM, ask("blue moon"))
    assert headers["content-type"] == "application/json; charset=UTF-8"
    recorded = (RECORDED / "array-tool-result-followup.json").read_bytes()
    for frame in (
        b'[{\n  "candidates": [\n    {\n      "content": {\n',
        b"\n}\n,\r\n{\n",
        b"\n}\n]",
    ):
        assert frame in recorded and frame in array
    assert [e for e in decode(sse) if isinstance(e, Text)] == [
        e for e in decode(array) if isinstance(e, Text)
    ]


def test_an_error_of_the_array_form_stands_in_an_array(simulator):
    _, _, broken = post(
        simulator, STREAM.replace("gemini-2.5-flash", "sim-error-event-0"), ask("a")
    )
    assert json.loads(broken)[0]["error"]["status"] == "UNAVAILABLE"
    _, _, alone = post(simulator, STREAM + "?alt=sse", {})
    _, _, inside = post(simulator, STREAM, {})
    assert json.loads(inside) == [json.loads(alone)]


@pytest.mark.parametrize("path", [STREAM, STREAM + "?alt=sse"])
def test_an_overload_in_mid_stream_forgets_the_framing(simulator, path):
    path = path.replace("gemini-2.5-flash", "sim-error-event-1")
    status, _, body = post(simulator, path, ask("blue moon"))
    assert status == 200
    assert body.count(b"data: ") <= 1 and b'\n{\n  "error": {\n    "code": 503,' in body
    with pytest.raises(GatewayError) as caught:
        decode(body)
    assert (caught.value.status, caught.value.code) == (503, "unavailable")


@pytest.mark.parametrize(
    "fault", ["sim-split-bytes", "sim-crlf", "sim-comments", "sim-drip-1", "sim-split-7+crlf"]
)
def test_odd_framings_say_the_same(simulator, fault):
    path = STREAM.replace("gemini-2.5-flash", fault)
    texts = []
    for form in ("", "?alt=sse"):
        _, _, body = post(simulator, path + form, ask("blue moon"))
        texts.append("".join(e.text for e in decode(body) if isinstance(e, Text)))
    assert texts == ["You said: blue moon"] * 2


@pytest.mark.parametrize("after", [1, 2])
def test_a_stream_that_ends_early_does_not_look_whole(simulator, after):
    path = STREAM.replace("gemini-2.5-flash", f"sim-end-after-{after}") + "?alt=sse"
    _, _, body = post(simulator, path, ask("a b c d"))
    with pytest.raises(GatewayError) as caught:
        decode(body)
    assert caught.value.code == "upstream_cut"


@pytest.mark.parametrize(
    "name",
    [
        path.name
        for path in sorted(RECORDED.iterdir())
        if path.suffix in (".sse", ".json")
        and not path.name.startswith(("requests", "models", "embeddings"))
    ],
)
def test_a_recording_is_replayed_byte_for_byte(simulator, name):
    stem = name.rpartition(".")[0]
    recorded = json.loads((RECORDED / "requests.json").read_text())[name]
    is_stream = "streamGenerateContent" in recorded["url"]
    path = f"/v1beta/models/replay-{stem}:" + (
        "streamGenerateContent?alt=sse" if is_stream else "generateContent"
    )
    status, headers, body = post(simulator, path, ask("a"))
    assert status == recorded["status"]
    assert headers["content-type"] == recorded["response_headers"]["content-type"]
    assert body == (RECORDED / name).read_bytes()
