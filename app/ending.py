"""How a stream ended, told from its last events: whole, with an error, and what it counted.

Streams that are passed on are not read event by event. The last of them are remembered, as they
came, and looked at once.
"""

from collections import deque
from typing import Any

import msgspec
from msgspec import Struct

from app.wire.events import Usage
from app.wire.framing import JsonArrayParser, Record, SSEParser
from app.wire.surrogates import mend

# A finish reason, usage, a cost and an error may be events of their own, with comments between.
_READS = 32
_READ_BYTES = 16 * 1024
_MAX_COUNT = 2**53

_NOT_JSON = (msgspec.DecodeError, ValueError, RecursionError)


class _Details(Struct):
    audio_tokens: int | float | None = None


class _Counts(Struct):
    """Usage in the words of any family."""

    prompt_tokens: int | float | None = None
    completion_tokens: int | float | None = None
    total_tokens: int | float | None = None
    prompt_tokens_details: _Details | None = None
    input_tokens: int | float | None = None
    output_tokens: int | float | None = None
    cache_read_input_tokens: int | float | None = None
    cache_creation_input_tokens: int | float | None = None
    promptTokenCount: int | float | None = None
    toolUsePromptTokenCount: int | float | None = None
    candidatesTokenCount: int | float | None = None
    thoughtsTokenCount: int | float | None = None


class _Choice(Struct):
    index: int | None = None
    finish_reason: str | None = None


class _Chunk(Struct):
    choices: list[_Choice] | None = None


_counts = msgspec.json.Decoder(_Counts).decode
_chunk = msgspec.json.Decoder(_Chunk).decode


class Tail:
    """The last whole events of a stream."""

    def __init__(self) -> None:
        self._reads: deque[bytes] = deque(maxlen=_READS)
        self.add = self._reads.append  # on the way of each piece: no call in between

    def bytes(self) -> bytes:
        return b"".join([read[-_READ_BYTES:] for read in self._reads])

    def records(self) -> list[Record]:
        """The last events; a line `error: {...}` as an event of that name."""
        parser = SSEParser()
        records = parser.feed(self.bytes()) + parser.finish()
        for line in bytes(parser.stray).splitlines():
            if line.startswith(b"error:"):
                records.append((b"error", line[6:].strip()))
        return records


def is_done(events: bytes) -> bool:
    """Whether the mark of the end stands among the last of these."""
    return any(
        line.startswith(b"data:") and line[5:].strip() == b"[DONE]"
        for line in events[-4096:].splitlines()
    )


def failure(records: list[Record]) -> Any:
    """The error that the last of these events tell, beside choices or alone; None for none."""
    for name, data in reversed(records):
        if name != b"error" and b'"error"' not in data and b"response.failed" not in data:
            continue
        try:
            told = msgspec.json.decode(mend(data))
        except _NOT_JSON:
            if name == b"error":
                return data.decode("utf-8", "replace")
            continue
        if not isinstance(told, dict):
            if name == b"error":
                return told or "error"
            continue
        if told.get("type") == "response.failed" and isinstance(told.get("response"), dict):
            told = told["response"]
        if told.get("error"):
            return told["error"]
        if name == b"error":
            return told
    return None


def finished(records: list[Record]) -> tuple[set[int], set[int]]:
    """Of chat chunks: the choices that were told of, and those with a finish reason."""
    seen, ended = set(), set()
    for _, data in records:
        try:
            chunk = _chunk(mend(data))
        except _NOT_JSON:
            continue
        for choice in chunk.choices or ():
            seen.add(choice.index or 0)
            if choice.finish_reason:
                ended.add(choice.index or 0)
    return seen, ended


def usage_in(text: bytes, began_with: bytes = b"") -> Usage | None:
    """The last usage that stands in a stream or a body. What it leaves out, Anthropic's streams
    have told at their beginning."""
    last = _last_counts(text)
    if last is None or (last.prompt_tokens is None and last.input_tokens is None):
        first = _last_counts(began_with)
        if first is not None:
            if last is None:
                last = first
            else:
                for name in _Counts.__struct_fields__:
                    if getattr(last, name) is None:
                        setattr(last, name, getattr(first, name))
    return None if last is None else _as_usage(last)


def _last_counts(text: bytes) -> _Counts | None:
    for name in (b'"usage"', b'"usageMetadata"'):
        at = len(text)
        while (at := text.rfind(name, 0, at)) >= 0:
            value = text[at + len(name) : at + len(name) + 16].lstrip(b": \t\r\n")
            if not value.startswith(b"{"):
                continue
            whole = JsonArrayParser().feed(text[at + len(name) : at + _READ_BYTES])
            try:
                return _counts(whole[0])
            except (*_NOT_JSON, IndexError):
                continue
    return None


def _as_usage(counts: _Counts) -> Usage:
    cached = _count(counts.cache_read_input_tokens)
    written = _count(counts.cache_creation_input_tokens)
    prompt = (
        _count(counts.prompt_tokens)
        or _count(counts.input_tokens) + cached + written  # Anthropic counts what is cached apart
        or _count(counts.promptTokenCount) + _count(counts.toolUsePromptTokenCount)
    )
    completion = (
        _count(counts.completion_tokens)
        or _count(counts.output_tokens)
        or _count(counts.candidatesTokenCount) + _count(counts.thoughtsTokenCount)
    )
    total = _count(counts.total_tokens)
    if total > prompt + completion:
        # Some count heard audio outside of the prompt, some thinking outside of the answer.
        details = counts.prompt_tokens_details
        audio = _count(details.audio_tokens) if details is not None else 0
        if prompt < audio <= total - prompt - completion:
            prompt += audio
        completion = total - prompt
    return Usage(prompt, completion, total or None)


def _count(number: int | float | None) -> int:
    return int(number) if number is not None and 0 <= number < _MAX_COUNT else 0
