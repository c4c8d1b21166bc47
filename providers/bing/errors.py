"""Bing's refusals as the gateway's errors: HTTP statuses, `result` values, the hub's messages.

Source: recorded frames and several independent clients.
"""

from app.wire.errors import GatewayError
from app.wire.upstream import UpstreamReply
from providers.bing import schema

NO_RETRY = (("x-should-retry", "false"),)


def unauthorized(what: str) -> GatewayError:
    """Bing refuses the gateway's address; `what` says how, as "answered with a page"."""
    return GatewayError(
        502,
        f"Bing {what}: it refuses this gateway's address or anonymous use; try another proxy.",
        type="upstream_error",
        code="upstream_unauthorized",
        headers=NO_RETRY,
        outcome="upstream_error",
    )


def read_error(reply: UpstreamReply) -> GatewayError:
    """The error for a refused HTTP request or websocket handshake."""
    if reply.status == 429:
        return result_error(schema.Result("Throttled", "Request is throttled."))
    if reply.status in (401, 403, 404):  # Bing refuses some addresses with 404
        return unauthorized(f"answered with HTTP status {reply.status}")
    return GatewayError(
        502,
        f"Bing answered with HTTP status {reply.status}.",
        type="upstream_error",
        code="upstream_error",
        outcome="upstream_error",
    )


def result_error(result: schema.Result) -> GatewayError:
    """The error for a `result` whose value is not Success."""
    said = f"Bing: {result.message or result.error or result.value}"
    match result.value:
        case "CaptchaChallenge":
            # 403: SDKs repeat 429 and 5xx by themselves, which makes captchas likelier.
            return GatewayError(
                403,
                f"{said} This gateway does not solve captchas; try later or by another proxy.",
                code="captcha_required",
                headers=NO_RETRY,
                outcome="upstream_error",
            )
        case "Throttled":
            return GatewayError(429, said, code="rate_limit_exceeded", outcome="upstream_error")
        case "InvalidSession":
            return GatewayError(
                400,
                f"{said} Begin a new one by leaving `bing` out.",
                param="bing",
                code="conversation_expired",
                outcome="upstream_error",
            )
        case "UnauthorizedRequest" | "Forbidden":
            return unauthorized(f"says {result.value} ({result.message or result.error})")
    return GatewayError(
        502,
        f"{said} ({result.value}).",
        type="upstream_error",
        code="upstream_error",
        outcome="upstream_error",
    )


def hub_error(said: str) -> GatewayError:
    """The error for a message with which the hub breaks a turn off."""
    return GatewayError(
        502,
        f"Bing's hub: {said}.",
        type="upstream_error",
        code="upstream_error",
        outcome="upstream_error",
    )
