"""Gemini's errors as the gateway's: google.rpc.Status, alone, in an array, or no JSON at all.

Google answers a bad key with 400 and an unpaid or unsupported region with 400 too; the details
tell which. Source: Google's API error reference and recorded answers.
"""

import math
import re
from contextlib import suppress
from typing import Any

import msgspec

from app.wire.errors import GatewayError, bad_response
from app.wire.retry_after import retry_after_header
from app.wire.upstream import UpstreamReply
from providers.gemini.schema import Detail, ErrorAnswer, Status

_answer = msgspec.json.Decoder(ErrorAnswer)
_answers = msgspec.json.Decoder(list[ErrorAnswer])
_status = msgspec.json.Decoder(Status)
_detail = msgspec.json.Decoder(Detail)

# Google names the key in some refusals ("Consumer 'api_key:AIza...' has been suspended").
_SECRET = re.compile(r"AIza[\w-]{10,}|(?<=api_key:)[^\s'\"]+|(?<=key=)[^\s&'\"]+|ya29\.[\w.-]+")
# A key that is of no use, whatever the status; a reason tells it too, where there is one.
_BAD_KEY = re.compile(
    r"API key (not valid|not found|expired)|Your API key was reported as leaked", re.IGNORECASE
)
_BAD_KEY_REASONS = frozenset(("API_KEY_INVALID", "CONSUMER_SUSPENDED"))
_NO_MONEY = re.compile(r"prepayment credits|spending cap", re.IGNORECASE)
_RETRY_IN = re.compile(r"retry in (\d{1,9}(?:\.\d+)?)(ms|s)\b")
_DELAY = re.compile(r"(\d{1,9}(?:\.\d+)?)s")

_NO_JSON = (msgspec.DecodeError, ValueError, RecursionError)


def read_error(reply: UpstreamReply) -> GatewayError:
    """What an answer with an HTTP error status means for the caller."""
    status = find_status(reply.body)
    if status is None:
        return _without_json(reply)
    error = to_error(status, reply.status, retry_after_header(reply.headers))
    # Google's own clients get its own words, but where the key is named in them.
    if error.status == reply.status and not _SECRET.search(reply.body.decode("utf-8", "replace")):
        error.raw, error.raw_wire = reply.body, "gemini"
    return error


def find_status(body: bytes) -> Status | None:
    """The `error` of an object or of a one-element array; None when there is none."""
    body = body.strip()
    try:
        if body.startswith(b"["):
            found = _answers.decode(body)
            return next((answer.error for answer in found if answer.error is not None), None)
        return _answer.decode(body).error
    except _NO_JSON:
        return None


def stream_error(raw: msgspec.Raw) -> GatewayError:
    """The `error` member of a stream's element."""
    try:
        status = _status.decode(raw)
    except _NO_JSON:
        said = "an error that cannot be read"
        if bytes(raw).startswith(b'"'):  # in words, as something in between says it
            with suppress(*_NO_JSON):
                said = _SECRET.sub("[redacted]", msgspec.json.decode(raw, type=str)[:300])
        return bad_response(f"Gemini broke its answer off: {said}.")
    return to_error(status, status.http_status)


def read_close(reason: str) -> GatewayError:
    """What the reason means with which the live API closes a websocket."""
    return to_error(Status(message=reason), 429 if "quota" in reason.lower() else 400)


def to_error(status: Status, http_status: int, retry_after: float | None = None) -> GatewayError:
    """Maps Google's status to the gateway's error.

    `http_status` is that of the reply. `retry_after` is its Retry-After header in seconds; a delay
    in the details wins over it.
    """
    details = [found for raw in status.details or () if (found := _read_detail(raw)) is not None]
    reasons = {detail.reason for detail in details}
    text = _SECRET.sub("[redacted]", status.message or "") or f"Gemini answered {http_status}."
    word = status.status or ""
    wait = next((seconds for d in details if (seconds := _seconds(d.retry_delay))), None)
    if wait is None and (said := _RETRY_IN.search(text)):
        wait = float(math.ceil(float(said[1]) / (1000 if said[2] == "ms" else 1)))
    wait = retry_after if wait is None else wait

    def error(status: int, code: str, **more: Any) -> GatewayError:
        return GatewayError(
            status, text, code=code, retry_after=wait, outcome="upstream_error", **more
        )

    match http_status:
        case 400 | 403 if not reasons.isdisjoint(_BAD_KEY_REASONS) or _BAD_KEY.match(text):
            return error(401, "invalid_api_key")
        case 400 if word == "FAILED_PRECONDITION":
            if "location is not supported" in text:
                return error(403, "unsupported_country_region_territory")
            return error(403, "failed_precondition")
        case 400:
            return error(400, word.lower() or "invalid_argument")
        case 401:
            return error(401, "invalid_api_key")
        case 403 if "unregistered callers" in text:
            return error(401, "invalid_api_key")
        case 403 if "BILLING_DISABLED" in reasons:
            return error(403, "insufficient_quota")
        case 403:
            return error(403, word.lower() or "permission_denied")
        case 404:
            return error(404, "model_not_found" if "models/" in text else "not_found")
        case 413:
            return error(413, "request_too_large")
        case 429:
            spent = _NO_MONEY.search(text) or any(_is_spent(detail) for detail in details)
            return error(429, "insufficient_quota" if spent else "rate_limit_exceeded")
        case 500 | 503 | 504:
            return error(http_status, word.lower() or "server_error")
        case _ if http_status in range(400, 499):
            return error(http_status, word.lower() or "upstream_refused")
        case _:  # 499 (client closed request): the client is the gateway
            return error(502, word.lower() or "upstream_bad_response")


def _read_detail(raw: msgspec.Raw) -> Detail | None:
    try:
        return _detail.decode(raw)
    except _NO_JSON:  # of a kind that is not known here
        return None


def _is_spent(detail: Detail) -> bool:
    """Whether a daily quota of all models is used up. One of a single model spares the others."""
    shared = (detail.metadata or {}).get("quota_limit")
    quotas = [shared] if isinstance(shared, str) else []
    quotas += [
        violation.quota_id or ""
        for violation in detail.violations or ()
        if not (violation.quota_dimensions or {}).get("model")
    ]
    return any("PerDay" in quota and "PerModel" not in quota for quota in quotas)


def _seconds(delay: str | None) -> float | None:
    found = _DELAY.fullmatch(delay or "")
    return float(math.ceil(float(found[1]))) if found else None


def _without_json(reply: UpstreamReply) -> GatewayError:
    # HTML, as a wrong path or a balancer answers: its text tells a caller nothing.
    kept = (400, 401, 403, 404, 413, 429, 500, 503, 504)
    status = reply.status if reply.status in kept else 502
    return GatewayError(
        status,
        f"Gemini answered {reply.status} without a reason that can be read;"
        " check google_gemini.api_url if this goes on.",
        code="not_found" if status == 404 else "upstream_refused",
        retry_after=retry_after_header(reply.headers),
        outcome="upstream_error",
    )
