"""Who may ask as an operator: the holder of `admin.token`; without one, this machine itself."""

from sanic import Request

from app.auth.caller import Caller
from app.auth.credentials import bare_token
from app.http.responses import gateway_of, record_for
from app.wire.errors import GatewayError

ROUTE = "/admin/*"  # what is refused here, in log and metrics: no call that anybody pays for


def check_operator(request: Request) -> None:
    """Raises GatewayError 401 or 403 for everyone else."""
    gateway = gateway_of(request)
    record_for(request, ROUTE)  # written only if it is refused
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


def _caller(request: Request) -> Caller:
    caller: Caller = request.ctx.caller
    return caller


def _is_local(request: Request, caller: Caller) -> bool:
    site = request.headers.get("sec-fetch-site", "none")  # what a browser says of the asking page
    return caller.is_local and site in ("none", "same-origin")
