"""The doors around web sessions: pictures, and the account calls of OpenAI's platform."""

import asyncio
from typing import Any

import msgspec
from msgspec import Struct
from sanic import HTTPResponse, Request

from app.access import Caller
from app.clients import read_whole
from app.images import not_found
from app.key_pool import callers_own
from app.routes.answers import App, body_of, gateway_of, headers_for, record_for
from app.wire.errors import GatewayError, bad_response
from app.wire.provider import Key
from app.wire.upstream import UpstreamReply, UpstreamRequest
from providers.openai import platform, web, web_errors, web_images

IMAGE = "/gptimage/"
_PLATFORM = "openai-platform"
_FINAL = (("x-should-retry", "false"),)


class _Download(Struct):
    download_url: str | None = None


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


async def image(request: Request, path: str) -> HTTPResponse:
    """One picture of an answer: from disk, else from where the link says."""
    record_for(request, IMAGE + "*").provider = "openai-chat-web"
    target = request.raw_url.decode("latin-1")
    file, _, query = target.removeprefix(IMAGE).partition("?")
    if not web_images.FILE.match(file):
        raise GatewayError(400, "A picture's name begins with file- or file_.", code="bad_path")
    gateway = gateway_of(request)
    images = gateway.images
    args = {name: request.args.get(name) for name in ("index", "conversation_id", "sig")}

    async def fetch() -> UpstreamReply:
        if web_images.is_storage_query(query):
            address = f"{web_images.STORAGE}/{file}?{query}"  # signed to the byte: as it came
            return await images.get(web.picture_request(gateway.config, address))
        key = _who(request, file, args)
        return await _of_session(request, key, file, args["conversation_id"] or "")

    # Whoever has the link may see what is kept, as with any picture on a page; its name is a secret
    # of 24 characters.
    try:
        async with asyncio.timeout(gateway.config.timeouts.first_event):
            kind, body = await images.fetch_once(file, fetch)
    except TimeoutError:
        raise GatewayError(
            504, "The picture did not come in time.", code="upstream_timeout"
        ) from None
    headers = headers_for(
        request,
        [
            ("x-content-type-options", "nosniff"),
            ("content-disposition", "inline"),
            ("cache-control", "private, max-age=86400"),
        ],
    )
    return _logged(request, HTTPResponse(body, 200, headers, kind))


def _who(request: Request, file: str, args: dict[str, str | None]) -> Key:
    """Whose file it is: the caller's own, or a session's whose link bears its mark."""
    if args["index"] and args["sig"]:
        key = gateway_of(request).pool.find(web.POOL, args["index"])
        if key is None or not web_images.is_genuine(
            args["sig"], file, args["conversation_id"] or "", key
        ):
            raise not_found()
        return key
    own = callers_own(request.headers, ("authorization",))
    if not own:
        raise not_found()
    return Key(web.POOL, "", own)


async def _of_session(request: Request, key: Key, file: str, conversation_id: str) -> UpstreamReply:
    """Asks the session's backend for the picture's address, then fetches it."""
    gateway = gateway_of(request)
    path = web_images.download_path(file, conversation_id)
    if path is None:
        raise not_found()
    told = await gateway.images.get(web.session_request(gateway.config, key, path))
    if told.status != 200 or web_errors.is_challenge(told):
        raise web_errors.read_error(told)
    try:
        address = msgspec.json.decode(told.body, type=_Download).download_url
    except (msgspec.DecodeError, UnicodeDecodeError):
        address = None
    if not address:
        raise not_found()
    fetch = web.address_request(gateway.config, key, address)
    if fetch is None:
        raise bad_response("chatgpt.com keeps the picture at an address that is not fetched.")
    return await gateway.images.get(fetch)


async def token(request: Request) -> HTTPResponse:
    """Renews or revokes a token of OpenAI's platform: plain OAuth with the caller's own."""
    _admit(request)
    config = gateway_of(request).config
    body = body_of(request, config.limits.request_bytes)
    build = platform.refresh if request.path.endswith("/refresh") else platform.revoke
    return await _passed(request, build(body, config))


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
    return await _passed(request, platform.session(held, gateway_of(request).config))


def _admit(request: Request) -> None:
    """The record of a call that names no model, once the caller's token is for OpenAI."""
    record_for(request, request.path).provider = _PLATFORM
    caller: Caller = request.ctx.caller
    caller.allow(_PLATFORM, None)


async def _passed(request: Request, upstream: UpstreamRequest) -> HTTPResponse:
    request.ctx.record.attempts = 1
    gateway = gateway_of(request)
    try:
        async with asyncio.timeout(gateway.config.timeouts.first_event):
            response = await gateway.clients.open(upstream)
            reply = await read_whole(response, gateway.config.limits.response_bytes)
    except TimeoutError:
        raise GatewayError(
            504, "OpenAI's platform did not answer in time.", code="upstream_timeout"
        ) from None
    kind = reply.headers.get("content-type", "application/json")
    return _logged(request, HTTPResponse(reply.body, reply.status, headers_for(request), kind))


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


def _logged(request: Request, response: HTTPResponse) -> HTTPResponse:
    record = request.ctx.record
    body: Any = response.body or b""
    record.status, record.bytes_out = response.status, len(body)
    record.outcome = "complete" if response.status < 400 else "upstream_error"
    gateway_of(request).log.write(record)
    return response
