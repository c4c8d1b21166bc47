"""Anthropic's Messages as the simulated model gives them: the request in, bytes out, no I/O.

The text answers "You said: <the last user message>". A tool is called where the request forces it
or the prompt names it (tool_choice.py); tool results are repeated. With thinking on it thinks
first, under a signature that must come back unchanged; a question with the word REDACTED adds a
redacted block. Shapes, order, padding and pings follow recorded answers of 2026.
"""

import re
import secrets
from collections.abc import Iterator
from itertools import cycle
from typing import Any

import msgspec

from app.simulator.agent_turn import act, turn_of
from app.simulator.claude_rules import redacted, signature_of
from app.simulator.examples import example
from app.simulator.faults import Fault
from app.simulator.tool_choice import Call, choose

JSON = dict[str, Any]
encode = msgspec.json.encode

LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz123456789"
# An answer names the dated snapshot, not the alias that was asked for.
SNAPSHOTS = {
    "claude-haiku-4-5": "claude-haiku-4-5-20251001",
    "claude-sonnet-4-5": "claude-sonnet-4-5-20250929",
    "claude-opus-4-1": "claude-opus-4-1-20250805",
    "claude-sonnet-4-0": "claude-sonnet-4-20250514",
}
PADS = (4, 15, 1, 0, 11, 2, 8)  # blanks after an event's JSON, against traffic analysis
PING = b'event: ping\ndata: {"type": "ping"}\n\n'
REFUSAL = "This request appears to violate our Usage Policy."


def token(prefix: str) -> str:
    """A random id with the given prefix."""
    return prefix + "01" + "".join(secrets.choice(LETTERS) for _ in range(22))


def text_of(content: Any) -> str:
    """The text of a content: a string, or its text blocks joined."""
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list) else []
    return "".join(str(block.get("text", "")) for block in blocks if isinstance(block, dict))


def count_tokens(body: JSON) -> int:
    """An estimate: words and four per message; an image or document counts 1000."""
    count = len(text_of(body.get("system")).split())
    for message in body["messages"]:
        content = message["content"]
        count += 4 + len(text_of(content).split())
        for block in content if isinstance(content, list) else ():
            if block["type"] in ("image", "document"):
                count += 1000
            elif block["type"] in ("tool_use", "tool_result"):
                count += len(encode(block)) // 4
    return count + len(encode(body.get("tools") or [])) // 4


def _said(messages: list[JSON]) -> Iterator[tuple[str, str]]:
    """The conversation for `turn_of`: a tool's result before the texts of its message."""
    for message in messages:
        content = message["content"]
        for block in content if isinstance(content, list) else ():
            if block["type"] == "tool_result":
                role = "failure" if block.get("is_error") else "result"
                yield role, text_of(block.get("content"))
        yield message["role"], text_of(content)


class Message:
    """One answer to one request, as a stream or as one object."""

    def __init__(self, body: JSON, fault: Fault) -> None:
        self.body = body
        self.fault = fault
        self.id = token("msg_")
        self.model = SNAPSHOTS.get(body["model"], body["model"])
        self.input_tokens = count_tokens(body)
        self.cached = 32 if b'"cache_control"' in encode(body) else 0
        self.stop_reason = "end_turn"
        self.stop_sequence: str | None = None
        self.thinking_tokens = 0
        self.output_tokens = 0
        self.turn = turn_of(_said(body["messages"]))
        self.question = self.turn.prompt
        self.tools = self._tools()
        schemas = {name: tool["input_schema"] for name, tool in self.tools.items()}
        self.act = act(schemas, self.turn) if self._choice() == "auto" else None
        # Each block with the pieces it is streamed in.
        self.blocks = list(self._refused() if fault.refusal else self._blocks())

    # content ------------------------------------------------------------------------------------

    def _refused(self) -> Iterator[tuple[JSON, list[str]]]:
        self.stop_reason = "refusal"
        yield from ()

    def _blocks(self) -> Iterator[tuple[JSON, list[str]]]:
        yield from self._thoughts()
        calls = self._calls()
        text = "" if calls and self._choice() in ("any", "tool") else self._text(bool(calls))
        pieces = self._limited(text)
        if pieces:
            yield {"type": "text", "text": "".join(pieces)}, pieces
        if self.stop_reason == "end_turn" and calls:
            self.stop_reason = "tool_use"
            for call, tool in calls:
                yield self._tool_use(call, tool)

    def _thoughts(self) -> Iterator[tuple[JSON, list[str]]]:
        thinking = self.body.get("thinking") or {}
        if thinking.get("type") not in ("enabled", "adaptive"):
            return
        thought = f"The user says: {self.question} I shall answer."
        pieces = re.findall(r"\s*\S+", thought)
        self.thinking_tokens = len(pieces)
        self.output_tokens += len(pieces)
        if thinking.get("display") == "omitted":
            thought, pieces = "", []
        yield {"type": "thinking", "thinking": thought, "signature": signature_of(thought)}, pieces
        if "REDACTED" in self.question:
            yield {"type": "redacted_thinking", "data": redacted(self.question)}, []

    def _choice(self) -> str:
        return str((self.body.get("tool_choice") or {}).get("type", "auto"))

    def _tools(self) -> dict[str, JSON]:
        """The client's tools that the model knows, by name."""
        found = encode(self.body["messages"])
        return {
            str(tool["name"]): tool
            for tool in self.body.get("tools") or []
            if "input_schema" in tool
            # A deferred tool is unknown to the model until a search has found it.
            and (not tool.get("defer_loading") or b'"tool_name":%b' % encode(tool["name"]) in found)
        }

    def _calls(self) -> list[tuple[Call, JSON]]:
        """The calls of this answer, each with its tool."""
        choice, tools = self.body.get("tool_choice") or {}, self.tools
        if isinstance(self.act, Call):
            return [(self.act, tools[self.act.name])]
        if self._choice() == "none" or self.turn.latest:
            return []
        if self._choice() == "tool":
            tools = {name: tool for name, tool in tools.items() if name == choice["name"]}
        calls = choose(
            list(tools),
            self.question,
            is_forced=self._choice() in ("any", "tool"),
            several=not choice.get("disable_parallel_tool_use"),
        )
        return [(call, tools[call.name]) for call in calls]

    def _tool_use(self, call: Call, tool: JSON) -> tuple[JSON, list[str]]:
        given = call.arguments(tool["input_schema"])
        block = {
            "type": "tool_use",
            "id": token("toolu_"),
            "name": tool["name"],
            "input": given,
            "caller": {"type": "direct"},
        }
        # The real one writes a blank after colons and commas, and begins with an empty piece.
        written = msgspec.json.format(encode(given), indent=0).decode() if given else ""
        pieces = ["", *re.findall(r"(?s).{1,7}", written)]
        self.output_tokens += len(pieces)
        return block, pieces

    def _text(self, calls_tools: bool) -> str:
        wanted = (self.body.get("output_config") or {}).get("format") or {}
        if wanted.get("type") == "json_schema":
            return encode(example(wanted.get("schema"), self.question)).decode()
        if calls_tools:
            return "Let me look that up."
        if isinstance(self.act, str):
            return self.act
        if self.turn.latest:
            return f"The tool said: {', '.join(self.turn.latest)}"
        return f"You said: {self.question}"

    def _limited(self, text: str) -> list[str]:
        """The pieces of the text up to a stop sequence or the limit."""
        for stop in self.body.get("stop_sequences") or []:
            if stop in text:
                text = text.split(stop, 1)[0]
                self.stop_reason, self.stop_sequence = "stop_sequence", stop
        pieces: list[str] = []
        for piece in self.fault.pieces(text) if text else ():
            if self.output_tokens >= self.body["max_tokens"]:
                self.stop_reason, self.stop_sequence = "max_tokens", None
                break
            self.output_tokens += 1
            pieces.append(piece)
        return pieces

    def _usage(self, output_tokens: int) -> JSON:
        return {
            "input_tokens": self.input_tokens,
            "cache_creation_input_tokens": self.cached,
            "cache_read_input_tokens": self.cached * 2,
            "cache_creation": {
                "ephemeral_5m_input_tokens": self.cached,
                "ephemeral_1h_input_tokens": 0,
            },
            "output_tokens": output_tokens,
            "service_tier": "standard",
            "inference_geo": "not_available",
        }

    def _ending(self) -> JSON:
        details = None
        if self.stop_reason == "refusal":
            details = {"type": "refusal", "category": "cyber", "explanation": REFUSAL}
        return {
            "stop_reason": self.stop_reason,
            "stop_sequence": self.stop_sequence,
            "stop_details": details,
        }

    def _message(self, content: list[JSON], ending: JSON, usage: JSON) -> JSON:
        return {
            "model": self.model,
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "content": content,
            **ending,
            "usage": usage,
        }

    # as one object -----------------------------------------------------------------------------

    def whole(self) -> JSON:
        """The answer as one Message object."""
        usage = self._usage(self.output_tokens)
        if self.thinking_tokens:
            usage["output_tokens_details"] = {"thinking_tokens": self.thinking_tokens}
        return self._message([block for block, _ in self.blocks], self._ending(), usage)

    # as a stream -------------------------------------------------------------------------------

    def events(self) -> Iterator[bytes]:
        """The answer as SSE events, padded, with a ping after the first block's start."""
        pads = cycle(PADS)
        pinged = False
        for event in self._event_data():
            name = event["type"].encode()
            yield b"event: %b\ndata: %b%b\n\n" % (name, encode(event), b" " * next(pads))
            if not pinged and name == b"content_block_start":
                pinged = True
                yield PING

    def _event_data(self) -> Iterator[JSON]:
        nothing = {"stop_reason": None, "stop_sequence": None, "stop_details": None}
        yield {"type": "message_start", "message": self._message([], nothing, self._usage(1))}
        for index, (block, pieces) in enumerate(self.blocks):
            yield {
                "type": "content_block_start",
                "index": index,
                "content_block": _begun(block),
            }
            for piece in pieces:
                yield _delta(index, block["type"], piece)
            if block["type"] == "thinking":
                said = {"type": "signature_delta", "signature": block["signature"]}
                yield {"type": "content_block_delta", "index": index, "delta": said}
            yield {"type": "content_block_stop", "index": index}
        usage: JSON = {
            "input_tokens": self.input_tokens,
            "cache_creation_input_tokens": self.cached,
            "cache_read_input_tokens": self.cached * 2,
            "output_tokens": self.output_tokens,
        }
        if self.thinking_tokens:
            usage["output_tokens_details"] = {"thinking_tokens": self.thinking_tokens}
        yield {"type": "message_delta", "delta": self._ending(), "usage": usage}
        yield {"type": "message_stop"}


def _begun(block: JSON) -> JSON:
    """A block as content_block_start has it: empty, but for redacted ones, which come whole."""
    match block["type"]:
        case "text":
            return block | {"text": ""}
        case "tool_use":
            return block | {"input": {}}
        case "thinking":
            return block | {"thinking": "", "signature": ""}
        case _:
            return block


def _delta(index: int, kind: str, piece: str) -> JSON:
    delta = {
        "text": {"type": "text_delta", "text": piece},
        "tool_use": {"type": "input_json_delta", "partial_json": piece},
        "thinking": {"type": "thinking_delta", "thinking": piece},
    }[kind]
    return {"type": "content_block_delta", "index": index, "delta": delta}
