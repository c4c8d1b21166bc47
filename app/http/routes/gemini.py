"""What Google's clients ask: methods of a model, whose name and method stand in the path.

    POST /c/{v1beta|v1|v1alpha}/[models/]NAME:METHOD

The name may hold slashes, for it may begin with a provider's. Protocol sheet: front-gemini, 1
and 6.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from msgspec import structs
from sanic import HTTPResponse, Request

from app.auth.credentials import bare_token, callers_own
from app.engine.call import Target
from app.fronts.gemini.embeddings import front_for, openai_body
from app.fronts.gemini.request import (
    COUNT,
    EMBED,
    NoSuchMethod,
    is_array,
    method_of,
    read_counted,
)
from app.http.ask_once import logged
from app.http.responses import METHODS, App, json_answer, record_for
from app.http.routes import landing
from app.http.routes.chat import FRONTS, incoming_of, targets_of
from app.http.run_chat import run_chat
from app.http.shared_paths import is_anthropics, is_googles
from app.http.token_count import check_caller, counted_upstream
from app.wire.asked import Asked
from app.wire.errors import GatewayError, bad_request
from app.wire.front import Front
from app.wire.token_estimate import LEARNED, prompt_tokens

_EMBEDDINGS = next(front for front in FRONTS if front.name == "openai-embeddings")
_MESSAGES = next(front for front in FRONTS if front.name == "anthropic")
EVENTS, ARRAY = (front for front in FRONTS if front.name == "gemini")
_VERSIONS = ("v1beta", "v1alpha", "v1")
_OTHER_VERSIONS = tuple(f"{version}/models/" for version in _VERSIONS)  # of a wrong base URL
MODELS = "/models"
_KEY_HEADER = EVENTS.credential_headers[0]


def register(app: App) -> None:
    """Adds the routes of this module. Lists of models are in `models`."""
    for version in _VERSIONS:
        handler = _handler(version)
        # Below v1 other APIs have their paths, too.
        methods = ("POST",) if version == "v1" else tuple(m for m in METHODS if m != "GET")
        for path in (MODELS, ""):
            app.add_route(
                handler,
                f"/c/{version}{path}/<target:path>",
                methods=METHODS if not path else methods,
                name=f"gemini_{version}{path.replace('/', '_')}",
                ctx_own_credential=True,
                ctx_front=EVENTS,
            )
    app.add_route(
        _upload,
        "/c/upload/<target:path>",
        methods=METHODS,
        ctx_own_credential=True,
        ctx_front=EVENTS,
    )


async def _upload(request: Request, target: str) -> HTTPResponse:
    raise not_offered(request, "", target)


def _handler(version: str) -> Callable[..., Coroutine[Any, Any, HTTPResponse | None]]:
    async def handle(request: Request, target: str) -> HTTPResponse | None:
        if target.startswith(_OTHER_VERSIONS):
            return await landing.googles(request, target)
        try:
            _, method = method_of(target if request.method == "POST" else "")
        except NoSuchMethod:
            raise not_offered(request, version, target) from None
        record_for(request, f"/c/{version}/models/<model>:{method}")
        take_key_from_query(request)
        front = request.ctx.front = ARRAY if is_array(method, request.query_string) else EVENTS
        asked = EVENTS.glance(incoming_of(request, {"version": version, "target": target}))
        targets = targets_of(request, front, asked)
        native = targets[0].provider.native
        if native is None or native.wire != EVENTS.asks:
            if method == COUNT:
                return await _count(request, asked, targets[0])
            if method in EMBED:
                await _embed(request, asked)
                return None
        await run_chat(request, front, targets, asked)
        return None

    return handle


def take_key_from_query(request: Request) -> None:
    """A key in `?key=` counts as one in the header, which wins where both are there."""
    if "key=" not in request.query_string or callers_own(
        request.headers, EVENTS.credential_headers
    ):
        return
    key = bare_token(request.args.get("key") or "")
    if key:
        request.headers[_KEY_HEADER] = key
        stream: Any = request.stream
        stream.known = None  # what is known of this head has no such header


async def _count(request: Request, asked: Asked, target: Target) -> HTTPResponse:
    """The prompt's tokens: as the upstream counts them, or estimated where it does not."""
    own = check_caller(request, EVENTS, target)
    counted = await counted_upstream(request, EVENTS.asks, read_counted, asked, target, own)
    if counted is not None:
        return logged(request, json_answer(request, {"totalTokens": counted}))
    tokens = LEARNED.applied(target.model, prompt_tokens(read_counted(asked)))
    response = json_answer(request, {"totalTokens": tokens})
    response.headers["x-gateway-estimate"] = "true"
    return logged(request, response)


async def _embed(request: Request, asked: Asked) -> None:
    """Vectors from an upstream that has OpenAI's embeddings."""
    front = front_for(_EMBEDDINGS, asked)
    incoming = structs.replace(incoming_of(request, {}), body=openai_body(asked))
    told = front.glance(incoming)
    told.provider = asked.provider
    request.ctx.front = front
    targets = targets_of(request, front, told)
    provider = targets[0].provider
    if "embeddings" not in provider.endpoints:
        raise bad_request(f"{provider.name} makes no embeddings; name another model.", "model")
    await run_chat(request, front, targets, told)


def front_by_headers(request: Request) -> Front | None:
    """The front of whoever asks on a path that several APIs have; None: OpenAI's."""
    if is_googles(request):
        return EVENTS
    return _MESSAGES if is_anthropics(request) else None


def not_offered(request: Request, version: str, target: str) -> GatewayError:
    """404 for a part of Google's API that is not translated."""
    if version == "v1" and ":" not in target and not is_googles(request):
        request.ctx.front = front_by_headers(request)
        what = f"There is no route {request.path[:200]}."
    else:
        what = (
            f"{request.path[:200]} is not offered here; the gateway forwards it unread as "
            f"/gemini{request.path.removeprefix('/c')[:200]}."
        )
    return GatewayError(404, what, code="route_not_found")
