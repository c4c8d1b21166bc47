"""The Gemini API, under /gemini: generate, stream, count, embed, models.

Files are in gemini_files.py.

Keys begin with `AIza` or `demo-`, in x-goog-api-key or ?key=; as a bearer only under openai/, where
Google's own OpenAI layer is; `ya29.` tokens are bearers everywhere. A key with one of the words of
KEY_ERRORS in it is refused the way Google words that. Models: `missing-...` do not exist,
`blocked-...` find the prompt blocked, `malformed-...` make a call that cannot be used.

As the real one it says 400 for a bad key, so `sim-401` comes as 400 API_KEY_INVALID; the seconds to
wait stand in the body; an error inside a stream is bare JSON between two events.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
from sanic import Blueprint, HTTPResponse, Request

from app.simulator import openai_chat
from app.simulator.delivery import send_body, send_events
from app.simulator.embeddings import embed
from app.simulator.faults import Fault, Refusal
from app.simulator.gemini_answer import Answer
from app.simulator.gemini_common import (
    FAMILY,
    SSE,
    TYPE,
    answer,
    bad_request,
    check_request,
    common_headers,
    dialect,
    error_for,
    error_object,
    in_array,
    page_not_found,
    read_json,
    refused,
)
from app.simulator.gemini_request import JSON, Problem, camel, generation_of, read_request
from app.simulator.recordings import send_recording
from app.simulator.routing import ANY, Handler, route

MODELS = (
    "gemini-2.5-flash",
    "gemini-2.5-pro",
    "gemini-2.0-flash",
    "gemini-3-flash-preview",
    "gemini-3-pro-preview",
    "gemma-3-27b-it",
    "gemini-embedding-001",
    "gemini-embedding-2",
)
MOST_EMBEDDED = 100  # in one call
NORMALISED = "gemini-embedding-2"

blueprint = Blueprint(FAMILY, url_prefix="/gemini")


# models/{model}:{method} ------------------------------------------------------------------------


@route(blueprint, "/<version>/models/<name>", "POST")
async def model_call(request: Request, version: str, name: str) -> HTTPResponse | None:
    """POST models/{model}:{method}."""
    model, colon, method = name.rpartition(":")
    fault, answered = await check_request(request, model, version)
    if answered:
        return answered
    if not colon or method not in METHODS:
        return page_not_found(request)
    body = read_json(request)
    if isinstance(body, Problem):
        return bad_request(request, body)
    return await METHODS[method](request, fault, model, version, body)


async def generate(
    request: Request, fault: Fault, model: str, version: str, body: Any
) -> HTTPResponse | None:
    """generateContent: one JSON object."""
    asked = read_request(body, model, version)
    if isinstance(asked, Problem):
        return bad_request(request, asked)
    if fault.replay:
        return await replay(request, fault, prefer_stream=False)
    return await answer(request, fault, Answer(asked, fault).whole())


async def stream(
    request: Request, fault: Fault, model: str, version: str, body: Any
) -> HTTPResponse | None:
    """streamGenerateContent: SSE with alt=sse, a JSON array without."""
    asked = read_request(body, model, version)
    if isinstance(asked, Problem):
        return bad_request(request, asked)
    if fault.replay:
        return await replay(request, fault, prefer_stream=True)
    made = Answer(asked, fault)
    if in_array(request):
        fault.comments = False  # there are none in JSON
        return await send_stream(request, fault, made.array(), TYPE)
    return await send_stream(request, fault, made.events(), SSE)


async def replay(request: Request, fault: Fault, prefer_stream: bool) -> HTTPResponse | None:
    """Sends the recorded answer that the fault names."""

    def missing(message: str) -> HTTPResponse:
        return refused(request, error_object(404, message))

    return await send_recording(
        request, fault, FAMILY, dialect(request), missing, prefer_stream=prefer_stream
    )


async def send_stream(
    request: Request, fault: Fault, events: Iterator[bytes], content_type: str
) -> HTTPResponse | None:
    """Streams an answer with the headers of its content type."""
    headers, worded = common_headers(), dialect(request)
    if content_type == SSE:
        headers.append(("content-disposition", "attachment"))
    elif fault.error_event == 0:  # the array has not been opened yet
        broken = b"[" + worded.error_body + b"\n]"
        worded = msgspec.structs.replace(worded, error_event=broken)
    return await send_events(
        request, fault, events, worded, headers=headers, content_type=content_type
    )


async def count(
    request: Request, fault: Fault, model: str, version: str, body: Any
) -> HTTPResponse | None:
    """countTokens."""
    inner = camel(body) if isinstance(body, dict) else {}
    inner = inner.get("generateContentRequest") or inner
    bare = {name: value for name, value in inner.items() if name != "model"}
    asked = read_request(bare, model, version)
    if isinstance(asked, Problem):
        return bad_request(request, asked)
    tokens = Answer(asked, fault).prompt_tokens
    details = [{"modality": "TEXT", "tokenCount": tokens}]
    return await answer(request, fault, {"totalTokens": tokens, "promptTokensDetails": details})


async def embed_one(
    request: Request, fault: Fault, model: str, version: str, body: Any
) -> HTTPResponse | None:
    """embedContent."""
    vector = embedding(body, model)
    if isinstance(vector, Problem):
        return bad_request(request, vector)
    return await answer(request, fault, {"embedding": vector})


async def embed_many(
    request: Request, fault: Fault, model: str, version: str, body: Any
) -> HTTPResponse | None:
    """batchEmbedContents."""
    asked = body.get("requests") if isinstance(body, dict) else None
    if not isinstance(asked, list) or not asked:
        return bad_request(
            request, Problem("* BatchEmbedContentsRequest.requests: is not specified\n")
        )
    if len(asked) > MOST_EMBEDDED:
        said = f"at most {MOST_EMBEDDED} requests can be in one batch"
        return bad_request(request, Problem(f"* BatchEmbedContentsRequest.requests: {said}\n"))
    vectors = []
    for at, one in enumerate(asked):
        named = one.get("model") if isinstance(one, dict) else None
        if named != f"models/{model}":
            said = f"* BatchEmbedContentsRequest.requests[{at}].model: model does not match\n"
            return bad_request(request, Problem(said))
        vector = embedding(one, model)
        if isinstance(vector, Problem):
            return bad_request(request, vector)
        vectors.append(vector)
    told: JSON = {"embeddings": vectors}
    if model.startswith(NORMALISED):  # the older ones count nothing
        told["usageMetadata"] = {"promptTokenCount": 4 * len(vectors), "promptTokenDetails": []}
    return await answer(request, fault, told)


def embedding(body: Any, model: str) -> JSON | Problem:
    """The vector for one EmbedContentRequest, or what is wrong with it.

    A shortened vector of an older model is not of length 1.
    """
    given = camel(body) if isinstance(body, dict) else {}
    content = given.get("content")
    parts = content.get("parts") if isinstance(content, dict) else None
    if not parts:
        return Problem("* EmbedContentRequest.content: contents is not specified\n")
    text = "".join(str(part.get("text") or "") for part in parts)
    config = given.get("embedContentConfig") or {}
    size = given.get("outputDimensionality") or config.get("outputDimensionality") or 3072
    is_short = int(size) < 3072 and not model.startswith(NORMALISED)
    length = 0.58 if is_short else 1.0
    return {"values": [round(value * length, 9) for value in embed(text, int(size))]}


METHODS: dict[str, Handler] = {
    "generateContent": generate,
    "streamGenerateContent": stream,
    "countTokens": count,
    "embedContent": embed_one,
    "batchEmbedContents": embed_many,
}


# models -----------------------------------------------------------------------------------------


def model_object(name: str) -> JSON:
    """Gemini's Model object."""
    embeds = "embedding" in name
    methods = ["embedContent", "countTokens"] if embeds else ["generateContent", "countTokens"]
    return {
        "name": f"models/{name}",
        "version": "001",
        "displayName": name,
        "description": f"Simulated {name}",
        "inputTokenLimit": 1048576,
        "outputTokenLimit": 65536,
        "supportedGenerationMethods": methods,
        "temperature": 1,
        "topP": 0.95,
        "topK": 64,
        "maxTemperature": 2,
        **({"thinking": True} if generation_of(name) >= (2, 5) and not embeds else {}),
    }


@route(blueprint, "/<version>/models", "GET")
async def models(request: Request, version: str) -> HTTPResponse | None:
    """The list of models, paged."""
    fault, answered = await check_request(request, version=version)
    if answered:
        return answered
    size, token = request.args.get("pageSize", "50"), request.args.get("pageToken", "0")
    if not size.isdecimal() or not token.isdecimal():
        return bad_request(request, Problem("Invalid page size or page token."))
    start, end = int(token), int(token) + min(int(size) or 50, 1000)
    listed: JSON = {"models": [model_object(name) for name in MODELS[start:end]]}
    if end < len(MODELS):
        listed["nextPageToken"] = str(end)
    return await answer(request, fault, listed)


@route(blueprint, "/<version>/models/<name>", "GET")
async def one_model(request: Request, version: str, name: str) -> HTTPResponse | None:
    """One model."""
    fault, answered = await check_request(request, name, version)
    if not answered and not fault.name and name not in MODELS:
        answered = refused(request, error_for(Refusal(404, "not_found"), name, version))
    return answered or await answer(request, fault, model_object(name))


# Google's own OpenAI layer ----------------------------------------------------------------------


@route(blueprint, "/<version>/openai/chat/completions", "POST")
async def openai_chat_completions(request: Request, version: str) -> HTTPResponse | None:
    """Chat completions of Google's OpenAI-compatible layer."""
    body = read_json(request)
    model = str(body.get("model") or "") if isinstance(body, dict) else ""
    fault, answered = await check_request(request, model, version)
    if answered:
        return answered
    if isinstance(body, Problem):
        return bad_request(request, body)
    if problem := openai_chat.find_problem(body):
        return refused(request, error_object(400, problem.message))
    made = openai_chat.Answer(body, fault)
    if body.get("stream"):
        return await send_stream(request, fault, made.events(), SSE)
    return await send_body(request, fault, made.whole(), dialect(request), headers=common_headers())


@route(blueprint, "/<version>/openai/models", "GET")
async def openai_models(request: Request, version: str) -> HTTPResponse | None:
    """The models of Google's OpenAI-compatible layer."""
    fault, answered = await check_request(request, version=version)
    listed = [{"id": f"models/{m}", "object": "model", "owned_by": "google"} for m in MODELS]
    return answered or await answer(request, fault, {"object": "list", "data": listed})


@route(blueprint, "/<path:path>", *ANY)
async def anything_else(request: Request, path: str) -> HTTPResponse | None:
    """Answers every other path with Google's 404 page."""
    _, answered = await check_request(request)
    return answered or page_not_found(request)
