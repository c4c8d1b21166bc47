"""The official OpenAI client's Responses through the gateway, against each kind of upstream.

OpenAI's own is passed on byte for byte; Claude, Gemini and a compatible host are translated.
"""

import anthropic
import httpx
import openai
import pydantic
import pytest

from app.wire.signature_mark import START
from tests import responses_types
from tests.server.conftest import CLAUDE_KEYS, GEMINI_KEYS, config_for
from tests.server.running import Running

MODELS = ("gpt-5", "claude/claude-sonnet-4-5", "gemini/gemini-2.5-flash", "host/some-model")
TRANSLATED = MODELS[1:]
NATIVE = "native/some-model"  # a host that speaks Responses itself
ONLY = "only/some-model"  # one that speaks nothing else
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a city.",
    "strict": False,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}


def config_of(simulator) -> dict:
    """Every kind of upstream."""
    return config_for(simulator.url) | {
        "workers": 2,
        "claude": {
            "api_url": f"{simulator.url}/claude",
            "api_keys": [{"id": i, "val": v} for i, v in CLAUDE_KEYS.items()],
        },
        "google_gemini": {
            "api_url": f"{simulator.url}/gemini",
            "api_keys": [{"id": "g1", "val": GEMINI_KEYS["g1"]}],
        },
        "upstreams": [
            {
                "name": "host",
                "api_url": f"{simulator.url}/openai/v1",
                "api_keys": [{"id": "h1", "val": "sk-host-1"}],
            },
            {
                "name": "native",
                "api_url": f"{simulator.url}/openai/v1",
                "api_keys": [{"id": "n1", "val": "sk-native-1"}],
                "responses": "native",
            },
            {
                "name": "only",
                "api_url": f"{simulator.url}/openai/v1",
                "api_keys": [{"id": "o1", "val": "sk-only-1"}],
                "like": "responses",
            },
        ],
    }


@pytest.fixture(scope="module")
def running(simulator, tmp_path_factory):
    running = Running(tmp_path_factory.mktemp("responses"), config_of(simulator))
    yield running.wait()
    assert running.stop() == 0


@pytest.fixture(scope="module")
def client(running):
    with openai.OpenAI(base_url=f"{running.url}/c/v1", api_key="pool", max_retries=0) as made:
        yield made


@pytest.mark.parametrize("model", MODELS)
def test_a_question_gets_its_answer(client, model):
    answer = client.responses.create(model=model, input="the answer is 42", instructions="Hm.")
    assert "the answer is 42" in answer.output_text
    assert (answer.status, answer.error) == ("completed", None)
    assert answer.usage is not None and answer.usage.total_tokens > 0


@pytest.mark.parametrize("model", MODELS)
def test_a_stream_says_the_same(client, model):
    with client.responses.stream(model=model, input="blue moon") as stream:
        kinds = [event.type for event in stream]
        answer = stream.get_final_response()
    assert "blue moon" in answer.output_text
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed"


@pytest.mark.parametrize("model", TRANSLATED)
def test_the_bytes_of_a_stream_keep_the_rules(running, client, model):
    with client.responses.with_streaming_response.create(
        model=model, input="blue moon", stream=True
    ) as answer:
        responses_types.events_of(answer.read())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_a_tool_is_called_and_its_result_is_told(client, model, stream):
    question = {"role": "user", "content": "What is the weather in Berlin?"}
    options = {"model": model, "tools": [WEATHER], "tool_choice": "required", "store": False}
    first = _answer(client, stream, input=[question], **options)
    [call] = [item for item in first.output if item.type == "function_call"]
    assert call.name == "get_weather"
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    history = [question, *(item.to_dict() for item in first.output), result]
    second = _answer(client, stream, input=history, **(options | {"tool_choice": "auto"}))
    assert "sunny" in second.output_text


def _answer(client, stream, **asked):
    if not stream:
        return client.responses.create(**asked)
    with client.responses.stream(**asked) as events:
        return events.get_final_response()


class Person(pydantic.BaseModel):
    name: str
    age: int


@pytest.mark.parametrize("model", MODELS)
def test_a_structured_answer_is_parsed(client, model):
    answer = client.responses.parse(model=model, input="Ada, 36", text_format=Person)
    assert isinstance(answer.output_parsed, Person)


@pytest.mark.parametrize("model", TRANSLATED)
def test_a_conversation_goes_on_by_the_id_of_its_last_answer(client, model):
    first = client.responses.create(model=model, input="I am Ada.", tools=[WEATHER])
    for _ in range(4):  # whichever worker is asked
        second = client.responses.create(
            model=model, input="And you?", previous_response_id=first.id
        )
        assert second.previous_response_id == first.id and second.output_text
    listed = client.responses.input_items.list(second.id)
    [item] = listed.data
    assert item.content[0].text == "And you?"
    kept = client.responses.retrieve(first.id)
    assert kept.output_text == first.output_text and kept.id == first.id
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model=model, input="Hm?", previous_response_id=first.id)
    assert caught.value.code == "previous_response_not_found"
    assert caught.value.param == "previous_response_id"


@pytest.mark.parametrize("model", TRANSLATED)
def test_only_the_results_of_tools_are_sent_to_go_on(client, model):
    options = {"model": model, "tools": [WEATHER]}
    first = client.responses.create(
        input="What is the weather in Berlin?", tool_choice="required", **options
    )
    [call] = [item for item in first.output if item.type == "function_call"]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    second = client.responses.create(input=[result], previous_response_id=first.id, **options)
    assert "sunny" in second.output_text


@pytest.mark.parametrize("model", TRANSLATED)
def test_items_are_referred_to_by_their_ids(client, model):
    first = client.responses.create(model=model, input="I am Ada.")
    reference = {"type": "item_reference", "id": first.output[-1].id}
    items = [{"role": "user", "content": "I am Ada."}, reference, {"role": "user", "content": "X"}]
    assert client.responses.create(model=model, input=items).output_text
    with pytest.raises(openai.BadRequestError, match="not found"):
        client.responses.create(
            model=model, input=[reference | {"id": "msg_gw" + "0" * 35}, items[0]]
        )


def test_an_answer_of_openais_own_is_asked_for_where_it_lives(client):
    answer = client.responses.create(model="gpt-5", input="Hi")
    assert not answer.id.startswith("resp_gw")


def test_a_host_that_speaks_responses_is_asked_in_them(client, simulator):
    answer = client.responses.create(model=NATIVE, input="blue moon")
    assert "blue moon" in answer.output_text and not answer.id.startswith("resp_gw")
    [asked] = simulator.last(1, key="sk-native-1")
    assert asked["path"] == "/openai/v1/responses" and asked["model"] == "some-model"


@pytest.mark.parametrize("model", TRANSLATED)
def test_what_is_not_to_be_kept_is_not_kept(client, model):
    answer = client.responses.create(model=model, input="Hi", store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(answer.id)


@pytest.mark.parametrize("model", TRANSLATED)
def test_tokens_are_counted(client, model):
    counted = client.responses.input_tokens.count(model=model, input="How many are these?")
    assert counted.input_tokens > 0


def test_openai_counts_its_own_tokens_and_compacts_its_own_answers(client):
    # The simulated API has neither path; the refusal is its own.
    with pytest.raises(openai.NotFoundError, match="/openai/v1/responses/input_tokens"):
        client.responses.input_tokens.count(model="gpt-5", input="Hi")
    with pytest.raises(openai.NotFoundError, match="/openai/v1/responses/compact"):
        client.responses.compact(model="gpt-5", input="Hi")


@pytest.mark.parametrize("model", TRANSLATED)
def test_a_conversation_is_compacted_and_goes_on(client, model):
    talk = [
        {"role": "user", "content": "I am Ada."},
        {"role": "assistant", "content": "Hello Ada."},
    ]
    compacted = client.responses.compact(model=model, input=talk)
    assert compacted.object == "response.compaction"
    *_, last = compacted.output
    assert last.type == "compaction"
    assert [item.type for item in compacted.output] == ["message", "compaction"]
    items = [last.to_dict(), {"role": "user", "content": "Hm?"}]
    assert client.responses.create(model=model, input=items).output_text
    with client.responses.stream(
        model=model, input=[*talk, {"type": "compaction_trigger"}]
    ) as stream:
        [item] = stream.get_final_response().output
    assert item.type == "compaction"


@pytest.mark.parametrize("model", TRANSLATED)
def test_what_lives_at_openai_is_refused_by_name(client, model):
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model=model, input="Hi", background=True)
    assert (caught.value.param, caught.value.code) == ("background", "unsupported_parameter")
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model=model, input="Hi", tools=[{"type": "code_interpreter"}])
    assert caught.value.param == "tools[0]"


def test_a_websocket_is_refused_so_that_codex_goes_on_over_http(running):
    headers = {"connection": "Upgrade", "upgrade": "websocket"}
    refused = httpx.get(f"{running.url}/c/v1/responses", headers=headers)
    assert refused.status_code == 426
    assert refused.json()["error"]["code"] == "upgrade_required"
    elsewhere = httpx.get(f"{running.url}/c/v1/conversations/conv_1")
    assert elsewhere.status_code == 404 and "/v1/conversations/conv_1" in elsewhere.text


@pytest.mark.parametrize("stream", [False, True])
def test_a_host_of_responses_alone_answers_callers_of_chat(client, simulator, stream):
    function = {name: WEATHER[name] for name in ("name", "description", "parameters")}
    options = {"model": ONLY, "tools": [{"type": "function", "function": function}]}
    question = {"role": "user", "content": "What is the weather in Berlin?"}
    first = _message(client, stream, messages=[question], tool_choice="required", **options)
    [call] = first.tool_calls
    assert call.function.name == "get_weather"
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    history = [question, first.to_dict(), result]
    assert "sunny" in _message(client, stream, messages=history, **options).content
    for asked in simulator.last(2, key="sk-only-1"):
        assert asked["path"] == "/openai/v1/responses" and asked["model"] == "some-model"


def _message(client, stream, **asked):
    if not stream:
        return client.chat.completions.create(**asked).choices[0].message
    with client.chat.completions.stream(**asked) as events:
        return events.get_final_completion().choices[0].message


def test_a_host_of_responses_alone_answers_callers_of_messages_and_gemini(running, simulator):
    asked = [{"role": "user", "content": "blue moon"}]
    claude = anthropic.Anthropic(base_url=f"{running.url}/c", api_key="pool", max_retries=0)
    answer = claude.messages.create(model=ONLY, max_tokens=99, messages=asked)
    assert "blue moon" in answer.content[0].text and answer.stop_reason == "end_turn"
    body = {"contents": [{"parts": [{"text": "blue moon"}]}]}
    path = f"/c/v1beta/models/{ONLY}:generateContent"
    told = httpx.post(running.url + path, json=body, headers={"x-goog-api-key": "pool"}).json()
    assert "blue moon" in told["candidates"][0]["content"]["parts"][0]["text"]
    assert {each["path"] for each in simulator.last(2, key="sk-only-1")} == {"/openai/v1/responses"}


def test_a_host_of_responses_alone_keeps_the_bytes_of_its_own_callers(client):
    assert not client.responses.create(model=ONLY, input="Hi").id.startswith("resp_gw")


def test_a_conversation_moves_from_house_to_house(client, simulator):
    """With its whole history: thoughts, calls and results of each house are there for the next."""
    history: list = []
    houses = (TRANSLATED[0], MODELS[0], TRANSLATED[1], ONLY, TRANSLATED[2], TRANSLATED[0])
    for number, model in enumerate(houses):
        history.append({"role": "user", "content": 'call get_weather with {"city": "Rome"}'})
        options = {"model": model, "tools": [WEATHER], "store": False}
        options |= {"reasoning": {"effort": "high"}} if "claude" in model else {}
        for stream in (number % 2 == 0, number % 2 == 1):
            answer = _answer(client, stream, input=history, **options)
            history += [item.to_dict() for item in answer.output]
            history += [
                {"type": "function_call_output", "call_id": item.call_id, "output": "sunny"}
                for item in answer.output
                if item.type == "function_call"
            ]
        assert "sunny" in answer.output_text, model
    kinds = [item.get("type", "message") for item in history]
    assert kinds.count("function_call") == len(houses) and "reasoning" in kinds
    [*_, asked] = simulator.last(40, path="/openai/v1/responses", model=MODELS[0])
    assert "_gw" not in asked["body_text"] and START not in asked["body_text"]
