"""claude.ai: both formats of the answer, whole, broken and of any shape."""

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.wire.errors import GatewayError
from app.wire.events import Event, Finish, Reasoning, Session, Started, Text, Unknown
from providers.claude.web_decode import WebDecoder
from providers.claude.web_errors import read_error
from providers.claude.web_schema import Conversation
from tests.providers.claude.web_refusals import error, exceeded
from tests.providers.web_calls import reply
from tests.recorded import recorded

C1 = "0c1f9a52-8e4a-4a53-9f3e-5b6f0d1c2a11"


def decoder() -> WebDecoder:
    return WebDecoder(Conversation(C1, name="n"), "asked", 1_755_800_000)


def decode(pieces: Iterable[bytes]) -> list[Event]:
    into = decoder()
    events = [event for piece in pieces for event in into.feed(piece)]
    return [*events, *into.finish()]


def frame(data: Any, name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()


def events_of(*frames: dict[str, Any]) -> bytes:
    return b"".join(frame(data, data["type"]) for data in frames)


RAW = (
    b'event: completion\ndata: {"type":"completion","id":"chatcompl_A","completion":" Hello",'
    b'"stop_reason":null,"model":"claude-3-sonnet-20240229","stop":null,"log_id":"x",'
    b'"messageLimit":{"type":"within_limit"}}\n\n'
    b'event: ping\ndata: {"type":"ping"}\n\n'
    b'event: completion\ndata: {"type":"completion","id":"chatcompl_A","completion":" there",'
    b'"stop_reason":null,"model":"claude-3-sonnet-20240229","stop":null,"log_id":"x"}\n\n'
    b'event: completion\ndata: {"type":"completion","id":"chatcompl_A","completion":"",'
    b'"stop_reason":"stop_sequence","model":"claude-3-sonnet-20240229","stop":"\\n\\nHuman:",'
    b'"log_id":"x","messageLimit":{"type":"approaching_limit","remaining":5,'
    b'"resetsAt":1715000000}}\n\n'
)
MESSAGES = (recorded("claude") / "web-completion-messages-2026-08.sse").read_bytes()
OLD = (recorded("claude") / "web-completion-raw-2023.sse").read_bytes()
ZERO = "00000000-0000-0000-0000-000000000000"
CONVERSATION = {
    "uuid": C1,
    "name": "n",
    "summary": "",
    "model": "claude-sonnet-5",
    "created_at": "",
    "updated_at": "",
    "parent_message_uuid": ZERO,
}

STREAMS: dict[str, tuple[bytes, list[Event]]] = {
    "messages": (
        MESSAGES,
        [
            Session({"conversation": CONVERSATION}),
            Started("chatcompl_REDACTED", "claude-sonnet-5"),
            Text("Hi again"),
            Text("! What's up?"),
            Finish("stop"),
        ],
    ),
    "raw 2023": (
        OLD,
        [Started("", "claude-2.0"), Text("Hello"), Text(" world"), Finish("stop")],
    ),
    "raw 2024": (
        RAW,
        [
            Started("chatcompl_A", "claude-3-sonnet-20240229"),
            Text("Hello"),
            Text(" there"),
            Finish("stop"),
        ],
    ),
}
STREAMS |= {
    f"{name} crlf": (data.replace(b"\n", b"\r\n"), events)
    for name, (data, events) in STREAMS.items()
}


@pytest.mark.parametrize("name", STREAMS)
def test_both_formats_say_the_same_under_every_split(name: str) -> None:
    data, events = STREAMS[name]
    assert decode([data]) == events
    assert decode(bytes([byte]) for byte in data) == events
    for at in range(1, len(data)):
        assert decode([data[:at], data[at:]]) == events


START = {"type": "message_start", "message": {"id": "m", "uuid": "u2", "model": ""}}
STOP = {"type": "message_stop"}


def block(kind: str, *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": 0, "content_block": {"type": kind}},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
    ]


def test_thinking_is_reasoning_and_the_servers_own_tools_are_nobodys_business() -> None:
    data = events_of(
        START,
        {"type": "conversation_ready"},
        *block(
            "thinking",
            {"type": "thinking_delta", "thinking": "Hm"},
            {"type": "thinking_summary_delta", "summary": {"summary": "thought"}},
        ),
        *block("thinking", {"type": "thinking_summary_delta", "summary": {"summary": "Alone"}}),
        *block(
            "tool_use",
            {"type": "input_json_delta", "partial_json": '{"query":1}'},
            {"type": "tool_use_block_update_delta", "message": "Searching"},
        ),
        *block("tool_result", {"type": "text_delta", "text": "a web page"}),
        *block(
            "text",
            {"type": "text_delta", "text": "So."},
            {"type": "citation_start_delta", "citation": {}},
            {"type": "flag_delta", "flag": "x"},
        ),
        {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}},
        STOP,
    )
    events = [event for event in decode([data]) if not isinstance(event, Session)]
    assert events == [
        Started("m", "asked"),
        Reasoning("Hm"),
        Reasoning("Alone\n"),
        Text("So."),
        Finish("length"),
    ]


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        (None, "stop"),
        ("max_tokens", "length"),
        ("refusal", "content_filter"),
        ("something_new", "stop"),
    ],
)
def test_how_it_ended(reason: str | None, told: str) -> None:
    data = events_of(START, {"type": "message_delta", "delta": {"stop_reason": reason}}, STOP)
    assert [e.reason for e in decode([data]) if isinstance(e, Finish)] == [told]


def test_an_end_after_the_stop_reason_is_an_end() -> None:
    data = events_of(START, {"type": "message_delta", "delta": {"stop_reason": "end_turn"}})
    assert decode([data])[-1] == Finish("stop")


def test_unknown_events_are_counted_and_break_nothing() -> None:
    odd: list[Any] = [{"type": "new_thing"}, {"type": "content_block_delta"}, [1], 7]
    data = b"".join(frame(o) for o in odd) + frame("x") + b"data: {broken\n\n" + MESSAGES
    events = decode([data])
    assert "".join(e.text for e in events if isinstance(e, Text)) == "Hi again! What's up?"
    assert Unknown("new_thing") in events


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"", 502, "upstream_cut"),
        (events_of(START), 502, "upstream_cut"),
        (OLD[: OLD.index(b"\n\n") + 2], 502, "upstream_cut"),
        (events_of(error("overloaded_error", "Overloaded")), 503, "overloaded_error"),
        (events_of(START, exceeded()), 429, "usage_limit_reached"),
        (
            frame({"error": {"type": "rate_limit_error", "message": "x", "resets_at": 1755800060}}),
            429,
            "rate_limit_exceeded",
        ),
        (events_of({"type": "error", "error": "Overloaded"}), 502, "upstream_error"),
        (
            events_of({"type": "error", "error": {"type": "overloaded_error", "message": {}}}),
            503,
            "overloaded_error",
        ),
        (json.dumps(error("not_found_error", "x")).encode(), 404, "conversation_not_found"),
        (b"<title>Just a moment...</title>", 502, "upstream_challenge"),
        (b"<html>hello</html>", 502, "upstream_bad_response"),
    ],
)
def test_what_is_no_whole_answer_is_an_error(data: bytes, status: int, code: str) -> None:
    with pytest.raises(GatewayError) as bad:
        decode([data])
    assert (bad.value.status, bad.value.code) == (status, code)
    if b"resets_at" in data:
        assert bad.value.retry_after == 60


def test_what_stands_before_an_error_in_the_same_read_is_told() -> None:
    begun = MESSAGES[: MESSAGES.index(b"event: content_block_stop")]
    events = []
    with pytest.raises(GatewayError):
        for made in decoder().feed(begun + events_of(error("overloaded_error", "x"))):
            events.append(made)
    assert "".join(e.text for e in events if isinstance(e, Text)).startswith("Hi again")


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_rubbish_is_refused_or_ignored_but_never_a_crash(junk: bytes) -> None:
    for data in (junk, b"data: " + junk + b"\n\n" + MESSAGES, MESSAGES[:700] + junk):
        try:
            decode([data[:50], data[50:]])
            read_error(reply(junk, 400))
        except GatewayError:
            continue


MEMBERS = ["type", "delta", "message", "content_block", "error", "completion", "stop_reason"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["text_delta", "message_start"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(MEMBERS), inner, max_size=5)
    ),
    max_leaves=10,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(JSON, max_size=5))
def test_json_of_any_shape_is_refused_or_ignored_but_never_a_crash(objects: list[Any]) -> None:
    try:
        decode([*(frame(o) for o in objects), MESSAGES])
    except GatewayError:
        return
