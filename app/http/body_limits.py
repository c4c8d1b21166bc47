"""How much a JSON body may hold: a megabyte of `[[],[],[],...]` becomes a hundred once decoded.

Depth and the size of numbers are the decoder's to refuse; it does.
"""

import re

from app.wire.errors import GatewayError

MAX_VALUES = 500_000
_HARMLESS_BYTES = 64 * 1024
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)


def check_values(body: bytes) -> None:
    """Raises GatewayError 413 for more objects, lists and members than any real request has."""
    if len(body) <= _HARMLESS_BYTES or _marks(body) <= MAX_VALUES:
        return
    # Text may be full of commas and braces; only what stands outside of strings becomes objects.
    if _marks(_STRING.sub(b"", body)) > MAX_VALUES:
        raise GatewayError(
            413,
            f"The request body holds more than {MAX_VALUES} values; send fewer.",
            code="request_too_complex",
        )


def _marks(body: bytes) -> int:
    return body.count(b",") + body.count(b"[") + body.count(b"{")
