"""The routes about answers of POST /c/v1/responses: those kept here, and those at OpenAI.

An id that begins `resp_gw` is the gateway's own, every other one OpenAI's: such a request goes
there, with the key that has made the answer. Protocol sheet: front-responses, 1 and 6.
"""

import re
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace
from sanic import HTTPResponse, Request

from app.auth.credentials import callers_own
from app.engine.call import credential_headers
from app.fronts.openai_responses.request import COUNT, RESPONSES, WIRE
from app.fronts.openai_responses.response import as_told
from app.http.ask_once import logged
from app.http.kept_answers import find_kept, owner_of_answers
from app.http.responses import (
    METHODS,
    App,
    directory_of,
    gateway_of,
    json_answer,
    record_for,
)
from app.http.routes.chat import FRONTS, incoming_of, targets_of
from app.http.routes.gemini import EVENTS, not_offered
from app.http.routes.messages import MESSAGES, not_here
from app.http.routes.reverse_proxy import forward
from app.http.run_chat import run_chat
from app.http.shared_paths import is_anthropics, is_googles
from app.wire.errors import GatewayError, bad_request
from app.wire.kept import PREFIX, Kept
from app.wire.token_estimate import LEARNED, prompt_tokens
from providers.openai import api as openai_api

_FRONT = next(front for front in FRONTS if front.asks == WIRE)
_ID = re.compile(r"resp_[A-Za-z0-9_-]{1,120}").fullmatch
_PAGE, _MOST = 20, 100
_ONLY_RAW = ("conversations", "prompts", "files", "vector_stores", "containers")
Handler = Callable[..., Coroutine[Any, Any, HTTPResponse | None]]


def register(app: App) -> None:
    """Adds the routes of this module."""
    routes: tuple[tuple[Handler, str, tuple[str, ...]], ...] = (
        (_count_tokens, COUNT, ("POST",)),
        (_get, "/<id>", ("GET",)),
        (_delete, "/<id>", ("DELETE",)),
        (_list_input, "/<id>/input_items", ("GET",)),
        (_cancel, "/<id>/cancel", ("POST",)),
    )
    for handler, path, methods in routes:
        app.add_route(
            handler,
            RESPONSES + path,
            methods=methods,
            name=f"responses{handler.__name__}",
            stream="<id>" in path,  # what goes to OpenAI reads the body itself
            ctx_own_credential=True,
            ctx_front=_FRONT,
        )
    for name in _ONLY_RAW:
        for end in ("", "/<rest:path>"):
            app.add_route(
                _only_raw,
                f"/c/v1/{name}{end}",
                methods=METHODS,
                name=f"only_raw_{name}{'_rest' if end else ''}",
                ctx_own_credential=True,
                ctx_front=_FRONT,
            )


async def _count_tokens(request: Request) -> HTTPResponse | None:
    """OpenAI counts for its own models; for others it is an estimate, on the high side."""
    record_for(request, RESPONSES + COUNT)
    asked = _FRONT.glance(incoming_of(request, {}))
    await find_kept(request, _FRONT, asked)
    targets = targets_of(request, _FRONT, asked)
    target = targets[0]
    if target.provider.speaking(WIRE) is not None:
        await run_chat(request, _FRONT, targets[:1], asked)
        return None
    if not callers_own(request.headers, credential_headers(_FRONT, target)):
        request.ctx.caller.need_keys()
    request.ctx.caller.allow(target.provider.family, target.alias or target.model)
    assert _FRONT.read is not None
    count = LEARNED.applied(target.model, prompt_tokens(_FRONT.read(asked)))
    told = {"object": "response.input_tokens", "input_tokens": count}
    return logged(request, json_answer(request, told))


async def _get(request: Request, id: str) -> HTTPResponse | None:
    record_for(request, f"{RESPONSES}/:id")
    if _is_elsewhere(id):
        return await _at_openai(request)
    if request.args.get("stream") == "true" or request.args.get("starting_after"):
        raise bad_request("stream: only answers in the background can be streamed again.", "stream")
    kept = await _kept(request, id)
    told = msgspec.json.decode(kept.object, type=dict[str, Raw])
    return logged(request, json_answer(request, {**told, "tools": [], "output": kept.output}))


async def _delete(request: Request, id: str) -> HTTPResponse | None:
    record_for(request, f"{RESPONSES}/:id")
    if _is_elsewhere(id):
        return await _at_openai(request)
    owner = owner_of_answers(request, _FRONT)
    if not await gateway_of(request).answers.delete(owner, id):
        raise _not_found(id)
    told = {"id": id, "object": "response", "deleted": True}
    return logged(request, json_answer(request, told))


async def _cancel(request: Request, id: str) -> HTTPResponse | None:
    record_for(request, f"{RESPONSES}/:id/cancel")
    if _is_elsewhere(id):
        return await _at_openai(request)
    await _kept(request, id)
    raise bad_request("Cannot cancel a synchronous response.")


class _ItemId(Struct):
    id: str | None = None


async def _list_input(request: Request, id: str) -> HTTPResponse | None:
    """What was asked, a page of it; the newest first."""
    record_for(request, f"{RESPONSES}/:id/input_items")
    if _is_elsewhere(id):
        return await _at_openai(request)
    kept = await _kept(request, id)
    # Who pages needs ids; clients seldom send any.
    items = [
        as_told(
            msgspec.json.decode(raw, type=dict[str, Any]), f"item_{id[len(PREFIX) :]}{place:03x}"
        )
        for place, raw in enumerate(kept.input)
    ]
    if request.args.get("order", "desc") != "asc":
        items.reverse()
    after = request.args.get("after")
    if after:
        at = next((n for n, item in enumerate(items) if item["id"] == after), None)
        if at is None:
            raise bad_request(f"after: there is no item {after[:128]!r}.", "after")
        items = items[at + 1 :]
    limit = _limit(request.args.get("limit"))
    page = items[:limit]
    told = {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(items) > limit,
    }
    return logged(request, json_answer(request, told))


def _limit(said: str | None) -> int:
    if not said:
        return _PAGE
    if not said.isascii() or not said.isdecimal() or not 1 <= int(said[:9]) <= _MOST:
        raise bad_request(f"limit: must be a whole number from 1 to {_MOST}.", "limit")
    return int(said)


async def _only_raw(request: Request, **rest: str) -> HTTPResponse:
    record_for(request, "/c/v1/:openai")
    if request.path.startswith("/c/v1/files"):  # Anthropic and Google keep files, too
        if is_googles(request):
            request.ctx.front = EVENTS
            raise not_offered(request, "v1", request.path.removeprefix("/c/v1/"))
        if is_anthropics(request):
            request.ctx.front = MESSAGES
            return await not_here(request)
    path = request.path.removeprefix("/c")
    raise GatewayError(
        404,
        f"This lives at OpenAI: ask {path[:200]} on this gateway, which goes there as it is.",
        code="route_not_found",
        outcome="refused",
    )


def _is_elsewhere(id: str) -> bool:
    """Whether the answer is OpenAI's. Raises GatewayError 404 for what is no id at all."""
    if not _ID(id):
        raise _not_found(id)
    return not id.startswith(PREFIX)


async def _kept(request: Request, id: str) -> Kept:
    owner = owner_of_answers(request, _FRONT)
    found = await gateway_of(request).answers.find(owner, None, (id,))
    if id not in found.turns:
        raise _not_found(id)
    return found.turns[id]


def _not_found(id: str) -> GatewayError:
    return GatewayError(
        404,
        f"Response with id '{id[:128]}' not found.",
        type="invalid_request_error",
        outcome="refused",
    )


async def _at_openai(request: Request) -> HTTPResponse | None:
    rule = next(
        rule
        for rule in directory_of(request).forwards
        if rule.provider == openai_api.PROVIDER.name and rule.prefix == "/v1/"
    )
    return await forward(request, replace(rule, prefix="/c/v1/"))
