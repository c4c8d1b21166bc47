"""The OpenAI API's wire, under /openai: chat, responses, models, embeddings, files, audio.

Keys begin with `sk-`, `sess-` or `demo-`; one with "bad" or "expired" in it is refused.
Models named `missing-...` do not exist. ANY /openai/v1/_echo/... tells back exactly what arrived.
Headers are those of the real API, the private ones (organisation, cookies) included.
"""

import array
import gzip
import hashlib
import math
import secrets
from base64 import b64encode
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from sanic import Blueprint, HTTPResponse, Request

from app.simulator import delivery
from app.simulator.delivery import Dialect, send_body, send_events, with_headers
from app.simulator.faults import Fault, Refusal
from app.simulator.ledger import record_of
from app.simulator.openai_chat import Answer, Problem, find_problem
from app.simulator.openai_files import Malformed, Shelf, StoredFile, Upload, byte_range
from app.simulator.openai_responses import ResponseAnswer

FAMILY = "openai"
Handler = Callable[..., Coroutine[Any, Any, HTTPResponse | None]]

KEY_PREFIXES = ("sk-", "sess-", "demo-")  # demo-: the keys of etc/demo.yaml
READS = ("GET", "HEAD")
ANY = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
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

blueprint = Blueprint(FAMILY, url_prefix="/openai")
shelf = Shelf()


def on(
    path: str, methods: tuple[str, ...], stream: bool = False, name: str | None = None
) -> Callable[[Handler], Handler]:
    """Sanic's `route` for several methods, typed."""

    def register(handler: Handler) -> Handler:
        blueprint.add_route(handler, path, methods=methods, stream=stream, name=name)
        return handler

    return register


# how it fails -----------------------------------------------------------------------------------


def error_body(message: str, type: str, param: str | None, code: str | None) -> bytes:
    error = {"message": message, "type": type, "param": param, "code": code}
    return msgspec.json.format(msgspec.json.encode({"error": error}), indent=2)


def refuse(
    request: Request, status: int, kind: str, retry_after: str | None = None, model: str = ""
) -> HTTPResponse:
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
    body = error_body(problem.message, "invalid_request_error", problem.param, problem.code)
    response = HTTPResponse(body, 400, content_type="application/json")
    return with_headers(response, common_headers())


def not_found(message: str) -> HTTPResponse:
    body = error_body(message, "invalid_request_error", "id", None)
    response = HTTPResponse(body, 404, content_type="application/json")
    return with_headers(response, common_headers(limits=False))


def dialect(request: Request, model: str = "") -> Dialect:
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


async def enter(request: Request, model: str = "") -> tuple[Fault, HTTPResponse | None]:
    """The fault for this request, and the answer when it gets no further than the door."""
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
    body = msgspec.json.encode(value)
    if pretty:
        body = msgspec.json.format(body, indent=2)
    return await send_body(request, fault, body, dialect(request), headers=common_headers())


def read_json(request: Request) -> tuple[Any, HTTPResponse | None]:
    try:
        return msgspec.json.decode(request.body), None
    except (msgspec.DecodeError, UnicodeDecodeError):
        said = (
            "We could not parse the JSON body of your request. (HINT: This likely means you aren't"
            " using your HTTP library correctly. The OpenAI API expects a JSON payload, but what"
            " was sent was not valid JSON.)"
        )
        return None, bad_request(Problem(said, None, None))


def model_in(body: Any) -> str:
    model = body.get("model") if isinstance(body, dict) else None
    return model if isinstance(model, str) else ""


# chat -------------------------------------------------------------------------------------------


@blueprint.post("/v1/chat/completions")
async def chat_completions(request: Request) -> HTTPResponse | None:
    body, unreadable = read_json(request)
    model = model_in(body)
    fault, refused = await enter(request, model)
    if refused or unreadable:
        return refused or unreadable
    if problem := find_problem(body):
        return bad_request(problem)
    if fault.replay:
        return await replay(request, fault, bool(body.get("stream")))
    made = Answer(body, fault)
    if body.get("stream"):
        headers = common_headers()
        return await send_events(request, fault, made.events(), dialect(request), headers=headers)
    headers = common_headers()
    return await send_body(request, fault, made.whole(), dialect(request), headers=headers)


async def replay(request: Request, fault: Fault, streams: bool) -> HTTPResponse | None:
    found = request.app.ctx.recordings.find(FAMILY, fault.replay, streams)
    if found is None:
        names = ", ".join(request.app.ctx.recordings.names(FAMILY)) or "none"
        return not_found(f"There is no recording {fault.replay!r}. There are: {names}.")
    if found.is_stream:
        return await send_events(
            request,
            fault,
            found.events(),
            dialect(request),
            headers=found.headers,
            status=found.status,
            content_type=found.content_type,
        )
    return await send_body(
        request,
        fault,
        found.body,
        dialect(request),
        headers=found.headers,
        status=found.status,
        content_type=found.content_type,
    )


@blueprint.post("/v1/responses")
async def responses(request: Request) -> HTTPResponse | None:
    body, unreadable = read_json(request)
    fault, refused = await enter(request, model_in(body))
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
    return {"id": name, "object": "model", "created": 1715367049, "owned_by": "system"}


@on("/v1/models", READS)
async def models(request: Request) -> HTTPResponse | None:
    fault, refused = await enter(request)
    listed = [model_object(name) for name in MODELS]
    return refused or await answer(request, fault, {"object": "list", "data": listed})


@on("/v1/models/<model:path>", READS)
async def one_model(request: Request, model: str) -> HTTPResponse | None:
    fault, refused = await enter(request, model)
    if not refused and not fault.name and model not in MODELS and not model.startswith("ft:"):
        refused = refuse(request, 404, "not_found", model=model)
    return refused or await answer(request, fault, model_object(model))


@blueprint.delete("/v1/models/<model:path>")
async def delete_model(request: Request, model: str) -> HTTPResponse | None:
    fault, refused = await enter(request, model)
    deleted = {"id": model, "object": "model", "deleted": True}
    return refused or await answer(request, fault, deleted)


@blueprint.post("/v1/embeddings")
async def embeddings(request: Request) -> HTTPResponse | None:
    body, unreadable = read_json(request)
    model = model_in(body)
    fault, refused = await enter(request, model)
    if refused or unreadable:
        return refused or unreadable
    asked = body.get("input") if isinstance(body, dict) else None
    if not model or not asked:
        missing = "input" if model else "model"
        return bad_request(Problem(f"Missing required parameter: '{missing}'.", missing, None))
    single = isinstance(asked, str) or isinstance(asked[0], int)
    inputs = [asked] if single else asked
    size = body.get("dimensions") or DIMENSIONS.get(model, 1536)
    form = body.get("encoding_format") or "float"
    data = []
    for index, text in enumerate(inputs):
        vector = embed(text, size)
        value = vector.tolist() if form == "float" else b64encode(vector.tobytes()).decode()
        data.append({"object": "embedding", "index": index, "embedding": value})
    count = sum(len(text.split()) if isinstance(text, str) else len(text) for text in inputs)
    usage = {"prompt_tokens": count, "total_tokens": count}
    listed = {"object": "list", "data": data, "model": model, "usage": usage}
    return await answer(request, fault, listed, pretty=False)


def embed(text: Any, size: int) -> "array.array[float]":
    """A unit vector of float32 that depends on nothing but the input."""
    seed = hashlib.shake_256(msgspec.json.encode(text)).digest(size * 2)
    values = [float(value) + 0.5 for value in array.array("h", seed)]
    length = math.sqrt(sum(value * value for value in values))
    return array.array("f", [value / length for value in values])


# files and audio --------------------------------------------------------------------------------


@blueprint.post("/v1/files", stream=True)
async def upload_file(request: Request) -> HTTPResponse | None:
    fault, refused = await enter(request)
    upload, malformed = await receive(request)
    if refused or upload is None:
        return refused or malformed
    if upload.file is None or not upload.file.purpose:
        missing = "purpose" if upload.file else "file"
        return bad_request(Problem(f"Missing required parameter: '{missing}'.", missing, None))
    shelf.put(upload.file)
    return await answer(request, fault, upload.file.view())


@blueprint.post("/v1/audio/transcriptions", stream=True)
async def transcribe(request: Request) -> HTTPResponse | None:
    fault, refused = await enter(request)
    upload, malformed = await receive(request)
    if refused or upload is None:
        return refused or malformed
    if upload.file is None:
        return bad_request(Problem("Missing required parameter: 'file'.", "file", None))
    heard = f"You sent {upload.file.bytes} bytes with sha256 {upload.file.sha256}."
    upload.file.close()
    return await answer(request, fault, {"text": heard})


async def receive(request: Request) -> tuple[Upload | None, HTTPResponse | None]:
    """A multipart body as it arrives; always read to its end, also when it is no good."""
    record = record_of(request)
    wrong = ""
    upload: Upload | None = None
    try:
        upload = Upload(request.headers.get("content-type", ""))
    except Malformed as error:
        wrong = str(error)
    async for data in body_of(request):
        if upload and not wrong:
            try:
                upload.feed(data)
                record.body_bytes = upload.bytes
            except Malformed as error:
                wrong = str(error)
    if upload and not wrong:
        record.body_sha256 = upload.hash.hexdigest()
        try:
            upload.finish()
        except Malformed as error:
            wrong = str(error)
    if wrong:
        said = f"Could not parse multipart form: {wrong}."
        return None, bad_request(Problem(said, None, None))
    return upload, None


async def body_of(request: Request) -> Any:
    """The body of a route with stream=True, piece by piece."""
    while True:
        piece = await request.stream.read()  # type: ignore[union-attr]
        if piece is None:
            return
        yield piece


@on("/v1/files", READS)
async def list_files(request: Request) -> HTTPResponse | None:
    fault, refused = await enter(request)
    listed = {"object": "list", "data": [file.view() for file in shelf.all()], "has_more": False}
    return refused or await answer(request, fault, listed)


@on("/v1/files/<identity>", READS)
async def one_file(request: Request, identity: str) -> HTTPResponse | None:
    fault, refused = await enter(request)
    file = shelf.get(identity)
    if refused or file is None:
        return refused or not_found(f"No such File object: {identity}")
    return await answer(request, fault, file.view())


@blueprint.delete("/v1/files/<identity>")
async def delete_file(request: Request, identity: str) -> HTTPResponse | None:
    fault, refused = await enter(request)
    if refused or not shelf.remove(identity):
        return refused or not_found(f"No such File object: {identity}")
    return await answer(request, fault, {"id": identity, "object": "file", "deleted": True})


@on("/v1/files/<identity>/content", READS)
async def file_content(request: Request, identity: str) -> HTTPResponse | None:
    fault, refused = await enter(request)
    file = shelf.get(identity)
    if refused or file is None:
        return refused or not_found(f"No such File object: {identity}")
    headers = [*common_headers(), ("etag", file.etag), ("accept-ranges", "bytes")]
    if request.headers.get("if-none-match") == file.etag:
        return with_headers(HTTPResponse(None, 304), headers)
    headers.append(("content-disposition", f'attachment; filename="{file.filename}"'))
    return await send_part(request, fault, file, headers)


async def send_part(
    request: Request, fault: Fault, file: StoredFile, headers: list[tuple[str, str]]
) -> HTTPResponse | None:
    """The whole file, or the range that was asked for."""
    status, start, end = 200, 0, file.bytes
    try:
        wanted = byte_range(request.headers.get("range", ""), file.bytes)
    except ValueError:
        headers.append(("content-range", f"bytes */{file.bytes}"))
        return with_headers(HTTPResponse(b"", 416), headers)
    if wanted:
        status, (start, end) = 206, wanted
        headers.append(("content-range", f"bytes {start}-{end - 1}/{file.bytes}"))
    if end - start <= 64 * 1024 or request.method == "HEAD" or fault.breaks_body:
        headers.append(("content-type", "application/octet-stream"))
        response = HTTPResponse(file.read(start, end), status)
        if fault.breaks_body:
            body, kind = file.read(start, end), "application/octet-stream"
            return await send_body(
                request, fault, body, dialect(request), headers=headers[:-1], content_type=kind
            )
        return with_headers(response, headers)
    headers += [("content-type", "application/octet-stream"), ("content-length", str(end - start))]
    response = await request.respond(with_headers(HTTPResponse(None, status), headers))
    for at in range(start, end, 64 * 1024):
        piece = file.read(at, min(at + 64 * 1024, end))
        record_of(request).sent_bytes += len(piece)
        await response.send(piece, False)
    await response.eof()
    return None


@blueprint.post("/v1/audio/speech")
async def speech(request: Request) -> HTTPResponse | None:
    """Binary, chunked, no length: 16 KB per word, the same for the same text."""
    body, unreadable = read_json(request)
    fault, refused = await enter(request, model_in(body))
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
    """The route that answers 204."""
    _, refused = await enter(request)
    return refused or with_headers(HTTPResponse(None, 204), common_headers())


@on("/dashboard/<path:path>", ANY)
async def dashboard(request: Request, path: str) -> HTTPResponse | None:
    fault, refused = await enter(request)
    told = {"object": "dashboard", "path": f"/dashboard/{path}", "method": request.method}
    return refused or await answer(request, fault, told)


# echo -------------------------------------------------------------------------------------------


@on("/v1/_echo", ANY, stream=True, name="echo_root")
@on("/v1/_echo/<path:path>", ANY, stream=True)
async def echo(request: Request, path: str = "") -> HTTPResponse | None:
    """Tells what arrived. No key is needed, so that a missing one can be seen too.

    Query: status=N answers with N; hop=1 with hop-by-hop headers; gzip=1 compressed whatever the
    client accepts; location=... with that header.
    """
    fault = request.app.ctx.faults.pick(request)
    record = record_of(request)
    digest = hashlib.sha256()
    async for piece in body_of(request):
        digest.update(piece)
        record.body_bytes += len(piece)
    record.body_sha256 = digest.hexdigest()
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
        await delivery.shut(request, meaning="complete")
    if status in (204, 304):
        return with_headers(HTTPResponse(None, status), headers)
    if fault.breaks_body:
        return await send_body(request, fault, body, dialect(request), headers=headers[:-1])
    return with_headers(HTTPResponse(body, status), headers)
