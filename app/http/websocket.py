"""The caller's side of a websocket: its handshake, and the socket once it has been accepted."""

from typing import Any

from sanic import Request
from websockets.datastructures import Headers as HandshakeHeaders
from websockets.http11 import Request as Handshake
from websockets.protocol import State

from app.auth.caller import Caller
from app.auth.model_scope import models_in_message
from app.clients.frame_socket import CallerProtocol, FrameSocket
from app.http.connection import Protocol
from app.http.responses import request_id
from app.http.sinks import RawSink
from app.wire.errors import GatewayError
from app.wire.upstream import Headers

# How upstreams say that they have no websocket here. After 426 Codex goes on over HTTP.
_NO_WEBSOCKET = (400, 404, 405, 501)


def wants_websocket(request: Request) -> bool:
    """Whether the request is a websocket's handshake (RFC 6455, section 4.2.1).

    Any other `Upgrade` is an offer that a server may ignore (RFC 9110, section 7.8).
    """
    headers = request.headers
    return (
        "sec-websocket-key" in headers
        and request.method == "GET"
        and "websocket" in _listed(headers.getall("upgrade", []))
        and "upgrade" in _listed(headers.getall("connection", []))
    )


def _listed(values: list[str]) -> list[str]:
    return [name.strip().lower() for value in values for name in value.split(",")]


class TokenModels:
    """Which models the messages of a caller name, whose token is for some only.

    Without a model in the address (`is_named`), the first messages have to name one.
    """

    def __init__(self, caller: Caller, family: str, is_named: bool) -> None:
        self._caller, self._family, self._is_named = caller, family, is_named

    def check(self, message: bytes) -> None:
        """Raises GatewayError 403, or 400 for a message that cannot be read with certainty."""
        models = models_in_message(message)
        for model in models:
            self._caller.allow(self._family, model)
        self._is_named = self._is_named or bool(models)
        if not self._is_named:
            self._caller.allow(self._family, None)


class CallersWebSocket(RawSink):
    """The connection of a caller who asks for a websocket. A refusal is an ordinary answer."""

    def __init__(self, request: Request, max_bytes: int, *, has_http: bool = False) -> None:
        """`max_bytes` limits a message. Where the same route `has_http`, an upstream without
        websockets is told as 426. Raises GatewayError for a handshake that is not in order."""
        super().__init__(request)
        self._has_http = has_http
        # Its own state for a handshake would read the request, which has been read.
        self._protocol = CallerProtocol(state=State.OPEN, max_size=max_bytes)
        self._response = self._protocol.accept(
            Handshake(
                request.path,
                HandshakeHeaders(request.headers.items()),
                request.method,
                f"HTTP/{request.version}",
            )
        )
        if self._response.status_code != 101:
            raise GatewayError(
                self._response.status_code,
                bytes(self._response.body or b"").decode().strip(),
                code="bad_handshake",
                outcome="refused",
            )

    async def start(self, status: int, headers: Headers, has_body: bool) -> None:
        """Sends the head of a refusal."""
        if self._has_http and status in _NO_WEBSOCKET:
            status = 426
        await super().start(status, headers, has_body)

    def accept(self, protocol: str | None, headers: Headers) -> FrameSocket:
        """Accepts the handshake, with the subprotocol that the upstream chose.

        Returns the caller's side of the websocket. Raises RequestCancelled if the caller has left.
        """
        http: Any = self._request.stream
        connection: Protocol = http.protocol
        transport, unread = connection.hand_over()
        self.started = self._request.responded = True
        http.response_func = None
        answered = self._response.headers
        if protocol is not None:
            answered["Sec-WebSocket-Protocol"] = protocol
        for name, value in (("x-request-id", request_id(self._request)), *headers):
            if name != "date":
                answered[name] = value
        transport.write(self._response.serialize())
        socket = FrameSocket(self._protocol, transport, unread=unread)
        socket.lost.add_done_callback(lambda _: connection.socket_lost())
        return socket
