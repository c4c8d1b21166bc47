"""Who may ask as an operator: the holder of `admin.token`; without one, this machine itself."""

import hmac
from ipaddress import ip_address

from sanic import Request

from app.key_pool import bare_token
from app.routes.answers import gateway_of
from app.wire.errors import GatewayError

# Each says that somebody else asks through the one who connected.
_FORWARDING = (
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
)
_LOCAL_NAMES = ("localhost", "localhost.")


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
    elif not is_local(request):
        raise GatewayError(
            403,
            "Without admin.token in the config only callers on this machine may ask this, "
            "and not through a proxy.",
            code="admin_is_local",
            headers=(("x-should-retry", "false"),),
        )


def is_local(request: Request) -> bool:
    """Asked from this machine, for itself, and not by some website in a browser on it."""
    transport = request.transport
    if transport is None or any(name in request.headers for name in _FORWARDING):
        return False
    far = _address(transport.get_extra_info("peername"))
    near = _address(transport.get_extra_info("sockname"))
    if far is None or not (ip_address(far).is_loopback or far == near):
        return False
    # A website whose name was made to lead here shows by its Host; another one by its Origin.
    if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return False
    host = request.headers.get("host", "")
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != host:
        return False
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    return name in _LOCAL_NAMES or _address((name.strip("[]"),)) is not None


def _address(pair: object) -> str | None:
    """The IP address of a socket's end, an IPv4 one in its own form."""
    try:
        found = ip_address(pair[0].partition("%")[0])  # type: ignore[index]
    except (TypeError, ValueError, IndexError, AttributeError):
        return None
    mapped = getattr(found, "ipv4_mapped", None)
    return str(mapped or found)
