"""Anthropic's errors as the gateway's: one table for HTTP replies and in-stream errors.

Bodies are not trusted to be JSON (the edge answers with pages), and the account behind a key is
not told: ids of organizations and workspaces are cut out of the messages.
"""

import re
from contextlib import suppress

import msgspec

from app.wire.errors import GatewayError
from app.wire.retry_after import date, number, retry_after_header
from app.wire.upstream import UpstreamReply
from providers.claude.schema import ErrorDetails, MessageAnswer

# error.type -> status, OpenAI's type, code
KINDS: dict[str, tuple[int, str, str | None]] = {
    "invalid_request_error": (400, "invalid_request_error", None),
    "authentication_error": (401, "invalid_request_error", "invalid_api_key"),
    "billing_error": (402, "insufficient_quota", "insufficient_quota"),
    "permission_error": (403, "permission_error", None),
    "not_found_error": (404, "invalid_request_error", None),
    "conflict_error": (409, "invalid_request_error", None),
    "request_too_large": (413, "invalid_request_error", "request_too_large"),
    "rate_limit_error": (429, "rate_limit_exceeded", "rate_limit_exceeded"),
    "api_error": (500, "server_error", None),
    "timeout_error": (504, "server_error", "timeout_error"),
    # 529 is no registered status; some clients and proxies mishandle it.
    "overloaded_error": (503, "server_error", "overloaded_error"),
}
_BY_STATUS = {status: kind for kind, (status, _, _) in KINDS.items()} | {529: "overloaded_error"}
_AS_TOLD = {529: 503}
_OVERLOADED_SECONDS = 5.0  # a 529 seldom has a Retry-After header
_MOST_MESSAGE = 4000

# Sent as a 400, but it is the key that is of no use, not the request that is wrong. Matched at the
# start of the message: further on it may quote the caller.
_SPENT = re.compile(
    r"your credit balance is too low|you have reached your (?:specified )?.{0,40}\busage limits?\b"
    r"|you're out of extra usage|third-party apps now draw from your extra usage",
    re.IGNORECASE,
)
_DISABLED = re.compile(
    r"(?:this|your) (?:organization|account|workspace|api key) (?:has been|is|was) "
    r"(?:disabled|suspended|deactivated|banned|archived)"
    r"|this credential is only authorized for use with",
    re.IGNORECASE,
)

_decode = msgspec.json.Decoder(MessageAnswer).decode
_PRIVATE = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
    r"|\b(?:org|wrkspc)[-_][A-Za-z0-9_-]{6,}"
    r"|\bsk-ant-[A-Za-z0-9_-]+",
    re.IGNORECASE,
)


def read_error(reply: UpstreamReply) -> GatewayError:
    """The error for a reply with an error status; the message of the body is kept."""
    details = None
    # A page of the edge, or a broken body: then the status speaks alone.
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        details = _decode(reply.body).error
    message = (details.message if details else None) or (
        f"Anthropic answered {reply.status} without a reason."
    )
    error = _error(_BY_STATUS.get(reply.status), message, reply.status)
    error.retry_after = _retry_after(reply.headers, error.status)
    if reply.headers.get("x-should-retry") == "false":
        error.headers = (("x-should-retry", "false"),)
    if details is not None and error.status in (reply.status, _AS_TOLD.get(reply.status)):
        error.raw = _PRIVATE.sub("[redacted]", reply.body.decode()).encode()
        error.raw_wire = "anthropic"
    return error


def refusal_in_body(details: ErrorDetails | None) -> GatewayError:
    """The error inside an answer whose HTTP status was 200."""
    said = (details.type if details else None) or ""
    kind = said if said in KINDS else None
    message = (details.message if details else None) or "Anthropic broke off without a reason."
    error = _error(kind, message, 502)
    if kind is None:
        error.code = said[:64] or "upstream_error"
    if error.status == 503:
        error.retry_after = _OVERLOADED_SECONDS
    return error


def _error(kind: str | None, message: str, status: int) -> GatewayError:
    if kind is not None:
        status, type_, code = KINDS[kind]
    else:
        # Not in the table: what concerns the request keeps its status, the rest is our side's.
        if not 400 <= status < 500 and status not in (500, 502, 503, 504):
            status = 502
        type_, code = "", None
    if kind == "invalid_request_error" and message.startswith("prompt is too long"):
        code = "context_length_exceeded"
    if kind in ("invalid_request_error", "permission_error"):
        if _SPENT.match(message):
            status, type_, code = KINDS["billing_error"]
        elif _DISABLED.match(message):
            status, type_, code = 403, "permission_error", "organization_disabled"
    elif kind == "not_found_error" and message.startswith("model:"):
        code = "model_not_found"
    return GatewayError(
        status,
        _PRIVATE.sub("[redacted]", message[:_MOST_MESSAGE]),
        type=type_,
        code=code,
        outcome="upstream_error",
    )


def _retry_after(headers: dict[str, str], status: int) -> float | None:
    """Seconds to wait: what Retry-After says, on a 429 then the reset of the window used up. No
    clock: dates count from `date`."""
    if status not in (408, 409, 429) and status < 500:
        return None
    if (seconds := retry_after_header(headers)) is not None:
        return seconds
    if status == 429:
        return _reset(headers, date(headers.get("date")))
    return _OVERLOADED_SECONDS if status == 503 else None


_WINDOWS = (
    "anthropic-ratelimit-requests",
    "anthropic-ratelimit-tokens",
    "anthropic-ratelimit-input-tokens",
    "anthropic-ratelimit-output-tokens",
)


def _reset(headers: dict[str, str], now: float | None) -> float | None:
    if now is None:
        return None
    spent: list[float] = []
    others: list[float] = []
    for window in _WINDOWS:
        reset = date(headers.get(f"{window}-reset"))
        if reset is None:
            continue
        seconds = max(reset - now, 0.0)
        (spent if headers.get(f"{window}-remaining") == "0" else others).append(seconds)
    unified = number(headers.get("anthropic-ratelimit-unified-reset"))  # Unix time
    if unified is not None:
        spent.append(max(unified - now, 0.0))
    if spent:
        return max(spent)
    return min(others) if others else None
