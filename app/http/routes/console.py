"""The console at /admin/: its files, its session, one stream of live figures, the effective config,
and chats of its playground.

The files hold no data. Whatever the page shows it asks for as an operator.
"""

import asyncio
import mimetypes
import time
from base64 import b64encode
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import msgspec
from httptools import parse_url
from msgspec import Struct
from sanic import HTTPResponse, Request

from app import __version__
from app.accounting.series import GROUPS, SPANS
from app.auth import console_cookie
from app.auth.caller import Caller
from app.config.load import ConfigError
from app.config.masked import masked
from app.config.schema import AccessToken
from app.http.responses import App, gateway_of, public_address, record_for
from app.http.routes.admin import figures, key_list, private_json, reload_status_of
from app.http.routes.operator_auth import (
    ROUTE,
    check_local,
    check_operator,
    is_signed_in,
    private_headers,
)
from app.telemetry.recent_calls import calls_since, time_of
from app.wire.errors import GatewayError, bad_request

_FOLDER = Path(__file__).parents[1] / "console"
_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
    ".LICENSE": "text/plain; charset=utf-8",
}
_EVERY_SECONDS = 1.0
_LOOKS = 4
_KEYS_EVERY = 2  # figures are sent for one list of keys
_MOST_CALLS = 200  # in one event
_PLAYGROUND = "/admin/playground"
# As whom the playground calls; the ledger shows it by this name, which no token can have.
_PLAYER = AccessToken(id="(console)", val="")


def register(app: App) -> None:
    """Adds the routes of this module."""
    app.add_route(page, "/admin/", methods=["GET", "HEAD"])
    app.add_route(file, "/admin/console/<path:path>", methods=["GET", "HEAD"])
    app.add_route(told_session, "/admin/session", methods=["GET"])
    app.add_route(sign_in, "/admin/session", methods=["POST"])
    app.add_route(sign_out, "/admin/session", methods=["DELETE"])
    app.add_route(events, "/admin/events", methods=["GET"])
    app.add_route(series, "/admin/series", methods=["GET"])
    app.add_route(config, "/admin/config", methods=["GET"])
    app.add_route(playground, _PLAYGROUND + "/<path:path>", methods=["GET", "POST"])


# --- the files --------------------------------------------------------------------------------


class _File(Struct):
    body: bytes
    type: str
    etag: str


def _read(path: Path) -> _File:
    body = path.read_bytes()
    kind = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "text/plain"
    return _File(body, kind, f'"{blake2b(body, digest_size=12).hexdigest()}"')


# In memory: no path of a request ever reaches the file system.
_FILES = {p.relative_to(_FOLDER).as_posix(): _read(p) for p in _FOLDER.rglob("*") if p.is_file()}

_IMPORT_MAP = _FILES["index.html"].body.partition(b'"importmap">')[2].partition(b"</script>")[0]
_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    f"script-src 'self' 'sha256-{b64encode(sha256(_IMPORT_MAP).digest()).decode()}'"
)


async def page(request: Request) -> HTTPResponse:
    """The console's page. It holds no data: with `admin.token`, anybody may have it."""
    _check_reader(request)
    if not request.path.endswith("/"):  # the page uses relative addresses
        return HTTPResponse(None, 308, private_headers(request) | {"location": "/admin/"})
    return _send(request, _FILES["index.html"])


async def file(request: Request, path: str) -> HTTPResponse:
    """A script, a style sheet or a licence of the console. Raises GatewayError 404."""
    _check_reader(request)
    found = _FILES.get(path)
    if found is None:
        raise GatewayError(404, f"The console has no file {path[:100]!r}.", code="route_not_found")
    return _send(request, found)


def _check_reader(request: Request) -> None:
    if not gateway_of(request).config.admin.token:
        check_local(request)


def _send(request: Request, found: _File) -> HTTPResponse:
    headers = private_headers(request) | {
        "cache-control": "no-cache",  # kept, but asked for again: a new release is seen at once
        "etag": found.etag,
        "content-security-policy": _POLICY,
        "x-frame-options": "DENY",
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-resource-policy": "same-origin",
    }
    if request.headers.get("if-none-match") == found.etag:
        return HTTPResponse(None, 304, headers)
    return HTTPResponse(found.body, 200, headers, found.type)


# --- the session ------------------------------------------------------------------------------


async def told_session(request: Request) -> HTTPResponse:
    """Whether this browser is signed in, and whether it has to be. Never a 401."""
    needs_token = bool(gateway_of(request).config.admin.token)
    if not needs_token:
        check_local(request)
    signed_in = not needs_token or is_signed_in(request)
    version = __version__ if signed_in else ""
    told = {"needs_token": needs_token, "signed_in": signed_in, "version": version}
    return private_json(request, told)


class _SignIn(Struct, forbid_unknown_fields=True):
    token: str


_sign_in = msgspec.json.Decoder(_SignIn)


async def sign_in(request: Request) -> HTTPResponse:
    """Sets the cookie for whoever sends admin.token. Raises GatewayError 401, 429."""
    record_for(request, ROUTE)
    gateway = gateway_of(request)
    secret, caller = gateway.config.admin.token, request.ctx.caller
    try:
        given = _sign_in.decode(request.body).token.strip()
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise bad_request('Send {"token": admin.token} as JSON.') from None
    if not secret:
        raise bad_request("The config has no admin.token: nobody has to sign in.", "token")
    if not gateway.access.verify(caller.address, given, secret):
        raise GatewayError(
            401,
            "This is not admin.token of the config.",
            code="admin_token_needed",
            headers=(("x-should-retry", "false"),),
        )
    value = console_cookie.issue(secret, time.time())
    return _with_cookie(request, value, console_cookie.SECONDS)


async def sign_out(request: Request) -> HTTPResponse:
    """Removes the cookie."""
    return _with_cookie(request, "", 0)


def _with_cookie(request: Request, value: str, seconds: int) -> HTTPResponse:
    cookie = (
        f"{console_cookie.NAME}={value}; Path=/admin; Max-Age={seconds}; HttpOnly; SameSite=Strict"
    )
    if public_address(request).startswith("https:"):
        cookie += "; Secure"
    return HTTPResponse(None, 204, private_headers(request) | {"set-cookie": cookie})


# --- live figures -----------------------------------------------------------------------------


async def events(request: Request) -> None:
    """Server-sent events: `figures` each second, `keys` when they change, `calls` that have ended.

    Any worker knows the sums of all. The stream ends when the worker leaves or the cookie does; the
    browser then asks the next worker.
    """
    check_operator(request)
    gateway = gateway_of(request)
    headers = private_headers(request) | {"x-accel-buffering": "no"}
    response = await request.respond(content_type="text/event-stream", headers=headers)
    keys, since, number = b"", b"", 0
    while gateway.ready and _may_stay(request):
        pieces = [_event("figures", msgspec.json.encode(await figures(request)))]
        if number % _KEYS_EVERY == 0:
            now = msgspec.json.encode(key_list(request))
            if now != keys:
                keys = now
                pieces.append(_event("keys", keys))
        rows = gateway.rows.used()
        calls = await asyncio.to_thread(calls_since, rows, since, _MOST_CALLS, ROUTE)
        if calls or number == 0:
            pieces.append(_event("calls", b"[" + b",".join(calls) + b"]"))
            since = time_of(calls[-1]) if calls else since
        await response.send(b"".join(pieces))
        number += 1
        for _ in range(_LOOKS):  # whether the worker leaves
            if gateway.ready:
                await asyncio.sleep(_EVERY_SECONDS / _LOOKS)


def _may_stay(request: Request) -> bool:
    return (
        not gateway_of(request).config.admin.token
        or "authorization" in request.headers
        or is_signed_in(request)
    )


def _event(name: str, data: bytes) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)


async def series(request: Request) -> HTTPResponse:
    """What the plots show: the ledger's calls over `span`, by `by`, in equal steps of time."""
    check_operator(request)
    span, by = request.args.get("span") or "15m", request.args.get("by") or "all"
    if span not in SPANS:
        raise bad_request(f"span: expected one of {', '.join(SPANS)}.", "span")
    if by not in GROUPS:
        raise bad_request(f"by: expected one of {', '.join(GROUPS)}.", "by")
    return private_json(request, await gateway_of(request).usage.series(span, by, time.time()))


# --- the config -------------------------------------------------------------------------------


async def config(request: Request) -> HTTPResponse:
    """The effective config without its secrets, and what a reload of the file would find."""
    check_operator(request)
    running = gateway_of(request).config
    status = reload_status_of(request)
    told: dict[str, Any] = {
        "effective": masked(running),
        "places": {},
        "path": None,
        "changed": None,
        "problems": [],
        "warnings": [],
        "last_reload": status.outcome() if status else None,
    }
    if request.app.ctx.reread is not None:
        try:
            loaded = await asyncio.to_thread(request.app.ctx.reread)
        except ConfigError as error:
            told |= {"problems": error.problems, "changed": True}
        else:
            told |= {
                "path": loaded.path,
                "places": loaded.places,
                "changed": loaded.config != running,
                "warnings": loaded.warnings,
            }
    return private_json(request, told)


# --- the playground ---------------------------------------------------------------------------


async def playground(request: Request, path: str) -> Any:
    """Answers as the route /c/... itself does, for the operator: no access token is needed.

    Raises GatewayError 404 for any other path.
    """
    check_operator(request)
    if not path.startswith("c/"):
        raise GatewayError(404, "The playground reaches /c/... only.", code="route_not_found")
    target = request.raw_url.decode("latin-1").removeprefix(_PLAYGROUND)
    request.raw_url = target.encode("latin-1")
    request._parsed_url = parse_url(request.raw_url)
    route, handler, values = request.app.router.get(
        request.path, request.method, request.headers.get("host")
    )
    request.route, request._match_info = route, dict(values)
    for name in ("cookie", "authorization"):  # the operator's, and nobody else's business
        request.headers.popall(name, None)
    request.ctx.caller = Caller(
        f"token {_PLAYER.id}", request.ctx.caller.address, _PLAYER, may_use_keys=True
    )
    stream: Any = request.stream
    stream.known = None  # the head as it was remembered has the cookie
    return await handler(request, **values)
