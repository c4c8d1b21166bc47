"""Where an answer goes: the caller's connection, behind the web framework."""

from collections.abc import Sequence
from typing import Protocol

from app.wire.upstream import Headers


class Sink(Protocol):
    """Where an answer goes: the caller's connection, behind the web framework."""

    started: bool
    content_type: str  # of the answer; set before its first byte
    headers: Headers  # of the answer; may be added to until the first byte is sent
    said: Sequence[bytes]  # the start of what was sent, where that is to be kept

    async def send(self, data: bytes) -> None:
        """The next piece of a stream; the first one sends status 200 and `headers` before it."""

    def write(self, data: bytes) -> bool:
        """`send` for a stream that has begun, at once; False: go on after `drain`."""

    async def drain(self) -> None:
        """Until the caller has taken most of what was written."""

    async def end(self) -> None:
        """The proper end of a stream."""

    async def answer(self, body: bytes) -> None:
        """A whole answer at once."""

    def abort(self) -> None:
        """Breaks the connection, so that the caller sees that the stream is not whole."""
