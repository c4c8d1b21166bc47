"""Which shape an error of the gateway's own has: the one that the callers of its path read.

OpenAI's stands in errors.py and is everybody's but for the paths of a vendor's own API.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from app.wire.errors import GatewayError

Shape = Callable[[GatewayError, str], bytes]  # from the error and our id of the request

_ANTHROPICS = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}
_GOOGLES = {
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


def openai(error: GatewayError, request_id: str) -> bytes:
    return error.body()


def anthropic(error: GatewayError, request_id: str) -> bytes:
    kind = _ANTHROPICS.get(error.status)
    kind = kind or ("api_error" if error.status >= 500 else "invalid_request_error")
    return msgspec.json.encode(
        {
            "type": "error",
            "error": {"type": kind, "message": error.message},
            "request_id": request_id,
        }
    )


def google(error: GatewayError, request_id: str) -> bytes:
    status = error.status
    word = _GOOGLES.get(status) or ("UNAVAILABLE" if status >= 500 else "INVALID_ARGUMENT")
    said: dict[str, Any] = {"code": status, "message": error.message, "status": word}
    wait = error.wait
    if wait is not None:  # Google's clients read no Retry-After
        kind = "type.googleapis.com/google.rpc.RetryInfo"
        said["details"] = [{"@type": kind, "retryDelay": f"{wait}s"}]
    return msgspec.json.encode({"error": said})


# The first prefix that fits says the shape. A door whose answers are OpenAI's refuses as OpenAI.
_SHAPES: tuple[tuple[str, Shape], ...] = (
    ("/claude/api/openai", openai),
    ("/claude/api", anthropic),
    ("/gemini/openai", openai),
    ("/gemini/v1/openai", openai),
    ("/gemini/v1alpha/openai", openai),
    ("/gemini/v1beta/openai", openai),
    ("/gemini", google),
    # A vendor's own client with a wrong base URL.
    ("/v1/messages", anthropic),
    ("/c/v1/messages", anthropic),
    ("/v1alpha", google),
    ("/v1beta", google),
    ("/c/v1alpha", google),
    ("/c/v1beta", google),
)


def shape_of(path: str) -> Shape:
    for prefix, shape in _SHAPES:
        if path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in ("", "/"):
            return shape
    return openai
