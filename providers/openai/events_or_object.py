"""The bytes of an answer that comes as server-sent events or as one JSON object."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import msgspec

from app.wire.errors import bad_response
from app.wire.events import Event
from app.wire.framing import Record, SSEParser
from app.wire.surrogates import mend

# A byte order mark and white space.
_BEFORE = b"\xef\xbb\xbf \t\r\n"
# What msgspec raises for bytes that are no JSON: also for broken UTF-8 and absurd nesting.
NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
T = TypeVar("T")


class EventsOrObject(ABC):
    """A decoder of both, whatever was asked for: the first byte tells which it is.

    `records` parses the events. `body` is what has come of an object, None for a stream; neither
    may grow above `max_bytes`.
    """

    def __init__(self, max_bytes: int) -> None:
        self.records = SSEParser(max_bytes)
        self.body: bytearray | None = None
        self._opened = False  # it is known which of both it is
        self._left = max_bytes

    @abstractmethod
    def take(self, records: list[Record]) -> Iterator[Event]:
        """What these records of the stream say."""

    def feed(self, data: bytes) -> Iterable[Event]:
        """What `data` completes. Raises GatewayError for an error that the upstream tells.

        It raises where the error stands: what came before it in the same read is told first.
        """
        if not self._opened:
            # White space comes before a whole answer while the model thinks.
            data = data.lstrip(_BEFORE)
            if not data:
                return ()
            self._opened = True
            if data[:1] in (b"{", b"["):
                self.body = bytearray()
        if self.body is not None:
            self._left -= len(data)
            if self._left < 0:
                raise bad_response("The upstream's answer is above limits.response_bytes.")
            self.body += data
            return ()
        return self.take(self.records.feed(data))

    def whole(self, decode: Callable[[bytes], T]) -> T:
        """The object. Raises GatewayError 502 for what `decode` cannot read."""
        try:
            return decode(mend(bytes(self.body or b"")))
        except NOT_JSON:
            raise bad_response("The upstream's answer is not valid JSON.") from None
