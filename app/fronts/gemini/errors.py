"""Errors as Google's SDKs expect them: `{"error": {"code", "message", "status", "details"}}`."""

from typing import Any

import msgspec

from app.wire.errors import GatewayError

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


def error_body(error: GatewayError, request_id: str = "") -> bytes:
    """The JSON body, UTF-8, with a `RetryInfo` where there is a time to wait."""
    status = error.status
    word = _STATUSES.get(status) or ("UNAVAILABLE" if status >= 500 else "INVALID_ARGUMENT")
    said: dict[str, Any] = {"code": status, "message": error.message, "status": word}
    wait = error.wait
    if wait is not None:  # Google's clients read no Retry-After
        kind = "type.googleapis.com/google.rpc.RetryInfo"
        said["details"] = [{"@type": kind, "retryDelay": f"{wait}s"}]
    return msgspec.json.encode({"error": said})
