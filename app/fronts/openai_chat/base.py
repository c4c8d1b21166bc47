"""What a stream and a whole completion share."""

from typing import Any

from app.fronts.event_renderer import EventRenderer
from app.wire.events import (
    Finish,
    Started,
    Thought,
    TokenLogprob,
    ToolCall,
    Usage,
)
from app.wire.front import Answering
from app.wire.provider import Decoder


class ChatRenderer(EventRenderer):
    """What the stream and the whole completion share: who answers, usage, the engine's commands."""

    def __init__(self, answering: Answering, decoder: Decoder) -> None:
        super().__init__(answering, decoder)
        self.model, self._alias = answering.model, answering.alias
        self.created = answering.created
        self.id = f"chatcmpl-{answering.new_id}"
        self.session = answering.session
        chat = answering.chat
        self.legacy = chat is not None and chat.uses_functions  # told as `function_call`

    def begin(self, event: Started) -> None:
        """Takes over the id and the model that the upstream tells."""
        self.id = event.id or self.id
        self.model = self._alias or event.model or self.model

    def continues(self, fields: dict[str, Any]) -> None:
        """Merges conversation state into the provider's own object."""
        # It holds the session: {"claude": {..., "conversation": {...}}}.
        for own in self.session.values():
            own.update(fields)

    def finish_reason(self, event: Finish) -> str:
        """OpenAI's word for why a choice ended."""
        return "function_call" if self.legacy and event.reason == "tool_calls" else event.reason

    def usage_object(self) -> Any:
        """OpenAI's usage object."""
        usage = self.usage or Usage()
        total = usage.total_tokens
        prompt_details: dict[str, int] = {"cached_tokens": usage.cached_tokens}
        if usage.cache_write_tokens is not None:
            prompt_details["cache_write_tokens"] = usage.cache_write_tokens
        return {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "total_tokens": usage.prompt_tokens + usage.completion_tokens
            if total is None
            else total,
            "prompt_tokens_details": prompt_details,
            "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        }


def thought_fields(event: Thought) -> dict[str, Any]:
    """A whole thought as Anthropic's block, which `thinking_blocks` hands out and takes back."""
    block: dict[str, Any]
    if event.redacted is not None:
        block = {"type": "redacted_thinking", "data": event.redacted}
    else:
        block = {"type": "thinking", "thinking": event.text, "signature": event.signature}
    return {"thinking_blocks": [block]}


def extra_content(call: ToolCall) -> dict[str, Any]:
    """The signature of a call where Google's OpenAI layer has it; nothing without one."""
    if call.signature is None:
        return {}
    return {"extra_content": {"google": {"thought_signature": call.signature}}}


def logprobs_object(tokens: list[TokenLogprob]) -> dict[str, Any]:
    """OpenAI's `logprobs` of a choice."""
    return {"content": tokens, "refusal": None}
