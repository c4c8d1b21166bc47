"""The last request head of a connection, so that the same head is not parsed and checked again.

An SDK sends the same head with every request of a connection, but for the digits of the length.
What parsing, `head_check` and authentication made of the last one is kept with the connection and
used for a head of exactly the same bytes, which hold the access token too.

Measured with `python -m bench --scenarios S1`, CPU per request with and without it: 125 and 187 µs
for the 16 header lines of the openai package, 125 and 184 for those of Node's fetch, 118 and 169
for the fewest lines there can be.
"""

import re
from math import inf
from typing import Any

from msgspec import Struct
from sanic import Request
from sanic.compat import Header

from app.auth.caller import Caller

_MAX_HEAD_BYTES = 4096
_MAX_DIGITS = 18
# The digits of the length: all that may differ between two heads that are otherwise the same.
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,18})(?=\r\n|\Z)", re.I).search
# A request with one of these is framed or ended in its own way: Sanic reads each anew.
_SPECIAL = frozenset(("expect", "transfer-encoding", "upgrade"))


class KnownHead(Struct, frozen=True):
    """A head that was accepted, and what was made of it.

    `start` and `end` are its bytes around the digits of the length. Without a length `start` is
    the whole head and `end` is empty.
    """

    start: bytes
    end: bytes
    length: int  # -1: no body
    url: bytes
    method: str
    headers: Header  # without the gateway's tokens
    lookup: dict[str, str]  # the same, the first value of each
    caller: Caller
    tokens: float  # version of the access tokens by which it was authenticated


def remember(request: Request, names: set[str], caller: Caller, tokens: float) -> KnownHead | None:
    """The head of a checked and authenticated request, None for one that must be read anew.

    `names` are the names of its headers before tokens were stripped, `tokens` the version of the
    access tokens. The URL must have come as it is now: a query that held a token is not remembered.
    """
    head: bytes = request.head
    if (
        len(head) > _MAX_HEAD_BYTES
        or request.version != "1.1"
        or request.method not in ("POST", "GET")
        or not _SPECIAL.isdisjoint(names)
        or caller.until != inf  # each request of a token that expires is checked
        or ("connection" in names and not _keeps_alive(request.headers))
    ):
        return None
    start, end, length = head + b"\r\n\r\n", b"", -1
    if "content-length" in names:
        found = _LENGTH(head)
        if found is None:
            return None
        start, end = head[: found.start(1)], head[found.end(1) :] + b"\r\n\r\n"
        length = int(found[1])
    headers = Header(request.headers)
    return KnownHead(
        start=start,
        end=end,
        length=length,
        url=request.raw_url,
        method=request.method,
        headers=headers,
        lookup=dict(reversed(list(headers.items()))),
        caller=caller,
        tokens=tokens,
    )


def recognise(http: Any, known: KnownHead) -> bool:
    """Takes `known` from the front of the buffer of `http`, a StrictHttp, if it is there.

    Then `http` has its request and is in the state in which Sanic's own parser leaves it. False:
    nothing was changed, and the head has to be parsed.
    """
    buffer, start = http.recv_buffer, known.start
    if not buffer.startswith(start):
        return False
    length, behind = known.length, len(start)
    if length >= 0:
        end = buffer.find(b"\r", behind, behind + _MAX_DIGITS + 1)
        digits = buffer[behind:end]
        if end < 0 or not digits.isdigit() or not buffer.startswith(known.end, end):
            return False
        length, behind = int(digits), end + len(known.end)
    request = Request(
        known.url,
        known.headers,  # copied in there
        "1.1",
        known.method,
        http.protocol.transport,
        http.protocol.app,
    )
    if length != known.length:
        request.headers["content-length"] = digits.decode()
    http.known = known
    http.keep_alive, http.head_only = True, False
    http.request_body = True if length >= 0 else None
    http.request_bytes_left = http.request_bytes = length if length > 0 else 0
    del buffer[:behind]
    http.request, request.stream = request, http
    return True


def _keeps_alive(headers: Header) -> bool:
    values = headers.getall("connection")
    return len(values) == 1 and values[0].lower() == "keep-alive"
