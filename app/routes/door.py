"""Between the request that has come whole and its route: the token's limits, and a free place."""

from collections.abc import Callable
from functools import partial

from sanic import Request

from app.access import Caller
from app.routes.answers import App, gateway_of
from app.wire.errors import GatewayError

# Answered however busy the worker is, and to everybody whom the lock let through.
_FREE = ("/ping", "/healthz", "/readyz", "/metrics", "/admin")


def register(app: App) -> None:
    app.on_request(enter)


async def enter(request: Request) -> None:
    """Waits for a place; `request.ctx.place` gives it back. Raises GatewayError 401, 429, 503."""
    route, stream = request.route, request.stream
    caller: Caller | None = getattr(request.ctx, "caller", None)
    if route is None or caller is None:
        return  # no route, or a preflight: nothing is carried
    is_streamed = hasattr(route.handler, "is_stream")
    if not is_streamed and stream is not None and stream.request_body:
        return  # Sanic comes by once more after a body that could not be read
    if request.path.startswith(_FREE):
        return
    if not getattr(route.ctx, "own_credential", False):
        caller.need_keys()
    gateway = gateway_of(request)
    gate, token_limits, token = gateway.gate, gateway.token_limits, caller.token
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
