"""Google's own client on /c, before every kind of upstream: the Gemini front over real sockets."""

import json

import httpx
import pytest
from google.genai import errors, types

from tests.fronts.gemini_calls import recordings
from tests.server.gemini_door import (
    CLAUDE,
    GEMINI,
    MODELS,
    OPENAI,
    client_of,
    config,
    post,
)
from tests.server.gemini_door import client as client
from tests.server.gemini_door import door as door
from tests.server.running import running

BOTH = 'call get_weather with {"city": "Paris"} and get_news with {"city": "Oslo"}'
CITY = {
    "type": "OBJECT",
    "properties": {"city": {"type": "STRING", "nullable": True}},
    "property_ordering": ["city"],
}
TOOLS = [
    types.Tool(
        function_declarations=[
            types.FunctionDeclaration(name=name, description="Tells.", parameters=CITY)
            for name in ("get_weather", "get_news")
        ]
    )
]
PNG = bytes.fromhex("89504e470d0a1a0a") + b"\0" * 20


# --- answers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_a_question_is_answered_whole_and_as_a_stream(client, model):
    answer = client.models.generate_content(model=model, contents="blue moon")
    assert answer.text == "You said: blue moon"
    assert answer.candidates[0].finish_reason is types.FinishReason.STOP
    assert answer.usage_metadata.total_token_count > 0
    assert answer.response_id
    chunks = list(client.models.generate_content_stream(model=model, contents="blue moon"))
    assert "".join(chunk.text or "" for chunk in chunks) == "You said: blue moon"
    last = chunks[-1]
    assert last.candidates[0].finish_reason is types.FinishReason.STOP
    assert last.usage_metadata.prompt_token_count > 0
    assert answer.model_version == last.model_version == model


@pytest.mark.parametrize("model", MODELS)
def test_the_version_that_the_sdk_asks_by_itself_is_taken(door, model):
    client = client_of(door, version=None)
    answer = client.models.generate_content(model=model, contents="blue moon")
    client.close()
    assert answer.text == "You said: blue moon"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", [GEMINI, "gemini-flash-latest"])
def test_what_googles_v1_refuses_is_asked_of_v1beta(door, simulator, model, stream):
    client = client_of(door, version=None)  # v1, which has no tools for 2.5 and no latest names
    settings = types.GenerateContentConfig(
        tools=TOOLS, automatic_function_calling={"disable": True}
    )
    method = client.models.generate_content_stream if stream else client.models.generate_content
    asked = {"model": model, "contents": BOTH, "config": settings}
    said = list(method(**asked)) if stream else [method(**asked)]
    client.close()
    calls = [call.name for answer in said for call in answer.function_calls or ()]
    assert calls == ["get_weather", "get_news"]
    first, second = simulator.last(2, path="/gemini/", model=model)
    versions = [each["path"].split("/")[2] for each in (first, second)]
    assert versions == ["v1", "v1beta"] and first["status"] in (400, 404)
    assert first["body_sha256"] == second["body_sha256"]


def test_what_no_version_takes_is_refused_in_googles_words(door, simulator):
    body = {"contents": [{"parts": [{"text": "x"}]}], "unheardOf": 1}
    reply = post(door, f"/c/v1/models/{GEMINI}:generateContent", body)
    assert reply.status_code == 400
    assert "unheardOf" in reply.json()["error"]["message"]
    body = {"contents": [{"parts": []}]}
    before = len(simulator.last(100, path="/gemini/v1/"))
    assert post(door, f"/c/v1/models/{GEMINI}:generateContent", body).status_code == 400
    assert len(simulator.last(100, path="/gemini/v1/")) == before + 1
    assert simulator.last(1, path="/gemini/")[-1]["path"].startswith("/gemini/v1/")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_two_tools_are_called_at_once_and_their_results_go_back(client, model, stream):
    settings = types.GenerateContentConfig(
        tools=TOOLS, automatic_function_calling={"disable": True}
    )
    if stream:
        chunks = list(
            client.models.generate_content_stream(model=model, contents=BOTH, config=settings)
        )
        said = [
            part
            for chunk in chunks
            if chunk.candidates
            for part in chunk.candidates[0].content.parts or []
        ]
    else:
        answer = client.models.generate_content(model=model, contents=BOTH, config=settings)
        said = answer.candidates[0].content.parts
    said = [part for part in said if part.function_call or part.text]
    calls = [part.function_call for part in said if part.function_call]
    assert [(call.name, call.args) for call in calls] == [
        ("get_weather", {"city": "Paris"}),
        ("get_news", {"city": "Oslo"}),
    ]
    results = [
        types.Part.from_function_response(name=call.name, response={"result": "22 degrees"})
        for call in reversed(calls)
    ]
    talk = [
        types.Content(role="user", parts=[types.Part.from_text(text=BOTH)]),
        types.Content(role="model", parts=said),
        types.Content(role="user" if model == GEMINI else "tool", parts=results),
    ]
    answer = client.models.generate_content(model=model, contents=talk, config=settings)
    assert answer.text and not answer.function_calls


@pytest.mark.parametrize("model", MODELS)
def test_json_of_a_given_shape(client, model):
    settings = types.GenerateContentConfig(
        response_mime_type="application/json",
        response_schema={
            "type": "OBJECT",
            "properties": {"colour": {"type": "STRING", "enum": ["red", "blue"]}},
            "required": ["colour"],
        },
    )
    answer = client.models.generate_content(model=model, contents="a colour", config=settings)
    assert json.loads(answer.text)["colour"] in ("red", "blue")


@pytest.mark.parametrize("model", MODELS[1:])
def test_one_word_of_several(client, model):
    settings = types.GenerateContentConfig(
        response_mime_type="text/x.enum", response_schema={"type": "STRING", "enum": ["red"]}
    )
    answer = client.models.generate_content(model=model, contents="a colour", config=settings)
    assert answer.text.strip('"') == "red"


@pytest.mark.parametrize("model", MODELS)
def test_a_picture_goes_along(client, model):
    picture = types.Part.from_bytes(data=PNG, mime_type="image/png")
    answer = client.models.generate_content(model=model, contents=[picture, "what is this?"])
    assert "what is this?" in answer.text


@pytest.mark.parametrize("model", [GEMINI, CLAUDE])
def test_thoughts_are_shown_when_asked_for(client, model):
    thinking = types.ThinkingConfig(thinking_budget=2048, include_thoughts=True)
    settings = types.GenerateContentConfig(thinking_config=thinking, max_output_tokens=8000)
    answer = client.models.generate_content(model=model, contents="blue moon", config=settings)
    first = answer.candidates[0].content.parts[0]
    assert first.thought and first.text
    assert answer.text == "You said: blue moon"
    settings.thinking_config.include_thoughts = False
    answer = client.models.generate_content(model=model, contents="blue moon", config=settings)
    assert not any(part.thought for part in answer.candidates[0].content.parts)


def test_claudes_thoughts_come_back_through_two_rounds_of_tools(client, simulator):
    thinking = types.ThinkingConfig(thinking_budget=2048)
    settings = types.GenerateContentConfig(
        tools=TOOLS, thinking_config=thinking, automatic_function_calling={"disable": True}
    )
    talk = [types.Content(role="user", parts=[types.Part.from_text(text=BOTH)])]
    answer = client.models.generate_content(model=CLAUDE, contents=talk, config=settings)
    talk.append(answer.candidates[0].content)
    results = [
        types.Part.from_function_response(name=call.name, response={"output": "22"})
        for call in answer.function_calls
    ]
    talk.append(types.Content(role="user", parts=results))
    second = client.models.generate_content(model=CLAUDE, contents=talk, config=settings)
    assert second.text
    sent = simulator.last(path="/claude/v1/messages")[-1]["json"]
    block = sent["messages"][1]["content"][0]
    assert block["type"] == "thinking" and block["signature"]
    assert sent["thinking"]["type"] == "enabled"


@pytest.mark.parametrize("model", MODELS)
def test_tokens_are_counted(client, model):
    text = "How many tokens does this sentence have, more or less? " * 20
    assert 100 < client.models.count_tokens(model=model, contents=text).total_tokens < 2000


@pytest.mark.parametrize(
    "model",
    [
        "gemini-embedding-001",
        "gemini/gemini-embedding-001",
        "my-embedding",
        "openai/text-embedding-3-small",
        "local/text-embedding-3-small",
    ],
)
def test_texts_become_vectors(door, client, model):
    settings = types.EmbedContentConfig(output_dimensionality=256, task_type="RETRIEVAL_QUERY")
    many = client.models.embed_content(model=model, contents=["a", "b"], config=settings)
    assert [len(each.values) for each in many.embeddings] == [256, 256]
    assert many.embeddings[0].values != many.embeddings[1].values
    body = {"content": {"parts": [{"text": "a"}]}, "outputDimensionality": 256}
    one = post(door, f"/c/v1beta/models/{model}:embedContent", body).json()
    assert one["embedding"]["values"] == pytest.approx(many.embeddings[0].values)


def test_who_makes_no_vectors_says_so(door):
    body = {"content": {"parts": [{"text": "a"}]}}
    reply = post(door, f"/c/v1beta/models/{CLAUDE}:embedContent", body)
    assert reply.status_code == 400
    assert reply.json()["error"]["status"] == "INVALID_ARGUMENT"
    picture = {"content": {"parts": [{"inlineData": {"mimeType": "image/png", "data": ""}}]}}
    reply = post(door, "/c/v1beta/models/openai/text-embedding-3-small:embedContent", picture)
    assert reply.json()["error"]["status"] == "INVALID_ARGUMENT"


@pytest.mark.parametrize("model", MODELS[1:])
def test_a_lone_result_is_counted(door, model):
    body = recordings()["count-tokens"]["body"]
    reply = post(door, f"/c/v1beta/models/{model}:countTokens", body)
    assert reply.status_code == 200, reply.text
    assert reply.json()["totalTokens"] > 1000  # of the picture, mostly


@pytest.mark.parametrize("model", MODELS[1:])
@pytest.mark.parametrize("name", recordings())
def test_recorded_requests_are_answered(door, model, name):
    request = recordings()[name]
    method = request["path"].partition("?")[0].rpartition(":")[2]
    if request["method"] != "POST" or "mbed" in method:
        return
    query = "?alt=sse" if "alt=sse" in request["path"] else ""
    path = f"/c/v1beta/models/{model}:{method}{query}"
    reply = post(door, path, request["body"])
    if name == "google-search" and model != CLAUDE:
        assert reply.status_code == 400
        assert "web search" in reply.json()["error"]["message"]
        return
    if name == "google-search":
        assert reply.status_code in (200, 400)
        return
    assert reply.status_code == 200, reply.text
    named = {
        "other-clients-0": "generationConfig.topK",
        "other-clients-1": "tools.googleSearch",
    }
    dropped = named.get(name)
    if model != CLAUDE:
        assert reply.headers.get("x-gateway-dropped-params") == dropped


def test_the_seven_paths_reach_the_right_model(door):
    for path in (
        "/c/v1beta/models/claude/claude-sonnet-4-5:streamGenerateContent?alt=sse",
        "/c/v1/models/claude/claude-sonnet-4-5:generateContent",
        "/c/v1alpha/models/claude%2Fclaude-sonnet-4-5%3AgenerateContent",
        "/c/v1beta/claude/claude-sonnet-4-5:generateContent",
        "/c/v1/claude/claude-sonnet-4-5:generateContent",
        "/c/v1beta/models/claude/claude-sonnet-4-5:countTokens",
        "/c/v1beta/models/claude-sonnet-4-5:generateContent",
    ):
        reply = post(door, path)
        assert reply.status_code == 200, (path, reply.text)
        line = door.wait_lines(lambda lines: True, request_id=reply.headers["x-request-id"])
        assert [each["provider"] for each in line] in ([], ["claude-api"])
    assert len(door.wait_log(6, front="gemini", model="claude-sonnet-4-5")) >= 6


# --- byte for byte ----------------------------------------------------------------------------


def test_a_gemini_body_goes_up_byte_for_byte_but_for_our_mark(door, simulator):
    body = (
        b'{ "contents" : [{"parts":[{"text":"blue moon","unheard_of":1.50}]},'
        b'{"role":"model","parts":[{"functionCall":{"name":"f"},"thoughtSignature":"YW55cHJveHkxYzpbXQ=="}]},'
        b'{"parts":[{"functionResponse":{"name":"f","response":{}}}]}] }'
    )
    before = simulator.stats()
    httpx.post(
        f"{door.url}/c/v1alpha/models/my-gemini:streamGenerateContent?alt=sse&$fields=candidates",
        content=body,
        headers={"content-type": "application/json", "x-goog-api-key": "pool"},
    )
    assert before is not None
    asked = simulator.last(path="/gemini/")[-1]
    wanted = "/gemini/v1alpha/models/gemini-2.5-flash:streamGenerateContent"
    assert asked["path"].partition("?")[0] == wanted
    text = json.dumps(asked)
    assert "anyproxy" not in text and "YW55cHJveHkx" not in text
    assert "skip_thought_signature_validator" in text


def test_both_framings_come_as_google_sends_them(door):
    events = post(door, f"/c/v1beta/models/{GEMINI}:streamGenerateContent?alt=sse")
    assert events.headers["content-type"].startswith("text/event-stream")
    assert events.content.endswith(b"\r\n\r\n")
    array = post(door, f"/c/v1beta/models/{GEMINI}:streamGenerateContent")
    assert array.headers["content-type"] == "application/json; charset=UTF-8"
    assert array.content.startswith(b'[{\n  "candidates"')
    assert len(array.json()) > 1


@pytest.mark.parametrize("model", MODELS[1:])
def test_a_stream_without_alt_is_one_array(door, model):
    reply = post(door, f"/c/v1beta/models/{model}:streamGenerateContent")
    assert reply.headers["content-type"] == "application/json; charset=UTF-8"
    told = reply.json()
    assert told[-1]["candidates"][0]["finishReason"] == "STOP"


# --- silence and errors -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def slow(simulator, tmp_path_factory):
    more = config(simulator, timeouts={"keep_alive_comment": 0.1, "idle": 3, "first_event": 10})
    with running(tmp_path_factory.mktemp("slow"), more) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def slow_client(slow):
    made = client_of(slow)
    yield made
    made.close()


@pytest.mark.parametrize("house", ["gemini", "claude", "openai"])
def test_silence_is_bridged_by_chunks_without_candidates(slow, slow_client, house):
    model = f"{house}/sim-slow-event-500"
    reply = post(slow, f"/c/v1beta/models/{model}:streamGenerateContent?alt=sse")
    assert reply.headers["content-type"].startswith("text/event-stream")
    lines = reply.content.removesuffix(b"\r\n\r\n").split(b"\r\n\r\n")
    assert all(line.startswith(b"data: {") and b"\n" not in line for line in lines)
    told = [json.loads(line[6:]) for line in lines]
    silent = [chunk for chunk in told if "candidates" not in chunk]
    assert silent and all(chunk["usageMetadata"]["promptTokenCount"] > 0 for chunk in silent)
    with_text = slow_client.models.generate_content_stream(model=model, contents="blue moon")
    assert "".join(chunk.text or "" for chunk in with_text)


@pytest.mark.parametrize("house", ["gemini", "claude", "openai"])
def test_silence_in_an_array_keeps_it_valid(slow, house):
    model = f"{house}/sim-drip-300"
    reply = post(slow, f"/c/v1beta/models/{model}:streamGenerateContent")
    assert reply.json()[-1]["candidates"][0]["finishReason"] == "STOP"


@pytest.mark.parametrize("alt", ["?alt=sse", ""])
@pytest.mark.parametrize("house", ["gemini", "claude", "openai"])
def test_a_cut_after_the_first_byte_ends_in_an_error_object(slow, house, alt):
    model = f"{house}/sim-cut-after-{5 if house == 'claude' else 3}"
    reply = post(slow, f"/c/v1beta/models/{model}:streamGenerateContent{alt}")
    assert reply.status_code == 200
    last = json.loads(reply.content.rstrip().rpartition(b"data: ")[2]) if alt else reply.json()[-1]
    assert last["error"]["status"] == "INTERNAL"


@pytest.mark.parametrize("model", ["gemini/sim-hang-after-2", "openai/sim-hang-after-2"])
def test_an_answer_that_stops_is_an_error_with_its_status(slow_client, model):
    with pytest.raises(errors.APIError) as caught:
        list(slow_client.models.generate_content_stream(model=model, contents="blue moon"))
    assert caught.value.code == 504
    assert caught.value.status == "DEADLINE_EXCEEDED"


@pytest.fixture(scope="module")
def failing(simulator, tmp_path_factory):
    with running(tmp_path_factory.mktemp("failing"), config(simulator)) as gateway:
        yield gateway


@pytest.mark.parametrize(
    ("fault", "code", "status"),
    [
        ("400", 400, "INVALID_ARGUMENT"),
        ("404", 404, "NOT_FOUND"),
        ("429-after-7", 429, "RESOURCE_EXHAUSTED"),
        ("500", 500, "INTERNAL"),
        ("503", 503, "UNAVAILABLE"),
    ],
)
@pytest.mark.parametrize("house", ["gemini", "claude", "openai"])
def test_refusals_have_googles_shape(failing, house, fault, code, status):
    model = f"{house}/sim-{fault}"
    client = client_of(failing)
    with pytest.raises(errors.APIError) as caught:
        client.models.generate_content(model=model, contents="blue moon")
    client.close()
    assert (caught.value.code, caught.value.status) == (code, status)
    assert caught.value.message
    array = post(failing, f"/c/v1beta/models/{model}:streamGenerateContent")
    (told,) = array.json()
    assert told["error"]["code"] == array.status_code
    if code == 429:
        assert any("retryDelay" in detail for detail in told["error"]["details"])
        assert array.headers["retry-after"]


def test_bad_requests_are_refused_in_googles_shape(door):
    for path, body in (
        (f"/c/v1beta/models/{OPENAI}:generateContent", {"contents": []}),
        (f"/c/v1beta/models/{OPENAI}:generateContent", {"contents": 5}),
        (f"/c/v1beta/models/{CLAUDE}:generateContent", {"contents": "x", "cachedContent": "c"}),
    ):
        told = post(door, path, body).json()["error"]
        assert (told["code"], told["status"]) == (400, "INVALID_ARGUMENT")
    path = f"/c/v1beta/models/{OPENAI}:streamGenerateContent"
    (told,) = httpx.post(f"{door.url}{path}", content=b"{").json()
    assert told["error"]["status"] == "INVALID_ARGUMENT"
    for path in (
        "/v1beta/cachedContents",
        "/v1beta/models/m:predict",
        "/v1/models/m:predict",
        "/upload/v1beta/files",
    ):
        reply = post(door, f"/c{path}")
        assert (reply.status_code, reply.json()["error"]["status"]) == (404, "NOT_FOUND")
        assert f" /gemini{path}." in reply.json()["error"]["message"]
    assert "type" in post(door, "/c/v1/unheard-of").json()["error"]  # as OpenAI's callers read it


def test_gemini_clis_fixed_names_follow_the_aliases(door):
    request = recordings()["start-auto-router"]
    path = "/c/v1beta/models/gemini-3.5-flash-lite:generateContent"
    reply = post(door, path, request["body"])
    assert reply.status_code == 200
    assert reply.headers["x-gateway-model"] == OPENAI
    assert reply.json()["modelVersion"] == "gemini-3.5-flash-lite"
