"""Chat that is answered in OpenAI's shape, asked in OpenAI's or in an upstream's own."""

from collections.abc import Callable, Coroutine
from typing import Any

from sanic import Request

import providers
from app.auth.credentials import callers_own
from app.engine.call import Target
from app.http.responses import App, body_of, gateway_of, record_for
from app.http.run_chat import carry
from app.wire.chat import Envelope, read_request
from app.wire.provider import Provider

COMPLETIONS = "/c/v1/chat/completions"


def register(app: App) -> None:
    app.add_route(completions, COMPLETIONS, methods=["POST"], ctx_own_credential=True)
    for path, provider in providers.NATIVE.items():
        name = "native" + path.replace("/", "_")
        app.add_route(
            _native(path, provider), path, methods=["POST"], name=name, ctx_own_credential=True
        )


async def completions(request: Request) -> None:
    """An OpenAI chat request for whichever upstream `provider` or the model's prefix names."""
    record_for(request, COMPLETIONS)
    body = body_of(request, gateway_of(request).config.limits.request_bytes)
    body, envelope = read_request(body)
    gateway, caller = gateway_of(request), request.ctx.caller

    def has_key(pool: str) -> bool:
        return gateway.pool.size(pool) > 0

    def may_use_key(pool: str) -> bool:
        # A credential of the caller's own was shown to OpenAI's door: no other house gets it.
        own = callers_own(request.headers, ("authorization",))
        return bool(caller.may_use_keys) and not own and has_key(pool)

    provider, model = providers.choose(envelope, may_use_key)
    named, ways = gateway.config.fallbacks, []
    if named:
        others = named.get(envelope.model or "") or named.get(model) or ()
        ways = [Target(*providers.choose(Envelope(model=name), has_key), name) for name in others]
    await carry(request, provider, model, envelope, body, ways)


def _native(path: str, provider: Provider) -> Callable[[Request], Coroutine[Any, Any, None]]:
    async def handle(request: Request) -> None:
        """A body in the upstream's own shape."""
        record_for(request, path)
        body = body_of(request, gateway_of(request).config.limits.request_bytes)
        body, envelope = read_request(body)
        if provider.untranslated:
            envelope.stream = True  # the upstream's own stream is one, and nobody folds it
        await carry(request, provider, envelope.model or "", envelope, body)

    return handle
