"""A Messages answer handed on byte for byte: streams by whole events, bodies whole.

Nothing is read of it but what the gateway must know: its error, its usage, whether it is whole.
Protocol sheet: front-messages, 3.
"""

from typing import Any

from app.fronts.alias import NamedBody, NamedStream
from app.fronts.anthropic.errors import STATUSES
from app.fronts.openai_chat.passthrough import Whole
from app.fronts.typed_stream import TypedStream
from app.wire.errors import GatewayError
from app.wire.events import Usage
from app.wire.framing import Record
from app.wire.refusals import as_error
from app.wire.stream_end import decoded, usage_in


def read_told(value: Any) -> GatewayError:
    """The error of an event or a body that came with status 200, by Anthropic's types."""
    error = as_error(value)
    status = STATUSES.get(error.type)
    if status is not None and error.status != status:
        error.status = status
        error.code = None if error.code == "upstream_error" else error.code
    return error


class MessagesPassthrough(TypedStream):
    """Whole events, byte for byte. A stream is whole when it has said message_stop."""

    as_error = staticmethod(read_told)

    @staticmethod
    def is_end(record: Record) -> bool:
        """Whether this event ends a stream."""
        name, data = record
        if b"message_stop" not in data:
            return name == b"message_stop"
        value = decoded(record)
        return isinstance(value, dict) and value.get("type") == "message_stop"

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
