"""A generateContent answer handed on byte for byte: whole events, whole elements, whole bodies.

Nothing is read of it but what the gateway must know: its error, its usage, whether it is whole.
Protocol sheets: front-gemini, 2; gemini, 4 and 5.
"""

from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Raw, Struct, field

from app.fronts.gemini.stream import ARRAY
from app.fronts.openai_chat.passthrough import Passthrough, Whole
from app.wire.errors import GatewayError, upstream_cut
from app.wire.events import Follow, Reply, Usage
from app.wire.framing import JsonArrayParser
from app.wire.front import Answering
from app.wire.refusals import as_error, wrong_type
from app.wire.stream_end import Tail, decoded, failure, usage_in
from app.wire.stream_start import Stage, look

_NOT_JSON = (msgspec.DecodeError, ValueError, RecursionError)


class EventPassthrough(Passthrough):
    """Server-sent events, byte for byte. A stream is whole when a candidate has ended."""

    def finish(self, *, is_cut: bool = False) -> bytes:
        """Returns the rest. Raises GatewayError 502 for an answer that is not whole."""
        rest = bytes(self._held).strip()
        if not self._has_begun and self._label is not None:
            raise wrong_type(self._label, "text/event-stream")
        out = b""
        if rest and not is_cut and rest.startswith(b"data:") and self._is_event(rest):
            out = rest + b"\r\n\r\n"  # its last newline got lost
            self._tail.add(out)
            rest = b""
        records = self._tail.records()
        # Google breaks off with bare JSON, outside of any event.
        told = failure(records) or _stray_error(rest)
        if told:
            self.refused, self.error = True, self.as_error(told)
            if rest:
                raise self.error
            return out
        if any(_tells_an_end(data) for _, data in records):
            return out
        raise upstream_cut()


class ArrayPassthrough:
    """The elements of one JSON array, byte for byte. An unfinished one waits for its end."""

    content_type = ARRAY
    as_error = staticmethod(as_error)

    def __init__(self, answering: Answering) -> None:
        self.commands: list[Follow | Reply] = []
        self.unknown: list[str] = []
        self.refused = False
        self.ended = False
        self.error: GatewayError | None = None
        self._parser = JsonArrayParser(answering.max_bytes)
        self._held = bytearray()
        self._tail = Tail()
        self._last = b""  # the last element
        self._has_ended = False

    def labelled(self, content_type: str) -> None:
        """The bytes tell."""

    def feed(self, data: bytes) -> bytes:
        """Returns what may be sent on of the piece: up to the end of the last whole element."""
        held = self._held
        held += data
        elements = self._parser.feed(data)
        if not elements:
            return b""
        self._last = elements[-1]
        self._has_ended = self._has_ended or any(map(_tells_an_end, elements))
        # Half a character that was mended is not found: then all waits for the next one.
        at = held.rfind(self._last)
        end = at + len(self._last) if at >= 0 else (0 if self._parser.open else len(held))
        out = bytes(held[:end])
        del held[:end]
        self._tail.add(out)
        return out

    def opening(self, out: bytes) -> Stage:
        """How far the answer has come with the first elements. Raises the error they hold."""
        stage, told = look(b"data: %b\n\n" % _one_line(self._last))
        if told is not None:
            raise self.as_error(told)
        return stage

    def finish(self, *, is_cut: bool = False) -> bytes:
        """Returns the rest. Raises GatewayError 502 for an answer that is not whole."""
        last = decoded((b"", self._last))
        told = last.get("error") if isinstance(last, dict) else None
        if told:
            self.refused, self.error = True, self.as_error(told)
        if self._parser.ended and not self._parser.open and (told or self._has_ended):
            return bytes(self._held)
        raise upstream_cut()

    @property
    def usage(self) -> Usage | None:
        """The token counts of the last element; None where there are none."""
        return usage_in(self._tail.bytes())


class _Glance(Struct):
    """The little that is read of an answer that is passed on untouched."""

    choices: Raw = field(default=Raw(), name="candidates")
    error: Any = None
    usage: Raw = field(default=Raw(), name="usageMetadata")


_glance = msgspec.json.Decoder(_Glance)


class WholeBody(Whole):
    """A JSON body, handed on as it came once it is known to be whole and JSON."""

    @staticmethod
    def _read(body: bytes) -> Any:
        try:
            return _glance.decode(body)
        except msgspec.ValidationError:
            msgspec.json.decode(body, type=Raw)  # it must be JSON to its end
            raise


def _tells_an_end(chunk: bytes) -> bool:
    """Whether it says why a candidate ended, or why the prompt was blocked. Inside of texts a
    quotation mark has a backslash."""
    return b'"finishReason"' in chunk or b'"blockReason"' in chunk


def _stray_error(rest: bytes) -> Any:
    with suppress(*_NOT_JSON):
        value = msgspec.json.decode(rest)
        return value.get("error") if isinstance(value, dict) else None
    return None


def _one_line(element: bytes) -> bytes:
    """An element without its line breaks, which no string of JSON holds."""
    return element.replace(b"\r", b"").replace(b"\n", b"")
