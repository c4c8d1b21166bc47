"""What can be asked: /c/v1/models, gathered from every provider that has a key."""

import asyncio
import time
from typing import Any

from sanic import HTTPResponse, Request

import providers
from app.access import Caller
from app.clients import read_whole
from app.gateway import Gateway
from app.key_pool import callers_own
from app.routes.answers import App, gateway_of, json_answer
from app.wire.errors import GatewayError
from app.wire.provider import Key, Provider

_KEEP_SECONDS = 300.0
_MAX_BYTES = 8 * 1024 * 1024


def register(app: App) -> None:
    app.add_route(models, "/c/v1/models", methods=["GET"], ctx_own_credential=True)
    app.add_route(model, "/c/v1/models/<model_id:path>", methods=["GET"], ctx_own_credential=True)


async def models(request: Request) -> HTTPResponse:
    return json_answer(request, {"object": "list", "data": await gather(request)})


async def model(request: Request, model_id: str) -> HTTPResponse:
    for entry in await gather(request):
        if model_id in (entry["id"], f"{entry.get('provider')}/{entry['id']}"):
            return json_answer(request, entry)
    raise GatewayError(
        404,
        f"The model {model_id[:128]!r} is offered by no configured provider; "
        "GET /c/v1/models lists those that are.",
        code="model_not_found",
        param="model",
    )


async def gather(request: Request) -> list[dict[str, Any]]:
    """Every provider's models; a provider that fails is left out, all failing is an error."""
    gateway = gateway_of(request)
    own = callers_own(request.headers, ("authorization",))
    caller: Caller = request.ctx.caller
    if not own:
        caller.need_keys()
    asked = [
        _of(gateway, provider, name, own)
        for name, provider in providers.LISTED.items()
        if (gateway.pool.size(provider.pool) and caller.may_use_keys) or (own and name == "openai")
    ]
    if not asked:
        raise GatewayError(
            401,
            "No key to list models with: send your own in the Authorization header, "
            "or configure openai.api_keys.",
            type="invalid_request_error",
            code="no_api_key",
            headers=(("x-should-retry", "false"),),
        )
    answers = await asyncio.gather(*asked, return_exceptions=True)
    found: list[dict[str, Any]] = []
    errors = []
    for answer in answers:
        if isinstance(answer, GatewayError):
            errors.append(answer)
        elif isinstance(answer, BaseException):
            raise answer
        else:
            found += answer
    if errors and not found:
        raise errors[0]
    return [entry for entry in found if caller.may(entry["provider"], entry.get("id"))]


async def _of(gateway: Gateway, provider: Provider, name: str, own: str) -> list[dict[str, Any]]:
    cache: dict[str, tuple[float, list[dict[str, Any]]]] = gateway.model_lists
    # The caller's own key speaks for OpenAI only, and what it may see is nobody else's business.
    use_own = bool(own) and name == "openai"
    kept = cache.get(name)
    if not use_own and kept is not None and kept[0] > time.monotonic():
        return kept[1]
    assert provider.models_request is not None and provider.read_models is not None
    key = Key(provider.pool, "", own) if use_own else gateway.pool.pick(provider.pool)
    async with asyncio.timeout(gateway.config.timeouts.first_event):
        response = await gateway.clients.open(provider.models_request(gateway.config, key))
        reply = await read_whole(response, _MAX_BYTES)
    gateway.pool.report(key, reply.status)
    if reply.status != 200:
        raise provider.read_error(reply)
    found = [{**entry, "provider": name} for entry in provider.read_models(reply)]
    if not use_own:
        cache[name] = (time.monotonic() + _KEEP_SECONDS, found)
    return found
