"""An OpenAI chat answer becomes events: streamed chunks, or one chat.completion, with one outcome.

    first chunk with a choice    Started
    content                      Text              (the hot path)
    reasoning_content, reasoning Reasoning         (whichever of the spellings is there)
    thinking_blocks              Thought
    reasoning_details            Reasoning, Thought; Extension when the choice ends
    tool_calls, function_call    ToolCall, ToolArguments
    refusal                      Refusal
    citations, images ...        Extension
    end of the body              Finish of each choice, Usage

Upstreams that call themselves OpenAI-compatible differ in all of this: tool calls without an index
or an id, the finish reason twice, never or in words of their own, usage in every chunk. What is
accepted was seen in recorded answers of some twenty of them.
"""

from collections.abc import Iterator
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
from app.wire.framing import Record
from app.wire.provider import Call
from app.wire.refusals import as_error
from app.wire.stream_end import choice_error, decoded, event_error, stray_errors, usage_of
from app.wire.surrogates import mend
from providers.openai.choice_state import ChoiceState
from providers.openai.events_or_object import NOT_JSON, EventsOrObject
from providers.openai.parts import (
    Answer,
    Choice,
    Delta,
    Function,
    PlainChunk,
    ToolPart,
    XGroq,
    as_json_text,
    events_of,
    is_filtered,
    is_json,
    logprobs_of,
    signature,
    thinking_of,
    thought_of,
)
from providers.openai.reasoning_details import ReasoningDetails, text_of
from providers.openai.think_tags import ThinkTags

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

_decode = msgspec.json.Decoder(Answer).decode
_decode_plain = msgspec.json.Decoder(PlainChunk).decode
_OTHERS_IN_A_ROW = 8
_decode_groq = msgspec.json.Decoder(XGroq | None).decode


def decoder(call: Call, *, think_tags: bool = False) -> "ChatDecoder":
    """A fresh decoder for what this call asked for; `think_tags` as ChatDecoder has it."""
    chat = call.chat
    asked = chat.n if isinstance(chat, ChatRequest) else None
    return ChatDecoder(call, has_several_choices=(asked or 1) > 1, think_tags=think_tags)


class ChatDecoder(EventsOrObject):
    """Reads chunks (server-sent events) and whole answers (JSON) alike: the first byte tells.

    With `think_tags` a text that begins with `<think>` is thinking up to its closing tag.
    """

    def __init__(
        self, call: Call, *, has_several_choices: bool = False, think_tags: bool = False
    ) -> None:
        super().__init__(call.config.limits.response_bytes)
        self._call = call
        self._stops = call.chat.stops() if isinstance(call.chat, ChatRequest) else []
        self._several = has_several_choices
        self._think_tags = think_tags
        self._started = self._done = False
        self._usage: Raw | None = None
        self._choices: dict[int, ChoiceState] = {}
        self._listed: dict[tuple[int, str], Any] = {}  # extensions as last told
        self._unreadable = 0
        self._untried = 0  # chunks that are not looked at for plain text

    # --- bytes ------------------------------------------------------------------------------

    def finish(self) -> Iterator[Event]:
        """The rest, and how each choice ended. Raises `upstream_cut` where one did not end."""
        if self.body is not None:
            yield from self._answer(self.whole(_decode), is_whole=True)
            if not self._choices:
                raise bad_response("The upstream's answer holds no choice.")
            self._done = True
        else:
            yield from self.take(self.records.finish())
            self._check_stray()
        yield from self._ending()

    def take(self, records: list[Record]) -> Iterator[Event]:
        """The events of these chunks."""
        for name, data in records:
            if data == b"[DONE]":
                self._done = True
                continue
            if name == b"error":
                raise _error((name, data))
            if self._started and not self._done and (text := self._plain(data)) is not None:
                yield text
                continue
            try:
                answer = _read(data)
            except NOT_JSON:
                if data.strip() == b"[DONE]":
                    self._done = True
                    continue
                self._unreadable += 1
                yield Unknown("unreadable")
                continue
            yield from self._answer(answer)

    def _plain(self, data: bytes) -> Text | None:
        """The piece of text that a chunk holds; None for any other chunk.

        Reading no more than this takes half as long. After a chunk of another kind, which are
        seldom alone, the next few are not tried.
        """
        if self._untried:
            self._untried -= 1
            return None
        try:
            (choice,) = _decode_plain(data).choices
        except NOT_JSON:
            self._untried = _OTHERS_IN_A_ROW
            return None
        index = (choice.index or 0) if self._several else 0
        state = self._state(index)
        if state.tags is not None or not choice.delta.content:
            return None
        state.has_said = True
        return Text(choice.delta.content, index)

    def _check_stray(self) -> None:
        for record in stray_errors(self.records):
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
            yield from self._choice(choice, said, index, is_whole=is_whole)
        for name in ("citations", "search_results") if choices else ():
            yield from self._extension(name, getattr(answer, name), 0)

    def _choice(
        self, choice: Choice, said: Delta | None, index: int, *, is_whole: bool
    ) -> Iterator[Event]:
        state = self._state(index)
        if said is not None:
            for event in self._delta(said, choice, index):
                if state.tags is not None and isinstance(event, Text):
                    yield from state.tags.feed(event)
                    if state.tags.is_over:
                        state.tags = None
                else:
                    yield event
                state.has_said = True
            if said.tool_calls or said.function_call or said.extra_content:
                yield from self._tools(said, index, is_whole=is_whole)
        if told := choice_error(choice.finish_reason, choice.error):
            raise as_error(told)
        if not state.reason:
            is_taken_out = is_filtered(choice.content_filter_results)
            state.reason = choice.finish_reason or ("content_filter" if is_taken_out else "")
            state.stop_sequence = choice.stop_sequence(self._stops)

    def _delta(self, said: Delta, choice: Choice, index: int) -> Iterator[Event]:
        yield from self._thinking(said, index)
        for block in said.thinking_blocks or ():
            yield thought_of(block, index)
        logprobs = None
        if choice.logprobs is not None:
            try:
                logprobs = logprobs_of(choice)
            except msgspec.ValidationError:
                yield Unknown("logprobs")
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

    def _thinking(self, said: Delta, index: int) -> Iterator[Event]:
        """Told once, though OpenRouter says it under two names and signs it under one."""
        thinking, details = thinking_of(said), said.reasoning_details
        if not details:
            if thinking:
                yield Reasoning(thinking, index)
            return
        texts = [text_of(entry) for entry in details]
        if thinking and thinking != "".join(texts):
            texts.clear()  # not to be told as well
            yield Reasoning(thinking, index)
        state, told = self._state(index), 0
        for at, entry in enumerate(details, 1):
            state.details = state.details or ReasoningDetails()
            thought = state.details.take(entry, index)
            if thought is None and at < len(details):
                continue
            if text := "".join(texts[told:at]):
                yield Reasoning(text, index)
            told = at
            if thought is not None:
                yield thought

    def _tools(self, said: Delta, index: int, *, is_whole: bool) -> Iterator[Event]:
        state = self._state(index)
        if said.extra_content is not None:
            state.signature = signature(said.extra_content) or state.signature
        calls = said.tool_calls or ()
        if not calls and said.function_call is not None:
            # One call, whose pieces have nothing else in common.
            calls, is_whole = [ToolPart(0, None, said.function_call)], False
        if calls and state.tags is not None:
            yield from state.tags.rest()
            state.tags = None
        for tool in calls:
            yield from self._tool(tool, index, is_whole=is_whole)

    def _tool(self, part: ToolPart, index: int, *, is_whole: bool) -> Iterator[Event]:
        state = self._state(index)
        slot = state.slot_of(part, is_whole=is_whole)
        function = part.function or Function()
        arguments = as_json_text(function.arguments)
        if arguments == "null" and not slot.pieces:
            arguments = ""  # so bridges written in Go tell a call without any
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
            if slot.signature is None:
                slot.signature, state.signature = state.signature, None
            id = slot.id or f"call_{self._call.new_id()[:24]}"
            yield ToolCall(id, slot.name, arguments, slot.number, index, slot.signature)

    def _extension(self, name: str, value: Any, index: int) -> Iterator[Event]:
        """Told once, and again when it changes: Perplexity repeats its sources in every chunk."""
        if value and self._listed.get((index, name)) != value:
            self._listed[index, name] = value
            yield Extension({name: value}, index)

    def _state(self, index: int) -> ChoiceState:
        state = self._choices.get(index)
        if state is None:
            tags = ThinkTags(index) if self._think_tags else None
            state = self._choices[index] = ChoiceState(tags)
        return state

    # --- the end ------------------------------------------------------------------------------

    def _ending(self) -> Iterator[Event]:
        choices = sorted(self._choices.items())
        states = self._choices.values()
        for state in states:
            if state.tags is not None:
                yield from state.tags.rest()
        has_ended = bool(states) and all(state.reason for state in states)
        has_said = any(state.has_said or state.slots for state in states)
        if not has_ended and not (self._done and has_said):
            if self._done:
                raise bad_response("The upstream ended its stream without an answer.")
            if self._unreadable and not choices:
                raise bad_response("The upstream's stream is not readable.")
            raise upstream_cut()
        for index, state in choices:
            yield from self._to_return(state, index)
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

    def _to_return(self, state: ChoiceState, index: int) -> Iterator[Event]:
        """What the upstream wants to see again on the next turn, besides whole thoughts."""
        if state.details is not None:
            yield from state.details.rest(index)
        if state.signature is not None:  # no call took it
            google = {"thought_signature": state.signature}
            yield Extension({"extra_content": {"google": google}}, index)

    def _take_usage(self, answer: Answer) -> bool:
        """The last usage object holds; Groq's older streams have it in `x_groq` alone."""
        raw = answer.usage
        if not _is_object(raw) and not isinstance(answer.x_groq, UnsetType):
            raw = _usage_of_groq(answer.x_groq)
        if isinstance(raw, UnsetType) or not _is_object(raw):
            return False
        self._usage = raw
        return True


def _finish_reason(state: ChoiceState) -> str:
    reason = FINISH_REASONS.get(state.reason, "stop")
    if reason in ("stop", "tool_calls"):
        return "tool_calls" if any(slot.name for slot in state.slots) else "stop"
    return reason


def _read(data: bytes) -> Answer:
    """One chunk. Only what cannot be read at once is looked at for halves of characters."""
    try:
        return _decode(data)
    except NOT_JSON:
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
    except NOT_JSON:
        return UNSET
    return UNSET if found is None else found.usage
