"""One HTTP/1.1 connection to an upstream, and the response that is read from it.

A connection is idle in its origin's pool, or busy with one response. It goes back to the pool only
after a response that was complete, with nothing behind it and nothing of the request unsent.
"""

import asyncio
import ssl
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from app.clients.errors import describe, unreachable
from app.clients.http1_codec import ResponseReader
from app.clients.shortage import shortage
from app.wire.errors import GatewayError, upstream_cut
from app.wire.upstream import Headers

if TYPE_CHECKING:
    from app.clients.connection_pool import Origin
    from app.clients.upload import Upload

# Reading stops above this many bytes that nobody took. One read of the loop may come on top.
HIGH_WATER_BYTES = 128 * 1024
# Up to this size, head and body are sent in one write.
SMALL_BODY_BYTES = 64 * 1024


class TransportResponse:
    """A response whose body is still arriving; see `app.clients.Response`."""

    __slots__ = ("_connection", "_reader", "_upload", "headers", "status")

    def __init__(
        self, connection: "Connection", reader: ResponseReader, upload: "Upload | None"
    ) -> None:
        self.status = reader.status
        self.headers: Headers = reader.headers
        self._connection = connection
        self._reader = reader
        self._upload = upload

    async def read(self) -> bytes:
        """Returns all bytes that came since the last read, b"" at the end.

        Cancelling it loses nothing: the next read goes on where this one stopped.
        """
        reader = self._reader
        while not reader.pieces:
            if reader.complete:
                return b""
            if reader.error is not None:
                raise reader.error
            connection = self._connection
            waiter = reader.waiter = connection.loop.create_future()
            try:
                await waiter
            finally:
                if reader.waiter is waiter:
                    reader.waiter = None
        data = reader.take()
        if self._connection.is_paused:
            self._connection.resume(reader)
        return data

    async def pump(self, take: Callable[[bytes], bool]) -> bool:
        """Calls `take` with all that comes, in the same turn of the loop in which it came.

        Returns True as soon as `take` returns False (`pump` may be called again later), False at
        the end of the body. What `take` raises is raised here.
        """
        reader, connection = self._reader, self._connection
        while True:
            if reader.pieces:
                data = reader.take()
                if connection.is_paused:
                    connection.resume(reader)
                if not take(data):
                    return True
            if reader.complete:
                return False
            if reader.error is not None:
                raise reader.error
            waiter = reader.waiter = connection.loop.create_future()
            reader.taker = take
            try:
                if await waiter:
                    return True
            finally:
                reader.taker = None
                if reader.waiter is waiter:
                    reader.waiter = None

    async def close(self) -> None:
        """Drops the connection unless the response is complete, and stops the upload."""
        if not self._reader.complete:
            self._connection.drop(self._reader)
        if self._upload is not None:
            await self._upload.stop()

    def __del__(self) -> None:
        # Nobody closed it: an owner's mistake, or wait_for() lost a result to a cancellation. The
        # collector may run in any thread, a transport only in the loop's.
        reader, connection = self._reader, self._connection
        if connection.reader is reader:
            with suppress(RuntimeError):  # the loop is closed, and all sockets with it
                connection.loop.call_soon_threadsafe(connection.drop, reader)
            warnings.warn("a response was never closed", ResourceWarning, source=self, stacklevel=1)


class Connection(asyncio.Protocol):
    """One socket, idle in its origin's pool or busy with one response."""

    __slots__ = (
        "_drained",
        "_stall_timer",
        "_stalled_at_bytes",
        "idle_limit",
        "idle_since",
        "is_idle",
        "is_lost",
        "is_paused",
        "is_reused",
        "is_tls",
        "loop",
        "must_close",
        "origin",
        "reader",
        "transport",
        "upload",
        "write_is_paused",
    )

    transport: asyncio.Transport

    def __init__(self, origin: "Origin", loop: asyncio.AbstractEventLoop) -> None:
        self.origin = origin
        self.loop = loop
        self.reader: ResponseReader | None = None  # None: not busy
        self.upload: Upload | None = None
        self.is_idle = False
        self.is_lost = False
        self.is_paused = False  # reading
        self.is_reused = False
        self.is_tls = False
        self.must_close = False  # something of the request was left unsent
        self.write_is_paused = False
        self.idle_since = 0.0
        self.idle_limit = 0.0
        self._drained: asyncio.Future[None] | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        self._stalled_at_bytes = 0

    # called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Stores the transport (asyncio.Protocol)."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Feeds the response and wakes its reader, or calls its taker (asyncio.Protocol)."""
        reader = self.reader
        if reader is None:  # no request is open: it would be mistaken for the next one's response
            self.abort()
            return
        try:
            reader.feed(data)
        except GatewayError as error:
            self.fail(reader, error)
            return
        if reader.complete:
            self._finish(reader)
        stopped = None
        waiter = reader.waiter
        take = reader.taker
        if take is not None and waiter is not None and not waiter.done():
            try:
                stopped = bool(reader.pieces) and not take(reader.take())
            except (Exception, asyncio.CancelledError) as error:
                reader.waiter = None
                waiter.set_exception(error)
                return
            if not (stopped or reader.complete):
                return
        elif reader.unread > HIGH_WATER_BYTES and not self.is_paused and not reader.complete:
            self.is_paused = True
            self.transport.pause_reading()
        if waiter is not None:
            reader.waiter = None
            if not waiter.done():
                waiter.set_result(stopped)

    def eof_received(self) -> None:
        """Completes a response that ends with the connection, and closes (asyncio.Protocol)."""
        reader = self.reader
        if reader is not None and not self._was_truncated():
            with suppress(GatewayError):  # not complete: connection_lost() raises that
                reader.eof()
                self._finish(reader)
                reader.wake()
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fails the response that is not complete, with the cause (asyncio.Protocol)."""
        self.is_lost = True
        self._stop_stall_timer()
        self.write_is_paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self.origin.forget(self)
        reader = self.reader
        if reader is not None:
            ours = shortage(exc) if exc is not None else None
            if ours is not None:
                error = ours
            elif reader.started:
                error = upstream_cut()
            elif exc is not None:
                error = unreachable(describe(exc))
            else:
                error = unreachable("it closed the connection without an answer")
            self.fail(reader, error)

    def pause_writing(self) -> None:
        """Starts the stall timer: the upstream reads too slowly (asyncio.Protocol)."""
        self.write_is_paused = True
        self._stalled_at_bytes = self.transport.get_write_buffer_size()
        self._start_stall_timer()

    def resume_writing(self) -> None:
        """Wakes `drained`: the upstream has read most of what was written (asyncio.Protocol)."""
        self.write_is_paused = False
        self._stop_stall_timer()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # called by the transport, the response and the upload

    def send(self, head: bytes, body: bytes | None) -> None:
        """Writes a request; a small body goes out in one write with the head."""
        if not body:
            self.transport.write(head)
        elif len(body) <= SMALL_BODY_BYTES:
            self.transport.write(head + body)
        else:
            self.transport.write(head)
            self.transport.write(body)

    def write(self, data: bytes) -> None:
        """Writes more of a body; nothing if the connection is ending."""
        if not self.transport.is_closing():  # uvloop would raise RuntimeError
            self.transport.write(data)

    async def drained(self) -> None:
        """Waits until the upstream has taken most of what was written, or is gone."""
        while self.write_is_paused:
            self._drained = self.loop.create_future()
            try:
                await self._drained
            finally:
                self._drained = None

    def resume(self, reader: ResponseReader) -> None:
        """Reads on after a pause, if the connection is still busy with this response."""
        if self.reader is reader:
            self.is_paused = False
            self.transport.resume_reading()

    def drop(self, reader: ResponseReader) -> None:
        """Closes the socket if the connection is still busy with this response."""
        self.fail(reader, upstream_cut("The gateway closed the connection"))

    def abort(self) -> None:
        """Closes the socket now. A response that is not complete fails with `upstream_cut`."""
        if self.reader is not None:
            self.drop(self.reader)
            return
        if self.is_idle:
            self.origin.remove_idle(self)
        self.transport.abort()

    def fail(self, reader: ResponseReader, error: GatewayError) -> None:
        """Ends the response with `error`, and the connection if it is still busy with it."""
        if self.reader is reader:
            self.reader = None
            reader.error = error
            self.transport.abort()
            reader.wake()

    def is_usable(self, now: float) -> bool:
        """Whether an idle connection may serve another request; `now` is the loop's time."""
        return now - self.idle_since < self.idle_limit and not self.transport.is_closing()

    def _finish(self, reader: ResponseReader) -> None:
        """The response is complete. Back to the pool, unless there is any doubt."""
        self.reader = None
        upload = self.upload
        if upload is not None:
            self.upload = None
            if not upload.is_sent:
                upload.cancel()
                self.must_close = True
        transport = self.transport
        if (
            reader.keep_alive
            and not reader.surplus
            and not self.must_close
            and not transport.is_closing()
            and transport.get_write_buffer_size() == 0
        ):
            if self.is_paused:
                self.is_paused = False
                transport.resume_reading()
            self.origin.keep(self, reader.idle_seconds)
        else:
            transport.abort()

    def _was_truncated(self) -> bool:
        """Whether a TLS connection ended without close_notify: anybody may have cut it then."""
        if not self.is_tls:
            return False
        tls: ssl.SSLObject | None = self.transport.get_extra_info("ssl_object")
        if tls is None:
            return False
        try:
            return bool(tls.read(1))
        except ssl.SSLZeroReturnError:
            return False
        except (ssl.SSLError, ValueError):
            return True

    def _start_stall_timer(self) -> None:
        seconds = self.origin.limits.write_seconds
        self._stall_timer = self.loop.call_later(seconds, self._check_stall)

    def _check_stall(self) -> None:
        waiting = self.transport.get_write_buffer_size()
        if waiting < self._stalled_at_bytes:
            self._stalled_at_bytes = waiting
            self._start_stall_timer()
        elif self.reader is not None:
            self.fail(self.reader, _write_timeout())
        else:
            self.abort()

    def _stop_stall_timer(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None


def _write_timeout() -> GatewayError:
    return GatewayError(
        504,
        "The upstream stopped reading the request.",
        code="upstream_stalled",
        outcome="upstream_timeout",
    )
