"""Chat by every front: one loop over what the fronts offer."""

from collections.abc import Callable, Coroutine
from typing import Any

from sanic import Request

import providers
from app.auth.caller import Caller
from app.auth.credentials import callers_own
from app.engine.call import Target
from app.engine.gateway import Gateway
from app.fronts import registry
from app.http.responses import App, body_of, gateway_of, record_for
from app.http.run_chat import run_chat
from app.wire.asked import Asked
from app.wire.front import Front, Incoming, Route

FRONTS = registry.fronts(providers.MEMBERS)


def register(app: App) -> None:
    """Adds the routes of every front."""
    for front in FRONTS:
        for route in front.routes:
            app.add_route(
                _handler(front, route),
                route.path,
                methods=route.methods,
                name="chat" + "".join(c if c.isalnum() else "_" for c in route.path),
                ctx_own_credential=True,
                ctx_front=front,
            )


def _handler(front: Front, route: Route) -> Callable[..., Coroutine[Any, Any, None]]:
    async def handle(request: Request, **params: str) -> None:
        record_for(request, route.path)
        gateway = gateway_of(request)
        incoming = Incoming(
            path=request.path,
            params=params,
            query={name: request.args.get(name) for name in request.args}
            if request.query_string
            else {},
            headers=request.headers,
            body=body_of(request, gateway.config.limits.request_bytes),
        )
        asked = front.glance(incoming)
        if route.stream is not None:
            asked.stream = route.stream
        fallbacks: list[Target] = []
        if route.provider is not None:
            target = Target(providers.PINNED[route.provider], asked.model, asked.model)
        else:
            target = _chosen(request, front, asked)
            fallbacks = _fallbacks(gateway, asked, target.model)
        await run_chat(request, front, target, asked, fallbacks)

    return handle


def _chosen(request: Request, front: Front, asked: Asked) -> Target:
    """The upstream that `provider`, the model's prefix or its family names."""
    gateway, caller = gateway_of(request), request.ctx.caller

    def may_use_key(pool: str) -> bool:
        # A credential of the caller's own was shown to OpenAI's door: no other house gets it.
        own = callers_own(request.headers, front.credential_headers)
        return _may_use_pool(gateway, caller, pool) and not own

    provider, model = providers.choose(asked.provider, asked.model, asked, may_use_key)
    return Target(provider, model, asked.model)


def _may_use_pool(gateway: Gateway, caller: Caller, pool: str) -> bool:
    return bool(caller.may_use_keys) and gateway.pool.size(pool) > 0


def _fallbacks(gateway: Gateway, asked: Asked, model: str) -> list[Target]:
    """The targets that the config names for when this model's keys are spent."""
    named = gateway.config.fallbacks
    if not named:
        return []

    def has_key(pool: str) -> bool:
        return gateway.pool.size(pool) > 0

    others = named.get(asked.model) or named.get(model) or ()
    return [Target(*providers.choose(None, name, None, has_key), name) for name in others]
