"""From a request to its route and back, past the token's limits and into a free place."""

from collections.abc import Callable
from functools import partial
from typing import Any

from sanic import HTTPResponse, Request, Sanic
from sanic.exceptions import ServerError
from sanic.http import Stage

from app.auth.caller import Caller
from app.http.responses import gateway_of
from app.wire.errors import GatewayError

# Answered however busy the worker is, and to everybody whom the lock let through.
_FREE = ("/ping", "/healthz", "/readyz", "/metrics", "/admin")


class Application(Sanic[Any, Any]):
    """Sanic with a short way to the handler: no middleware and no signals, for there are none."""

    async def handle_request(self, request: Request) -> None:
        http: Any = request.stream
        try:
            route, handler, values = self.router.get(
                request.path, request.method, request.headers.get("host")
            )
            request.route, request._match_info = route, dict(values)
            if http.request_body:
                if hasattr(handler, "is_stream"):
                    http.request_max_size = float("inf")  # it counts for itself
                else:
                    request.body = await http.whole_body()
            caller: Caller | None = getattr(request.ctx, "caller", None)
            if caller is not None and not request.path.startswith(_FREE):
                if not getattr(route.ctx, "own_credential", False):
                    caller.need_keys()
                gate = self.ctx.gateway.admission
                token = caller.token
                if (token is not None and (token.rpm or token.max_concurrent)) or (
                    not gate.enter_now(caller.name, caller.is_sole)
                ):
                    await _enter(request, caller)
                else:
                    request.ctx.place = partial(gate.leave, caller.name)
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
                    http.protocol.transport.abort()  # what broke must not look whole


async def _enter(request: Request, caller: Caller) -> None:
    """Waits for a place; `request.ctx.place` gives it back. Raises GatewayError 401, 429, 503."""
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
        request.ctx.place = partial(token_limits.leave, token)
    await gate.enter(caller.name, caller.is_sole)
    before: Callable[[], None] | None = getattr(request.ctx, "place", None)

    def leave() -> None:
        gate.leave(caller.name)
        if before is not None:
            before()

    request.ctx.place = leave


def _limits(caller: Caller) -> str:
    token = caller.token
    assert token is not None
    found = []
    if token.rpm:
        found.append(f"{token.rpm} requests per minute")
    if token.max_concurrent:
        found.append(f"{token.max_concurrent} at a time")
    return ", ".join(found)
