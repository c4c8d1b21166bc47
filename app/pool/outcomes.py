"""What an upstream's answer says about the key that was used.

Pure. key_pool.py draws the consequences.
"""

import re
from collections.abc import Mapping
from enum import IntEnum

from app.telemetry.call_log import GATEWAY_FAILED
from app.wire.errors import OUT_OF_RESOURCES, GatewayError


class Outcome(IntEnum):
    """How one attempt ended. The numbers are stored in shared memory and in files."""

    OK = 0
    AUTH = 1  # 401: the key is not accepted
    FORBIDDEN = 2  # 403
    SPENT = 3  # 402, or the quota is used up
    LIMITED = 4  # 429: too fast, for this model
    UPSTREAM = 5  # 5xx, no connection, a challenge page, cut before the first event
    REQUEST = 6  # 400, 404, 413, 422 ...: any other key would say the same
    CUT = 7  # broken off after the first event
    GONE = 8  # the caller left
    OURS = 9  # the gateway itself lacked the resources to send the request

    @property
    def word(self) -> str:
        """What log, metrics and messages call it."""
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
    Outcome.OURS: GATEWAY_FAILED,
}
# After these another key may succeed.
OTHER_KEY_MAY_DO = frozenset(
    (Outcome.AUTH, Outcome.FORBIDDEN, Outcome.SPENT, Outcome.LIMITED, Outcome.UPSTREAM)
)
# The log's words for an upstream that did not answer in time.
SILENCE = frozenset(("upstream_idle", "upstream_timeout"))
# Of several keys' refusals the caller gets the one with the best chance for a later try.
TELLING = (
    Outcome.REQUEST,
    Outcome.LIMITED,
    Outcome.UPSTREAM,
    Outcome.SPENT,
    Outcome.FORBIDDEN,
    Outcome.AUTH,
)
# Codes and types that mean an empty account. Upstreams send them with various statuses.
_SPENT_CODES = frozenset(
    (
        "insufficient_quota",  # OpenAI
        "billing_hard_limit_reached",
        "billing_not_active",
        "exceeded_current_quota_error",  # Moonshot
        "1113",  # Z.AI
        "arrearage",  # DashScope
        "accountoverdueerror",  # Volcengine
        "not_enough_balance",  # Novita
        "insufficient_balance",
        "insufficient_credits",
        "insufficient_funds",
        "credit_limit",  # Together
        "blocked_api_access",  # Groq: the spend limit
        "usage_limit_reached",
    )
)
_SPENT_WORDS = re.compile(
    # Google says the same of a per-minute quota, but then names the metric or a time to retry.
    r"exceeded your current quota(?!.*(?:retry in|quota exceeded for metric))"
    r"|\bused all available credits|\bmonthly spending limit"
    r"|credit balance is (?:too low|insufficient)|credit limit exceeded"
    r"|balance is (?:insufficient|not enough)|insufficient (?:account )?(?:balance|credits?|funds)"
    r"|(?:out of|not enough|no) credits\b|billing hard limit|account is in arrears",
    re.IGNORECASE | re.DOTALL,
)
_SPENT_STATUSES = frozenset((400, 401, 402, 403, 429))
# A 429 about the size of this one request: other requests pass, and waiting does not help.
_TOO_LARGE = re.compile(
    r"request too large|must be reduced in order to run|for long context requests",
    re.IGNORECASE,
)
# The account of the key is closed, whatever the status says.
_DEAD_CODES = frozenset(("organization_disabled", "account_deactivated", "access_terminated"))
_CHALLENGE_CODES = frozenset(("cloudflare_challenge", "upstream_challenge"))


def of_status(status: int) -> Outcome:
    """Classifies an HTTP status."""
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
    """Classifies an error that came before the first event."""
    if error.code == OUT_OF_RESOURCES:
        return Outcome.OURS
    if error.code in _CHALLENGE_CODES or error.outcome == "upstream_challenge":
        return Outcome.UPSTREAM
    if error.status in _SPENT_STATUSES and (outcome := _of_account(error)) is not None:
        return outcome
    if error.status == 429 and _TOO_LARGE.search(error.message):
        return Outcome.REQUEST
    return of_status(error.status)


def _of_account(error: GatewayError) -> Outcome | None:
    """Classifies a refusal by what it says about the key's account; None if it says nothing.

    The status alone often does not tell.
    """
    code = (error.code or "").lower()
    if code in _SPENT_CODES or error.type.lower() in _SPENT_CODES:
        return Outcome.SPENT
    if code in _DEAD_CODES:
        return Outcome.AUTH
    # A 400 may quote the caller's own text, so its words do not count. A code with "limit" in it
    # is a rate limit, whatever the words.
    if error.status in (403, 429) and "limit" not in code:
        return Outcome.SPENT if _SPENT_WORDS.search(error.message) else None
    return None


def of_told(error: GatewayError) -> Outcome:
    """Classifies an error inside an answer that has begun: what concerns the key, else CUT."""
    outcome = of_error(error)
    about_key = outcome in (Outcome.AUTH, Outcome.SPENT, Outcome.LIMITED)
    return outcome if about_key else Outcome.CUT


def of_refusal(error: GatewayError, headers: Mapping[str, str]) -> Outcome:
    """Classifies a refusal that is passed on unchanged; `error` is what its provider read in it."""
    outcome = of_error(error)
    if outcome is Outcome.FORBIDDEN and is_challenge(headers):
        return Outcome.UPSTREAM
    return outcome


def is_challenge(headers: Mapping[str, str]) -> bool:
    """Whether the answer is a challenge page of the upstream's edge (Cloudflare's
    `cf-mitigated: challenge`, or any HTML): about the gateway's address, not about the key."""
    mitigated = headers.get("cf-mitigated", "").lower() == "challenge"
    return mitigated or headers.get("content-type", "").lower().startswith("text/html")


def most_telling(errors: list[tuple[Outcome, GatewayError]]) -> GatewayError:
    """The error that says most of why no key could answer; of equals the one soonest over."""

    def rank(one: tuple[Outcome, GatewayError]) -> tuple[int, float]:
        outcome, error = one
        return TELLING.index(outcome), error.retry_after or float("inf")

    return min(errors, key=rank)[1]
