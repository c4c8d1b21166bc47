"""Models that speak Responses alone, asked by callers of every front.

The upstream's answers are recorded ones of OpenAI's.
"""

import json
from typing import Any

import pytest

from app.wire.errors import GatewayError
from app.wire.front import Incoming
from tests.calls import FRONTS
from tests.engine.fakes import FakeResponse
from tests.engine.test_chat_call import EVENT, Bench, run
from tests.fronts import gemini_calls
from tests.recorded import recorded

RECORDED = recorded("responses")
THINKS = (RECORDED / "encrypted-tool-1-stream.sse").read_bytes()
SAYS = (RECORDED / "encrypted-tool-2-stream.sse").read_bytes()
ORPHAN = (RECORDED / "error-400-orphan-reasoning.json").read_bytes()
ENCRYPTED = {"error": {"code": "invalid_encrypted_content", "message": "Could not be verified."}}
NO_CHAT = {
    "error": {
        "message": "This model is only supported in v1/responses and not in v1/chat/completions.",
        "type": "invalid_request_error",
        "param": "model",
        "code": None,
    }
}
MESSAGES = FRONTS["anthropic"]
MODEL = "gpt-9-pro"
QUESTION = "How warm is it in Berlin?"
SCHEMA = {"type": "object", "properties": {"latitude": {"type": "string"}}}


def object_in(stream: bytes) -> bytes:
    """The whole answer, with its items as the events have told them."""
    said = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith(b"data: ")]
    items = [event["item"] for event in said if event["type"] == "response.output_item.done"]
    return json.dumps(said[-1]["response"] | {"output": items}).encode()


def ok(body: bytes) -> FakeResponse:
    kind = "application/json" if body[:1] == b"{" else "text/event-stream"
    return FakeResponse(headers=[("content-type", kind)], pieces=[body])


def refused(status: int, body: Any) -> FakeResponse:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return FakeResponse(status, [("content-type", "application/json")], [raw])


class Upstream:
    """A bench whose upstream gives these answers one after the other."""

    def __init__(self, *answers: FakeResponse, models: tuple[str, ...] = ("*-pro",)) -> None:
        left = list(answers)
        self.bench = Bench(lambda request: left.pop(0), responses_models=list(models))
        self.left = left

    def ask(self, **members: Any) -> Any:
        """The answer to one call, decoded where it is an object."""
        self.bench.log.records.clear()
        run(self.bench.ask(**members))
        whole = self.bench.sink.whole
        return json.loads(whole) if whole is not None else self.bench.sink.body

    def sent(self, number: int = -1) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.bench.clients.requests[number].body)
        return body


def chat(history: list[Any]) -> dict[str, Any]:
    function = {"name": "weather", "parameters": SCHEMA}
    tools = [{"type": "function", "function": function}]
    return {"model": MODEL, "messages": history, "tools": tools}


def messages(history: list[Any]) -> dict[str, Any]:
    tools = [{"name": "weather", "input_schema": SCHEMA}]
    return {
        "front": MESSAGES,
        "model": f"openai/{MODEL}",
        "messages": history,
        "tools": tools,
        "max_tokens": 999,
    }


def gemini(history: list[Any]) -> dict[str, Any]:
    declared = [{"name": "weather", "parameters": SCHEMA}]
    body = {"contents": history, "tools": [{"functionDeclarations": declared}]}
    path = f"/c/v1beta/models/openai/{MODEL}:generateContent"
    return {"front": gemini_calls.ARRAY, "asked": gemini_calls.asked_of(body, path)}


def of_chat(answer: Any) -> list[Any]:
    message = answer["choices"][0]["message"]
    [call] = message["tool_calls"]
    assert call["function"]["name"] == "weather"
    return [message, {"role": "tool", "tool_call_id": call["id"], "content": "15"}]


def of_messages(answer: Any) -> list[Any]:
    [call] = [block for block in answer["content"] if block["type"] == "tool_use"]
    result = {"type": "tool_result", "tool_use_id": call["id"], "content": "15"}
    return [
        {"role": "assistant", "content": answer["content"]},
        {"role": "user", "content": [result]},
    ]


def of_gemini(answer: Any) -> list[Any]:
    content = answer["candidates"][0]["content"]
    response = {"name": "weather", "response": {"result": "15"}}
    return [content, {"role": "user", "parts": [{"functionResponse": response}]}]


CALLERS = {
    "chat": (chat, of_chat, {"role": "user", "content": QUESTION}),
    "messages": (messages, of_messages, {"role": "user", "content": QUESTION}),
    "gemini": (gemini, of_gemini, {"role": "user", "parts": [{"text": QUESTION}]}),
}


@pytest.mark.parametrize("caller", CALLERS)
def test_a_thought_comes_back_before_its_call(caller):
    asked, turn, question = CALLERS[caller]
    upstream = Upstream(ok(object_in(THINKS)), ok(object_in(SAYS)))
    first = upstream.ask(**asked([question]))
    assert upstream.bench.clients.requests[0].url == "http://up/prefix/v1/responses"
    sent = upstream.sent()
    assert (sent["model"], sent["store"]) == (MODEL, False)
    assert sent["include"] == ["reasoning.encrypted_content"]
    assert [tool["strict"] for tool in sent["tools"]] == [False]

    upstream.ask(**asked([question, *turn(first)]))
    [user, thought, call, result] = upstream.sent()["input"]
    [told, called] = json.loads(object_in(THINKS))["output"]
    assert user["role"] == "user" and QUESTION in json.dumps(user)
    assert thought == {
        "type": "reasoning",
        "id": told["id"],
        "summary": [],
        "encrypted_content": told["encrypted_content"],
    }
    assert (call["type"], call["name"]) == ("function_call", "weather")
    assert json.loads(call["arguments"]) == json.loads(called["arguments"])
    assert (result["type"], result["call_id"]) == ("function_call_output", call["call_id"])
    assert "15" in json.dumps(result["output"])


@pytest.mark.parametrize("caller", CALLERS)
def test_a_thought_that_nothing_follows_stays_here(caller):
    asked, turn, question = CALLERS[caller]
    upstream = Upstream(ok(object_in(THINKS)), ok(object_in(SAYS)))
    [said, _] = turn(upstream.ask(**asked([question])))
    if caller == "chat":
        del said["tool_calls"]
    elif caller == "messages":
        said["content"] = [block for block in said["content"] if block["type"] != "tool_use"]
    else:
        said["parts"] = [part for part in said["parts"] if "functionCall" not in part]
    upstream.ask(**asked([question, said, question]))
    assert [item["type"] for item in upstream.sent()["input"]] == ["message", "message"]


@pytest.mark.parametrize("refusal", [ORPHAN, ENCRYPTED], ids=["orphan", "encrypted"])
@pytest.mark.parametrize("caller", CALLERS)
def test_thoughts_that_are_refused_are_left_out_once(caller, refusal):
    asked, turn, question = CALLERS[caller]
    says = object_in(SAYS)
    upstream = Upstream(ok(object_in(THINKS)), refused(400, refusal), ok(says), ok(says))
    history = [question, *turn(upstream.ask(**asked([question])))]
    upstream.ask(**asked(history))
    kinds = [[item["type"] for item in upstream.sent(n)["input"]] for n in (1, 2)]
    round_trip = ["function_call", "function_call_output"]
    assert kinds == [["message", "reasoning", *round_trip], ["message", *round_trip]]
    # It was about that conversation: the next one thinks on.
    upstream.ask(**asked(history))
    assert [item["type"] for item in upstream.sent()["input"]] == kinds[0]


def test_a_second_refusal_is_told():
    asked, turn, question = CALLERS["chat"]
    upstream = Upstream(ok(object_in(THINKS)), refused(400, ORPHAN), refused(400, ORPHAN))
    history = [question, *turn(upstream.ask(**asked([question])))]
    with pytest.raises(GatewayError) as caught:
        upstream.ask(**asked(history))
    assert caught.value.status == 400 and not upstream.left


@pytest.mark.parametrize("caller", CALLERS)
def test_a_model_that_refuses_chat_is_asked_in_responses_from_then_on(caller):
    asked, _, question = CALLERS[caller]
    upstream = Upstream(refused(404, NO_CHAT), ok(object_in(SAYS)), ok(object_in(SAYS)), models=())
    # What was learned is the process's: another name for each caller.
    given = asked([question])
    if caller == "gemini":
        path = f"/c/v1beta/models/openai/learned-{caller}:generateContent"
        given["asked"] = gemini_calls.asked_of(json.loads(given["asked"].body), path)
    else:
        given["model"] = f"openai/learned-{caller}"
    for _ in range(2):
        assert "Berlin" in json.dumps(upstream.ask(**given))
    paths = [request.url.rsplit("/v1", 1)[1] for request in upstream.bench.clients.requests]
    assert paths == ["/chat/completions", "/responses", "/responses"]


def test_another_refusal_of_chat_is_told_as_it_is():
    missing = {"error": {"message": "The model does not exist", "code": "model_not_found"}}
    upstream = Upstream(refused(404, missing), models=())
    with pytest.raises(GatewayError, match="does not exist"):
        upstream.ask(**chat([{"role": "user", "content": "Hi"}]))
    assert len(upstream.bench.clients.requests) == 1


def test_other_models_keep_their_bytes():
    upstream = Upstream(FakeResponse(pieces=[EVENT + b"data: [DONE]\n\n"]))
    upstream.ask(model="gpt-4o", stream=True)
    assert upstream.bench.clients.requests[0].url.endswith("/v1/chat/completions")


def test_a_stream_is_told_as_chunks():
    upstream = Upstream(ok(THINKS))
    body = upstream.ask(**chat([{"role": "user", "content": QUESTION}]), stream=True)
    chunks = [json.loads(line[6:]) for line in body.split(b"\n\n") if line[6:7] == b"{"]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    pieces = [
        call["function"].get("arguments", "")
        for delta in deltas
        for call in delta.get("tool_calls") or ()
    ]
    assert json.loads("".join(pieces)) == {"latitude": "52.5200", "longitude": "13.4050"}
    assert body.endswith(b"data: [DONE]\n\n")
    assert upstream.sent()["stream_options"] == {"include_obfuscation": False}


def test_a_caller_of_responses_keeps_its_bytes():
    front = FRONTS["openai-responses"]
    upstream = Upstream(ok(THINKS))
    body = json.dumps({"model": MODEL, "input": "Hi", "stream": True}).encode()
    incoming = Incoming(path="/c/v1/responses", params={}, query={}, headers={}, body=body)
    assert upstream.ask(front=front, asked=front.glance(incoming)) == THINKS
    assert upstream.bench.clients.requests[0].body is body


def test_the_front_cuts_at_stop_sequences_that_responses_has_no_word_for():
    upstream = Upstream(ok(object_in(SAYS)))
    given = messages([{"role": "user", "content": QUESTION}]) | {"stop_sequences": ["(52"]}
    answer = upstream.ask(**given)
    assert answer["content"][-1]["text"] == "Berlin "
    assert (answer["stop_reason"], answer["stop_sequence"]) == ("stop_sequence", "(52")
    assert "stop" not in upstream.sent()


def test_what_is_dropped_is_named():
    upstream = Upstream(ok(object_in(SAYS)))
    upstream.ask(
        **chat([{"role": "user", "content": "Hi"}]), seed=1, stop=["a"], logit_bias={"1": 2}
    )
    headers = dict(upstream.bench.sink.headers)
    assert headers["x-gateway-dropped-params"] == "seed, logit_bias, stop"


@pytest.mark.parametrize(
    ("refusal", "member", "left"),
    [
        (
            {"message": "Unsupported parameter: 'temperature'", "param": "temperature"},
            "temperature",
            None,
        ),
        (
            {
                "message": "Unsupported value: 'minimal' is not supported.",
                "param": "reasoning.effort",
                "code": "unsupported_value",
            },
            "reasoning",
            {"effort": "low", "summary": "auto"},
        ),
        (
            {
                "message": "Your organization must be verified to generate reasoning summaries.",
                "param": "reasoning.summary",
                "code": "unsupported_value",
            },
            "reasoning",
            {"effort": "minimal"},
        ),
        (
            {"message": "Unsupported parameter: 'reasoning.effort' is not supported."},
            "reasoning",
            None,
        ),
        (
            {
                "message": "Invalid 'max_output_tokens': max_output_tokens is too large: 9000. "
                "This model supports at most 4096.",
                "param": "max_output_tokens",
            },
            "max_output_tokens",
            4096,
        ),
    ],
)
def test_a_refused_member_is_left_out_or_mended(refusal, member, left):
    upstream = Upstream(refused(400, {"error": refusal}), ok(object_in(SAYS)))
    upstream.ask(
        model=f"{abs(hash(str(refusal)))}-pro",
        messages=[{"role": "user", "content": "Hi"}],
        temperature=0.5,
        reasoning_effort="minimal",
        max_tokens=9000,
    )
    assert upstream.sent(0)[member] is not None
    assert upstream.sent().get(member) == left
