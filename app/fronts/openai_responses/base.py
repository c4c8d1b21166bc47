"""Events as Responses items; what a stream and a whole answer share.

Items are told strictly one after the other. Neighbouring texts are one part of one message. A
thought stays open until the next event is known, for it may be that one which signs it. Of calls
that the upstream tells in turns the first is told as it comes, the others wait. Protocol sheet:
front-responses, 4.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import msgspec

from app.fronts.event_renderer import EventRenderer
from app.fronts.openai_responses.answer import Answer
from app.fronts.openai_responses.call_items import Call
from app.fronts.openai_responses.request import ResponsesOptions
from app.fronts.openai_responses.tools import Tools
from app.wire.errors import GatewayError, upstream_cut
from app.wire.events import (
    Event,
    Finish,
    Reasoning,
    Refusal,
    Session,
    Started,
    Text,
    Thought,
    TokenLogprob,
    ToolArguments,
    ToolCall,
)
from app.wire.front import Answering
from app.wire.kept import Kept, item_id, response_id
from app.wire.provider import Decoder
from app.wire.signature_mark import mark
from app.wire.tool_ids import TakenIds

TEXT, REFUSAL, THOUGHT = "output_text", "refusal", "reasoning"
_UNSIGNED = mark("t")
MOST_KEPT_BYTES = 8 * 1024 * 1024
Object = dict[str, Any]


class ResponsesRenderer(EventRenderer, ABC):
    """The items of one answer. `tell` and `piece` say them to the caller."""

    def __init__(self, answering: Answering, decoder: Decoder) -> None:
        super().__init__(answering, decoder)
        self._answering = answering
        self._options: ResponsesOptions = answering.asked.options
        self._tools = self._options.tools or Tools()
        self.id = response_id(answering.new_id)
        self.answer = Answer(answering, self.id)
        self.output: list[Object] = []
        self._has_begun = False
        self._open = ""  # TEXT, REFUSAL or THOUGHT: what pieces are added to
        self._pieces: list[str] = []  # of it
        self._logprobs: list[TokenLogprob] = []
        self._calls: dict[int, Call] = {}  # by the events' numbers
        self._current: Call | None = None
        self._waiting: list[Call] = []
        self._call_ids = TakenIds(answering.chat)
        self._has_refused = False
        self._finish: Finish | None = None

    # --- what an answer is told by --------------------------------------------------------------

    @abstractmethod
    def begin(self) -> None:
        """The answer begins, once."""

    @abstractmethod
    def tell(self, kind: str, fields: Object) -> None:
        """An event of the last item, or of its part."""

    @abstractmethod
    def piece(self, kind: str, text: str, logprobs: list[TokenLogprob] | None = None) -> None:
        """A piece of what is open: `kind` is TEXT, REFUSAL, THOUGHT or a call's event."""

    # --- events ---------------------------------------------------------------------------------

    def take_all(self, events: Iterable[Event]) -> None:
        """Tells events."""
        for event in events:
            self.take(event)

    def take(self, event: Event) -> None:
        """Tells one event. Those of other choices than the first have no place in a Response."""
        match event:
            case Started():
                self.start()
            case Text():
                if (event.text or event.logprobs) and not event.index:
                    self._text(TEXT, event.text, event.logprobs)
            case Reasoning():
                if event.text and not event.index:
                    self._reasoning(event.text)
            case Thought():
                if not event.index:
                    self._thought(event)
            case Refusal():
                if event.text and not event.index:
                    self._has_refused = True
                    # Codex shows no refusals.
                    self._text(TEXT if self._options.is_codex else REFUSAL, event.text)
            case ToolCall():
                if not event.index:
                    self._tool_call(event)
            case ToolArguments():
                if event.arguments and not event.index:
                    self._tool_arguments(event)
            case Finish():
                if not event.index and self._finish is None:
                    self._finish = event
                    self.said = True
                    self._close("incomplete" if event.reason == "length" else "completed")
            case Session():
                for own in self._answering.session.values():
                    own.update(event.fields)
            case _:
                self.aside(event)

    def conclude(self) -> tuple[str, str | None]:
        """The rest of the answer; its status and the reason why it is incomplete.

        Raises GatewayError 502 for an answer without an ending, 400 for one that was filtered away.
        """
        self.take_all(self.decoder.finish())
        finish = self._finish
        if finish is None:
            raise upstream_cut("The upstream's answer has no ending")
        self.start()
        if self._options.compacts:
            self._tell_compaction()
        if finish.reason == "length":
            return "incomplete", "max_output_tokens"
        if finish.reason == "content_filter" and not self._has_refused:
            has_content = any(item["type"] != "reasoning" for item in self.output)
            if not has_content or self._options.is_codex:  # which would ask five times more
                raise GatewayError(
                    400,
                    "The upstream's content filter has ended the answer; change the prompt.",
                    code="invalid_prompt",
                    outcome="upstream_error",
                )
            return "incomplete", "content_filter"
        return "completed", None

    def concluded(self, status: str, reason: str | None) -> Object:
        """The whole object of an answer that is over; it is kept if it may be."""
        told = self.answer.object(
            status,
            self.output,
            usage=self.answer.usage(self.usage, self.output),
            reason=reason,
            completed_at=self._answering.created if status == "completed" else None,
        )
        if self.answer.store:
            told["store"] = self._keep(told)
        return told

    def _keep(self, told: Object) -> bool:
        """Whether the answer is kept for the next turn."""
        keep = self._answering.keep
        encode = msgspec.json.encode
        kept = Kept(
            self.id,
            self._options.previous,
            self._options.input,
            [msgspec.Raw(encode(item)) for item in self.output],
            msgspec.Raw(encode({n: v for n, v in told.items() if n not in ("output", "tools")})),
            self._answering.session,
        )
        size = sum(len(bytes(raw)) for raw in (*kept.input, *kept.output, kept.object))
        if keep is None or size > MOST_KEPT_BYTES:
            return False
        keep(kept)
        return True

    def start(self) -> None:
        """Tells the beginning, unless it was told."""
        if not self._has_begun:
            self._has_begun = True
            self.begin()

    # --- items ----------------------------------------------------------------------------------

    @property
    def place(self) -> int:
        """The index of the last item."""
        return len(self.output) - 1

    def _add(self, prefix: str, item: Object) -> None:
        """A new item begins; its id is made here."""
        self.start()
        self.said = True
        item["id"] = item_id(prefix, self._answering.new_id, len(self.output))
        self.output.append(item)
        self.tell("response.output_item.added", {"output_index": self.place, "item": item})

    def _done(self, item: Object) -> None:
        self.output[-1] = item
        self.tell("response.output_item.done", {"output_index": self.place, "item": item})

    def _at(self, **more: int) -> Object:
        return {"item_id": self.output[-1]["id"], "output_index": self.place, **more}

    def _close(self, status: str = "completed") -> None:
        """Ends whatever is open."""
        if self._open == THOUGHT:
            self._close_thought(_UNSIGNED)
        elif self._open:
            self._close_message(status)
        self._close_calls(status)

    # --- text -----------------------------------------------------------------------------------

    def _text(self, kind: str, text: str, logprobs: list[TokenLogprob] | None = None) -> None:
        if self._options.compacts:
            self._pieces.append(text)
            self.said = True
            return
        if self._open != kind:
            self._open_part(kind)
        self._pieces.append(text)
        if logprobs:
            self._logprobs += logprobs
        self.piece(kind, text, logprobs)

    def _open_part(self, kind: str) -> None:
        if self._open in (TEXT, REFUSAL):
            self._close_part()
        else:
            self._close()
            message = {"id": "", "type": "message", "status": "in_progress", "role": "assistant"}
            self._add("msg", {**message, "content": []})
        self._open = kind
        at = self._at(content_index=len(self.output[-1]["content"]))
        self.tell("response.content_part.added", {**at, "part": _part(kind, "", [])})

    def _close_part(self) -> None:
        kind, text = self._open, "".join(self._pieces)
        logprobs, self._logprobs = self._logprobs, []
        self._pieces.clear()
        item = self.output[-1]
        at = self._at(content_index=len(item["content"]))
        part = _part(kind, text, logprobs)
        done: Object = {"refusal": text}
        if kind == TEXT:
            done = {"text": text, "logprobs": logprobs_of_piece(logprobs)}
        self.tell(f"response.{kind}.done", {**at, **done})
        self.tell("response.content_part.done", {**at, "part": part})
        self.output[-1] = {**item, "content": [*item["content"], part]}
        self._open = ""

    def _close_message(self, status: str) -> None:
        self._close_part()
        self._done({**self.output[-1], "status": status})

    # --- thoughts -------------------------------------------------------------------------------

    def _reasoning(self, text: str) -> None:
        if self._options.compacts:
            return
        if self._open != THOUGHT:
            self._open_thought()
            at = self._at(summary_index=0)
            part = {"type": "summary_text", "text": ""}
            self.tell("response.reasoning_summary_part.added", {**at, "part": part})
        self._pieces.append(text)
        self.piece(THOUGHT, text)

    def _open_thought(self) -> None:
        self._close()
        self._add("rs", {"id": "", "type": "reasoning", "summary": []})
        self._open = THOUGHT

    def _thought(self, event: Thought) -> None:
        if self._options.compacts or (event.redacted is None and event.signature is None):
            return
        if event.redacted is not None:
            block: Object = {"type": "redacted_thinking", "data": event.redacted}
        else:
            block = {"type": "thinking", "thinking": event.text, "signature": event.signature}
        self._sign(mark("c", msgspec.json.encode([block]).decode()))

    def _sign(self, signature: str) -> None:
        """Ends the thought that is open with its signature, or tells one that says nothing."""
        if self._open != THOUGHT:
            self._open_thought()
        self._close_thought(signature)

    def _close_thought(self, signature: str) -> None:
        summary = []
        if self._pieces:
            text = "".join(self._pieces)
            self._pieces.clear()
            at, part = self._at(summary_index=0), {"type": "summary_text", "text": text}
            self.tell("response.reasoning_summary_text.done", {**at, "text": text})
            self.tell("response.reasoning_summary_part.done", {**at, "part": part})
            summary.append(part)
        self._open = ""
        self._done({**self.output[-1], "summary": summary, "encrypted_content": signature})

    # --- calls ----------------------------------------------------------------------------------

    def _tool_call(self, event: ToolCall) -> None:
        if self._options.compacts:
            return
        if event.signature is not None:
            self._close_calls()
            self._sign(mark("g", event.signature))
        elif self._open:
            self._close()
        while self._current is not None and self._current.has_whole_arguments():
            self._close_call()
        other = f"call_{self._answering.new_id[:20]}{len(self._calls):04x}"
        call = Call(self._tools.called(event.name), self._call_ids.take(event.id, event.id, other))
        self._calls[event.tool] = call
        if self._current is None:
            self._open_call(call)
        else:
            self._waiting.append(call)
        if event.arguments:
            self._arguments(call, event.arguments)

    def _tool_arguments(self, event: ToolArguments) -> None:
        call = self._calls.get(event.tool)
        if call is not None and not call.is_over:
            self._arguments(call, event.arguments)

    def _arguments(self, call: Call, piece: str) -> None:
        call.add(piece)
        if call is self._current and call.is_streamed:
            self._call_piece(call, call.delta_of(piece))

    def _call_piece(self, call: Call, told: str) -> None:
        if told:
            self.piece(call.event, told)

    def _open_call(self, call: Call) -> None:
        """The call becomes the one that is told; what it has said already is told at once."""
        self._current = call
        self.said = True
        if call.is_streamed:
            self._add(call.prefix, call.item("", "in_progress"))
            self._call_piece(call, "".join(call.delta_of(piece) for piece in call.pieces))

    def _close_call(self, status: str = "completed") -> None:
        """Ends the call that is told; the next one that waits takes its place."""
        call, self._current = self._current, None
        assert call is not None
        call.is_over = True
        if call.is_streamed:
            self._call_piece(call, call.last_delta(is_cut=status == "incomplete"))
            text = "".join(call.told)
            self.tell(f"{call.event}.done", {**self._at(), call.member: text})
        else:
            self._add(call.prefix, call.item("", "in_progress"))
        if call.has_whole_arguments():
            status = "completed"
        self._done(call.item(self.output[-1]["id"], status))
        if self._waiting:
            self._open_call(self._waiting.pop(0))

    def _close_calls(self, status: str = "completed") -> None:
        while self._current is not None:
            self._close_call(status)

    # --- compaction -----------------------------------------------------------------------------

    def _tell_compaction(self) -> None:
        """The one item of an answer that sums up the conversation."""
        summary = mark("s", "".join(self._pieces))
        self._pieces.clear()
        self._add("cmp", {"id": "", "type": "compaction", "encrypted_content": summary})
        self._done(self.output[-1])

    @property
    def unreadable(self) -> Call | None:
        """A call whose arguments are no JSON."""
        return next((call for call in self._calls.values() if not call.is_readable()), None)


def _part(kind: str, text: str, logprobs: list[TokenLogprob]) -> Object:
    if kind == REFUSAL:
        return {"type": REFUSAL, "refusal": text}
    told = [
        {
            "token": each.token,
            "bytes": each.bytes or [],
            "logprob": each.logprob,
            "top_logprobs": [
                {"token": top.token, "bytes": top.bytes or [], "logprob": top.logprob}
                for top in each.top_logprobs
            ],
        }
        for each in logprobs
    ]
    return {"type": TEXT, "annotations": [], "logprobs": told, "text": text}


def logprobs_of_piece(logprobs: list[TokenLogprob]) -> list[Object]:
    """Probabilities as the events of a text have them: without bytes, which only parts have."""
    return [
        {
            "token": each.token,
            "logprob": each.logprob,
            "top_logprobs": [
                {"token": top.token, "logprob": top.logprob} for top in each.top_logprobs
            ],
        }
        for each in logprobs
    ]
