"""The official SDKs against the simulator itself: it must be a true stand-in for the OpenAI API."""

import base64
import hashlib
import json
import struct

import openai
import pytest
from pydantic import BaseModel

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                "required": ["city", "days"],
            },
        },
    }
    for name in ("get_weather", "get_news")
]
CALL_BOTH = 'call get_weather with {"city": "Paris", "days": 7} and get_news'
ONLY_NEWS = {"type": "function", "function": {"name": "get_news"}}


def allowed(mode, name):
    tool = {"type": "function", "function": {"name": name}}
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [tool]}}


def ask(text):
    return [{"role": "user", "content": text}]


@pytest.fixture(scope="module")
def client(simulator):
    made = openai.OpenAI(base_url=simulator.openai_url, api_key="sk-sdk-test", max_retries=0)
    with made:
        yield made


def test_a_chat_answers_its_own_question(client):
    answer = client.chat.completions.create(model="gpt-4o", messages=ask("blue moon"))
    assert answer.choices[0].message.content == "You said: blue moon"
    assert answer.model == "gpt-4o-2024-08-06"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_stream_says_what_the_whole_answer_says(client):
    options = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(
            model="gpt-4o", messages=ask("blue moon"), stream=True, stream_options=options
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == "You said: blue moon"
    assert [c.choices[0].finish_reason for c in chunks[:-1]] == [None] * 5 + ["stop"]
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 4
    assert len({c.id for c in chunks}) == 1


def test_the_sdks_own_stream_assembler_accepts_parallel_tool_calls(client):
    with client.chat.completions.stream(
        model="gpt-4o", messages=ask(CALL_BOTH), tools=TOOLS
    ) as stream:
        final = stream.get_final_completion()
    calls = final.choices[0].message.tool_calls
    assert [call.function.name for call in calls] == ["get_weather", "get_news"]
    assert [json.loads(call.function.arguments) for call in calls] == [
        {"city": "Paris", "days": 7},
        {"city": "example", "days": 7},
    ]
    assert final.choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("prompt", "more", "names"),
    [
        (CALL_BOTH, {}, ["get_weather", "get_news"]),
        (CALL_BOTH, {"parallel_tool_calls": False}, ["get_weather"]),
        (CALL_BOTH, {"tool_choice": "none"}, []),
        ("Tell me the weather", {}, []),
        ("Tell me the weather", {"tool_choice": "required"}, ["get_weather"]),
        ("Tell me the weather", {"tool_choice": ONLY_NEWS}, ["get_news"]),
        ("Tell me the weather", {"tool_choice": allowed("auto", "get_news")}, []),
        ("Tell me the weather", {"tool_choice": allowed("required", "get_news")}, ["get_news"]),
        ("call get_news", {"tool_choice": allowed("auto", "get_news")}, ["get_news"]),
    ],
)
def test_a_tool_is_called_only_when_it_is_forced_or_named(client, prompt, more, names):
    answer = client.chat.completions.create(
        model="gpt-4o", messages=ask(prompt), tools=TOOLS, **more
    )
    calls = answer.choices[0].message.tool_calls or []
    assert [call.function.name for call in calls] == names


def test_a_tools_result_is_answered_in_words(client):
    messages = ask(CALL_BOTH)
    called = client.chat.completions.create(model="gpt-4o", messages=messages, tools=TOOLS)
    messages.append(called.choices[0].message)
    for call in called.choices[0].message.tool_calls:
        messages.append({"role": "tool", "tool_call_id": call.id, "content": "22 degrees"})
    answer = client.chat.completions.create(model="gpt-4o", messages=messages, tools=TOOLS)
    assert answer.choices[0].message.content == "The tool said: 22 degrees"


def test_a_json_schema_is_kept_to(client):
    class Forecast(BaseModel):
        city: str
        degrees: float
        words: list[str]

    answer = client.chat.completions.parse(
        model="gpt-4o", messages=ask("Oslo"), response_format=Forecast
    )
    assert answer.choices[0].message.parsed == Forecast(city="Oslo", degrees=7, words=["Oslo"])


def test_several_choices_take_turns(client):
    stream = client.chat.completions.create(
        model="gpt-4o", messages=ask("hi"), n=2, stream=True, logprobs=True, top_logprobs=2
    )
    chunks = list(stream)
    assert [c.choices[0].index for c in chunks][:4] == [0, 1, 0, 1]
    spoken = [c.choices[0].logprobs for c in chunks if c.choices[0].delta.content]
    assert all(len(each.content[0].top_logprobs) == 2 for each in spoken)


def test_limits_and_stops_end_the_answer(client):
    def answer(**more):
        made = client.chat.completions.create(model="gpt-4o", messages=ask("one two three"), **more)
        return made.choices[0].message.content, made.choices[0].finish_reason

    assert answer(max_tokens=2) == ("You said:", "length")
    assert answer(max_completion_tokens=3) == ("You said: one", "length")
    assert answer(stop=" two") == ("You said: one", "stop")


def test_embeddings_are_the_same_in_both_encodings(client):
    def create(**more):
        return client.embeddings.create(model="text-embedding-3-small", input="hello", **more)

    floats = create(dimensions=8).data[0].embedding
    text = create(dimensions=8, encoding_format="base64").data[0].embedding
    assert floats == list(struct.unpack("<8f", base64.b64decode(text)))
    assert sum(x * x for x in floats) == pytest.approx(1, abs=1e-5)
    assert len(create().data[0].embedding) == 1536


def test_models_are_listed_and_found(client):
    names = [model.id for model in client.models.list()]
    assert client.models.retrieve(names[0]).id == names[0]
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("missing-model")


def test_files_go_up_and_come_back_whole_and_in_parts(client):
    content = bytes(range(256)) * 1000
    made = client.files.create(file=("data.bin", content), purpose="user_data")
    assert (made.bytes, made.filename, made.purpose) == (256_000, "data.bin", "user_data")
    assert made.sha256 == hashlib.sha256(content).hexdigest()
    assert client.files.content(made.id).read() == content
    part = client.files.with_raw_response.content(made.id, extra_headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, content[10:20])
    assert made.id in [file.id for file in client.files.list()]
    assert client.files.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(made.id)


def test_responses_are_streamed_as_named_events(client):
    events = list(client.responses.create(model="gpt-4o", input="blue moon", stream=True))
    assert [event.type for event in events][:1] == ["response.created"]
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == "You said: blue moon"
    whole = client.responses.create(
        model="gpt-4o", input=[{"role": "user", "content": "blue moon"}]
    )
    assert whole.output_text == "You said: blue moon"


def test_speech_is_bytes_and_transcription_takes_a_file(client):
    spoken = client.audio.speech.create(model="gpt-4o-mini-tts", voice="alloy", input="a b").read()
    assert len(spoken) == 32 * 1024
    heard = client.audio.transcriptions.create(model="whisper-1", file=("a.mp3", spoken))
    assert hashlib.sha256(spoken).hexdigest() in heard.text


@pytest.mark.parametrize(
    ("model", "error", "code"),
    [
        ("missing-model", openai.NotFoundError, "model_not_found"),
        ("sim-400", openai.BadRequestError, "invalid_value"),
        ("sim-401", openai.AuthenticationError, "invalid_api_key"),
        ("sim-403", openai.PermissionDeniedError, "unsupported_country_region_territory"),
        ("sim-429-after-7", openai.RateLimitError, "rate_limit_exceeded"),
        ("sim-quota", openai.RateLimitError, "insufficient_quota"),
        ("sim-500", openai.InternalServerError, None),
        ("sim-503", openai.InternalServerError, "server_is_overloaded"),
    ],
)
def test_refusals_are_the_sdks_own_error_classes(client, model, error, code):
    with pytest.raises(error) as caught:
        client.chat.completions.create(model=model, messages=ask("hi"))
    assert caught.value.code == code
    assert caught.value.request_id.startswith("req_")


def test_the_sdks_own_retry_gets_over_a_passing_limit(simulator):
    patient = openai.OpenAI(base_url=simulator.openai_url, api_key="sk-patient", max_retries=2)
    with patient:
        answer = patient.chat.completions.create(
            model="sim-429-after-0-then-ok-patient", messages=ask("hi")
        )
    assert answer.choices[0].message.content == "You said: hi"
    assert [seen["status"] for seen in simulator.last(key="sk-patient")] == [429, 200]


def test_the_last_1x_of_the_python_sdk_chats_streams_and_embeds(simulator, openai_1x):
    said = openai_1x.run(
        """
import json, os, openai
client = openai.OpenAI(base_url=os.environ["BASE"], api_key="sk-one-x", max_retries=0)
ask = [{"role": "user", "content": "blue moon"}]
whole = client.chat.completions.create(model="gpt-4o", messages=ask)
stream = client.chat.completions.create(model="gpt-4o", messages=ask, stream=True)
try:
    client.chat.completions.create(model="sim-429", messages=ask)
except openai.RateLimitError as error:
    refused = error.code
print(json.dumps({
    "version": openai.__version__,
    "whole": whole.choices[0].message.content,
    "streamed": "".join(chunk.choices[0].delta.content or "" for chunk in stream),
    "dimensions": len(client.embeddings.create(model="m", input="x").data[0].embedding),
    "refused": refused,
}))
""",
        BASE=simulator.openai_url,
    )
    assert said == {
        "version": "1.109.1",
        "whole": "You said: blue moon",
        "streamed": "You said: blue moon",
        "dimensions": 1536,
        "refused": "rate_limit_exceeded",
    }


def test_the_npm_package_chats_streams_and_embeds(simulator, node):
    said = node.run(
        """
const { OpenAI, RateLimitError } = require("openai");
const client = new OpenAI({ baseURL: process.env.BASE, apiKey: "sk-npm", maxRetries: 0 });
const messages = [{ role: "user", content: "blue moon" }];
(async () => {
  const whole = await client.chat.completions.create({ model: "gpt-4o", messages });
  const stream = await client.chat.completions.create({ model: "gpt-4o", messages, stream: true });
  let streamed = "";
  for await (const chunk of stream) streamed += chunk.choices[0]?.delta?.content ?? "";
  const embedded = await client.embeddings.create({ model: "m", input: "x" });
  const refused = await client.chat.completions
    .create({ model: "sim-429", messages })
    .catch((error) => error instanceof RateLimitError && error.code);
  console.log(JSON.stringify({
    whole: whole.choices[0].message.content,
    streamed,
    dimensions: embedded.data[0].embedding.length,
    refused,
  }));
})();
""",
        BASE=simulator.openai_url,
    )
    assert said == {
        "whole": "You said: blue moon",
        "streamed": "You said: blue moon",
        "dimensions": 1536,
        "refused": "rate_limit_exceeded",
    }
