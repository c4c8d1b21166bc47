"""What every route of the simulated Gemini API shares: credential check, headers, errors."""

import re
from typing import Any

import msgspec
from sanic import HTTPResponse, Request

from app.simulator import delivery
from app.simulator.delivery import Dialect, send_body, with_headers
from app.simulator.faults import Fault, Refusal
from app.simulator.gemini_answer import pretty
from app.simulator.gemini_request import JSON, Problem

FAMILY = "gemini"
KEY_PREFIXES = ("AIza", "demo-")
OAUTH_PREFIX = "ya29."
TYPE = "application/json; charset=UTF-8"
SSE = "text/event-stream"
SERVICE = "generativelanguage.googleapis.com"
STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
MESSAGES = {
    "bad_request": "Request contains an invalid argument.",
    "payment": "Gemini API free tier is not available in your country. Please enable billing on"
    " your project in Google AI Studio.",
    "forbidden": "The caller does not have permission",
    "not_found": "models/%s is not found for API version %v, or is not supported for"
    " generateContent. Call ModelService.ListModels to see the list of available models and their"
    " supported methods.",
    "too_large": "Request payload size exceeds the limit: 20971520 bytes.",
    "quota": "You exceeded your current quota, please check your plan and billing details. For more"
    " information on this error, head to: https://ai.google.dev/gemini-api/docs/rate-limits.",
    "server": "An internal error has occurred. Please retry or report in"
    " https://developers.generativeai.google/guide/troubleshooting",
    "overloaded": "The model is overloaded. Please try again later.",
}
NO_KEY = (
    "Method doesn't allow unregistered callers (callers without established identity). Please use"
    " API Key or other form of API consumer identity to call this API."
)
NO_TOKEN = (
    "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or"
    " other valid authentication credential."
)
# A word in the key: HTTP status, Google's status, message.
KEY_ERRORS = {
    "expired": (400, "INVALID_ARGUMENT", "API key expired. Please renew the API key."),
    "region": (
        400,
        "FAILED_PRECONDITION",
        "User location is not supported for the API use.",
    ),
    "leaked": (
        403,
        "PERMISSION_DENIED",
        "Your API key was reported as leaked. Please use another API key.",
    ),
}


def error_object(
    code: int, message: str, status: str = "", details: list[JSON] | None = None
) -> JSON:
    """Google's error object; `status` defaults to the one of the HTTP code."""
    error: JSON = {"code": code, "message": message}
    error["status"] = status or STATUSES.get(code, "UNKNOWN")
    if details:
        error["details"] = details
    return {"error": error}


def detail(kind: str, **more: Any) -> JSON:
    """One google.rpc detail of an error."""
    return {"@type": f"type.googleapis.com/google.rpc.{kind}", **more}


def refused(request: Request, error: JSON) -> HTTPResponse:
    """An error as a response, inside an array where the answer is one."""
    body = pretty(error)
    if in_array(request):
        body = b"[" + body + b"\n]"
    response = HTTPResponse(body, error["error"]["code"], content_type=TYPE)
    return with_headers(response, common_headers())


def in_array(request: Request) -> bool:
    """Whether the request streams without alt=sse, as a JSON array."""
    return ":streamGenerateContent" in request.path and request.args.get("alt") != "sse"


def invalid_key(message: str = "API key not valid. Please pass a valid API key.") -> JSON:
    """The 400 API_KEY_INVALID error."""
    info = detail(
        "ErrorInfo",
        reason="API_KEY_INVALID",
        domain="googleapis.com",
        metadata={"service": SERVICE},
    )
    told = detail("LocalizedMessage", locale="en-US", message=message)
    return error_object(400, message, details=[info, told])


def error_for(refusal: Refusal, model: str, version: str) -> JSON:
    """A refusal as Google's error object."""
    match refusal.kind:
        case "auth":
            return invalid_key()
        case "rate_limit" | "quota":
            per_day = refusal.kind == "quota"
            per = "RequestsPerDay" if per_day else "RequestsPerMinute"
            quota = {
                "quotaMetric": f"{SERVICE}/generate_content_free_tier_requests",
                "quotaId": f"Generate{per}PerProjectPerModel-FreeTier",
                "quotaDimensions": {"location": "global", "model": model},
                "quotaValue": "10",
            }
            details = [detail("QuotaFailure", violations=[quota])]
            after = refusal.retry_after or ("41.5" if per_day else "")
            if after:  # rubbish stays rubbish: soon becomes "soons"
                details.append(detail("RetryInfo", retryDelay=f"{after}s"))
            return error_object(429, MESSAGES["quota"], details=details)
        case "payment":
            return error_object(400, MESSAGES["payment"], "FAILED_PRECONDITION")
        case kind:
            message = MESSAGES[kind].replace("%s", model).replace("%v", version)
            return error_object(refusal.status, message)


def dialect(request: Request, model: str = "", version: str = "v1beta") -> Dialect:
    """How this family words its failures."""
    broken = pretty(error_object(503, MESSAGES["overloaded"]))
    array = in_array(request)

    def worded(refusal: Refusal) -> HTTPResponse:
        return refused(request, error_for(refusal, model, version))

    return Dialect(
        refuse=worded,
        # The real one forgets the framing here: bare lines, no `data:`.
        error_event=b"\n,\r\n" + broken + b"\n]" if array else broken + b"\n",
        error_body=broken,
        bad_event=b'\n,\r\n{"candidates": [}' if array else b'data: {"candidates": [{"con\r\n\r\n',
    )


def common_headers() -> list[tuple[str, str]]:
    """The headers of every answer."""
    return [
        ("vary", "Origin"),
        ("vary", "X-Origin"),
        ("vary", "Referer"),
        ("server", "scaffolding on HTTPServer2"),
        ("x-xss-protection", "0"),
        ("x-frame-options", "SAMEORIGIN"),
        ("x-content-type-options", "nosniff"),
        ("server-timing", "gfet4t7; dur=12"),
        ("alt-svc", 'h3=":443"; ma=2592000,h3-29=":443"; ma=2592000'),
    ]


async def check_request(
    request: Request, model: str = "", version: str = "v1beta"
) -> tuple[Fault, HTTPResponse | None]:
    """Picks the fault and checks the request; the second value is the answer when it stops here."""
    fault = request.app.ctx.faults.pick(request, model)
    if not fault.name and (wrong := credential_error(request)):
        return fault, refused(request, wrong)
    if answered := await delivery.before_answer(request, fault, dialect(request, model, version)):
        return fault, answered
    if version not in ("v1", "v1beta", "v1alpha"):
        return fault, page_not_found(request)
    if model.startswith("missing-") or (version == "v1" and _ONLY_BETA(model)):
        missing = Refusal(404, "not_found")
        return fault, refused(request, error_for(missing, model, version))
    return fault, None


# Google's version v1 knows no aliases and no previews.
_ONLY_BETA = re.compile(r".*-(?:latest|preview)").match


def credential_error(request: Request) -> JSON | None:
    """Why the credential is refused, or None."""
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    key = request.headers.get("x-goog-api-key") or request.args.get("key") or ""
    if scheme:
        is_token = scheme.lower() == "bearer" and bearer.startswith(OAUTH_PREFIX)
        if is_token and "bad" not in bearer:
            return None
        if is_token or "/openai/" not in request.path:
            return error_object(401, NO_TOKEN)
        key = key or bearer
    if not key:
        return error_object(403, NO_KEY)
    if not key.startswith(KEY_PREFIXES) or "bad" in key:
        return invalid_key()
    for word_in_key, (code, status, message) in KEY_ERRORS.items():
        if word_in_key in key:
            if word_in_key == "expired":
                return invalid_key(message)
            return error_object(code, message, status)
    return None


def page_not_found(request: Request) -> HTTPResponse:
    """The HTML page with which Google answers unknown paths."""
    page = (
        f"<!DOCTYPE html><title>Error 404 (Not Found)!!1</title><p>{len(request.path)} characters"
    )
    response = HTTPResponse(page, 404, content_type="text/html; charset=UTF-8")
    return with_headers(response, common_headers())


def bad_request(request: Request, problem: Problem) -> HTTPResponse:
    """A 400 INVALID_ARGUMENT."""
    details = None
    if problem.field is not None:
        violation = {"field": problem.field, "description": problem.message}
        details = [detail("BadRequest", fieldViolations=[violation])]
    return refused(request, error_object(400, problem.message, details=details))


async def answer(request: Request, fault: Fault, value: Any) -> HTTPResponse | None:
    """Sends a JSON body with the common headers."""
    return await send_body(
        request,
        fault,
        pretty(value),
        dialect(request),
        headers=common_headers(),
        content_type=TYPE,
    )


def read_json(request: Request) -> Any:
    """The decoded body, or the Problem of one that is no JSON."""
    try:
        return msgspec.json.decode(request.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Problem(f"Invalid JSON payload received. {error}")
