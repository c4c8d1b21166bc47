"""Claude through the gateway: OpenAI's client with its prefix, Anthropic's own on the forward."""

import contextlib
import json

import anthropic
import httpx
import openai
import pytest

from tests import openai_types
from tests.server.conftest import CLAUDE_KEYS

HAIKU, OPUS = "claude-haiku-4-5", "claude-opus-4-8"
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CALL = 'call get_weather with {"city": "Paris"}'
EMPTY = {"type": "object", "properties": {}}
TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "parameters": CITY}},
    {"type": "function", "function": {"name": "get_time", "parameters": EMPTY}},
    {"type": "function", "function": {"name": "ping"}},
]


def ask(text):
    return [{"role": "user", "content": text}]


@pytest.fixture(scope="module")
def client(doors):
    with openai.OpenAI(base_url=f"{doors.url}/c/v1", api_key="pool", max_retries=0) as made:
        yield made


def own_key(doors, key):
    """OpenAI's client with a key of the caller's own: one of the pool would have to rest."""
    made = openai.OpenAI(base_url=f"{doors.url}/c/v1", api_key=key, max_retries=0)
    return contextlib.closing(made)


def anthropic_client(doors, key="pool", **more):
    made = anthropic.Anthropic(
        base_url=f"{doors.url}/claude/api", api_key=key, max_retries=0, **more
    )
    return contextlib.closing(made)


@pytest.fixture(scope="module")
def native(doors):
    with anthropic_client(doors) as made:
        yield made


# -- OpenAI's client


def test_thoughts_come_as_reasoning_content_and_their_signatures_go_back(client):
    asked = {"model": f"claude/{HAIKU}", "tools": TOOLS[:1], "reasoning_effort": "low"}
    with client.chat.completions.stream(messages=ask(CALL), **asked) as stream:
        chunks = [event.chunk for event in stream if event.type == "chunk"]
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    thought = "".join((d.model_extra or {}).get("reasoning_content", "") for d in deltas)
    blocks = [b for d in deltas for b in (d.model_extra or {}).get("thinking_blocks", [])]
    assert thought and blocks[0]["thinking"] == thought and blocks[0]["signature"]
    whole = client.chat.completions.create(messages=ask(CALL), **asked)
    message = whole.choices[0].message
    assert [block.pop("index") for block in blocks] == [0]
    assert message.reasoning_content == thought and message.thinking_blocks == blocks
    messages = [
        *ask(CALL),
        message.model_dump(exclude_none=True),
        *(
            {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
            for call in message.tool_calls
        ),
    ]
    # The simulator refuses a thinking block that is missing, moved or changed, as Anthropic does.
    answer = client.chat.completions.with_raw_response.create(messages=messages, **asked)
    assert "x-gateway-dropped-params" not in answer.headers
    assert answer.parse().choices[0].message.content == "The tool said: sunny"
    assert whole.usage.completion_tokens_details.reasoning_tokens > 0


def test_what_the_client_assembles_of_several_thoughts_can_be_sent_back_as_it_is(client):
    asked = {"model": f"claude/{HAIKU}", "tools": TOOLS[:1], "reasoning_effort": "low"}
    with client.chat.completions.stream(messages=ask(f"REDACTED {CALL}"), **asked) as stream:
        message = stream.get_final_completion().choices[0].message
    assert [b["type"] for b in message.thinking_blocks] == ["thinking", "redacted_thinking"]
    said = message.model_dump(exclude_none=True, exclude={"parsed"})
    for call in said["tool_calls"]:
        call["function"].pop("parsed_arguments", None)
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"} for call in message.tool_calls
    ]
    reply = client.chat.completions.with_raw_response.create(
        messages=[*ask(f"REDACTED {CALL}"), said, *results], **asked
    )
    assert "x-gateway-dropped-params" not in reply.headers
    assert reply.parse().choices[0].message.content == "The tool said: sunny"


@pytest.mark.parametrize("streams", [False, True])
def test_tools_without_parameters_are_called_with_an_empty_object(client, streams):
    prompt = ask(f"{CALL}, get_time and ping")
    asked = {"model": f"claude/{HAIKU}", "messages": prompt, "tools": TOOLS}
    if streams:
        with client.chat.completions.stream(**asked) as stream:
            answer = stream.get_final_completion()
    else:
        answer = client.chat.completions.create(**asked)
    calls = [(c.function.name, c.function.arguments) for c in answer.choices[0].message.tool_calls]
    assert [name for name, _ in calls] == ["get_weather", "get_time", "ping"]
    assert json.loads(calls[0][1]) == {"city": "Paris"}
    assert [arguments for _, arguments in calls[1:]] == ["{}", "{}"]


def test_older_functions_are_answered_in_their_own_words(client):
    answer = client.chat.completions.create(
        model=f"claude/{HAIKU}",
        messages=ask(CALL),
        functions=[{"name": "get_weather", "parameters": CITY}],
    )
    assert answer.choices[0].finish_reason == "function_call"
    call = answer.choices[0].message.function_call
    assert (call.name, json.loads(call.arguments)) == ("get_weather", {"city": "Paris"})


def test_a_limit_a_stop_and_a_refusal_end_the_answer(client):
    def reason(**more):
        asked = {"model": f"claude/{HAIKU}", "messages": ask("one two three")} | more
        choice = client.chat.completions.create(**asked).choices[0]
        return choice.finish_reason, choice.message

    assert reason(max_completion_tokens=3)[0] == "length"
    ended, message = reason(stop="two")
    assert (ended, message.content) == ("stop", "You said: one ")
    ended, message = reason(model="claude/sim-refusal")
    assert ended == "content_filter" and "Usage Policy" in message.refusal


def test_cached_tokens_are_part_of_the_prompt(client):
    answer = client.chat.completions.create(
        model="claude/replay-api-thinking-adaptive", messages=ask("x")
    )
    details = answer.usage.prompt_tokens_details
    assert details.cached_tokens >= 0 and details.cache_write_tokens >= 0
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_what_was_dropped_is_named_and_what_would_change_the_meaning_is_refused(client):
    reply = client.chat.completions.with_raw_response.create(
        model=f"claude/{HAIKU}", messages=ask("a"), presence_penalty=1, seed=3
    )
    assert reply.headers["x-gateway-dropped-params"] == "presence_penalty, seed"
    assert reply.headers["anthropic-ratelimit-requests-limit"] == "50"
    assert "anthropic-organization-id" not in reply.headers
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=f"claude/{HAIKU}", messages=ask("a"), n=2)
    assert caught.value.param == "n"


def test_a_sampling_parameter_the_model_turns_down_is_tried_without(client):
    reply = client.chat.completions.with_raw_response.create(
        model=f"claude/{OPUS}", messages=ask("a"), temperature=0.5
    )
    assert reply.headers["x-gateway-dropped-params"] == "temperature"


@pytest.mark.parametrize(
    ("model", "error", "status", "code"),
    [
        ("missing-model", openai.NotFoundError, 404, "model_not_found"),
        ("sim-400", openai.BadRequestError, 400, None),
        ("sim-401", openai.AuthenticationError, 401, "invalid_api_key"),
        ("sim-403", openai.PermissionDeniedError, 403, None),
        ("sim-413", openai.APIStatusError, 413, None),
        ("sim-429-after-7", openai.RateLimitError, 429, "rate_limit_exceeded"),
        ("sim-quota", openai.APIStatusError, 402, "insufficient_quota"),
        ("sim-500", openai.InternalServerError, 500, None),
        ("sim-529", openai.InternalServerError, 503, None),
        ("sim-html", openai.InternalServerError, 502, "upstream_bad_response"),
    ],
)
@pytest.mark.parametrize("streams", [False, True])
def test_every_failure_is_the_clients_own_error(doors, model, error, status, code, streams):
    key = f"sk-ant-api03-{model}-{streams}".replace("sim-", "of-")
    with own_key(doors, key) as client, pytest.raises(error) as caught:
        client.chat.completions.create(model="claude/" + model, messages=ask("a"), stream=streams)
    assert caught.value.status_code == status
    if code is not None:
        assert caught.value.code == code
    assert caught.value.body["message"] and key not in str(caught.value)
    headers = caught.value.response.headers
    if status == 429:
        assert headers["retry-after"] == "7"
    if model == "sim-529":
        assert float(headers["retry-after"]) > 0


@pytest.mark.parametrize("model", ["sim-cut-after-5", "sim-end-after-5", "sim-error-event-5"])
def test_a_stream_that_breaks_is_an_error_not_an_end(doors, model):
    seen = []
    with own_key(doors, "sk-ant-api03-breaks") as client, pytest.raises(openai.APIError) as caught:
        for chunk in client.chat.completions.create(
            model=f"claude/{HAIKU}-{model}", messages=ask("a b c d e"), stream=True
        ):
            seen.append(chunk)
    assert seen
    assert (
        caught.value.code == ("overloaded_error" if "event" in model else "upstream_cut")
        or (caught.value.body["type"])
    )


# -- POST /claude/api/openai: Anthropic's body in, OpenAI's answer out

BODY = {
    "model": HAIKU,
    "max_tokens": 100,
    "system": [{"type": "text", "text": "brief", "cache_control": {"type": "ephemeral"}}],
    "messages": [{"role": "user", "content": [{"type": "text", "text": "blue moon"}]}],
}


def post_native(doors, body=BODY, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(f"{doors.url}/claude/api/openai", json=body, headers=headers, timeout=20)


def test_an_anthropic_body_is_answered_with_a_completion(doors):
    reply = post_native(doors)
    openai_types.completion(reply.content)
    answer = reply.json()
    assert answer["choices"][0]["message"]["content"] == "You said: blue moon"
    assert answer["claude"]["type"] == "api" and answer["claude"]["index"] in CLAUDE_KEYS


def test_an_anthropic_body_is_answered_with_chunks_when_it_says_stream(doors):
    reply = post_native(doors, BODY | {"stream": True, "stream_options": {"include_usage": True}})
    assert reply.status_code == 400  # stream_options is OpenAI's; Anthropic does not know it
    reply = post_native(doors, BODY | {"stream": True})
    assert reply.headers["content-type"].startswith("text/event-stream")
    chunks = openai_types.chunks_of(reply.content)
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "You said: blue moon"
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_the_body_of_the_native_route_reaches_anthropic_as_it_is(doors):
    tools = [{"name": "get_weather", "input_schema": CITY}]
    body = BODY | {
        "tools": tools,
        "messages": ask(CALL),
        "tool_choice": {"type": "any"},
        "thinking": {"type": "disabled"},
        "claude": {"index": "a2"},
        "provider": "claude",
    }
    answer = post_native(doors, body).json()
    call = answer["choices"][0]["message"]["tool_calls"][0]
    assert json.loads(call["function"]["arguments"]) == {"city": "Paris"}
    assert answer["claude"] == {"type": "api", "index": "a2"}


@pytest.mark.parametrize(
    ("headers", "used"),
    [
        (
            {"authorization": "Bearer sk-ant-api03-A", "x_api_key": "sk-ant-api03-B"},
            "sk-ant-api03-A",
        ),
        ({"x_api_key": "sk-ant-api03-B", "x_auth_id": "a1"}, "sk-ant-api03-B"),
        ({"authorization": "Bearer pool", "x_api_key": "sk-ant-api03-C"}, "sk-ant-api03-C"),
        ({"x_auth_id": "a2"}, CLAUDE_KEYS["a2"]),
        ({"x_api_key": "none", "x_auth_id": "a1"}, CLAUDE_KEYS["a1"]),
    ],
)
def test_credentials_are_looked_for_in_order(doors, simulator, headers, used):
    reply = post_native(doors, **headers)
    assert reply.status_code == 200
    assert simulator.last(1, path="/claude/v1/messages")[0]["key"] == used
    assert reply.headers.get("x-auth-id") == next(
        (i for i, value in CLAUDE_KEYS.items() if value == used), None
    )


def test_without_any_credential_each_key_gets_its_turn(doors):
    assert {post_native(doors).headers["x-auth-id"] for _ in range(20)} == {"a1", "a2"}


def test_an_unknown_id_is_refused_by_name(doors):
    reply = post_native(doors, x_auth_id="a9")
    assert reply.status_code == 401 and "'a9'" in reply.json()["error"]["message"]


# -- Anthropic's own client on /claude/api


def message(client, **members):
    members = {"model": HAIKU, "max_tokens": 2000, "messages": ask("blue moon")} | members
    return client.messages.create(**members)


def test_anthropics_client_asks_and_streams(native):
    assert message(native).content[0].text == "You said: blue moon"
    with native.messages.stream(model=HAIKU, max_tokens=100, messages=ask("blue moon")) as stream:
        assert "".join(stream.text_stream) == "You said: blue moon"
        assert stream.get_final_message().stop_reason == "end_turn"


def test_anthropics_client_uses_tools_and_thinks(native):
    tools = [{"name": "get_weather", "input_schema": CITY}]
    asked = {"tools": tools, "thinking": {"type": "enabled", "budget_tokens": 1024}}
    first = message(native, messages=ask(CALL), **asked)
    call = first.content[-1]
    assert (call.type, call.input) == ("tool_use", {"city": "Paris"})
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}
    second = message(
        native,
        messages=[
            *ask(CALL),
            {"role": "assistant", "content": first.content},
            {"role": "user", "content": [result]},
        ],
        **asked,
    )
    assert second.content[-1].text == "The tool said: sunny"


def test_anthropics_client_counts_and_lists(native):
    counted = native.messages.count_tokens(model=HAIKU, messages=ask("one two three"))
    assert counted.input_tokens == 7
    assert len([model.id for model in native.models.list(limit=4)]) == 9
    assert native.models.retrieve(HAIKU).max_tokens == 64_000


@pytest.mark.parametrize("beta", [False, True])
def test_batches_with_their_results_come_through_the_gateway(doors, native, beta):
    params = {"model": HAIKU, "max_tokens": 100, "messages": ask("Hi")}
    batches = native.beta.messages.batches if beta else native.messages.batches
    batch = batches.create(requests=[{"custom_id": "one", "params": params}])
    ours = f"{doors.url}/claude/api/v1/messages/batches/{batch.id}/results"
    assert batch.results_url == ours
    before = len(doors.log(route="/claude/api/*"))
    (result,) = list(batches.results(batch.id))
    assert result.result.message.content[0].text == "You said: Hi"
    doors.wait_log(before + 2, route="/claude/api/*")  # the batch, and its results
    assert ours in [each.results_url for each in batches.list()]
    assert batches.retrieve(batch.id).results_url == ours
    assert batches.cancel(batch.id).results_url == ours
    assert batches.delete(batch.id).id == batch.id


def test_behind_a_tls_proxy_the_results_are_at_its_address(doors):
    params = {"model": HAIKU, "max_tokens": 100, "messages": ask("Hi")}
    proxied = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "ai.example"}
    # The gateway's own keys are not for whoever comes by way of a proxy.
    with anthropic_client(doors, "sk-ant-api03-callers", default_headers=proxied) as client:
        made = client.messages.batches.create(requests=[{"custom_id": "one", "params": params}])
    assert made.results_url.startswith("https://ai.example/claude/api/v1/messages/batches/")


def test_no_other_body_is_rewritten(doors, native, simulator):
    text = f'"results_url":"{simulator.url}/claude/v1/messages/batches/x/results"'
    assert message(native, messages=ask(text)).content[0].text == f"You said: {text}"
    params = {"model": HAIKU, "max_tokens": 2000, "messages": ask(text)}
    batch = native.messages.batches.create(requests=[{"custom_id": "one", "params": params}])
    (result,) = list(native.messages.batches.results(batch.id))
    assert result.result.message.content[0].text == f"You said: {text}"


def test_files_go_up_and_come_back_whole(native):
    content = bytes(range(256)) * 4000
    made = native.beta.files.upload(file=("a.bin", content))
    assert made.size_bytes == len(content)
    assert made.id in [each.id for each in native.beta.files.list()]
    assert native.beta.files.retrieve_metadata(made.id).filename == "a.bin"
    assert native.beta.files.download(made.id).read() == content
    assert native.beta.files.delete(made.id).type == "file_deleted"
    with pytest.raises(anthropic.NotFoundError):
        native.beta.files.retrieve_metadata(made.id)


@pytest.mark.parametrize(
    ("model", "error"),
    [
        ("sim-400", anthropic.BadRequestError),
        ("sim-401", anthropic.AuthenticationError),
        ("sim-429-after-7", anthropic.RateLimitError),
        ("sim-529", anthropic.InternalServerError),
        ("missing-model", anthropic.NotFoundError),
    ],
)
def test_an_error_reaches_anthropics_client_as_it_is(doors, model, error):
    with (
        anthropic_client(doors, "sk-ant-api03-own") as client,
        pytest.raises(error) as caught,
    ):
        message(client, model=model)
    assert caught.value.body["type"] == "error"
    if "429" in model:
        assert caught.value.response.headers["retry-after"] == "7"


def test_an_error_in_mid_stream_and_a_cut_reach_anthropics_client(doors):
    with anthropic_client(doors, "sk-ant-api03-own") as client:
        for model, error in (
            ("sim-error-event-3", anthropic.APIStatusError),
            ("sim-cut-after-3", Exception),
        ):
            with (
                pytest.raises(error),
                client.messages.stream(
                    model=model, max_tokens=100, messages=ask("a b c d e f")
                ) as stream,
            ):
                stream.get_final_message()


def test_version_and_betas_pass_and_the_pool_key_replaces_a_dummy(doors, simulator):
    def seen(**options):
        with anthropic_client(doors, **options) as client:
            message(client)
        last = simulator.last(1, path="/claude/v1/messages")[0]
        return {name.lower(): value for name, value in last["headers"]}

    headers = seen(default_headers={"anthropic-version": anthropic.omit, "x-auth-id": "a2"})
    assert headers["anthropic-version"] == "2023-06-01"
    assert headers["x-api-key"] == CLAUDE_KEYS["a2"]
    assert "authorization" not in headers and "x-auth-id" not in headers
    headers = seen(
        key="none",
        default_headers={"anthropic-version": "2026-10-21", "anthropic-beta": "a-1,b-2"},
    )
    assert headers["anthropic-version"] == "2026-10-21"
    assert headers["anthropic-beta"] == "a-1,b-2"
    assert headers["x-api-key"] in CLAUDE_KEYS.values()
    headers = seen(key="none", default_headers={"x-api-key": "sk-ant-api03-mine"})
    assert headers["x-api-key"] == "sk-ant-api03-mine" and "authorization" not in headers


def test_an_oauth_token_stays_a_bearer(doors, simulator):
    token = "sk-ant-oat01-mine"
    beta = {"anthropic-beta": "oauth-2025-04-20"}
    with anthropic_client(doors, None, auth_token=token, default_headers=beta) as client:
        message(client)
    last = simulator.last(1, path="/claude/v1/messages")[0]
    headers = {name.lower(): value for name, value in last["headers"]}
    assert headers["authorization"] == f"Bearer {token}" and "x-api-key" not in headers


def test_no_secret_and_no_prompt_is_in_the_log(doors):
    log = doors.out.read_text() + doors.err.read_text()
    assert "blue moon" not in log
    for secret in (*CLAUDE_KEYS.values(), "sk-ant-api03-own", "sk-ant-oat01-mine"):
        assert secret not in log


def test_the_id_that_anthropic_gave_is_told_under_its_own_name(native, doors):
    message = native.messages.create(model=HAIKU, max_tokens=99, messages=ask("hi"))
    assert message._request_id.startswith("req_")  # not private: Anthropic documents it
    with native.messages.stream(model=HAIKU, max_tokens=99, messages=ask("hi")) as stream:
        assert stream.request_id.startswith("req_")
    with pytest.raises(anthropic.BadRequestError) as caught:
        native.messages.create(model=HAIKU, max_tokens=0, messages=ask("hi"))
    assert caught.value.request_id.startswith("req_")


@pytest.mark.parametrize("stream", [False, True])
def test_so_it_is_by_the_door_that_answers_in_openais_shape(doors, stream):
    body = {"model": HAIKU, "max_tokens": 99, "messages": ask("hi"), "stream": stream}
    url = f"{doors.url}/claude/api/openai"
    answer = httpx.post(url, json=body, headers={"x-request-id": "mine"})
    assert answer.status_code == 200 and answer.headers["x-request-id"] == "mine"
    assert answer.headers["request-id"] == answer.headers["x-upstream-request-id"]
    refused = httpx.post(url, json=body | {"max_tokens": 0})
    assert refused.status_code == 400 and refused.headers["request-id"].startswith("req_")
