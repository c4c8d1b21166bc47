"""Events as the server-sent events of Messages.

Each has an `event:` line, without which Anthropic's SDKs drop it. None but these names is sent, for
clients fail at unknown ones. There is no [DONE]. Protocol sheet: front-messages, 5.1.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from app.fronts.anthropic.base import TEXT, THINKING, MessagesRenderer
from app.wire.errors import GatewayError
from app.wire.events import Event, Text
from app.wire.front import Answering
from app.wire.provider import Decoder
from app.wire.renderer import SSE

KEEP_ALIVE = b'event: ping\ndata: {"type": "ping"}\n\n'
encode = msgspec.json.encode

# What stands around a piece, by its kind.
_DELTAS = {
    TEXT: b'"delta":{"type":"text_delta","text":',
    THINKING: b'"delta":{"type":"thinking_delta","thinking":',
    "signature": b'"delta":{"type":"signature_delta","signature":',
    "input_json": b'"delta":{"type":"input_json_delta","partial_json":',
}
_DELTA_END = b"}}\n\n"


class MessageStream(MessagesRenderer):
    """Messages events. What stands around a piece is encoded once per block."""

    content_type = SSE

    def __init__(self, answering: Answering, decoder: Decoder) -> None:
        super().__init__(answering, decoder)
        self._out: list[bytes] = []
        self._headed = (-1, "")  # block and kind of the last piece
        self._head = b""  # what stands before it
        self._text_head = b""  # the same while a text is open, else empty

    def feed(self, data: bytes) -> bytes:
        """Renders a piece of the upstream's answer."""
        try:
            events = self.decoder.feed(data)
            if self._cutter is None:
                self._tell(events)
            else:
                self.take_all(events)
        except GatewayError as error:
            # What was said in the same read stands before the error, unless nothing was sent yet:
            # then the caller gets a true status, or another key's answer.
            error.said = self._taken_out()
            raise
        return self._taken_out()

    def finish(self, *, is_cut: bool = False) -> bytes:
        """Renders the end. Raises GatewayError 502 for an answer without an ending."""
        try:
            stop = self.conclude()
        except GatewayError as error:
            error.said = self._taken_out()
            raise
        self._event("message_delta", {"delta": stop, "usage": self.counts.ended()})
        self._event("message_stop", {})
        return self._taken_out()

    def _tell(self, events: Iterable[Event]) -> None:
        out = self._out
        for event in events:
            # The hot line first: nine of ten events are plain text of an open block.
            if type(event) is Text and (head := self._text_head) and not event.index:
                piece = encode(event.text)
                if len(piece) > 2:
                    self.counts.bytes += len(piece) - 2
                    out += (head, piece, _DELTA_END)
            else:
                self.take(event)

    def _taken_out(self) -> bytes:
        out = b"".join(self._out)
        self._out.clear()
        return out

    # --- what an answer is told by ------------------------------------------------------------

    def begin(self) -> None:
        """message_start, with the caller's own name of the model."""
        message: dict[str, Any] = {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": self.counts.begun(),
        }
        self._event("message_start", {"message": message})

    def open_block(self, block: dict[str, Any]) -> None:
        """content_block_start; a tool's `input` is always empty in it."""
        self._event("content_block_start", {"index": self._blocks, "content_block": block})

    def add(self, index: int, kind: str, piece: str) -> None:
        """content_block_delta."""
        if self._headed != (index, kind):
            self._headed = index, kind
            self._head = (
                b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,%b'
                % (index, _DELTAS[kind])
            )
        if kind == TEXT:
            self._text_head = self._head
        self._out += (self._head, encode(piece), _DELTA_END)

    def close_block(self, index: int) -> None:
        """content_block_stop."""
        self._text_head = b""
        self._event("content_block_stop", {"index": index})

    def _event(self, name: str, fields: dict[str, Any]) -> None:
        data = encode({"type": name, **fields})
        self._out.append(b"event: %b\ndata: %b\n\n" % (name.encode(), data))
