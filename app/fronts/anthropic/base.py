"""Events as Messages content blocks; what a stream and a whole message share.

Blocks are numbered 0, 1, 2 .. in the order in which they begin. A text and a thinking block are
open one at a time. Tool calls may be told in turns: their blocks stay open side by side, until
their arguments are whole and another block begins, or to the end. Protocol sheet: front-messages,
section 5.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import msgspec

from app.fronts.anthropic.usage import Counts
from app.fronts.event_renderer import EventRenderer
from app.wire.errors import GatewayError, upstream_cut
from app.wire.events import (
    Event,
    Finish,
    Reasoning,
    Refusal,
    Started,
    Text,
    Thought,
    ToolArguments,
    ToolCall,
    Usage,
)
from app.wire.front import Answering
from app.wire.provider import Decoder
from app.wire.signature_mark import mark
from app.wire.stop_cutter import StopCutter
from app.wire.tool_ids import TakenIds, legal

TEXT, THINKING = "text", "thinking"
_UNSIGNED = mark("t")
_SHORTEST_ID = 9  # some count the calls of an answer: call_0
_decode_raw = msgspec.json.Decoder(msgspec.Raw).decode


class ToolBlock:
    """The block of one tool call; `pieces` are those of its arguments."""

    __slots__ = ("index", "is_open", "pieces")

    def __init__(self, index: int) -> None:
        self.index, self.is_open = index, True
        self.pieces: list[str] = []

    def has_whole_arguments(self) -> bool:
        """Whether what has come is a JSON object, which nothing can go on with."""
        text = "".join(self.pieces)
        if not text.startswith("{"):
            return False  # of a number nobody knows whether it is whole
        try:
            _decode_raw(text)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return False
        return True


class MessagesRenderer(EventRenderer, ABC):
    """The blocks of one answer. `begin`, `open_block`, `add` and `close_block` tell them."""

    def __init__(self, answering: Answering, decoder: Decoder) -> None:
        super().__init__(answering, decoder)
        self.counts = Counts(answering)
        self.id = f"msg_{answering.new_id[:24]}"  # never the upstream's: it may be told twice
        self.model = answering.asked.model or answering.model
        self._answering = answering
        chat = answering.chat
        self._shows_thoughts = chat is None or chat.thoughts == "shown"
        self._cutter = StopCutter(answering.cuts) if answering.cuts else None
        self._has_begun = False
        self._blocks = 0  # how many have begun
        self._open = ""  # TEXT or THINKING: the kind of the block that is open
        self._tools: dict[int, ToolBlock] = {}  # by the events' numbers
        self._call_ids = TakenIds(answering.chat, _SHORTEST_ID)
        self._refusal: list[str] = []
        self._finish: Finish | None = None

    # --- what an answer is told by ------------------------------------------------------------

    @abstractmethod
    def begin(self) -> None:
        """The answer begins, once."""

    @abstractmethod
    def open_block(self, block: dict[str, Any]) -> None:
        """The block number `self._blocks` begins."""

    @abstractmethod
    def add(self, index: int, kind: str, piece: str) -> None:
        """A piece of a block: `kind` is text, thinking, signature or input_json."""

    @abstractmethod
    def close_block(self, index: int) -> None:
        """The block is whole."""

    # --- events -------------------------------------------------------------------------------

    def take(self, event: Event) -> None:
        """Tells one event. Those of other choices than the first have no place in a message."""
        match event:
            case Started():
                self._begin()
            case Text():
                if event.text and not event.index:
                    self._text(event.text)
            case Reasoning():
                if event.text and not event.index:
                    self._reasoning(event.text)
            case Thought():
                if not event.index:
                    self._thought(event)
            case Refusal():
                if event.text and not event.index:
                    self._refusal.append(event.text)
                    self._flush_text()
                    self._plain_text(event.text)
            case ToolCall():
                if not event.index:
                    self._tool_call(event)
            case ToolArguments():
                if event.arguments and not event.index:
                    self._tool_arguments(event)
            case Finish():
                if not event.index and self._finish is None:
                    self._finish = event
                    self._end_blocks()
                    self.said = True
            case Usage():
                self.usage = self.counts.told = event
            case _:
                self.aside(event)

    def take_all(self, events: Iterable[Event]) -> None:
        """Tells events until the answer has been cut at a stop sequence."""
        for event in events:
            self.take(event)
            if self.is_cut:
                return

    @property
    def is_cut(self) -> bool:
        """A stop sequence was found: nothing more is told, and the upstream is left."""
        return self._cutter is not None and self._cutter.matched is not None

    def conclude(self) -> dict[str, Any]:
        """The rest of the answer and how it ended, as Messages says it.

        Raises GatewayError 502 for an answer without an ending, 400 for one that filled the model's
        context window.
        """
        if not self.is_cut:
            rest = iter(self.decoder.finish())
            self.take_all(rest)
            for event in rest:  # of an answer that came whole, behind where it was cut
                if isinstance(event, Usage):
                    self.take(event)
        finish = self._finish
        if self._cutter is not None and self._cutter.matched is not None:
            finish = Finish("stop", stop_sequence=self._cutter.matched)
        if finish is None:
            raise upstream_cut("The upstream's answer has no ending")
        self._begin()
        self._end_blocks()
        if finish.native == "model_context_window_exceeded":
            raise GatewayError(
                400,
                "prompt is too long: the answer filled what the conversation has left of the "
                "model's context window.",
                code="context_length_exceeded",
                outcome="upstream_error",
            )
        return self._stop_of(finish)

    def _stop_of(self, finish: Finish) -> dict[str, Any]:
        stop: dict[str, Any] = {"stop_reason": "end_turn", "stop_sequence": None}
        if finish.reason == "length":
            stop["stop_reason"] = "max_tokens"
        elif self._tools:
            stop["stop_reason"] = "tool_use"
        elif finish.reason == "content_filter" or self._refusal:
            explanation = "".join(self._refusal) or None
            details = {"type": "refusal", "category": None, "explanation": explanation}
            stop |= {"stop_reason": "refusal", "stop_details": details}
        elif finish.stop_sequence is not None:
            stop |= {"stop_reason": "stop_sequence", "stop_sequence": finish.stop_sequence}
        elif finish.native == "pause_turn":
            stop["stop_reason"] = "pause_turn"
        return stop

    # --- text and thinking --------------------------------------------------------------------

    def _begin(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            self.begin()

    def _text(self, text: str) -> None:
        if self._cutter is not None:
            text = self._cutter.feed(text)
            self.ended = self.ended or self.is_cut
            if not text:
                return
        self._plain_text(text)

    def _plain_text(self, text: str) -> None:
        if self._open != TEXT:
            self._start(TEXT, {"type": TEXT, "text": ""})
        self.counts.bytes += len(text.encode())
        self.add(self._blocks - 1, TEXT, text)

    def _flush_text(self) -> None:
        """Tells what may have become a stop sequence and did not."""
        if self._cutter is not None and (held := self._cutter.rest()):
            self._plain_text(held)

    def _reasoning(self, text: str) -> None:
        self.counts.bytes += len(text.encode())
        if self._shows_thoughts:
            self._flush_text()
            if self._open != THINKING:
                self._start(THINKING, {"type": THINKING, "thinking": "", "signature": ""})
            self.add(self._blocks - 1, THINKING, text)

    def _thought(self, event: Thought) -> None:
        if event.redacted is not None:
            self._start("", {"type": "redacted_thinking", "data": event.redacted})
            self.close_block(self._blocks - 1)
        elif event.signature is not None:
            self._sign(event.signature, event.text if self._shows_thoughts else "")

    def _sign(self, signature: str, text: str = "") -> None:
        """Signs the thought that is open, else a new one that says `text`; it is whole then."""
        self._flush_text()
        if self._open != THINKING:
            self._start(THINKING, {"type": THINKING, "thinking": "", "signature": ""})
            if text:
                self.add(self._blocks - 1, THINKING, text)
        self.add(self._blocks - 1, "signature", signature)
        self._open = ""
        self.close_block(self._blocks - 1)

    # --- tool calls ---------------------------------------------------------------------------

    def _tool_call(self, event: ToolCall) -> None:
        if event.signature is not None:
            self._sign(mark("g", event.signature))
        other = f"toolu_{self._answering.new_id[-20:]}{self._blocks:04x}"
        call_id = self._call_ids.take(event.id, legal(event.id), other)
        self._start("", {"type": "tool_use", "id": call_id, "name": event.name, "input": {}})
        block = self._tools[event.tool] = ToolBlock(self._blocks - 1)
        if event.arguments:
            self._arguments(block, event.arguments)

    def _tool_arguments(self, event: ToolArguments) -> None:
        block = self._tools.get(event.tool)
        if block is not None and block.is_open:
            self._arguments(block, event.arguments)

    def _arguments(self, block: ToolBlock, piece: str) -> None:
        self.counts.bytes += len(piece.encode())
        block.pieces.append(piece)
        self.add(block.index, "input_json", piece)

    # --- blocks -------------------------------------------------------------------------------

    def _start(self, kind: str, block: dict[str, Any]) -> None:
        """Begins a block; `kind` is "" for one that is not the open text or thinking."""
        self._begin()
        if kind != TEXT:
            self._flush_text()
        self._close()
        for tool in self._tools.values():
            if tool.is_open and tool.has_whole_arguments():
                tool.is_open = False
                self.close_block(tool.index)
        self.said = True
        self.open_block(block)
        self._blocks += 1
        self._open = kind

    def _close(self) -> None:
        """Ends the text or thinking block that is open."""
        kind, self._open = self._open, ""
        if kind == THINKING:
            self.add(self._blocks - 1, "signature", _UNSIGNED)
        if kind:
            self.close_block(self._blocks - 1)

    def _end_blocks(self) -> None:
        if not self.is_cut:
            self._flush_text()
        self._close()
        for tool in self._tools.values():
            if tool.is_open:
                tool.is_open = False
                self.close_block(tool.index)
