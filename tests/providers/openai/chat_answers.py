"""OpenAI chat answers for the tests of the decoder: recorded ones and pieces written by hand."""

import json
from typing import Any

from app.wire.errors import GatewayError
from app.wire.events import Event
from providers.openai.api import PROVIDER
from providers.openai.decode import ChatDecoder, decoder
from tests.calls import call_of
from tests.recorded import recorded

NO_ANSWERS = ("README", "errors", "error-", "models-", "embeddings", "requests", "responses")
NO_CHAT = ("chatgpt-web", "openapi-")
RECORDINGS = {
    path.name: path.read_bytes()
    for family in ("openai", "openai-compatible")
    for path in sorted(recorded(family).iterdir())
    if not path.name.startswith(NO_ANSWERS + NO_CHAT)
}


def fresh(n: int = 1, **options: bool) -> ChatDecoder:
    """A decoder of its own call, whose new ids are counted from 1."""
    ids = iter(range(1, 1 << 40))
    body = {"model": "asked", "messages": [], "stream": True, "n": n}
    new_id = lambda: f"{next(ids):024x}{0:08x}"  # noqa: E731
    return decoder(call_of(PROVIDER, body, native=False, new_id=new_id), **options)


def outcome(
    pieces: list[bytes], n: int = 1, **options: bool
) -> tuple[list[Event], GatewayError | None]:
    """Every event that comes out, and the error that ended them."""
    reader = fresh(n, **options)
    events: list[Event] = []
    try:
        for piece in pieces:
            for event in reader.feed(piece):
                events.append(event)
        for event in reader.finish():
            events.append(event)
    except GatewayError as error:
        return events, error
    return events, None


def comparable(found: tuple[list[Event], GatewayError | None]) -> tuple[list[Event], Any]:
    events, error = found
    return events, error and (error.status, error.code, error.message)


def read(*pieces: bytes, n: int = 1, **options: bool) -> list[Event]:
    """The events of a whole answer."""
    events, error = outcome(list(pieces), n, **options)
    assert error is None, error
    return events


def failed(*pieces: bytes, n: int = 1) -> GatewayError:
    """The error of an answer that is none."""
    _, error = outcome(list(pieces), n)
    assert error is not None
    return error


def chunk(
    delta: Any = None, reason: str | None = None, *, index: int | None = 0, **more: Any
) -> bytes:
    """One event with one choice; members named `choice_...` stand in the choice."""
    choice: dict[str, Any] = {"delta": {} if delta is None else delta, "finish_reason": reason}
    if index is not None:
        choice["index"] = index
    own = [name for name in more if name.startswith("choice_")]
    choice |= {name.removeprefix("choice_"): more.pop(name) for name in own}
    return event({"id": "c", "model": "m", "choices": [choice], **more})


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def whole(message: Any, reason: str | None = "stop", **more: Any) -> bytes:
    """A completion in one piece."""
    choice = {"index": 0, "message": message, "finish_reason": reason}
    return json.dumps({"id": "c", "model": "m", "choices": [choice], **more}).encode()


def tool(arguments: Any = None, *, name: str | None = None, **more: Any) -> bytes:
    """One event with one piece of a tool call."""
    function = {"name": name, "arguments": arguments}
    said = {key: value for key, value in function.items() if value is not None}
    return chunk({"tool_calls": [{"function": said, **more}]})


DONE = b"data: [DONE]\n\n"
