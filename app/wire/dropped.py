"""Which parameters of a chat request an upstream is not told, by name.

The names reach the caller in the header x-gateway-dropped-params, in this order.
"""

from collections.abc import Iterable

import msgspec

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

# Values equal to the default: leaving them out changes nothing and is not told.
_SAYS_NOTHING: dict[str, tuple[bytes, ...]] = {
    "frequency_penalty": (b"0", b"0.0"),
    "presence_penalty": (b"0", b"0.0"),
    "logit_bias": (b"{}",),
    "logprobs": (b"false",),
    "metadata": (b"{}",),
    "n": (b"1",),
    "service_tier": (b'"auto"', b'"default"'),
    "stop": (b"[]", b'""'),
    "store": (b"false",),
    "top_logprobs": (b"0",),
    "verbosity": (b'"medium"',),
}


def says_nothing(name: str, said: bytes) -> bool:
    """Whether a parameter that is this JSON text may as well be absent."""
    return said == b"null" or said in _SAYS_NOTHING.get(name, ())


def dropped_parameters(chat: ChatRequest, names: Iterable[str] = ALL_BUT_MESSAGES) -> list[str]:
    """Those of `names` that say something; `cache_control` too where any part is marked."""
    dropped = [
        name for name in names if _is_said(chat, name) and not (name == "stop" and chat.cuts_stops)
    ]
    if chat.has_cache_marks():
        dropped.append("cache_control")
    return dropped


def dropped_in_messages(chat: ChatRequest) -> list[str]:
    """`messages.name` where one says who speaks and `messages.audio` where one was spoken, for
    upstreams that cannot be told."""
    dropped = []
    if any(each.name and each.role not in ("function", "tool") for each in chat.messages):
        dropped.append("messages.name")
    if any(each.audio is not None for each in chat.messages):
        dropped.append("messages.audio")
    return dropped


def _is_said(chat: ChatRequest, name: str) -> bool:
    value = getattr(chat, name)
    if value is None or name not in _SAYS_NOTHING:
        return value is not None
    return not says_nothing(name, msgspec.json.encode(value))
