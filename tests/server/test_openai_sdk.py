"""The official OpenAI client through the gateway: what a user's program does on its first day."""

import base64
import io
import json

import openai
import pytest

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
]


def ask(text):
    return [{"role": "user", "content": text}]


@pytest.fixture(scope="module")
def client(gateway):
    with openai.OpenAI(base_url=f"{gateway.url}/c/v1", api_key="pool", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def own(gateway):
    """With a key of the caller's own: failures are told as they are, and rest nobody's key."""
    with openai.OpenAI(
        base_url=f"{gateway.url}/c/v1", api_key="sk-own-1234", max_retries=0
    ) as made:
        yield made


@pytest.fixture(scope="module")
def raw(gateway):
    """The /v1 door: everything the API has beside chat."""
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="pool", max_retries=0) as made:
        yield made


def test_a_chat_gets_its_answer(client):
    answer = client.chat.completions.create(model="gpt-4o", messages=ask("the answer is 42"))
    assert "the answer is 42" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens > 0


def test_a_streamed_chat_says_the_same(client):
    stream = client.chat.completions.create(model="gpt-4o", messages=ask("blue moon"), stream=True)
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert "blue moon" in text
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"


def test_usage_comes_when_it_is_asked_for(client):
    chunks = list(
        client.chat.completions.create(
            model="gpt-4o",
            messages=ask("hi"),
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens > 0


def test_several_choices_stay_apart(client):
    answer = client.chat.completions.create(model="gpt-4o", messages=ask("hi"), n=3)
    assert [c.index for c in answer.choices] == [0, 1, 2]
    stream = client.chat.completions.create(model="gpt-4o", messages=ask("hi"), n=3, stream=True)
    assert {c.choices[0].index for c in stream if c.choices} == {0, 1, 2}


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called_and_its_result_is_used(client, stream):
    def call(messages):
        answer = client.chat.completions.create(
            model="gpt-4o", messages=messages, tools=TOOLS, stream=stream
        )
        if not stream:
            message = answer.choices[0].message
            return message.content, [
                (t.id, t.function.name, t.function.arguments) for t in message.tool_calls or []
            ]
        text, calls = "", {}
        for chunk in answer:
            delta = chunk.choices[0].delta
            text += delta.content or ""
            for piece in delta.tool_calls or []:
                held = calls.setdefault(piece.index, [piece.id, piece.function.name, ""])
                held[2] += piece.function.arguments or ""
        return text, [tuple(c) for c in calls.values()]

    messages = ask('call get_weather with {"city": "Paris"}')
    _, calls = call(messages)
    _, name, arguments = calls[0]
    assert (name, json.loads(arguments)) == ("get_weather", {"city": "Paris"})
    messages += [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": i, "type": "function", "function": {"name": n, "arguments": a}}
                for i, n, a in calls
            ],
        },
        *({"role": "tool", "tool_call_id": i, "content": "22 degrees"} for i, _, _ in calls),
    ]
    text, _ = call(messages)
    assert text


def test_the_key_the_call_and_the_limits_are_told_in_headers(client):
    answer = client.chat.completions.with_raw_response.create(
        model="gpt-4o", messages=ask("hi"), extra_headers={"x-request-id": "mine-1"}
    )
    headers = answer.headers
    assert headers["x-auth-id"] in ("k1", "k2")
    assert headers["x-request-id"] == "mine-1"
    assert headers["x-ratelimit-limit-requests"]
    assert headers["x-upstream-request-id"].startswith("req_")
    for private in ("set-cookie", "openai-organization", "openai-project"):
        assert private not in headers


def test_the_gateways_own_members_choose_and_do_not_travel(client):
    answer = client.chat.completions.with_raw_response.create(
        model="gpt-4o",
        messages=ask("hi"),
        extra_body={"provider": "openai", "openai": {"index": "k2"}, "claude": {"type": "api"}},
    )
    assert answer.headers["x-auth-id"] == "k2"


def test_a_models_prefix_chooses_the_provider(client):
    answer = client.chat.completions.create(model="openai/gpt-4o", messages=ask("hi"))
    assert answer.model.startswith("gpt-4o")


def test_models_can_be_listed_and_looked_up(client):
    listed = client.models.list().data
    assert listed and listed[0].object == "model"
    assert client.models.retrieve(listed[0].id).id == listed[0].id
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")


def test_embeddings_come_as_the_client_asks(raw):
    vector = raw.embeddings.create(model="text-embedding-3-small", input="hello").data[0].embedding
    assert isinstance(vector[0], float)
    text = raw.embeddings.create(
        model="text-embedding-3-small", input="hello", encoding_format="base64"
    )
    assert base64.b64decode(text.data[0].embedding)


def test_a_file_goes_up_whole_and_comes_back(raw):
    content = bytes(range(256)) * 20_000
    made = raw.files.create(file=("data.bin", io.BytesIO(content)), purpose="user_data")
    assert made.bytes == len(content)
    assert raw.files.content(made.id).read() == content
    assert raw.files.delete(made.id).deleted


def test_the_raw_door_streams_chat_as_well(raw):
    stream = raw.chat.completions.create(model="gpt-4o", messages=ask("red fox"), stream=True)
    assert "red fox" in "".join(c.choices[0].delta.content or "" for c in stream if c.choices)


@pytest.mark.parametrize(
    ("model", "error", "status"),
    [
        ("missing-model", openai.NotFoundError, 404),
        ("sim-400", openai.BadRequestError, 400),
        ("sim-403", openai.PermissionDeniedError, 403),
        ("sim-401", openai.AuthenticationError, 401),
        ("sim-429-after-7", openai.RateLimitError, 429),
        ("sim-500", openai.InternalServerError, 500),
        ("sim-503", openai.InternalServerError, 503),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_every_failure_is_the_clients_own_error_class(own, model, error, status, stream):
    with pytest.raises(error) as caught:
        own.chat.completions.create(model=model, messages=ask("hi"), stream=stream)
    assert caught.value.status_code == status
    assert caught.value.request_id
    assert caught.value.body["message"]


def test_retry_after_reaches_the_caller(own):
    with pytest.raises(openai.RateLimitError) as caught:
        own.chat.completions.create(model="sim-429-after-7", messages=ask("hi"))
    assert caught.value.response.headers["retry-after"] == "7"


def test_a_wrong_type_is_a_400_that_names_the_place(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="m", messages=[], extra_body={"stream": "yes"})
    assert caught.value.param == "stream"


def test_the_callers_own_key_is_used(gateway, simulator):
    own = openai.OpenAI(base_url=f"{gateway.url}/c/v1", api_key="sk-bad-own", max_retries=0)
    with pytest.raises(openai.AuthenticationError) as caught:
        own.chat.completions.create(model="gpt-4o", messages=ask("hi"))
    assert caught.value.code == "invalid_api_key"


def test_an_unknown_id_is_an_error_and_no_other_key(client):
    with pytest.raises(openai.AuthenticationError) as caught:
        client.chat.completions.create(
            model="m", messages=ask("hi"), extra_headers={"x-auth-id": "k9"}
        )
    assert "'k9'" in caught.value.message


@pytest.mark.parametrize("model", ["sim-cut-after-3", "sim-close-after-3", "sim-end-after-3"])
def test_a_stream_that_breaks_is_an_error_not_an_end(own, model):
    seen = []
    with pytest.raises(openai.APIError) as caught:
        for chunk in own.chat.completions.create(model=model, messages=ask("hi"), stream=True):
            seen.append(chunk)
    assert seen and caught.value.code == "upstream_cut"


def test_an_error_inside_the_stream_reaches_the_caller(own):
    with pytest.raises(openai.APIError):
        list(own.chat.completions.create(model="sim-error-event", messages=ask("x"), stream=True))


@pytest.mark.parametrize("model", ["sim-html", "sim-bad-json"])
def test_what_is_no_answer_is_a_502(own, model):
    with pytest.raises(openai.InternalServerError) as caught:
        own.chat.completions.create(model=model, messages=ask("hi"))
    assert caught.value.status_code == 502 and caught.value.code == "upstream_bad_response"


@pytest.mark.parametrize("model", ["sim-split-bytes", "sim-crlf", "sim-comments", "sim-drip-5"])
def test_odd_framings_are_read(client, model):
    stream = client.chat.completions.create(model=model, messages=ask("odd"), stream=True)
    assert "odd" in "".join(c.choices[0].delta.content or "" for c in stream if c.choices)


def test_each_call_has_one_line_in_the_log(gateway, client):
    client.chat.completions.create(
        model="gpt-4o", messages=ask("secret words"), extra_headers={"x-request-id": "log-1"}
    )
    (line,) = gateway.wait_log(request_id="log-1")
    assert line["outcome"] == "complete" and line["status"] == 200
    assert line["provider"] == "openai-api" and line["key_id"] in ("k1", "k2")
    assert line["prompt_tokens"] > 0 and line["total_ms"] > 0
    assert "secret words" not in gateway.out.read_text() + gateway.err.read_text()
