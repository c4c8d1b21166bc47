"""The three framings of ChatGPT web's answers, brought down to one: SSE bytes.

The answer is SSE itself, or JSON with `wss_url`: then the SSE comes in pieces over a websocket,
base64 inside JSON. Source: recorded answers and public clients of chatgpt.com.
"""

import base64
import binascii
from collections.abc import Iterator

import msgspec

from app.wire.errors import bad_response, upstream_cut
from app.wire.events import Follow, Reply
from app.wire.framing import JsonArrayParser
from app.wire.surrogates import mend
from app.wire.upstream import UpstreamRequest
from providers.openai import web_errors
from providers.openai.web_schema import Elsewhere, Frame, FrameData

ACK_EVERY = 80  # the service stops after about 1000 frames without one
SUBPROTOCOL = "json.reliable.webpubsub.azure.v1"
_elsewhere = msgspec.json.Decoder(Elsewhere)
_frame = msgspec.json.Decoder(Frame)


class AnswerFrames:
    """Undoes the framing: bytes of any form in, SSE bytes and events for the engine out.

    Used by the translating decoder and by the one that passes the stream on unchanged.
    """

    def __init__(self, origin: str, user_agent: str, proxy: str | None) -> None:
        self._origin, self._user_agent, self._proxy = origin, user_agent, proxy
        self._first = True
        self._json: JsonArrayParser | None = None
        self._elsewhere: Elsewhere | None = None
        self._sequence = 0
        self._acked = 0

    def feed(self, data: bytes) -> Iterator[bytes | Follow | Reply]:
        """SSE bytes, and events for the engine, in order."""
        if self._elsewhere is not None:
            yield from self._message(data)
            return
        if self._first:
            data = data.lstrip()
            if not data:
                return
            self._first = False
            if data[:1] in (b"{", b"["):
                self._json = JsonArrayParser()
            elif data[:1] == b"<":
                raise web_errors.web_page(data)
        if self._json is None:
            yield data
            return
        for whole in self._json.feed(data):
            yield self._follow(whole)
            return

    def finish(self) -> None:
        """Raises GatewayError 502 when the body ended before an answer began."""
        if self._first:
            raise upstream_cut("chatgpt.com closed the connection without an answer")
        if self._json is not None and self._elsewhere is None:
            raise bad_response("chatgpt.com's JSON answer ended early.")

    def _follow(self, body: bytes) -> Follow:
        try:
            found = _elsewhere.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise web_errors.in_json(body) from None
        if not found.wss_url.startswith(("wss://", "ws://")):
            raise web_errors.in_json(body)
        self._elsewhere = found
        headers = [
            ("User-Agent", self._user_agent),
            ("Origin", self._origin),
            ("Sec-WebSocket-Protocol", SUBPROTOCOL),
        ]
        return Follow(
            UpstreamRequest(
                method="GET",
                url=found.wss_url,
                headers=headers,
                via="websocket",
                proxy=self._proxy,
            )
        )

    def _message(self, data: bytes) -> Iterator[bytes | Reply]:
        try:
            frame = _frame.decode(mend(data))
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise bad_response("chatgpt.com's websocket sent what is no JSON frame.") from None
        if frame.sequenceId is not None:
            self._sequence = max(self._sequence, frame.sequenceId)
            if self._sequence - self._acked >= ACK_EVERY:
                self._acked = self._sequence
                yield Reply(f'{{"type":"sequenceAck","sequenceId":{self._sequence}}}')
        piece: FrameData | Frame = frame
        if isinstance(frame.data, dict):
            try:
                piece = msgspec.convert(frame.data, FrameData)
            except msgspec.ValidationError:
                return
        if not piece.body or not self._is_ours(piece):
            return
        try:
            yield base64.b64decode(piece.body, validate=True)
        except (binascii.Error, ValueError):
            raise bad_response("chatgpt.com's websocket sent broken base64.") from None

    def _is_ours(self, piece: FrameData | Frame) -> bool:
        """Other answers of the same account arrive here too."""
        assert self._elsewhere is not None
        for theirs, ours in (
            (piece.conversation_id, self._elsewhere.conversation_id),
            (piece.response_id, self._elsewhere.response_id),
        ):
            if theirs and ours and theirs != ours:
                return False
        return True

    @property
    def is_plain(self) -> bool:
        """The answer is plain SSE: further bytes need not pass through `feed`."""
        return not self._first and self._json is None

    @property
    def on_websocket(self) -> bool:
        """The answer goes on at a websocket, which does not end by itself."""
        return self._elsewhere is not None
