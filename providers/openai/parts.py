"""What stands in an OpenAI chat chunk or completion, and the reading of its oddest members."""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from app.wire.events import Event, Extension, Reasoning, Text, Thought, TokenLogprob, Unknown
from app.wire.surrogates import mend


class Function(Struct):
    """The function of a tool call; `arguments` is JSON text, or the object itself."""

    name: str | None = None
    arguments: Raw | UnsetType = UNSET


class ToolPart(Struct):
    """A piece of a tool call."""

    index: int | None = None
    id: str | None = None
    function: Function | None = None
    extra_content: Any = None


class ContentPart(Struct):
    """One part of a content that is a list."""

    type: str = ""
    text: str | None = None
    thinking: Any = None
    image_url: Any = None
    reference_ids: Any = None


class Delta(Struct):
    """What one choice says: `delta` of a chunk, `message` of a whole answer."""

    content: str | list[ContentPart] | None = None
    reasoning_content: Any = None
    reasoning: Any = None
    reasoning_details: list[dict[str, Any]] | None = None
    thinking_blocks: list[dict[str, Any]] | None = None
    refusal: str | None = None
    tool_calls: list[ToolPart] | None = None
    function_call: Function | None = None
    annotations: Any = None
    images: Any = None
    extra_content: Any = None


class Logprobs(Struct):
    """The probabilities of the tokens of a piece."""

    content: list[TokenLogprob] | None = None


class Choice(Struct):
    """One choice of a chunk or of a whole answer."""

    index: int | None = None
    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: str | None = None
    logprobs: Any = None  # as upstreams have them: read by `logprobs_of`
    content_filter_results: Any = None
    error: Any = None
    stop_reason: Any = None  # vLLM's; SGLang has matched_stop: a stop sequence, or a token's number
    matched_stop: Any = None

    def stop_sequence(self, asked: list[str]) -> str | None:
        """The caller's stop sequence that ended the choice, where the server tells it."""
        for told in (self.stop_reason, self.matched_stop):
            if isinstance(told, str) and told in asked:
                return told
        return None


class Answer(Struct):
    """A chunk or a whole completion."""

    id: str | None = None
    model: str | None = None
    choices: list[Choice] | None = None
    usage: Raw | UnsetType = UNSET
    x_groq: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET
    citations: Any = None
    search_results: Any = None


class PlainDelta(Struct):
    """A piece of text: whatever else is read of a delta is absent or null."""

    content: str
    reasoning_content: None = None
    reasoning: None = None
    reasoning_details: None = None
    thinking_blocks: None = None
    refusal: None = None
    tool_calls: None = None
    function_call: None = None
    annotations: None = None
    images: None = None
    extra_content: None = None


class PlainChoice(Struct):
    """The choice of a piece of text."""

    delta: PlainDelta
    index: int | None = None
    finish_reason: None = None
    logprobs: None = None
    content_filter_results: None = None
    error: None = None


class PlainChunk(Struct):
    """Nine of ten chunks: text, and nothing else that is read of an `Answer`."""

    choices: tuple[PlainChoice]
    usage: None = None
    x_groq: None = None
    error: None = None
    citations: None = None
    search_results: None = None


class XGroq(Struct):
    """Where Groq's older streams have their usage."""

    usage: Raw | UnsetType = UNSET


_decode_text = msgspec.json.Decoder(str).decode
_decode_raw = msgspec.json.Decoder(Raw).decode


def is_filtered(results: Any) -> bool:
    """Whether Azure's filter took something out."""
    if not isinstance(results, dict):
        return False
    return any(isinstance(one, dict) and one.get("filtered") is True for one in results.values())


def thinking_of(said: Delta) -> str:
    """The model's thinking under the first of its two names that holds any."""
    for value in (said.reasoning_content, said.reasoning):
        if isinstance(value, dict):
            value = value.get("content")
        if isinstance(value, str) and value:
            return value
    return ""


def thought_of(block: dict[str, Any], index: int) -> Thought:
    """An entry of `thinking_blocks`, in Anthropic's words."""
    if block.get("type") == "redacted_thinking":
        return Thought(redacted=str(block.get("data") or ""), index=index)
    signature = block.get("signature")
    return Thought(
        str(block.get("thinking") or ""),
        signature if isinstance(signature, str) else None,
        index=index,
    )


def events_of(part: ContentPart, index: int) -> Iterator[Event]:
    """One entry of Mistral's content lists."""
    if part.type == "thinking":
        inner = part.thinking if isinstance(part.thinking, list) else [{"text": part.thinking}]
        text = "".join(str(one.get("text") or "") for one in inner if isinstance(one, dict))
        if text:
            yield Reasoning(text, index)
    elif part.type in ("text", ""):
        if part.text:
            yield Text(part.text, index)
    elif part.type == "image_url" and part.image_url:
        yield Extension({"images": [{"type": "image_url", "image_url": part.image_url}]}, index)
    elif part.type == "reference" and part.reference_ids:
        entry = {"type": "reference", "reference_ids": part.reference_ids}
        yield Extension({"references": [entry]}, index)
    else:
        yield Unknown(f"content_{part.type[:32]}")


def logprobs_of(choice: Choice) -> list[TokenLogprob] | None:
    """The probabilities beside a piece. Raises msgspec.ValidationError for another shape."""
    found = msgspec.convert(choice.logprobs, Logprobs | None)
    return found.content if found is not None else None


def signature(extra: Any) -> str | None:
    """Google's thought signature, as its OpenAI layer writes it beside a call or in a message."""
    google = extra.get("google") if isinstance(extra, dict) else None
    found = google.get("thought_signature") if isinstance(google, dict) else None
    return found if isinstance(found, str) else None


def as_json_text(arguments: Raw | UnsetType) -> str:
    """Arguments as JSON text. Some upstreams send the object itself, or null."""
    if isinstance(arguments, UnsetType):
        return ""
    raw = bytes(arguments).strip()
    if not raw.isascii():  # nobody has looked yet whether it is UTF-8
        raw = raw.decode("utf-8", "replace").encode()
    if raw[:1] == b'"':
        return _decode_text(mend(raw))
    if raw == b"null":
        return ""
    return msgspec.json.format(raw, indent=-1).decode()


def is_json(text: str) -> bool:
    """Whether a call's arguments can be read."""
    try:
        _decode_raw(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    return True
