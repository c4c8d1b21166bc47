"""Errors as Google's SDKs expect them: `{"error": {"code", "message", "status", "details"}}`.

gemini-cli tells by status and details whether to ask again: it waits as long as a `RetryInfo` says,
and takes a `QuotaFailure` of the day for final. Protocol sheet: front-gemini, 5.
"""

from typing import Any

import msgspec

from app.wire.errors import GatewayError
from app.wire.overflow import counted_tokens, is_too_long

_STATUSES = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    504: "DEADLINE_EXCEEDED",
}
# Google's own statuses for what other houses say.
_MAPPED = {402: 429, 422: 400, 502: 500, 529: 503}
_TYPE = "type.googleapis.com/google.rpc."
_OVERFLOW = "The input token count"
_SPENT = "insufficient_quota"


def error_status(error: GatewayError) -> int:
    """The HTTP status."""
    if error.code == "model_not_found":
        return 404
    if is_too_long(error):
        return 400
    return _MAPPED.get(error.status, error.status)


def error_body(error: GatewayError, request_id: str = "") -> bytes:
    """The JSON body, UTF-8. Google's own body is passed on as it came."""
    if error.raw is not None and error.raw_wire == "gemini":
        return error.raw
    return _encoded(error, error_status(error), _message(error))


def error_event(error: GatewayError, request_id: str = "") -> bytes:
    """The same as the event that ends a stream which has begun."""
    said = _encoded(error, error_status(error), _message(error))
    return b"data: %b\r\n\r\n" % said


def array_error_body(error: GatewayError, request_id: str = "") -> bytes:
    """The body where a stream as a JSON array was asked for: an array, too."""
    body = error_body(error)
    return body if body.lstrip().startswith(b"[") else b"[%b\n]" % body


def array_error_event(error: GatewayError, request_id: str = "") -> bytes:
    """The last element and the end of an array that holds at least one."""
    return b"\n,\n%b\n]" % _encoded(error, error_status(error), _message(error))


def forward_error_body(error: GatewayError, request_id: str = "") -> bytes:
    """The body on a raw path of Google's API, where neither status nor words are translated."""
    return _encoded(error, error.status, error.message)


def _message(error: GatewayError) -> str:
    """What the upstream said, beginning as Google begins where clients look for it."""
    message = error.message
    if is_too_long(error) and not message.startswith(_OVERFLOW):
        counted = counted_tokens(message)
        asked, most = (f" ({count})" for count in counted) if counted else ("", "")
        begin = f"{_OVERFLOW}{asked} exceeds the maximum number of tokens allowed{most}."
        return f"{begin} {message}"
    if error.code == "model_not_found" and "not found" not in message.lower():
        return f"The model is not found: {message}"
    return message


def _encoded(error: GatewayError, status: int, message: str) -> bytes:
    word = _STATUSES.get(status) or ("UNAVAILABLE" if status >= 500 else "INVALID_ARGUMENT")
    said: dict[str, Any] = {"code": status, "message": message, "status": word}
    details: list[dict[str, Any]] = []
    if status == 401:
        info = {"reason": "API_KEY_INVALID", "domain": "googleapis.com"}
        details.append({"@type": f"{_TYPE}ErrorInfo", **info})
    if status == 429 and (error.status == 402 or _SPENT in (error.code, error.type)):
        quota = {"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel"}]}
        details.append({"@type": f"{_TYPE}QuotaFailure", **quota})
    elif (wait := error.wait) is not None:  # Google's clients read no Retry-After
        details.append({"@type": f"{_TYPE}RetryInfo", "retryDelay": f"{wait}s"})
    if details:
        said["details"] = details
    return msgspec.json.encode({"error": said})
