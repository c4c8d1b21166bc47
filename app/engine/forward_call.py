"""What a forwarded call is made of: the caller's request, and the state its attempts share."""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Protocol

from msgspec import Struct

from app.auth.caller import OPERATOR, Caller
from app.clients.frame_socket import FrameSocket
from app.engine.deadline import Deadline
from app.telemetry.call_log import CallRecord
from app.wire.provider import ForwardRule, Key
from app.wire.upstream import Headers


class ForwardSink(Protocol):
    """The caller's connection, behind the web framework."""

    started: bool  # the head of the answer was sent: no error can take its place any more

    async def start(self, status: int, headers: Headers, has_body: bool) -> None:
        """Sends the status line and the headers."""

    async def send(self, data: bytes) -> None:
        """Sends the next piece of the body."""

    async def end(self) -> None:
        """Ends the body properly."""

    def abort(self) -> None:
        """Closes the connection without a proper end, so that the caller sees a cut answer."""


class WebSocketSink(ForwardSink, Protocol):
    """The connection of a caller who asks for a websocket. A refusal is an ordinary answer."""

    def accept(self, protocol: str | None, headers: Headers) -> FrameSocket:
        """Accepts the handshake, with the subprotocol that the upstream chose.

        Returns the caller's side of the websocket.
        """


class ForwardCall(Struct, kw_only=True):
    """One forwarded call as a route hands it over."""

    rule: ForwardRule
    method: str
    path: str  # behind the rule's prefix, percent-encoded as it came
    query: str
    headers: Headers  # the caller's, in their order, with repetitions
    body: AsyncIterator[bytes] | None
    length: int | None  # the caller's Content-Length, None for a chunked body
    public: str  # the gateway's own address as the caller sees it
    record: CallRecord
    caller: Caller = OPERATOR
    is_websocket: bool = False  # its sink is then a WebSocketSink
    # Called with each message of the caller; raises GatewayError for one that is not to be sent.
    check_message: Callable[[bytes], None] | None = None


class ForwardState(Struct):
    """What the attempts of one forwarded call share."""

    call: ForwardCall
    sink: ForwardSink
    deadline: Deadline
    began: float  # perf_counter()
    lookup: Mapping[str, str]  # the caller's headers by lower-case name, the first of each
    own_key: Key | None  # the caller's own credential; None for a key of the pool
    in_header: bool  # the caller's headers carry their credential in the form the upstream takes
    wanted: str | None  # id of the only key that may serve the call; None for any
    body: AsyncIterator[bytes] | bytes | None  # bytes only when it can be sent a second time
    model: str  # "" when unknown, or when no key of the pool is used
    may_repeat: bool  # another key may serve the call after a failure
    id: float  # tells this call from others
    notes: Headers = []  # headers of the gateway's own for the answer
    unasked: bytes | None = None  # the caller's own body, where `body` asks for usage besides
