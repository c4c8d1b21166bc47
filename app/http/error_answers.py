"""Errors as answers: whatever was raised becomes one GatewayError in the caller's API shape."""

import re
from collections.abc import Callable

from sanic import HTTPResponse, Request
from sanic.exceptions import SanicException

from app.fronts.registry import error_body_of
from app.http.responses import headers_for, request_id, too_large
from app.telemetry.redaction import redact
from app.wire.errors import GatewayError
from app.wire.front import Front
from app.wire.renderer import JSON

_CODE = re.compile(r"[\w.-]{1,64}", re.ASCII)


def error_answer(request: Request, error: GatewayError) -> HTTPResponse:
    """A failure before the first byte, in the shape that the callers of this path read."""
    front = _front_of(request)
    headers = headers_for(request, [*error.headers, *(front.error_headers(error) if front else ())])
    if error.wait is not None and "retry-after" not in headers:
        headers["retry-after"] = str(error.wait)
    if error.code and _CODE.fullmatch(error.code):  # some are the upstream's own words
        headers["x-gateway-error"] = error.code
    error_body = front.error_body if front else error_body_of(request.path)
    id = request_id(request)
    status = front.error_status(error) if front else error.status
    if front and front.id_header and front.id_header not in headers:
        headers[front.id_header] = front.id_prefix + id
    return HTTPResponse(error_body(error, id), status, headers, JSON)


def _front_of(request: Request) -> Front | None:
    """The front of the request, or of its route, which its headers may choose; None for other
    routes, and before there is one."""
    ctx = request.ctx
    if hasattr(ctx, "front"):
        found: Front | None = ctx.front
        return found
    if request.route is None:
        return None
    of_route = request.route.ctx
    by_headers: Callable[[Request], Front | None] | None = getattr(of_route, "front_of", None)
    return by_headers(request) if by_headers is not None else getattr(of_route, "front", None)


def as_gateway_error(request: Request, error: Exception) -> GatewayError:
    """Whatever was raised, Sanic's own refusals included, as the one error type."""
    if isinstance(error, GatewayError):
        redact.clean(error)
        return error
    if not isinstance(error, SanicException):
        return GatewayError(
            500,
            "The gateway failed at this request; its log has the cause under this x-request-id.",
            code="gateway_error",
            outcome="gateway_error",
        )
    status, outcome = error.status_code, "error"
    code: str | None
    passed = tuple((str(n), str(v)) for n, v in (getattr(error, "headers", None) or {}).items())
    match status:
        case 404:
            what, code = f"There is no route {request.path[:200]}.", "route_not_found"
        case 405:
            what, code = f"{request.method} is not offered here.", "method_not_allowed"
        case 408:
            what, code = "The request did not arrive in time.", "request_timeout"
        case 400:
            what, code = f"The request cannot be understood: {error}.", "bad_request"
        case 413 if "header" in str(error):
            status, code = 431, "headers_too_large"
            what = "The request's headers are larger than 16 KiB; send less of them."
        case 413:
            limit = request.app.config.REQUEST_MAX_SIZE
            return too_large(limit)
        case 417:
            what, code = "This expectation cannot be met.", "expectation_failed"
        case 503:
            what, code = "The gateway could not answer in time.", "gateway_timeout"
            outcome = "gateway_error"
        case 500:
            what, code = "The gateway failed at this request.", "gateway_error"
            outcome = "gateway_error"
        case 499:
            what, code, outcome = "The caller left.", None, "client_gone"
        case _:
            what, code = str(error) or f"HTTP {status}.", None
    return GatewayError(status, what, code=code, headers=passed, outcome=outcome)
