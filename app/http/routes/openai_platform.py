"""Account calls of OpenAI's platform: /auth/*, and /arkose/*, which this gateway declines."""

from sanic import HTTPResponse, Request

from app.auth.caller import Caller
from app.http.ask_once import ask_once, logged
from app.http.responses import App, body_of, gateway_of, headers_for, record_for
from app.wire.errors import GatewayError
from app.wire.renderer import JSON
from app.wire.upstream import UpstreamRequest
from providers.openai import platform

_PLATFORM = "openai-platform"
_FINAL = (("x-should-retry", "false"),)


def register(app: App) -> None:
    """Adds the routes of this module."""
    # The platform is asked with the caller's own token.
    for path in ("/auth/token/platform/refresh", "/auth/token/platform/revoke"):
        name = path.strip("/").replace("/", "_")
        app.add_route(token, path, methods=["POST"], name=name, ctx_own_credential=True)
    app.add_route(session, "/auth/session/platform", methods=["POST"], ctx_own_credential=True)
    app.add_route(login, "/auth/token/web", methods=["POST"])
    for name in ("token", "solve"):
        path = f"/arkose/{name}/<pk:path>"
        app.add_route(arkose, path, methods=["POST"], name=f"arkose_{name}")


async def token(request: Request) -> HTTPResponse:
    """Refreshes or revokes an OAuth token of OpenAI's platform; the body holds the caller's own."""
    _admit(request)
    config = gateway_of(request).config
    body = body_of(request, config.limits.request_bytes)
    build = platform.refresh if request.path.endswith("/refresh") else platform.revoke
    return await _pass_on(request, build(body, config))


async def session(request: Request) -> HTTPResponse:
    """The platform's account data for the caller's own access token."""
    _admit(request)
    held = request.headers.get("authorization")
    if not held:
        raise GatewayError(
            401,
            "Send your platform access token in the Authorization header.",
            code="no_api_key",
            headers=_FINAL,
        )
    return await _pass_on(request, platform.session(held, gateway_of(request).config))


def _admit(request: Request) -> None:
    """Starts the log record and checks that the caller's token is for OpenAI; no model is named."""
    record_for(request, request.path).provider = _PLATFORM
    caller: Caller = request.ctx.caller
    caller.allow("openai", None)


async def _pass_on(request: Request, upstream: UpstreamRequest) -> HTTPResponse:
    """The platform's reply as it is, errors included."""
    reply = await ask_once(request, upstream, "OpenAI's platform")
    kind = reply.headers.get("content-type", JSON)
    return logged(request, HTTPResponse(reply.body, reply.status, headers_for(request), kind))


async def login(request: Request) -> HTTPResponse:
    """Raises 501: signing in with e-mail and password is not supported. The body is not read."""
    record_for(request, request.path)
    raise GatewayError(
        501,
        "The gateway does not sign in with e-mail and password. Sign in in a browser and either "
        "put the access token (https://chatgpt.com/api/auth/session) into openai.web_sessions, or "
        "export a HAR with sensitive data into the folder hars_path.",
        type="invalid_request_error",
        code="not_supported",
        headers=_FINAL,
    )


async def arkose(request: Request, pk: str) -> HTTPResponse:
    """Raises 501: Arkose tokens are not made here."""
    record_for(request, "/arkose/*")
    raise GatewayError(
        501,
        "The gateway makes and solves no Arkose tokens. Send one that your browser made in "
        "openai.arkose_token, or put a HAR that holds a fresh one into hars_path.",
        type="invalid_request_error",
        code="not_supported",
        headers=_FINAL,
    )
