"""Token counts as Messages tells them: an estimate when an answer begins, the truth at its end.

Anthropic counts cached tokens apart from `input_tokens`, the gateway counts them in. Clients read
their context window from these figures, so that zeros would blind them: what no upstream tells is
estimated. Protocol sheet: front-messages, 5.7.
"""

from typing import Any

from app.wire.events import Usage
from app.wire.front import Answering
from app.wire.token_estimate import LEARNED, prompt_tokens

_BYTES_PER_TOKEN = 3.5  # of an answer in UTF-8


class Counts:
    """The counts of one answer. `told` are the upstream's, `bytes` what was said so far."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering
        self._estimated: int | None = None
        self.told: Usage | None = None
        self.bytes = 0

    def begun(self) -> dict[str, Any]:
        """`usage` of message_start."""
        return {
            "input_tokens": self._estimate(),
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 1,
        }

    def ended(self) -> dict[str, Any]:
        """`usage` of the whole answer."""
        usage = self.told or Usage()
        written = usage.cache_write_tokens or 0
        if usage.prompt_tokens:
            fresh = max(usage.prompt_tokens - usage.cached_tokens - written, 0)
            if self._estimated is not None:
                LEARNED.learn(self._answering.model, self._estimated, usage.prompt_tokens)
        else:
            fresh = self._estimate()
        counts: dict[str, Any] = {
            "input_tokens": fresh,
            "cache_creation_input_tokens": written,
            "cache_read_input_tokens": usage.cached_tokens,
            "output_tokens": usage.completion_tokens or round(self.bytes / _BYTES_PER_TOKEN),
        }
        if usage.reasoning_tokens > 0:
            counts["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
        return counts

    def _estimate(self) -> int:
        chat = self._answering.chat
        if self._estimated is None:
            self._estimated = prompt_tokens(chat) if chat is not None else 1
        return LEARNED.applied(self._answering.model, self._estimated)
