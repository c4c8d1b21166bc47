"""claude.ai's errors as the gateway's.

The end of a used-up limit comes as JSON inside the text of the error. Source: public clients and
captures of claude.ai.
"""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import msgspec

from app.wire.errors import GatewayError, bad_response
from app.wire.retry_after import retry_after_header
from app.wire.upstream import UpstreamReply
from providers.claude.web_schema import ErrorBody, Exceeded, WebError

_FINAL = (("x-should-retry", "false"),)
_CHALLENGE = re.compile(
    rb"just a moment|cf_chl_opt|cf-please-wait|attention required! \| cloudflare", re.IGNORECASE
)
_STATUS = {  # of an error that came inside a 200
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "overloaded_error": 529,
}
_WINDOWS = {"five_hour": "five-hour ", "seven_day": "seven-day "}


def is_challenge(reply: UpstreamReply) -> bool:
    """Whether a reply is a Cloudflare challenge: by its header, else by the words of the page."""
    if reply.headers.get("cf-mitigated", "").lower() == "challenge":
        return True
    return "json" not in reply.headers.get("content-type", "") and bool(
        _CHALLENGE.search(reply.body[:65536])
    )


def challenge() -> GatewayError:
    """The error for a Cloudflare challenge page, which only a browser can pass."""
    return GatewayError(
        502,
        "claude.ai answered with a challenge page instead of data: it does not trust this "
        "address. Use another one (claude.proxy_url). The session itself is fine.",
        code="upstream_challenge",
        outcome="upstream_challenge",
    )


def no_chat_organization() -> GatewayError:
    """The error for an account without an organization that may chat."""
    return GatewayError(
        403,
        "This Claude account has no organization that may chat. If it has one all the same, set "
        "organization_id of its entry in claude.web_sessions.",
        code="no_chat_organization",
        headers=_FINAL,
    )


def read_error(reply: UpstreamReply, now: int | None = None) -> GatewayError:
    """The error for a reply with an error status.

    `now` is Unix seconds, for the end of a used-up limit; without it the Date header counts.
    """
    if is_challenge(reply):
        return challenge()
    if 300 <= reply.status < 400:
        return GatewayError(
            502,
            "claude.ai redirects; set the address it really has in claude.web_url.",
            code="upstream_redirect",
        )
    if now is None:
        now = _date(reply.headers.get("date"))
    error = refusal(reply.status, error_in(reply.body), now)
    if error.status == 429 and error.retry_after is None:
        error.retry_after = retry_after_header(reply.headers)
    return error


def no_stream(body: bytes, now: int) -> GatewayError:
    """The error for a 200 that is not a stream: JSON, or a page."""
    if _CHALLENGE.search(body):
        return challenge()
    error = error_in(body)
    return refusal(200, error, now) if error else bad_response("claude.ai's answer is no stream.")


def refusal(status: int, error: WebError | None, now: int | None) -> GatewayError:
    """The error for a refusal before or inside the stream; `status` is 200 for the latter.

    `now` is Unix seconds, for the end of a used-up limit.
    """
    error = error or WebError()
    kind, text = error.type or "", error.message or ""
    code = error.details.get("error_code") if isinstance(error.details, dict) else None
    lower = text.lower()
    if status == 200:
        status = _STATUS.get(kind, 502)
    if status == 401 or code == "account_session_invalid":
        return GatewayError(
            401,
            "The Claude web session has expired or was not accepted; sign in again in a browser "
            "and take its new sessionKey cookie.",
            type="invalid_request_error",
            code="invalid_api_key",
        )
    if "organization has been disabled" in lower:
        return GatewayError(403, text, code="organization_disabled", headers=_FINAL)
    if status == 413 or "prompt is too long" in lower or "exceeds the maximum length" in lower:
        return GatewayError(400, text or "The prompt is too long.", code="context_length_exceeded")
    if status == 429 or kind == "rate_limit_error":
        return _limited(text, error.resets_at, now)
    if status == 403:
        return GatewayError(
            403,
            text or "claude.ai refuses this: the account's plan or region may not have the model.",
            code=str(code or kind or "permission_error"),
            headers=_FINAL,
        )
    if status == 404:
        return GatewayError(
            404,
            text or "claude.ai knows no such conversation for this account.",
            code="conversation_not_found",
            param="claude.conversation.uuid",
        )
    if 400 <= status < 500:
        return GatewayError(status, text or f"HTTP {status}.", code=str(code or kind) or None)
    return GatewayError(
        503 if (status >= 500 and kind) or status in (503, 529) else 502,
        text or f"claude.ai failed (HTTP {status}).",
        code=kind or "upstream_error",
        outcome="upstream_error",
    )


def _limited(text: str, resets_at: float | None, now: int | None) -> GatewayError:
    try:
        exceeded = msgspec.json.decode(text, type=Exceeded)
    except msgspec.DecodeError:
        exceeded = Exceeded()
    resets_at = exceeded.resetsAt or resets_at
    if resets_at is not None and not 0 < resets_at < 1e11:
        resets_at = None
    claim = exceeded.representativeClaim or ""
    # seven_day_opus and the like: the account goes on with other models.
    of_model = exceeded.perModelLimit is True or claim.startswith("seven_day_")
    if exceeded.type is not None:
        which = " for this model" if of_model else ""
        text = f"The Claude account's {_WINDOWS.get(claim, '')}limit{which} is used up"
        if resets_at is not None:
            text += f" until {datetime.fromtimestamp(resets_at, UTC):%Y-%m-%d %H:%M} UTC"
        text += "."
    code = "rate_limit_exceeded"
    if exceeded.type is not None:
        code = "model_limit_reached" if of_model else "usage_limit_reached"
    return GatewayError(
        429,
        text or "Too many requests; try again later.",
        code=code,
        retry_after=max(1.0, resets_at - now) if resets_at and now is not None else None,
    )


def error_in(body: bytes) -> WebError | None:
    """The error that JSON tells, whatever its shape; None if it tells none."""
    try:
        error = msgspec.json.decode(body, type=ErrorBody).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    try:
        return msgspec.convert(error, WebError | None)
    except msgspec.ValidationError:
        pass
    said = error if isinstance(error, dict) else {"message": error}
    texts = {name: said[name] for name in ("type", "message") if isinstance(said.get(name), str)}
    return WebError(**texts)


def _date(text: str | None) -> int | None:
    try:
        return int(parsedate_to_datetime(text or "").timestamp())
    except (ValueError, TypeError, IndexError):
        return None
