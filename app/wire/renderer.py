"""What turns an upstream's answer into bytes for the caller."""

from typing import Protocol

from app.wire.errors import GatewayError
from app.wire.events import (
    Follow,
    Reply,
    Usage,
)
from app.wire.stream_start import Stage

SSE = "text/event-stream; charset=utf-8"
JSON = "application/json"
KEEP_ALIVE = b": ping\n\n"


class Renderer(Protocol):
    content_type: str
    asks: list[Follow | Reply]  # what the exchange must do before it reads on
    refused: bool  # the upstream told the caller of an error inside its stream
    error: GatewayError | None  # which one, where the answer was passed on as it came
    ended: bool  # the answer is whole, whatever the connection does

    @property
    def usage(self) -> Usage | None: ...

    def feed(self, data: bytes) -> bytes: ...

    def finish(self) -> bytes: ...

    def opening(self, out: bytes) -> Stage:
        """How far the stream has come with `out`, as long as nothing was said. Raises GatewayError
        for an error in place of an answer."""
