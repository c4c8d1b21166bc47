"""Parrot's API, under /parrot. It repeats the last line. A key with "bad" in it is refused.

A voice named like a fault has it: `sim-503`, `sim-cut-after-2`.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
from sanic import Blueprint, HTTPResponse, Request

from app.simulator import delivery
from app.simulator.delivery import Dialect, send_events
from app.simulator.faults import Fault, Refusal
from app.simulator.ledger import record_of

JSON_LINES = "application/jsonl"
_REASONS = {"auth": "bad_key", "rate_limit": "too_fast", "overloaded": "asleep"}

blueprint = Blueprint("parrot", url_prefix="/parrot")


def line(event: str, **members: Any) -> bytes:
    """One line of an answer."""
    return msgspec.json.encode({"event": event, **members}) + b"\n"


def refuse(asked: Refusal) -> HTTPResponse:
    """A refusal as Parrot words it."""
    why = _REASONS.get(asked.kind, "trouble")
    body = msgspec.json.encode({"why": why, "text": "The simulator refuses."})
    headers = {"retry-after": asked.retry_after} if asked.retry_after else {}
    return HTTPResponse(body, asked.status, headers, "application/json")


DIALECT = Dialect(
    refuse=refuse,
    error_event=line("fail", why="asleep", text="Parrot fell asleep."),
    error_body=b'{"why":"asleep","text":"Parrot fell asleep."}',
    bad_event=b'{"event":"say\n',
)


@blueprint.post("/v1/talk")
async def talk(request: Request) -> HTTPResponse | None:
    """POST /v1/talk: always a stream."""
    body = msgspec.json.decode(request.body)
    fault = request.app.ctx.faults.pick(request, body["voice"])
    if refused := await delivery.before_answer(request, fault, DIALECT):
        return refused
    if "bad" in record_of(request).key:
        return refuse(Refusal(401, "auth"))
    events = _events(body["lines"], fault)
    return await send_events(request, fault, events, DIALECT, content_type=JSON_LINES)


def _events(lines: list[dict[str, str]], fault: Fault) -> Iterator[bytes]:
    yield line("begin", id="p1")
    pieces = list(fault.pieces(lines[-1]["text"]))
    for piece in pieces:
        yield line("say", text=piece)
    heard = sum(len(each["text"].split()) for each in lines)
    yield line("end", why="done", heard=heard, spoken=len(pieces))
