"""How a stream ended, told from its last events: whole, with an error, and what it counted.

Streams that are passed on are not read event by event. The last of them are remembered, as they
came, and looked at once.
"""

import re
from collections import deque
from typing import Any

import msgspec
from msgspec import Raw, Struct

from app.wire.events import Usage
from app.wire.framing import Record, SSEParser
from app.wire.surrogates import mend

# A finish reason, usage, a cost and an error may be events of their own, with comments between.
_READS = 32
_TAIL_BYTES = 256 * 1024
_MAX_COUNT = 2**53
# Usage is numbers, and details of numbers that are an object each.
_OBJECT = re.compile(
    rb"\s*:\s*(\{[^{}]{0,4096}+(?:\{[^{}]{0,4096}+\}[^{}]{0,4096}+){0,20}+\})"
).match
_NOT_JSON = (msgspec.DecodeError, ValueError, RecursionError)


class _Details(Struct):
    audio_tokens: int | float | None = None
    cached_tokens: int | float | None = None
    cache_write_tokens: int | float | None = None


class _Reasoning(Struct):
    reasoning_tokens: int | float | None = None


class _Counts(Struct):
    """Usage in the words of any family."""

    prompt_tokens: int | float | None = None
    completion_tokens: int | float | None = None
    total_tokens: int | float | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Reasoning | None = None
    cached_tokens: int | float | None = None
    num_cached_tokens: int | float | None = None
    prompt_cache_hit_tokens: int | float | None = None
    reasoning_tokens: int | float | None = None
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
        return b"".join(self._reads)[-_TAIL_BYTES:]

    def records(self) -> list[Record]:
        """The last events; a line `error: {...}` as an event of that name."""
        parser = SSEParser()
        records = parser.feed(self.bytes()) + parser.finish()
        return records + stray_errors(parser)


def is_done(events: bytes) -> bool:
    """Whether the mark of the end stands among the last of these."""
    return any(
        line.startswith(b"data:") and line[5:].strip() == b"[DONE]"
        for line in events[-4096:].splitlines()
    )


def failure(records: list[Record]) -> Any:
    """The error that the last of these events tell, beside choices or alone; None for none."""
    for record in reversed(records):
        if _may_tell_error(record) and (told := told_error(record, decoded(record))):
            return told
    return None


def _may_tell_error(record: Record) -> bool:
    """A look at the bytes, before their JSON is read."""
    name, data = record
    return name == b"error" or b'"error"' in data or b"response.failed" in data


def stray_errors(parser: SSEParser) -> list[Record]:
    """Lines `error: {...}`, a field that no standard knows but some servers send, as events."""
    return [
        (b"error", line[6:].strip())
        for line in bytes(parser.stray).splitlines()
        if line.startswith(b"error:")
    ]


def decoded(record: Record) -> Any:
    """The JSON value of an event's data; None for what is no JSON."""
    try:
        return msgspec.json.decode(mend(record[1]))
    except _NOT_JSON:
        return None


def told_error(record: Record, value: Any) -> Any:
    """The error of one event, an object or a text; None where it tells none."""
    name, data = record
    if isinstance(value, dict):
        if value.get("type") == "response.failed" and isinstance(value.get("response"), dict):
            return value["response"].get("error") or value["type"]
        if value.get("error"):
            return value["error"]
    if name != b"error":
        return None
    return value or data.decode("utf-8", "replace") or "error"


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
    last = None
    for name in (b'"usage"', b'"usageMetadata"'):
        at = len(text)
        while last is None and (at := text.rfind(name, 0, at)) >= 0:
            last = _counts_at(text, at + len(name))
    if last is not None and last.prompt_tokens is None and began_with:
        at, first = -1, None
        while first is None and (at := began_with.find(b'"usage"', at + 1)) >= 0:
            first = _counts_at(began_with, at + len(b'"usage"'))
        for field in _Counts.__struct_fields__ if first is not None else ():
            if getattr(last, field) is None:
                setattr(last, field, getattr(first, field))
    return None if last is None else _as_usage(last)


def _counts_at(text: bytes, at: int) -> _Counts | None:
    """The object after a member's name; None for null and what is no usage."""
    found = _OBJECT(text, at)
    if found is None:
        return None
    try:
        return _counts(found[1])
    except _NOT_JSON:
        return None


def usage_of(raw: Raw) -> Usage | None:
    """A usage object of OpenAI's wire, found by a decoder."""
    try:
        return _as_usage(_counts(raw))
    except _NOT_JSON:
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
    details, inside = counts.prompt_tokens_details, counts.completion_tokens_details
    reasoning = _count(inside.reasoning_tokens) if inside is not None else 0
    reasoning = reasoning or _count(counts.reasoning_tokens)
    if total > prompt + completion:
        # Some count heard audio outside of the prompt, some thinking outside of the answer.
        audio = _count(details.audio_tokens) if details is not None else 0
        if prompt < audio <= total - prompt - completion:
            prompt += audio
        reasoning = reasoning or total - prompt - completion
        completion = total - prompt
    if details is not None:
        cached = _count(details.cached_tokens) or cached
        written = _count(details.cache_write_tokens) or written
    for other in (counts.prompt_cache_hit_tokens, counts.cached_tokens, counts.num_cached_tokens):
        cached = cached or _count(other)
    return Usage(prompt, completion, total or None, cached, written or None, reasoning)


def _count(number: int | float | None) -> int:
    return int(number) if number is not None and 0 <= number < _MAX_COUNT else 0
