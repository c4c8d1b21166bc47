"""Authenticates operators by `admin.token`; without one, only callers on this machine are."""

from sanic import Request

from app.auth.caller import Caller
from app.auth.credentials import bare_token
from app.http.responses import gateway_of, record_for, request_id
from app.wire.errors import GatewayError

ROUTE = "/admin/*"  # the route of refusals in log and metrics: they are no calls


def check_operator(request: Request) -> None:
    """Raises GatewayError 401 or 403 unless the request is an operator's."""
    gateway = gateway_of(request)
    record_for(request, ROUTE)  # written only if the request is refused
    token, caller = gateway.config.admin.token, _caller(request)
    if token:
        given = bare_token(request.headers.get("authorization", ""))
        if not gateway.access.verify(caller.address, given, token):
            raise GatewayError(
                401,
                "This is for operators: send admin.token of the config as "
                "`Authorization: Bearer <token>`.",
                code="admin_token_needed",
                headers=(("www-authenticate", "Bearer"), ("x-should-retry", "false")),
            )
    elif not _is_local(request, caller):
        raise GatewayError(
            403,
            "Without admin.token in the config only callers on this machine may ask this, "
            "and not through a proxy.",
            code="admin_is_local",
            headers=(("x-should-retry", "false"),),
        )


def private_headers(request: Request) -> dict[str, str]:
    """Headers without CORS: no script of another website may read it. No cache may keep it."""
    return {"x-request-id": request_id(request), "cache-control": "no-store"}


def _caller(request: Request) -> Caller:
    caller: Caller = request.ctx.caller
    return caller


def _is_local(request: Request, caller: Caller) -> bool:
    site = request.headers.get("sec-fetch-site", "none")  # a browser's word on the page
    return caller.is_local and site in ("none", "same-origin")
