"""What every route of the simulated Anthropic API shares: credentials, headers, errors, pages."""

import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sanic import HTTPResponse, Request

from app.simulator import delivery
from app.simulator.claude_messages import token
from app.simulator.claude_rules import VERSIONS, Problem
from app.simulator.delivery import Dialect, send_body, with_headers
from app.simulator.faults import Fault, Refusal
from app.simulator.ledger import record_of

FAMILY = "claude"
JSON = dict[str, Any]
ORGANIZATION = "00000000-aaaa-4000-8000-000000000001"
OAUTH_BETA = "oauth-2025-04-20"
KEY_PREFIXES = ("sk-ant-api", "demo-")
# (error.type, message) of each kind of refusal; %s is the model.
WORDS = {
    "bad_request": ("invalid_request_error", "The simulator refuses this request."),
    "auth": ("authentication_error", "invalid x-api-key"),
    "payment": ("billing_error", "There is an issue with your billing or payment information."),
    "forbidden": ("permission_error", "Your API key does not have permission to use this resource"),
    "not_found": ("not_found_error", "model: %s"),
    "too_large": ("request_too_large", "Request exceeds the maximum allowed number of bytes."),
    "rate_limit": (
        "rate_limit_error",
        "This request would exceed your organization's rate limit of 50 requests per minute (org:"
        f" {ORGANIZATION}, model: %s). For details, refer to: https://docs.claude.com/en/api/rate-limits.",
    ),
    # The real one says this with status 400, not 429.
    "quota": (
        "invalid_request_error",
        "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing"
        " to upgrade or purchase credits.",
    ),
    "server": ("api_error", "Internal server error"),
    "timeout": ("timeout_error", "Request timed out"),
    "overloaded": ("overloaded_error", "Overloaded"),
    "conflict": ("conflict_error", "The resource is in conflict with another request."),
}
BY_STATUS = {409: "conflict", 504: "timeout"}


def common_headers(*, limits: bool = True, spent: bool = False) -> list[tuple[str, str]]:
    """The headers of every answer; `spent` says that no request is left in the window."""
    reset = (datetime.now(UTC) + timedelta(seconds=7)).strftime("%Y-%m-%dT%H:%M:%SZ")
    headers = [
        ("request-id", token("req_")),
        ("anthropic-organization-id", ORGANIZATION),
        ("strict-transport-security", "max-age=31536000; includeSubDomains; preload"),
        ("cf-cache-status", "DYNAMIC"),
        ("cf-ray", secrets.token_hex(8) + "-AMS"),
        ("server", "cloudflare"),
        ("set-cookie", f"_cfuvid={secrets.token_hex(16)}; HttpOnly; Secure; Path=/"),
        ("vary", "Accept-Encoding"),
    ]
    for window, limit in (
        (("requests", 50), ("tokens", 48_000), ("input-tokens", 40_000), ("output-tokens", 8_000))
        if limits
        else ()
    ):
        name = f"anthropic-ratelimit-{window}"
        remaining = 0 if spent and window == "requests" else limit - limit // 50
        headers += [
            (f"{name}-limit", str(limit)),
            (f"{name}-remaining", str(remaining)),
            (f"{name}-reset", reset),
        ]
    return headers


def error_object(kind: str, message: str) -> JSON:
    """Anthropic's error object with a fresh request id."""
    return {
        "type": "error",
        "error": {"details": None, "type": kind, "message": message},
        "request_id": token("req_"),
    }


def error_answer(
    status: int, kind: str, message: str, headers: list[tuple[str, str]] | None = None
) -> HTTPResponse:
    """An error as a response, with x-should-retry where the real API sends it."""
    body = msgspec.json.encode(error_object(kind, message))
    headers = headers if headers is not None else common_headers(limits=False)
    if status in (400, 401, 403, 404, 413):
        headers.append(("x-should-retry", "false"))
    return with_headers(HTTPResponse(body, status, content_type="application/json"), headers)


def refuse(refusal: Refusal, model: str) -> HTTPResponse:
    """A refusal in Anthropic's words and status."""
    word = BY_STATUS.get(refusal.status, refusal.kind)
    kind, message = WORDS[word]
    status = 400 if word == "quota" else refusal.status
    headers = common_headers(limits=status == 429, spent=True)
    if status in (429, 529, 503):
        headers.append(("x-should-retry", "true"))
    if refusal.retry_after is not None:
        headers.append(("retry-after", refusal.retry_after))
    if status == 413:  # sent by the edge, which writes pages
        page = b"<html><head><title>413 Request Entity Too Large</title></head></html>"
        return HTTPResponse(page, 413, content_type="text/html")
    return error_answer(status, kind, message.replace("%s", model), headers)


def bad_request(problem: Problem | str) -> HTTPResponse:
    """A 400 invalid_request_error."""
    message = problem if isinstance(problem, str) else problem.message
    return error_answer(400, "invalid_request_error", message, common_headers())


def not_found(message: str) -> HTTPResponse:
    """A 404 not_found_error."""
    return error_answer(404, "not_found_error", message)


def dialect(model: str = "") -> Dialect:
    """How this family words its failures."""
    body = msgspec.json.encode(error_object(*WORDS["overloaded"]))
    return Dialect(
        refuse=lambda refusal: refuse(refusal, model),
        error_event=b"event: error\ndata: " + body + b"\n\n",
        error_body=body,
        bad_event=b'event: content_block_delta\ndata: {"type":"content_block_delta","ind\n\n',
    )


async def check_request(request: Request, model: str = "") -> tuple[Fault, HTTPResponse | None]:
    """Picks the fault and checks the request; the second value is the answer when it stops here."""
    fault = request.app.ctx.faults.pick(request, model)
    if not fault.name and (stopped := _credential_error(request)):
        return fault, stopped
    if refused := await delivery.before_answer(request, fault, dialect(model)):
        return fault, refused
    if model.startswith("missing-"):
        return fault, not_found(f"model: {model}")
    return fault, None


def _credential_error(request: Request) -> HTTPResponse | None:
    key, headers = record_of(request).key, request.headers
    is_known = key.startswith(KEY_PREFIXES)
    if key.startswith("sk-ant-oat"):
        betas = ",".join(headers.getall("anthropic-beta", []))
        is_known = OAUTH_BETA in betas and not headers.get("x-api-key")
    if not key:
        return error_answer(401, "authentication_error", "x-api-key header is required")
    if not is_known or "bad" in key or "expired" in key:
        return error_answer(401, *WORDS["auth"])
    version = headers.get("anthropic-version")
    if version is None:
        return bad_request("anthropic-version: header is required")
    if version not in VERSIONS:
        return bad_request(f'anthropic-version: "{version}" is not a valid version')
    return None


async def answer(request: Request, fault: Fault, value: Any) -> HTTPResponse | None:
    """Sends a JSON body with the common headers."""
    body = msgspec.json.encode(value)
    return await send_body(request, fault, body, dialect(), headers=common_headers())


def version_of(request: Request) -> str:
    """The anthropic-version header, "" for none."""
    return request.headers.get("anthropic-version", "")


def read_json(request: Request) -> tuple[Any, HTTPResponse | None]:
    """The decoded body, or the 400 for one that is no JSON."""
    try:
        return msgspec.json.decode(request.body), None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return None, bad_request(f"The request body is not valid JSON: {error}")


async def answer_page(request: Request, fault: Fault, rows: list[JSON]) -> HTTPResponse | None:
    """Sends one page of rows: `limit`, and a cursor from either side."""
    limit = request.args.get("limit", "20")
    if not limit.isdigit() or not 1 <= int(limit) <= 1000:
        return bad_request("limit: Input should be between 1 and 1000")
    ids = [row["id"] for row in rows]
    start, end = 0, len(rows)
    for name in ("after_id", "before_id"):
        cursor = request.args.get(name)
        if cursor is None:
            continue
        if cursor not in ids:
            return bad_request(f"{name}: Invalid cursor")
        if name == "after_id":
            start = ids.index(cursor) + 1
        else:
            end = ids.index(cursor)
            start = max(end - int(limit), 0)
    page = rows[start:end][: int(limit)]
    backwards = "before_id" in request.args
    return await answer(
        request,
        fault,
        {
            "data": page,
            "has_more": start > 0 if backwards else start + len(page) < end,
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
        },
    )
