"""Limits how many values a JSON body holds: 1 MB of `[[],[],[],...]` takes 100 MB once decoded.

The decoder itself refuses excessive depth and numbers.
"""

import re

from app.wire.errors import GatewayError

MAX_VALUES = 500_000
_HARMLESS_BYTES = 64 * 1024
_FORM = b"--"  # what a form begins with, and JSON never does
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)


def check_values(body: bytes) -> None:
    """Raises GatewayError 413 if the body holds more than MAX_VALUES values."""
    if len(body) <= _HARMLESS_BYTES or body.startswith(_FORM) or _marks(body) <= MAX_VALUES:
        return
    # Text may be full of commas and braces: only those outside of strings count.
    if _marks(_STRING.sub(b"", body)) > MAX_VALUES:
        raise GatewayError(
            413,
            f"The request body holds more than {MAX_VALUES} values; send fewer.",
            code="request_too_complex",
        )


def _marks(body: bytes) -> int:
    return body.count(b",") + body.count(b"[") + body.count(b"{")
