"""claude.ai, under /claude-web: sessions, organizations, conversations, both stream formats.

The sessionKey cookie is the account: a conversation asked for with another one is 404. Words in a
session: gone (expired), challenge (a web page), exhausted (its limit is used up), apionly (an
organization that cannot chat), free (may name no model), rotating (a new cookie with each answer,
valid from then on together with the old one). Words in a model: raw, raw2023 (the older stream),
thinks, search, cut, overloaded. Faults of faults.py (sim-...) count events of the stream.
The text answers "You said: <question>", with " (turn 2)" in a conversation that goes on.
"""

import re
import secrets
import time
import uuid
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct
from sanic import Blueprint, HTTPResponse, Request

from app.simulator import delivery
from app.simulator.delivery import Dialect, with_headers
from app.simulator.faults import Fault, Refusal
from app.simulator.ledger import record_of

JSON = dict[str, Any]
encode = msgspec.json.encode

MAX_KEPT = 5000
CHATS = "/api/organizations/<org>/chat_conversations"
PAGE = b"<!DOCTYPE html><html><head><title>Just a moment...</title></head><body></body></html>"
_ROTATED = re.compile(r"-r\d+$")

blueprint = Blueprint("claude-web", url_prefix="/claude-web")


class Conversation(Struct):
    """A conversation of one account and organization."""

    uuid: str
    account: str
    org: str
    model: str | None
    turns: int = 0
    leaf: str = "00000000-0000-4000-8000-000000000000"
    messages: list[str] = []


conversations: dict[str, Conversation] = {}
uploads: dict[str, str] = {}  # file -> account


def error(status: int, kind: str, message: str, **details: Any) -> HTTPResponse:
    """An error answer in the site's shape."""
    said: JSON = {"type": kind, "message": message}
    if details:
        said["details"] = details
    body = encode({"type": "error", "error": said, "request_id": "req_simulated"})
    return HTTPResponse(body, status, content_type="application/json")


def answer(request: Request, body: Any, status: int = 200) -> HTTPResponse:
    """A JSON answer with the next session cookie."""
    response = HTTPResponse(encode(body), status, content_type="application/json")
    return with_headers(response, rotation(request))


def rotation(request: Request) -> list[tuple[str, str]]:
    """A session that rotates gets its next cookie with every answer."""
    headers = [("set-cookie", "__cf_bm=simulated; Path=/; Max-Age=1800; HttpOnly")]
    held = _session(request)
    if "rotating" in held:
        number = int(held.rpartition("-r")[2]) + 1 if _ROTATED.search(held) else 1
        fresh = f"{_account(held)}-r{number}"
        headers.append(("set-cookie", f"sessionKey={fresh}; Path=/; Max-Age=2419200; HttpOnly"))
    return headers


def _session(request: Request) -> str:
    pairs = (c.strip().partition("=") for c in request.headers.get("cookie", "").split(";"))
    return next((value for name, _, value in pairs if name == "sessionKey"), "")


def _account(session: str) -> str:
    return _ROTATED.sub("", session)


def _org(account: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"claude-web/{account}"))


def _refuse(asked: Refusal) -> HTTPResponse:
    words = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error"}
    words |= {404: "not_found_error", 429: "rate_limit_error", 529: "overloaded_error"}
    made = error(asked.status, words.get(asked.status, "api_error"), f"Simulated {asked.status}.")
    return with_headers(made, [("retry-after", asked.retry_after)] if asked.retry_after else [])


DIALECT = Dialect(
    refuse=_refuse,
    error_event=b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error",'
    b'"message":"Overloaded"}}\n\n',
    error_body=b'{"type":"error","error":{"type":"api_error","message":"Broken"}}',
    bad_event=b"event: completion\ndata: {broken\n\n",
)


async def check_request(request: Request, model: str = "") -> tuple[Fault, HTTPResponse | None]:
    """Picks the fault and checks the request; the second value is the answer when it stops here."""
    fault = request.app.ctx.faults.pick(request, model)
    refused = await delivery.before_answer(request, fault, DIALECT)
    if refused is not None:
        return fault, refused
    session = _session(request)
    if "challenge" in session:
        page = HTTPResponse(PAGE, 403, {"cf-mitigated": "challenge"}, "text/html; charset=UTF-8")
        return fault, page
    if not session or "gone" in session or "authorization" in request.headers:
        said = "Invalid authorization"
        code = "account_session_invalid"
        return fault, error(403, "permission_error", said, error_code=code)
    return fault, None


def _limit() -> HTTPResponse:
    resets = int(time.time()) + 3600
    inner = {
        "type": "exceeded_limit",
        "resetsAt": resets,
        "remaining": None,
        "perModelLimit": False,
        "representativeClaim": "five_hour",
    }
    return error(429, "rate_limit_error", encode(inner).decode())


@blueprint.get("/api/organizations")
async def organizations(request: Request) -> HTTPResponse | None:
    """The organizations of the session, the one that can chat last."""
    _, refused = await check_request(request)
    if refused:
        return refused
    account = _account(_session(request))
    console = {"uuid": str(uuid.uuid4()), "name": "console", "capabilities": ["api", "x", "y"]}
    chat = {"uuid": _org(account), "name": "me", "capabilities": ["chat", "claude_pro"]}
    return answer(request, [console] if "apionly" in account else [console, chat])


def _found(request: Request, org: str, id: str) -> Conversation | None:
    account = _account(_session(request))
    held = conversations.get(id)
    return held if held and held.account == account and held.org == org == _org(account) else None


def _nothing() -> HTTPResponse:
    return error(404, "not_found_error", "Conversation not found")


@blueprint.post(CHATS)
async def create(request: Request, org: str) -> HTTPResponse | None:
    """Makes a conversation under the id that the client chose."""
    asked = request.json or {}
    _, refused = await check_request(request)
    if refused:
        return refused
    account = _account(_session(request))
    if org != _org(account):
        return error(404, "not_found_error", "Organization not found")
    if "free" in account and asked.get("model"):
        return error(403, "permission_error", "This model is not available on your plan.")
    made = Conversation(asked["uuid"], account, org, asked.get("model"))
    conversations[made.uuid] = made
    if len(conversations) > MAX_KEPT:
        del conversations[next(iter(conversations))]
    return answer(request, _view(made), 201)


def _view(made: Conversation) -> JSON:
    return {
        "uuid": made.uuid,
        "name": "",
        "summary": "",
        "model": made.model,
        "created_at": "2026-01-01T00:00:00.000000+00:00",
        "updated_at": "2026-01-01T00:00:00.000000+00:00",
        "settings": {},
        "current_leaf_message_uuid": made.leaf,
    }


async def one(request: Request, org: str, id: str) -> HTTPResponse | None:
    """Returns or deletes a conversation."""
    _, refused = await check_request(request)
    if refused:
        return refused
    held = _found(request, org, id)
    if held is None:
        return _nothing()
    if request.method == "DELETE":
        del conversations[id]
        return HTTPResponse(None, 204)
    return answer(request, _view(held))


@blueprint.post("/api/<org>/upload")
async def upload(request: Request, org: str) -> HTTPResponse | None:
    """Takes a file for the next question."""
    _, refused = await check_request(request)
    if refused:
        return refused
    sent = request.files.get("file") if request.files else None
    if sent is None or org != _org(_account(_session(request))):
        return error(400, "invalid_request_error", "No file")
    id = str(uuid.uuid4())
    uploads[id] = _account(_session(request))
    return answer(request, {"file_uuid": id, "file_name": sent.name, "file_kind": "image"})


@blueprint.post(CHATS + "/<id>/completion")
async def completion(request: Request, org: str, id: str) -> HTTPResponse | None:
    """Answers a question as a stream, in the format that its rendering mode asks for."""
    asked = request.json or {}
    held = _found(request, org, id)
    model = str(asked.get("model") or (held.model if held else None) or "claude-sonnet-5")
    fault, refused = await check_request(request, model)
    if refused:
        return refused
    account = _account(_session(request))
    if held is None:
        return _nothing()
    if "exhausted" in account:
        return _limit()
    if "free" in account and asked.get("model"):
        return error(403, "permission_error", "This model is not available on your plan.")
    parent = asked.get("parent_message_uuid")
    if parent not in (None, held.leaf, *held.messages):
        return error(400, "invalid_request_error", "Unknown parent message")
    if any(uploads.get(file) != account for file in asked.get("files", [])):
        return error(400, "invalid_request_error", "Unknown file")
    held.turns += 1
    held.leaf = str(uuid.uuid4())
    held.messages.append(held.leaf)
    said = f"You said: {asked['prompt']}" + (f" (turn {held.turns})" if held.turns > 1 else "")
    said += f" (with {len(asked['files'])} picture)" if asked.get("files") else ""
    if asked.get("attachments"):
        said += f" (with {asked['attachments'][0]['file_size']} bytes)"
    words = set(model.split("-"))
    if words & {"raw", "raw2023"} or asked.get("rendering_mode") != "messages":
        events = _raw(said, model, words, fault)
    else:
        events = _messages(said, model, words, fault, held.leaf)
    record_of(request).model = model
    return await delivery.send_events(request, fault, events, DIALECT, headers=rotation(request))


def _raw(said: str, model: str, words: set[str], fault: Fault) -> Iterator[bytes]:
    def frame(text: str, reason: str | None) -> bytes:
        data: JSON = {
            "completion": text,
            "stop_reason": reason,
            "model": model,
            "stop": "\n\nHuman:" if reason else None,
            "log_id": "x",
            "messageLimit": {"type": "within_limit"},
        }
        if "raw2023" in words:
            return b"data: " + encode(data) + b"\r\n\r\n"
        body = encode({"type": "completion", "id": "chatcompl_sim", **data})
        return b"event: completion\r\ndata: " + body + b"\r\n\r\n"

    for number, piece in enumerate(fault.pieces(said)):
        yield frame((" " if number == 0 else "") + piece, None)
        if "overloaded" in words:
            yield b'data: {"error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
            return
        if "cut" in words:
            return
    yield frame("", "stop_sequence")


def _messages(said: str, model: str, words: set[str], fault: Fault, leaf: str) -> Iterator[bytes]:
    def event(kind: str, **more: Any) -> bytes:
        body = encode({"type": kind, **more})
        padded = body[:-1] + b" " * (secrets.randbelow(20)) + b"}"
        return f"event: {kind}\ndata: ".encode() + padded + b"\n\n"

    def block(index: int, kind: str, deltas: list[JSON]) -> Iterator[bytes]:
        yield event("content_block_start", index=index, content_block={"type": kind, "text": ""})
        for delta in deltas:
            yield event("content_block_delta", index=index, delta=delta)
        yield event("content_block_stop", index=index)

    yield event(
        "message_start",
        message={"id": "chatcompl_sim", "role": "assistant", "model": model, "uuid": leaf},
    )
    if "thinks" in words:
        yield from block(0, "thinking", [{"type": "thinking_delta", "thinking": "Hm, let me see."}])
    if "search" in words:
        yield from block(1, "tool_use", [{"type": "input_json_delta", "partial_json": "{}"}])
        yield from block(2, "tool_result", [])
    pieces = [{"type": "text_delta", "text": piece} for piece in fault.pieces(said)]
    for number, whole in enumerate(block(3, "text", pieces)):
        yield whole
        if number == 1 and "overloaded" in words:
            yield DIALECT.error_event
            return
        if number == 1 and "cut" in words:
            return
    yield event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None})
    yield event("message_limit", message_limit={"type": "within_limit", "resetsAt": None})
    yield event("message_stop")


async def anything(request: Request, path: str) -> HTTPResponse | None:
    """Echoes the request, for all other paths of the site."""
    _, refused = await check_request(request)
    if refused:
        return refused
    headers = [[str(name), value] for name, value in request.headers.items()]
    said = {"method": request.method, "path": request.path, "query": request.query_string}
    body = request.body.decode("utf-8", "replace")
    return answer(request, {**said, "headers": headers, "body": body})


blueprint.add_route(one, CHATS + "/<id>", methods=["GET", "PUT", "DELETE"], name="one")
blueprint.add_route(
    anything,
    "/<path:path>",
    methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
    name="anything",
)
