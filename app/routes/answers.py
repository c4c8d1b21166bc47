"""How an answer leaves through Sanic: whole, streamed, forwarded, or as an error."""

import re
from collections.abc import Iterable
from random import getrandbits
from typing import Any

import msgspec
from sanic import HTTPResponse, Request, Sanic
from sanic.compat import Header
from sanic.exceptions import SanicException
from sanic.response import BaseHTTPResponse

from app.access import Caller
from app.asked_model import check_said_once
from app.clients.encoding import Inflate
from app.exchange import Ask, Way
from app.gateway import Gateway
from app.json_limits import check_values
from app.key_pool import callers_own
from app.logs import CallRecord, redact
from app.render import JSON, SSE
from app.wire.chat import Envelope
from app.wire.error_shapes import shape_of
from app.wire.errors import GatewayError
from app.wire.provider import Provider
from app.wire.upstream import Headers

App = Sanic[Any, Any]

# OPTIONS is a browser's preflight and is answered by the gateway itself.
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")

_CODE = re.compile(r"[\w.-]{1,64}", re.ASCII)
_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")

CORS: Headers = [
    ("access-control-allow-origin", "*"),
    ("access-control-expose-headers", "*"),
]
_STREAM: Headers = [("cache-control", "no-cache"), ("x-accel-buffering", "no")]


def _head(headers: Headers) -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + b"".join(f"{n}: {v}\r\n".encode() for n, v in headers)


# The lines of an answer that are always the same.
_WHOLE = _head([("content-type", JSON), *CORS])
_STREAMED = _head([("content-type", SSE), *CORS, *_STREAM])


def gateway_of(request: Request) -> Gateway:
    gateway: Gateway = request.app.ctx.gateway
    return gateway


def request_id(request: Request) -> str:
    """The caller's x-request-id if it is well formed, else a new one; the same at every call."""
    ctx = request.ctx
    found: str | None = getattr(ctx, "request_id", None)
    if found is None:
        given = request.headers.get("x-request-id")
        found = given if given and _REQUEST_ID.fullmatch(given) else f"{getrandbits(128):032x}"
        ctx.request_id = found
    return found


def record_for(request: Request, route: str) -> CallRecord:
    """The log record of this call; whoever carries the call writes it."""
    record = CallRecord(request_id=request_id(request), route=route)
    request.ctx.record = record
    return record


def headers_for(request: Request, more: Iterable[tuple[str, str]] = ()) -> Header:
    return Header([("x-request-id", request_id(request)), *CORS, *more])


_HOST = re.compile(r"[A-Za-z0-9._-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")


def public_address(request: Request) -> str:
    """Our address as this caller sees it: behind a TLS proxy that is the proxy's.

    Only ever told back to the very caller who said it.
    """
    scheme, host = request.scheme, request.host
    said = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    if said in ("http", "https"):
        scheme = said
    said = request.headers.get("x-forwarded-host", "").partition(",")[0].strip()
    if _HOST.fullmatch(said):
        host = said
    return f"{scheme}://{host}"


def body_of(request: Request, max_bytes: int) -> bytes:
    """The request's body with its content encoding undone, capped after decompression."""
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
    return GatewayError(
        413,
        f"The request body is larger than limits.request_bytes ({max_bytes}).",
        code="request_too_large",
    )


class ChatSink:
    """The exchange's way to the caller."""

    def __init__(self, request: Request) -> None:
        self._request = request
        http: Any = request.stream
        self._http = http
        self.lookup: dict[str, str] | None = http.known.lookup if http.known is not None else None
        self.headers: Headers = []
        self.started = False

    async def send(self, data: bytes) -> None:
        if not self.started:
            self.started = True
            own = ("x-request-id", request_id(self._request))
            await self._http.begin(_STREAMED, [own, *self.headers], data)
        else:
            await self._http.send(data, False)

    def write(self, data: bytes) -> bool:
        return bool(self._http.write_chunk(data))

    async def drain(self) -> None:
        await self._http.protocol._can_write.wait()

    async def end(self) -> None:
        if self.started and self._http.send is not None:
            await self._http.send(b"", True)

    async def answer(self, body: bytes) -> None:
        own = ("x-request-id", request_id(self._request))
        await self._http.answer(_WHOLE, [own, *self.headers], body)


class RawSink:
    """The forwarder's way to the caller."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._out: BaseHTTPResponse | None = None
        self.started = False
        self.response: HTTPResponse | None = None

    async def start(self, status: int, headers: Headers, has_body: bool) -> None:
        content_type = None
        kept = []
        for name, value in headers:
            if name == "content-type":
                content_type = value
            elif name != "content-length" or status not in (204, 304):
                kept.append((name, value))
        head = headers_for(self._request, kept)
        if not has_body:
            # respond() and eof() on HEAD raise inside Sanic: an ordinary empty answer instead.
            self.response = HTTPResponse(None, status, head, content_type)
            return
        self.started = True
        self._out = await self._request.respond(
            status=status, headers=head, content_type=content_type
        )
        if head.get("content-length") == "0":
            return
        await self._out.send(b"")

    async def send(self, data: bytes) -> None:
        assert self._out is not None
        await self._out.send(data)

    async def end(self) -> None:
        if self._out is not None and self._out.stream is not None:
            await self._out.send(end_stream=True)

    def abort(self) -> None:
        # abort(), not raise: after the first byte Sanic would end a broken body as a whole one.
        transport = self._request.transport
        if transport is not None:
            transport.abort()  # type: ignore[attr-defined]


def error_answer(request: Request, error: GatewayError) -> HTTPResponse:
    """A failure before the first byte, in the shape that the callers of this path read."""
    headers = headers_for(request, error.headers)
    if error.wait is not None and "retry-after" not in headers:
        headers["retry-after"] = str(error.wait)
    if error.code and _CODE.fullmatch(error.code):  # some are the upstream's own words
        headers["x-gateway-error"] = error.code
    body = shape_of(request.path)(error, request_id(request))
    return HTTPResponse(body, error.status, headers, JSON)


def as_gateway_error(request: Request, error: Exception) -> GatewayError:
    """Whatever was raised, Sanic's own refusals included, as the one error type."""
    if isinstance(error, GatewayError):
        redact.clean(error)
        return error
    if not isinstance(error, SanicException):
        return GatewayError(
            500,
            "The gateway failed at this request; its log has the cause under this x-request-id.",
            code="gateway_error",
            outcome="gateway_error",
        )
    status, outcome = error.status_code, "error"
    code: str | None
    passed = tuple((str(n), str(v)) for n, v in (getattr(error, "headers", None) or {}).items())
    match status:
        case 404:
            what, code = f"There is no route {request.path[:200]}.", "route_not_found"
        case 405:
            what, code = f"{request.method} is not offered here.", "method_not_allowed"
        case 408:
            what, code = "The request did not arrive in time.", "request_timeout"
        case 400:
            what, code = f"The request cannot be understood: {error}.", "bad_request"
        case 413 if "header" in str(error):
            status, code = 431, "headers_too_large"
            what = "The request's headers are larger than 16 KiB; send less of them."
        case 413:
            limit = request.app.config.REQUEST_MAX_SIZE
            return too_large(limit)
        case 417:
            what, code = "This expectation cannot be met.", "expectation_failed"
        case 503:
            what, code = "The gateway could not answer in time.", "gateway_timeout"
            outcome = "gateway_error"
        case 500:
            what, code = "The gateway failed at this request.", "gateway_error"
            outcome = "gateway_error"
        case 499:
            what, code, outcome = "The caller left.", None, "client_gone"
        case _:
            what, code = str(error) or f"HTTP {status}.", None
    return GatewayError(status, what, code=code, headers=passed, outcome=outcome)


def json_answer(request: Request, body: Any, status: int = 200) -> HTTPResponse:
    return HTTPResponse(msgspec.json.encode(body), status, headers_for(request), JSON)


async def carry(
    request: Request,
    provider: Provider,
    model: str,
    envelope: Envelope,
    body: bytes,
    fallbacks: Iterable[Way] = (),
) -> None:
    """Runs the exchange for one request, which is answered when this returns."""
    ctx = request.ctx
    record: CallRecord = ctx.record
    record.provider, record.model = provider.name, model[:128]
    caller: Caller = ctx.caller
    if not caller.may_use_keys and not callers_own(request.headers, provider.accepts):
        caller.need_keys()  # before the body is looked at
    caller.allow(provider.name, model)
    if caller.token is not None and caller.token.models:
        check_said_once(body, "model", "provider")
    sink = ChatSink(request)
    ctx.carried = True  # from here on the exchange writes the log line
    await gateway_of(request).exchange.run(
        Ask(
            provider=provider,
            envelope=envelope,
            body=body,
            headers=request.headers if sink.lookup is None else sink.lookup,
            model=model,
            record=record,
            caller=caller,
            fallbacks=[way for way in fallbacks if caller.may(way.provider.name, way.model)]
            if fallbacks
            else [],
        ),
        sink,
    )
