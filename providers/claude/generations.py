"""What each generation of Claude models supports: sampling, thinking, structured output, limits.

Read from the version in the model's name, not from a list of models: a new one then has the
abilities of the newest generation. Source: Anthropic's documentation of its models and versions.
"""

import re

from msgspec import Struct, structs

from app.wire.provider import Call
from app.wire.token_limit import AnswerLimits

LIMITS = AnswerLimits()  # where a model allows less than its generation
_DEFAULT_VERSION = "2023-06-01"
_WITHOUT_SAMPLING = "2026-10-21"  # from this API version on, no model takes sampling parameters


class Abilities(Struct, frozen=True):
    """What a model generation supports, so that Anthropic does not refuse the request."""

    sampling: bool  # temperature, top_p, top_k are not refused
    thinking: str  # "none", "budget" (thinking.budget_tokens) or "adaptive" (effort)
    structured: bool  # output_config.format and strict tools
    most_tokens: int  # the upper bound of max_tokens
    xhigh: str = "xhigh"  # what the effort of that name is called


# Newest first; a model has the abilities of the first row that is not newer than itself.
_GENERATIONS: tuple[tuple[tuple[int, int], Abilities], ...] = (
    ((4, 7), Abilities(False, "adaptive", True, 128_000)),
    ((4, 6), Abilities(True, "adaptive", True, 128_000, "max")),
    ((4, 5), Abilities(True, "budget", True, 64_000)),
    ((3, 7), Abilities(True, "budget", False, 64_000)),
    ((3, 5), Abilities(True, "none", False, 8_192)),
    ((0, 0), Abilities(True, "none", False, 4_096)),
)
_OPUS_4 = Abilities(True, "budget", False, 32_000)
_OPUS_4_1 = Abilities(True, "budget", True, 32_000)
# A name without a version may be new: send all. A 400 is retried without sampling parameters.
_UNKNOWN = Abilities(True, "adaptive", True, 128_000)
_VERSION = re.compile(
    r"claude-(?:(?P<family>[a-z]+)-)?(?P<major>\d{1,2})(?:[-.](?P<minor>\d{1,2}))?(?!\d)"
)


def abilities_of(model: str) -> Abilities:
    """The generation: claude-3-5-haiku-20241022 is 3.5, claude-sonnet-4-20250514 is 4.0."""
    found = _VERSION.search(model)
    if not found:
        return _UNKNOWN
    version = int(found["major"]), int(found["minor"] or 0)
    if found["family"] == "opus" and (4, 0) <= version < (4, 5):
        return _OPUS_4_1 if version >= (4, 1) else _OPUS_4
    return next(abilities for since, abilities in _GENERATIONS if version >= since)


def api_version(call: Call) -> str:
    """The `anthropic-version` of this call: the caller's, else the config's."""
    said = call.headers.get("anthropic-version")
    return said or call.config.claude.api_version or _DEFAULT_VERSION


def abilities_for(call: Call) -> Abilities:
    """What the model of a call supports under the API version of the call."""
    abilities = abilities_of(call.model)
    if api_version(call) >= _WITHOUT_SAMPLING:  # dates of one form: they sort as text
        return structs.replace(abilities, sampling=False)
    return abilities
