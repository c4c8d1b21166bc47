"""An answer of a simulated host of OpenAI's chat wire: OpenAI's, changed as the host's row says.

Source: protocol sheet openai-compatible, section 3.
"""

import itertools
import re
import secrets
import string
from collections.abc import Iterator
from typing import Any

from app.simulator.compatible_hosts import JSON, Host
from app.simulator.compatible_rules import thinks
from app.simulator.faults import Fault
from app.simulator.openai_chat import (
    DONE,
    KNOWN,
    REFUSAL,
    Answer,
    ToolAnswer,
    encode,
)
from app.simulator.tool_choice import Call

SIGNATURE = "c2ltdWxhdGVkIHNpZ25hdHVyZQ=="
_FORMAT = {"format": "anthropic-claude-v1", "index": 0}
Delta = tuple[JSON, str | None]  # and the reason of the finish


class HostAnswer(Answer):
    """One answer to one request, as a stream or as one object."""

    def __init__(self, host: Host, body: JSON, fault: Fault) -> None:
        self.host = host
        self.thinks = thinks(body) and host.thinking != "none"
        self.thinking_tokens = 0
        known = {name: value for name, value in body.items() if name in KNOWN}
        if known.get("tool_choice") == host.force_tool:
            known["tool_choice"] = "required"
        # Kimi counts its calls over the whole conversation.
        earlier = sum(len(each.get("tool_calls") or []) for each in body["messages"])
        self._call_numbers = itertools.count(earlier)
        super().__init__(known, fault)
        self.model = known["model"]

    # content ------------------------------------------------------------------------------------

    def _tool_call(self, tool: JSON, call: Call) -> ToolAnswer:
        made = super()._tool_call(tool, call)
        if self.host.tools.ids == "nine":
            signs = string.ascii_letters + string.digits
            identity = "".join(secrets.choice(signs) for _ in range(9))
        elif self.host.tools.ids == "functions":
            identity = f"functions.{made.name}:{next(self._call_numbers)}"
        else:
            return made
        return ToolAnswer(identity, made.type, made.name, made.arguments)

    def _thoughts(self) -> list[str]:
        if not self.thinks:
            return []
        thoughts = re.findall(r"\s*\S+", f"The user said: {self.question}")
        self.thinking_tokens = len(thoughts)
        return thoughts

    def _said(self, index: int) -> Iterator[tuple[str, str]]:
        """Pieces of the text with "", then "" with the finish reason in the host's word."""
        if self.fault.refusal:
            yield REFUSAL, ""
            yield "", self.host.stop
            return
        for piece, reason in self._pieces(index):
            yield piece, self.host.stop if reason == "stop" else reason

    def _tool_finish(self) -> str:
        choice = self.body.get("tool_choice")
        is_forced = choice == "required" or isinstance(choice, dict)
        return self.host.tools.finish if is_forced else "tool_calls"

    @property
    def usage(self) -> JSON:
        """The host's usage object, with the tokens counted so far."""
        completion, thought = self.completion_tokens, self.thinking_tokens
        total = self.prompt_tokens + completion + thought
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion + (0 if self.host.is_thinking_outside else thought),
            "total_tokens": total,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": thought},
            **self.host.usage_members,
        }

    # as one object -----------------------------------------------------------------------------

    def whole(self) -> bytes:
        """The answer as one chat completion, behind the white space that the host sends first."""
        completion = {
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": [self._choice(index) for index in range(self.count)],
            "usage": None,
            **self.host.chunk_members,
        }
        completion["usage"] = self.usage
        return self.host.padding + encode(completion)

    def _choice(self, index: int) -> JSON:
        thought = "".join(self._thoughts())
        message: JSON = {"role": "assistant", "content": None}
        if self.tools:
            message["tool_calls"] = [call.view() for call in self.tools]
            for call in self.tools:
                self.completion_tokens += len(re.findall(r"(?s).{1,6}", call.arguments))
            reason = self._tool_finish()
        else:
            pieces = list(self._said(index))
            reason = pieces[-1][1]
            message["content"] = "".join(piece for piece, _ in pieces)
        if thought:
            message |= self._whole_thinking(thought, message["content"])
        choice: JSON = {"index": index, "message": message, "finish_reason": reason}
        if self.host.last_object.endswith("done"):
            choice["delta"] = {"role": "assistant", "content": ""}
        return choice

    def _whole_thinking(self, thought: str, text: str | None) -> JSON:
        match self.host.thinking:
            case "tags":
                return {"content": f"<think>\n{thought}\n</think>\n\n{text or ''}"}
            case "parts":
                thinking: JSON = {"type": "thinking", "thinking": [_text(thought)]}
                return {"content": [thinking, *([_text(text)] if text else [])]}
            case "details":
                detail = {"type": "reasoning.text", "text": thought, "signature": SIGNATURE}
                return {"reasoning": thought, "reasoning_details": [detail | _FORMAT]}
            case member:
                return {member: thought}

    # as a stream -------------------------------------------------------------------------------

    def events(self) -> Iterator[bytes]:
        """The answer as SSE events, in the host's order and with its closing."""
        if self.host.opening:
            yield self.host.opening
        if self.host.first_chunk:
            yield b"data: %b\n\n" % encode(self.host.first_chunk)
        for index in range(self.count):
            is_last = index == self.count - 1
            for delta, reason in self._deltas(index):
                if self.host.has_role_everywhere:
                    delta = {"role": "assistant", **delta}
                yield self._host_chunk(index, delta, reason, is_last=is_last)
                if reason and is_last and self.host.usage == "repeated":
                    again = {"role": "assistant", "content": ""}
                    yield self._host_chunk(index, again, reason, usage=self.usage)
        if self.include_usage and self.host.usage in ("asked", "x_groq"):
            members = {"choices": [], "usage": self.usage, **self.host.usage_chunk_members}
            yield b"data: %b\n\n" % encode(self._frame() | members)
        if self.host.has_done:
            yield DONE

    def _frame(self) -> JSON:
        return {
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            **self.host.chunk_members,
        }

    def _host_chunk(
        self,
        index: int,
        delta: JSON,
        reason: str | None,
        *,
        is_last: bool = False,
        usage: JSON | None = None,
    ) -> bytes:
        choice: JSON = {"index": index, "delta": delta}
        if reason or self.host.has_null_finish:
            choice["finish_reason"] = reason
        chunk = self._frame()
        ends = bool(reason) and is_last
        if ends:
            chunk["object"] = self.host.last_object
        chunk["choices"] = [choice]
        if usage or self.host.usage == "always" or (ends and self.host.usage == "finish"):
            chunk["usage"] = usage or self.usage
        elif ends and self.host.usage == "x_groq":
            chunk["x_groq"] = {"id": "req_simulator", "usage": self.usage}
        return b"data: %b\n\n" % encode(chunk)

    def _deltas(self, index: int) -> Iterator[Delta]:
        """The deltas of one choice; the last one has the finish."""
        yield {"role": "assistant", "content": ""}, None
        if thoughts := self._thoughts():
            yield from ((delta, None) for delta in self._thinking_deltas(thoughts))
        if self.tools:
            for at, call in enumerate(self.tools):
                yield from ((delta, None) for delta in self._tool_deltas(at, call))
            yield {"content": ""}, self._tool_finish()
            return
        for piece, reason in self._said(index):
            yield {"content": piece}, reason or None

    def _thinking_deltas(self, thoughts: list[str]) -> Iterator[JSON]:
        match self.host.thinking:
            case "tags":
                for piece in ("<think>", "\n", *thoughts, "\n", "</think>", "\n\n"):
                    yield {"content": piece}
            case "parts":
                for piece in thoughts:
                    yield {"content": [{"type": "thinking", "thinking": [_text(piece)]}]}
            case "details":
                for piece in thoughts:
                    detail: JSON = {"type": "reasoning.text", "text": piece, **_FORMAT}
                    yield {"content": "", "reasoning": piece, "reasoning_details": [detail]}
                signed = {"type": "reasoning.text", "signature": SIGNATURE, **_FORMAT}
                yield {"content": "", "reasoning_details": [signed]}
            case member:
                for piece in thoughts:
                    yield {"content": None, member: piece}

    def _tool_deltas(self, at: int, call: ToolAnswer) -> Iterator[JSON]:
        """The pieces of one call, with the index, type and id that the host gives them."""
        ways = self.host.tools
        pieces = re.findall(r"(?s).{1,6}", call.arguments)
        self.completion_tokens += len(pieces)
        word = "input" if call.type == "custom" else "arguments"
        begun: JSON = ToolAnswer(
            call.id, call.type, call.name, call.arguments if ways.is_whole else ""
        ).view()
        if not ways.has_type:
            del begun["type"]
        place: JSON = {"index": 0 if ways.index == "zero" else at}
        if ways.index == "none":
            place = {}
        yield {"content": None, "tool_calls": [begun | place]}
        for piece in [] if ways.is_whole else pieces:
            part: JSON = {call.type: {word: piece}, **place}
            if ways.repeats_id:
                part |= {"id": "", "type": call.type}
            yield {"tool_calls": [part]}


def _text(text: Any) -> JSON:
    return {"type": "text", "text": text}
