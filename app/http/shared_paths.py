"""Which API a caller means on a path that several APIs have: the headers of its SDK tell."""

import re

from sanic import Request

from app.http.responses import head_of

_GOOGLES_HEADER = re.compile(rb"^x-goog-api-(?:key|client):", re.I | re.M).search
_GOOGLES_QUERY = re.compile(rb"\A[A-Z]+ [^ ]*[?&](?:key|pageSize)=").search


def is_anthropics(request: Request) -> bool:
    """Whether Anthropic's SDKs ask."""
    return "anthropic-version" in request.headers


def is_googles(request: Request) -> bool:
    """Whether Google's SDKs ask, by their headers or parameters; a token was taken out of both."""
    head = head_of(request)
    return _GOOGLES_HEADER(head) is not None or _GOOGLES_QUERY(head) is not None
