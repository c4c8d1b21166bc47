"""A request to an upstream, and a response that was read whole."""

from collections.abc import AsyncIterator
from functools import lru_cache
from typing import Literal

from msgspec import Struct

Headers = list[tuple[str, str]]
Via = Literal["api", "browser", "websocket"]


class UpstreamRequest(Struct, kw_only=True):
    """One request to an upstream, built for each call and never shared between callers.

    `headers` are (name, value) pairs in the order they are sent; the client adds Host and the
    framing headers. `body` is bytes, or an async iterator of bytes for a streamed upload. `via`
    chooses the client. `proxy` is a URL (http, https, socks5, socks5h) or None. `messages` are the
    first ones sent on a websocket. `resent` is set by the client: how often it sent it again.
    """

    method: str
    url: str
    headers: Headers
    body: bytes | AsyncIterator[bytes] | None = None
    via: Via = "api"
    proxy: str | None = None
    messages: list[str | bytes] = []
    resent: int = 0


class UpstreamReply(Struct):
    """A whole response: status, headers with lower-cased names (the last of equals wins), body.

    `set_cookies` has every Set-Cookie line: the one header whose lines cannot be joined.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    set_cookies: list[str] = []


@lru_cache(1024)
def join_url(base: str, path: str) -> str:
    """Appends `path`, which begins with /, to an origin with or without path and final slash."""
    return base.rstrip("/") + path
