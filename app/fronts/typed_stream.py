"""Streams whose events have types and name their end (Messages, Responses), byte for byte."""

from abc import ABC, abstractmethod

from app.fronts.openai_chat.passthrough import Passthrough
from app.wire.errors import upstream_cut
from app.wire.framing import Record
from app.wire.front import Answering
from app.wire.refusals import wrong_type
from app.wire.stream_end import failure
from app.wire.stream_start import Stage


class TypedStream(Passthrough, ABC):
    """Whole events, byte for byte. A stream is whole when `is_end` knows one of its last events."""

    def __init__(self, answering: Answering) -> None:
        super().__init__(answering)
        self._first = b""  # the events that came before any content
        self._has_ended = False

    @staticmethod
    @abstractmethod
    def is_end(record: Record) -> bool:
        """Whether this event ends a stream."""

    def opening(self, out: bytes) -> Stage:
        """How far the answer has come with the first bytes. Raises the error they hold."""
        self._first += out
        return super().opening(out)

    def finish(self, *, is_cut: bool = False) -> bytes:
        """Returns the rest. Raises GatewayError 502 for an answer that is not whole."""
        rest = bytes(self._held).strip()
        if not self._has_begun and self._label is not None:
            raise wrong_type(self._label, "text/event-stream")
        out = b""
        if rest and not is_cut and self._is_event(rest):
            out = rest + b"\n\n"  # its last newline got lost
            self._tail.add(out)
            rest = b""
        records = self._tail.records()
        told = failure(records)
        if told:
            self.refused, self.error = True, self.as_error(told)
        if (told and not rest) or self._has_ended or any(map(self.is_end, records)):
            return out
        raise upstream_cut()
