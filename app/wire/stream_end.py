"""The end of a stream: whether it was complete, its error and its usage, by its last events.

Streams that are passed on are not parsed event by event. Their last bytes are remembered and parsed
once, at the end.
"""

import re
from collections import deque
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

from app.wire.events import Usage
from app.wire.framing import Record, SSEParser
from app.wire.surrogates import mend

# Finish reason, usage, cost and error may each be an event, with comments in between.
_READS = 32
_TAIL_BYTES = 256 * 1024
_MAX_COUNT = 2**53
# Usage is an object of numbers and of objects of numbers.
_OBJECT = re.compile(
    rb"\s*:\s*(\{[^{}]{0,4096}+(?:\{[^{}]{0,4096}+\}[^{}]{0,4096}+){0,20}+\})"
).match
_NOT_JSON = (msgspec.DecodeError, ValueError, RecursionError)
# Finish reasons that mean failure: OpenRouter's and Z.AI's.
_FAILURES = frozenset(("error", "network_error"))


class _Details(Struct):
    audio_tokens: int | float | None = None
    cached_tokens: int | float | None = None
    cache_write_tokens: int | float | None = None


class _AnswerDetails(Struct):
    reasoning_tokens: int | float | None = None
    audio_tokens: int | float | None = None
    thinking_tokens: int | float | None = None  # Anthropic's word


class _CacheWrites(Struct):
    ephemeral_1h_input_tokens: int | float | None = None


class _OfModality(Struct):
    modality: str | None = None
    tokenCount: int | float | None = None


class _Counts(Struct):
    """The usage object of any API."""

    prompt_tokens: int | float | None = None
    completion_tokens: int | float | None = None
    total_tokens: int | float | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _AnswerDetails | None = None
    cached_tokens: int | float | None = None
    num_cached_tokens: int | float | None = None
    prompt_cache_hit_tokens: int | float | None = None
    reasoning_tokens: int | float | None = None
    input_tokens: int | float | None = None
    output_tokens: int | float | None = None
    cache_read_input_tokens: int | float | None = None
    cache_creation_input_tokens: int | float | None = None
    cache_creation: _CacheWrites | None = None
    input_tokens_details: _Details | None = None
    output_tokens_details: _AnswerDetails | None = None
    promptTokenCount: int | float | None = None
    toolUsePromptTokenCount: int | float | None = None
    candidatesTokenCount: int | float | None = None
    responseTokenCount: int | float | None = None  # the live API's word for it
    thoughtsTokenCount: int | float | None = None
    cachedContentTokenCount: int | float | None = None
    promptTokensDetails: list[_OfModality] | None = None
    candidatesTokensDetails: list[_OfModality] | None = None
    # Of any shape: a cost that cannot be read must not hide the counts.
    cost: Any = None
    cost_in_usd_ticks: Any = None
    cost_details: Any = None
    is_byok: Any = None


Count = Annotated[int, Meta(ge=0, lt=_MAX_COUNT)]


class _OwnDetails(Struct, forbid_unknown_fields=True):
    cached_tokens: Count = 0
    audio_tokens: Count = 0


class _OwnAnswerDetails(Struct, forbid_unknown_fields=True):
    reasoning_tokens: Count = 0
    audio_tokens: Count = 0
    accepted_prediction_tokens: Count = 0
    rejected_prediction_tokens: Count = 0


class _OwnCounts(Struct, forbid_unknown_fields=True):
    """The usage object of OpenAI itself and of most that are compatible with it: the usual one is
    read in a third of the time."""

    prompt_tokens: Count
    completion_tokens: Count
    total_tokens: Count
    prompt_tokens_details: _OwnDetails | None = None
    completion_tokens_details: _OwnAnswerDetails | None = None


class _Choice(Struct):
    index: int | None = None
    finish_reason: str | None = None


class _Chunk(Struct):
    choices: list[_Choice] | None = None


class _Response(Struct):
    usage: Raw = Raw()


class _Message(Struct):
    """What the messages of the live APIs have their usage in."""

    type: str | None = None
    response: _Response | None = None
    usageMetadata: Raw = Raw()


# The last event of a response: the Realtime API's, and those of Responses over a websocket.
_LAST_EVENTS = frozenset(
    ("response.done", "response.completed", "response.incomplete", "response.failed")
)
_message = msgspec.json.Decoder(_Message).decode
_counts = msgspec.json.Decoder(_Counts).decode
_own_counts = msgspec.json.Decoder(_OwnCounts).decode
_chunk = msgspec.json.Decoder(_Chunk).decode


class Tail:
    """The last whole events of a stream; `add` appends some."""

    def __init__(self) -> None:
        self._reads: deque[bytes] = deque(maxlen=_READS)
        self.add = self._reads.append  # runs for every chunk: no Python call in between

    def bytes(self) -> bytes:
        """The last events as they came, at most 256 KiB."""
        return b"".join(self._reads)[-_TAIL_BYTES:]

    def records(self) -> list[Record]:
        """The last events; a line `error: {...}` becomes an event of that name."""
        parser = SSEParser()
        records = parser.feed(self.bytes()) + parser.finish()
        return records + stray_errors(parser)


def is_done(events: bytes) -> bool:
    """Whether `[DONE]` is among the last of these events."""
    return any(
        line.startswith(b"data:") and line[5:].strip() == b"[DONE]"
        for line in events[-4096:].splitlines()
    )


def failure(records: list[Record]) -> Any:
    """Returns the error of the last event that holds one, alone or beside choices; else None."""
    for record in reversed(records):
        if _may_hold_error(record) and (error := event_error(record, decoded(record))):
            return error
    return None


def _may_hold_error(record: Record) -> bool:
    """A cheap test of the bytes, before their JSON is decoded."""
    name, data = record
    return name == b"error" or b'error"' in data or b"response.failed" in data


def stray_errors(parser: SSEParser) -> list[Record]:
    """Lines `error: {...}` as events: a field of no standard that some servers send."""
    return [
        (b"error", line[6:].strip())
        for line in bytes(parser.stray).splitlines()
        if line.startswith(b"error:")
    ]


def decoded(record: Record) -> Any:
    """Decodes the JSON of an event's data; None if it is no JSON."""
    try:
        return msgspec.json.decode(mend(record[1]))
    except _NOT_JSON:
        return None


def event_error(record: Record, value: Any) -> Any:
    """Returns the error of one event, an object or a text; None if it holds none."""
    name, data = record
    if isinstance(value, dict):
        if value.get("type") == "response.failed" and isinstance(value.get("response"), dict):
            return value["response"].get("error") or value["type"]
        if value.get("error"):
            return value["error"]
        choices = value.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and (
                told := choice_error(choice.get("finish_reason"), choice.get("error"))
            ):
                return told
    if name != b"error":
        return None
    return value or data.decode("utf-8", "replace") or "error"


def choice_error(reason: Any, error: Any) -> Any:
    """Returns the error of a choice, an object or a text; None if it did not end in one."""
    if error:
        return error
    if isinstance(reason, str) and reason in _FAILURES:
        return f"The upstream ended its answer with finish_reason {reason!r}."
    return None


def finished(records: list[Record]) -> tuple[set[int], set[int]]:
    """Returns the indices of the choices in chat chunks, and of those with a finish reason."""
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
    """Finds the last usage object in a stream or a body; None if there is none.

    Members that it leaves out are taken from `began_with`, the first events: Anthropic's streams
    have them there.
    """
    last = None
    for name in (b'"usage"', b'"usageMetadata"'):
        at = len(text)
        while last is None and (at := text.rfind(name, 0, at)) >= 0:
            last = _counts_at(text, at + len(name))
    if began_with and (last is None or last.prompt_tokens is None):
        at, first = -1, None
        while first is None and (at := began_with.find(b'"usage"', at + 1)) >= 0:
            first = _counts_at(began_with, at + len(b'"usage"'))
        if last is None:
            last = first  # the stream broke off
        for field in _Counts.__struct_fields__ if first is not None else ():
            if getattr(last, field) is None:
                setattr(last, field, getattr(first, field))
    return None if last is None else _as_usage(last)


def usage_in_message(data: bytes | bytearray | memoryview) -> Usage | None:
    """Finds the usage that a message of a live API tells of one answer; None if it tells none.

    Realtime and Responses count in the last event of a response, Gemini's live API beside it.
    """
    # Most are pieces of sound: those of OpenAI are known by their type, and the rest is searched
    # from its end, which costs half as much.
    data = bytes(data)
    if b".delta" in data[:96] or data.rfind(b'"usage') < 0:
        return None
    try:
        message = _message(data)
    except _NOT_JSON:
        return None
    if message.type not in _LAST_EVENTS:
        return usage_of(message.usageMetadata)
    return None if message.response is None else usage_of(message.response.usage)


def _counts_at(text: bytes, at: int) -> _Counts | None:
    """Decodes the object after a member's name; None for null and what is no usage."""
    found = _OBJECT(text, at)
    if found is None:
        return None
    try:
        return _counts(found[1])
    except _NOT_JSON:
        return None


def usage_of(raw: Raw) -> Usage | None:
    """Converts a usage object; None if it is not one."""
    try:
        own = _own_counts(raw)
    except msgspec.ValidationError:
        pass
    except _NOT_JSON:
        return None
    else:
        prompt, completion = own.prompt_tokens, own.completion_tokens
        if own.total_tokens <= prompt + completion:
            details, inside = own.prompt_tokens_details, own.completion_tokens_details
            return Usage(
                prompt,
                completion,
                own.total_tokens or None,
                0 if details is None else details.cached_tokens,
                None,
                0 if inside is None else inside.reasoning_tokens,
                audio_tokens=0 if details is None else details.audio_tokens,
                completion_audio_tokens=0 if inside is None else inside.audio_tokens,
            )
    try:
        return _as_usage(_counts(raw))
    except _NOT_JSON:
        return None


def _as_usage(counts: _Counts) -> Usage:
    cached = _count(counts.cache_read_input_tokens)
    written = _count(counts.cache_creation_input_tokens)
    prompt = (
        _count(counts.prompt_tokens)
        or _count(counts.input_tokens) + cached + written  # Anthropic leaves cached tokens out
        or _count(counts.promptTokenCount) + _count(counts.toolUsePromptTokenCount)
    )
    completion = (
        _count(counts.completion_tokens)
        or _count(counts.output_tokens)
        or (_count(counts.candidatesTokenCount) or _count(counts.responseTokenCount))
        + _count(counts.thoughtsTokenCount)
    )
    total = _count(counts.total_tokens)
    details = counts.prompt_tokens_details or counts.input_tokens_details
    inside = counts.completion_tokens_details or counts.output_tokens_details
    reasoning = 0
    if inside is not None:
        reasoning = _count(inside.reasoning_tokens) or _count(inside.thinking_tokens)
    reasoning = reasoning or _count(counts.reasoning_tokens) or _count(counts.thoughtsTokenCount)
    if total > prompt + completion:
        # Some leave audio out of the prompt, some leave thinking out of the completion.
        audio = _count(details.audio_tokens) if details is not None else 0
        if prompt < audio <= total - prompt - completion:
            prompt += audio
        reasoning = reasoning or total - prompt - completion
        completion = total - prompt
    if details is not None:
        cached = _count(details.cached_tokens) or cached
        written = _count(details.cache_write_tokens) or written
    for other in (
        counts.prompt_cache_hit_tokens,
        counts.cached_tokens,
        counts.num_cached_tokens,
        counts.cachedContentTokenCount,
    ):
        cached = cached or _count(other)
    hour = counts.cache_creation
    return Usage(
        prompt,
        completion,
        total or None,
        cached,
        written or None,
        reasoning,
        cache_write_1h_tokens=_count(hour.ephemeral_1h_input_tokens) if hour is not None else 0,
        audio_tokens=_audio(details, counts.promptTokensDetails),
        completion_audio_tokens=_audio(inside, counts.candidatesTokensDetails),
        cost=_told_cost(counts),
    )


def _audio(details: _Details | _AnswerDetails | None, by_modality: list[_OfModality] | None) -> int:
    if details is not None:
        return _count(details.audio_tokens)
    return sum(_count(one.tokenCount) for one in by_modality or () if one.modality == "AUDIO")


def _told_cost(counts: _Counts) -> int | None:
    """The cost that the upstream states, in nano-USD; None where it states none.

    OpenRouter: `cost` in USD, and beside it what the caller's own key is charged where one is used.
    Perplexity: `cost.total_cost` in USD. xAI: ticks of 1e-10 USD.
    """
    cost, ticks = counts.cost, _amount(counts.cost_in_usd_ticks)
    if ticks is not None:
        return round(ticks / 10)
    if isinstance(cost, dict):
        cost = cost.get("total_cost") if cost.get("currency", "USD") == "USD" else None
    told = _amount(cost)
    if told is None:
        return None
    if counts.is_byok is True and isinstance(counts.cost_details, dict):
        told += _amount(counts.cost_details.get("upstream_inference_cost")) or 0.0
    return round(told * 1e9)


def _amount(value: Any) -> float | None:
    """A sum of money, None for what cannot be one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < _MAX_COUNT else None


def _count(number: int | float | None) -> int:
    return int(number) if number is not None and 0 <= number < _MAX_COUNT else 0
