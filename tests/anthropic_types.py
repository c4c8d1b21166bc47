"""Anthropic's own response types, read strictly, and the rules of their streams.

`events_of` checks a stream as the strictest of the clients would; `folded` lets the official SDK
put it together; `message` reads a whole body.
"""

from typing import Any

import msgspec

# private: the SDK folds a stream with it, and has no other way in without a connection.
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent
from pydantic import BaseModel, TypeAdapter

_EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
PING = b'event: ping\ndata: {"type": "ping"}'
_BLOCK_OF_DELTA = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "thinking",
    "input_json_delta": "tool_use",
}


def message(data: bytes) -> Message:
    read = Message.model_validate_json(data, strict=True)
    assert not _unknown(read)
    return read


def parsed(stream: bytes) -> list[dict[str, Any]]:
    """The events as JSON; each has its `event:` line, one data line and nothing else."""
    assert stream.endswith(b"\n\n")
    events = []
    for event in stream.removesuffix(b"\n\n").split(b"\n\n"):
        if event == PING:
            continue
        name, data = event.split(b"\n")
        value = msgspec.json.decode(data.removeprefix(b"data: "))
        assert name == b"event: " + value["type"].encode()
        events.append(value)
    return events


def events_of(stream: bytes) -> list[Any]:
    """The events of a whole stream, typed. The order and the numbers of blocks are checked."""
    events = []
    for value in parsed(stream):
        events.append(_EVENT.validate_python(value, strict=True))
        assert not _unknown(events[-1])
    assert [event.type for event in events].count("message_start") == 1
    assert [event.type for event in events[-2:]] == ["message_delta", "message_stop"]
    first, *blocks = events[:-2]
    assert first.type == "message_start" and first.message.content == []
    kinds: list[str] = []
    is_open: dict[int, bool] = {}
    has_delta: set[int] = set()
    for event in blocks:
        if event.type == "content_block_start":
            assert event.index == len(kinds), "a gap, or a block told twice"
            kinds.append(event.content_block.type)
            is_open[event.index] = True
            if kinds[-1] == "tool_use":
                assert event.content_block.input == {}
        elif event.type == "content_block_delta":
            assert is_open[event.index]
            has_delta.add(event.index)
            assert _BLOCK_OF_DELTA[event.delta.type] == kinds[event.index]
        else:
            assert event.type == "content_block_stop" and is_open[event.index]
            is_open[event.index] = False
    assert not any(is_open.values())
    assert all(at in has_delta for at, kind in enumerate(kinds) if kind in ("text", "thinking"))
    return events


def folded(stream: bytes) -> Message:
    """The stream as the official SDK puts it together."""
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    for event in events_of(stream):
        snapshot = accumulate_event(event=event, current_snapshot=snapshot, json_bufs=buffers)
    return snapshot


def _unknown(value: Any) -> set[str]:
    """Members that Anthropic's types do not know, at any depth."""
    if isinstance(value, list):
        return set().union(*map(_unknown, value))
    if not isinstance(value, BaseModel):
        return set()
    found = set(value.model_extra or ())
    for name in value.model_fields_set - found:
        found |= _unknown(getattr(value, name))
    return found
