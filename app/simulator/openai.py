"""The OpenAI API, under /openai: chat, responses, models, embeddings, speech.

Files and transcription are in openai_files.py.

Keys begin with `sk-`, `sess-` or `demo-`; one with "bad" or "expired" in it is refused.
Models named `missing-...` do not exist. ANY /openai/v1/_echo/... returns exactly what arrived.
Headers are those of the real API, with the private ones (organisation, cookies).
"""

import gzip
import hashlib
from typing import Any

import msgspec
from sanic import Blueprint, HTTPResponse, Request

from app.simulator import delivery
from app.simulator.delivery import send_body, send_events, with_headers
from app.simulator.embeddings import embedding_list
from app.simulator.ledger import record_of
from app.simulator.openai_chat import Answer, Problem, find_problem
from app.simulator.openai_common import (
    FAMILY,
    answer,
    bad_request,
    check_request,
    common_headers,
    dialect,
    not_found,
    read_json,
    refuse,
)
from app.simulator.openai_responses import ResponseAnswer
from app.simulator.recordings import send_recording
from app.simulator.request_body import model_in, streamed_body
from app.simulator.routing import ANY, READS, route

MODELS = (
    "gpt-3.5-turbo",
    "gpt-4.1",
    "gpt-4o",
    "gpt-4o-mini",
    "gpt-5",
    "gpt-4o-mini-tts",
    "o4-mini",
    "text-embedding-3-large",
    "text-embedding-3-small",
    "whisper-1",
)
DIMENSIONS = {"text-embedding-3-large": 3072}

blueprint = Blueprint(FAMILY, url_prefix="/openai")


# chat -------------------------------------------------------------------------------------------


@blueprint.post("/v1/chat/completions")
async def chat_completions(request: Request) -> HTTPResponse | None:
    """POST /v1/chat/completions: checks the request and answers it, streamed or whole."""
    body, unreadable = read_json(request)
    model = model_in(body)
    fault, refused = await check_request(request, model)
    if refused or unreadable:
        return refused or unreadable
    if problem := find_problem(body):
        return bad_request(problem)
    if fault.replay:
        return await send_recording(
            request,
            fault,
            FAMILY,
            dialect(request),
            not_found,
            prefer_stream=bool(body.get("stream")),
        )
    made = Answer(body, fault)
    if body.get("stream"):
        headers = common_headers()
        return await send_events(request, fault, made.events(), dialect(request), headers=headers)
    headers = common_headers()
    return await send_body(request, fault, made.whole(), dialect(request), headers=headers)


@blueprint.post("/v1/responses")
async def responses(request: Request) -> HTTPResponse | None:
    """POST /v1/responses, streamed or whole."""
    body, unreadable = read_json(request)
    fault, refused = await check_request(request, model_in(body))
    if refused or unreadable:
        return refused or unreadable
    if not isinstance(body, dict) or not body.get("model"):
        return bad_request(Problem("Missing required parameter: 'model'.", "model", None))
    made = ResponseAnswer(body, fault)
    if body.get("stream"):
        headers = common_headers()
        return await send_events(request, fault, made.events(), dialect(request), headers=headers)
    return await answer(request, fault, made.whole())


# models and embeddings --------------------------------------------------------------------------


def model_object(name: str) -> dict[str, Any]:
    """OpenAI's Model object."""
    return {"id": name, "object": "model", "created": 1715367049, "owned_by": "system"}


@route(blueprint, "/v1/models", *READS)
async def models(request: Request) -> HTTPResponse | None:
    """GET /v1/models."""
    fault, refused = await check_request(request)
    listed = [model_object(name) for name in MODELS]
    return refused or await answer(request, fault, {"object": "list", "data": listed})


@route(blueprint, "/v1/models/<model:path>", *READS)
async def one_model(request: Request, model: str) -> HTTPResponse | None:
    """GET /v1/models/{id}; fine-tuned models (`ft:`) always exist."""
    fault, refused = await check_request(request, model)
    if not refused and not fault.name and model not in MODELS and not model.startswith("ft:"):
        refused = refuse(request, 404, "not_found", model=model)
    return refused or await answer(request, fault, model_object(model))


@blueprint.delete("/v1/models/<model:path>")
async def delete_model(request: Request, model: str) -> HTTPResponse | None:
    """DELETE /v1/models/{id}: says that it is deleted."""
    fault, refused = await check_request(request, model)
    deleted = {"id": model, "object": "model", "deleted": True}
    return refused or await answer(request, fault, deleted)


@blueprint.post("/v1/embeddings")
async def embeddings(request: Request) -> HTTPResponse | None:
    """POST /v1/embeddings, as floats or base64."""
    body, unreadable = read_json(request)
    model = model_in(body)
    fault, refused = await check_request(request, model)
    if refused or unreadable:
        return refused or unreadable
    asked = body.get("input") if isinstance(body, dict) else None
    if not model or not asked:
        missing = "input" if model else "model"
        return bad_request(Problem(f"Missing required parameter: '{missing}'.", missing, None))
    size = body.get("dimensions") or DIMENSIONS.get(model, 1536)
    listed = embedding_list(model, asked, size, body.get("encoding_format") or "float")
    return await answer(request, fault, listed, pretty=False)


# audio and the rest -------------------------------------------------------------------------------


@blueprint.post("/v1/audio/speech")
async def speech(request: Request) -> HTTPResponse | None:
    """Binary, chunked, without a length: 16 KB per word, the same for the same text."""
    body, unreadable = read_json(request)
    fault, refused = await check_request(request, model_in(body))
    if refused or unreadable:
        return refused or unreadable
    text = str(body.get("input", "")) if isinstance(body, dict) else ""
    pieces = (hashlib.shake_256(word.encode()).digest(16 * 1024) for word in text.split())
    return await send_events(
        request,
        fault,
        pieces,
        dialect(request),
        headers=common_headers(),
        content_type="audio/mpeg",
    )


@blueprint.delete("/v1/containers/<identity>")
async def delete_container(request: Request, identity: str) -> HTTPResponse | None:
    """Answers 204."""
    _, refused = await check_request(request)
    return refused or with_headers(HTTPResponse(None, 204), common_headers())


@route(blueprint, "/dashboard/<path:path>", *ANY)
async def dashboard(request: Request, path: str) -> HTTPResponse | None:
    """Echoes path and method under /dashboard."""
    fault, refused = await check_request(request)
    told = {"object": "dashboard", "path": f"/dashboard/{path}", "method": request.method}
    return refused or await answer(request, fault, told)


# echo -------------------------------------------------------------------------------------------


@route(blueprint, "/v1/_echo", *ANY, stream=True, name="echo_root")
@route(blueprint, "/v1/_echo/<path:path>", *ANY, stream=True)
async def echo(request: Request, path: str = "") -> HTTPResponse | None:
    """Returns what arrived, as JSON. No key is needed, so that a missing one can be seen too.

    Query: status=N answers with N; hop=1 with hop-by-hop headers; gzip=1 compressed whatever the
    client accepts; location=... with that header.
    """
    fault = request.app.ctx.faults.pick(request)
    record = record_of(request)
    async for _ in streamed_body(request):
        pass
    if refused := await delivery.before_answer(request, fault, dialect(request)):
        return refused
    seen = record.view()
    _, _, query = seen["target"].partition("?")
    told = {
        "method": seen["method"],
        "path": seen["target"].partition("?")[0],
        "query": query,
        "target": seen["target"],
        "headers": seen["headers"],
        "body_bytes": record.body_bytes,
        "body_sha256": record.body_sha256,
    }
    body = msgspec.json.encode(told)
    status = int(request.args.get("status", 200))
    headers = [*common_headers(), ("content-type", "application/json")]
    if location := request.args.get("location"):
        headers.append(("location", location))
    if request.args.get("gzip"):
        body = gzip.compress(body)
        headers.append(("content-encoding", "gzip"))
    if request.args.get("hop"):
        headers += [
            ("connection", "keep-alive, x-private-hop"),
            ("keep-alive", "timeout=5"),
            ("proxy-authenticate", "Basic"),
            ("trailer", "x-late"),
            ("x-private-hop", "1"),
            ("content-length", str(len(body))),
        ]
        record.status = status
        await delivery.send_raw(request, delivery.raw_head(status, headers) + body)
        await delivery.close_connection(request, meaning="complete")
    if status in (204, 304):
        return with_headers(HTTPResponse(None, status), headers)
    if fault.breaks_body:
        return await send_body(request, fault, body, dialect(request), headers=headers[:-1])
    return with_headers(HTTPResponse(body, status), headers)
