"""The start of a stream, held back while another key could still answer."""

import asyncio
import re
from contextlib import suppress

from app.clients import Response
from app.engine.deadline import Deadline
from app.engine.sink import Sink

# Comments are none; elements of a JSON array begin with a bracket or a comma.
_events_in = re.compile(rb"^(?:data:|\[|,)", re.MULTILINE).findall


class Held:
    """The start of a stream, held back while another key could still answer in its place."""

    def __init__(self, tokens: int, seconds: float) -> None:
        self._tokens, self._seconds = tokens, seconds
        self._pieces: list[bytes] = []
        self._events = 0
        self._until = 0.0  # loop time; 0: nothing is held
        self._is_over = False

    def add(self, out: bytes, now: float) -> bytes:
        """What may be sent now: nothing, or all there is."""
        if self._is_over:
            return out
        self._pieces.append(out)
        self._events += len(_events_in(out))  # about a token each
        if not self._until and self._seconds:
            self._until = now + self._seconds
        enough = self._tokens and self._events >= self._tokens
        return self.take() if enough or (self._until and now >= self._until) else b""

    def take(self) -> bytes:
        """Ends the hold; returns what was held."""
        self._is_over = True
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)

    async def read(self, response: Response, sink: Sink, deadline: Deadline) -> bytes:
        """The next bytes of the upstream; what is held is sent when its time is over first."""
        if self._is_over or not self._until:
            return await response.read()
        loop = asyncio.get_running_loop()
        reading = loop.create_task(response.read())
        try:
            await asyncio.wait({reading}, timeout=max(self._until - loop.time(), 0))
            if not reading.done():
                deadline.committed = deadline.sending = True
                deadline.told = loop.time()
                await sink.send(self.take())
                deadline.sending = False
            return await reading
        finally:
            if not reading.done():
                reading.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await reading
