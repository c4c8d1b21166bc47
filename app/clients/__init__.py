"""The sockets: the only floor that talks to upstreams.

`Clients.open(request)` sends one request and returns its answer as soon as the headers are there.
Which library moves the bytes is decided by `request.via` and nobody above this floor can tell.
One `Clients` per worker process, made on its event loop.
"""

from collections.abc import Coroutine
from typing import Any, Literal, Protocol

from app.wire.upstream import Headers, UpstreamReply, UpstreamRequest


class Response(Protocol):
    """An answer whose body is still arriving.

    `headers` keep their order and repetition, names lower-cased. Not reading is backpressure.
    """

    status: int
    headers: Headers

    async def read(self) -> bytes:
        """The next bytes as they arrived, b"" at the proper end of the body.

        Raises GatewayError `upstream_cut` when the connection ends before the body does.
        """

    async def close(self) -> None:
        """Gives the connection back if the body was read to its end, else drops it. Idempotent."""


class Client(Protocol):
    async def open(self, request: UpstreamRequest) -> Response:
        """Sends the request; returns when the response headers are there.

        Raises GatewayError: 502 `upstream_unreachable` (refused, reset, TLS, DNS), 504
        `upstream_timeout` when connecting takes longer than the connect timeout. Cancelling it at
        any await leaves no socket behind. Every other timeout belongs to the caller.
        """

    async def close(self) -> None: ...


class WebSocket(Response, Protocol):
    """What `open` returns for `via="websocket"`: read() gives one whole message at a time."""

    async def send(self, data: str | bytes) -> None: ...


class Clients:
    """One client per way of reaching an upstream, made when first needed."""

    def __init__(self, connect_seconds: float, transport: Literal["own", "httpx"] = "own") -> None:
        """`transport` "httpx" is there for comparison: slower, and nothing else should differ."""
        self._connect_seconds = connect_seconds
        self._transport = transport
        self._made: dict[str, Client] = {}

    def open(self, request: UpstreamRequest) -> Coroutine[Any, Any, Response]:
        client = self._made.get(request.via)
        if client is None:
            client = self._made[request.via] = self._make(request.via)
        return client.open(request)

    def _make(self, via: str) -> Client:
        # Imported late: a worker that never needs a browser does not load its library.
        match via:
            case "browser":
                from app.clients.browser import BrowserClient

                return BrowserClient(self._connect_seconds)
            case "websocket":
                from app.clients.websocket import WebSocketClient

                return WebSocketClient(self._connect_seconds)
            case _ if self._transport == "own":
                from app.clients.transport import Transport

                return Transport(self._connect_seconds)
            case _:
                from app.clients.httpx_client import ApiClient

                return ApiClient(self._connect_seconds)

    async def close(self) -> None:
        for client in self._made.values():
            await client.close()
        self._made.clear()


async def read_whole(response: Response, max_bytes: int) -> UpstreamReply:
    """The rest of an answer in memory, content encodings undone, and the connection given back.

    Raises GatewayError 502 above `max_bytes`, counted after decompression.
    """
    from app.clients.decompress import decode_body
    from app.wire.errors import bad_response
    from app.wire.surrogates import mend

    try:
        pieces: list[bytes] = []
        size = 0
        while piece := await response.read():
            size += len(piece)
            if size > max_bytes:
                raise bad_response(f"The upstream's answer is larger than {max_bytes} bytes.")
            pieces.append(piece)
    finally:
        await response.close()
    headers = dict(response.headers)
    body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    set_cookies = [value for name, value in response.headers if name == "set-cookie"]
    body = decode_body(body, headers, max_bytes)
    if body.lstrip()[:1] in (b"{", b"["):
        body = mend(body)
    return UpstreamReply(response.status, headers, body, set_cookies)
