"""What an upstream's answer says about the key it was asked with.

Pure. The consequences stand in key_pool.py.
"""

import re
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

import msgspec
from msgspec import Struct

from app.wire.errors import OUT_OF_RESOURCES, GatewayError


class Outcome(IntEnum):
    """How one attempt ended. Numbers, because they stand in shared memory."""

    OK = 0
    AUTH = 1  # 401: the key is not accepted
    FORBIDDEN = 2  # 403
    SPENT = 3  # 402, or the quota is used up
    LIMITED = 4  # 429: too fast, for this model
    UPSTREAM = 5  # 5xx, no connection, a challenge page, cut before the first event
    REQUEST = 6  # 400, 404, 413, 422 ...: any other key would say the same
    CUT = 7  # broken off after the first event
    GONE = 8  # the caller left
    OURS = 9  # the gateway itself had no means to ask

    @property
    def word(self) -> str:
        return _WORDS[self]


_WORDS = {
    Outcome.OK: "ok",
    Outcome.AUTH: "refused",
    Outcome.FORBIDDEN: "forbidden",
    Outcome.SPENT: "spent",
    Outcome.LIMITED: "rate limited",
    Outcome.UPSTREAM: "upstream failed",
    Outcome.REQUEST: "request refused",
    Outcome.CUT: "cut",
    Outcome.GONE: "caller left",
    Outcome.OURS: "gateway failed",
}
# After these another key may do better.
OTHER_KEY_MAY_DO = frozenset(
    (Outcome.AUTH, Outcome.FORBIDDEN, Outcome.SPENT, Outcome.LIMITED, Outcome.UPSTREAM)
)
# Of several keys' refusals the caller is told the one that promises most for a later try.
TELLING = (
    Outcome.REQUEST,
    Outcome.LIMITED,
    Outcome.UPSTREAM,
    Outcome.SPENT,
    Outcome.FORBIDDEN,
    Outcome.AUTH,
)
_SPENT_CODES = frozenset(("insufficient_quota", "billing_hard_limit_reached"))
_CHALLENGE_CODES = frozenset(("cloudflare_challenge", "upstream_challenge"))

_QUOTA = re.compile(rb'"(?:code|type)"\s*:\s*"insufficient_quota"|PerDay')


def of_status(status: int) -> Outcome:
    match status:
        case 401:
            return Outcome.AUTH
        case 402:
            return Outcome.SPENT
        case 403:
            return Outcome.FORBIDDEN
        case 429:
            return Outcome.LIMITED
        case 408:
            return Outcome.UPSTREAM
        case _ if status >= 500:
            return Outcome.UPSTREAM
        case _ if status >= 400:
            return Outcome.REQUEST
        case _:
            return Outcome.OK


def of_error(error: GatewayError) -> Outcome:
    """Of an error before the first event."""
    if error.code == OUT_OF_RESOURCES:
        return Outcome.OURS
    if error.code in _CHALLENGE_CODES or error.outcome == "upstream_challenge":
        return Outcome.UPSTREAM
    if error.code in _SPENT_CODES and error.status in (402, 403, 429):
        return Outcome.SPENT
    return of_status(error.status)


def of_reply(status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
    """Of an answer that nobody has read: a forwarded one."""
    outcome = of_status(status)
    if outcome is Outcome.FORBIDDEN and is_challenge(headers):
        return Outcome.UPSTREAM
    if outcome is Outcome.LIMITED and _QUOTA.search(body):
        return Outcome.SPENT
    return outcome


class _Said(Struct):
    error: Any = None
    message: Any = None
    detail: Any = None


_said = msgspec.json.Decoder(_Said).decode


def message_of(body: bytes) -> str:
    """The sentence in a refusal that nobody has read, "" where none is found."""
    try:
        said = _said(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    inner = said.error.get("message") if isinstance(said.error, dict) else said.error
    found = (text for text in (inner, said.message, said.detail) if isinstance(text, str))
    return next(found, "")


def is_challenge(headers: Mapping[str, str]) -> bool:
    """A page of the upstream's edge: about our address, not about the key."""
    mitigated = headers.get("cf-mitigated", "").lower() == "challenge"
    return mitigated or headers.get("content-type", "").lower().startswith("text/html")
