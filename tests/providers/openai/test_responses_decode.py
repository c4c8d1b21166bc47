"""The decoder of Responses answers against recorded bytes of five hosts, however they are cut.

What a recording says is read from its last event with a few lines of plain JSON, in which the whole
answer stands once more.
"""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.wire.errors import GatewayError
from app.wire.events import (
    Event,
    Finish,
    Reasoning,
    Refusal,
    Started,
    Text,
    Thought,
    ToolArguments,
    ToolCall,
    Usage,
)
from app.wire.signature_mark import read_mark
from providers.openai.api import PROVIDER
from providers.openai.responses_decode import decoder
from tests.calls import call_of, counted_ids
from tests.recorded import recorded

ERRORS = {
    "error-quota-in-stream.sse": (429, "insufficient_quota"),
    "error-rate-limit-in-stream.sse": (429, "rate_limit_exceeded"),
}
STREAMS = {path.name: path.read_bytes() for path in sorted(recorded("responses").glob("*.sse"))}
SOUND = sorted(set(STREAMS) - set(ERRORS))
WHOLE = {
    path.name: path.read_bytes()
    for path in sorted(recorded("responses").glob("*.json"))
    if json.loads(path.read_bytes()).get("object") == "response"
    and json.loads(path.read_bytes())["status"] == "completed"
}
SMALL = sorted(name for name, data in STREAMS.items() if len(data) < 6000)
BODY = {"model": "asked", "messages": [{"role": "user", "content": "Hi"}], "stream": True}


def fresh() -> Any:
    assert PROVIDER.variant is not None
    provider = PROVIDER.variant.provider
    return decoder(call_of(provider, BODY, native=False, new_id=counted_ids()))


def outcome(*pieces: bytes) -> tuple[list[Event], tuple[int, str | None, str] | None]:
    """Every event that comes out, and what is told of the error that ended them."""
    reader, events = fresh(), list[Event]()
    try:
        for piece in pieces:
            for event in reader.feed(piece):
                events.append(event)
        for event in reader.finish():
            events.append(event)
    except GatewayError as error:
        return events, (error.status, error.code, error.message)
    return events, None


def read(*pieces: bytes) -> list[Event]:
    events, error = outcome(*pieces)
    assert error is None, error
    return events


def summary(events: list[Event]) -> dict[str, Any]:
    """What the events say, put together."""
    found: dict[str, Any] = {"text": "", "thinking": "", "kept": [], "calls": []}
    for event in events:
        match event:
            case Text():
                found["text"] += event.text
            case Reasoning():
                found["thinking"] += event.text
            case Thought():
                kept = read_mark(event.signature or "")
                assert kept is not None and kept[0] == "o"
                found["kept"].append(json.loads(kept[1]))
            case ToolCall():
                assert event.tool == len(found["calls"])
                found["calls"].append([event.id, event.name, event.arguments])
            case ToolArguments():
                found["calls"][event.tool][2] += event.arguments
            case Finish():
                found["finish"] = event.reason
            case Usage():
                found["usage"] = [event.prompt_tokens, event.completion_tokens]
                found["details"] = [event.cached_tokens, event.reasoning_tokens]
    return found


def expected(response: dict[str, Any]) -> dict[str, Any]:
    """The same, from the object that holds the whole answer."""
    output, usage = response["output"], response["usage"]
    parts = [part for item in output if item["type"] == "message" for part in item["content"]]
    thoughts = [item for item in output if item["type"] == "reasoning"]
    said = [part["text"] for item in thoughts for part in item["summary"] + item.get("content", [])]
    calls = []
    for item in output:
        if item["type"] == "function_call":
            space = f"{item['namespace']}__" if item.get("namespace") else ""
            calls.append([item["call_id"], space + item["name"], item["arguments"]])
        elif item["type"] == "custom_tool_call":
            calls.append([item["call_id"], item["name"], json.dumps({"input": item["input"]})])
    finish = "tool_calls" if calls else "stop"
    if response["status"] == "incomplete":
        finish = {"max_output_tokens": "length"}[response["incomplete_details"]["reason"]]
    return {
        "text": "".join(part["text"] for part in parts),
        "thinking": "\n\n".join(said),
        "kept": [
            {"id": item["id"], "encrypted_content": item["encrypted_content"]}
            for item in thoughts
            if item.get("encrypted_content")
        ],
        "calls": calls,
        "finish": finish,
        "usage": [usage["input_tokens"], usage["output_tokens"]],
        "details": [
            (usage.get("input_tokens_details") or {}).get("cached_tokens", 0),
            usage["output_tokens_details"]["reasoning_tokens"],
        ],
    }


def last_response(data: bytes) -> dict[str, Any]:
    lines = [line for line in data.decode().splitlines() if line.startswith("data: ")]
    response: dict[str, Any] = json.loads(lines[-1][6:])["response"]
    said = [json.loads(line[6:]) for line in lines]
    items = [event["item"] for event in said if event["type"] == "response.output_item.done"]
    # Some have nothing there. OpenAI encrypts its thoughts anew for each event; clients keep the
    # first.
    response["output"] = response["output"] or items
    for item, first in zip(response["output"], items, strict=True):
        if item["type"] == "reasoning" and item.get("encrypted_content"):
            item["encrypted_content"] = first["encrypted_content"]
    return response


def without_arguments_spacing(found: dict[str, Any]) -> dict[str, Any]:
    calls = [[id, name, json.loads(arguments)] for id, name, arguments in found["calls"]]
    return found | {"calls": calls}


@pytest.mark.parametrize("name", SOUND)
def test_a_recorded_stream_gives_what_its_last_event_holds(name):
    events = read(STREAMS[name])
    wanted = expected(last_response(STREAMS[name]))
    if name == "other-deepseek-tool-stream.sse":
        wanted["kept"] = []  # nothing is encrypted there
    assert without_arguments_spacing(summary(events)) == without_arguments_spacing(wanted)
    kinds = [type(event) for event in events]
    assert kinds[0] is Started and kinds.count(Started) == 1
    assert kinds[-2:] == [Finish, Usage]


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_a_recorded_object_gives_the_same(name):
    wanted = expected(json.loads(WHOLE[name]))
    assert summary(read(WHOLE[name])) == wanted


@pytest.mark.parametrize("name", SOUND)
def test_a_stream_and_the_object_at_its_end_say_the_same(name):
    response = last_response(STREAMS[name])
    twin = summary(read(json.dumps(response).encode()))
    assert without_arguments_spacing(twin) == without_arguments_spacing(
        summary(read(STREAMS[name]))
    )


@pytest.mark.parametrize("name", sorted(ERRORS))
def test_an_error_in_the_stream_is_told_with_its_status(name):
    events, error = outcome(STREAMS[name])
    assert error is not None and error[:2] == ERRORS[name]
    assert not any(isinstance(event, Finish) for event in events)


@pytest.mark.parametrize("name", sorted(STREAMS))
def test_a_recorded_stream_read_byte_by_byte_is_the_same(name):
    data = STREAMS[name]
    assert outcome(*(data[at : at + 1] for at in range(len(data)))) == outcome(data)


@pytest.mark.parametrize("name", SMALL)
def test_a_small_recorded_stream_cut_at_any_byte_is_the_same(name):
    data, unsplit = STREAMS[name], outcome(STREAMS[name])
    for at in range(1, len(data)):
        assert outcome(data[:at], data[at:]) == unsplit, at


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), 97])
@pytest.mark.parametrize("name", sorted(set(STREAMS) - set(SMALL)))
def test_a_large_recorded_stream_cut_in_two_is_the_same(name, step):
    data, unsplit = STREAMS[name], outcome(STREAMS[name])
    for at in range(1, len(data), step):
        assert outcome(data[:at], data[at:]) == unsplit, at


@pytest.mark.parametrize("name", SOUND)
def test_a_stream_that_breaks_off_is_no_answer(name):
    data = STREAMS[name]
    last = data.rindex(b"\ndata: ")
    for end in (last, last // 2, last // 3):
        _, error = outcome(data[:end])
        assert error is not None and error[:2] == (502, "upstream_cut")


@given(name=st.sampled_from(sorted(STREAMS)), data=st.data())
@settings(max_examples=100, deadline=None)
def test_a_recorded_stream_of_which_something_is_missing_never_breaks_the_decoder(name, data):
    whole = STREAMS[name].split(b"\n\n")
    kept = data.draw(st.lists(st.booleans(), min_size=len(whole), max_size=len(whole)))
    outcome(b"\n\n".join(event for event, keep in zip(whole, kept, strict=True) if keep))


# --- rules that no recording shows ---------------------------------------------------------------


def stream(*events: dict[str, Any]) -> bytes:
    return b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in events)


CREATED = {"type": "response.created", "response": {"id": "resp_1", "model": "m"}}


def completed(*output: dict[str, Any], **more: Any) -> dict[str, Any]:
    response = {"id": "resp_1", "status": "completed", "output": list(output), **more}
    return {"type": f"response.{response['status']}", "response": response}


def message(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "message", "id": "msg_1", "role": "assistant", "content": list(parts)}


def done(item: dict[str, Any], index: int = 0) -> dict[str, Any]:
    return {"type": "response.output_item.done", "output_index": index, "item": item}


TEXT = {"type": "output_text", "text": "Hello"}


def test_a_text_that_comes_whole_is_told_once():
    whole_part = {"type": "response.output_text.done", "output_index": 0, "text": "Hello"}
    said = read(stream(CREATED, whole_part, done(message(TEXT)), completed(message(TEXT))))
    assert summary(said)["text"] == "Hello"


def test_an_item_that_comes_whole_is_told_once():
    said = read(stream(CREATED, done(message(TEXT)), completed(message(TEXT))))
    assert summary(said)["text"] == "Hello"


def test_an_answer_that_comes_with_its_last_event_is_told():
    assert summary(read(stream(completed(message(TEXT)))))["text"] == "Hello"


def test_parts_may_be_counted_from_one():
    piece = {"type": "response.output_text.delta", "output_index": 0, "content_index": 1}
    said = read(stream(CREATED, {**piece, "delta": "Hello"}, done(message(TEXT)), completed()))
    assert summary(said)["text"] == "Hello"


def test_a_thought_in_two_parts_is_told_in_two_paragraphs():
    events = []
    for part, text in enumerate(("one", "two")):
        at = {"output_index": 0, "summary_index": part}
        events.append({"type": "response.reasoning_summary_part.added", **at})
        events.append({"type": "response.reasoning_summary_text.delta", "delta": text, **at})
    said = read(stream(CREATED, *events, completed()))
    assert summary(said)["thinking"] == "one\n\ntwo"


def test_a_refusal_is_told_as_one():
    piece = {"type": "response.refusal.delta", "output_index": 0, "delta": "No."}
    item = message({"type": "refusal", "refusal": "No."})
    for events in ((CREATED, piece, done(item), completed(item)), (completed(item),)):
        said = read(stream(*events))
        assert [event.text for event in said if isinstance(event, Refusal)] == ["No."]


def test_a_call_without_arguments_has_an_empty_object():
    item = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": ""}
    said = read(stream(CREATED, done(item), completed(item)))
    assert summary(said)["calls"] == [["call_1", "f", "{}"]]


@pytest.mark.parametrize("reason", ["max_output_tokens", "content_filter", "unheard of"])
def test_an_incomplete_answer_says_why(reason):
    end = completed(status="incomplete", incomplete_details={"reason": reason})
    finish = next(event for event in read(stream(CREATED, end)) if isinstance(event, Finish))
    assert finish.reason == ("content_filter" if reason == "content_filter" else "length")
    assert finish.native == reason


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        ({"code": "rate_limit_exceeded", "message": "Slow."}, (429, "rate_limit_exceeded")),
        ({"code": "insufficient_quota", "message": "Pay."}, (429, "insufficient_quota")),
        ({"code": "context_length_exceeded", "message": "Long"}, (400, "context_length_exceeded")),
        ({"code": "invalid_prompt", "message": "No."}, (400, "invalid_prompt")),
        ({"code": "server_is_overloaded", "message": "Full."}, (503, "server_is_overloaded")),
        ({"code": "server_error", "message": "Oh."}, (502, "server_error")),
    ],
)
def test_a_failure_has_the_same_meaning_in_each_of_its_forms(error, wanted):
    forms = (
        {"type": "error", "error": error},
        {"type": "error", **error},
        {"error": error},
        {"type": "response.failed", "response": {"status": "failed", "error": error}},
    )
    for form in forms:
        _, told = outcome(stream(CREATED, form))
        assert told == (*wanted, error["message"]), form
    _, told = outcome(json.dumps({"status": "failed", "error": error, "output": []}).encode())
    assert told == (*wanted, error["message"])


def test_what_comes_behind_the_end_is_not_read():
    said = read(stream(completed(message(TEXT))) + b"data: [DONE]\n\n: bye\n\n")
    assert summary(said)["text"] == "Hello"


def test_events_that_say_nothing_are_passed_over():
    quiet = (
        {"type": "keepalive"},
        {"type": "response.web_search_call.searching", "output_index": 0},
        {"type": "response.output_text.annotation.added", "output_index": 0},
        {"type": "response.unheard_of", "x": [1]},
    )
    assert [type(event) for event in read(stream(CREATED, *quiet, completed()))] == [
        Started,
        Finish,
    ]


@pytest.mark.parametrize("body", [b"{}", b'{"object":"list","data":[]}', b"{", b"[1]"])
def test_another_object_is_no_answer(body):
    _, error = outcome(body)
    assert error is not None and error[0] == 502
