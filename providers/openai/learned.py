"""What upstreams turned out not to take, learned from their refusals in this worker.

Servers that call themselves OpenAI-compatible, and the models of one server, differ in the
parameters that they know, and refuse a whole request for one of them. The first refusal is answered
with the same request without it, and later requests are made so at once.
"""

import re
from collections import OrderedDict

from msgspec import Struct

from app.wire.chat import ChatRequest
from app.wire.refusals import read_refusal
from app.wire.token_limit import limit_in
from app.wire.upstream import UpstreamReply

# Parameters that an answer may be given without; the longest names first.
_OPTIONAL = (
    "max_completion_tokens",
    "parallel_tool_calls",
    "reasoning_content",
    "prompt_cache_key",
    "reasoning_effort",
    "stream_options",
    "service_tier",
    "temperature",
    "top_p",
    "stop",
)
# These are words of plain English too: they count where they are quoted.
_COMMON_WORDS = frozenset(("stop", "temperature"))
_ABOUT_VALUE = re.compile(
    r"unsupported[ _]value|\bvalues?\b|\benum\b|should be one of|must be one of"
)
# What is refused is that a member is not there.
_WANTED = re.compile(r"missing|passed back", re.IGNORECASE)
_MOST_MODELS = 256
# From what was asked to what comes next to it.
_EFFORTS = {"max": "xhigh", "xhigh": "high", "none": "minimal", "minimal": "low"}


class Learned(Struct):
    """What one model of one upstream refuses."""

    refused: set[str] = set()
    efforts: set[str] = set()  # refused values of reasoning_effort
    most_tokens: int | None = None

    def effort(self, asked: str) -> str | None:
        """The nearest effort that is not known to be refused; None to leave it out."""
        effort: str | None = asked
        while effort in self.efforts:
            effort = _EFFORTS.get(effort)
        return None if "reasoning_effort" in self.refused else effort


_models: OrderedDict[tuple[str, str], Learned] = OrderedDict()


def learned_of(api_url: str, model: str) -> Learned:
    """What is known of a model at an address; empty at first."""
    found = _models.get((api_url, model))
    if found is None:
        found = _models[api_url, model] = Learned()
        if len(_models) > _MOST_MODELS:
            _models.popitem(last=False)
    return found


def forget() -> None:
    """Forgets everything, for tests."""
    _models.clear()


def learn(known: Learned, reply: UpstreamReply, chat: ChatRequest, effort: str | None) -> bool:
    """Whether the refusal taught something, so that asking again may succeed.

    `effort` is the reasoning_effort that was refused.
    """
    if reply.status not in (400, 422):
        return False
    refusal = read_refusal(reply.body)
    said = f"{refusal.param or ''} {refusal.message}"
    if _WANTED.search(said):
        return False  # DeepSeek and Kimi want `reasoning_content` back: it is not refused
    tokens = chat.max_completion_tokens or chat.max_tokens
    tokens = min(tokens, known.most_tokens or tokens) if tokens else None
    limit = limit_in(said, tokens) if tokens else None
    if limit is not None:
        known.most_tokens = limit
        return True
    name = next((name for name in _OPTIONAL if _names(said, name, refusal.param)), None)
    if name is None or name in known.refused:
        return False
    about_value = _ABOUT_VALUE.search(f"{refusal.code} {refusal.message}".lower())
    if name == "reasoning_effort" and effort is not None and about_value:
        known.efforts.add(effort)
    else:
        known.refused.add(name)
    return True


def _names(said: str, name: str, param: str | None) -> bool:
    if param == name:
        return True
    if name in _COMMON_WORDS:
        return re.search(rf"['\"`]{name}['\"`]", said) is not None
    return re.search(rf"\b{name}\b", said) is not None
