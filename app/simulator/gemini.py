"""The Gemini API's wire, under /gemini: generate, stream, count, embed, models, file uploads.

Keys begin with `AIza` or `demo-`, in x-goog-api-key or ?key=; as a bearer only under openai/, where
Google's own OpenAI layer is; `ya29.` tokens are bearers everywhere. A key with one of the words of
KEY_TROUBLES in it is refused the way Google words that. Models: `missing-...` do not exist,
`blocked-...` find the prompt blocked, `malformed-...` make a call that cannot be used.

As the real one it says 400 for a bad key, so `sim-401` comes as 400 API_KEY_INVALID; the seconds to
wait stand in the body; an error inside a stream is bare JSON between two events.
"""

import base64
import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import msgspec
from sanic import Blueprint, HTTPResponse, Request

from app.simulator import delivery, openai_chat
from app.simulator.delivery import Dialect, send_body, send_events, with_headers
from app.simulator.faults import Fault, Refusal
from app.simulator.gemini_answer import (
    JSON,
    Answer,
    Problem,
    camel,
    generation_of,
    pretty,
    read_turn,
)
from app.simulator.ledger import record_of
from app.simulator.openai import embed

FAMILY = "gemini"
Handler = Callable[..., Coroutine[Any, Any, HTTPResponse | None]]

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
KEY_TROUBLES = {
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
MODELS = (
    "gemini-2.5-flash",
    "gemini-2.5-pro",
    "gemini-2.0-flash",
    "gemini-3-flash-preview",
    "gemini-3-pro-preview",
    "gemma-3-27b-it",
    "gemini-embedding-001",
)
ANY = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
KEPT_FILES = 64
CHUNK_BYTES = 8 * 1024 * 1024

blueprint = Blueprint(FAMILY, url_prefix="/gemini")


def on(path: str, *methods: str, stream: bool = False) -> Callable[[Handler], Handler]:
    """Sanic's `route`, typed."""

    def register(handler: Handler) -> Handler:
        blueprint.add_route(handler, path, methods=methods, stream=stream)
        return handler

    return register


# how it fails -----------------------------------------------------------------------------------


def error_object(
    code: int, message: str, status: str = "", details: list[JSON] | None = None
) -> JSON:
    error: JSON = {"code": code, "message": message}
    error["status"] = status or STATUSES.get(code, "UNKNOWN")
    if details:
        error["details"] = details
    return {"error": error}


def detail(kind: str, **more: Any) -> JSON:
    return {"@type": f"type.googleapis.com/google.rpc.{kind}", **more}


def refused(request: Request, error: JSON) -> HTTPResponse:
    """An error as a response; a stream of the array form has it inside an array."""
    body = pretty(error)
    if in_array(request):
        body = b"[" + body + b"\n]"
    response = HTTPResponse(body, error["error"]["code"], content_type=TYPE)
    return with_headers(response, common_headers())


def in_array(request: Request) -> bool:
    return ":streamGenerateContent" in request.path and request.args.get("alt") != "sse"


def invalid_key(message: str = "API key not valid. Please pass a valid API key.") -> JSON:
    info = detail(
        "ErrorInfo",
        reason="API_KEY_INVALID",
        domain="googleapis.com",
        metadata={"service": SERVICE},
    )
    told = detail("LocalizedMessage", locale="en-US", message=message)
    return error_object(400, message, details=[info, told])


def word(refusal: Refusal, model: str, version: str) -> JSON:
    """A refusal in Google's words."""
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
    broken = pretty(error_object(503, MESSAGES["overloaded"]))
    array = in_array(request)

    def worded(refusal: Refusal) -> HTTPResponse:
        return refused(request, word(refusal, model, version))

    return Dialect(
        refuse=worded,
        # The real one forgets the framing here: bare lines, no `data:`.
        error_event=b"\n,\r\n" + broken + b"\n]" if array else broken + b"\n",
        error_body=broken,
        bad_event=b'\n,\r\n{"candidates": [}' if array else b'data: {"candidates": [{"con\r\n\r\n',
    )


def common_headers() -> list[tuple[str, str]]:
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


async def enter(
    request: Request, model: str = "", version: str = "v1beta"
) -> tuple[Fault, HTTPResponse | None]:
    """The fault for this request, and the answer when it gets no further than the door."""
    fault = request.app.ctx.faults.pick(request, model)
    if not fault.name and (wrong := key_trouble(request)):
        return fault, refused(request, wrong)
    if answered := await delivery.before_answer(request, fault, dialect(request, model, version)):
        return fault, answered
    if version not in ("v1", "v1beta", "v1alpha"):
        return fault, no_such_path(request)
    if model.startswith("missing-"):
        missing = Refusal(404, "not_found")
        return fault, refused(request, word(missing, model, version))
    return fault, None


def key_trouble(request: Request) -> JSON | None:
    """What is wrong with the credential, None when it opens the door."""
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
    for trouble, (code, status, message) in KEY_TROUBLES.items():
        if trouble in key:
            if trouble == "expired":
                return invalid_key(message)
            return error_object(code, message, status)
    return None


def no_such_path(request: Request) -> HTTPResponse:
    """A path Google does not know is answered with a page."""
    page = (
        f"<!DOCTYPE html><title>Error 404 (Not Found)!!1</title><p>{len(request.path)} characters"
    )
    response = HTTPResponse(page, 404, content_type="text/html; charset=UTF-8")
    return with_headers(response, common_headers())


def bad(request: Request, problem: Problem) -> HTTPResponse:
    details = None
    if problem.field is not None:
        violation = {"field": problem.field, "description": problem.message}
        details = [detail("BadRequest", fieldViolations=[violation])]
    return refused(request, error_object(400, problem.message, details=details))


async def answer(request: Request, fault: Fault, value: Any) -> HTTPResponse | None:
    return await send_body(
        request,
        fault,
        pretty(value),
        dialect(request),
        headers=common_headers(),
        content_type=TYPE,
    )


def read_json(request: Request) -> Any:
    """The body, or the Problem it is."""
    try:
        return msgspec.json.decode(request.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Problem(f"Invalid JSON payload received. {error}")


# models/{model}:{method} ------------------------------------------------------------------------


@on("/<version>/models/<name>", "POST")
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
    turn = read_turn(body, model, version)
    if isinstance(turn, Problem):
        return bad(request, turn)
    if fault.replay:
        return await replay(request, fault, streams=False)
    return await answer(request, fault, Answer(turn, fault).whole())


async def stream(
    request: Request, fault: Fault, model: str, version: str, body: Any
) -> HTTPResponse | None:
    turn = read_turn(body, model, version)
    if isinstance(turn, Problem):
        return bad(request, turn)
    if fault.replay:
        return await replay(request, fault, streams=True)
    made = Answer(turn, fault)
    if in_array(request):
        fault.comments = False  # there are none in JSON
        return await tell(request, fault, made.array(), TYPE)
    return await tell(request, fault, made.events(), SSE)


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


async def replay(request: Request, fault: Fault, streams: bool) -> HTTPResponse | None:
    kept = request.app.ctx.recordings
    found = kept.find(FAMILY, fault.replay, streams)
    if found is None:
        names = ", ".join(kept.names(FAMILY)) or "none"
        said = f"There is no recording {fault.replay!r}. There are: {names}."
        return refused(request, error_object(404, said))
    send = send_events if found.is_stream else send_body
    return await send(
        request,
        fault,
        found.events() if found.is_stream else found.body,
        dialect(request),
        headers=found.headers,
        status=found.status,
        content_type=found.content_type,
    )


async def count(
    request: Request, fault: Fault, model: str, version: str, body: Any
) -> HTTPResponse | None:
    inner = camel(body) if isinstance(body, dict) else {}
    inner = inner.get("generateContentRequest") or inner
    asked = {name: value for name, value in inner.items() if name != "model"}
    turn = read_turn(asked, model, version)
    if isinstance(turn, Problem):
        return bad(request, turn)
    tokens = Answer(turn, fault).prompt_tokens
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


@on("/<version>/models", "GET")
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


@on("/<version>/models/<name>", "GET")
async def one_model(request: Request, version: str, name: str) -> HTTPResponse | None:
    fault, answered = await enter(request, name, version)
    if not answered and not fault.name and name not in MODELS:
        answered = refused(request, word(Refusal(404, "not_found"), name, version))
    return answered or await answer(request, fault, model_object(name))


# files ------------------------------------------------------------------------------------------


class Upload:
    """A file on its way in, or all the way: only its size and hash are kept."""

    def __init__(self, version: str, said: JSON, mime_type: str, size: int | None) -> None:
        name = str(said.get("name") or "files/" + secrets.token_hex(6))
        self.name = name if name.startswith("files/") else f"files/{name}"
        self.display_name = str(said.get("displayName") or "")
        self.mime_type = mime_type or str(said.get("mimeType") or "application/octet-stream")
        self.version = version
        self.promised = size
        self.size = 0
        self.hash = hashlib.sha256()
        self.created = time.time()

    def view(self, origin: str) -> JSON:
        def stamp(at: float) -> str:
            return time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(at))

        # The hash is the base64 of its hex digits, as Google has it.
        digest = base64.b64encode(self.hash.hexdigest().encode()).decode()
        return {
            "name": self.name,
            **({"displayName": self.display_name} if self.display_name else {}),
            "mimeType": self.mime_type,
            "sizeBytes": str(self.size),
            "createTime": stamp(self.created),
            "updateTime": stamp(self.created),
            "expirationTime": stamp(self.created + 48 * 3600),
            "sha256Hash": digest,
            "uri": f"{origin}/{self.version}/{self.name}",
            "state": "ACTIVE",
            "source": "UPLOADED",
        }


begun: OrderedDict[str, Upload] = OrderedDict()  # by upload id
stored: OrderedDict[str, Upload] = OrderedDict()  # by name


def keep(shelf: OrderedDict[str, Upload], name: str, upload: Upload) -> None:
    shelf[name] = upload
    while len(shelf) > KEPT_FILES:
        shelf.popitem(last=False)


def origin(request: Request) -> str:
    return f"http://{request.headers.get('host', '127.0.0.1')}/gemini"


@on("/upload/<version>/files", "POST", "PUT", stream=True)
async def upload_file(request: Request, version: str) -> HTTPResponse | None:
    """The resumable protocol: start gives an address, the bytes go there in one piece or more."""
    identity = request.args.get("upload_id")
    if identity is None:
        return await begin_upload(request, version)
    # The address itself is the permission: no key comes with the bytes.
    fault = request.app.ctx.faults.pick(request)
    body = [piece async for piece in pieces(request)]
    if answered := await delivery.before_answer(request, fault, dialect(request)):
        return answered
    upload = begun.get(identity)
    if upload is None:
        return refused(request, error_object(404, "Upload has already been terminated."))
    command = request.headers.get("x-goog-upload-command", "").replace(" ", "")
    size = sum(map(len, body))
    if command == "query":
        return upload_reply({}, "active", [("x-goog-upload-size-received", str(upload.size))])
    offset = request.headers.get("x-goog-upload-offset", "0")
    if command not in ("upload", "upload,finalize", "finalize") or offset != str(upload.size):
        said = f"Bad upload command {command!r} at offset {offset}; {upload.size} bytes are here."
        return refused(request, error_object(400, said))
    for piece in body:
        upload.hash.update(piece)
    upload.size += size
    if "finalize" not in command:
        return upload_reply({}, "active", [("x-goog-upload-size-received", str(upload.size))])
    del begun[identity]
    if upload.promised not in (None, upload.size):
        said = f"{upload.promised} bytes were promised, {upload.size} came."
        return refused(request, error_object(400, said))
    keep(stored, upload.name, upload)
    return upload_reply({"file": upload.view(origin(request))}, "final", [])


async def begin_upload(request: Request, version: str) -> HTTPResponse | None:
    _, answered = await enter(request, version=version)
    raw = b"".join([piece async for piece in pieces(request)])
    if answered:
        return answered
    headers = request.headers
    if headers.get("x-goog-upload-command") != "start" or (
        headers.get("x-goog-upload-protocol") != "resumable"
    ):
        return bad(request, Problem("Only the resumable upload protocol is simulated."))
    try:
        given = camel(msgspec.json.decode(raw)) if raw.strip() else {}
    except msgspec.DecodeError as error:
        return bad(request, Problem(f"Invalid JSON payload received. {error}"))
    size = headers.get("x-goog-upload-header-content-length", "")
    upload = Upload(
        version,
        given.get("file") or {},
        headers.get("x-goog-upload-header-content-type", ""),
        int(size) if size.isdecimal() else None,
    )
    identity = secrets.token_urlsafe(24)
    keep(begun, identity, upload)
    query = f"upload_id={identity}&upload_protocol=resumable"
    where = f"{origin(request)}/upload/{version}/files?{query}"
    more = [
        ("x-goog-upload-url", where),
        ("x-goog-upload-control-url", where),
        ("x-goog-upload-chunk-granularity", str(CHUNK_BYTES)),
    ]
    return upload_reply(None, "active", more)


def upload_reply(value: JSON | None, status: str, more: list[tuple[str, str]]) -> HTTPResponse:
    body = b"" if value is None else pretty(value)
    headers = [*common_headers(), ("x-goog-upload-status", status), *more]
    return with_headers(HTTPResponse(body, 200, content_type=TYPE), headers)


async def pieces(request: Request) -> Any:
    """The body of a route with stream=True, hashed into the record on its way."""
    record, digest = record_of(request), hashlib.sha256()
    while (piece := await request.stream.read()) is not None:  # type: ignore[union-attr]
        digest.update(piece)
        record.body_bytes += len(piece)
        yield piece
    record.body_sha256 = digest.hexdigest()


@on("/<version>/files", "GET")
async def list_files(request: Request, version: str) -> HTTPResponse | None:
    fault, answered = await enter(request, version=version)
    files = [upload.view(origin(request)) for upload in reversed(stored.values())]
    return answered or await answer(request, fault, {"files": files} if files else {})


@on("/<version>/files/<name>", "GET", "DELETE")
async def one_file(request: Request, version: str, name: str) -> HTTPResponse | None:
    fault, answered = await enter(request, version=version)
    if answered:
        return answered
    upload = stored.get(f"files/{name}")
    if upload is None:
        said = f"You do not have permission to access the File {name} or it may not exist."
        return refused(request, error_object(403, said))
    if request.method == "DELETE":
        del stored[upload.name]
        return await answer(request, fault, {})
    return await answer(request, fault, upload.view(origin(request)))


# Google's own OpenAI layer ----------------------------------------------------------------------


@on("/<version>/openai/chat/completions", "POST")
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


@on("/<version>/openai/models", "GET")
async def openai_models(request: Request, version: str) -> HTTPResponse | None:
    fault, answered = await enter(request, version=version)
    listed = [{"id": f"models/{m}", "object": "model", "owned_by": "google"} for m in MODELS]
    return answered or await answer(request, fault, {"object": "list", "data": listed})


@on("/<path:path>", *ANY)
async def anything_else(request: Request, path: str) -> HTTPResponse | None:
    _, answered = await enter(request)
    return answered or no_such_path(request)
