"""Anthropic's API, under /claude: messages, count_tokens, models.

Batches are in claude_batches.py, files in claude_files.py.

Keys: `sk-ant-api...` or `demo-...` in x-api-key or as bearer (so the SDKs since October 2026),
`sk-ant-oat...` as bearer with its beta; one with "bad" or "expired" in it is refused.
`anthropic-version` is required; files need their beta under 2023-06-01. Models named `missing-...`
do not exist. What the real API refuses in a request is refused here (claude_rules.py).
"""

from sanic import Blueprint, HTTPResponse, Request

from app.simulator.claude_common import (
    FAMILY,
    JSON,
    answer,
    answer_page,
    bad_request,
    check_request,
    common_headers,
    dialect,
    not_found,
    read_json,
    version_of,
)
from app.simulator.claude_messages import Message, count_tokens
from app.simulator.claude_rules import refusal_of
from app.simulator.delivery import send_events
from app.simulator.recordings import send_recording
from app.simulator.request_body import model_in
from app.simulator.routing import route

MODELS = (  # newest first, as the real list
    ("claude-opus-4-8", "Claude Opus 4.8", "2026-06-01T00:00:00Z", 128_000),
    ("claude-opus-4-6", "Claude Opus 4.6", "2026-02-01T00:00:00Z", 128_000),
    ("claude-haiku-4-5-20251001", "Claude Haiku 4.5", "2025-10-15T00:00:00Z", 64_000),
    ("claude-sonnet-4-5-20250929", "Claude Sonnet 4.5", "2025-09-29T00:00:00Z", 64_000),
    ("claude-opus-4-1-20250805", "Claude Opus 4.1", "2025-08-05T00:00:00Z", 32_000),
    ("claude-sonnet-4-20250514", "Claude Sonnet 4", "2025-05-22T00:00:00Z", 64_000),
    ("claude-3-7-sonnet-20250219", "Claude Sonnet 3.7", "2025-02-24T00:00:00Z", 64_000),
    ("claude-3-5-haiku-20241022", "Claude Haiku 3.5", "2024-10-22T00:00:00Z", 8_192),
    ("claude-3-haiku-20240307", "Claude Haiku 3", "2024-03-07T00:00:00Z", 4_096),
)

blueprint = Blueprint(FAMILY, url_prefix="/claude")


# messages ---------------------------------------------------------------------------------------


@route(blueprint, "/v1/messages", "POST")
async def messages(request: Request) -> HTTPResponse | None:
    """POST /v1/messages: checks the request and answers it, streamed or whole."""
    body, unreadable = read_json(request)
    model = model_in(body)
    fault, refused = await check_request(request, model)
    if refused or unreadable:
        return refused or unreadable
    if problem := refusal_of(body, version=version_of(request)):
        return bad_request(problem)
    streams = body.get("stream") is True
    if fault.replay:
        return await send_recording(
            request, fault, FAMILY, dialect(), not_found, prefer_stream=streams
        )
    made = Message(body, fault)
    if streams:
        return await send_events(
            request, fault, made.events(), dialect(model), headers=common_headers()
        )
    return await answer(request, fault, made.whole())


@route(blueprint, "/v1/messages/count_tokens", "POST")
async def count(request: Request) -> HTTPResponse | None:
    """POST /v1/messages/count_tokens."""
    body, unreadable = read_json(request)
    fault, refused = await check_request(request, model_in(body))
    if refused or unreadable:
        return refused or unreadable
    if isinstance(body, dict) and ("max_tokens" in body or "stream" in body):
        name = "max_tokens" if "max_tokens" in body else "stream"
        return bad_request(f"{name}: Extra inputs are not permitted")
    full = {"max_tokens": 32_000, **body} if isinstance(body, dict) else body
    if problem := refusal_of(full, version=version_of(request)):
        return bad_request(problem)
    return await answer(request, fault, {"input_tokens": count_tokens(body)})


# models -----------------------------------------------------------------------------------------


def model_object(row: tuple[str, str, str, int]) -> JSON:
    """Anthropic's ModelInfo for one row of MODELS."""
    name, display_name, created_at, most = row
    return {
        "type": "model",
        "id": name,
        "display_name": display_name,
        "created_at": created_at,
        "max_input_tokens": 200_000,
        "max_tokens": most,
    }


@route(blueprint, "/v1/models", "GET")
async def models(request: Request) -> HTTPResponse | None:
    """GET /v1/models, paged."""
    fault, refused = await check_request(request)
    if refused:
        return refused
    return await answer_page(request, fault, [model_object(row) for row in MODELS])


@route(blueprint, "/v1/models/<model:path>", "GET")
async def one_model(request: Request, model: str) -> HTTPResponse | None:
    """GET /v1/models/{id}; an alias finds its dated snapshot."""
    fault, refused = await check_request(request)
    if refused:
        return refused
    found = next((row for row in MODELS if row[0].startswith(model)), None)
    return (
        await answer(request, fault, model_object(found)) if found else not_found(f"model: {model}")
    )
