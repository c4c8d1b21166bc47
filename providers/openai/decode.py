"""An OpenAI chat answer becomes events: streamed chunks, or one chat.completion, with one outcome.

    first chunk with a choice    Started
    content                      Text              (the hot path)
    reasoning_content, reasoning Reasoning         (whichever of the spellings is there)
    thinking_blocks              Thought
    tool_calls, function_call    ToolCall, ToolArguments
    refusal                      Refusal
    reasoning_details, citations Extension
    end of the body              Finish of each choice, Usage

Upstreams that call themselves OpenAI-compatible differ in all of this: tool calls without an index
or an id, the finish reason twice, never or in words of their own, usage in every chunk. What is
accepted was seen in recorded answers of some twenty of them.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from app.wire.chat import ChatRequest
from app.wire.errors import GatewayError, bad_response, upstream_cut
from app.wire.events import (
    Event,
    Extension,
    Finish,
    Reasoning,
    Refusal,
    Started,
    Text,
    Thought,
    TokenLogprob,
    ToolArguments,
    ToolCall,
    Unknown,
)
from app.wire.framing import SSEParser
from app.wire.provider import Call
from app.wire.refusals import as_error
from app.wire.stream_end import decoded, event_error, stray_errors, usage_of
from app.wire.surrogates import mend

FINISH_REASONS = {
    "stop": "stop",
    "eos": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "model_context_window_exceeded": "length",
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "sensitive": "content_filter",
    "refusal": "content_filter",
}
_FAILURES = frozenset({"error", "network_error"})
_EXTENSIONS = ("citations", "search_results", "annotations", "images")


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


class Logprobs(Struct):
    """The probabilities of the tokens of a piece."""

    content: list[TokenLogprob] | None = None


class Choice(Struct):
    """One choice of a chunk or of a whole answer."""

    index: int | None = None
    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None
    content_filter_results: Any = None


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


class XGroq(Struct):
    """Where Groq's older streams have their usage."""

    usage: Raw | UnsetType = UNSET


_decode = msgspec.json.Decoder(Answer).decode
_decode_groq = msgspec.json.Decoder(XGroq | None).decode
_decode_text = msgspec.json.Decoder(str).decode
# What msgspec raises for bytes that are no JSON: also for broken UTF-8 and absurd nesting.
_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def decoder(call: Call) -> "ChatDecoder":
    """A fresh decoder for what this call asked for."""
    chat = call.chat
    asked = chat.n if isinstance(chat, ChatRequest) else None
    return ChatDecoder(call, has_several_choices=(asked or 1) > 1)


class _Slot:
    """One tool call being put together. Arguments that come before the name wait for it."""

    __slots__ = ("arguments", "has_arguments", "id", "name", "number", "signature", "waiting")

    def __init__(self, number: int, id: str) -> None:
        self.number, self.id = number, id
        self.name = ""
        self.signature: str | None = None
        self.waiting: list[str] = []
        self.has_arguments = False


class _ChoiceState:
    """What is known of one choice so far."""

    __slots__ = ("by_index", "has_said", "last", "reason", "slots")

    def __init__(self) -> None:
        self.slots: list[_Slot] = []
        self.by_index: dict[int, _Slot] = {}
        self.last: _Slot | None = None
        self.reason = ""
        self.has_said = False

    def slot_of(self, part: ToolPart, new_id: str) -> tuple[_Slot, bool]:
        """The call that a part belongs to, and whether it begins here.

        By index, and a new one where another id stands under the same index (Ollama). Without an
        index by id; without either, a name begins a call and anything else goes on with the last.
        """
        name = (part.function.name if part.function is not None else None) or ""
        found: _Slot | None
        if part.index is not None:
            found = self.by_index.get(part.index)
            if found is not None and part.id and found.id != part.id and found.name:
                found = None
        elif part.id:
            found = next((slot for slot in self.slots if slot.id == part.id), None)
        else:
            found = None if name else self.last
        is_new = found is None
        if found is None:
            found = _Slot(len(self.slots), part.id or f"call_{new_id[:24]}")
            self.slots.append(found)
        if part.index is not None:
            self.by_index[part.index] = found
        self.last = found
        return found, is_new


class ChatDecoder:
    """Reads chunks (server-sent events) and whole answers (JSON) alike: the first byte tells."""

    def __init__(self, call: Call, *, has_several_choices: bool = False) -> None:
        self._call = call
        self._several = has_several_choices
        self._records = SSEParser(call.config.limits.response_bytes)
        self._body: bytearray | None = None  # of an answer in one piece
        self._opened = False  # it is known which of both it is
        self._started = self._done = False
        self._usage: Raw | None = None
        self._choices: dict[int, _ChoiceState] = {}
        self._listed: dict[str, Any] = {}  # extensions as last told
        self._unreadable = 0
        self._left = call.config.limits.response_bytes

    # --- bytes ------------------------------------------------------------------------------

    def feed(self, data: bytes) -> list[Event]:
        """What `data` completes. Raises GatewayError for an error that the upstream tells."""
        if not self._opened:
            start = data.lstrip()
            if not start:
                return []  # white space before a whole answer, while the model thinks
            self._opened = True
            if start[:1] in (b"{", b"["):
                self._body = bytearray()
        if self._body is not None:
            self._left -= len(data)
            if self._left < 0:
                raise bad_response("The upstream's answer is above limits.response_bytes.")
            self._body += data
            return []
        return list(self._events(self._records.feed(data)))

    def finish(self) -> list[Event]:
        """The rest, and how each choice ended. Raises `upstream_cut` where one did not end."""
        if self._body is not None:
            try:
                answer = _decode(mend(bytes(self._body)))
            except _NOT_JSON:
                raise bad_response("The upstream's answer is not valid JSON.") from None
            found = list(self._answer(answer))
            if not self._choices:
                raise bad_response("The upstream's answer holds no choice.")
            self._done = True
        else:
            found = list(self._events(self._records.finish()))
            self._check_stray()
        return [*found, *self._ending()]

    def _events(self, records: list[tuple[bytes, bytes]]) -> Iterator[Event]:
        for name, data in records:
            if data == b"[DONE]":
                self._done = True
                continue
            if name == b"error":
                raise _error((name, data))
            try:
                answer = _read(data)
            except _NOT_JSON:
                self._unreadable += 1
                yield Unknown("unreadable")
                continue
            choices = answer.choices
            if self._started and not self._done and choices and len(choices) == 1:
                choice = choices[0]
                delta = choice.delta
                # Nine of ten chunks: a piece of text and nothing else.
                if (
                    delta is not None
                    and type(delta.content) is str
                    and delta.content
                    and choice.finish_reason is None
                    and answer.error is UNSET
                    and answer.usage is UNSET
                    and delta.tool_calls is None
                    and delta.reasoning_content is None
                    and delta.reasoning is None
                    and delta.reasoning_details is None
                    and delta.refusal is None
                    and choice.logprobs is None
                    and answer.citations is None
                ):
                    index = (choice.index or 0) if self._several else 0
                    self._state(index).has_said = True
                    yield Text(delta.content, index)
                    continue
            yield from self._answer(answer)

    def _check_stray(self) -> None:
        for record in stray_errors(self._records):
            raise _error(record)

    # --- one chunk, or the whole -------------------------------------------------------------

    def _answer(self, answer: Answer) -> Iterator[Event]:
        if not isinstance(answer.error, UnsetType):
            told = decoded((b"", bytes(answer.error)))
            if told:
                raise as_error(told)
        has_usage = self._take_usage(answer)
        if self._done:
            return  # nothing but usage counts after [DONE]
        choices = answer.choices or ()
        if not self._started and (choices or has_usage):
            self._started = True
            call = self._call
            yield Started(answer.id or f"chatcmpl-{call.new_id()}", answer.model or call.model)
        for choice in choices:
            index = (choice.index or 0) if self._several else 0
            yield from self._choice(choice, index)
        for name in ("citations", "search_results"):
            yield from self._extension(name, getattr(answer, name), 0)

    def _choice(self, choice: Choice, index: int) -> Iterator[Event]:
        state = self._state(index)
        said = choice.delta if _says(choice.delta) else choice.message or choice.delta
        if said is not None:
            for event in self._delta(said, choice, index):
                state.has_said = True
                yield event
        if choice.finish_reason and not state.reason:
            if choice.finish_reason in _FAILURES:
                raise bad_response(
                    f"The upstream ended its answer with finish_reason {choice.finish_reason!r}."
                )
            state.reason = choice.finish_reason
        elif not state.reason and _is_filtered(choice.content_filter_results):
            state.reason = "content_filter"

    def _delta(self, said: Delta, choice: Choice, index: int) -> Iterator[Event]:
        if thinking := _thinking(said):
            yield Reasoning(thinking, index)
        for block in said.thinking_blocks or ():
            yield _thought(block, index)
        if details := _details_to_return(said.reasoning_details):
            yield Extension({"reasoning_details": details}, index)
        logprobs = choice.logprobs.content if choice.logprobs is not None else None
        if isinstance(said.content, str):
            if said.content or logprobs:
                yield Text(said.content, index, logprobs or None)
        else:
            for part in said.content or ():
                yield from _part(part, index)
        if said.refusal:
            yield Refusal(said.refusal, index)
        for name in ("annotations", "images"):
            yield from self._extension(name, getattr(said, name), index)
        calls = said.tool_calls or ()
        if not calls and said.function_call is not None:
            calls = [ToolPart(0, None, said.function_call)]
        for tool in calls:
            yield from self._tool(tool, index)

    def _tool(self, part: ToolPart, index: int) -> Iterator[Event]:
        slot, _ = self._state(index).slot_of(part, self._call.new_id())
        function = part.function or Function()
        arguments = _as_json_text(function.arguments)
        slot.signature = slot.signature or _signature(part.extra_content)
        if slot.name:
            if arguments:
                slot.has_arguments = True
                yield ToolArguments(arguments, slot.number, index)
            return
        slot.waiting.append(arguments)
        if function.name:
            slot.name = function.name
            arguments = "".join(slot.waiting)
            slot.has_arguments = bool(arguments)
            yield ToolCall(slot.id, slot.name, arguments, slot.number, index, slot.signature)

    def _extension(self, name: str, value: Any, index: int) -> Iterator[Event]:
        """Told once, and again when it changes: Perplexity repeats its sources in every chunk."""
        if value and self._listed.get(name) != value:
            self._listed[name] = value
            yield Extension({name: value}, index)

    def _state(self, index: int) -> _ChoiceState:
        state = self._choices.get(index)
        if state is None:
            state = self._choices[index] = _ChoiceState()
        return state

    # --- the end ------------------------------------------------------------------------------

    def _ending(self) -> Iterator[Event]:
        choices = sorted(self._choices.items())
        whole = bool(choices) and all(
            state.reason or (self._done and (state.has_said or state.slots)) for _, state in choices
        )
        if not whole:
            if self._done:
                raise bad_response("The upstream ended its stream without an answer.")
            if self._unreadable and not choices:
                raise bad_response("The upstream's stream is not readable.")
            raise upstream_cut()
        for index, state in choices:
            for slot in state.slots:
                if not slot.name:
                    yield Unknown("tool_call_without_name")
                elif not slot.has_arguments:
                    yield ToolArguments("{}", slot.number, index)
            if state.reason and state.reason not in FINISH_REASONS:
                yield Unknown(f"finish_reason_{state.reason[:32]}")
            yield Finish(_finish_reason(state), index, native=state.reason)
        usage = usage_of(self._usage) if self._usage is not None else None
        if usage is not None:
            yield usage

    def _take_usage(self, answer: Answer) -> bool:
        """The last usage object holds; Groq's older streams have it in `x_groq` alone."""
        raw = answer.usage
        if isinstance(raw, UnsetType) and not isinstance(answer.x_groq, UnsetType):
            raw = _usage_of_groq(answer.x_groq)
        if isinstance(raw, UnsetType) or bytes(raw).strip()[:1] != b"{":
            return False
        self._usage = raw
        return True


def _says(delta: Delta | None) -> bool:
    """Whether anything stands in it: Perplexity sends an empty one beside the full other."""
    return delta is not None and any(getattr(delta, name) for name in delta.__struct_fields__)


def _finish_reason(state: _ChoiceState) -> str:
    reason = FINISH_REASONS.get(state.reason, "stop")
    if reason == "stop" and any(slot.name for slot in state.slots):
        return "tool_calls"
    if reason == "tool_calls" and not state.slots:
        return "stop"
    return reason


def _is_filtered(results: Any) -> bool:
    if not isinstance(results, dict):
        return False
    return any(isinstance(one, dict) and one.get("filtered") is True for one in results.values())


def _thinking(said: Delta) -> str:
    """The model's thinking under whichever name it came; never under two."""
    for value in (said.reasoning_content, said.reasoning):
        if isinstance(value, dict):
            value = value.get("content")
        if isinstance(value, str) and value:
            return value
    texts = [one.get("text") or one.get("summary") for one in said.reasoning_details or () if one]
    return "".join(text for text in texts if isinstance(text, str))


def _details_to_return(details: list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    """The entries that an upstream wants back on the next turn."""
    return [
        one for one in details or () if any(one.get(name) for name in ("signature", "data", "id"))
    ]


def _thought(block: dict[str, Any], index: int) -> Thought:
    if block.get("type") == "redacted_thinking":
        return Thought(redacted=str(block.get("data") or ""), index=index)
    signature = block.get("signature")
    return Thought(
        str(block.get("thinking") or ""),
        signature if isinstance(signature, str) else None,
        index=index,
    )


def _part(part: ContentPart, index: int) -> Iterator[Event]:
    """One entry of Mistral's content lists."""
    if part.type == "thinking":
        inner = part.thinking if isinstance(part.thinking, list) else [{"text": part.thinking}]
        text = "".join(str(one.get("text") or "") for one in inner if isinstance(one, dict))
        if text:
            yield Reasoning(text, index)
    elif part.text:
        yield Text(part.text, index)
    elif part.type != "text":
        yield Unknown(f"content_{part.type[:32]}")


def _signature(extra: Any) -> str | None:
    """Google's thought signature, as its OpenAI layer writes it beside a call."""
    google = extra.get("google") if isinstance(extra, dict) else None
    found = google.get("thought_signature") if isinstance(google, dict) else None
    return found if isinstance(found, str) else None


def _as_json_text(arguments: Raw | UnsetType) -> str:
    """Arguments as JSON text. Some upstreams send the object itself, or null."""
    if isinstance(arguments, UnsetType):
        return ""
    raw = bytes(arguments).strip()
    if raw[:1] == b'"':
        return _decode_text(mend(raw))
    if raw == b"null":
        return ""
    return msgspec.json.format(raw, indent=-1).decode()


def _read(data: bytes) -> Answer:
    """One chunk. Only what cannot be read at once is looked at for halves of characters."""
    try:
        return _decode(data)
    except _NOT_JSON:
        mended = mend(data)
        if mended is data:
            raise
        return _decode(mended)


def _error(record: tuple[bytes, bytes]) -> GatewayError:
    return as_error(event_error(record, decoded(record)))


def _usage_of_groq(raw: Raw) -> Raw | UnsetType:
    try:
        found = _decode_groq(raw)
    except _NOT_JSON:
        return UNSET
    return UNSET if found is None else found.usage
