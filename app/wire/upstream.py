"""What goes to an upstream and what comes back when it is small enough to be whole."""

from collections.abc import AsyncIterator
from typing import Literal

from msgspec import Struct

Headers = list[tuple[str, str]]
Via = Literal["api", "browser", "websocket"]


class UpstreamRequest(Struct, kw_only=True):
    """One request to an upstream, built fresh per call and never shared between callers.

    `headers` are (name, value) pairs in the order they are sent; Host and framing headers are the
    client's own business. `body` is bytes, or an async iterator of bytes for a streamed upload.
    `proxy` is a URL (http, https, socks5) or None. `messages` are what a websocket says first.
    """

    method: str
    url: str
    headers: Headers
    body: bytes | AsyncIterator[bytes] | None = None
    via: Via = "api"
    proxy: str | None = None
    messages: list[str | bytes] = []


class UpstreamReply(Struct):
    """A whole answer: status, headers with lower-cased names (the last of equals wins), body.

    `set_cookies` has every Set-Cookie line: they are the one header that cannot be joined.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    set_cookies: list[str] = []


def join_url(base: str, path: str) -> str:
    """`base` is an origin with or without a path prefix or trailing slash; `path` begins with /."""
    return base.rstrip("/") + path
