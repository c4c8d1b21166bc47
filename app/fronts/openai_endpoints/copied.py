"""An answer of any type, byte for byte."""

from app.wire.errors import GatewayError, bad_response, upstream_cut
from app.wire.events import Follow, Reply, Usage
from app.wire.front import Answering
from app.wire.stream_end import Tail, usage_in
from app.wire.stream_start import Stage

_WITH_USAGE = ("json", "event-stream")


class Copied:
    """A stream as it comes, anything else whole: nothing of it is known but its content type.

    Whether it is whole, the connection tells.
    """

    def __init__(self, answering: Answering) -> None:
        self.content_type = "application/octet-stream"
        self.commands: list[Follow | Reply] = []
        self.unknown: list[str] = []
        self.refused = False
        self.ended = False
        self.error: GatewayError | None = None
        self._is_stream = answering.asked.stream
        self._held: list[bytes] = []
        self._left = answering.max_bytes
        self._tail = Tail()

    def labelled(self, content_type: str) -> None:
        """Takes the upstream's content type."""
        self.content_type = content_type

    def feed(self, data: bytes) -> bytes:
        """Returns the piece, or keeps it until all is there."""
        self._tail.add(data)
        if self._is_stream:
            return data
        self._left -= len(data)
        if self._left < 0:
            raise bad_response("The upstream's answer is above limits.response_bytes.")
        self._held.append(data)
        return b""

    def opening(self, out: bytes) -> Stage:
        """Any byte is content."""
        return Stage.SAID

    def finish(self, *, is_cut: bool = False) -> bytes:
        """Returns what was kept. Raises GatewayError 502 for an answer that is not whole."""
        if is_cut:
            raise upstream_cut()
        return b"".join(self._held)

    @property
    def usage(self) -> Usage | None:
        """The token counts at the end of JSON and of events; None where there are none."""
        if not any(kind in self.content_type.lower() for kind in _WITH_USAGE):
            return None
        return usage_in(self._tail.bytes())
