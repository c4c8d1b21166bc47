"""Checks request headers for the libraries that would send whatever they are given."""

import re

from app.wire.errors import GatewayError
from app.wire.upstream import Headers

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
_FORBIDDEN = re.compile(r"[\r\n\0]")


def check_headers(headers: Headers) -> None:
    """Raises GatewayError 400 `bad_header` for what could begin another header or request."""
    for name, value in headers:
        if not _TOKEN.match(name) or _FORBIDDEN.search(value):
            raise GatewayError(
                400,
                f"The header {name[:60]!r} holds characters that cannot be sent.",
                code="bad_header",
            )


def header_lines(headers: Headers) -> list[bytes]:
    """Header lines for curl: an empty value removes the header from the browser's own set."""
    check_headers(headers)
    return [f"{name}: {value}".encode("utf-8", "surrogateescape") for name, value in headers]
