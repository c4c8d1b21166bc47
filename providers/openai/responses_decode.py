"""An answer of OpenAI's Responses becomes events: a stream of typed events, or one object.

    response.created                 Started
    output_text.delta, refusal.delta Text, Refusal
    reasoning_summary_text.delta     Reasoning      (so too reasoning_text.delta)
    output_item.added                ToolCall       (function_call, custom_tool_call)
    ..._arguments.delta              ToolArguments
    output_item.done                 what the events before have left out; Thought
    response.completed, .incomplete  Finish, Usage

Hosts differ: ids that change in every event (GitHub Copilot), no `event:` lines, no numbers, parts
counted from 1 (Bedrock), a [DONE]. So `output_index` alone says to which item an event belongs.
Protocol sheet: front-responses, 9.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Raw, Struct

from app.wire.errors import bad_response, upstream_cut
from app.wire.events import (
    Event,
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
from app.wire.framing import Record
from app.wire.provider import Call, Decoder
from app.wire.refusals import as_error
from app.wire.signature_mark import mark
from app.wire.stream_end import decoded, event_error, stray_errors, usage_of
from app.wire.surrogates import mend
from providers.openai.events_or_object import NOT_JSON, EventsOrObject
from providers.openai.request import tool_names
from providers.openai.responses_request import Encrypted
from providers.openai.translated import Renaming

_NO_RAW = Raw(b"")
_TEXTS, _REFUSALS = ("output_text", "text"), ("refusal",)
_CALLS = ("function_call", "custom_tool_call")
_REASONS = {"max_output_tokens": "length", "content_filter": "content_filter"}
_FAILED = ("response.failed", "error")


class _Item(Struct):
    """An output item; which members are set follows from `type`."""

    type: str = ""
    id: Any = None
    call_id: Any = None
    name: Any = None
    namespace: Any = None
    arguments: Any = None
    input: Any = None
    content: Any = None
    summary: Any = None
    encrypted_content: Any = None


class _Said(Struct):
    """An event; which members are set follows from `type`."""

    type: str = ""
    output_index: int | None = None
    content_index: int | None = None
    summary_index: int | None = None
    delta: Any = None
    text: Any = None
    refusal: Any = None
    arguments: Any = None
    input: Any = None
    logprobs: Any = None
    item: Raw = _NO_RAW
    response: Raw = _NO_RAW


class _Reason(Struct):
    reason: str | None = None


class _Response(Struct):
    """The object around the items."""

    id: str | None = None
    model: str | None = None
    status: str | None = None
    output: list[_Item] | None = None
    incomplete_details: _Reason | None = None
    error: Any = None
    usage: Raw = _NO_RAW


class _Slot:
    """What was told of one item of the output."""

    __slots__ = ("id", "is_custom", "is_done", "pieces", "summaries", "told", "tool")

    def __init__(self) -> None:
        self.tool: int | None = None  # of a call: its number
        self.is_custom = self.is_done = False
        self.pieces: list[str] = []  # of a call's arguments, or of a thought
        self.told: set[tuple[str, int]] = set()  # parts that have come in pieces
        self.summaries = 0  # parts of a thought that have begun
        self.id = ""


_decode = msgspec.json.Decoder(_Said).decode
_item = msgspec.json.Decoder(_Item).decode
_response = msgspec.json.Decoder(_Response).decode


def decoder(call: Call) -> Decoder:
    """A fresh decoder of the answer; tool calls have the caller's names for functions."""
    renamed = tool_names(call.chat).renamed
    inner = ResponsesDecoder(call)
    return Renaming(inner, renamed) if renamed else inner


class ResponsesDecoder(EventsOrObject):
    """Reads typed events and whole answers alike."""

    def __init__(self, call: Call) -> None:
        super().__init__(call.config.limits.response_bytes)
        self._call = call
        self._slots: dict[int, _Slot] = {}
        self._calls = 0
        self._started = False
        self._ending: list[Event] | None = None  # what is told last, once the answer has ended
        self._unreadable = 0

    def finish(self) -> Iterator[Event]:
        """The rest, and how the answer ended. Raises `upstream_cut` where it did not end."""
        unreadable = self._unreadable  # before the rest, which may be half an event
        if self.body is not None:
            response = self.whole(_response)
            if response.output is None and not response.error:
                raise bad_response("The upstream's answer is no Response.")
            yield from self._start(response)
            yield from self._end(response, response.status or "completed")
        else:
            yield from self.take(self.records.finish())
            for record in stray_errors(self.records):
                raise as_error(_error_of(decoded(record) or record[1].decode("utf-8", "replace")))
        if self._ending is None:
            if unreadable and not self._started:
                raise bad_response("The upstream's stream is not readable.")
            raise upstream_cut()
        yield from self._ending

    def take(self, records: list[Record]) -> Iterator[Event]:
        """The events of these records."""
        for name, data in records:
            if self._ending is not None:
                return  # [DONE], or what some send behind their last event
            try:
                said = _decode(data)
            except NOT_JSON:
                try:
                    said = _decode(mend(data))
                except NOT_JSON:
                    if data.strip() != b"[DONE]":
                        self._unreadable += 1
                        yield Unknown("unreadable")
                    continue
            kind = said.type or name.decode("latin-1")
            # Nine of ten events: a piece of the text.
            if kind == "response.output_text.delta" and self._started:
                yield from self._text_piece(said)
            elif kind in _FAILED or name == b"error" or (not kind and _has_error(data)):
                raise as_error(_error_of(decoded((name, data))))
            else:
                yield from self._event(kind, said)

    # --- one event ------------------------------------------------------------------------------

    def _event(self, kind: str, said: _Said) -> Iterator[Event]:
        match kind:
            case "response.created":
                yield from self._start(self._read(said.response))
            case "response.completed" | "response.incomplete":
                response = self._read(said.response)
                yield from self._start(response)
                yield from self._end(response, kind.removeprefix("response."))
            case "response.output_item.added" | "response.output_item.done":
                yield from self._start(_Response())
                try:
                    item = _item(mend(bytes(said.item)))
                except NOT_JSON:
                    yield Unknown("item")
                    return
                is_done = kind.endswith("done")
                yield from self._item(item, self._slot(said), is_done=is_done)
            case _ if kind.endswith((".delta", ".done")):
                yield from self._start(_Response())
                yield from self._piece(kind, said)
            case "response.reasoning_summary_part.added":
                yield from self._next_summary(self._slot(said), said.summary_index)
            case _ if not kind.startswith("response.") and kind not in ("keepalive", "ping"):
                yield Unknown(f"event_{kind[:32]}")

    def _piece(self, kind: str, said: _Said) -> Iterator[Event]:
        slot = self._slot(said)
        match kind:
            case "response.output_text.delta":
                yield from self._text_piece(said)
            case "response.output_text.done":
                yield from self._text(slot, "text", said.content_index, said.text, said.logprobs)
            case "response.refusal.delta" if _is_text(said.delta):
                slot.told.add(("refusal", said.content_index or 0))
                yield Refusal(said.delta)
            case "response.refusal.done":
                yield from self._refusal(slot, said.content_index, said.refusal)
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                if _is_text(said.delta):
                    yield from self._next_summary(slot, said.summary_index or 0)
                    slot.pieces.append(said.delta)
                    yield Reasoning(said.delta)
            case "response.function_call_arguments.delta" if _is_text(said.delta):
                if slot.tool is not None:
                    slot.pieces.append(said.delta)
                    yield ToolArguments(said.delta, slot.tool)
            case "response.function_call_arguments.done":
                yield from self._arguments(slot, said.arguments)
            case "response.custom_tool_call_input.delta" if _is_text(said.delta):
                slot.pieces.append(said.delta)  # told whole: arguments are JSON, this is not

    def _slot(self, said: _Said) -> _Slot:
        index = said.output_index
        if index is None:
            index = max(self._slots, default=0)
        slot = self._slots.get(index)
        if slot is None:
            slot = self._slots[index] = _Slot()
        return slot

    def _start(self, response: _Response) -> Iterator[Event]:
        if not self._started:
            self._started = True
            id = response.id or f"resp_{self._call.new_id()}"
            yield Started(id, response.model or self._call.model)

    def _read(self, raw: Raw) -> _Response:
        try:
            return _response(mend(bytes(raw)))
        except NOT_JSON:
            raise bad_response("An event of the upstream's stream is not readable.") from None

    # --- text -----------------------------------------------------------------------------------

    def _text_piece(self, said: _Said) -> Iterator[Event]:
        if _is_text(said.delta):
            self._slot(said).told.add(("text", said.content_index or 0))
            yield Text(said.delta, 0, _logprobs(said.logprobs) if said.logprobs else None)

    def _text(
        self, slot: _Slot, kind: str, part: int | None, text: Any, logprobs: Any
    ) -> Iterator[Event]:
        """The whole text of a part of which no piece has come."""
        if _is_text(text) and (kind, part or 0) not in slot.told:
            slot.told.add((kind, part or 0))
            yield Text(text, 0, _logprobs(logprobs) if logprobs else None)

    def _refusal(self, slot: _Slot, part: int | None, text: Any) -> Iterator[Event]:
        if _is_text(text) and ("refusal", part or 0) not in slot.told:
            slot.told.add(("refusal", part or 0))
            yield Refusal(text)

    def _next_summary(self, slot: _Slot, index: int | None) -> Iterator[Event]:
        """A thought in several parts: they are told as paragraphs."""
        if index is None or index < slot.summaries:
            return
        if slot.summaries and slot.pieces:
            slot.pieces.append("\n\n")
            yield Reasoning("\n\n")
        slot.summaries = index + 1

    # --- items ----------------------------------------------------------------------------------

    def _item(self, item: _Item, slot: _Slot, *, is_done: bool) -> Iterator[Event]:
        if slot.is_done:
            return
        slot.is_done = is_done
        if item.type in _CALLS:
            yield from self._call_item(item, slot, is_done=is_done)
        elif not is_done:
            pass  # what is in it comes in pieces, or at its end
        elif item.type == "reasoning":
            yield from self._thought(item, slot)
        elif item.type == "message":
            # Parts have come under other numbers where a host counts them from 1.
            has_come = {kind for kind, _ in slot.told}
            for index, part in enumerate(_objects(item.content)):
                if part.get("type") in _TEXTS and "text" not in has_come:
                    text, logprobs = part.get("text"), part.get("logprobs")
                    yield from self._text(slot, "text", index, text, logprobs)
                elif part.get("type") in _REFUSALS and "refusal" not in has_come:
                    yield from self._refusal(slot, index, part.get("refusal"))

    def _call_item(self, item: _Item, slot: _Slot, *, is_done: bool) -> Iterator[Event]:
        if slot.tool is None:
            if not _is_text(item.name):
                yield Unknown("tool_call_without_name")
                return
            slot.tool, self._calls = self._calls, self._calls + 1
            slot.is_custom = item.type == "custom_tool_call"
            name = f"{item.namespace}__{item.name}" if item.namespace else item.name
            id = next(filter(_is_text, (item.call_id, item.id)), "")
            yield ToolCall(id or f"call_{self._call.new_id()[:24]}", name, "", slot.tool)
        if not is_done:
            return
        if slot.is_custom:
            given = item.input if _is_text(item.input) else "".join(slot.pieces)
            slot.pieces.clear()
            yield from self._arguments(slot, msgspec.json.encode({"input": given}).decode())
        else:
            yield from self._arguments(slot, item.arguments)
            if not slot.pieces:
                yield ToolArguments("{}", slot.tool)

    def _arguments(self, slot: _Slot, whole: Any) -> Iterator[Event]:
        """What the pieces of a call's arguments have left out."""
        if isinstance(whole, dict):
            whole = msgspec.json.encode(whole).decode()
        told = "".join(slot.pieces)
        if slot.tool is None or not _is_text(whole) or not whole.startswith(told):
            return
        if rest := whole[len(told) :]:
            slot.pieces.append(rest)
            yield ToolArguments(rest, slot.tool)

    def _thought(self, item: _Item, slot: _Slot) -> Iterator[Event]:
        if not slot.pieces:
            held = [*_objects(item.summary), *_objects(item.content)]
            texts = [part["text"] for part in held if _is_text(part.get("text"))]
            if texts:
                slot.pieces.append("\n\n".join(texts))
                yield Reasoning(slot.pieces[0])
        if _is_text(item.encrypted_content):
            id = item.id if isinstance(item.id, str) else ""
            held_back = msgspec.json.encode(Encrypted(id, item.encrypted_content)).decode()
            yield Thought("".join(slot.pieces), mark("o", held_back))

    # --- the end --------------------------------------------------------------------------------

    def _end(self, response: _Response, status: str) -> Iterator[Event]:
        if response.error or status not in ("completed", "incomplete"):
            raise as_error(_error_of(response.error or f"The answer is {status}."))
        if not self._slots:  # nothing has come in pieces
            for index, item in enumerate(response.output or ()):
                slot = self._slots[index] = _Slot()
                yield from self._item(item, slot, is_done=True)
        reason = "tool_calls" if self._calls else "stop"
        native = status
        if status == "incomplete":
            native = (response.incomplete_details or _Reason()).reason or status
            reason = _REASONS.get(native, "length")
        self._ending = [Finish(reason, 0, native)]
        usage = usage_of(response.usage) if bytes(response.usage)[:1] == b"{" else None
        if usage is not None:
            self._ending.append(usage)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _objects(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _logprobs(value: Any) -> list[TokenLogprob] | None:
    try:
        return msgspec.convert(value, list[TokenLogprob])
    except msgspec.ValidationError:
        return None


def _has_error(data: bytes) -> bool:
    """Whether an event without a type is an error, as what stands before a host sends it."""
    return event_error((b"", data), decoded((b"", data))) is not None


def _error_of(value: Any) -> Any:
    """The error of an event, nested or flat, in `response` or not; else the value itself."""
    if not isinstance(value, dict):
        return value
    held = value.get("response")
    if isinstance(held, dict):
        value = held
    if value.get("error"):
        return value["error"]
    # Flat: `type` is the event's.
    return {name: each for name, each in value.items() if name != "type"}
