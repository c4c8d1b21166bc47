"""OpenAI's Responses as the simulated model gives them: the request in, bytes out, no I/O.

One message of one text part, or the tools that are called (tool_choice.py), whole or as named
events. The text answers "You said: <the last user message>"; a tool's result is repeated.
"""

import re
import secrets
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from app.simulator.examples import example
from app.simulator.faults import Fault
from app.simulator.openai_chat import CUSTOM_INPUT, chosen, text_of, token

JSON = dict[str, Any]
encode = msgspec.json.encode

RESULTS = ("function_call_output", "custom_tool_call_output")
# What a call and the pieces of its input are called, by the type of the tool.
WORDS = {
    "function": ("function_call", "fc_", "arguments", "response.function_call_arguments"),
    "custom": ("custom_tool_call", "ctc_", "input", "response.custom_tool_call_input"),
}


class ResponseAnswer:
    """One answer to one request, as a stream or as one object."""

    def __init__(self, body: JSON, fault: Fault) -> None:
        self.body = body
        self.id = "resp_" + secrets.token_hex(24)
        self.created = int(time.time())
        self.output_tokens = 0
        asked = body.get("input")
        items = asked if isinstance(asked, list) else [{"role": "user", "content": asked}]
        self.items = [item for item in items if isinstance(item, dict)]
        prompts = [item.get("content") for item in self.items if item.get("role") == "user"]
        self.question = text_of(prompts[-1]) if prompts else ""
        # Each item with the pieces it is streamed in.
        self.output = list(self._calls()) or [self._message(fault)]

    def _calls(self) -> Iterator[tuple[JSON, list[str]]]:
        choice = self.body.get("tool_choice")
        if choice == "none" or self._results():
            return
        tools = [tool for tool in self.body.get("tools") or [] if tool.get("type") in WORDS]
        several = self.body.get("parallel_tool_calls") is not False
        for tool, call in chosen(tools, choice, self.question, several=several):
            kind, prefix, word, _ = WORDS[tool["type"]]
            given = CUSTOM_INPUT
            if tool["type"] == "function":
                given = encode(call.arguments(tool.get("parameters"))).decode()
            item = {
                "id": prefix + secrets.token_hex(24),
                "type": kind,
                "status": "completed",
                word: given,
                "call_id": "call_" + token(),
                "name": call.name,
            }
            yield item, re.findall(r"(?s).{1,6}", given)

    def _results(self) -> list[JSON]:
        """The results that the request ends with."""
        count = next(
            (n for n, item in enumerate(reversed(self.items)) if item.get("type") not in RESULTS),
            len(self.items),
        )
        return self.items[len(self.items) - count :]

    def _message(self, fault: Fault) -> tuple[JSON, list[str]]:
        shape = (self.body.get("text") or {}).get("format") or {}
        text = f"You said: {self.question}"
        if results := self._results():
            said = ", ".join(text_of(result.get("output")) for result in results)
            text = f"The tool said: {said}"
        pieces = list(fault.pieces(text))
        if shape.get("type") == "json_schema":
            pieces = [encode(example(shape.get("schema"), self.question)).decode()]
        item: JSON = {
            "id": "msg_" + secrets.token_hex(24),
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [_part("".join(pieces))],
        }
        return item, pieces

    # as one object -----------------------------------------------------------------------------

    def whole(self) -> JSON:
        """The answer as one Response object."""
        self.output_tokens = sum(len(pieces) for _, pieces in self.output)
        return self._object("completed", [item for item, _ in self.output])

    def _object(self, status: str, output: list[JSON]) -> JSON:
        usage = {
            "input_tokens": 8,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": self.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 8 + self.output_tokens,
        }
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": self.body.get("instructions"),
            "max_output_tokens": self.body.get("max_output_tokens"),
            "model": self.body["model"],
            "output": output,
            "parallel_tool_calls": self.body.get("parallel_tool_calls") is not False,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "store": True,
            "temperature": 1.0,
            "text": {"format": {"type": "text"}},
            "tool_choice": self.body.get("tool_choice") or "auto",
            "tools": self.body.get("tools") or [],
            "top_p": 1.0,
            "truncation": "disabled",
            "usage": usage if status == "completed" else None,
            "metadata": {},
        }

    # as a stream -------------------------------------------------------------------------------

    def events(self) -> Iterator[bytes]:
        """The answer as named SSE events with sequence numbers."""
        for number, (kind, fields) in enumerate(self._event_data()):
            data = encode({"type": kind, "sequence_number": number, **fields})
            yield b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"

    def _event_data(self) -> Iterator[tuple[str, JSON]]:
        started = self._object("in_progress", [])
        yield "response.created", {"response": started}
        yield "response.in_progress", {"response": started}
        for index, (item, pieces) in enumerate(self.output):
            is_text = item["type"] == "message"
            yield from (_text if is_text else _call)(index, item, pieces)
            yield "response.output_item.done", {"output_index": index, "item": item}
        yield "response.completed", {"response": self.whole()}


def _text(index: int, item: JSON, pieces: list[str]) -> Iterator[tuple[str, JSON]]:
    begun = item | {"status": "in_progress", "content": []}
    yield "response.output_item.added", {"output_index": index, "item": begun}
    at = {"item_id": item["id"], "output_index": index, "content_index": 0}
    yield "response.content_part.added", {**at, "part": _part("")}
    for piece in pieces:
        yield "response.output_text.delta", {**at, "delta": piece, "logprobs": []}
    text = "".join(pieces)
    yield "response.output_text.done", {**at, "text": text, "logprobs": []}
    yield "response.content_part.done", {**at, "part": _part(text)}


def _call(index: int, item: JSON, pieces: list[str]) -> Iterator[tuple[str, JSON]]:
    _, _, word, event = WORDS["function" if item["type"] == "function_call" else "custom"]
    begun = item | {"status": "in_progress", word: ""}
    yield "response.output_item.added", {"output_index": index, "item": begun}
    at = {"item_id": item["id"], "output_index": index}
    for piece in pieces:
        yield f"{event}.delta", {**at, "delta": piece}
    yield f"{event}.done", {**at, word: "".join(pieces)}


def _part(text: str) -> JSON:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
