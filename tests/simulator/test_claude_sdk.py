"""Anthropic's own SDK on the simulator: a true stand-in serves it without special handling."""

import base64
import contextlib
import itertools
import time

import anthropic
import pytest

MODEL = "claude-haiku-4-5"
KEY = "sk-ant-api03-sim"
WEATHER = {
    "name": "weather",
    "description": "Gets the weather",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"],
    },
}
NINE = [{"type": "text", "text": "9"}]
CLOCK = {"name": "clock", "input_schema": {"type": "object", "properties": {}}}


def client_of(simulator, **more):
    options = {"api_key": KEY, "max_retries": 0} | more
    return anthropic.Anthropic(base_url=f"{simulator.url}/claude", **options)


@pytest.fixture(scope="module")
def client(simulator):
    with contextlib.closing(client_of(simulator)) as made:
        yield made


def ask(client, content="Hello there", **members):
    members = {"model": MODEL, "max_tokens": 2000} | members
    messages = members.pop("messages", [{"role": "user", "content": content}])
    return client.messages.create(messages=messages, **members)


def stream(client, content="Hello there", **members):
    members = {"model": MODEL, "max_tokens": 2000} | members
    messages = members.pop("messages", [{"role": "user", "content": content}])
    with client.messages.stream(messages=messages, **members) as told:
        events = [event.type for event in told]
        return told.get_final_message(), events


@pytest.fixture(params=[ask, stream], ids=["whole", "streamed"])
def talk(request, client):
    """Both ways to the same message."""

    def run(*args, **members):
        answer = request.param(client, *args, **members)
        return answer[0] if isinstance(answer, tuple) else answer

    return run


def test_text_and_usage(talk):
    message = talk()
    assert [block.text for block in message.content] == ["You said: Hello there"]
    assert (message.model, message.stop_reason) == ("claude-haiku-4-5-20251001", "end_turn")
    assert (message.usage.input_tokens, message.usage.output_tokens) == (6, 4)


def test_limits_and_stop_sequences(talk):
    assert talk("one two three", max_tokens=3).stop_reason == "max_tokens"
    message = talk("one two three", stop_sequences=["two"])
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "two")
    assert message.content[0].text == "You said: one "


def test_cached_tokens_are_counted_apart(talk):
    block = {"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}
    usage = talk([block]).usage
    assert (usage.cache_creation_input_tokens, usage.cache_read_input_tokens) == (32, 64)


def test_parallel_tools_one_without_parameters_and_their_results(talk):
    asked = 'call weather with {"city": "Oslo"} and clock'
    first = talk(asked, tools=[WEATHER, CLOCK])
    assert first.stop_reason == "tool_use"
    text, weather, clock = first.content
    assert text.text == "Let me look that up."
    assert (weather.name, weather.input) == ("weather", {"city": "Oslo"})
    assert (clock.name, clock.input) == ("clock", {})
    results = [
        {"type": "tool_result", "tool_use_id": weather.id, "content": "sunny"},
        {
            "type": "tool_result",
            "tool_use_id": clock.id,
            "content": [{"type": "text", "text": "9"}],
        },
    ]
    messages = [
        {"role": "user", "content": asked},
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": results},
    ]
    second = talk(messages=messages, tools=[WEATHER, CLOCK])
    assert second.content[0].text == "The tool said: sunny, 9"


def test_tool_choices(talk):
    tools = [WEATHER, CLOCK]

    def called(prompt="call weather and clock", **choice):
        content = talk(prompt, tools=tools, tool_choice=choice).content
        return [block.name for block in content if block.type == "tool_use"]

    assert called(type="auto") == called(type="any") == ["weather", "clock"]
    assert called("What is the weather? Use the clock.", type="auto") == []
    assert called("Hi", type="any") == ["weather"]
    assert called(type="any", disable_parallel_tool_use=True) == ["weather"]
    assert called(type="tool", name="clock") == ["clock"]
    assert called(type="none") == []


def test_structured_output(talk):
    schema = WEATHER["input_schema"] | {"additionalProperties": False}
    message = talk("x", output_config={"format": {"type": "json_schema", "schema": schema}})
    assert message.content[0].text == '{"city":"x","days":7}'


def test_thinking_is_signed_and_its_signature_must_come_back_unchanged(talk):
    asked = {"tools": [WEATHER], "thinking": {"type": "enabled", "budget_tokens": 1024}}
    first = talk("REDACTED, call weather", **asked)
    kinds = [block.type for block in first.content]
    assert kinds == ["thinking", "redacted_thinking", "text", "tool_use"]
    assert first.usage.output_tokens_details.thinking_tokens > 0
    result = {"type": "tool_result", "tool_use_id": first.content[3].id, "content": "sunny"}

    def second(content):
        return talk(
            messages=[
                {"role": "user", "content": "REDACTED, call weather"},
                {"role": "assistant", "content": content},
                {"role": "user", "content": [result]},
            ],
            **asked,
        )

    assert second(first.content).stop_reason == "end_turn"
    with pytest.raises(anthropic.BadRequestError, match="must start with a thinking block"):
        second(first.content[2:])
    forged = [block.model_dump() for block in first.content]
    forged[0]["thinking"] += "!"
    with pytest.raises(anthropic.BadRequestError, match="Invalid `signature`"):
        second(forged)
    forged = [block.model_dump() for block in first.content]
    forged[1]["data"] = "AAAA"
    with pytest.raises(anthropic.BadRequestError, match="Invalid `data`"):
        second(forged)


def test_a_stream_has_the_real_ones_order_padding_and_pings(simulator, client):
    _, events = stream(client, tools=[CLOCK])
    raw = client.messages.with_raw_response.create(
        model=MODEL, max_tokens=10, messages=[{"role": "user", "content": "Hi"}], stream=True
    )
    lines = [line for line in raw.http_response.iter_lines() if line]
    names = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    order = [name for name, _ in itertools.groupby(names)]
    assert order == [
        "message_start",
        "content_block_start",
        "ping",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert 'data: {"type": "ping"}' in lines
    assert any(line.endswith("}    ") for line in lines)
    assert raw.headers["anthropic-organization-id"] and raw.headers["request-id"]
    assert events[-1] == "message_stop"


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"messages": []}, "at least one message"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "first message must use"),
        ({"messages": [{"role": "user", "content": "x"}] * 2}, "roles must alternate"),
        ({"messages": [{"role": "user", "content": ""}]}, "must be non-empty"),
        ({"messages": [{"role": "user", "content": " "}]}, "non-whitespace"),
        ({"messages": [{"role": "system", "content": "x"}]}, "role"),
        ({"extra_body": {"provider": "claude"}}, "Extra inputs are not permitted"),
        ({"max_tokens": 0}, "greater than or equal to 1"),
        ({"extra_body": {"max_tokens": 100_000}}, "maximum allowed number of output tokens"),
        ({"extra_body": {"max_tokens": None}}, "max_tokens: Field required"),
        ({"extra_body": {"temperature": 1.0}}, "temperature: Extra inputs are not permitted"),
        ({"stop_sequences": ["\n"]}, "non-whitespace"),
        ({"tool_choice": {"type": "auto"}}, "only be specified while providing tools"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "x"}}, "not found in"),
        ({"tools": [{"name": "x", "input_schema": {}}]}, "input_schema.type"),
        ({"thinking": {"type": "enabled", "budget_tokens": 5000}}, "must be greater than"),
        ({"thinking": {"type": "adaptive"}}, "adaptive thinking is not supported"),
        (
            {
                "messages": [
                    {"role": "user", "content": "x"},
                    {"role": "assistant", "content": "So: "},
                ]
            },
            "trailing whitespace",
        ),
        (
            {
                "model": "claude-sonnet-5",
                "messages": [
                    {"role": "user", "content": "x"},
                    {"role": "assistant", "content": "So:"},
                ],
            },
            "does not support assistant message prefill",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "tool_result", "tool_use_id": "a", "content": "x"}],
                    }
                ]
            },
            "unexpected `tool_use_id`",
        ),
        (
            {
                "tools": [CLOCK],
                "messages": [
                    {"role": "user", "content": "x"},
                    {
                        "role": "assistant",
                        "content": [{"type": "tool_use", "id": "a", "name": "clock", "input": {}}],
                    },
                    {"role": "user", "content": "y"},
                ],
            },
            "without `tool_result` blocks immediately after: a",
        ),
    ],
)
def test_what_the_real_one_refuses(client, members, message):
    with pytest.raises(anthropic.BadRequestError, match=message):
        ask(client, **members)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"temperature": 1.5}, "range"),
        ({"temperature": 0.5, "top_p": 0.5}, "cannot both be specified"),
        ({"temperature": 0.5, "model": "claude-opus-4-8"}, "deprecated for this model"),
        (
            {
                "temperature": 0.5,
                "max_tokens": 2000,
                "thinking": {"type": "enabled", "budget_tokens": 1024},
            },
            "only be set to 1",
        ),
    ],
)
def test_sampling_under_the_api_version_of_2023(client, members, message):
    older = {"extra_headers": {"anthropic-version": "2023-06-01"}}
    assert ask(client, extra_body={"temperature": 0.5}, **older).stop_reason == "end_turn"
    with pytest.raises(anthropic.BadRequestError, match=message):
        ask(client, extra_body=members, **older)


@pytest.mark.parametrize(
    ("model", "error", "kind"),
    [
        ("sim-400", anthropic.BadRequestError, "invalid_request_error"),
        ("sim-401", anthropic.AuthenticationError, "authentication_error"),
        ("sim-402", anthropic.APIStatusError, "billing_error"),
        ("sim-403", anthropic.PermissionDeniedError, "permission_error"),
        ("sim-404", anthropic.NotFoundError, "not_found_error"),
        ("sim-409", anthropic.ConflictError, "conflict_error"),
        ("sim-429-after-7", anthropic.RateLimitError, "rate_limit_error"),
        ("sim-quota", anthropic.BadRequestError, "invalid_request_error"),
        ("sim-500", anthropic.InternalServerError, "api_error"),
        ("sim-504", anthropic.InternalServerError, "timeout_error"),
        ("sim-529", anthropic.InternalServerError, "overloaded_error"),
        ("missing-model", anthropic.NotFoundError, "not_found_error"),
    ],
)
def test_refusals_by_the_models_name(talk, model, error, kind):
    with pytest.raises(error) as caught:
        talk(model=model)
    assert caught.value.body["error"]["type"] == kind
    if "429" in model:
        headers = caught.value.response.headers
        assert headers["retry-after"] == "7"
        assert headers["anthropic-ratelimit-requests-remaining"] == "0"


def test_the_edge_answers_a_too_large_request_with_a_page(client):
    with pytest.raises(anthropic.APIStatusError) as caught:
        ask(client, model="sim-413")
    assert caught.value.status_code == 413
    assert caught.value.response.headers["content-type"].startswith("text/html")


def test_an_error_inside_a_stream_and_a_cut_one(client):
    with pytest.raises(anthropic.APIStatusError, match="overloaded_error"):
        stream(client, model="sim-error-event-3")
    # The SDK hands on what its HTTP client says of a broken body.
    with pytest.raises(Exception, match="reset by peer"):
        stream(client, model="sim-cut-after-3")


def test_the_sdk_retries_an_overload_until_it_is_well(simulator):
    with contextlib.closing(client_of(simulator, max_retries=2)) as client:
        assert ask(client, model="sim-529-then-ok-sdk").content[0].text == "You said: Hello there"


def test_a_refusal_explains_itself(talk):
    message = talk(model="sim-refusal")
    assert (message.stop_reason, message.content) == ("refusal", [])
    assert "Usage Policy" in message.stop_details.explanation


def test_recordings_are_replayed(client):
    message, _ = stream(client, model="replay-api-tool-use", tools=[WEATHER])
    assert message.content[0].input == {"latitude": "52.5200", "longitude": "13.4050"}


def test_keys_versions_and_bearer_tokens(simulator):
    def refused_with(**options):
        headers = options.pop("headers", None)
        with (
            contextlib.closing(client_of(simulator, default_headers=headers, **options)) as client,
            pytest.raises(anthropic.APIStatusError) as caught,
        ):
            ask(client)
        return caught.value.status_code, caught.value.body["error"]["message"]

    assert refused_with(api_key="sk-ant-api03-bad") == (401, "invalid x-api-key")
    assert refused_with(api_key="sk-other") == (401, "invalid x-api-key")
    assert refused_with(api_key=None, auth_token="sk-ant-oat01-x") == (401, "invalid x-api-key")
    assert refused_with(headers={"anthropic-version": "1999-01-01"})[0] == 400
    omitted = {"anthropic-version": anthropic.omit}
    assert refused_with(headers=omitted) == (400, "anthropic-version: header is required")
    betas = {"anthropic-beta": "oauth-2025-04-20"}
    with contextlib.closing(
        client_of(simulator, api_key=None, auth_token="sk-ant-oat01-x", default_headers=betas)
    ) as client:
        assert ask(client).stop_reason == "end_turn"


def test_tokens_are_counted(client):
    messages = [{"role": "user", "content": "one two three"}]
    assert client.messages.count_tokens(model=MODEL, messages=messages).input_tokens == 7
    with pytest.raises(anthropic.NotFoundError, match="model: missing-x"):
        client.messages.count_tokens(model="missing-x", messages=messages)


def test_models_are_listed_in_pages(client):
    pages = client.models.list(limit=4)
    assert (len(pages.data), pages.has_more) == (4, True)
    names = [model.id for model in pages]
    assert len(names) == len(set(names)) == 9
    back = client.models.list(limit=2, before_id=names[3])
    assert [model.id for model in back.data] == names[1:3]
    assert client.models.retrieve("claude-haiku-4-5").max_tokens == 64_000
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("nonesuch")


def test_batches_are_answered_at_once(client):
    params = {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}]}
    batch = client.messages.batches.create(
        requests=[
            {"custom_id": "good", "params": params},
            {"custom_id": "wrong", "params": params | {"messages": []}},
        ]
    )
    assert (batch.processing_status, batch.request_counts.errored) == ("ended", 1)
    results = {each.custom_id: each.result for each in client.messages.batches.results(batch.id)}
    assert results["good"].message.content[0].text == "You said: Hi"
    assert results["wrong"].error.error.type == "invalid_request_error"
    assert batch.id in [each.id for each in client.messages.batches.list()]
    assert client.messages.batches.retrieve(batch.id).id == batch.id
    assert client.messages.batches.delete(batch.id).type == "message_batch_deleted"
    with pytest.raises(anthropic.NotFoundError):
        client.messages.batches.retrieve(batch.id)


def test_files_are_kept_and_given_back(client):
    content = bytes(range(256)) * 400
    older = {"anthropic-version": "2023-06-01"}
    with pytest.raises(anthropic.NotFoundError):
        client.beta.files.list(extra_headers=older)
    client.beta.files.list(extra_headers=older, betas=["files-api-2025-04-14"])
    made = client.beta.files.upload(file=("a.bin", content))
    assert (made.filename, made.size_bytes) == ("a.bin", len(content))
    assert client.beta.files.download(made.id).read() == content
    assert made.id in [each.id for each in client.beta.files.list()]
    assert client.beta.files.retrieve_metadata(made.id).id == made.id
    assert client.beta.files.delete(made.id).type == "file_deleted"
    with pytest.raises(anthropic.NotFoundError):
        client.beta.files.retrieve_metadata(made.id)


def test_images_are_taken_inline_and_by_address(talk):
    data = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
    inline = {"type": "base64", "media_type": "image/png", "data": data}
    remote = {"type": "url", "url": "https://example.com/a.png"}
    images = [{"type": "image", "source": source} for source in (inline, remote)]
    message = talk([*images, {"type": "text", "text": "What?"}])
    assert message.content[0].text == "You said: What?"
    with pytest.raises(anthropic.BadRequestError, match="media_type"):
        talk([{"type": "image", "source": inline | {"media_type": "image/bmp"}}])


def test_a_client_that_leaves_is_seen(simulator, client):
    key = f"sk-ant-api03-leaves-{time.monotonic_ns()}"
    with contextlib.closing(client_of(simulator, api_key=key)) as leaving:
        told = leaving.messages.create(
            model="sim-long-500+drip-20",
            max_tokens=1000,
            messages=[{"role": "user", "content": "x"}],
            stream=True,
        )
        next(iter(told))
        told.close()
    simulator.wait_for(lambda stats: stats["by_key"][key].get("client_gone") == 1)
