"""The websocket client, by the `websockets` package: each read returns one whole message.

The queue between socket and reader holds four messages: a reader that does not read makes the
upstream wait. A refused handshake is an ordinary response with a status and a body. `open_frames`
is for websockets that are relayed: frames in place of messages.
"""

import asyncio
import ssl
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, InvalidStatus, InvalidURI, WebSocketException
from websockets.protocol import Event
from websockets.typing import Subprotocol

from app.clients.address import with_remote_dns
from app.clients.errors import bad_path, connect_timeout, describe, unreachable
from app.clients.frame_socket import FrameSocket, UpstreamProtocol
from app.clients.header_check import check_headers
from app.clients.shortage import shortage
from app.clients.tls import tls_context
from app.wire.errors import upstream_cut
from app.wire.upstream import Headers, UpstreamRequest

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
QUEUED_MESSAGES = 4
CLOSE_SECONDS = 0.5  # for the closing handshake: nobody reads the rest any more

# Set by the library, which compares them with the response.
_BY_LIBRARY = frozenset(
    (
        "host",
        "connection",
        "upgrade",
        "sec-websocket-key",
        "sec-websocket-version",
        "sec-websocket-extensions",
        "sec-websocket-protocol",
    )
)


class _Connect(connect):
    """Follows no redirect: it would send the caller's headers to an address nobody chose."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Returns the exception itself: not a redirect (websockets' `connect`)."""
        return exc


class _Opening(ClientConnection):
    """A connection that hands its socket over once the handshake is done.

    Frames may come in the same read as the end of the handshake: they are kept.
    """

    def __init__(self, protocol: ClientProtocol, **options: Any) -> None:
        own = UpstreamProtocol(
            protocol.uri,
            subprotocols=protocol.available_subprotocols,
            max_size=protocol.max_message_size,
        )
        protocol.parser.close()  # of the one that is not used: it refers to itself
        super().__init__(own, **options)
        self.early: list[Event] = []

    def process_event(self, event: Event) -> None:
        """Takes the response, and keeps what follows (websockets' ClientConnection)."""
        if self.response is None:
            super().process_event(event)
        else:
            self.early.append(event)


class UpstreamFrames:
    """An upstream's side of a relayed websocket: a response of status 101 without a body.

    `protocol` is the subprotocol that the upstream chose, None without one.
    """

    status = 101

    def __init__(self, connection: _Opening) -> None:
        answer = connection.response
        self.headers: Headers = (
            [(name.lower(), value) for name, value in answer.headers.raw_items()] if answer else []
        )
        self.protocol: str | None = connection.protocol.subprotocol
        self.socket = FrameSocket(connection.protocol, connection.transport, connection.early)

    async def read(self) -> bytes:
        """Returns b"": there is no body."""
        return b""

    async def close(self) -> None:
        """Closes the socket."""
        self.socket.abort()


class WebSocketResponse:
    """An open websocket; see `app.clients.WebSocket`. `status` is 101."""

    def __init__(self, connection: ClientConnection, all_open: set["WebSocketResponse"]) -> None:
        self._connection = connection
        self._all_open = all_open
        self._closed = False
        all_open.add(self)
        answer = connection.response
        self.status = 101
        self.headers: Headers = (
            [(name.lower(), value) for name, value in answer.headers.raw_items()] if answer else []
        )

    async def read(self) -> bytes:
        """Returns the next message that is not empty, b"" after a normal closure (1000).

        Raises `upstream_cut` for any other end.
        """
        while True:
            try:
                message = await self._connection.recv(decode=False)
            except ConnectionClosed as error:
                return self._at_end(error)
            if message:  # an empty one would look like the end
                return message if isinstance(message, bytes) else message.encode()

    async def send(self, data: str | bytes) -> None:
        """Sends one message. Raises `upstream_cut` unless the websocket was closed normally."""
        try:
            await self._connection.send(data)
        except ConnectionClosed as error:
            self._at_end(error)  # after a normal closure the next read returns b""

    def _at_end(self, error: ConnectionClosed) -> bytes:
        if self._closed or (error.rcvd is not None and error.rcvd.code == 1000):
            return b""
        raise upstream_cut("The upstream closed its websocket before it was done") from None

    async def close(self) -> None:
        """Closes the websocket, waiting at most CLOSE_SECONDS for the upstream. Idempotent."""
        self._all_open.discard(self)
        self._closed = True
        try:
            await self._connection.close()
        finally:
            self._connection.transport.abort()

    def abort(self) -> None:
        """Closes the socket now."""
        self._all_open.discard(self)
        self._connection.transport.abort()


class RefusedWebSocket:
    """The HTTP response of an upstream that refused the handshake."""

    def __init__(self, error: InvalidStatus) -> None:
        self.status = error.response.status_code
        self.headers: Headers = [
            (name.lower(), value) for name, value in error.response.headers.raw_items()
        ]
        self._body = bytes(error.response.body or b"")

    async def read(self) -> bytes:
        """Returns the body, then b""."""
        body, self._body = self._body, b""
        return body

    async def send(self, data: str | bytes) -> None:
        """Raises `upstream_cut`: there is no websocket."""
        raise upstream_cut("The upstream refused the websocket")

    async def close(self) -> None:
        """Forgets the body; the library has closed the connection already."""
        self._body = b""


class WebSocketClient:
    """The client for `via="websocket"`. Connections are never shared."""

    def __init__(self, connect_seconds: float) -> None:
        self._connect_seconds = connect_seconds
        self._open: set[WebSocketResponse] = set()
        self._tls: ssl.SSLContext | None = None

    async def open(self, request: UpstreamRequest) -> WebSocketResponse | RefusedWebSocket:
        """Opens a websocket and sends `request.messages`; see `Client.open`."""
        connection = await self._connect(request)
        if isinstance(connection, RefusedWebSocket):
            return connection
        response = WebSocketResponse(connection, self._open)
        try:
            for message in request.messages:
                await response.send(message)
        except BaseException:
            await response.close()
            raise
        return response

    async def open_frames(
        self, request: UpstreamRequest, max_bytes: int
    ) -> UpstreamFrames | RefusedWebSocket:
        """Opens a websocket to be relayed, whose messages may have `max_bytes`."""
        connection = await self._connect(request, _Opening, max_bytes)
        if isinstance(connection, RefusedWebSocket):
            return connection
        assert isinstance(connection, _Opening)
        return UpstreamFrames(connection)

    async def _connect(
        self,
        request: UpstreamRequest,
        create_connection: type[ClientConnection] = ClientConnection,
        max_bytes: int = MAX_MESSAGE_BYTES,
    ) -> ClientConnection | RefusedWebSocket:
        check_headers(request.headers)
        protocols = [
            Subprotocol(name.strip())
            for header, value in request.headers
            if header.lower() == "sec-websocket-protocol"
            for name in value.split(",")
        ]
        more: dict[str, Any] = {}
        if create_connection is _Opening:  # frames pass as they are, and pings are the far ends'
            more |= {"compression": None, "ping_interval": None}
        if request.url.startswith("wss:"):
            if self._tls is None:
                self._tls = tls_context()  # reading the certificates takes milliseconds
            more["ssl"] = self._tls
        try:
            return await _Connect(
                request.url,
                additional_headers=[
                    pair for pair in request.headers if pair[0].lower() not in _BY_LIBRARY
                ],
                user_agent_header=None,
                subprotocols=protocols or None,
                proxy=with_remote_dns(request.proxy) if request.proxy else None,
                create_connection=create_connection,
                max_size=max_bytes,
                max_queue=QUEUED_MESSAGES,
                open_timeout=self._connect_seconds,
                close_timeout=CLOSE_SECONDS,
                **more,
            )
        except InvalidStatus as error:
            return RefusedWebSocket(error)
        except TimeoutError:
            raise connect_timeout() from None
        except (InvalidURI, ValueError):
            raise bad_path() from None
        except (OSError, WebSocketException, EOFError) as error:
            # from None: the texts hold the address, which may hold a token or a password
            raise shortage(error) or unreachable(describe(error)) from None

    async def close(self) -> None:
        """Closes the sockets of all websockets."""
        for response in list(self._open):
            response.abort()
        await asyncio.sleep(0)  # the transports call connection_lost()
