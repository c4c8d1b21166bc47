"""Chat by every front: one loop over what the fronts offer."""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from sanic import Request

import providers
from app.auth.credentials import callers_own
from app.engine.call import Target
from app.fronts import registry
from app.http.kept_answers import find_kept
from app.http.responses import App, body_of, directory_of, gateway_of, record_for
from app.http.run_chat import run_chat
from app.wire.asked import Asked
from app.wire.front import Front, Incoming, Route
from app.wire.provider import Provider

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
        directory = directory_of(request)
        asked = front.glance(incoming_of(request, params))
        if route.stream is not None:
            asked.stream = route.stream
        if front.refers is not None:
            await find_kept(request, front, asked)
        if route.provider is not None:
            targets = [Target(directory.pinned[route.provider], asked.model, asked.model)]
        else:
            targets = targets_of(request, front, asked)
        await run_chat(request, front, targets, asked)

    return handle


def incoming_of(request: Request, params: Mapping[str, str]) -> Incoming:
    """The request as a front glances at it. Raises GatewayError for a body that cannot be read."""
    return Incoming(
        path=request.path,
        params=params,
        query=request.query_string,
        headers=request.headers,
        body=body_of(request, gateway_of(request).config.limits.request_bytes),
    )


def targets_of(request: Request, front: Front, asked: Asked) -> list[Target]:
    """What is to answer, the first one first: what `provider`, an alias, the model's prefix or its
    family names, then the fallbacks for when its keys are spent."""
    gateway, directory = gateway_of(request), directory_of(request)
    config, caller = gateway.config, request.ctx.caller

    def has_key(provider: Provider) -> bool:
        return provider.anonymous or gateway.pool.size(provider.pool) > 0

    def may_use(provider: Provider) -> bool:
        # A credential of the caller's own was shown to OpenAI's door: no other house gets it.
        own = callers_own(request.headers, front.credential_headers)
        return bool(caller.may_use_keys) and has_key(provider) and not own

    def of_name(name: str, alias: str = "") -> Target:
        choice = directory.choose(None, name, None, has_key)
        return Target(choice.provider, choice.model, name, is_named=False, alias=alias)

    aliased = directory.targets(asked.model) if asked.provider is None and config.models else []
    if aliased:
        targets = [of_name(name, asked.model) for name in aliased]
        others = config.fallbacks.get(asked.model, ()) if config.fallbacks else ()
    else:
        choice = directory.choose(
            asked.provider, asked.model, asked, may_use, own_house=front.house
        )
        targets = [Target(choice.provider, choice.model, asked.model, choice.is_named)]
        named = config.fallbacks
        others = (named.get(asked.model) or named.get(choice.model) or ()) if named else ()
    return [*targets, *map(of_name, others)] if others else targets
