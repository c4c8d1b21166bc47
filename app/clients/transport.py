"""The client for plain HTTPS APIs: HTTP/1.1 on the event loop's own transports, pooled by origin.

`Transport.open()` is the hot path of every call, so a small request costs one write, one future and
no task. The other parts: http1_codec.py reads and writes the messages, connection.py carries them,
connection_pool.py keeps idle connections, upload.py streams bodies, proxies.py opens connections.

A kept connection may have been closed by the upstream at the very moment we write to it. If it ends
at once and before one byte of a response, the request is sent once more, on a new connection, POST
too. Strictly the upstream may have acted on it (RFC 9110, section 9.2.2); but a server that closes
an idle connection does so without having read the request, and without resending each of those
races would be a failed chat. Browsers do the same. A connection that ends later may have carried a
request that was worked on, and billed: that is an error. `UpstreamRequest.resent` counts these.
"""

import asyncio

from app.clients.address import parse_target
from app.clients.connection import Connection, TransportResponse
from app.clients.connection_pool import Limits, Origin
from app.clients.errors import bad_path, connect_timeout, unreachable
from app.clients.http1_codec import RequestHead, ResponseReader, request_head
from app.clients.proxies import dial
from app.clients.tls import TLSContext, tls_context
from app.clients.upload import Upload
from app.wire.errors import GatewayError
from app.wire.upstream import UpstreamRequest

CONTINUE_SECONDS = 1.0
# An end that comes later is no race with the upstream's closing of an idle connection.
RESEND_SECONDS = 1.0
SWEEP_SECONDS = 5.0


class Transport:
    """The client for `via="api"`. It belongs to the event loop that it is first used on."""

    def __init__(
        self,
        connect_seconds: float,
        limits: Limits | None = None,
        tls: TLSContext | None = None,
    ) -> None:
        """`connect_seconds` limits DNS, TCP, TLS and the exchange with a proxy together.

        `tls` is the context for https, `tls_context()` if None.
        """
        self._connect_seconds = connect_seconds
        self._limits = limits or Limits()
        self._tls = tls
        self.origins: dict[tuple[str, str | None], Origin] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def open(self, request: UpstreamRequest) -> TransportResponse:
        """Sends the request; returns when the response headers are there. See `Client.open`."""
        url, body = request.url, request.body
        slash = url.find("/", 8)  # after "https://"
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
        upload = None
        if body is not None and not isinstance(body, bytes):
            upload, body = Upload(body, head.length), None
        bodiless = request.method == "HEAD"
        loop = asyncio.get_running_loop()
        connection = origin.take(loop.time()) or await self._connect(origin)
        while True:
            reader = connection.reader = ResponseReader(bodiless)
            sent_at = loop.time()
            try:
                if upload is None and not head.expects_continue:
                    connection.send(head.data, body)
                else:
                    await _send_in_steps(connection, reader, head, body, upload)
                while not reader.has_head:
                    if reader.error is not None:
                        raise reader.error
                    waiter = reader.waiter = loop.create_future()
                    await waiter
            except BaseException as error:
                connection.drop(reader)
                if not _may_resend(error, connection, reader, upload, loop.time() - sent_at):
                    if upload is not None:
                        await upload.stop()
                        if upload.error is not None and isinstance(error, GatewayError):
                            raise upload.error from None
                    raise
            else:
                if upload is not None and reader.status >= 300 and not upload.is_sent:
                    # Refused while the body was still being sent: nobody reads the rest any more.
                    connection.must_close = True
                    upload.cancel()
                return TransportResponse(connection, reader, upload)
            request.resent += 1
            connection = await self._replace(origin, upload)

    async def close(self) -> None:
        """Closes all connections, busy ones too; returns when their sockets are closed."""
        self._is_closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for origin in self.origins.values():
            for connection in list(origin.connections):
                connection.abort()
        # A turn of the loop or two, once in a process's life: an event is not worth it.
        while any(origin.connections for origin in self.origins.values()):  # noqa: ASYNC110
            await asyncio.sleep(0)

    def _sweep_later(self) -> None:
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
            self._sweep_later()

    def _new_origin(self, url: str, proxy: str | None) -> tuple[Origin, int]:
        """The origin of an address not seen before, and the index where its authority ends."""
        scheme, found, rest = url.partition("://")
        if not found:
            raise bad_path("The upstream's address is not an http or https URL.")
        ends = [i for i in map(rest.find, "/?#") if i >= 0]
        end = len(scheme) + 3 + min(ends, default=len(rest))
        key = (url[:end], proxy)
        origin = self.origins.get(key)
        if origin is None:
            target = parse_target(url[:end], proxy)
            origin = self.origins[key] = Origin(target, self._limits, self._sweep_later)
        return origin, end

    async def _replace(self, origin: Origin, upload: Upload | None) -> Connection:
        """A new connection in place of a kept one that turned out to be dead."""
        if upload is not None:
            upload.detach()
        try:
            return await self._connect(origin)
        except BaseException:
            if upload is not None:
                await upload.stop()
            raise

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
        # Not before: when the task is cancelled in the turn of the loop that makes the connection,
        # uvloop calls connection_made() but never connection_lost().
        origin.connections.add(connection)
        return connection


def _may_resend(
    error: BaseException,
    connection: Connection,
    reader: ResponseReader,
    upload: Upload | None,
    seconds: float,
) -> bool:
    """Whether a kept connection turned out to be dead; `seconds` have passed since the sending."""
    return (
        error is reader.error
        and connection.is_reused
        and connection.is_lost
        and not reader.started
        and seconds < RESEND_SECONDS
        and (upload is None or upload.can_restart)
    )


async def _send_in_steps(
    connection: Connection,
    reader: ResponseReader,
    head: RequestHead,
    body: bytes | None,
    upload: Upload | None,
) -> None:
    """Sends the head, waits for 100 Continue if the request expects it, and sends the body."""
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
            return  # the final response came without the body
    if reader.error is None:
        connection.must_close = False
        if upload is not None:
            upload.start(connection, reader)
        elif body:
            connection.send(body, None)


def _give_up_waiting(reader: ResponseReader) -> None:
    reader.continued = True  # an upstream may ignore Expect: send the body then (RFC 9110, 10.1.1)
    reader.wake()


def _tidy(target: str) -> str:
    """The path as a request line may hold it: without fragment, and percent-encoded to ASCII."""
    target = target.partition("#")[0]
    if not target.startswith("/"):
        target = "/" + target
    if target.isascii():
        return target
    pieces = (c if c.isascii() else "".join(f"%{b:02X}" for b in c.encode()) for c in target)
    return "".join(pieces)
