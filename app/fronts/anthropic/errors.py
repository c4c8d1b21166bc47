"""Errors as Anthropic's SDKs expect them: `{"type": "error", "error": {...}, "request_id"}`."""

import msgspec

from app.wire.errors import GatewayError

_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}


def error_body(error: GatewayError, request_id: str) -> bytes:
    """The JSON body, UTF-8. `request_id` is the gateway's own."""
    kind = _TYPES.get(error.status)
    kind = kind or ("api_error" if error.status >= 500 else "invalid_request_error")
    return msgspec.json.encode(
        {
            "type": "error",
            "error": {"type": kind, "message": error.message},
            "request_id": request_id,
        }
    )
