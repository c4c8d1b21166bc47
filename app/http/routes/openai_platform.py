"""The doors around web sessions: pictures, and the account calls of OpenAI's platform."""

from sanic import HTTPResponse, Request

from app.auth.caller import Caller
from app.http.ask_once import passed
from app.http.responses import App, body_of, gateway_of, record_for
from app.http.routes.chatgpt_pictures import IMAGE, image
from app.wire.errors import GatewayError
from providers.openai import platform

_PLATFORM = "openai-platform"
_FINAL = (("x-should-retry", "false"),)


def register(app: App) -> None:
    # A link is its own key, and the platform is asked with the caller's own token.
    app.add_route(image, IMAGE + "<path:path>", methods=["GET"], ctx_own_credential=True)
    for path in ("/auth/token/platform/refresh", "/auth/token/platform/revoke"):
        name = path.strip("/").replace("/", "_")
        app.add_route(token, path, methods=["POST"], name=name, ctx_own_credential=True)
    app.add_route(session, "/auth/session/platform", methods=["POST"], ctx_own_credential=True)
    app.add_route(login, "/auth/token/web", methods=["POST"])
    for name in ("token", "solve"):
        path = f"/arkose/{name}/<pk:path>"
        app.add_route(arkose, path, methods=["POST"], name=f"arkose_{name}")


async def token(request: Request) -> HTTPResponse:
    """Renews or revokes a token of OpenAI's platform: plain OAuth with the caller's own."""
    _admit(request)
    config = gateway_of(request).config
    body = body_of(request, config.limits.request_bytes)
    build = platform.refresh if request.path.endswith("/refresh") else platform.revoke
    return await passed(request, build(body, config))


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
    return await passed(request, platform.session(held, gateway_of(request).config))


def _admit(request: Request) -> None:
    """The record of a call that names no model, once the caller's token is for OpenAI."""
    record_for(request, request.path).provider = _PLATFORM
    caller: Caller = request.ctx.caller
    caller.allow(_PLATFORM, None)


async def login(request: Request) -> HTTPResponse:
    """Signing in with e-mail and password is not done here; the body is not even read."""
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
    record_for(request, "/arkose/*")
    raise GatewayError(
        501,
        "The gateway makes and solves no Arkose tokens. Send one that your browser made in "
        "openai.arkose_token, or put a HAR that holds a fresh one into hars_path.",
        type="invalid_request_error",
        code="not_supported",
        headers=_FINAL,
    )
