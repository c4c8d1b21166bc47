"""OpenAI's own types of Responses, read strictly, and the rules of their streams.

`events_of` checks a stream as the strictest of the clients would, and lets the official client's
accumulator follow it; `response` reads a whole body.
"""

from typing import Any

import msgspec
from openai import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
_PING = b": ping"
_LAST = ("response.completed", "response.incomplete", "response.failed")
# Recorded answers of OpenAI have these, its published types do not.
_ONLY_RECORDED = {"store", "frequency_penalty", "presence_penalty", "status"}


def response(data: bytes | dict[str, Any]) -> Response:
    raw = data if isinstance(data, bytes) else msgspec.json.encode(data)
    read = Response.model_validate_json(raw, strict=True)
    assert not list(_unknown(read))
    return read


def parsed(stream: bytes) -> list[dict[str, Any]]:
    """The events as JSON; each has its `event:` line, one data line and nothing else."""
    assert stream.endswith(b"\n\n")
    events = []
    for event in stream.removesuffix(b"\n\n").split(b"\n\n"):
        if event == _PING:
            continue
        name, data = event.split(b"\n")
        value = msgspec.json.decode(data.removeprefix(b"data: "))
        assert name == b"event: " + value["type"].encode()
        assert next(iter(value)) == "type"
        events.append(value)
    return events


def events_of(stream: bytes) -> list[dict[str, Any]]:
    """The events of a whole stream; types, order, numbers and ids are checked."""
    events = parsed(stream)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    kinds = [event["type"] for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] in _LAST and not set(kinds[:-1]) & set(_LAST)
    for event in events:
        if event["type"] != "error":  # nested on the wire, flat in the published type
            read = _EVENT.validate_json(msgspec.json.encode(event), strict=True)
            assert not list(_unknown(read)), event
    ids = {event["response"]["id"] for event in events if "response" in event}
    assert len(ids) == 1
    _check_items(events)
    if kinds[-1] == "response.completed" and len(events) < 80:  # it copies all at each event
        _follow(events)
    return events


def _check_items(events: list[dict[str, Any]]) -> None:
    """Items come strictly one after the other, each added, told and done."""
    done: list[dict[str, Any]] = []
    current: dict[str, Any] | None = None
    for event in events:
        match event["type"]:
            case "response.output_item.added":
                assert current is None and event["output_index"] == len(done)
                current = event["item"]
            case "response.output_item.done":
                assert current is not None and event["output_index"] == len(done)
                assert [current[n] for n in ("id", "type")] == [
                    event["item"][n] for n in ("id", "type")
                ]
                assert current.get("call_id") == event["item"].get("call_id")
                done.append(event["item"])
                current = None
            case _ if "item_id" in event:
                assert current is not None
                assert event["item_id"] == current["id"]
                assert event["output_index"] == len(done)
    last = events[-1]
    if last["type"] != "response.failed":
        assert current is None
        assert last["response"]["output"] == done
        assert len({item["id"] for item in done}) == len(done)


def _follow(events: list[dict[str, Any]]) -> None:
    """The official client's accumulator raises for what does not fit."""
    state: Any = ResponseStreamState(input_tools=omit, text_format=omit)
    for event in events:
        state.handle_event(_EVENT.validate_json(msgspec.json.encode(event)))
    told = state._completed_response  # private: the client has no other place for it
    assert told is not None and len(told.output) == len(events[-1]["response"]["output"])


def joined(events: list[dict[str, Any]]) -> dict[int, str]:
    """The deltas of each item, one behind the other."""
    out: dict[int, str] = {}
    for event in events:
        if event["type"].endswith(".delta"):
            out[event["output_index"]] = out.get(event["output_index"], "") + event["delta"]
    return out


def without_ids(value: dict[str, Any]) -> dict[str, Any]:
    """A Response without what differs between two of one answer."""
    kept = {n: v for n, v in value.items() if n not in ("id", "created_at", "completed_at")}
    kept["output"] = [{n: v for n, v in item.items() if n != "id"} for item in value["output"]]
    return kept


def _unknown(value: Any) -> Any:
    if isinstance(value, BaseModel):
        yield from set(value.model_extra or ()) - _ONLY_RECORDED
        for name in value.model_fields_set - set(value.model_extra or ()):
            yield from _unknown(getattr(value, name))
    elif isinstance(value, list):
        for item in value:
            yield from _unknown(item)
