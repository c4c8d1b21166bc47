"""Events as candidates of Google's API; what a stream and a whole answer share.

Clients take a call from one part alone, so the pieces of a call are held until it is whole. Calls
that are held together leave together, in their order. Protocol sheet: front-gemini, 4.
"""

from abc import ABC, abstractmethod
from base64 import b64decode
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Raw, Struct

from app.fronts.anthropic.usage import Counts
from app.fronts.event_renderer import EventRenderer
from app.fronts.gemini.media import OTHER_ALPHABET
from app.fronts.gemini.request import is_one_word, is_wrapped
from app.fronts.gemini.signatures import sign
from app.fronts.gemini.wrapped import MEMBER, Unwrapper
from app.wire.errors import upstream_cut
from app.wire.events import (
    Event,
    Finish,
    Reasoning,
    Refusal,
    Text,
    Thought,
    TokenLogprob,
    ToolArguments,
    ToolCall,
    TopLogprob,
    Usage,
)
from app.wire.front import Answering
from app.wire.provider import Decoder
from app.wire.stop_cutter import StopCutter

STOP, LENGTH, FILTER = "STOP", "MAX_TOKENS", "SAFETY"
BAD_CALL = "MALFORMED_FUNCTION_CALL"
_REASONS = {"length": LENGTH, "content_filter": FILTER}
_NOT_JSON = (msgspec.DecodeError, UnicodeError, RecursionError)
_object = msgspec.json.Decoder(dict[str, Raw])
_decode = msgspec.json.Decoder()
encode = msgspec.json.encode


class HeldCall(Struct):
    """A call whose arguments may not have come whole yet, with the thoughts before it."""

    call: ToolCall
    pieces: list[str]
    signature: str | None

    def part(self) -> dict[str, Any] | None:
        """The part; None where the arguments are no JSON object."""
        try:
            arguments = Raw("".join(self.pieces).strip() or "{}")
            _object.decode(arguments)
        except _NOT_JSON:
            return None
        said = {"id": self.call.id, "name": self.call.name, "args": arguments}
        signed = {"thoughtSignature": self.signature} if self.signature else {}
        return {"functionCall": {k: v for k, v in said.items() if v != ""}} | signed


class Ending(Struct):
    """How a candidate ended."""

    reason: str
    message: str = ""


class Candidate:
    """One choice of the answer being told."""

    def __init__(self, cutter: StopCutter | None, unwrapper: Unwrapper | None) -> None:
        self.calls: list[HeldCall] = []  # those that are held
        self.by_tool: dict[int, HeldCall] = {}
        self.thoughts: list[Thought] = []  # since the last call, as the next
        self.reasoning: list[str] = []
        self.word: list[str] = []  # of an answer that is to be one word
        self.cutter, self.unwrapper = cutter, unwrapper
        self.refusal: list[str] = []
        self.finish: Finish | None = None

    @property
    def is_cut(self) -> bool:
        """A stop sequence was found: nothing more is told."""
        return self.cutter is not None and self.cutter.matched is not None


class GeminiRenderer(EventRenderer, ABC):
    """The candidates of one answer. `add` tells parts of one of them."""

    def __init__(self, answering: Answering, decoder: Decoder) -> None:
        super().__init__(answering, decoder)
        self.counts = UsageMetadata(answering)
        self.id = answering.new_id[:24]
        self.model = answering.asked.model or answering.model
        self.candidates: dict[int, Candidate] = {}
        chat = answering.chat
        self._shows_thoughts = chat is not None and chat.thoughts == "shown"
        self._is_one_word, self._is_wrapped = is_one_word(chat), is_wrapped(chat)
        self._cuts = answering.cuts

    # --- what an answer is told by ------------------------------------------------------------

    @abstractmethod
    def add(self, index: int, part: dict[str, Any], logprobs: list[TokenLogprob] | None) -> None:
        """One more part of a candidate."""

    # --- events -------------------------------------------------------------------------------

    def take(self, event: Event) -> None:
        """Tells one event."""
        match event:
            case Text():
                self._text(self.candidate(event.index), event)
            case Reasoning():
                if event.text:
                    self.counts.bytes += len(event.text.encode())
                    self.candidate(event.index).reasoning.append(event.text)
                    if self._shows_thoughts:
                        self._flush(event.index)
                        self._say(event.index, {"text": event.text, "thought": True})
            case Thought():
                self.candidate(event.index).thoughts.append(event)
            case Refusal():
                if event.text:
                    self.candidate(event.index).refusal.append(event.text)
                    self._say_text(event.index, event.text)
            case ToolCall():
                self._tool_call(self.candidate(event.index), event)
            case ToolArguments():
                held = self.candidate(event.index).by_tool.get(event.tool)
                if held is not None:
                    self.counts.bytes += len(event.arguments)
                    held.pieces.append(event.arguments)
            case Finish():
                candidate = self.candidate(event.index)
                candidate.finish = candidate.finish or event
            case Usage():
                self.usage = self.counts.told = event
            case _:
                self.aside(event)

    def take_all(self, events: Iterable[Event]) -> None:
        """Tells events."""
        for event in events:
            self.take(event)

    def candidate(self, index: int) -> Candidate:
        """The candidate of this number."""
        found = self.candidates.get(index)
        if found is None:
            cutter = StopCutter(self._cuts) if self._cuts else None
            unwrapper = Unwrapper() if self._is_wrapped else None
            found = self.candidates[index] = Candidate(cutter, unwrapper)
        return found

    def conclude(self) -> dict[int, Ending]:
        """Tells the rest, and returns how each candidate has ended.

        Raises GatewayError 502 for an answer without an ending.
        """
        if not self._is_cut():
            self.take_all(self.decoder.finish())
        if all(each.finish is None and not each.is_cut for each in self.candidates.values()):
            raise upstream_cut("The upstream's answer has no ending")
        return {index: self._end(index, each) for index, each in sorted(self.candidates.items())}

    def _is_cut(self) -> bool:
        """Each candidate has ended at a stop sequence: the upstream is left."""
        several = self.candidates.values()
        return bool(self._cuts and several) and all(each.is_cut for each in several)

    def _end(self, index: int, candidate: Candidate) -> Ending:
        if not candidate.is_cut:
            self._flush_text(index, candidate)
        finish = candidate.finish or Finish("stop")
        ending = Ending(_REASONS.get(finish.reason, STOP))
        if candidate.refusal and not candidate.by_tool and ending.reason == STOP:
            ending.reason = FILTER
        if ending.reason == FILTER:
            ending.message = "".join(candidate.refusal)
        for call in candidate.calls:
            if (part := call.part()) is not None:
                self._say(index, part)
            elif ending.reason != LENGTH:  # one that was cut off is left out
                ending = Ending(
                    BAD_CALL, f"The arguments of {call.call.name!r} are no JSON object."
                )
        candidate.calls = []
        return ending

    # --- text ---------------------------------------------------------------------------------

    def _text(self, candidate: Candidate, event: Text) -> None:
        text = event.text
        if self._is_one_word:
            candidate.word.append(text)
            return
        if candidate.unwrapper is not None:
            text = candidate.unwrapper.feed(text)
        if candidate.cutter is not None:
            text = candidate.cutter.feed(text)
            self.ended = self.ended or self._is_cut()
        if text or event.logprobs is not None:
            self._say_text(event.index, text, event.logprobs)

    def _say_text(self, index: int, text: str, logprobs: list[TokenLogprob] | None = None) -> None:
        self._flush(index)
        self.counts.bytes += len(text.encode())
        self._say(index, {"text": text}, logprobs)

    def _flush_text(self, index: int, candidate: Candidate) -> None:
        """Tells what was held back of the text."""
        if candidate.word:
            self._say_text(index, _one_word("".join(candidate.word)))
            return
        held = candidate.unwrapper.rest() if candidate.unwrapper is not None else ""
        if candidate.cutter is not None:
            held = candidate.cutter.feed(held) + candidate.cutter.rest()
        if held:
            self._say_text(index, held)

    def _say(
        self, index: int, part: dict[str, Any], logprobs: list[TokenLogprob] | None = None
    ) -> None:
        self.said = True
        self.add(index, part, logprobs)

    # --- calls --------------------------------------------------------------------------------

    def _tool_call(self, candidate: Candidate, event: ToolCall) -> None:
        if candidate.is_cut:
            return
        thoughts, reasoning = candidate.thoughts, "".join(candidate.reasoning)
        signature = _sayable(event.signature) or sign(thoughts, reasoning, event.id)
        candidate.thoughts, candidate.reasoning = [], []
        held = HeldCall(event, [event.arguments], signature)
        self.counts.bytes += len(event.arguments)
        candidate.calls.append(held)
        candidate.by_tool[event.tool] = held

    def _flush(self, index: int) -> None:
        """Tells the held calls that are whole; one in pieces is told at the end."""
        candidate = self.candidate(index)
        left = []
        for call in candidate.calls:
            part = call.part() if "".join(call.pieces).strip() else None
            if part is None:
                left.append(call)
            else:
                self._say(index, part)
        candidate.calls = left


def _sayable(signature: str | None) -> str | None:
    """A signature of Google's own; None for what is not base64, which google-genai cannot read."""
    try:
        b64decode((signature or "").translate(OTHER_ALPHABET), validate=True)
    except ValueError:
        return None
    return signature


def _one_word(text: str) -> str:
    """The word out of the JSON that the model was made to write; else the text as it came."""
    try:
        said = _decode.decode(text)
    except _NOT_JSON:
        return text
    if isinstance(said, dict) and len(said) == 1:
        said = said.get(MEMBER)
    return said if isinstance(said, str) else text


class UsageMetadata(Counts):
    """Token counts as Google tells them: thoughts beside the candidates, cached ones inside."""

    def metadata(self) -> dict[str, int]:
        """`usageMetadata` at the end; estimated where the upstream counts nothing."""
        counts = self.ended()
        usage = self.told or Usage()
        prompt = usage.prompt_tokens or counts["input_tokens"]
        completion = counts["output_tokens"]
        thoughts = min(usage.reasoning_tokens, completion)
        total = usage.total_tokens if usage.total_tokens and usage.prompt_tokens else None
        found = {
            "promptTokenCount": prompt,
            "candidatesTokenCount": completion - thoughts,
            "totalTokenCount": total or prompt + completion,
            "thoughtsTokenCount": thoughts,
            "cachedContentTokenCount": usage.cached_tokens,
        }
        optional = ("thoughtsTokenCount", "cachedContentTokenCount")
        return {name: count for name, count in found.items() if count > 0 or name not in optional}


def logprobs_result(tokens: list[TokenLogprob]) -> dict[str, Any]:
    """`logprobsResult` of a candidate."""

    def said(token: TokenLogprob | TopLogprob) -> dict[str, Any]:
        return {"token": token.token, "logProbability": token.logprob}

    return {
        "chosenCandidates": [said(token) for token in tokens],
        "topCandidates": [{"candidates": [said(top) for top in t.top_logprobs]} for t in tokens],
    }
