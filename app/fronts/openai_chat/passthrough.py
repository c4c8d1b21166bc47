"""An OpenAI answer handed on byte for byte: streams by whole events, bodies whole."""

import re
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Raw, Struct

from app.fronts.openai_chat.errors import error_event
from app.fronts.openai_chat.stream import DONE
from app.wire.errors import GatewayError, bad_response, upstream_cut
from app.wire.events import (
    Follow,
    Reply,
    Usage,
)
from app.wire.framing import SSEParser
from app.wire.front import Answering
from app.wire.refusals import as_error, wrong_type
from app.wire.renderer import JSON, SSE
from app.wire.stream_end import Tail, failure, finished, is_done, usage_in, usage_of
from app.wire.stream_start import MAX_HELD_BYTES, Stage, look
from app.wire.surrogates import mend
from app.wire.usage_chunk import without_usage

_USAGE_BYTES = 64 * 1024
_SNIFFED_BYTES = 4096
# An error where OpenAI's clients look for one: a line `error: {...}` is nothing to them.
_is_said = re.compile(rb'^data:.*error"', re.MULTILINE).search
# What an event stream can begin with, whatever its content type says.
_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":", b"error:")


class _Glance(Struct):
    """The little that is read of an OpenAI object that is passed on untouched."""

    choices: Raw = Raw()
    error: Any = None
    usage: Raw = Raw()


_glance = msgspec.json.Decoder(_Glance)


def choices_asked(answering: Answering) -> int:
    """How many choices the caller asked for; 1 for what is no number."""
    asked = getattr(answering.asked.options, "n", None)  # other APIs have no such member
    return asked if isinstance(asked, int) else 1


class Passthrough:
    """Whole events, byte for byte. An unfinished one waits for its end, so that a comment or an
    error event can always stand between two events and a cut never leaves half of one."""

    content_type = SSE
    as_error = staticmethod(as_error)  # reads what an error event tells

    def __init__(self, answering: Answering) -> None:
        choices, adds_usage = choices_asked(answering), answering.adds_usage
        self.commands: list[Follow | Reply] = []
        self.unknown: list[str] = []
        self.refused = False
        self.ended = False
        self.error: GatewayError | None = None  # told inside the stream
        self._label: str | None = "no content type"  # None: it is an event stream's
        self._held = bytearray()
        self._is_plain = False  # nothing is held, and what came first were events
        self._has_begun = False
        self._searched = 0
        self._max = answering.max_bytes
        self._opening_bytes = 0
        self._is_held = True  # nothing was sent on: another key may still answer
        self._tail = Tail()
        self._choices, self._finished = choices, set[int]()
        self._adds_usage = adds_usage
        self._is_undecided = choices > 1 or adds_usage
        self._sought = b""  # reads that hold it are looked at

    def labelled(self, content_type: str) -> None:
        """Takes the upstream's content type."""
        self._label = None if "text/event-stream" in content_type.lower() else content_type

    def feed(self, data: bytes) -> bytes:
        """Returns what may be sent on of the piece."""
        if self._is_plain and data.endswith((b"\n\n", b"\r\n\r\n")):
            out = data
        else:
            out = self._whole_events(data)
            if not out:
                return out
        self._tail.add(out)
        if self._sought and out.rfind(self._sought) >= 0:  # `in` would take twice as long
            return self._special(out)
        return out

    def opening(self, out: bytes) -> Stage:
        """How far the answer has come with the first bytes. Raises the error they hold."""
        stage, told = look(out)
        if told is not None:
            raise self.as_error(told)
        self._opening_bytes += len(out)
        self._is_held = stage is not Stage.SAID and self._opening_bytes <= MAX_HELD_BYTES
        return stage

    def _whole_events(self, data: bytes) -> bytes:
        held = self._held
        held += data
        if not self._has_begun:
            if not self._begins():
                return b""
            self._has_begun = True
        # An event ends in LF LF or CR LF CR LF; the searched part is never searched again.
        lf = held.rfind(b"\n\n", self._searched)
        crlf = held.rfind(b"\r\n\r\n", self._searched)
        if lf < 0 and crlf < 0:
            if len(held) > self._max:
                raise bad_response("The upstream sent an event above the size limit.")
            self._is_plain = False
            self._searched = max(len(held) - 3, 0)
            return b""
        end = lf + 2 if lf > crlf else crlf + 4
        out = bytes(held[:end])
        del held[:end]
        self._searched = 0
        if self._is_undecided and b'"choices"' in out:
            self._is_undecided = False
            self._sought = b'"choices"'
            if self._choices <= 1:  # as this upstream writes the empty list
                self._sought += b": []" if b'"choices": ' in out else b":[]"
        self._is_plain = not held and not self._is_undecided
        return out

    def _begins(self) -> bool:
        """Whether what came is the start of events. Raises for what is none, by its first bytes:
        the label of a stream is wrong often enough."""
        if self._label is None:
            return True
        start = bytes(self._held[:_SNIFFED_BYTES])
        unsure = start in (b"\xef", b"\xef\xbb")
        start = start.removeprefix(b"\xef\xbb\xbf").lstrip()
        if start.startswith(_FIELDS):
            return True
        unsure = unsure or any(field.startswith(start) for field in _FIELDS)
        if unsure and len(self._held) < _SNIFFED_BYTES:
            return False  # it may still become one
        told = None
        with suppress(msgspec.DecodeError, ValueError, RecursionError):
            told = _glance.decode(bytes(self._held)).error if start[:1] == b"{" else None
        raise self.as_error(told) if told else wrong_type(self._label, "text/event-stream")

    def _special(self, out: bytes) -> bytes:
        if self._choices > 1 and b'"finish_reason"' in out:
            self._finished |= finished(SSEParser().feed(out))[1]
        if not self._adds_usage:
            return out
        return without_usage(out)

    def finish(self, *, is_cut: bool = False) -> bytes:
        """Returns the rest. Raises GatewayError 502 for an answer that is not whole."""
        rest = bytes(self._held).strip()
        if not self._has_begun and self._label is not None:
            raise wrong_type(self._label, "text/event-stream")
        out = b""
        if rest and (is_done(rest) or (not is_cut and self._is_event(rest))):
            out = rest + b"\n\n"  # its last newline got lost
            self._tail.add(out)
            rest = b""
            out = self._special(out) if self._sought and self._sought in out else out
        last = self._tail.bytes()
        told = failure(self._tail.records()) if b"error" in last or b"failed" in last else None
        if told:
            self.refused, self.error = True, self.as_error(told)
        if self._is_held and (told or is_done(last)) and look(last)[0] is not Stage.SAID:
            raise self.error or bad_response("The upstream ended its stream without an answer.")
        if is_done(last):
            return out
        if told and not rest:
            return out if _is_said(last) else out + error_event(self.as_error(told))
        if is_cut or rest or not self._is_whole():
            raise upstream_cut()
        return out + DONE

    def _is_whole(self) -> bool:
        """Whether each choice has ended, though nobody said [DONE]."""
        if self._choices > 1:
            return len(self._finished) >= self._choices
        return bool(finished(self._tail.records())[1])  # whatever index it has (TGI: the token's)

    @staticmethod
    def _is_event(rest: bytes) -> bool:
        records = SSEParser().feed(rest + b"\n\n")
        try:
            for _, data in records:
                msgspec.json.decode(mend(data))
        except (msgspec.DecodeError, ValueError, RecursionError):
            return False
        return bool(records) or rest.startswith((b":", b"error:"))

    @property
    def usage(self) -> Usage | None:
        """The token counts at the end of the stream; None where there are none."""
        return usage_in(self._tail.bytes())


class Whole:
    """A JSON body, handed on as it came once it is known to be whole and JSON."""

    content_type = JSON
    as_error = staticmethod(as_error)

    def __init__(self, answering: Answering) -> None:
        self.commands: list[Follow | Reply] = []
        self.unknown: list[str] = []
        self.usage: Usage | None = None
        self.refused = False
        self.ended = False
        self.error: GatewayError | None = None
        self._label: str | None = "no content type"  # None: it is JSON's
        self._pieces: list[bytes] = []
        self._left = answering.max_bytes

    def labelled(self, content_type: str) -> None:
        """Takes the upstream's content type."""
        self._label = None if "json" in content_type.lower() else content_type

    def feed(self, data: bytes) -> bytes:
        """Returns what may be sent on of the piece."""
        self._left -= len(data)
        if self._left < 0:
            raise bad_response("The upstream's answer is above limits.response_bytes.")
        self._pieces.append(data)
        return b""

    def opening(self, out: bytes) -> Stage:
        """How far the answer has come with the first bytes. Raises the error they hold."""
        return Stage.SAID

    def finish(self, *, is_cut: bool = False) -> bytes:
        """Returns the rest. Raises GatewayError 502 for an answer that is not whole."""
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        try:
            glance = self._read(body)
        except msgspec.ValidationError:
            return body  # of another shape, which is not ours to judge
        except (msgspec.DecodeError, ValueError):
            body = mend(body)
            try:
                glance = self._read(body)
            except (msgspec.DecodeError, ValueError):
                if self._label is not None:
                    raise wrong_type(self._label, "json") from None
                raise bad_response("The upstream's answer is not valid JSON.") from None
        if bytes(glance.usage)[:1] == b"{":
            self.usage = usage_of(glance.usage)
        else:
            self.usage = usage_in(body[-_USAGE_BYTES:])
        told, choices = glance.error, bytes(glance.choices)
        if not told and b'error"' in choices:
            told = failure([(b"", b'{"choices":%b}' % choices)])
        if told:
            self.refused, self.error = True, self.as_error(told)
            if choices in (b"", b"null", b"[]"):
                raise self.error  # nothing but an error: another key may do better
        return body

    @staticmethod
    def _read(body: bytes) -> _Glance:
        try:
            return _glance.decode(body)
        except msgspec.ValidationError:
            msgspec.json.decode(body, type=Raw)  # it must be JSON to its end
            raise
