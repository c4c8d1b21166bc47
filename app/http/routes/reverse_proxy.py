"""The reverse proxy's paths: /v1/*, /dashboard/* and every other forward rule."""

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from sanic import HTTPResponse, Request
from sanic.exceptions import BadRequest

from app.auth import model_scope
from app.auth.caller import Caller
from app.engine.forward_call import ForwardCall
from app.engine.forwarded_request import requested_model
from app.http.error_answers import as_gateway_error
from app.http.responses import (
    METHODS,
    App,
    directory_of,
    gateway_of,
    public_address,
    record_for,
    too_large,
)
from app.http.sinks import RawSink
from app.http.websocket import CallersWebSocket, TokenModels, wants_websocket
from app.telemetry.call_log import CallRecord
from app.wire.errors import GatewayError
from app.wire.provider import ForwardRule
from providers.directory import Directory

UPSTREAMS = "/upstreams/"
Check = Callable[[bytes], None]  # of a message of a websocket; raises GatewayError


def register(app: App) -> None:
    """Adds the routes of this module."""
    directory: Directory = app.ctx.directory
    routes = {
        rule.prefix: _handler(rule)
        for rule in directory.forwards
        if not rule.prefix.startswith(UPSTREAMS)
    }
    routes[UPSTREAMS + "<name:str>/"] = _to_upstream
    for prefix, handler in routes.items():
        app.add_route(
            handler,
            prefix + "<path:path>",
            methods=METHODS,
            stream=True,
            name="forward" + "".join(c if c.isalnum() else "_" for c in prefix),
            ctx_own_credential=True,
        )


async def _to_upstream(request: Request, name: str, path: str) -> HTTPResponse | None:
    """Forwards to an entry of `upstreams`. Raises GatewayError 404 where none has this name."""
    rules = {
        rule.family: rule
        for rule in directory_of(request).forwards
        if rule.prefix.startswith(UPSTREAMS)
    }
    rule = rules.get(name)
    if rule is None:
        there_are = f"there are {', '.join(rules)}" if rules else "the config has none"
        raise GatewayError(
            404, f"There is no upstream {name[:64]!r}; {there_are}.", code="unknown_provider"
        )
    return await forward(request, rule)


def _handler(rule: ForwardRule) -> Callable[..., Coroutine[Any, Any, HTTPResponse | None]]:
    async def handle(request: Request, path: str) -> HTTPResponse | None:
        return await forward(request, rule)

    return handle


async def forward(
    request: Request,
    rule: ForwardRule,
    query: str | None = None,
    check: Check | None = None,
    *,
    has_http: bool = False,
) -> HTTPResponse | None:
    """Forwards one request by `rule`; the path is sent on as it came, before any decoding, and so
    is the query, unless there is another to be sent. `check` is for the messages of a websocket,
    `has_http` says that its caller can do without one.

    Raises GatewayError 400 for an encoded prefix, 403 for what the caller's token does not allow,
    501 for a websocket where the upstream has none.
    """
    record: CallRecord = getattr(request.ctx, "record", None) or record_for(
        request, rule.prefix + "*"
    )
    record.provider = rule.provider
    target = request.raw_url.decode("latin-1")
    path, _, came = target.partition("?")
    query = came if query is None else query
    if not path.startswith(rule.prefix):
        raise GatewayError(
            400, "Write the path as it is, without encoding its prefix.", code="bad_path"
        )
    length = request.headers.get("content-length")
    chunked = "transfer-encoding" in request.headers
    has_body = chunked or (length is not None and length != "0")
    is_websocket = wants_websocket(request)
    if is_websocket and not rule.websockets:
        raise no_websockets(rule.family)
    body = _upload(request) if has_body and not is_websocket else None
    caller: Caller = request.ctx.caller
    sink: RawSink
    if is_websocket:
        check = _both(_allow_websocket(rule, caller, query), check)
        limit = gateway_of(request).config.limits.websocket_message_bytes
        sink = CallersWebSocket(request, limit, has_http=has_http)
    else:
        body = await _allowed(request, rule, caller, path[len(rule.prefix) :], body)
        sink = RawSink(request)
    request.ctx.carried = True
    await gateway_of(request).reverse_proxy.run(
        ForwardCall(
            rule=rule,
            method=request.method,
            path=path[len(rule.prefix) :],
            query=query,
            headers=list(request.headers.items()),
            body=body,
            length=None if chunked or length is None else int(length),
            public=public_address(request),
            record=record,
            caller=caller,
            is_websocket=is_websocket,
            check_message=check,
        ),
        sink,
    )
    return sink.response


def no_websockets(family: str) -> GatewayError:
    """The error 501 for a websocket to an upstream that has none."""
    return GatewayError(
        501,
        f"{family} has no websockets; use the HTTP form of this API.",
        code="websocket_not_supported",
        headers=(("x-should-retry", "false"),),
    )


def _allow_websocket(rule: ForwardRule, caller: Caller, query: str) -> Check | None:
    """Returns the check of the caller's messages, if its token is for some models only.

    Raises GatewayError 403 for a model in the query that the token does not allow.
    """
    caller.allow_family(rule.family)
    if caller.token is None or not caller.token.models:
        return None
    model = requested_model("", None, query)
    if model:
        caller.allow(rule.family, model)
    return TokenModels(caller, rule.family, is_named=bool(model)).check


def _both(one: Check | None, other: Check | None) -> Check | None:
    if one is None or other is None:
        return one or other

    def check(message: bytes) -> None:
        one(message)
        other(message)

    return check


async def _allowed(
    request: Request,
    rule: ForwardRule,
    caller: Caller,
    path: str,
    body: AsyncIterator[bytes] | None,
) -> AsyncIterator[bytes] | None:
    """The body, once the caller's token is known to allow this request.

    The model stands in the body where the token is for some models only: then all of it is read.
    """
    caller.allow_family(rule.family)
    token = caller.token
    if token is None or not token.models or model_scope.is_model_list(request.method, path):
        return body
    model = model_scope.model_in_path(path) if rule.provider.startswith("gemini") else None
    if body is None or model:
        caller.allow(rule.family, model)
        return body
    limit = gateway_of(request).config.limits.request_bytes
    pieces, size = [], 0
    async for piece in body:
        size += len(piece)
        if size > limit:
            raise too_large(limit)
        pieces.append(piece)
    whole = b"".join(pieces)
    caller.allow(rule.family, model_scope.model_in_body(whole))
    return _once(whole)


async def _once(whole: bytes) -> AsyncIterator[bytes]:
    if whole:
        yield whole


async def _upload(request: Request) -> AsyncIterator[bytes]:
    """The body as it comes. Raises GatewayError 400 for chunks that cannot be read."""
    assert request.stream is not None
    while True:
        try:
            piece = await request.stream.read()  # type: ignore[attr-defined]
        except BadRequest as error:
            told = as_gateway_error(request, error)
            told.outcome = "refused"
            raise told from None
        if piece is None:
            return
        yield piece
