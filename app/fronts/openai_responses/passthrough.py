"""A Responses answer handed on byte for byte: streams by whole events, bodies whole.

Nothing is read of it but what the gateway must know: its error, its usage, whether it is whole, and
its id, which leads the next turn back to the same key. Protocol sheet: front-responses, 2.
"""

import re
from typing import Any

from msgspec import Raw

from app.fronts.openai_chat.passthrough import Whole
from app.fronts.openai_responses.errors import event_of, failure_of
from app.fronts.typed_stream import TypedStream
from app.wire.errors import GatewayError
from app.wire.framing import Record, SSEParser
from app.wire.front import Answering
from app.wire.stream_end import decoded
from app.wire.stream_start import Stage

_ENDS = ("response.completed", "response.incomplete", "response.failed", "error")
_END = re.compile(rb'"type" ?: ?"(?:response\.(?:completed|incomplete|failed)|error)"').search
_ID = re.compile(rb'"id" ?: ?"(resp_[A-Za-z0-9_-]{8,120})"').search
_ID_BYTES = 4096  # of a body, in which its id stands
_LARGE = 64 * 1024  # an event that the tail may not hold as a whole
_NOT_ONLY_AN_ERROR = Raw(b"[0]")


class ResponsesPassthrough(TypedStream):
    """Whole events, byte for byte. A stream is whole when one of the four last events was said."""

    def __init__(self, answering: Answering) -> None:
        super().__init__(answering)
        self._answering = answering

    @staticmethod
    def is_end(record: Record) -> bool:
        """Whether this event ends a stream."""
        name, data = record
        if name.decode("latin-1") in _ENDS:
            return True
        if _END(data) is None:
            return False
        value = decoded(record)
        return isinstance(value, dict) and value.get("type") in _ENDS

    def feed(self, data: bytes) -> bytes:
        """Returns what may be sent on of the piece."""
        out = super().feed(data)
        if len(out) > _LARGE and _END(out):
            self._has_ended = True  # its last event repeats the whole answer
        return out

    def opening(self, out: bytes) -> Stage:
        """How far the answer has come with the first bytes. Raises the error they hold."""
        stage = super().opening(out)
        if stage is Stage.SAID:
            self._answering.asked.options.live = self
            _remember(self._answering, self._first)
        return stage

    def failed(self, error: GatewayError) -> bytes:
        """The events that end a stream which has broken off."""
        response: dict[str, Any] = {}
        number = -1
        for record in SSEParser().feed(self._first) + self._tail.records():
            value = decoded(record)
            if isinstance(value, dict):
                held, count = value.get("response"), value.get("sequence_number")
                response = response or (held if isinstance(held, dict) else {})
                number = count if isinstance(count, int) else number + 1
        told = failure_of(error)
        code = {"code": told["code"], "message": told["message"]}
        return event_of("error", {"error": told}, number + 1) + event_of(
            "response.failed",
            {"response": {**response, "status": "failed", "error": code}},
            number + 2,
        )

    def awake(self) -> bytes:
        """Nothing: the numbers are the upstream's."""
        return b""


class WholeBody(Whole):
    """A JSON body, handed on as it came once it is known to be whole and JSON."""

    def __init__(self, answering: Answering) -> None:
        super().__init__(answering)
        self._answering = answering

    def finish(self, *, is_cut: bool = False) -> bytes:
        """Returns the body. Raises GatewayError 502 for an answer that is not whole."""
        body = super().finish(is_cut=is_cut)
        _remember(self._answering, body[:_ID_BYTES])
        return body

    @staticmethod
    def _read(body: bytes) -> Any:
        glance = Whole._read(body)
        # An answer that has failed is an answer: it has an id, and perhaps some output.
        glance.choices = _NOT_ONLY_AN_ERROR
        return glance


def _remember(answering: Answering, start: bytes) -> None:
    """Notes whose key has made the answer that begins so, unless nobody can ask for it again."""
    if answering.remember is not None and answering.asked.options.stores:
        found = _ID(start)
        if found is not None:
            answering.remember(found[1].decode())
