"""Events as the server-sent events of Responses.

Each has an `event:` line and a number, counted from 0 without gaps; one of response.completed,
.incomplete and .failed ends the stream, and no [DONE]. Protocol sheet: front-responses, 4.2.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from app.fronts.openai_responses.base import (
    REFUSAL,
    TEXT,
    THOUGHT,
    Object,
    ResponsesRenderer,
    logprobs_of_piece,
)
from app.fronts.openai_responses.errors import event_of, failure_of
from app.wire.errors import GatewayError
from app.wire.events import Event, Text, TokenLogprob
from app.wire.front import Answering
from app.wire.provider import Decoder
from app.wire.renderer import SSE
from app.wire.stream_start import Stage

encode = msgspec.json.encode
_KINDS = {TEXT: "output_text", REFUSAL: "refusal", THOUGHT: "reasoning_summary_text"}
_NO_LOGPROBS = b',"logprobs":[]'


class ResponseStream(ResponsesRenderer):
    """Responses events. What stands around a piece is encoded once per item."""

    content_type = SSE

    def __init__(self, answering: Answering, decoder: Decoder) -> None:
        super().__init__(answering, decoder)
        self._out: list[bytes] = []
        self._number = 0  # of the next event
        self._head = b""  # of the pieces of `_headed`
        self._headed = (-1, "", -1)  # item, kind and part

    def feed(self, data: bytes) -> bytes:
        """Renders a piece of the upstream's answer."""
        try:
            self._tell_all(self.decoder.feed(data))
        except GatewayError as error:
            # What was said in the same read stands before the error, unless nothing was sent yet:
            # then the caller gets a true status, or another key's answer.
            error.said = self._taken_out()
            raise
        return self._taken_out()

    def finish(self, *, is_cut: bool = False) -> bytes:
        """Renders the end. Raises GatewayError 502 for an answer without an ending."""
        try:
            status, reason = self.conclude()
        except GatewayError as error:
            error.said = self._taken_out()
            raise
        self.tell(f"response.{status}", {"response": self.concluded(status, reason)})
        return self._taken_out()

    def opening(self, out: bytes) -> Stage:
        """Whether text, thinking, a call or an end was said."""
        if self.said:
            self._options.live = self  # the one that ends the stream, should it fail
        return super().opening(out)

    def failed(self, error: GatewayError) -> bytes:
        """The events that end a stream which has begun: open items stay open."""
        told, status = failure_of(error), "failed"
        self.tell("error", {"error": told})
        code = {"code": told["code"], "message": told["message"]}
        self.tell("response.failed", {"response": self.answer.object(status, error=code)})
        return self._taken_out()

    def awake(self) -> bytes:
        """An event that says nothing new, for idle timers that comments do not reset."""
        if self._finish is not None:
            return b""
        self.tell("response.in_progress", {"response": self.answer.begun()})
        return self._taken_out()

    def _tell_all(self, events: Iterable[Event]) -> None:
        out = self._out
        for event in events:
            # The hot line first: nine of ten events are plain text of an open part.
            if (
                type(event) is Text
                and self._open == TEXT == self._headed[1]
                and not event.index
                and event.logprobs is None
            ):
                if text := event.text:
                    piece = encode(text)
                    self._pieces.append(text)
                    out.append(
                        b'%b%b,"logprobs":[],"sequence_number":%d}\n\n'
                        % (self._head, piece, self._number)
                    )
                    self._number += 1
            else:
                self.take(event)

    def _taken_out(self) -> bytes:
        out = b"".join(self._out)
        self._out.clear()
        return out

    # --- what an answer is told by --------------------------------------------------------------

    def begin(self) -> None:
        """response.created and .in_progress."""
        begun = {"response": self.answer.begun()}
        self.tell("response.created", begun)
        self.tell("response.in_progress", begun)

    def tell(self, kind: str, fields: Object) -> None:
        """Any event but a piece of something."""
        self._headed = (-1, "", -1)
        self._out.append(event_of(kind, fields, self._number))
        self._number += 1

    def piece(self, kind: str, text: str, logprobs: list[TokenLogprob] | None = None) -> None:
        """A delta of the part, the summary or the input that is open."""
        item = self.output[-1]
        part = len(item["content"]) if "content" in item else 0
        if self._headed != (self.place, kind, part):
            self._headed = self.place, kind, part
            name = kind if kind.startswith("response.") else f"response.{_KINDS[kind]}"
            index: dict[str, Any] = {}
            if kind == THOUGHT:
                index = {"summary_index": 0}
            elif kind in _KINDS:
                index = {"content_index": part}
            fields = encode({"type": f"{name}.delta", **self._at(**index)})
            head = b'event: %b.delta\ndata: %b,"delta":' % (name.encode(), fields[:-1])
            self._head = head
        tail = b""
        if kind == TEXT:
            tail = _NO_LOGPROBS
            if logprobs:
                tail = b',"logprobs":' + encode(logprobs_of_piece(logprobs))
        self._out.append(
            b'%b%b%b,"sequence_number":%d}\n\n' % (self._head, encode(text), tail, self._number)
        )
        self._number += 1
