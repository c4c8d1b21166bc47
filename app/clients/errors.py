"""The errors that every client raises when a connection cannot be made."""

import os
import socket
import ssl

from app.wire.errors import GatewayError


def unreachable(why: str) -> GatewayError:
    """502 `upstream_unreachable`: refused, reset, TLS, DNS, or a proxy in between."""
    return GatewayError(
        502,
        f"The upstream cannot be reached ({why}).",
        code="upstream_unreachable",
        outcome="upstream_unreachable",
    )


def connect_timeout() -> GatewayError:
    """504 `upstream_timeout`: the connect timeout passed."""
    return GatewayError(
        504,
        "The upstream did not accept a connection in time.",
        code="upstream_timeout",
        outcome="upstream_timeout",
    )


def bad_path(message: str = "This path cannot be forwarded.") -> GatewayError:
    """400 `bad_path`: the request's URL is none that can be sent."""
    return GatewayError(400, message, code="bad_path")


def describe(error: BaseException) -> str:
    """The failure in words without addresses: a proxy's may hold a password."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, socket.gaierror):
        return "its host name has no address"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or 'the connection was closed'}"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    if type(error) is OSError:  # what `connect_first` raises for different reasons
        return "none of its addresses accepts a connection"
    return type(error).__name__
