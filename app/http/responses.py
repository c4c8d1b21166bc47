"""What the routes share: the gateway of a request, its id, its log record, headers and body."""

import re
from collections.abc import Iterable
from random import getrandbits
from typing import Any

import msgspec
from sanic import HTTPResponse, Request, Sanic
from sanic.compat import Header

from app.auth.caller import Caller
from app.clients.decompress import Inflate
from app.engine.gateway import Gateway
from app.http.body_limits import check_values
from app.telemetry import trace_context
from app.telemetry.call_log import CallRecord
from app.wire.errors import GatewayError
from app.wire.renderer import JSON
from app.wire.upstream import Headers
from providers.directory import Directory

App = Sanic[Any, Any]
# OPTIONS is a browser's preflight and is answered by the gateway itself.
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
CORS: Headers = [
    ("access-control-allow-origin", "*"),
    ("access-control-expose-headers", "*"),
]


def gateway_of(request: Request) -> Gateway:
    """The gateway of this worker."""
    gateway: Gateway = request.app.ctx.gateway
    return gateway


def directory_of(request: Request) -> Directory:
    """Which provider answers a call, by this worker's config."""
    directory: Directory = request.app.ctx.directory
    return directory


def head_of(request: Request) -> bytes:
    """The request's head as it came, with what authentication has taken out of it since."""
    stream: Any = request.stream
    known = stream.known
    head: bytes = request.head if known is None else known.start + known.end
    return head


def request_id(request: Request) -> str:
    """The caller's x-request-id if it is well formed, else a new one; the same for each call."""
    ctx = request.ctx
    found: str | None = getattr(ctx, "request_id", None)
    if found is None:
        given = request.headers.get("x-request-id")
        found = given if given and _REQUEST_ID.fullmatch(given) else f"{getrandbits(128):032x}"
        ctx.request_id = found
    return found


def record_for(request: Request, route: str) -> CallRecord:
    """Starts the log record of this request; the code that answers it writes it."""
    record = CallRecord(request_id=request_id(request), route=route)
    caller: Caller | None = getattr(request.ctx, "caller", None)
    if caller is not None:
        if caller.token is not None:
            record.token = caller.token.id
        gateway = gateway_of(request)
        if gateway.config.ledger_addresses:
            record.address = caller.address
        if gateway.traces is not None:
            parent = request.headers.get(trace_context.TRACEPARENT)
            trace_context.begin_trace(record, parent, gateway.config.traces.sample)
    request.ctx.record = record
    return record


def headers_for(request: Request, more: Iterable[tuple[str, str]] = ()) -> Header:
    """Response headers: x-request-id, those of CORS, and `more`."""
    return Header([("x-request-id", request_id(request)), *CORS, *more])


_HOST = re.compile(r"[A-Za-z0-9._-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")


def public_address(request: Request) -> str:
    """The base URL of the gateway as this caller sees it, from X-Forwarded-Proto and -Host if sent.

    Shown only to the caller who sent them.
    """
    scheme, host = request.scheme, request.host
    proto = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    if proto in ("http", "https"):
        scheme = proto
    forwarded = request.headers.get("x-forwarded-host", "").partition(",")[0].strip()
    if _HOST.fullmatch(forwarded):
        host = forwarded
    return f"{scheme}://{host}"


def body_of(request: Request, max_bytes: int) -> bytes:
    """The request's body, decompressed.

    Raises GatewayError 413 above `max_bytes` or with too many values, 415 for an unknown encoding,
    400 for a broken one.
    """
    body: bytes = request.body
    encoding = request.headers.get("content-encoding")
    if encoding is None or encoding.strip().lower() in ("", "identity"):
        check_values(body)
        return body
    try:
        inflate = Inflate(encoding.strip().lower(), max_bytes)
        plain = inflate.feed(body)
    except GatewayError as error:
        if "too large" in error.message:
            raise too_large(max_bytes) from None
        raise GatewayError(
            415 if "unasked" in error.message else 400,
            f"The request body's content-encoding {encoding[:32]!r} cannot be read; "
            "send gzip, deflate or none.",
            code="bad_encoding",
        ) from None
    if not inflate.whole:
        raise GatewayError(400, "The compressed request body ends early.", code="bad_encoding")
    check_values(plain)
    return plain


def too_large(max_bytes: int) -> GatewayError:
    """The error for a body above limits.request_bytes."""
    return GatewayError(
        413,
        f"The request body is larger than limits.request_bytes ({max_bytes}).",
        code="request_too_large",
    )


def json_answer(request: Request, body: Any, status: int = 200) -> HTTPResponse:
    """`body` encoded as JSON, with the usual headers."""
    return HTTPResponse(msgspec.json.encode(body), status, headers_for(request), JSON)
