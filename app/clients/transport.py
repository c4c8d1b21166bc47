"""Our own way to plain HTTPS APIs: HTTP/1.1 straight on the loop's transports, a pool per origin.

`Transport.open()` is the hot path of every call, so a small request costs one write, one future and
no task. What a response means is decided in http1.py, how a connection comes about in dial.py; here
they meet, and connections are kept, lent and dropped. The rule for keeping one is strict: only
after an answer that was whole, with nothing behind it and nothing of the request unsent.

A connection that was kept may have been closed by the upstream at the very moment we write to it.
If it ends at once and before one byte of an answer, the request is sent once more, on a new
connection, POST too. Strictly the upstream may have acted on it (RFC 9110, section 9.2.2); but a
server that closes a connection which idled did so without having read the request, and without this
repetition each of those races would be a failed chat. Browsers do the same. A connection that ends
later may have carried a request that was worked on, and billed: that is an error. A repetition is
counted in `UpstreamRequest.resent`.
"""

import asyncio
import ssl
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import cast

from msgspec import Struct

from app.clients.address import Target, parse_target, unreachable, why
from app.clients.http1_codec import RequestHead, ResponseReader, bad_path, request_head
from app.clients.proxies import dial
from app.clients.shortage import shortage
from app.clients.tls import TLSContext, tls_context
from app.wire.errors import GatewayError, upstream_cut
from app.wire.upstream import Headers, UpstreamRequest

# Reading stops above this many bytes that nobody took. One read of the loop may come on top.
HIGH_WATER_BYTES = 128 * 1024
SMALL_BODY_BYTES = 64 * 1024
# As much of a streamed body is remembered, so that it can be sent again like any other.
KEPT_BODY_BYTES = 64 * 1024
CONTINUE_SECONDS = 1.0
# An end that comes later is no race with the upstream's closing of an idle connection.
RESEND_SECONDS = 1.0
SWEEP_SECONDS = 5.0


class Limits(Struct, frozen=True, kw_only=True):
    """How many connections, and for how long. All per origin: one upstream starves no other."""

    max_idle: int = 256
    idle_seconds: float = 30.0
    write_seconds: float = 60.0  # an upstream that stops reading is given up after this


class TransportResponse:
    """An answer whose body is still arriving; the seam is described in app/clients/__init__.py."""

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
        """All bytes that came since the last read, b"" at the end.

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
        """Hands over all that comes, in the very turn of the loop in which it came.

        Returns True as soon as `take` says False (it may be called again later), False at the end
        of the body. What `take` raises is raised here.
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
    """One socket, at any moment idle in its origin's pool or busy with one response."""

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
        self.reader: ResponseReader | None = None
        self.upload: Upload | None = None
        self.is_idle = False
        self.is_lost = False
        self.is_paused = False
        self.is_reused = False
        self.is_tls = False
        self.must_close = False  # something of the request was left unsent
        self.write_is_paused = False
        self.idle_since = 0.0
        self.idle_limit = 0.0
        self._drained: asyncio.Future[None] | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        self._stalled_at_bytes = 0

    # from the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        reader = self.reader
        if reader is None:  # nobody asked: an answer to come would be mistaken for another's
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
        reader = self.reader
        if reader is not None and not self._was_truncated():
            with suppress(GatewayError):  # then it was not whole: connection_lost() says so
                reader.eof()
                self._finish(reader)
                _wake(reader)
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
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
                error = unreachable(why(exc))
            else:
                error = unreachable("it closed the connection without an answer")
            self.fail(reader, error)

    def pause_writing(self) -> None:
        self.write_is_paused = True
        self._stalled_at_bytes = self.transport.get_write_buffer_size()
        self._stall_timer = self.loop.call_later(
            self.origin.limits.write_seconds, self._check_stall
        )

    def resume_writing(self) -> None:
        self.write_is_paused = False
        self._stop_stall_timer()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # from those who use it

    def send(self, head: bytes, body: bytes | None) -> None:
        if not body:
            self.transport.write(head)
        elif len(body) <= SMALL_BODY_BYTES:
            self.transport.write(head + body)
        else:
            self.transport.write(head)
            self.transport.write(body)

    def write(self, data: bytes) -> None:
        """More of a body; uvloop would raise RuntimeError on a connection that just ended."""
        if not self.transport.is_closing():
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
        if self.reader is reader:
            self.is_paused = False
            self.transport.resume_reading()

    def drop(self, reader: ResponseReader) -> None:
        """Ends the connection if it is still busy with this response."""
        self.fail(reader, upstream_cut("The gateway closed the connection"))

    def abort(self) -> None:
        """Closes the socket now. Whoever still reads from it is told that the answer was cut."""
        if self.reader is not None:
            self.fail(self.reader, upstream_cut("The gateway closed the connection"))
            return
        if self.is_idle:
            self.origin.remove_idle(self)
        self.transport.abort()

    def fail(self, reader: ResponseReader, error: GatewayError) -> None:
        """The response is lost, and the connection with it, if it is still this one's."""
        if self.reader is reader:
            self.reader = None
            reader.error = error
            self.transport.abort()
            _wake(reader)

    def usable(self, now: float) -> bool:
        return now - self.idle_since < self.idle_limit and not self.transport.is_closing()

    # within

    def _finish(self, reader: ResponseReader) -> None:
        """The response is whole. Back to the pool, unless there is any doubt."""
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
        """TLS says goodbye before it closes. Without that, anybody may have cut the line."""
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

    def _check_stall(self) -> None:
        waiting = self.transport.get_write_buffer_size()
        if waiting < self._stalled_at_bytes:
            self._stalled_at_bytes = waiting
            self._stall_timer = self.loop.call_later(
                self.origin.limits.write_seconds, self._check_stall
            )
        elif self.reader is not None:
            self.fail(self.reader, write_timeout())
        else:
            self.abort()

    def _stop_stall_timer(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None


def _wake(reader: ResponseReader) -> None:
    waiter = reader.waiter
    if waiter is not None:
        reader.waiter = None
        if not waiter.done():
            waiter.set_result(None)


def write_timeout() -> GatewayError:
    return GatewayError(
        504,
        "The upstream stopped reading the request.",
        code="upstream_stalled",
        outcome="upstream_timeout",
    )


def connect_timeout() -> GatewayError:
    return GatewayError(
        504,
        "The upstream did not accept a connection in time.",
        code="upstream_timeout",
        outcome="upstream_timeout",
    )


class Upload:
    """A streamed body on its way, in a task of its own since an answer may come before its end.

    The first pieces are remembered, so that a connection found dead can be replaced under it.
    """

    def __init__(self, body: AsyncIterator[bytes], length: int) -> None:
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
        self.error: BaseException | None = None

    @property
    def can_restart(self) -> bool:
        return self._kept is not None and self.error is None

    def start(self, connection: Connection, reader: ResponseReader) -> None:
        """Begins, or goes on where a dead connection left off."""
        self._connection, self._reader = connection, reader
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="upload to an upstream")
            return
        for piece in self._kept or ():
            connection.write(piece)
        if self._replaced is not None and not self._replaced.done():
            self._replaced.set_result(None)

    def detach(self) -> None:
        """The connection died; another one will come, or cancel()."""
        self._connection = None

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def stop(self) -> None:
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
        if connection is None:  # start() sends what is kept, this piece too
            self._replaced = asyncio.get_running_loop().create_future()
            await self._replaced
            return
        connection.write(piece)
        if self._left == 0:
            self.is_sent = True  # by the length stated: an answer may now be the last of it
        if connection.write_is_paused:
            await connection.drained()


def _wrong_length(how: str) -> GatewayError:
    return GatewayError(
        400,
        f"The request's body is {how} than its content-length header says.",
        code="bad_length",
        param="content-length",
    )


class Origin:
    """The connections of one (scheme, host, port, proxy)."""

    __slots__ = (
        "_sweep_later",
        "connections",
        "dialing",
        "idle",
        "limits",
        "prefix",
        "proxy_line",
        "target",
        "tls",
    )

    def __init__(self, target: Target, limits: Limits, transport: "Transport") -> None:
        self.target = target
        # An http proxy that reads the request wants the whole address in it, and its password.
        self.prefix = f"{target.scheme}://{target.host_header}" if target.forwarded else ""
        self.proxy_line = target.proxy.authorization if target.forwarded and target.proxy else ""
        self.tls: TLSContext | None = None
        self.idle: list[Connection] = []  # the last one in is the first one out
        self.connections: set[Connection] = set()
        self.dialing = 0
        self.limits = limits
        self._sweep_later = transport.sweep_later

    def take(self, now: float) -> Connection | None:
        idle = self.idle
        while idle:
            connection = idle.pop()
            connection.is_idle = False
            if connection.usable(now):
                return connection
            connection.abort()
        return None

    def keep(self, connection: Connection, idle_seconds: float | None) -> None:
        limits = self.limits
        if connection.is_tls and not connection.is_reused and self.tls is not None:
            self.tls.remember(connection.transport.get_extra_info("ssl_object"))
        limit = limits.idle_seconds
        if idle_seconds is not None and idle_seconds < limit:
            limit = idle_seconds
        if limit <= 0 or limits.max_idle <= 0:
            connection.transport.abort()
            return
        if len(self.idle) >= limits.max_idle:
            self.idle[0].abort()
        connection.idle_since = connection.loop.time()
        connection.idle_limit = limit
        connection.is_reused = True
        connection.is_idle = True
        self.idle.append(connection)
        self._sweep_later()

    def remove_idle(self, connection: Connection) -> None:
        connection.is_idle = False
        self.idle.remove(connection)

    def forget(self, connection: Connection) -> None:
        self.connections.discard(connection)
        if connection.is_idle:
            self.remove_idle(connection)

    def sweep(self, now: float) -> None:
        for connection in [c for c in self.idle if not c.usable(now)]:
            connection.abort()

    def is_unused(self) -> bool:
        return not (self.connections or self.dialing)


class Transport:
    """The client for `via="api"`. One per worker: it belongs to the loop it is first used on."""

    def __init__(
        self,
        connect_seconds: float,
        limits: Limits | None = None,
        tls: TLSContext | None = None,
    ) -> None:
        """`connect_seconds` covers DNS, TCP, TLS and whatever a proxy wants."""
        self._connect_seconds = connect_seconds
        self._limits = limits or Limits()
        self._tls = tls
        self.origins: dict[tuple[str, str | None], Origin] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def open(self, request: UpstreamRequest) -> TransportResponse:
        """Sends the request; see `Client.open`."""
        url, body = request.url, request.body
        slash = url.find("/", 8)  # behind "https://"
        if slash < 0:
            slash = len(url)
        origin = self.origins.get((url[:slash], request.proxy))
        if origin is None:
            origin, slash = self._new_origin(url, request.proxy)
        target = url[slash:] or "/"
        if "#" in target or not target.isascii() or target[0] != "/":
            target = _tidy(target)
        head = request_head(
            request.method,
            origin.prefix + target,
            origin.target.host_header,
            request.headers,
            body,
            origin.proxy_line,
        )
        if body is not None and not isinstance(body, bytes):
            upload = Upload(body, head.length)
            body = None
        else:
            upload = None
        bodiless = request.method == "HEAD"
        loop = asyncio.get_running_loop()
        connection = origin.take(loop.time())
        if connection is None:
            connection = await self._connect(origin)
        while True:
            reader = connection.reader = ResponseReader(bodiless)
            sent_at = loop.time()
            try:
                if upload is None and not head.expects_continue:
                    connection.send(head.data, body)
                else:
                    await _send_carefully(connection, reader, head, body, upload)
                while not reader.has_head:
                    if reader.error is not None:
                        raise reader.error
                    waiter = reader.waiter = loop.create_future()
                    await waiter
            except BaseException as error:
                connection.drop(reader)
                if not (
                    error is reader.error
                    and connection.is_reused
                    and connection.is_lost
                    and not reader.started
                    and loop.time() - sent_at < RESEND_SECONDS
                    and (upload is None or upload.can_restart)
                ):
                    if upload is not None:
                        await upload.stop()
                        if upload.error is not None and isinstance(error, GatewayError):
                            raise upload.error from None
                    raise
            else:
                if upload is not None and reader.status >= 300 and not upload.is_sent:
                    # Refused while we were still sending: nobody reads the rest any more.
                    connection.must_close = True
                    upload.cancel()
                return TransportResponse(connection, reader, upload)
            request.resent += 1
            if upload is not None:
                upload.detach()
            try:
                connection = await self._connect(origin)
            except BaseException:
                if upload is not None:
                    await upload.stop()
                raise

    async def close(self) -> None:
        """Drops all connections, busy ones too; returns when their sockets are closed."""
        self._is_closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for origin in self.origins.values():
            for connection in list(origin.connections):
                connection.abort()
        # A turn of the loop or two, once in a process's life: no event needed.
        while any(origin.connections for origin in self.origins.values()):  # noqa: ASYNC110
            await asyncio.sleep(0)

    def sweep_later(self) -> None:
        if self._sweeper is None and not self._is_closed:
            self._sweeper = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        now = asyncio.get_running_loop().time()
        for key, origin in list(self.origins.items()):
            origin.sweep(now)
            if origin.is_unused():
                del self.origins[key]
        if any(origin.idle for origin in self.origins.values()):
            self.sweep_later()

    def _new_origin(self, url: str, proxy: str | None) -> tuple[Origin, int]:
        """For an address not seen before; also where the authority of a URL ends."""
        scheme, found, rest = url.partition("://")
        if not found:
            raise bad_path("The upstream's address is not an http or https URL.")
        ends = [i for i in map(rest.find, "/?#") if i >= 0]
        end = len(scheme) + 3 + min(ends, default=len(rest))
        key = (url[:end], proxy)
        origin = self.origins.get(key)
        if origin is None:
            target = parse_target(url[:end], proxy)
            origin = self.origins[key] = Origin(target, self._limits, self)
        return origin, end

    async def _connect(self, origin: Origin) -> Connection:
        origin.dialing += 1
        try:
            if self._is_closed:
                raise unreachable("the gateway is shutting down")
            proxy = origin.target.proxy
            if origin.target.scheme == "https" or (proxy is not None and proxy.scheme == "https"):
                if self._tls is None:
                    self._tls = tls_context()
                origin.tls = self._tls
            loop = asyncio.get_running_loop()
            try:
                async with asyncio.timeout(self._connect_seconds):
                    connection = await dial(
                        origin.target, lambda: Connection(origin, loop), origin.tls
                    )
            except TimeoutError as error:
                raise connect_timeout() from error
        finally:
            origin.dialing -= 1
        connection.is_tls = origin.tls is not None
        if connection.is_lost or self._is_closed:
            connection.transport.abort()
            raise unreachable("it closed the connection at once")
        # Not before: uvloop tells a connection that is made and cancelled in the same turn of its
        # beginning, but never of its end.
        origin.connections.add(connection)
        return connection


async def _send_carefully(
    connection: Connection,
    reader: ResponseReader,
    head: RequestHead,
    body: bytes | None,
    upload: Upload | None,
) -> None:
    """The head, a wait for 100 Continue when that was asked for, and the body."""
    connection.upload = upload
    connection.must_close = True  # until the body is out
    connection.transport.write(head.data)
    if head.expects_continue:
        loop = connection.loop
        timer = loop.call_later(CONTINUE_SECONDS, _give_up_waiting, reader)
        try:
            while not (reader.continued or reader.has_head or reader.error):
                waiter = reader.waiter = loop.create_future()
                await waiter
        finally:
            timer.cancel()
        if reader.has_head or reader.error:
            return  # it answered without wanting the body
    if reader.error is None:
        connection.must_close = False
        if upload is not None:
            upload.start(connection, reader)
        elif body:
            connection.send(body, None)


def _give_up_waiting(reader: ResponseReader) -> None:
    reader.continued = True  # an upstream that does not know Expect says nothing: go on (RFC 9110)
    _wake(reader)


def _tidy(target: str) -> str:
    """A path as it may stand in a request line: no fragment, nothing outside ASCII."""
    target = target.partition("#")[0]
    if not target.startswith("/"):
        target = "/" + target
    if target.isascii():
        return target
    pieces = (c if c.isascii() else "".join(f"%{b:02X}" for b in c.encode()) for c in target)
    return "".join(pieces)
