"""One connection of a caller: its timeouts, its back-pressure, and the checks before routing.

Sanic's only clock is how long a connection has been silent. Here a request also has to arrive
within its time, and the caller has to read what it is sent. Before a request is routed, its head is
checked for what two readers could understand differently, and the request is authenticated.
"""

import asyncio
import fcntl
import resource
import socket
import struct
import termios
from contextlib import suppress
from time import monotonic
from typing import Any, ClassVar, cast
from weakref import WeakSet

from httptools import parse_url
from sanic import Request
from sanic.exceptions import (
    RequestCancelled,
    RequestTimeout,
    ServiceUnavailable,
)
from sanic.http import Stage
from sanic.models.server_types import ConnInfo
from sanic.server.protocols.http_protocol import HttpProtocol

from app.auth.peers import Peer
from app.engine.gateway import Gateway
from app.fronts.openai_chat.errors import error_body
from app.http.head_cache import KnownHead, remember
from app.http.head_check import reason_to_refuse
from app.http.http1 import StrictHttp
from app.wire.errors import GatewayError

# A body slower than this for longer than timeouts.request comes from no slow line: somebody holds
# the connection on purpose.
_MIN_BODY_BYTES_PER_SECOND = 512
_FIRST_REQUEST_SECONDS = 1.0  # what a new connection gets to send its first request
_MAX_BUFFERED = 65536  # bytes that are received before anybody reads them; then reading stops
_SPARE_FILES = 256  # file descriptors for all but callers and upstreams
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\nconnection: close\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
)


class Protocol(HttpProtocol):
    """Sanic's protocol of one connection with timeouts for each direction and back-pressure."""

    HTTP_CLASS = StrictHttp
    __slots__ = (
        "__weakref__",
        "_began",
        "_is_reading_paused",
        "_opened",
        "_paused_at",
        "_peer",
        "_peer_of",
        "_waited",
        "_waiter",
        "_waits_since",
        "known",
    )
    open_connections: ClassVar[WeakSet["Protocol"]] = WeakSet()  # of this process

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.request_handler = handle
        self._began = self._waits_since = self._waited = self._paused_at = 0.0
        self._is_reading_paused = False  # more came than was read
        self._waiter: asyncio.Future[None] | None = None
        self._peer: Peer | None = None
        self._peer_of: Gateway | None = None
        self.known: KnownHead | None = None

    def connection_made(self, transport: Any) -> None:
        """Refuses the connection with 503 above `max_connections`."""
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            # Small writes are sent at once, on every event loop.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self.connections) >= max_connections():
            self.transport, self.conn_info = transport, ConnInfo(transport, unix=self._unix)
            error = GatewayError(503, "The gateway has no room for more connections; come again.")
            body = error_body(error)
            transport.write(_FULL % (len(body), body))
            transport.close()
            return
        super().connection_made(transport)  # type: ignore[no-untyped-call]
        self._opened = self.loop.time()
        self._began = monotonic()
        self.open_connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Buffers what came and wakes `receive_more`; stops reading at 64 KiB."""
        if self._task is None:
            return
        self._time = monotonic()
        buffer = self.recv_buffer
        buffer += data
        if len(buffer) >= _MAX_BUFFERED and self.transport is not None:
            self._is_reading_paused = True
            self.transport.pause_reading()
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def send(self, data: bytes) -> None:
        """Writes, once the transport takes more. Raises RequestCancelled when it is closed."""
        if not self._can_write.is_set():
            await self._can_write.wait()
        transport = self.transport
        if transport is None or transport.is_closing():
            raise RequestCancelled
        transport.write(data)
        self._time = monotonic()

    def pause_writing(self) -> None:
        """The caller reads too slowly: starts the clock of timeouts.write."""
        self._paused_at = monotonic()
        super().pause_writing()  # type: ignore[no-untyped-call]

    def resume_writing(self) -> None:
        """The caller has read."""
        self._paused_at = 0.0
        super().resume_writing()  # type: ignore[no-untyped-call]

    def listen(self) -> None:
        """Resumes reading, so that a caller who disconnects is noticed."""
        if (
            self._is_reading_paused
            and self.transport is not None
            and not self.transport.is_closing()
        ):
            self._is_reading_paused = False
            self.transport.resume_reading()

    async def receive_more(self) -> None:
        """Waits for more bytes of the request, and counts the wait."""
        self.listen()
        self._waits_since = monotonic()
        self._waiter = self.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        now = monotonic()
        if self._http.request_body:
            self._waited += now - self._waits_since
        elif self._http.stage is Stage.IDLE:
            self._began = now
        self._waits_since = 0.0

    def check_timeouts(self) -> None:
        """Ends the connection or its request when a timeout has expired; calls itself again.

        Replaces Sanic's method of this name.
        """
        if self._task is None or self._http is None:
            return
        now = monotonic()
        expired = self._expired_timeout(now)
        if expired == "abort":
            self.transport.abort()  # type: ignore[union-attr]
            return
        if expired is None or expired == "request":
            limits = (self.keep_alive_timeout, self.request_timeout, self.response_timeout)
            pause = max(0.1, min(limits) / 2)
            self._callback_check_timeouts = self.loop.call_later(pause, self.check_timeouts)
        if expired == "request":
            self._http.request_body = None  # nobody waits for the rest of it
            self._http.exception = RequestTimeout("The request did not come in time")
        elif expired == "response":
            self._http.exception = ServiceUnavailable("Response Timeout")
        if expired is not None:
            self._task.cancel()

    def _expired_timeout(self, now: float) -> str | None:
        """The timeout that expired (abort, request, idle, response), or None."""
        http, silent = self._http, now - self._time
        if self._paused_at and now - self._paused_at > self.app.ctx.settings.timeouts.write + 5:
            return "abort"  # the call's own deadline did not end it
        if http.stage is Stage.REQUEST and now - self._began > self.request_timeout:
            return "request"
        if http.stage is not Stage.REQUEST and http.request_body and self._waits_since:
            pause = now - self._waits_since
            waited = self._waited + pause
            came = http.request_bytes - http.request_bytes_left
            if pause > self.request_timeout or (
                waited > self.request_timeout and came < waited * _MIN_BODY_BYTES_PER_SECOND
            ):
                return "request"
        if http.stage is Stage.IDLE:
            return "idle" if silent > self.keep_alive_timeout else None
        if http.stage is not Stage.REQUEST and silent > self.response_timeout:
            return "response"
        return None

    def close_if_idle(self) -> bool:
        """Closes a connection without a request, True if so; ends keep-alive on one that has one.

        Sanic would also close a connection whose request is already on its way in.
        """
        http = self.http
        if http is not None and http.stage is not Stage.IDLE:
            if http.stage in (Stage.HANDLER, Stage.RESPONSE):
                http.keep_alive = False  # Sanic's loop would wait for the next request
            return False
        is_new = http is None or http.request is None
        if self.recv_buffer or (
            is_new and self.loop.time() < self._opened + _FIRST_REQUEST_SECONDS
        ):
            return False
        if self._has_unread():
            return False
        self.close()
        return True

    def _has_unread(self) -> bool:
        sock = self.transport.get_extra_info("socket") if self.transport else None
        if sock is None or sock.fileno() < 0:
            return False
        counted = fcntl.ioctl(sock.fileno(), termios.FIONREAD, b"\0\0\0\0")
        return bool(struct.unpack("i", counted)[0])

    def hand_over(self) -> tuple[asyncio.Transport, bytes]:
        """Gives the socket away to a websocket, with what came behind the request.

        Raises RequestCancelled if the caller has left. `socket_lost` is to be called at its end.
        """
        transport = self.transport
        if transport is None or transport.is_closing():
            raise RequestCancelled
        if self._callback_check_timeouts is not None:
            self._callback_check_timeouts.cancel()  # a websocket has its own
        unread = bytes(self.recv_buffer)
        self.recv_buffer.clear()
        self._http.keep_alive = False
        return transport, unread

    def socket_lost(self) -> None:
        """The socket that was given away is closed: it is one connection less."""
        self.connections.discard(self)
        self.resume_writing()
        if self.conn_info is not None:
            self.conn_info.lost = True

    def current_head(self) -> KnownHead | None:
        """The last request's head, unless access tokens were changed since."""
        known = self.known
        if known is not None and known.tokens != self.app.ctx.gateway.tokens.version:
            return None
        return known

    def authenticate(self, request: Request, names: set[str]) -> None:
        """Authenticates the request, sets ctx.caller, strips access tokens."""
        gateway: Gateway = self.app.ctx.gateway
        if self._peer_of is not gateway or self._peer is None:
            self._peer_of = gateway
            self._peer = gateway.access.peer(self.conn_info.client_ip if self.conn_info else "")
        target = request.raw_url.decode("latin-1")
        path, mark, query = target.partition("?")
        caller, kept = gateway.access.authenticate(
            self._peer,
            path,
            query,
            names,
            cast(Any, request.headers),
            request.head,
        )
        request.ctx.caller = caller
        if kept != query:
            request.raw_url = (f"{path}{mark}{kept}" if kept else path).encode("latin-1")
            request._parsed_url = parse_url(request.raw_url)
            self.known = None
        else:
            self.known = remember(request, names, caller, gateway.tokens.seen)


async def handle(request: Request) -> None:
    """Checks, authenticates and answers one request whose head has been parsed.

    Sanic calls it for every request. Raises GatewayError 400 for an ambiguous head, 401 and 429
    from authentication; Sanic hands both to the error handler.
    """
    stream: Any = request.stream
    protocol: Protocol = stream.protocol
    known: KnownHead | None = stream.known
    try:
        if known is not None:
            request.ctx.caller = known.caller
        else:
            names = set(request.headers)
            reason = reason_to_refuse(request.head, names, request.headers)
            if reason:
                stream.keep_alive, stream.request_body = False, None  # its end is not known
                raise GatewayError(400, reason, code="bad_request")
            if request.method != "OPTIONS":
                tokens = request.app.ctx.gateway.tokens
                if tokens.seen != tokens.version:
                    await tokens.refresh()
                protocol.authenticate(request, names)
        await request.app.handle_request(request)
        if protocol._paused_at:  # a whole answer is held in memory until its reader takes it
            await protocol._can_write.wait()
    finally:
        release = getattr(request.ctx, "release", None)
        if release is not None:
            release()
        protocol._began, protocol._waited = monotonic(), 0.0


_max_connections = 0


def max_connections() -> int:
    """Three quarters of the file limit, less 256; raises the soft limit first.

    Not every connection has a call, and a call needs a second file for its upstream.
    """
    global _max_connections
    if not _max_connections:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = min(hard, 1 << 16) if hard > 0 else 1 << 16
        if soft != resource.RLIM_INFINITY and soft < wanted:
            with suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
                soft = wanted
        files = soft if soft > 0 else 1 << 20
        _max_connections = max((files - _SPARE_FILES) * 3 // 4, 64)
    return _max_connections
