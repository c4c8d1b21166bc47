"""Routes a request to its handler, past the token's limits and admission control."""

from collections.abc import Callable
from functools import partial
from typing import Any

from sanic import HTTPResponse, Request, Sanic
from sanic.exceptions import ServerError
from sanic.http import Stage

from app.auth.caller import Caller
from app.http.responses import gateway_of
from app.wire.errors import GatewayError

# Answered however busy the worker is, to everybody who is authenticated.
_ALWAYS_ADMITTED = ("/ping", "/healthz", "/readyz", "/metrics", "/admin")


class Application(Sanic[Any, Any]):
    """Sanic without the steps for middleware and signals, for there are none."""

    async def handle_request(self, request: Request) -> None:
        """Finds the route, takes a place in admission control, runs the handler, sends its answer.

        What is raised goes to the error handler; a response that has begun is cut off instead.
        """
        http: Any = request.stream
        try:
            route, handler, values = self.router.get(
                request.path, request.method, request.headers.get("host")
            )
            request.route, request._match_info = route, dict(values)
            if http.request_body:
                if hasattr(handler, "is_stream"):
                    http.request_max_size = float("inf")  # it counts the bytes itself
                    if http.request_body is True and not http.request_bytes_left:
                        http.request_body = None  # nobody reads it, and Sanic would log an error
                else:
                    request.body = await http.whole_body()
            caller: Caller | None = getattr(request.ctx, "caller", None)
            if caller is not None and not request.path.startswith(_ALWAYS_ADMITTED):
                if not getattr(route.ctx, "own_credential", False):
                    caller.need_keys()
                gate = self.ctx.gateway.admission
                token = caller.token
                if (token is not None and (token.rpm or token.max_concurrent)) or (
                    not gate.enter_now(caller.name, caller.is_sole)
                ):
                    await _enter(request, caller)
                else:
                    request.ctx.release = partial(gate.leave, caller.name)
            response: HTTPResponse | None = await handler(request, **values)
            if response is not None and not request.responded:
                http.respond(response)
                await http.http1_response_header(b"", True)
            elif not request.responded:
                raise ServerError("The handler produced no response")
            elif http.send is not None:
                await http.send(b"", True)
        except Exception as error:
            await self.handle_exception(request, error, run_middleware=False)
            if http.stage is Stage.RESPONSE:
                http.stage, http.keep_alive = Stage.FAILED, False
                if http.protocol.transport is not None:
                    http.protocol.transport.abort()  # a broken response must not look complete


async def _enter(request: Request, caller: Caller) -> None:
    """Waits for a place; `request.ctx.release` gives it back. Raises GatewayError 429, 503."""
    gateway = gateway_of(request)
    gate, token_limits, token = gateway.admission, gateway.token_limits, caller.token
    if token is not None and (token.rpm or token.max_concurrent):
        wait = token_limits.enter(token)
        if wait:
            raise GatewayError(
                429,
                f"Your access token has reached its limit ({_limits(caller)}); "
                "ask again after the time in Retry-After.",
                code="token_limit",
                retry_after=wait,
            )
        request.ctx.release = partial(token_limits.leave, token)
    await gate.enter(caller.name, caller.is_sole)
    before: Callable[[], None] | None = getattr(request.ctx, "release", None)

    def leave() -> None:
        gate.leave(caller.name)
        if before is not None:
            before()

    request.ctx.release = leave


def _limits(caller: Caller) -> str:
    token = caller.token
    assert token is not None
    found = []
    if token.rpm:
        found.append(f"{token.rpm} requests per minute")
    if token.max_concurrent:
        found.append(f"{token.max_concurrent} at a time")
    return ", ".join(found)
