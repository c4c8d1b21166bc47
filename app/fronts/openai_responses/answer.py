"""The Response object: what was asked, told again, around what is answered.

Nulls are sent, for strict readers want the members. Protocol sheet: front-responses, 4.1 and 4.7.
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from app.fronts.openai_responses.request import ResponsesOptions
from app.wire.events import Usage
from app.wire.front import Answering
from app.wire.token_estimate import LEARNED, prompt_tokens

_MOST_TOOL_BYTES = 16 * 1024  # Codex' tools would be sent three times
_BYTES_PER_TOKEN = 3.5  # of an answer in UTF-8
_NULL = Raw(b"null")


class _Asked(Struct):
    """What is told again as it came."""

    instructions: Raw = _NULL
    max_output_tokens: Raw = _NULL
    max_tool_calls: Raw = _NULL
    metadata: Raw = _NULL
    parallel_tool_calls: Raw = _NULL
    previous_response_id: Raw = _NULL
    prompt_cache_key: Raw = _NULL
    safety_identifier: Raw = _NULL
    temperature: Raw = _NULL
    text: dict[str, Raw] | None = None
    tool_choice: Raw = _NULL
    tools: Raw = _NULL
    top_logprobs: Raw = _NULL
    top_p: Raw = _NULL
    truncation: Raw = _NULL
    user: Raw = _NULL
    reasoning: dict[str, Raw] | None = None


_DEFAULTS = {
    "metadata": Raw(b"{}"),
    "parallel_tool_calls": Raw(b"true"),
    "temperature": Raw(b"1.0"),
    "tool_choice": Raw(b'"auto"'),
    "tools": Raw(b"[]"),
    "top_logprobs": Raw(b"0"),
    "top_p": Raw(b"1.0"),
    "truncation": Raw(b'"disabled"'),
}
_asked = msgspec.json.Decoder(_Asked).decode


class Answer:
    """The members of one answer that are the same in each of its events."""

    def __init__(self, answering: Answering, id: str) -> None:
        self._answering = answering
        options: ResponsesOptions = answering.asked.options
        self.store = options.stores and answering.keep is not None
        self._head = {"id": id, "object": "response", "created_at": answering.created}
        said = _asked(answering.asked.body)
        echoed: dict[str, Any] = {}
        for name in _Asked.__struct_fields__:
            value = getattr(said, name)
            is_null = value is None or (isinstance(value, Raw) and bytes(value) == b"null")
            echoed[name] = _DEFAULTS.get(name) if is_null else value
        text, reasoning = echoed.pop("text") or {}, echoed.pop("reasoning") or {}
        echoed["text"] = {
            "format": text.get("format", {"type": "text"}),
            "verbosity": text.get("verbosity", "medium"),
        }
        self._echoed = {name: echoed[name] for name in sorted(echoed)}
        self._rest = {
            "model": answering.asked.model or answering.model,
            "service_tier": "default",
            "reasoning": {
                "effort": reasoning.get("effort"),
                "summary": reasoning.get("summary"),
            },
            "frequency_penalty": 0.0,
            "presence_penalty": 0.0,
        }

    def begun(self) -> dict[str, Any]:
        """The object of an answer that has only begun."""
        told = self.object("in_progress")
        if len(bytes(told["tools"])) > _MOST_TOOL_BYTES:
            told["tools"] = []
        return told

    def object(
        self,
        status: str,
        output: list[dict[str, Any]] | None = None,
        *,
        usage: dict[str, Any] | None = None,
        error: dict[str, Any] | None = None,
        reason: str | None = None,
        completed_at: int | None = None,
    ) -> dict[str, Any]:
        """The object in any state. `reason` is why it is incomplete."""
        return {
            **self._head,
            "status": status,
            "background": False,
            "completed_at": completed_at,
            "error": error,
            "incomplete_details": None if reason is None else {"reason": reason},
            **self._echoed,
            "store": self.store,
            **self._rest,
            "output": output or [],
            "usage": usage,
        }

    def usage(self, told: Usage | None, output: list[dict[str, Any]]) -> dict[str, Any]:
        """Token counts, all five; what the upstream does not tell is estimated."""
        usage = told or Usage()
        prompt = usage.prompt_tokens or self._estimate()
        completion = usage.completion_tokens or round(_size(output) / _BYTES_PER_TOKEN)
        return {
            "input_tokens": prompt,
            "input_tokens_details": {
                "cached_tokens": usage.cached_tokens,
                "cache_write_tokens": usage.cache_write_tokens or 0,
            },
            "output_tokens": completion,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
            "total_tokens": prompt + completion,
        }

    def _estimate(self) -> int:
        chat = self._answering.chat
        estimated = prompt_tokens(chat) if chat is not None else 1
        return LEARNED.applied(self._answering.model, estimated)


def _size(output: list[dict[str, Any]]) -> int:
    """Bytes of what was said in the items."""
    said = 0
    for item in output:
        parts = (*item.get("content", ()), *item.get("summary", ()))
        texts = [part.get("text") or part.get("refusal") or "" for part in parts]
        texts += [item.get(name) or "" for name in ("input", "arguments")]
        said += sum(len(text.encode()) for text in texts if isinstance(text, str))
    return said
