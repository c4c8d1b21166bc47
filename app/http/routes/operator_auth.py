"""Authenticates operators: by `admin.token` or the console's cookie; without a token in the config,
only callers on this machine are."""

import time
from urllib.parse import urlsplit

from sanic import Request

from app.auth import console_cookie
from app.auth.caller import Caller
from app.auth.credentials import bare_token
from app.http.responses import gateway_of, public_address, record_for, request_id
from app.wire.errors import GatewayError

ROUTE = "/admin/*"  # the route of refusals in log and metrics: they are no calls
# The console sends it with each request that changes something. No form can, and the script of
# another website is refused the preflight, for it sends cookies.
CONSOLE_HEADER = "x-gateway-console"
_FINAL = (("x-should-retry", "false"),)


def check_operator(request: Request) -> None:
    """Raises GatewayError 401 or 403 unless the request is an operator's."""
    gateway = gateway_of(request)
    record_for(request, ROUTE)  # written only if the request is refused
    token, caller = gateway.config.admin.token, _caller(request)
    if not token:
        check_local(request)
    elif "authorization" not in request.headers and _has_cookie(request, token):
        _check_same_site(request)
    else:
        given = bare_token(request.headers.get("authorization", ""))
        if not gateway.access.verify(caller.address, given, token):
            raise GatewayError(
                401,
                "This is for operators: send admin.token of the config as "
                "`Authorization: Bearer <token>`.",
                code="admin_token_needed",
                headers=(("www-authenticate", "Bearer"), *_FINAL),
            )


def check_local(request: Request) -> None:
    """Raises GatewayError 403 unless the caller is on this machine, and no other site's page."""
    caller = _caller(request)
    site = request.headers.get("sec-fetch-site", "none")  # a browser's word on the page
    if not caller.is_local or site not in ("none", "same-origin"):
        record_for(request, ROUTE)
        raise GatewayError(
            403,
            "Without admin.token in the config only callers on this machine may ask this, "
            "and not through a proxy.",
            code="admin_is_local",
            headers=_FINAL,
        )


def is_signed_in(request: Request) -> bool:
    """Whether the console's cookie came and is valid."""
    return _has_cookie(request, gateway_of(request).config.admin.token)


def private_headers(request: Request) -> dict[str, str]:
    """Headers without CORS: no script of another website may read it. No cache may keep it."""
    return {"x-request-id": request_id(request), "cache-control": "no-store"}


def _has_cookie(request: Request, token: str) -> bool:
    if not token or "cookie" not in request.headers:
        return False
    given = request.cookies.get(console_cookie.NAME) or ""
    return console_cookie.is_valid(token, given, time.time())


def _check_same_site(request: Request) -> None:
    """Raises GatewayError 403 where a page of another site may be what uses the cookie.

    SameSite=Strict keeps the cookie from other sites; another port of this host is the same site.
    """
    headers = request.headers
    site = headers.get("sec-fetch-site")
    if request.method in ("GET", "HEAD"):
        is_ours = site in (None, "none", "same-origin")
    else:
        is_ours = CONSOLE_HEADER in headers and (
            site == "same-origin" if site is not None else _has_own_origin(request)
        )
    if not is_ours:
        raise GatewayError(
            403,
            "The console's cookie is only for the console's own page.",
            code="cross_site_request",
            headers=_FINAL,
        )


def _has_own_origin(request: Request) -> bool:
    # Browsers leave out Sec-Fetch-Site where the address is neither https nor this machine's.
    origin = urlsplit(request.headers.get("origin", "")).netloc
    return bool(origin) and origin in (request.host, urlsplit(public_address(request)).netloc)


def _caller(request: Request) -> Caller:
    caller: Caller = request.ctx.caller
    return caller
