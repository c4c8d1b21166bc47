"""What Anthropic's clients ask besides messages: token counts, a greeting, what is not here.

Protocol sheet: front-messages, sections 1 and 7.
"""

from typing import Any

from sanic import HTTPResponse, Request

from app.auth.caller import Caller
from app.http.ask_once import logged
from app.http.responses import METHODS, App, headers_for, json_answer, record_for, request_id
from app.http.routes.chat import FRONTS, incoming_of, targets_of
from app.http.token_count import check_caller, counted_upstream
from app.state.rate_windows import guess_tokens
from app.wire.asked import Asked
from app.wire.errors import GatewayError
from app.wire.token_estimate import LEARNED, prompt_tokens

MESSAGES = next(front for front in FRONTS if front.name == "anthropic")
_COUNT = "/c/v1/messages/count_tokens"
# Kept at Anthropic, under ids and in files where neither a model nor a limit could be looked at.
_NOT_HERE = ("/c/v1/messages/batches", "/c/v1/complete", "/c/v1/skills")


def register(app: App) -> None:
    """Adds the routes of this module."""
    app.add_route(
        count_tokens, _COUNT, methods=["POST"], ctx_own_credential=True, ctx_front=MESSAGES
    )
    for path in ("/c", "/c/api/hello"):
        app.add_route(
            hello,
            path,
            methods=["GET", "HEAD"],
            name="hello" + path.replace("/", "_"),
            ctx_own_credential=True,
        )
    for path in _NOT_HERE:
        for tail in ("", "/<rest:path>"):
            name = "not_here" + (path + ("_" if tail else "")).replace("/", "_")
            app.add_route(
                not_here,
                path + tail,
                methods=METHODS,
                name=name,
                ctx_own_credential=True,
                ctx_front=MESSAGES,
            )


async def hello(request: Request) -> HTTPResponse:
    """200 and nothing: Claude Code warms its connection with this."""
    return HTTPResponse(b"", 200, headers_for(request))


async def not_here(request: Request, rest: str = "") -> HTTPResponse:
    """404, with the path that leads to Anthropic itself."""
    caller: Caller = request.ctx.caller
    caller.allow("claude", None)
    path = request.path.removeprefix("/c/")
    raise GatewayError(
        404,
        f"{request.path[:200]} is not offered here; the gateway forwards it unread as "
        f"/claude/api/{path[:200]}.",
        code="route_not_found",
    )


async def count_tokens(request: Request) -> HTTPResponse:
    """The prompt's tokens: as the upstream counts them, or estimated where it does not.

    A count that fails is estimated too, and says nothing about the key that asked.
    """
    record_for(request, _COUNT)
    asked = MESSAGES.glance(incoming_of(request, {}))
    target, *_ = targets_of(request, MESSAGES, asked)
    own = check_caller(request, MESSAGES, target)
    counted = await counted_upstream(request, MESSAGES.asks, MESSAGES.read, asked, target, own)
    if counted is not None:
        return logged(request, answer_with_id(request, {"input_tokens": counted}))
    response = answer_with_id(request, {"input_tokens": _estimated(asked, target.model)})
    response.headers["x-gateway-estimate"] = "true"
    return logged(request, response)


def answer_with_id(request: Request, body: Any) -> HTTPResponse:
    """`body` as JSON, with the id of the request where Anthropic's SDKs read it."""
    response = json_answer(request, body)
    response.headers[MESSAGES.id_header] = MESSAGES.id_prefix + request_id(request)
    return response


def _estimated(asked: Asked, model: str) -> int:
    try:
        assert MESSAGES.read is not None
        tokens = prompt_tokens(MESSAGES.read(asked))
    except GatewayError:  # what only Anthropic takes is refused when it is asked, not here
        tokens = guess_tokens(len(asked.body))
    return LEARNED.applied(model, tokens)
