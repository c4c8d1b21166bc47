"""Errors as OpenAI's SDKs expect them: `{"error": {"message", "type", "param", "code"}}`.

Source: OpenAI's published API document and its official client.
"""

import msgspec

from app.wire.errors import ErrorBody, ErrorDetail, GatewayError


def error_body(error: GatewayError, request_id: str = "") -> bytes:
    """The JSON body, UTF-8; an upstream's body in this very shape is passed on as it came."""
    if error.raw is not None and error.raw_wire == "openai-chat":
        return error.raw
    return _encoded(error)


def error_event(error: GatewayError, request_id: str = "") -> bytes:
    """The same as one server-sent event, for a stream that has already begun."""
    # Event data is one line: what an upstream pretty-printed is encoded anew.
    return b"data: " + _encoded(error) + b"\n\n"


def _encoded(error: GatewayError) -> bytes:
    detail = ErrorDetail(error.message, error.type, error.param, error.code)
    return msgspec.json.encode(ErrorBody(detail))
