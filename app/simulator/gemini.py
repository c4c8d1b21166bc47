"""The Gemini API's wire, under /gemini: generate, stream, count, embed, models, file uploads.

Keys begin with `AIza` or `demo-`, in x-goog-api-key or ?key=; as a bearer only under openai/, where
Google's own OpenAI layer is; `ya29.` tokens are bearers everywhere. A key with one of the words of
KEY_TROUBLES in it is refused the way Google words that. Models: `missing-...` do not exist,
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
    bad,
    common_headers,
    dialect,
    enter,
    error_object,
    in_array,
    no_such_path,
    read_json,
    refused,
    word,
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
)

blueprint = Blueprint(FAMILY, url_prefix="/gemini")


# models/{model}:{method} ------------------------------------------------------------------------


@route(blueprint, "/<version>/models/<name>", "POST")
async def model_call(request: Request, version: str, name: str) -> HTTPResponse | None:
    model, colon, method = name.rpartition(":")
    fault, answered = await enter(request, model, version)
    if answered:
        return answered
    if not colon or method not in METHODS:
        return no_such_path(request)
    body = read_json(request)
    if isinstance(body, Problem):
        return bad(request, body)
    return await METHODS[method](request, fault, model, version, body)


async def generate(
    request: Request, fault: Fault, model: str, version: str, body: Any
) -> HTTPResponse | None:
    asked = read_request(body, model, version)
    if isinstance(asked, Problem):
        return bad(request, asked)
    if fault.replay:
        return await replay(request, fault, prefer_stream=False)
    return await answer(request, fault, Answer(asked, fault).whole())


async def stream(
    request: Request, fault: Fault, model: str, version: str, body: Any
) -> HTTPResponse | None:
    asked = read_request(body, model, version)
    if isinstance(asked, Problem):
        return bad(request, asked)
    if fault.replay:
        return await replay(request, fault, prefer_stream=True)
    made = Answer(asked, fault)
    if in_array(request):
        fault.comments = False  # there are none in JSON
        return await tell(request, fault, made.array(), TYPE)
    return await tell(request, fault, made.events(), SSE)


async def replay(request: Request, fault: Fault, prefer_stream: bool) -> HTTPResponse | None:
    """The recorded answer that the fault names."""

    def missing(message: str) -> HTTPResponse:
        return refused(request, error_object(404, message))

    return await send_recording(
        request, fault, FAMILY, dialect(request), missing, prefer_stream=prefer_stream
    )


async def tell(
    request: Request, fault: Fault, events: Iterator[bytes], content_type: str
) -> HTTPResponse | None:
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
    inner = camel(body) if isinstance(body, dict) else {}
    inner = inner.get("generateContentRequest") or inner
    bare = {name: value for name, value in inner.items() if name != "model"}
    asked = read_request(bare, model, version)
    if isinstance(asked, Problem):
        return bad(request, asked)
    tokens = Answer(asked, fault).prompt_tokens
    details = [{"modality": "TEXT", "tokenCount": tokens}]
    return await answer(request, fault, {"totalTokens": tokens, "promptTokensDetails": details})


async def embed_one(
    request: Request, fault: Fault, model: str, version: str, body: Any
) -> HTTPResponse | None:
    vector = embedding(body)
    if isinstance(vector, Problem):
        return bad(request, vector)
    return await answer(request, fault, {"embedding": vector})


async def embed_many(
    request: Request, fault: Fault, model: str, version: str, body: Any
) -> HTTPResponse | None:
    asked = body.get("requests") if isinstance(body, dict) else None
    if not isinstance(asked, list) or not asked:
        return bad(request, Problem("* BatchEmbedContentsRequest.requests: is not specified\n"))
    vectors = []
    for at, one in enumerate(asked):
        named = one.get("model") if isinstance(one, dict) else None
        if named != f"models/{model}":
            said = f"* BatchEmbedContentsRequest.requests[{at}].model: model does not match\n"
            return bad(request, Problem(said))
        vector = embedding(one)
        if isinstance(vector, Problem):
            return bad(request, vector)
        vectors.append(vector)
    tokens = 4 * len(vectors)
    usage = {"promptTokenCount": tokens, "promptTokenDetails": []}
    return await answer(request, fault, {"embeddings": vectors, "usageMetadata": usage})


def embedding(body: Any) -> JSON | Problem:
    given = camel(body) if isinstance(body, dict) else {}
    content = given.get("content")
    parts = content.get("parts") if isinstance(content, dict) else None
    if not parts:
        return Problem("* EmbedContentRequest.content: contents is not specified\n")
    text = "".join(str(part.get("text") or "") for part in parts)
    config = given.get("embedContentConfig") or {}
    size = given.get("outputDimensionality") or config.get("outputDimensionality") or 3072
    return {"values": [round(value, 9) for value in embed(text, int(size))]}


METHODS: dict[str, Handler] = {
    "generateContent": generate,
    "streamGenerateContent": stream,
    "countTokens": count,
    "embedContent": embed_one,
    "batchEmbedContents": embed_many,
}


# models -----------------------------------------------------------------------------------------


def model_object(name: str) -> JSON:
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
    fault, answered = await enter(request, version=version)
    if answered:
        return answered
    size, token = request.args.get("pageSize", "50"), request.args.get("pageToken", "0")
    if not size.isdecimal() or not token.isdecimal():
        return bad(request, Problem("Invalid page size or page token."))
    start, end = int(token), int(token) + min(int(size) or 50, 1000)
    listed: JSON = {"models": [model_object(name) for name in MODELS[start:end]]}
    if end < len(MODELS):
        listed["nextPageToken"] = str(end)
    return await answer(request, fault, listed)


@route(blueprint, "/<version>/models/<name>", "GET")
async def one_model(request: Request, version: str, name: str) -> HTTPResponse | None:
    fault, answered = await enter(request, name, version)
    if not answered and not fault.name and name not in MODELS:
        answered = refused(request, word(Refusal(404, "not_found"), name, version))
    return answered or await answer(request, fault, model_object(name))


# Google's own OpenAI layer ----------------------------------------------------------------------


@route(blueprint, "/<version>/openai/chat/completions", "POST")
async def openai_chat_completions(request: Request, version: str) -> HTTPResponse | None:
    body = read_json(request)
    model = str(body.get("model") or "") if isinstance(body, dict) else ""
    fault, answered = await enter(request, model, version)
    if answered:
        return answered
    if isinstance(body, Problem):
        return bad(request, body)
    if problem := openai_chat.find_problem(body):
        return refused(request, error_object(400, problem.message))
    made = openai_chat.Answer(body, fault)
    if body.get("stream"):
        return await tell(request, fault, made.events(), SSE)
    return await send_body(request, fault, made.whole(), dialect(request), headers=common_headers())


@route(blueprint, "/<version>/openai/models", "GET")
async def openai_models(request: Request, version: str) -> HTTPResponse | None:
    fault, answered = await enter(request, version=version)
    listed = [{"id": f"models/{m}", "object": "model", "owned_by": "google"} for m in MODELS]
    return answered or await answer(request, fault, {"object": "list", "data": listed})


@route(blueprint, "/<path:path>", *ANY)
async def anything_else(request: Request, path: str) -> HTTPResponse | None:
    _, answered = await enter(request)
    return answered or no_such_path(request)
