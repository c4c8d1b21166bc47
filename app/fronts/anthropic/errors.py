"""Errors as Anthropic's SDKs expect them: `{"type": "error", "error": {...}, "request_id"}`.

Claude Code acts on statuses and on wording: it compacts a conversation at "prompt is too long: ",
retries what is overloaded, and asks again without streaming for a model that is not found. So every
upstream's refusal is brought to Anthropic's. Protocol sheet: front-messages, 6.
"""

import re

import msgspec

from app.wire.errors import GatewayError
from app.wire.overflow import counted_tokens, is_too_long
from app.wire.upstream import Headers

_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
STATUSES = {kind: status for status, kind in _TYPES.items()} | {
    "invalid_request_error": 400,
    "api_error": 500,
    "overloaded_error": 503,
}

ID_HEADER = "request-id"
ID_PREFIX = "req_"
_PROMPT = "prompt is too long: "
# Claude Code lowers max_tokens when it reads this.
_SUM = re.compile(r"input length and `?max_tokens`? exceed context limit", re.IGNORECASE)


def error_status(error: GatewayError) -> int:
    """The HTTP status. 529 is this family's own word for 503."""
    if "insufficient_quota" in (error.code, error.type):
        return 402
    if error.code == "model_not_found":
        return 404
    if is_too_long(error):
        return 400
    return 529 if error.status == 503 else error.status


def error_type(status: int) -> str:
    """Anthropic's word for a status."""
    kind = _TYPES.get(status)
    return kind or ("api_error" if status >= 500 else "invalid_request_error")


def error_body(error: GatewayError, request_id: str) -> bytes:
    """The JSON body, UTF-8. `request_id` is the gateway's own, without Anthropic's prefix.

    Anthropic's own body is passed on as it came.
    """
    if error.raw is not None and error.raw_wire == "anthropic":
        return error.raw
    return _encoded(error_type(error_status(error)), _message(error), ID_PREFIX + request_id)


def error_event(error: GatewayError, request_id: str) -> bytes:
    """The same as the event that ends a stream which has begun."""
    # Event data is one line: what an upstream pretty-printed is encoded anew.
    kind, message = error_type(error_status(error)), _message(error)
    return b"event: error\ndata: %b\n\n" % _encoded(kind, message, ID_PREFIX + request_id)


def error_headers(error: GatewayError) -> Headers:
    """Says that a refusal is final: Claude Code would try a refused key ten times."""
    is_final = error_status(error) in (401, 402)
    if is_final and all(name != "x-should-retry" for name, _ in error.headers):
        return [("x-should-retry", "false")]
    return []


def forward_error_body(error: GatewayError, request_id: str) -> bytes:
    """The body on a raw path of Anthropic's API, where neither status nor words are translated."""
    return _encoded(error_type(error.status), error.message, request_id)


def _message(error: GatewayError) -> str:
    """What the upstream said, beginning as Anthropic begins where clients look for it."""
    message, status = error.message, error_status(error)
    if is_too_long(error) and not _SUM.search(message):
        if message.lower().startswith(_PROMPT):
            return message
        counted = counted_tokens(message)
        told = f"{counted[0]} tokens > {counted[1]} maximum. " if counted else ""
        return f"{_PROMPT}{told}{message}"
    if status == 404 and error.code == "model_not_found" and not message.startswith("model:"):
        return f"model: {message}"
    return message


def _encoded(kind: str, message: str, request_id: str) -> bytes:
    return msgspec.json.encode(
        {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}
    )
