"""HTTP and websocket clients: the only room that opens connections to upstreams.

`Clients.open(request)` sends one request and returns the response as soon as its headers are there.
`request.via` chooses the client; callers see no difference. One `Clients` per worker process, made
on its event loop.
"""

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Literal, Protocol

from app.wire.upstream import Headers, UpstreamReply, UpstreamRequest, Via

if TYPE_CHECKING:
    from app.clients.websocket import WebSocketClient


class Response(Protocol):
    """A response whose body is still arriving.

    `headers` keep their order and repetition; names are lower-cased. Not reading is back-pressure:
    the upstream has to wait.
    """

    status: int
    headers: Headers

    async def read(self) -> bytes:
        """Returns the next bytes as they arrived, b"" at the proper end of the body.

        Raises GatewayError `upstream_cut` when the connection ends before the body does.
        """

    async def close(self) -> None:
        """Frees the connection: it is kept if the body was complete, else closed. Idempotent."""


class Client(Protocol):
    """What every client of this room can do."""

    async def open(self, request: UpstreamRequest) -> Response:
        """Sends the request; returns when the response headers are there.

        Raises GatewayError: 502 `upstream_unreachable` (refused, reset, TLS, DNS), 504
        `upstream_timeout` when connecting takes longer than the connect timeout. Cancelling it at
        any await leaves no socket behind. Every other timeout belongs to the caller.
        """

    async def close(self) -> None:
        """Closes all connections; whoever still reads gets `upstream_cut`."""


class WebSocket(Response, Protocol):
    """What `open` returns for `via="websocket"`: read() gives one whole message at a time."""

    async def send(self, data: str | bytes) -> None:
        """Sends one message: text for str, binary for bytes. Raises `upstream_cut`."""


class Clients:
    """One client per value of `UpstreamRequest.via`, made when first needed."""

    def __init__(self, connect_seconds: float, transport: Literal["own", "httpx"] = "own") -> None:
        """`transport` "httpx" is for comparison: slower, and nothing else should differ."""
        self._connect_seconds = connect_seconds
        self._transport = transport
        self._made: dict[str, Client] = {}

    def open(self, request: UpstreamRequest) -> Coroutine[Any, Any, Response]:
        """Sends the request by the client for its `via`; see `Client.open`."""
        return self._client(request.via).open(request)

    def open_frames(
        self, request: UpstreamRequest, max_bytes: int
    ) -> Coroutine[Any, Any, Response]:
        """Opens a websocket whose frames are relayed: `app.clients.websocket.UpstreamFrames`.

        If the upstream refuses the handshake, returns its refusal. `max_bytes` is the limit of one
        message.
        """
        client: WebSocketClient = self._client("websocket")  # type: ignore[assignment]
        return client.open_frames(request, max_bytes)

    def _client(self, via: Via) -> Client:
        client = self._made.get(via)
        if client is None:
            client = self._made[via] = self._make(via)
        return client

    def _make(self, via: str) -> Client:
        # Imported late: a worker that never uses a client does not load its library.
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
        """Closes every client that was made."""
        for client in self._made.values():
            await client.close()
        self._made.clear()


async def read_whole(response: Response, max_bytes: int) -> UpstreamReply:
    """Reads the rest of a response into memory, decompresses it and closes the response.

    Raises GatewayError 502 above `max_bytes`, counted after decompression. JSON text is mended of
    lone surrogates.
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
