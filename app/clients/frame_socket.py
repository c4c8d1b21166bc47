"""One side of a relayed websocket: what comes in goes out at the other side, frame by frame.

The `websockets` package parses and writes the frames, without its connections of its own: those
hand out whole messages, by a task and a queue for each socket. Here text and binary frames,
fragments, pings and pongs pass as they come. Only the closing handshake is answered on each side.

A side that is not read makes its peer wait: the peer's socket is not read until it is.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Literal

from msgspec import Struct
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import SEND_EOF, Event, Protocol, State
from websockets.server import ServerProtocol

from app.wire.errors import GatewayError

# Their debug lines hold whole handshakes, and with them credentials.
LOGGERS = (logging.getLogger("websockets.client"), logging.getLogger("websockets.server"))
for _logger in LOGGERS:
    _logger.setLevel(logging.WARNING)

NORMAL, GOING_AWAY, NO_STATUS, ABNORMAL = 1000, 1001, 1005, 1006
POLICY, TOO_BIG, INTERNAL, RESTART = 1008, 1009, 1011, 1012
Content = bytes | bytearray | memoryview  # of a frame
_MAX_BUFFERED = 65536  # bytes that wait for a slow reader before the other side is not read
_MAX_REASON = 123  # bytes (RFC 6455, section 5.5)


class _PassesPings(Protocol):
    """Leaves the answer to a ping to the far side, as every other frame."""

    def recv_frame(self, frame: Frame) -> None:
        """Takes a frame that has been parsed (websockets' Protocol)."""
        if frame.opcode is Opcode.PING:
            self.events.append(frame)
        else:
            super().recv_frame(frame)


class CallerProtocol(_PassesPings, ServerProtocol):
    """The caller's side of the wire."""


class UpstreamProtocol(_PassesPings, ClientProtocol):
    """The upstream's side of the wire."""


class Closing(Struct, frozen=True):
    """How a side ended: it closed its websocket, broke the protocol or a limit, or is gone.

    `code` is the close code that it sent, or that it was sent if it `failed`.
    """

    how: Literal["closed", "failed", "lost"]
    code: int
    reason: str = ""


class FrameSocket(asyncio.Protocol):
    """One side, from the end of its handshake on. Nothing is read before `join`.

    `ended` becomes its Closing, `lost` is done once its socket is closed. The other members are
    called as it goes on: `heard()` at each read; `watch(data, is_last)` with the content of each
    frame of a message, before it is passed on, which may raise GatewayError to refuse it;
    `stalled(is_stalled)` when the far end stops to read, and when it goes on.
    """

    def __init__(
        self,
        protocol: Protocol,
        transport: asyncio.Transport,
        early: Sequence[Event] = (),
        unread: bytes = b"",
    ) -> None:
        """`early` are frames that were parsed, `unread` bytes that came, before it was made."""
        loop = asyncio.get_running_loop()
        self.heard: Callable[[], None] = _nothing
        self.watch: Callable[[Content, bool], None] | None = None
        self.stalled: Callable[[bool], None] = _nothing
        self.ended: asyncio.Future[Closing] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()
        self._protocol, self._transport = protocol, transport
        self._early, self._unread = early, unread
        self._peer: FrameSocket | None = None
        self._is_paused = self._is_stalled = False
        transport.set_protocol(self)
        if transport.is_closing():
            loop.call_soon(self.connection_lost, None)
        else:
            transport.set_write_buffer_limits(high=_MAX_BUFFERED)
            self._pause()

    def join(self, peer: "FrameSocket") -> None:
        """Begins to pass frames from and to `peer`."""
        self._peer, peer._peer = peer, self
        for side in (self, peer):
            side._begin()

    def close(self, code: int, reason: str = "") -> None:
        """Sends a close frame, unless one was sent; NO_STATUS sends an empty one."""
        if self._protocol.state is not State.OPEN or self._transport.is_closing():
            return
        if code == NO_STATUS:
            self._protocol.send_close()
        else:
            self._protocol.send_close(code, _cut(reason))
        self._flush()
        self._resume()  # the far end's close frame is to be read

    def abort(self) -> None:
        """Closes the socket now."""
        self._transport.abort()

    # --- what the transport calls -----------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Passes on the frames that these bytes complete."""
        self.heard()
        protocol = self._protocol
        protocol.receive_data(data)
        frames = protocol.events_received()
        if protocol.writes:
            self._flush()
        if frames:
            self._pass(frames)
        if protocol.state is not State.OPEN:
            self._end()

    def eof_received(self) -> None:
        """The far end sends no more: a websocket is over then."""
        self._protocol.receive_eof()
        self._flush()
        self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        if self.lost.done():
            return
        self._protocol.receive_eof()
        self._end()
        self._release()
        self.lost.set_result(None)

    def _release(self) -> None:
        """Cuts the circles of references, which would lie about until the collector runs."""
        self._peer = self.watch = None
        self.heard, self.stalled = _nothing, _nothing
        protocol = self._protocol
        protocol.parser.close()
        if protocol.parser_exc is not None:
            protocol.parser_exc.__traceback__ = None

    def pause_writing(self) -> None:
        """The far end does not read: the peer has to wait."""
        self._is_stalled = True
        self.stalled(True)
        if self._peer is not None:
            self._peer._pause()

    def resume_writing(self) -> None:
        """The far end reads again."""
        self._is_stalled = False
        self.stalled(False)
        if self._peer is not None:
            self._peer._resume()

    # --- frames -----------------------------------------------------------------------------

    def _begin(self) -> None:
        early, self._early = [event for event in self._early if isinstance(event, Frame)], ()
        self._pass(early)
        if self._unread:
            unread, self._unread = self._unread, b""
            self.data_received(unread)
        elif self._protocol.state is not State.OPEN:
            self._end()
        if self._peer is not None and not self._peer._is_stalled:
            self._resume()

    def _pass(self, frames: Sequence[Event]) -> None:
        """Sends frames on to the peer."""
        peer = self._peer
        if peer is None or self.ended.done():
            return
        out, watch = peer._protocol, self.watch
        for frame in frames:
            assert isinstance(frame, Frame)
            opcode = frame.opcode
            if opcode is Opcode.CLOSE:
                break  # `ended` tells it, and who waits for that closes the peer
            if watch is not None and opcode is not Opcode.PING and opcode is not Opcode.PONG:
                try:
                    watch(frame.data, frame.fin)
                except GatewayError as error:
                    self._refuse(error)
                    break
            if out.state is not State.OPEN:
                break
            out.send_frame(frame)
        peer._flush()

    def _refuse(self, error: GatewayError) -> None:
        """Closes this side for what its far end has sent."""
        if not self.ended.done():
            self.ended.set_result(Closing("failed", POLICY, error.message))
        self.close(POLICY, error.message)

    def _flush(self) -> None:
        """Writes what the protocol has to say."""
        transport = self._transport
        pieces = self._protocol.data_to_send()
        if not pieces or transport.is_closing():
            return
        is_last = pieces[-1] == SEND_EOF
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if data:
            transport.write(data)
        if is_last and not transport.is_closing():
            if transport.can_write_eof():
                transport.write_eof()
            else:
                transport.close()

    def _end(self) -> None:
        """Tells how this side ended, once it has."""
        protocol = self._protocol
        broken = protocol.parser_exc
        if self.ended.done():
            return
        if broken is not None and not isinstance(broken, EOFError):
            assert protocol.close_sent is not None
            closing = Closing("failed", protocol.close_sent.code, protocol.close_sent.reason)
        elif protocol.close_rcvd is not None:
            closing = Closing("closed", protocol.close_rcvd.code, protocol.close_rcvd.reason)
        elif broken is not None or protocol.state is State.CLOSED:
            closing = Closing("lost", ABNORMAL)
        else:
            return  # it was sent a close frame, and has not answered yet
        self.ended.set_result(closing)

    def _pause(self) -> None:
        if not self._is_paused and not self._transport.is_closing():
            self._is_paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._is_paused and not self._transport.is_closing():
            self._is_paused = False
            self._transport.resume_reading()


def _nothing(*_: object) -> None:
    pass


def _cut(reason: str) -> str:
    return reason.encode("utf-8", "replace")[:_MAX_REASON].decode("utf-8", "ignore")
