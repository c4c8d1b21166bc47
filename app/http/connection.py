"""A caller's connection: Sanic's HTTP/1.1, stricter about bytes and about time.

Sanic looks at how long a connection has been silent; here a request also has to come to its end,
and a caller has to take what it is sent. Before a request is routed, its head is looked at for
what two readers could understand differently, and the lock for whom it comes from.

An SDK says the same head again and again on its connection, but for the length of the body. What
was found out about the last one is kept, and trusted for the very same bytes.
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
from app.http.head_cache import KnownHead, remember
from app.http.head_check import reason_to_refuse
from app.http.http1 import StrictHttp
from app.wire.errors import GatewayError

# Slower than this over more than timeouts.request is nobody's line: it is somebody who holds one.
_MIN_BODY_BYTES_PER_SECOND = 512
_FIRST_REQUEST_SECONDS = 1.0  # what a caller who has just connected gets to begin
_MAX_AHEAD = 65536  # bytes of a request that are taken in before anybody reads them
_SPARE_FILES = 256  # for everything that is neither a caller nor an upstream
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\nconnection: close\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
)


class Protocol(HttpProtocol):
    """One connection."""

    HTTP_CLASS = StrictHttp
    __slots__ = (
        "__weakref__",
        "_asked_at",
        "_began",
        "_is_full",
        "_opened",
        "_paused_at",
        "_peer",
        "_peer_of",
        "_waited",
        "_waiter",
        "known",
    )
    living: ClassVar[WeakSet["Protocol"]] = WeakSet()

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.request_handler = handle
        self._began = self._asked_at = self._waited = self._paused_at = 0.0
        self._is_full = False  # more came than was asked for: reading is stopped
        self._waiter: asyncio.Future[None] | None = None
        self._peer: Peer | None = None
        self._peer_of: Gateway | None = None
        self.known: KnownHead | None = None

    def connection_made(self, transport: Any) -> None:
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            # Small writes are sent at once, on every event loop.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self.connections) >= max_connections():
            self.transport, self.conn_info = transport, ConnInfo(transport, unix=self._unix)
            error = GatewayError(503, "The gateway has no room for more connections; come again.")
            body = error.body()
            transport.write(_FULL % (len(body), body))
            transport.close()
            return
        super().connection_made(transport)  # type: ignore[no-untyped-call]
        self._opened = self.loop.time()
        self._began = monotonic()
        self.living.add(self)

    def data_received(self, data: bytes) -> None:
        if self._task is None:
            return
        self._time = monotonic()
        buffer = self.recv_buffer
        buffer += data
        if len(buffer) >= _MAX_AHEAD and self.transport is not None:
            self._is_full = True
            self.transport.pause_reading()
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def send(self, data: bytes) -> None:
        if not self._can_write.is_set():
            await self._can_write.wait()
        transport = self.transport
        if transport is None or transport.is_closing():
            raise RequestCancelled
        transport.write(data)
        self._time = monotonic()

    def pause_writing(self) -> None:
        self._paused_at = monotonic()
        super().pause_writing()  # type: ignore[no-untyped-call]

    def resume_writing(self) -> None:
        self._paused_at = 0.0
        super().resume_writing()  # type: ignore[no-untyped-call]

    def listen(self) -> None:
        """Reads on where too much had come at once: else a caller who leaves is not noticed."""
        if self._is_full and self.transport is not None and not self.transport.is_closing():
            self._is_full = False
            self.transport.resume_reading()

    async def receive_more(self) -> None:
        self.listen()
        self._asked_at = monotonic()
        self._waiter = self.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        now = monotonic()
        if self._http.request_body:
            self._waited += now - self._asked_at
        elif self._http.stage is Stage.IDLE:
            self._began = now
        self._asked_at = 0.0

    def check_timeouts(self) -> None:
        """Runs again and again as long as the connection lives, in place of Sanic's."""
        if self._task is None or self._http is None:
            return
        now = monotonic()
        ending = self._ending(now)
        if ending == "abort":
            self.transport.abort()  # type: ignore[union-attr]
            return
        if ending is None or ending == "request":
            limits = (self.keep_alive_timeout, self.request_timeout, self.response_timeout)
            pause = max(0.1, min(limits) / 2)
            self._callback_check_timeouts = self.loop.call_later(pause, self.check_timeouts)
        if ending == "request":
            self._http.request_body = None  # nobody waits for the rest of it
            self._http.exception = RequestTimeout("The request did not come in time")
        elif ending == "response":
            self._http.exception = ServiceUnavailable("Response Timeout")
        if ending is not None:
            self._task.cancel()

    def _ending(self, now: float) -> str | None:
        """Why the connection must end now; None: it need not."""
        http, silent = self._http, now - self._time
        if self._paused_at and now - self._paused_at > self.app.ctx.settings.timeouts.write + 5:
            return "abort"  # the answer's own clock (watch.py) was not there to end it
        if http.stage is Stage.REQUEST and now - self._began > self.request_timeout:
            return "request"
        if http.stage is not Stage.REQUEST and http.request_body and self._asked_at:
            pause = now - self._asked_at
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
        """Sanic would also close a connection whose request is already on its way in."""
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

    def introduce(self, request: Request, names: set[str]) -> None:
        """Whom the request comes from, as `request.ctx.caller`; Gateway tokens leave it here."""
        gateway: Gateway = self.app.ctx.gateway
        if self._peer_of is not gateway or self._peer is None:
            self._peer_of = gateway
            self._peer = gateway.access.peer(self.conn_info.client_ip if self.conn_info else "")
        target = request.raw_url.decode("latin-1")
        path, mark, query = target.partition("?")
        caller, kept = gateway.access.admit(
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
            self.known = remember(request, names, caller)


async def handle(request: Request) -> None:
    """What Sanic calls with every request whose head has come."""
    stream: Any = request.stream
    protocol: Protocol = stream.protocol
    known: KnownHead | None = stream.known
    try:
        if known is not None:
            request.ctx.caller = known.caller
        else:
            names = set(request.headers)
            wrong = reason_to_refuse(request.head, names, request.headers)
            if wrong:
                stream.keep_alive, stream.request_body = False, None  # where it ends is not known
                raise GatewayError(400, wrong, code="bad_request")
            if request.method != "OPTIONS":
                protocol.introduce(request, names)
        await request.app.handle_request(request)
        if protocol._paused_at:  # a whole answer is held in memory until its reader takes it
            await protocol._can_write.wait()
    finally:
        place = getattr(request.ctx, "place", None)
        if place is not None:
            place()
        protocol._began, protocol._waited = monotonic(), 0.0


_most = 0


def max_connections() -> int:
    """Half of the files that this process may open: each call needs one for its upstream too."""
    global _most
    if not _most:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = min(hard, 1 << 16) if hard > 0 else 1 << 16
        if soft != resource.RLIM_INFINITY and soft < wanted:
            with suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
                soft = wanted
        files = soft if soft > 0 else 1 << 20
        _most = max((files - _SPARE_FILES) * 3 // 4, 64)
    return _most
