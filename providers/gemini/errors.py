"""Gemini's refusals as the gateway's: google.rpc.Status, alone, in an array, or no JSON at all.

Google answers a bad key with 400 and an unpaid or unsupported region with 400 too; the details
tell which. Source: Google's API error reference and recorded answers.
"""

import math
import re
from typing import Any

import msgspec

from app.wire.errors import GatewayError, bad_response
from app.wire.retry_after import asked
from app.wire.upstream import UpstreamReply
from providers.gemini.schema import ErrorAnswer, Status

_answer = msgspec.json.Decoder(ErrorAnswer)
_answers = msgspec.json.Decoder(list[ErrorAnswer])
_status = msgspec.json.Decoder(Status)

# Google names the key in some refusals ("Consumer 'api_key:AIza...' has been suspended").
_SECRET = re.compile(r"AIza[\w-]{10,}|(?<=api_key:)[^\s'\"]+|(?<=key=)[^\s&'\"]+|ya29\.[\w.-]+")
_DELAY = re.compile(r"(\d{1,9}(?:\.\d+)?)s")

_NO_JSON = (msgspec.DecodeError, ValueError, RecursionError)


def read_error(reply: UpstreamReply) -> GatewayError:
    """What an answer with an HTTP error status means for the caller."""
    status = find_status(reply.body)
    if status is None:
        return _without_json(reply)
    return to_error(status, reply.status, asked(reply.headers))


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
        return bad_response("Gemini broke its answer off with an error that cannot be read.")
    return to_error(status, status.code or 502)


def to_error(status: Status, http_status: int, retry_after: float | None = None) -> GatewayError:
    details = status.details or []
    reasons = {detail.reason for detail in details}
    text = _SECRET.sub("[redacted]", status.message or "") or f"Gemini answered {http_status}."
    word = status.status or ""
    wait = next((seconds for d in details if (seconds := _seconds(d.retry_delay))), None)
    wait = retry_after if wait is None else wait

    def error(status: int, code: str, **more: Any) -> GatewayError:
        return GatewayError(
            status, text, code=code, retry_after=wait, outcome="upstream_error", **more
        )

    match http_status:
        case 400 if "API_KEY_INVALID" in reasons or "API key expired" in text:
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
        case 403:
            return error(403, word.lower() or "permission_denied")
        case 404:
            return error(404, "model_not_found" if "models/" in text else "not_found")
        case 413:
            return error(413, "request_too_large")
        case 429:
            quotas = [v.quota_id or "" for d in details for v in d.violations or []]
            if any("PerDay" in quota for quota in quotas):
                return error(429, "insufficient_quota")
            return error(429, "rate_limit_exceeded")
        case 500 | 503 | 504:
            return error(http_status, word.lower() or "server_error")
        case _ if http_status in range(400, 499):
            return error(http_status, word.lower() or "upstream_refused")
        case _:  # 499 is "the client closed": here that is us, and so our side's doing
            return error(502, word.lower() or "upstream_bad_response")


def _seconds(delay: str | None) -> float | None:
    found = _DELAY.fullmatch(delay or "")
    return float(math.ceil(float(found[1]))) if found else None


def _without_json(reply: UpstreamReply) -> GatewayError:
    # HTML, as a wrong path or a balancer answers: its text tells a caller nothing.
    status = reply.status if reply.status in (401, 403, 404, 413, 429, 500, 503, 504) else 502
    return GatewayError(
        status,
        f"Gemini answered {reply.status} without a reason that can be read;"
        " check google_gemini.api_url if this goes on.",
        code="not_found" if status == 404 else "upstream_refused",
        retry_after=asked(reply.headers),
        outcome="upstream_error",
    )
