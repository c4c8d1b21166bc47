"""Which parameters of a chat request an upstream is not told, by name.

The names reach the caller in the header x-gateway-dropped-params, in this order.
"""

from collections.abc import Iterable

from app.wire.chat import ChatRequest

# For upstreams that take messages and nothing else.
ALL_BUT_MESSAGES = (
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "n",
    "stop",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "functions",
    "function_call",
    "response_format",
    "reasoning_effort",
    "modalities",
    "user",
    "safety_identifier",
)


def dropped_parameters(chat: ChatRequest, names: Iterable[str] = ALL_BUT_MESSAGES) -> list[str]:
    """Those of `names` that the caller has set; `cache_control` too where any part is marked."""
    dropped = [
        name
        for name in names
        if getattr(chat, name) is not None and not (name == "stop" and chat.cuts_stops)
    ]
    if chat.has_cache_marks():
        dropped.append("cache_control")
    return dropped
