"""What every route of the simulated ChatGPT website shares: account check, answers, errors."""

from typing import Any

import msgspec
from sanic import HTTPResponse, Request

from app.simulator import delivery
from app.simulator.delivery import Dialect, with_headers
from app.simulator.faults import Fault, Refusal

JSON = dict[str, Any]
encode = msgspec.json.encode
PAGE = b"<!DOCTYPE html><html><head><title>Just a moment...</title></head><body></body></html>"


def detail(status: int, said: Any, headers: delivery.Headers = ()) -> HTTPResponse:
    """An error answer: `{"detail": ...}`."""
    body = HTTPResponse(encode({"detail": said}), status, content_type="application/json")
    return with_headers(body, headers)


def answer(body: Any, headers: delivery.Headers = (), status: int = 200) -> HTTPResponse:
    """A JSON answer."""
    return with_headers(
        HTTPResponse(encode(body), status, content_type="application/json"), headers
    )


def _refuse(asked: Refusal) -> HTTPResponse:
    after = [("retry-after", asked.retry_after)] if asked.retry_after else []
    if asked.status == 429:
        return detail(429, "Too many requests in 1 hour. Try again later.", after)
    return detail(asked.status, f"Simulated {asked.status}.", after)


DIALECT = Dialect(
    refuse=_refuse,
    error_event=b'data: {"message": null, "error": "Something broke."}\n\n',
    error_body=b'{"detail": "Something broke."}',
    bad_event=b"data: {broken\n\n",
)


async def check_request(request: Request, model: str = "") -> tuple[Fault, HTTPResponse | None]:
    """Picks the fault and checks the request; the second value is the answer when it stops here."""
    fault = request.app.ctx.faults.pick(request, model)
    refused = await delivery.before_answer(request, fault, DIALECT)
    if refused is not None:
        return fault, refused
    token = token_of(request)
    if "challenge" in token:
        page = HTTPResponse(PAGE, 403, {"cf-mitigated": "challenge"}, "text/html; charset=UTF-8")
        return fault, page
    if "expired" in token:
        said = "Your authentication token has expired. Please try signing in again."
        return fault, detail(401, {"message": said, "code": "token_expired", "param": None})
    if "unusual" in token:
        return fault, detail(403, "Unusual activity has been detected from your device.")
    if request.path.startswith("/chatgpt/backend-api/") and not token:
        return fault, detail(401, "Unauthorized")
    return fault, None


def token_of(request: Request) -> str:
    """The bearer token; "" for none and on the anonymous paths."""
    if request.path.startswith("/chatgpt/backend-anon/"):
        return ""
    return request.headers.get("authorization", "").removeprefix("Bearer ").strip()


def cookies_of(request: Request) -> dict[str, str]:
    """The request's cookies by name."""
    pairs = (c.strip().partition("=") for c in request.headers.get("cookie", "").split(";"))
    return {name: value for name, _, value in pairs if name}
