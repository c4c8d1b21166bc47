"""An upstream's own stream, of which only the end and the conversation are read."""

from collections.abc import Iterable
from typing import Any

from app.wire.errors import GatewayError
from app.wire.events import (
    End,
    Event,
    Follow,
    Piece,
    Reply,
    Session,
    Usage,
)
from app.wire.provider import Decoder
from app.wire.renderer import SSE
from app.wire.stream_start import Stage


class Untranslated:
    """The upstream's own stream, of which the decoder only knows where it goes on and ends, and
    which conversation it is: `stamp` is told to nobody here, but remembered."""

    content_type = SSE

    def __init__(self, decoder: Decoder, stamp: dict[str, Any]) -> None:
        self.stamp = stamp
        self.asks: list[Follow | Reply] = []
        self.usage: Usage | None = None
        self.refused = False
        self.ended = False
        self.error: GatewayError | None = None
        self._decoder = decoder

    def feed(self, data: bytes) -> bytes:
        return self._take(self._decoder.feed(data))

    def finish(self) -> bytes:
        return self._take(self._decoder.finish())

    def opening(self, out: bytes) -> Stage:
        return Stage.SAID

    def _take(self, events: Iterable[Event]) -> bytes:
        out: list[bytes] = []
        for event in events:
            match event:
                case Piece():
                    out.append(event.data)
                case Session():
                    for own in self.stamp.values():
                        own.update(event.fields)
                case Follow() | Reply():
                    self.asks.append(event)
                case End():
                    self.ended = True
        return b"".join(out)
