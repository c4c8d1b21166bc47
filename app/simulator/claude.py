"""Anthropic's API on its own wire, under /claude: messages, count_tokens, models, batches, files.

Keys: `sk-ant-api...` or `demo-...` in x-api-key or as bearer (so the SDKs since October 2026),
`sk-ant-oat...` as bearer with its beta; one with "bad" or "expired" in it is refused.
`anthropic-version` is required; files need their beta under 2023-06-01. Models named `missing-...`
do not exist. What the real API refuses in a request is refused here (claude_rules.py).
"""

import secrets
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sanic import Blueprint, HTTPResponse, Request

from app.simulator import delivery
from app.simulator.claude_messages import Message, count_tokens, token
from app.simulator.claude_rules import VERSIONS, Problem, refusal_of
from app.simulator.delivery import Dialect, send_body, send_events, with_headers
from app.simulator.faults import Fault, Refusal
from app.simulator.ledger import record_of
from app.simulator.openai_files import Malformed, Shelf, StoredFile, Upload

FAMILY = "claude"
Handler = Callable[..., Coroutine[Any, Any, HTTPResponse | None]]
JSON = dict[str, Any]

ORGANIZATION = "00000000-aaaa-4000-8000-000000000001"
OAUTH_BETA = "oauth-2025-04-20"
FILES_BETA = "files-api-2025-04-14"
KEY_PREFIXES = ("sk-ant-api", "demo-")
KEPT_BATCHES = 32
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

blueprint = Blueprint(FAMILY, url_prefix="/claude")
shelf = Shelf()
batches: OrderedDict[str, tuple[JSON, list[JSON]]] = OrderedDict()


def on(path: str, *methods: str, stream: bool = False) -> Callable[[Handler], Handler]:
    """Sanic's `route`, typed."""

    def register(handler: Handler) -> Handler:
        blueprint.add_route(handler, path, methods=methods, stream=stream)
        return handler

    return register


# how it fails -----------------------------------------------------------------------------------


def common_headers(*, limits: bool = True, spent: bool = False) -> list[tuple[str, str]]:
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
    return {
        "type": "error",
        "error": {"details": None, "type": kind, "message": message},
        "request_id": token("req_"),
    }


def say_no(
    status: int, kind: str, message: str, headers: list[tuple[str, str]] | None = None
) -> HTTPResponse:
    body = msgspec.json.encode(error_object(kind, message))
    headers = headers if headers is not None else common_headers(limits=False)
    if status in (400, 401, 403, 404, 413):
        headers.append(("x-should-retry", "false"))
    return with_headers(HTTPResponse(body, status, content_type="application/json"), headers)


def refuse(refusal: Refusal, model: str) -> HTTPResponse:
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
    return say_no(status, kind, message.replace("%s", model), headers)


def bad_request(problem: Problem | str) -> HTTPResponse:
    message = problem if isinstance(problem, str) else problem.message
    return say_no(400, "invalid_request_error", message, common_headers())


def not_found(message: str) -> HTTPResponse:
    return say_no(404, "not_found_error", message)


def dialect(model: str = "") -> Dialect:
    body = msgspec.json.encode(error_object(*WORDS["overloaded"]))
    return Dialect(
        refuse=lambda refusal: refuse(refusal, model),
        error_event=b"event: error\ndata: " + body + b"\n\n",
        error_body=body,
        bad_event=b'event: content_block_delta\ndata: {"type":"content_block_delta","ind\n\n',
    )


async def enter(request: Request, model: str = "") -> tuple[Fault, HTTPResponse | None]:
    """The fault for this request, and the answer when it gets no further than the door."""
    fault = request.app.ctx.faults.pick(request, model)
    if not fault.name and (stopped := _at_the_door(request)):
        return fault, stopped
    if refused := await delivery.before_answer(request, fault, dialect(model)):
        return fault, refused
    if model.startswith("missing-"):
        return fault, not_found(f"model: {model}")
    return fault, None


def _at_the_door(request: Request) -> HTTPResponse | None:
    key, headers = record_of(request).key, request.headers
    is_known = key.startswith(KEY_PREFIXES)
    if key.startswith("sk-ant-oat"):
        betas = ",".join(headers.getall("anthropic-beta", []))
        is_known = OAUTH_BETA in betas and not headers.get("x-api-key")
    if not key:
        return say_no(401, "authentication_error", "x-api-key header is required")
    if not is_known or "bad" in key or "expired" in key:
        return say_no(401, *WORDS["auth"])
    version = headers.get("anthropic-version")
    if version is None:
        return bad_request("anthropic-version: header is required")
    if version not in VERSIONS:
        return bad_request(f'anthropic-version: "{version}" is not a valid version')
    return None


async def answer(request: Request, fault: Fault, value: Any) -> HTTPResponse | None:
    body = msgspec.json.encode(value)
    return await send_body(request, fault, body, dialect(), headers=common_headers())


def version_of(request: Request) -> str:
    return request.headers.get("anthropic-version", "")


def read_json(request: Request) -> tuple[Any, HTTPResponse | None]:
    try:
        return msgspec.json.decode(request.body), None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return None, bad_request(f"The request body is not valid JSON: {error}")


def model_in(body: Any) -> str:
    model = body.get("model") if isinstance(body, dict) else None
    return model if isinstance(model, str) else ""


# messages ---------------------------------------------------------------------------------------


@on("/v1/messages", "POST")
async def messages(request: Request) -> HTTPResponse | None:
    body, unreadable = read_json(request)
    model = model_in(body)
    fault, refused = await enter(request, model)
    if refused or unreadable:
        return refused or unreadable
    if problem := refusal_of(body, version=version_of(request)):
        return bad_request(problem)
    streams = body.get("stream") is True
    if fault.replay:
        return await replay(request, fault, streams)
    made = Message(body, fault)
    if streams:
        return await send_events(
            request, fault, made.events(), dialect(model), headers=common_headers()
        )
    return await answer(request, fault, made.whole())


async def replay(request: Request, fault: Fault, streams: bool) -> HTTPResponse | None:
    found = request.app.ctx.recordings.find(FAMILY, fault.replay, streams)
    if found is None:
        names = ", ".join(request.app.ctx.recordings.names(FAMILY)) or "none"
        return not_found(f"There is no recording {fault.replay!r}. There are: {names}.")
    common: JSON = {
        "headers": found.headers,
        "status": found.status,
        "content_type": found.content_type,
    }
    if found.is_stream:
        return await send_events(request, fault, found.events(), dialect(), **common)
    return await send_body(request, fault, found.body, dialect(), **common)


@on("/v1/messages/count_tokens", "POST")
async def count(request: Request) -> HTTPResponse | None:
    body, unreadable = read_json(request)
    fault, refused = await enter(request, model_in(body))
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
    name, display_name, created_at, most = row
    return {
        "type": "model",
        "id": name,
        "display_name": display_name,
        "created_at": created_at,
        "max_input_tokens": 200_000,
        "max_tokens": most,
    }


@on("/v1/models", "GET")
async def models(request: Request) -> HTTPResponse | None:
    fault, refused = await enter(request)
    if refused:
        return refused
    return await answer_page(request, fault, [model_object(row) for row in MODELS])


@on("/v1/models/<model:path>", "GET")
async def one_model(request: Request, model: str) -> HTTPResponse | None:
    fault, refused = await enter(request)
    if refused:
        return refused
    found = next((row for row in MODELS if row[0].startswith(model)), None)
    return (
        await answer(request, fault, model_object(found)) if found else not_found(f"model: {model}")
    )


async def answer_page(request: Request, fault: Fault, rows: list[JSON]) -> HTTPResponse | None:
    """Anthropic's paging: `limit`, and a cursor from either side."""
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


# batches: done as soon as they are made ---------------------------------------------------------


@on("/v1/messages/batches", "POST")
async def make_batch(request: Request) -> HTTPResponse | None:
    body, unreadable = read_json(request)
    fault, refused = await enter(request)
    if refused or unreadable:
        return refused or unreadable
    asked = body.get("requests") if isinstance(body, dict) else None
    if not isinstance(asked, list) or not asked:
        return bad_request("requests: Field required")
    results: list[JSON] = []
    for at, each in enumerate(asked):
        if not isinstance(each, dict) or not each.get("custom_id"):
            return bad_request(f"requests.{at}.custom_id: Field required")
        if problem := refusal_of(each.get("params"), version=version_of(request)):
            error = error_object("invalid_request_error", problem.message)
            result: JSON = {"type": "errored", "error": error}
        else:
            result = {"type": "succeeded", "message": Message(each["params"], Fault()).whole()}
        results.append({"custom_id": each["custom_id"], "result": result})
    batch = batch_object(request, results)
    batches[batch["id"]] = (batch, results)
    while len(batches) > KEPT_BATCHES:
        batches.popitem(last=False)
    return await answer(request, fault, batch)


def batch_object(request: Request, results: list[JSON]) -> JSON:
    identity = token("msgbatch_")
    now = datetime.now(UTC)
    good = sum(result["result"]["type"] == "succeeded" for result in results)
    return {
        "id": identity,
        "type": "message_batch",
        "processing_status": "ended",
        "request_counts": {
            "processing": 0,
            "succeeded": good,
            "errored": len(results) - good,
            "canceled": 0,
            "expired": 0,
        },
        "created_at": now.isoformat(),
        "ended_at": now.isoformat(),
        "expires_at": (now + timedelta(days=1)).isoformat(),
        "archived_at": None,
        "cancel_initiated_at": None,
        # An absolute address of the upstream, as the real one gives it.
        "results_url": f"{request.scheme}://{request.host}/claude/v1/messages/batches/{identity}/results",
    }


@on("/v1/messages/batches", "GET")
async def list_batches(request: Request) -> HTTPResponse | None:
    fault, refused = await enter(request)
    if refused:
        return refused
    return await answer_page(request, fault, [batch for batch, _ in reversed(batches.values())])


@on("/v1/messages/batches/<identity>", "GET", "DELETE")
async def one_batch(request: Request, identity: str) -> HTTPResponse | None:
    fault, refused = await enter(request)
    if refused or identity not in batches:
        return refused or not_found(f"message_batch: {identity}")
    if request.method == "GET":
        return await answer(request, fault, batches[identity][0])
    del batches[identity]
    return await answer(request, fault, {"id": identity, "type": "message_batch_deleted"})


@on("/v1/messages/batches/<identity>/cancel", "POST")
async def cancel_batch(request: Request, identity: str) -> HTTPResponse | None:
    fault, refused = await enter(request)
    if refused or identity not in batches:
        return refused or not_found(f"message_batch: {identity}")
    return await answer(request, fault, batches[identity][0])


@on("/v1/messages/batches/<identity>/results", "GET")
async def batch_results(request: Request, identity: str) -> HTTPResponse | None:
    fault, refused = await enter(request)
    if refused or identity not in batches:
        return refused or not_found(f"message_batch: {identity}")
    lines = b"".join(msgspec.json.encode(result) + b"\n" for result in batches[identity][1])
    return await send_body(
        request,
        fault,
        lines,
        dialect(),
        headers=common_headers(),
        content_type="application/x-jsonl",
    )


# files ------------------------------------------------------------------------------------------


def without_beta(request: Request) -> HTTPResponse | None:
    betas = ",".join(request.headers.getall("anthropic-beta", []))
    if FILES_BETA in betas or version_of(request) != VERSIONS[0]:
        return None
    return not_found("Not found")


def file_object(file: StoredFile) -> JSON:
    """Anthropic's FileMetadata, and the hash for tests to compare."""
    return {
        "type": "file",
        "id": file.id,
        "filename": file.filename,
        "mime_type": "application/pdf" if file.filename.endswith(".pdf") else "text/plain",
        "size_bytes": file.bytes,
        "created_at": datetime.fromtimestamp(file.created, UTC).isoformat(),
        "downloadable": True,
        "sha256": file.sha256,
    }


@on("/v1/files", "POST", stream=True)
async def upload_file(request: Request) -> HTTPResponse | None:
    fault, refused = await enter(request)
    upload, malformed = await receive(request)
    if stopped := refused or without_beta(request) or malformed:
        return stopped
    if upload is None or upload.file is None:
        return bad_request("file: Field required")
    upload.file.id = token("file_")
    shelf.put(upload.file)
    return await answer(request, fault, file_object(upload.file))


async def receive(request: Request) -> tuple[Upload | None, HTTPResponse | None]:
    """A multipart body as it arrives; always read to its end, also when it is no good."""
    record, upload, wrong = record_of(request), None, ""
    try:
        upload = Upload(request.headers.get("content-type", ""))
    except Malformed as error:
        wrong = str(error)
    while (piece := await request.stream.read()) is not None:  # type: ignore[union-attr]
        if upload is None or wrong:
            continue
        try:
            upload.feed(piece)
            record.body_bytes = upload.bytes
        except Malformed as error:
            wrong = str(error)
    if upload is not None and not wrong:
        record.body_sha256 = upload.hash.hexdigest()
        try:
            upload.finish()
        except Malformed as error:
            wrong = str(error)
    return (
        (None, bad_request(f"Could not parse multipart form: {wrong}."))
        if wrong
        else (
            upload,
            None,
        )
    )


@on("/v1/files", "GET")
async def list_files(request: Request) -> HTTPResponse | None:
    fault, refused = await enter(request)
    if stopped := refused or without_beta(request):
        return stopped
    return await answer_page(request, fault, [file_object(file) for file in shelf.all()])


@on("/v1/files/<identity>", "GET", "DELETE")
async def one_file(request: Request, identity: str) -> HTTPResponse | None:
    fault, refused = await enter(request)
    if stopped := refused or without_beta(request):
        return stopped
    file = shelf.get(identity)
    if file is None:
        return not_found(f"File not found: {identity}")
    if request.method == "GET":
        return await answer(request, fault, file_object(file))
    shelf.remove(identity)
    return await answer(request, fault, {"id": identity, "type": "file_deleted"})


@on("/v1/files/<identity>/content", "GET")
async def file_content(request: Request, identity: str) -> HTTPResponse | None:
    fault, refused = await enter(request)
    if stopped := refused or without_beta(request):
        return stopped
    file = shelf.get(identity)
    if file is None:
        return not_found(f"File not found: {identity}")
    content = file.read(0, file.bytes)
    return await send_body(
        request,
        fault,
        content,
        dialect(),
        headers=common_headers(),
        content_type="application/octet-stream",
    )
