"""What can be asked: /c/v1/models, gathered from every provider that has a key."""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from typing import Any
from urllib.parse import unquote

from sanic import HTTPResponse, Request

from app.auth.caller import Caller
from app.auth.credentials import callers_own
from app.clients import read_whole
from app.engine.gateway import Gateway, Listing
from app.fronts.anthropic.models import models_of, page_of
from app.fronts.gemini import models as google
from app.http.responses import (
    App,
    directory_of,
    gateway_of,
    headers_for,
    json_answer,
)
from app.http.routes.chat import FRONTS
from app.http.routes.gemini import EVENTS, MODELS, front_by_headers, take_key_from_query
from app.http.routes.messages import answer_with_id
from app.http.shared_paths import is_anthropics, is_googles
from app.pool.lease import Lease
from app.pool.outcomes import Outcome, of_error
from app.telemetry.redaction import redact
from app.wire.errors import GatewayError
from app.wire.provider import Key, Provider
from app.wire.renderer import JSON

_KEEP_SECONDS = 300.0
_KEEP_FAILED_SECONDS = 15.0
_MOST_SECONDS = 10.0  # to wait for a list
_ANTHROPIC_SECONDS = 2.3  # Claude Code waits 3
_PATIENCE_SECONDS = 2.0  # to wait for some once others have answered
_MAX_BYTES = 8 * 1024 * 1024


def register(app: App) -> None:
    """Adds the routes of this module."""
    for handler, tail in ((models, ""), (model, "/<target:path>")):
        app.add_route(
            handler,
            f"/c/v1/models{tail}",
            methods=["GET"],
            ctx_own_credential=True,
            ctx_front_of=front_by_headers,
        )
    for version in ("v1beta", "v1alpha"):
        for handler, tail in ((googles_list, ""), (googles_model, "/<target:path>")):
            app.add_route(
                handler,
                f"/c/{version}{MODELS}{tail}",
                methods=["GET"],
                name=f"{handler.__name__}_{version}",
                ctx_own_credential=True,
                ctx_front=EVENTS,
            )


async def models(request: Request) -> HTTPResponse:
    """What the configured providers offer, in the shape of the front of this path."""
    if is_googles(request):
        return await googles_list(request)
    if is_anthropics(request):
        query = {name: request.args.get(name) for name in request.args}
        return answer_with_id(request, page_of(await _as_anthropic(request), query))
    shape = FRONTS[0].models
    assert shape is not None
    return HTTPResponse(shape(await gather(request)), 200, headers_for(request), JSON)


async def model(request: Request, target: str) -> HTTPResponse:
    """One model of that list, by its id with or without the provider's name. Raises 404."""
    if is_googles(request):
        return await googles_model(request, target)
    model_id = unquote(target)  # SDKs write claude%2Fclaude-...
    if is_anthropics(request):
        for entry in await _as_anthropic(request):
            if model_id in (entry["id"], entry["id"].removeprefix("anthropic/")):
                return answer_with_id(request, entry)
        raise GatewayError(404, f"model: {model_id[:128]}", code="model_not_found")
    for entry in await gather(request):
        name = entry["provider"]
        if model_id in (entry["id"], f"{name}/{entry['id']}", entry["id"].removeprefix(f"{name}/")):
            return json_answer(request, entry)
    raise GatewayError(
        404,
        f"The model {model_id[:128]!r} is offered by no configured provider; "
        "GET /c/v1/models lists those that are.",
        code="model_not_found",
        param="model",
    )


async def googles_list(request: Request) -> HTTPResponse:
    """One page of the models as Google lists them."""
    query = {name: request.args.get(name) for name in request.args}
    return json_answer(request, google.page_of(await _as_google(request), query))


async def googles_model(request: Request, target: str) -> HTTPResponse:
    """One model as Google tells of it. Raises GatewayError 404."""
    name = unquote(target)
    found = google.model_named(await _as_google(request), name)
    if found is None:
        raise GatewayError(
            404,
            f"models/{name[:128]} is not found, or no configured provider offers it.",
            code="model_not_found",
        )
    return json_answer(request, found)


async def _as_google(request: Request) -> list[dict[str, Any]]:
    take_key_from_query(request)
    found = await gather(request, ("x-goog-api-key", "authorization"), house="gemini")
    return _first_of_each(google.models_of(found), "name")


async def _as_anthropic(request: Request) -> list[dict[str, Any]]:
    """The models as Anthropic's callers read them."""
    found = await gather(
        request, ("x-api-key", "authorization"), house="claude", seconds=_ANTHROPIC_SECONDS
    )
    return _first_of_each(models_of(found, request.headers.get("user-agent", "")), "id")


def _first_of_each(entries: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """The entries without later ones of the same name: an alias hides the model it is called by."""
    firsts: dict[str, dict[str, Any]] = {}
    for entry in entries:
        firsts.setdefault(entry[name], entry)
    return list(firsts.values())


async def gather(
    request: Request,
    own_headers: tuple[str, ...] = ("authorization",),
    *,
    house: str = "openai",
    seconds: float = _MOST_SECONDS,
) -> list[dict[str, Any]]:
    """The config's aliases, then every provider's models: those that the config names, else those
    that it lists. A provider that fails is left out, all failing is an error.

    A key of the caller's own, in one of `own_headers`, asks `house` alone. `seconds` are the most
    to wait for a list.
    """
    gateway, directory = gateway_of(request), directory_of(request)
    own = callers_own(request.headers, own_headers)
    caller: Caller = request.ctx.caller
    if not own:
        caller.need_keys()

    def has_key(provider: Provider) -> bool:
        is_there = provider.anonymous or gateway.pool.size(provider.pool) > 0
        return is_there and caller.may_use_keys

    aliases = [
        entry
        for entry, providers in directory.aliases
        if any(has_key(each) and caller.may(each.family, entry["id"]) for each in providers)
    ]
    named = [e for provider, entries in directory.named if has_key(provider) for e in entries]
    asked = [
        _of(gateway, provider, name, own if name == house else "")
        for name, provider in directory.listed.items()
        if has_key(provider) or (own and name == house)
    ]
    if not (asked or named or aliases):
        raise GatewayError(
            401,
            "No key to list models with: send your own in the Authorization header, "
            "or configure openai.api_keys.",
            type="invalid_request_error",
            code="no_api_key",
            headers=(("x-should-retry", "false"),),
        )
    found = await _answers(asked, seconds, is_needed=not (named or aliases))
    listed = (
        {**entry, "id": directory.listed_id(entry["provider"], entry["id"])}
        for entry in (*named, *found)
        if caller.may(entry["provider"], entry["id"])
        and directory.shows(entry["provider"], entry["id"])
    )
    return _first_of_each([*aliases, *listed], "id")


async def _answers(
    asked: Sequence[Coroutine[Any, Any, list[dict[str, Any]]]], seconds: float, *, is_needed: bool
) -> list[dict[str, Any]]:
    """The lists in their order, without those that fail or that keep the others waiting.

    Raises GatewayError where a list is needed and none came.
    """
    tasks = [asyncio.create_task(each, name="list of models") for each in asked]
    try:
        late: set[asyncio.Task[list[dict[str, Any]]]] = set(tasks)
        for wait in (min(_PATIENCE_SECONDS, seconds), max(seconds - _PATIENCE_SECONDS, 0)):
            if not late:
                break
            _, late = await asyncio.wait(late, timeout=wait)
            if not is_needed or any(task.done() and task.exception() is None for task in tasks):
                break
    finally:
        for task in tasks:
            task.cancel()
    done = [task for task in tasks if task not in late]
    errors = [error for task in done if (error := task.exception()) is not None]
    for error in errors:
        if not isinstance(error, GatewayError):
            raise error
    found = [entry for task in done if task.exception() is None for entry in task.result()]
    if is_needed and not found and (errors or late):
        raise errors[0] if errors else _too_late("No provider")
    return found


def _too_late(name: str) -> GatewayError:
    return GatewayError(504, f"{name} did not list its models in time.", code="upstream_timeout")


async def _of(gateway: Gateway, provider: Provider, name: str, own: str) -> list[dict[str, Any]]:
    # What the caller's own key may see is nobody else's business.
    if own:
        return await _ask(gateway, provider, name, Lease(Key(provider.pool, "", own)))
    listing = gateway.model_lists.setdefault(name, Listing())
    if listing.until <= time.monotonic():
        if listing.task is None:  # one asks, and the others wait for what it hears
            asking = _refresh(gateway, provider, name, listing)
            listing.task = asyncio.create_task(asking, name=f"models of {name}")
        await asyncio.wait({listing.task})
    if listing.models is not None:
        return listing.models
    raise (listing.error or _too_late(name)).with_traceback(None)


async def _refresh(gateway: Gateway, provider: Provider, name: str, listing: Listing) -> None:
    """Asks once, also if nobody waits any more: the next one who asks is told at once."""
    keep = _KEEP_FAILED_SECONDS
    try:
        if provider.anonymous and not gateway.pool.size(provider.pool):
            turn = Lease(Key(provider.pool, "", ""))
        else:
            turn = gateway.pool.pick(provider.pool)
        listing.models = await _ask(gateway, provider, name, turn)
        listing.error, keep = None, _KEEP_SECONDS
    except GatewayError as error:
        # What was heard before is better than nothing; and a provider that is down must not make
        # every list wait for it.
        listing.error = error
    finally:
        listing.until, listing.task = time.monotonic() + keep, None


async def _ask(
    gateway: Gateway, provider: Provider, name: str, turn: Lease
) -> list[dict[str, Any]]:
    assert provider.models_request is not None and provider.read_models is not None
    pool = gateway.pool
    try:
        async with asyncio.timeout(min(gateway.config.timeouts.first_event, _MOST_SECONDS)):
            response = await gateway.clients.open(provider.models_request(gateway.config, turn.key))
            reply = await read_whole(response, _MAX_BYTES)
        if reply.status != 200:
            raise provider.read_error(reply)
        pool.report(turn, Outcome.OK, reply.status)
    except TimeoutError:
        raise _too_late(name) from None
    except GatewayError as error:
        words = redact.words(error.message)
        pool.report(turn, of_error(error), error.status, error.retry_after, words)
        if turn.entry is not None:
            pool.say_when(error, provider.pool)
        raise
    finally:
        pool.release(turn)
    return [{**entry, "provider": name} for entry in provider.read_models(reply)]
