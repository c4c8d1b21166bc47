"""A streamed request body: framing, back-pressure, and resending it on another connection."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING

from app.clients.http1_codec import ResponseReader
from app.wire.errors import GatewayError, upstream_cut

if TYPE_CHECKING:
    from app.clients.connection import Connection

# As much of a streamed body is remembered, so that it can be sent again like any other.
KEPT_BODY_BYTES = 64 * 1024


class Upload:
    """Sends a streamed body, in a task of its own: a response may come before the body's end.

    The first KEPT_BODY_BYTES are remembered, so that a connection found dead can be replaced.
    """

    def __init__(self, body: AsyncIterator[bytes], length: int) -> None:
        """`length` is the declared length in bytes; below 0 the body is sent in chunks."""
        self._body = body
        self._chunked = length < 0
        self._left = length
        self._kept: list[bytes] | None = []
        self._kept_bytes = 0
        self._connection: Connection | None = None
        self._reader: ResponseReader | None = None
        self._replaced: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self.is_sent = False
        self.error: BaseException | None = None  # of the body's iterator

    @property
    def can_restart(self) -> bool:
        """Whether all that was read of the body is still remembered."""
        return self._kept is not None and self.error is None

    def start(self, connection: "Connection", reader: ResponseReader) -> None:
        """Begins to send; on a second connection, sends again what was remembered, and goes on."""
        self._connection, self._reader = connection, reader
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="upload to an upstream")
            return
        for piece in self._kept or ():
            connection.write(piece)
        if self._replaced is not None and not self._replaced.done():
            self._replaced.set_result(None)

    def detach(self) -> None:
        """Stops writing to a connection that is lost, until `start` gives another one."""
        self._connection = None

    def cancel(self) -> None:
        """Asks the task to stop, without waiting for it."""
        if self._task is not None:
            self._task.cancel()

    async def stop(self) -> None:
        """Cancels the task and waits for its end; the body's iterator is closed then."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def _run(self) -> None:
        try:
            await self._send_all()
            self.is_sent = True
        except Exception as error:
            # The body's own failure (its sender left, it is too large): the caller is to get it.
            self.error = error
            if self._connection is not None and self._reader is not None:
                cut = upstream_cut("The request's body ended early")
                own = error if isinstance(error, GatewayError) else cut
                self._connection.fail(self._reader, own)
        finally:
            close = getattr(self._body, "aclose", None)
            if close is not None:
                with suppress(Exception):
                    await close()

    async def _send_all(self) -> None:
        async for piece in self._body:
            if not piece:
                continue
            if self._chunked:
                piece = b"%x\r\n%b\r\n" % (len(piece), piece)
            else:
                self._left -= len(piece)
                if self._left < 0:
                    raise _wrong_length("longer")
            await self._send(piece)
        if self._chunked:
            await self._send(b"0\r\n\r\n")
        elif self._left > 0:
            raise _wrong_length("shorter")

    async def _send(self, piece: bytes) -> None:
        connection = self._connection
        kept = self._kept
        if kept is not None:
            self._kept_bytes += len(piece)
            if self._kept_bytes <= KEPT_BODY_BYTES or connection is None:
                kept.append(piece)
            else:
                self._kept = None
        if connection is None:  # start() sends what is remembered, this piece too
            self._replaced = asyncio.get_running_loop().create_future()
            await self._replaced
            return
        connection.write(piece)
        if self._left == 0:
            self.is_sent = True  # by the declared length: a response may now be the last of it
        if connection.write_is_paused:
            await connection.drained()


def _wrong_length(how: str) -> GatewayError:
    return GatewayError(
        400,
        f"The request's body is {how} than its content-length header says.",
        code="bad_length",
        param="content-length",
    )
