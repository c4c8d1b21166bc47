"""An upstream's own stream, of which only the end and the conversation are read."""

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
from app.wire.renderer import SSE
from app.wire.stream_start import Stage


class RawStream:
    """The upstream's own stream. The decoder only says where it goes on and ends, and which
    conversation it is, which is told to nobody here but remembered."""

    content_type = SSE

    def __init__(self, answering: Answering, decoder: Decoder) -> None:
        self.session = answering.session
        self.commands: list[Follow | Reply] = []
        self.unknown: list[str] = []
        self.usage: Usage | None = None
        self.refused = False
        self.ended = False
        self.error: GatewayError | None = None
        self._decoder = decoder

    def labelled(self, content_type: str) -> None:
        """Whatever the stream is, it is the caller's."""

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
                case End():
                    self.ended = True
        return b"".join(out)
