"""A Messages answer handed on byte for byte: streams by whole events, bodies whole.

Nothing is read of it but what the gateway must know: its error, its usage, whether it is whole.
Protocol sheet: front-messages, 3.
"""

from typing import Any

from app.fronts.alias import NamedBody, NamedStream
from app.fronts.anthropic.errors import STATUSES
from app.fronts.openai_chat.passthrough import Passthrough, Whole
from app.wire.errors import GatewayError, upstream_cut
from app.wire.events import Usage
from app.wire.framing import Record
from app.wire.front import Answering
from app.wire.refusals import as_error, wrong_type
from app.wire.stream_end import decoded, failure, usage_in
from app.wire.stream_start import Stage


def read_told(value: Any) -> GatewayError:
    """The error of an event or a body that came with status 200, by Anthropic's types."""
    error = as_error(value)
    status = STATUSES.get(error.type)
    if status is not None and error.status != status:
        error.status = status
        error.code = None if error.code == "upstream_error" else error.code
    return error


class MessagesPassthrough(Passthrough):
    """Whole events, byte for byte. A stream is whole when it has said message_stop."""

    as_error = staticmethod(read_told)

    def __init__(self, answering: Answering) -> None:
        super().__init__(answering)
        self._first = b""  # the events that came before any content: their usage counts the prompt

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
        if (told and not rest) or any(map(_is_end, records)):
            return out
        raise upstream_cut()

    @property
    def usage(self) -> Usage | None:
        """The token counts at the end of the stream; None where there are none."""
        return usage_in(self._tail.bytes(), self._first)


class WholeBody(Whole):
    """A JSON body, handed on as it came once it is known to be whole and JSON."""

    as_error = staticmethod(read_told)


class NamedMessages(NamedStream, MessagesPassthrough):
    """A stream that names the alias which was asked for."""


class NamedMessage(NamedBody, WholeBody):
    """A whole message that names the alias which was asked for."""


def _is_end(record: Record) -> bool:
    name, data = record
    if b"message_stop" not in data:
        return name == b"message_stop"
    value = decoded(record)
    return isinstance(value, dict) and value.get("type") == "message_stop"
