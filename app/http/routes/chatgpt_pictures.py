"""Pictures that ChatGPT's website drew, at /gptimage/*, for callers without its session."""

import asyncio

import msgspec
from msgspec import Struct
from sanic import HTTPResponse, Request

from app.auth.credentials import callers_own
from app.engine.picture_cache import not_found
from app.http.ask_once import logged
from app.http.responses import App, gateway_of, headers_for, record_for
from app.wire.errors import GatewayError, bad_response
from app.wire.provider import Key
from app.wire.upstream import UpstreamReply
from providers.openai import web, web_errors, web_images, web_session

IMAGE = "/gptimage/"


def register(app: App) -> None:
    """Adds the routes of this module."""
    # A link is its own credential: it is signed, or its file's name is a secret.
    app.add_route(image, IMAGE + "<path:path>", methods=["GET"], ctx_own_credential=True)


class _Download(Struct):
    download_url: str | None = None


async def image(request: Request, path: str) -> HTTPResponse:
    """Returns one picture of an answer: from the cache, else from where the link says."""
    record_for(request, IMAGE + "*").provider = "openai-chat-web"
    target = request.raw_url.decode("latin-1")
    file, _, query = target.removeprefix(IMAGE).partition("?")
    if not web_images.FILE.match(file):
        raise GatewayError(400, "A picture's name begins with file- or file_.", code="bad_path")
    gateway = gateway_of(request)
    images = gateway.picture_cache
    args = {name: request.args.get(name) for name in ("index", "conversation_id", "sig")}

    async def fetch() -> UpstreamReply:
        if web_images.is_storage_query(query):
            address = f"{web_images.STORAGE}/{file}?{query}"  # signed to the byte: as it came
            return await images.get(web_images.picture_request(gateway.config, address))
        key = _owner(request, file, args)
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
    return logged(request, HTTPResponse(body, 200, headers, kind))


def _owner(request: Request, file: str, args: dict[str, str | None]) -> Key:
    """The credential that may read the file: the caller's own, or that of the session in the link.

    Raises GatewayError 404 without either.
    """
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
    """Asks ChatGPT's backend for the picture's address with the session `key`, then fetches it."""
    gateway = gateway_of(request)
    path = web_images.download_path(file, conversation_id)
    if path is None:
        raise not_found()
    reply = await gateway.picture_cache.get(web_session.session_request(gateway.config, key, path))
    if reply.status != 200 or web_errors.is_challenge(reply):
        raise web_errors.read_error(reply)
    try:
        address = msgspec.json.decode(reply.body, type=_Download).download_url
    except (msgspec.DecodeError, UnicodeDecodeError):
        address = None
    if not address:
        raise not_found()
    fetch = web_images.address_request(gateway.config, key, address)
    if fetch is None:
        raise bad_response("chatgpt.com keeps the picture at an address that is not fetched.")
    return await gateway.picture_cache.get(fetch)
