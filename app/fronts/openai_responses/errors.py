"""Errors as callers of Responses expect them, before an answer and inside a stream.

Codex acts on statuses, codes and wording: it retries what it takes for passing, compacts at
`context_length_exceeded`, and reads how long to wait from the message. Protocol sheet:
front-responses, 5.
"""

from typing import Any

import msgspec

from app.wire.errors import GatewayError, error_type
from app.wire.overflow import is_too_long
from app.wire.upstream import Headers

RAW_WIRE = "openai-responses"
_TOO_LONG = (
    "Your input exceeds the context window of this model. Please adjust your input and try again."
)
_WAIT = 10  # seconds, where nobody knows better
_LONG_WAIT = 60
_OVERLOADED = (503, 529)


def _is_quota(error: GatewayError) -> bool:
    if error.code == "budget_exceeded":  # Codex would wait for the next period
        return (error.wait or 0) > _LONG_WAIT
    return error.status == 402 or "insufficient_quota" in (error.code, error.type)


def error_status(error: GatewayError) -> int:
    """The HTTP status. What came from an upstream of this very wire keeps its own."""
    if error.raw is not None and error.raw_wire == RAW_WIRE:
        return error.status
    if _is_quota(error):
        return 429
    if is_too_long(error) or error.code == "model_not_found" or error.status == 413:
        return 400
    return 503 if error.status == 529 else error.status


def failure_of(error: GatewayError) -> dict[str, Any]:
    """`error` as OpenAI has it, with its own words for what clients act on."""
    status = error_status(error)
    message, code, param = error.message, error.code, error.param
    if is_too_long(error):
        code = "context_length_exceeded"
        if not message.startswith("Your input exceeds"):
            message = f"{_TOO_LONG} ({message})"
    elif _is_quota(error):
        code = "insufficient_quota"
    elif code == "model_not_found":
        param = param or "model"
    elif status == 401:
        code = "invalid_api_key"
    elif status == 429:
        code = "rate_limit_exceeded"
        if "try again in" not in message.lower():
            message = f"{message} Please try again in {error.wait or _WAIT}s."
    elif status in _OVERLOADED:
        code = "server_is_overloaded"
    elif status >= 500:
        code = "server_error"
    kind = error.type if status == error.status else error_type(status)
    return {"message": message, "type": kind, "param": param, "code": code}


def error_body(error: GatewayError, request_id: str = "") -> bytes:
    """The JSON body, UTF-8; OpenAI's own on this wire is passed on as it came."""
    if error.raw is not None and error.raw_wire == RAW_WIRE:
        return error.raw
    return msgspec.json.encode({"error": failure_of(error)})


def error_headers(error: GatewayError) -> Headers:
    """When to come again, without which Codex takes a rate limit for final."""
    if error_status(error) not in (429, 503) or error.wait is not None or _is_quota(error):
        return []
    return [("retry-after", str(_WAIT))]


def event_of(kind: str, fields: dict[str, Any], number: int) -> bytes:
    """One server-sent event."""
    data = msgspec.json.encode({"type": kind, **fields, "sequence_number": number})
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


def error_event(error: GatewayError, request_id: str = "") -> bytes:
    """The events that end a stream of which nothing was told but comments."""
    told = failure_of(error)
    code = {"code": told["code"], "message": told["message"]}
    response = {"id": "", "object": "response", "status": "failed", "error": code, "output": []}
    return event_of("error", {"error": told}, 0) + event_of(
        "response.failed", {"response": response}, 1
    )
