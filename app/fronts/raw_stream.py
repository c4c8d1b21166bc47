"""An answer in the pieces that the provider's own decoder makes of it."""

from collections.abc import Iterable

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
from app.wire.front import Answering
from app.wire.provider import Decoder
from app.wire.renderer import JSON, SSE
from app.wire.stream_start import Stage


class RawStream:
    """An answer that its decoder says in pieces, a stream or whole JSON. Besides it says where the
    upstream's own stream goes on and ends, and which conversation it is: told to nobody here but
    remembered."""

    def __init__(self, answering: Answering, decoder: Decoder) -> None:
        self.content_type = SSE if answering.asked.stream else JSON
        self.session = answering.session
        self.commands: list[Follow | Reply] = []
        self.unknown: list[str] = []
        self.usage: Usage | None = None
        self.refused = False
        self.ended = False
        self.error: GatewayError | None = None
        self._decoder = decoder

    def labelled(self, content_type: str) -> None:
        """The decoder judges by the bytes."""

    def feed(self, data: bytes) -> bytes:
        """Returns the upstream's bytes as they are, once they are decoded for the log."""
        return self._take(self._decoder.feed(data))

    def finish(self, *, is_cut: bool = False) -> bytes:
        """Returns the last bytes."""
        return self._take(self._decoder.finish())

    def opening(self, out: bytes) -> Stage:
        """Any byte is content."""
        return Stage.SAID

    def _take(self, events: Iterable[Event]) -> bytes:
        out: list[bytes] = []
        for event in events:
            match event:
                case Piece():
                    out.append(event.data)
                case Session():
                    for own in self.session.values():
                        own.update(event.fields)
                case Follow() | Reply():
                    self.commands.append(event)
                case Usage():
                    self.usage = event
                case End():
                    self.ended = True
        return b"".join(out)
