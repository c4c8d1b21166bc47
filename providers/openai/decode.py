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

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

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
    ToolArguments,
    ToolCall,
    Unknown,
)
from app.wire.framing import SSEParser
from app.wire.provider import Call
from app.wire.refusals import as_error
from app.wire.stream_end import decoded, event_error, stray_errors, usage_of
from app.wire.surrogates import mend
from providers.openai.parts import (
    Answer,
    Choice,
    Delta,
    Function,
    ToolPart,
    XGroq,
    as_json_text,
    details_to_return,
    events_of,
    is_filtered,
    is_json,
    signature,
    thinking_of,
    thought_of,
)

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
_CUT = frozenset(word for word, means in FINISH_REASONS.items() if means == "length")
_FAILURES = frozenset({"error", "network_error"})


_decode = msgspec.json.Decoder(Answer).decode
_decode_groq = msgspec.json.Decoder(XGroq | None).decode
# A byte order mark and white space.
_BEFORE = b"\xef\xbb\xbf \t\r\n"
# What msgspec raises for bytes that are no JSON: also for broken UTF-8 and absurd nesting.
_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def decoder(call: Call) -> "ChatDecoder":
    """A fresh decoder for what this call asked for."""
    chat = call.chat
    asked = chat.n if isinstance(chat, ChatRequest) else None
    return ChatDecoder(call, has_several_choices=(asked or 1) > 1)


class _Slot:
    """One tool call being put together. Arguments that come before the name wait for it."""

    __slots__ = ("id", "name", "number", "pieces", "signature")

    def __init__(self, id: str) -> None:
        self.id = id
        self.number = 0  # among those that have a name: the others are never told
        self.name = ""
        self.signature: str | None = None
        self.pieces: list[str] = []  # of the arguments


class _ChoiceState:
    """What is known of one choice so far."""

    __slots__ = ("by_index", "has_said", "last", "reason", "slots", "stop_sequence")

    def __init__(self) -> None:
        self.slots: list[_Slot] = []
        self.by_index: dict[int, _Slot] = {}
        self.last: _Slot | None = None
        self.reason = ""
        self.stop_sequence: str | None = None
        self.has_said = False

    def slot_of(self, part: ToolPart, new_id: str) -> _Slot:
        """The call that a part belongs to.

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
        if found is None:
            found = _Slot(part.id or f"call_{new_id[:24]}")
            self.slots.append(found)
        if part.index is not None:
            self.by_index[part.index] = found
        self.last = found
        return found


class ChatDecoder:
    """Reads chunks (server-sent events) and whole answers (JSON) alike: the first byte tells."""

    def __init__(self, call: Call, *, has_several_choices: bool = False) -> None:
        self._call = call
        self._stops = call.chat.stops() if isinstance(call.chat, ChatRequest) else []
        self._several = has_several_choices
        self._records = SSEParser(call.config.limits.response_bytes)
        self._body: bytearray | None = None  # of an answer in one piece
        self._opened = False  # it is known which of both it is
        self._started = self._done = False
        self._usage: Raw | None = None
        self._choices: dict[int, _ChoiceState] = {}
        self._listed: dict[tuple[int, str], Any] = {}  # extensions as last told
        self._unreadable = 0
        self._left = call.config.limits.response_bytes

    # --- bytes ------------------------------------------------------------------------------

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
                self._body = bytearray()
        if self._body is not None:
            self._left -= len(data)
            if self._left < 0:
                raise bad_response("The upstream's answer is above limits.response_bytes.")
            self._body += data
            return ()
        return self._events(self._records.feed(data))

    def finish(self) -> Iterator[Event]:
        """The rest, and how each choice ended. Raises `upstream_cut` where one did not end."""
        if self._body is not None:
            try:
                answer = _decode(mend(bytes(self._body)))
            except _NOT_JSON:
                raise bad_response("The upstream's answer is not valid JSON.") from None
            yield from self._answer(answer, is_whole=True)
            if not self._choices:
                raise bad_response("The upstream's answer holds no choice.")
            self._done = True
        else:
            yield from self._events(self._records.finish())
            self._check_stray()
        yield from self._ending()

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
                if data.strip() == b"[DONE]":
                    self._done = True
                    continue
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
                    and choice.content_filter_results is None
                    and delta.thinking_blocks is None
                    and delta.function_call is None
                    and delta.annotations is None
                    and delta.images is None
                    and answer.citations is None
                    and answer.search_results is None
                    and answer.x_groq is UNSET
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

    def _answer(self, answer: Answer, *, is_whole: bool = False) -> Iterator[Event]:
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
            # Perplexity has both: what was said so far, or nothing, stands in the wrong one.
            said = choice.message if is_whole else choice.delta
            said = said or choice.message or choice.delta
            yield from self._choice(choice, said, index)
        for name in ("citations", "search_results") if choices else ():
            yield from self._extension(name, getattr(answer, name), 0)

    def _choice(self, choice: Choice, said: Delta | None, index: int) -> Iterator[Event]:
        state = self._state(index)
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
            state.stop_sequence = choice.stop_sequence(self._stops)
        elif not state.reason and is_filtered(choice.content_filter_results):
            state.reason = "content_filter"

    def _delta(self, said: Delta, choice: Choice, index: int) -> Iterator[Event]:
        if thinking := thinking_of(said):
            yield Reasoning(thinking, index)
        for block in said.thinking_blocks or ():
            yield thought_of(block, index)
        if details := details_to_return(said.reasoning_details):
            yield Extension({"reasoning_details": details}, index)
        logprobs = choice.logprobs.content if choice.logprobs is not None else None
        if isinstance(said.content, str):
            if said.content or logprobs:
                yield Text(said.content, index, logprobs or None)
        else:
            for part in said.content or ():
                yield from events_of(part, index)
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
        state = self._state(index)
        slot = state.slot_of(part, self._call.new_id())
        function = part.function or Function()
        arguments = as_json_text(function.arguments)
        slot.signature = slot.signature or signature(part.extra_content)
        if arguments:
            slot.pieces.append(arguments)
        if slot.name:
            if arguments:
                yield ToolArguments(arguments, slot.number, index)
        elif function.name:
            slot.number = sum(1 for other in state.slots if other.name)
            slot.name = function.name
            arguments = "".join(slot.pieces)
            yield ToolCall(slot.id, slot.name, arguments, slot.number, index, slot.signature)

    def _extension(self, name: str, value: Any, index: int) -> Iterator[Event]:
        """Told once, and again when it changes: Perplexity repeats its sources in every chunk."""
        if value and self._listed.get((index, name)) != value:
            self._listed[index, name] = value
            yield Extension({name: value}, index)

    def _state(self, index: int) -> _ChoiceState:
        state = self._choices.get(index)
        if state is None:
            state = self._choices[index] = _ChoiceState()
        return state

    # --- the end ------------------------------------------------------------------------------

    def _ending(self) -> Iterator[Event]:
        choices = sorted(self._choices.items())
        states = self._choices.values()
        has_ended = bool(states) and all(state.reason for state in states)
        has_said = any(state.has_said or state.slots for state in states)
        if not has_ended and not (self._done and has_said):
            if self._done:
                raise bad_response("The upstream ended its stream without an answer.")
            if self._unreadable and not choices:
                raise bad_response("The upstream's stream is not readable.")
            raise upstream_cut()
        for index, state in choices:
            for slot in state.slots:
                if not slot.name:
                    yield Unknown("tool_call_without_name")
                elif not slot.pieces:
                    yield ToolArguments("{}", slot.number, index)
                elif state.reason not in _CUT and not is_json("".join(slot.pieces)):
                    yield Unknown("tool_arguments_not_json")
            if state.reason and state.reason not in FINISH_REASONS:
                yield Unknown(f"finish_reason_{state.reason[:32]}")
            yield Finish(_finish_reason(state), index, state.reason, state.stop_sequence)
        usage = usage_of(self._usage) if self._usage is not None else None
        if usage is not None:
            yield usage

    def _take_usage(self, answer: Answer) -> bool:
        """The last usage object holds; Groq's older streams have it in `x_groq` alone."""
        raw = answer.usage
        if not _is_object(raw) and not isinstance(answer.x_groq, UnsetType):
            raw = _usage_of_groq(answer.x_groq)
        if isinstance(raw, UnsetType) or not _is_object(raw):
            return False
        self._usage = raw
        return True


def _finish_reason(state: _ChoiceState) -> str:
    reason = FINISH_REASONS.get(state.reason, "stop")
    if reason in ("stop", "tool_calls"):
        return "tool_calls" if any(slot.name for slot in state.slots) else "stop"
    return reason


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


def _is_object(raw: Raw | UnsetType) -> bool:
    return not isinstance(raw, UnsetType) and bytes(raw).strip()[:1] == b"{"


def _usage_of_groq(raw: Raw) -> Raw | UnsetType:
    try:
        found = _decode_groq(raw)
    except _NOT_JSON:
        return UNSET
    return UNSET if found is None else found.usage
