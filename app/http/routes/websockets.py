"""Websockets below /c, whose upstream is chosen by the model: Realtime, Responses, Gemini Live.

    /c/v1/realtime?model=      OpenAI's Realtime API, at OpenAI or an entry of `upstreams`
    /c/v1/responses            Responses over a websocket, where the upstream has it; else 426
    /c/ws/google.ai....        Gemini's live API, at Google

They are forwarded as the reverse proxy's are.
"""

import re
from collections.abc import Callable
from urllib.parse import parse_qsl, urlencode

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from sanic import HTTPResponse, Request

from app.auth.credentials import PROTOCOLS, subprotocols
from app.auth.model_scope import models_in_message
from app.engine.call import Target
from app.fronts.openai_responses.request import RESPONSES, WIRE
from app.http.responses import App, directory_of, record_for
from app.http.routes.chat import FRONTS, targets_of
from app.http.routes.reverse_proxy import forward, no_websockets
from app.http.websocket import wants_websocket
from app.wire.asked import Asked
from app.wire.errors import GatewayError
from app.wire.provider import ForwardRule
from app.wire.signature_mark import START

_FRONT = next(front for front in FRONTS if front.asks == WIRE)
REALTIME = "/c/v1/realtime"
LIVE = "/c/ws/"
_GEMINI = "/gemini/"
# What only the HTTP form of Responses can make sense of: our thoughts, and ids of kept answers.
_OURS = re.compile(
    rb'"(?:%b|(?:resp|rs|msg|fc|ctc|tsc|cmp)_gw[0-9a-f]{32})' % START.encode()
).search


def register(app: App) -> None:
    """Adds the routes of this module."""
    for handler, path in ((_realtime, REALTIME), (_responses_socket, RESPONSES)):
        app.add_route(
            handler,
            path,
            methods=("GET",),
            name=f"websocket{handler.__name__}",
            ctx_own_credential=True,
            ctx_front=_FRONT,
        )
    # Google's package puts a second slash before the path.
    for path in (LIVE, "/c//ws/"):
        app.add_route(
            _live,
            path + "<path:path>",
            methods=("GET",),
            name="websocket_live" + "_" * path.count("//"),
            ctx_own_credential=True,
        )


async def _realtime(request: Request) -> HTTPResponse | None:
    record_for(request, REALTIME)
    if not wants_websocket(request):
        raise upgrade_required("This is a websocket: connect to it with ?model=MODEL.")
    query = parse_qsl(request.query_string, keep_blank_values=True)
    asked = Asked(body=b"", model=dict(query).get("model", ""))
    target = targets_of(request, _FRONT, asked)[0]
    rule = _rule_for(request, target)
    if rule is None or rule.prefix == _GEMINI:
        raise no_websockets(target.provider.family)
    rule = replace(rule, prefix="/c/v1/")
    _hide_own_key(request, target, rule)
    if target.model == asked.model:
        return await forward(request, rule)
    query = [(n, target.model if n == "model" else v) for n, v in query]
    return await forward(request, rule, urlencode(query))


async def _responses_socket(request: Request) -> HTTPResponse | None:
    """Forwards to an upstream of this wire; for others Codex goes on over HTTP, without a word."""
    record_for(request, RESPONSES)
    if not wants_websocket(request):
        if (request.headers.get("upgrade") or "").lower() == "websocket":
            raise upgrade_required("Websockets are not offered here; use HTTP.")
        raise GatewayError(
            405,
            "GET is not offered here; POST a request, or GET one answer by its id.",
            code="method_not_allowed",
            headers=(("allow", "POST"),),
            outcome="refused",
        )
    model = request.args.get("model") or _codex_model(request)
    target = targets_of(request, _FRONT, Asked(body=b"", model=model))[0]
    rule = _rule_for(request, target)
    # Frames pass as they are: the upstream must know the model by the caller's name for it.
    if rule is None or target.provider.speaking(WIRE) is None or target.model != model:
        raise upgrade_required("Websockets are not offered for this model; use HTTP.")
    rule = replace(rule, prefix="/c/v1/")
    _hide_own_key(request, target, rule)
    return await forward(request, rule, check=_stays_with(request, target), has_http=True)


def _stays_with(request: Request, target: Target) -> Callable[[bytes], None]:
    """The check that each message is for the upstream to which the websocket goes."""

    def check(message: bytes) -> None:
        if _OURS(message):
            raise upgrade_required("This holds ids or thoughts of the gateway; use HTTP.")
        for model in models_in_message(message):
            other = targets_of(request, _FRONT, Asked(body=b"", model=model))[0]
            if other.provider is not target.provider or other.model != model:
                raise upgrade_required("This model is another upstream's; connect again.")

    return check


class _TurnMetadata(Struct):
    model: str = ""


_metadata = msgspec.json.Decoder(_TurnMetadata).decode


def _codex_model(request: Request) -> str:
    """The model that Codex names in its handshake; "" if it does not, or is another client."""
    try:
        return _metadata(request.headers.get("x-codex-turn-metadata") or "{}").model
    except (msgspec.DecodeError, UnicodeError):
        return ""


async def _live(request: Request, path: str) -> HTTPResponse | None:
    record_for(request, LIVE + "*")
    if not wants_websocket(request):
        raise upgrade_required("This is a websocket.")
    rule = next(rule for rule in directory_of(request).forwards if rule.prefix == _GEMINI)
    return await forward(request, replace(rule, prefix="/c/"))


def _hide_own_key(request: Request, target: Target, rule: ForwardRule) -> None:
    """Only an upstream that the caller named itself is shown the caller's own key."""
    if target.is_named:
        return
    headers = request.headers
    for name in rule.credential_headers:
        headers.popall(name, None)
    names, keys = subprotocols(headers.get(PROTOCOLS) or "")
    if keys:
        headers[PROTOCOLS] = ", ".join(names)


def _rule_for(request: Request, target: Target) -> ForwardRule | None:
    """How this target's websockets are forwarded; None if its upstream has none."""
    family = target.provider.family
    forwards = directory_of(request).forwards
    return next((rule for rule in forwards if rule.family == family and rule.websockets), None)


def upgrade_required(message: str) -> GatewayError:
    """The error 426. After it Codex goes on over HTTP."""
    return GatewayError(
        426,
        message,
        code="upgrade_required",
        headers=(("connection", "close"),),
        outcome="refused",
    )
