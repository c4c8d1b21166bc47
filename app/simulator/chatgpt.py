"""ChatGPT's website, under /chatgpt: conversations in all framings, sessions, OAuth.

The guard (sentinel) is in chatgpt_sentinel.py, with real proof checking; files are in
chatgpt_files.py.

The bearer token is the account: a conversation asked for with another token is 404. Words in a
token: expired (401), challenge (a web page), unusual (403), arkose, turnstile, hard (more work),
hardest (seconds of it), noauth (the guard does not accept it), login (without a token: force_login
by x-sim-login).
Words in a model, between dashes: snapshots, wss, wssbare (websocket), crlf; else delta encoding.
thoughts, image, sediment, cite, tools, two, echo, handoff, moderated, capped, error.
Faults of faults.py (sim-...) count events of the stream. The text answers "You said: <question>",
with " (turn 2)" in a conversation that goes on. Tokens of the websocket are used once.
"""

import asyncio
import base64
import secrets
import time
import uuid

from sanic import Blueprint, HTTPResponse, Request
from sanic.server.websockets.impl import WebsocketImplProtocol

from app.simulator import delivery
from app.simulator.chatgpt_answer import Answer, Conversation, event_bytes
from app.simulator.chatgpt_common import (
    DIALECT,
    answer,
    check_request,
    cookies_of,
    detail,
    encode,
    token_of,
)
from app.simulator.chatgpt_sentinel import sentinel_problem
from app.simulator.ledger import record_of

MAX_KEPT = 5000
SUBPROTOCOL = "json.reliable.webpubsub.azure.v1"

blueprint = Blueprint("chatgpt", url_prefix="/chatgpt")
conversations: dict[str, Conversation] = {}
sockets: dict[str, tuple[list[bytes], int]] = {}  # websocket token -> SSE events, silent after


async def post_conversation(request: Request) -> HTTPResponse | None:
    """Answers a question, as SSE or with the address of a websocket."""
    asked = request.json if isinstance(request.json, dict) else {}
    model = str(asked.get("model", ""))
    fault, refused = await check_request(request, model)
    if refused:
        return refused
    problem = sentinel_problem(request)
    if problem:
        record_of(request).fault = problem
        return detail(403, "Unusual activity has been detected from your device. Try again later.")
    words = set(model.split("-"))
    if "capped" in words:
        code = "model_cap_exceeded"
        return detail(429, {"message": "You've hit your limit.", "code": code, "clears_in": 252})
    try:
        question = asked["messages"][-1]
        parent, identity = asked["parent_message_id"], str(question["id"])
        parts = question["content"]["parts"]
    except (KeyError, IndexError, TypeError) as error:
        return detail(422, [{"loc": ["body", str(error)], "msg": "field required", "type": "x"}])
    made = _conversation(token_of(request), asked.get("conversation_id"), str(parent))
    if isinstance(made, HTTPResponse):
        return made
    made.turns += 1
    text = "".join(part for part in parts if isinstance(part, str))
    pictures = sum(isinstance(part, dict) for part in parts)
    made.messages[identity] = question
    said = f"You said: {text}" + (f" (turn {made.turns})" if made.turns > 1 else "")
    said += f" (with {pictures} picture)" if pictures else ""
    told = Answer(made, identity, text, said, model, words, fault)
    events = told.snapshots() if words & {"snapshots", "wss", "wssbare"} else told.deltas()
    if not words & {"wss", "wssbare"}:
        return await delivery.send_events(request, fault, events, DIALECT)
    token = secrets.token_urlsafe(16) + ("-bare" if "wssbare" in words else "")
    sockets[token] = list(events), fault.hang_after
    base = f"ws://{request.headers.get('host')}/chatgpt/client/hubs/conversations"
    return answer(
        {
            "wss_url": f"{base}?access_token={token}",
            "expires_at": "2030-01-01T00:00:00.000000+00:00",
            "conversation_id": made.id,
            "response_id": token[:8],
            "websocket_request_id": asked.get("websocket_request_id"),
        }
    )


def _conversation(account: str, id: str | None, parent: str) -> Conversation | HTTPResponse:
    if id is None:
        made = Conversation(str(uuid.uuid4()), account)
        conversations[made.id] = made
        if len(conversations) > MAX_KEPT:
            del conversations[next(iter(conversations))]
        return made
    found = conversations.get(id)
    if found is None or found.account != account:
        said = {"message": f"Can't load conversation {id}", "code": "conversation_not_found"}
        return detail(404, said)
    if parent not in found.messages:
        return detail(400, "The parent message does not belong to this conversation.")
    return found


@blueprint.websocket("/client/hubs/conversations", subprotocols=[SUBPROTOCOL])  # type: ignore[untyped-decorator]
async def hub(request: Request, ws: WebsocketImplProtocol) -> None:
    """The websocket of an answer: its SSE events as base64, in envelopes or bare."""
    token = request.args.get("access_token", "")
    held = sockets.pop(token, None)
    if held is None:
        await ws.close(1008)
        return
    events, hang_after = held
    bare = token.endswith("-bare")
    if not bare:
        await ws.send('{"type":"system","event":"connected","connectionId":"x"}')
    answered = {"response_id": token[:8], "type": "http.response.body"}
    if hang_after >= 0:
        events = events[:hang_after]
    for number, event in enumerate([event_bytes({"strange": True}), *events], 1):
        data = {**answered, "body": base64.b64encode(event).decode(), "more_body": True}
        if number == 1:  # of another answer of the same account
            data["response_id"] = "another"
        frame = data if bare else {"sequenceId": number, "type": "message", "data": data}
        await ws.send(encode(frame).decode())
        if number % 500 == 0 and not bare:
            async with asyncio.timeout(10):  # the service waits for a sign of life
                await ws.recv()
    while await ws.recv() is not None:  # stays open: its client is to leave
        pass


# the rest of the site ---------------------------------------------------------------------------


@blueprint.get("/backend-api/models")
async def models(request: Request) -> HTTPResponse | None:
    """The list of models."""
    _, refused = await check_request(request)
    slugs = ("gpt-4o", "gpt-5-2", "o3-mini-high")
    return refused or answer({"models": [{"slug": slug, "title": slug} for slug in slugs]})


@blueprint.get("/backend-api/conversation/<id>")
async def conversation(request: Request, id: str) -> HTTPResponse | None:
    """One conversation, for the account that owns it."""
    _, refused = await check_request(request)
    found = conversations.get(id)
    if refused:
        return refused
    if found is None or found.account != token_of(request):
        return detail(404, {"message": "not found", "code": "conversation_not_found"})
    return answer({"title": "A title", "current_node": found.current, "mapping": {}})


@blueprint.get("/api/auth/session")
async def session(request: Request) -> HTTPResponse:
    """Signed in by the session cookie, in one piece or in two; its value begins with the token."""
    cookies = cookies_of(request)
    name = "__Secure-next-auth.session-token"
    held = cookies.get(name) or cookies.get(f"{name}.0", "") + cookies.get(f"{name}.1", "")
    if not held or "gone" in held:
        return answer({})
    rotated = [("set-cookie", f"{name}=again-{held}; Path=/; Secure; HttpOnly; Max-Age=7776000")]
    ends = int(time.time()) + 864_000
    claims = base64.urlsafe_b64encode(encode({"exp": ends, "sub": held})).decode().rstrip("=")
    return answer({"accessToken": f"eyJhbGciOiJSUzI1NiJ9.{claims}.c2ln", "user": {}}, rotated)


@blueprint.post("/oauth/<what>")
async def oauth(request: Request, what: str) -> HTTPResponse:
    """The refresh and revocation of tokens; a refresh token must begin with `good`."""
    asked = request.json or {}
    if what == "token" and asked.get("refresh_token", "").startswith("good"):
        return answer({"access_token": "fresh", "expires_in": 86400, "token_type": "Bearer"})
    if what == "revoke" and asked.get("token"):
        return HTTPResponse(b"", 200)
    said = {"error": "invalid_grant", "error_description": "Unknown or invalid refresh token."}
    return answer(said, status=403)


async def anything(request: Request, path: str = "") -> HTTPResponse | None:
    """Echoes the request, for all other paths of the site."""
    _, refused = await check_request(request)
    if refused:
        return refused
    headers = [[str(name), value] for name, value in request.headers.items()]
    said = {"method": request.method, "path": request.path, "query": request.query_string}
    body = request.body.decode("utf-8", "replace")
    return answer({**said, "headers": headers, "body": body}, [("set-cookie", "_cfuvid=x; Path=/")])


for _side in ("api", "anon"):
    blueprint.add_route(
        post_conversation,
        f"/backend-{_side}/conversation",
        methods=["POST"],
        name=f"conversation_{_side}",
    )
for _room in ("backend-api", "public-api"):
    blueprint.add_route(
        anything,
        f"/{_room}/<path:path>",
        methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        name=f"anything_{_room.replace('-', '_')}",
    )
