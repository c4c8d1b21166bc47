"""What every route of the simulated OpenAI API shares: credential check, headers, errors."""

import secrets
from typing import Any

import msgspec
from sanic import HTTPResponse, Request

from app.simulator import delivery
from app.simulator.delivery import Dialect, send_body, with_headers
from app.simulator.faults import Fault, Refusal
from app.simulator.ledger import record_of
from app.simulator.openai_chat import Problem

FAMILY = "openai"
KEY_PREFIXES = ("sk-", "sess-", "demo-")  # demo-: the keys of etc/demo.yaml
# (type, code, message) of each kind of refusal; %s is the model.
WORDS: dict[str, tuple[str, str | None, str]] = {
    "bad_request": (
        "invalid_request_error",
        "invalid_value",
        "The simulator refuses this request.",
    ),
    "auth": ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    "payment": (
        "insufficient_quota",
        "credit_balance_exhausted",
        "Your credit balance is exhausted. Please check your plan and billing details.",
    ),
    "forbidden": (
        "request_forbidden",
        "unsupported_country_region_territory",
        "Country, region, or territory not supported",
    ),
    "not_found": (
        "invalid_request_error",
        "model_not_found",
        "The model `%s` does not exist or you do not have access to it.",
    ),
    "too_large": ("invalid_request_error", None, "Maximum content size limit exceeded."),
    "rate_limit": (
        "requests",
        "rate_limit_exceeded",
        "Rate limit reached for %s in organization org-simulator on requests per min (RPM):"
        " Limit 3, Used 3, Requested 1. Please try again in 20s. Visit"
        " https://platform.openai.com/account/rate-limits to learn more.",
    ),
    "quota": (
        "insufficient_quota",
        "insufficient_quota",
        "You exceeded your current quota, please check your plan and billing details. For more"
        " information on this error, read the docs:"
        " https://platform.openai.com/docs/guides/error-codes/api-errors.",
    ),
    "server": (
        "server_error",
        None,
        "The server had an error while processing your request. Sorry about that!",
    ),
    "overloaded": (
        "service_unavailable_error",
        "server_is_overloaded",
        "The server is currently overloaded with other requests. Sorry about that! You can retry"
        " your request.",
    ),
}


def error_body(message: str, type: str, param: str | None, code: str | None) -> bytes:
    """OpenAI's error object as a body."""
    error = {"message": message, "type": type, "param": param, "code": code}
    return msgspec.json.format(msgspec.json.encode({"error": error}), indent=2)


def refuse(
    request: Request, status: int, kind: str, retry_after: str | None = None, model: str = ""
) -> HTTPResponse:
    """A refusal in OpenAI's words, with Retry-After where it is given."""
    type, code, message = WORDS[kind]
    message = message.replace("%s", model)
    key = record_of(request).key
    if kind == "auth" and not key:
        code = None
        message = (
            "You didn't provide an API key. You need to provide your API key in an Authorization"
            " header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY)."
        )
    elif kind == "auth":
        # The real one shows the ends of the key too: a gateway must not hand that on.
        shown = key[:8] + "*" * max(len(key) - 12, 3) + key[-4:]
        message = (
            f"Incorrect API key provided: {shown}. You can find your API key at"
            " https://platform.openai.com/account/api-keys."
        )
    headers = common_headers(limits=status not in (401, 404))
    if status == 401:
        headers.append(("www-authenticate", 'Bearer realm="OpenAI API"'))
    if retry_after is not None:
        headers.append(("retry-after", retry_after))
        if retry_after.isdigit():
            headers.append(("retry-after-ms", str(int(retry_after) * 1000)))
    body = error_body(message, type, None, code)
    return with_headers(HTTPResponse(body, status, content_type="application/json"), headers)


def bad_request(problem: Problem) -> HTTPResponse:
    """A 400 invalid_request_error."""
    body = error_body(problem.message, "invalid_request_error", problem.param, problem.code)
    response = HTTPResponse(body, 400, content_type="application/json")
    return with_headers(response, common_headers())


def not_found(message: str) -> HTTPResponse:
    """A 404 for an id."""
    body = error_body(message, "invalid_request_error", "id", None)
    response = HTTPResponse(body, 404, content_type="application/json")
    return with_headers(response, common_headers(limits=False))


def dialect(request: Request, model: str = "") -> Dialect:
    """How this family words its failures."""
    kind, code, message = WORDS["server"]
    error = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    body = msgspec.json.encode(error)

    def worded(refusal: Refusal) -> HTTPResponse:
        return refuse(request, refusal.status, refusal.kind, refusal.retry_after, model)

    return Dialect(
        refuse=worded,
        error_event=b"data: " + body + b"\n\n",
        error_body=body,
        bad_event=b'data: {"id":"chatcmpl-broken","choices":[{"index":0,"delta":{"cont\n\n',
    )


def common_headers(limits: bool = True) -> list[tuple[str, str]]:
    """The headers of every answer, with fresh ids and cookies; `limits` adds the rate limits."""
    headers = [
        ("x-request-id", f"req_{secrets.token_hex(16)}"),
        ("openai-organization", "org-simulator"),
        ("openai-project", "proj_simulator"),
        ("openai-processing-ms", "12"),
        ("openai-version", "2020-10-01"),
        ("x-content-type-options", "nosniff"),
        ("access-control-expose-headers", "X-Request-ID"),
        ("strict-transport-security", "max-age=31536000; includeSubDomains; preload"),
        ("cf-cache-status", "DYNAMIC"),
        ("cf-ray", secrets.token_hex(8) + "-AMS"),
        ("server", "cloudflare"),
        ("set-cookie", f"__cf_bm={secrets.token_hex(16)}; path=/; HttpOnly; Secure; SameSite=None"),
        ("set-cookie", f"_cfuvid={secrets.token_hex(16)}; path=/; HttpOnly; Secure; SameSite=None"),
    ]
    if limits:
        headers += [
            ("x-ratelimit-limit-requests", "10000"),
            ("x-ratelimit-limit-tokens", "50000000"),
            ("x-ratelimit-remaining-requests", "9999"),
            ("x-ratelimit-remaining-tokens", "49999989"),
            ("x-ratelimit-reset-requests", "6ms"),
            ("x-ratelimit-reset-tokens", "0s"),
        ]
    return headers


async def check_request(request: Request, model: str = "") -> tuple[Fault, HTTPResponse | None]:
    """Picks the fault and checks the request; the second value is the answer when it stops here."""
    fault = request.app.ctx.faults.pick(request, model)
    if not fault.name:
        key = record_of(request).key
        if not key.startswith(KEY_PREFIXES) or "bad" in key or "expired" in key:
            return fault, refuse(request, 401, "auth")
    if refused := await delivery.before_answer(request, fault, dialect(request, model)):
        return fault, refused
    if model.startswith("missing-"):
        return fault, refuse(request, 404, "not_found", model=model)
    return fault, None


async def answer(
    request: Request, fault: Fault, value: Any, *, pretty: bool = True
) -> HTTPResponse | None:
    """Sends a JSON body with the common headers."""
    body = msgspec.json.encode(value)
    if pretty:
        body = msgspec.json.format(body, indent=2)
    return await send_body(request, fault, body, dialect(request), headers=common_headers())


def read_json(request: Request) -> tuple[Any, HTTPResponse | None]:
    """The decoded body, or the 400 for one that is no JSON."""
    try:
        return msgspec.json.decode(request.body), None
    except (msgspec.DecodeError, UnicodeDecodeError):
        said = (
            "We could not parse the JSON body of your request. (HINT: This likely means you aren't"
            " using your HTTP library correctly. The OpenAI API expects a JSON payload, but what"
            " was sent was not valid JSON.)"
        )
        return None, bad_request(Problem(said, None, None))
