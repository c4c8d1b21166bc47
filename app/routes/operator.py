"""Who may ask as an operator: the holder of `admin.token`; without one, this machine itself."""

import hmac

from sanic import Request

from app.access import Caller
from app.key_pool import bare_token
from app.routes.answers import gateway_of
from app.wire.errors import GatewayError


def check_operator(request: Request) -> None:
    """Raises GatewayError 401 or 403 for everyone else."""
    token = gateway_of(request).config.admin.token
    if token:
        given = bare_token(request.headers.get("authorization", ""))
        if not hmac.compare_digest(given.encode(), token.encode()):
            raise GatewayError(
                401,
                "This is for operators: send admin.token of the config as "
                "`Authorization: Bearer <token>`.",
                code="admin_token_needed",
                headers=(("www-authenticate", "Bearer"), ("x-should-retry", "false")),
            )
    elif not _is_local(request):
        raise GatewayError(
            403,
            "Without admin.token in the config only callers on this machine may ask this, "
            "and not through a proxy.",
            code="admin_is_local",
            headers=(("x-should-retry", "false"),),
        )


def _is_local(request: Request) -> bool:
    caller: Caller | None = getattr(request.ctx, "caller", None)
    site = request.headers.get("sec-fetch-site", "none")  # what a browser says of the asking page
    return caller is not None and caller.is_local and site in ("none", "same-origin")
