"""ChatGPT's website, under /chatgpt: the guard with real proof checking, all framings, files.

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
import binascii
import hashlib
import secrets
import time
import uuid
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct
from sanic import Blueprint, HTTPResponse, Request
from sanic.server.websockets.impl import WebsocketImplProtocol

from app.simulator import delivery
from app.simulator.delivery import Dialect, with_headers
from app.simulator.faults import Fault, Refusal
from app.simulator.ledger import record_of

JSON = dict[str, Any]
encode = msgspec.json.encode

MAX_KEPT = 5000
SEVERAL_LIVES = 540  # seconds a guard's token lives
DIFFICULTY = "0fffff"
HARDER = (("hardest", "000032"), ("hard", "000fff"))  # words of a token: seconds of work, and less
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
PAGE = b"<!DOCTYPE html><html><head><title>Just a moment...</title></head><body></body></html>"
SUBPROTOCOL = "json.reliable.webpubsub.azure.v1"

blueprint = Blueprint("chatgpt", url_prefix="/chatgpt")


class Pass(Struct):
    """What the guard gave out: to be shown once, by the same browser."""

    account: str
    device: str
    seed: str
    difficulty: str
    arkose: bool
    turnstile: bool
    made_at: float


class Conversation(Struct):
    id: str
    account: str
    current: str = ""
    turns: int = 0
    messages: dict[str, JSON] = {}


passes: dict[str, Pass] = {}
conversations: dict[str, Conversation] = {}
files: dict[str, tuple[str, bytes]] = {}  # id -> account, content
sockets: dict[str, tuple[list[bytes], int]] = {}  # websocket token -> SSE events, silent after
arkose_used: set[str] = set()


def detail(status: int, said: Any, headers: delivery.Headers = ()) -> HTTPResponse:
    body = HTTPResponse(encode({"detail": said}), status, content_type="application/json")
    return with_headers(body, headers)


def answer(body: Any, headers: delivery.Headers = (), status: int = 200) -> HTTPResponse:
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


async def enter(request: Request, model: str = "") -> tuple[Fault, HTTPResponse | None]:
    """The fault of this request, and an answer if there shall be none of the usual kind."""
    fault = request.app.ctx.faults.pick(request, model)
    refused = await delivery.before_answer(request, fault, DIALECT)
    if refused is not None:
        return fault, refused
    token = _token(request)
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


def _token(request: Request) -> str:
    if request.path.startswith("/chatgpt/backend-anon/"):
        return ""
    return request.headers.get("authorization", "").removeprefix("Bearer ").strip()


def _cookies(request: Request) -> dict[str, str]:
    pairs = (c.strip().partition("=") for c in request.headers.get("cookie", "").split(";"))
    return {name: value for name, _, value in pairs if name}


# the guard --------------------------------------------------------------------------------------


async def requirements(request: Request) -> HTTPResponse | None:
    _, refused = await enter(request)
    if refused:
        return refused
    device = request.headers.get("oai-device-id", "")
    if not device or _cookies(request).get("oai-did") != device:
        return detail(401, "Unauthorized")
    asked = request.json if isinstance(request.json, dict) else {}
    p = asked.get("p")
    if p is not None and not str(p).startswith("gAAAAAC"):
        return detail(422, [{"loc": ["body", "p"], "msg": "no requirements token", "type": "x"}])
    token = _token(request)
    made = Pass(
        account=token,
        device=device,
        seed=str(secrets.randbelow(10**16) / 10**16),
        difficulty=next((how for word, how in HARDER if word in token), DIFFICULTY),
        arkose="arkose" in token,
        turnstile="turnstile" in token,
        made_at=time.time(),
    )
    name = "gAAAAAB" + secrets.token_urlsafe(40)
    passes[name] = made
    if len(passes) > MAX_KEPT:
        del passes[next(iter(passes))]
    said: JSON = {
        "persona": "chatgpt-paid" if token and "noauth" not in token else "chatgpt-noauth",
        "token": name,
        "expire_after": SEVERAL_LIVES,
        "force_login": "x-sim-login" in request.headers,
        "turnstile": {"required": made.turnstile, "dx": "x"},
        "proofofwork": {"required": True, "seed": made.seed, "difficulty": made.difficulty},
        "so": {"required": True, "collector_dx": "x"},
    }
    if made.arkose:
        said["arkose"] = {"required": True, "dx": "x"}
    cookies = [
        ("set-cookie", f"oai-sc={name[-12:]}; Path=/; Secure; HttpOnly"),
        ("set-cookie", "__cf_bm=simulated; Path=/; Max-Age=1800; HttpOnly"),
    ]
    return answer(said, cookies)


def _why_not(request: Request) -> str | None:
    """What is wrong with what the guard wanted to see again; None when all is well."""
    headers = request.headers
    name = headers.get("openai-sentinel-chat-requirements-token", "")
    held = passes.pop(name, None)
    if held is None or time.time() - held.made_at > SEVERAL_LIVES:
        return "no requirements token"
    if held.account != _token(request) or held.device != headers.get("oai-device-id"):
        return "another browser"
    if _cookies(request).get("oai-sc") != name[-12:]:
        return "the guard's cookie is missing"
    agent = headers.get("user-agent", "")
    proof = headers.get("openai-sentinel-proof-token", "")
    if not proves(proof, held.seed, held.difficulty, agent):
        return "wrong proof"
    if held.arkose:
        arkose = headers.get("openai-sentinel-arkose-token", "")
        if not arkose or arkose in arkose_used:
            return "no fresh arkose token"
        arkose_used.add(arkose)
    if held.turnstile and "strict" in held.account:
        return "no turnstile token"
    return None


def proves(token: str, seed: str, difficulty: str, agent: str) -> bool:
    """Whether a proof of either generation is one, for this seed and this browser."""
    if not token.startswith("gAAAAAB"):
        return False
    text = token[len("gAAAAAB") :]
    is_newer = text.endswith("~S")
    text = text.removesuffix("~S")
    try:
        array = msgspec.json.decode(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError, msgspec.DecodeError):
        return False
    if not isinstance(array, list) or len(array) < 13 or array[4] != agent:
        return False
    said = (seed + text).encode()
    digest = _fnv(said) if is_newer else hashlib.sha3_512(said).hexdigest()
    return digest[: len(difficulty)] <= difficulty


def _fnv(data: bytes) -> str:
    h = 0x811C9DC5
    for byte in data:
        h = (h ^ byte) * 0x01000193 % 2**32
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        h = (h ^ h >> shift) * factor % 2**32
    return f"{h ^ h >> 16:08x}"


# the question -----------------------------------------------------------------------------------


async def ask(request: Request) -> HTTPResponse | None:
    asked = request.json if isinstance(request.json, dict) else {}
    model = str(asked.get("model", ""))
    fault, refused = await enter(request, model)
    if refused:
        return refused
    why_not = _why_not(request)
    if why_not:
        record_of(request).fault = why_not
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
    made = _conversation(_token(request), asked.get("conversation_id"), str(parent))
    if isinstance(made, HTTPResponse):
        return made
    made.turns += 1
    text = "".join(part for part in parts if isinstance(part, str))
    pictures = sum(isinstance(part, dict) for part in parts)
    made.messages[identity] = question
    said = f"You said: {text}" + (f" (turn {made.turns})" if made.turns > 1 else "")
    said += f" (with {pictures} picture)" if pictures else ""
    turn = Lease(made, identity, text, said, model, words, fault)
    events = turn.deltas() if not words & {"snapshots", "wss", "wssbare"} else turn.snapshots()
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


class Lease:
    """One answer in the making, in the words of either encoding."""

    def __init__(
        self,
        made: Conversation,
        question_id: str,
        text: str,
        said: str,
        model: str,
        words: set[str],
        fault: Fault,
    ) -> None:
        self.made, self.question_id, self.text = made, question_id, text
        self.said, self.model, self.words, self.fault = said, model, words, fault
        self.id = str(uuid.uuid4())
        made.current = self.id
        made.messages[self.id] = self.message(parts=[said])

    def message(self, **more: Any) -> JSON:
        metadata: JSON = {"model_slug": self.model, "parent_id": self.question_id, "pad": "AAAA"}
        metadata |= more.pop("metadata", {})
        content = {"content_type": "text", "parts": more.pop("parts", [""])}
        base = {
            "id": self.id,
            "author": {"role": more.pop("role", "assistant"), "name": None, "metadata": {}},
            "create_time": time.time(),
            "update_time": None,
            "content": content,
            "status": "in_progress",
            "end_turn": None,
            "weight": 1.0,
            "metadata": metadata,
            "recipient": "all",
            "channel": None,
        }
        return base | more

    def root(self, message: JSON | None, **more: Any) -> JSON:
        return {"message": message, "conversation_id": self.made.id, "error": None, **more}

    def done(self, id: str, **more: Any) -> JSON:
        return self.message(id=id, status="finished_successfully", **more)

    def before(self) -> Iterator[JSON]:
        """The messages that come before the answer."""
        hidden = {"is_visually_hidden_from_conversation": True}
        yield self.done("s1", role="system", metadata=hidden, end_turn=True)
        if "echo" in self.words and self.made.turns > 1:
            old = {"parent_id": "older"}
            yield self.done("old", parts=["An older answer."], end_turn=True, metadata=old)
        yield self.done(self.question_id, role="user", parts=[self.text])
        if "thoughts" in self.words:
            said = [{"summary": "Thinking", "content": "about it"}]
            thoughts = {"content_type": "thoughts", "thoughts": said}
            yield self.done("t1", content=thoughts)
        if "tools" in self.words:
            yield self.done("c1", recipient="python", parts=["print(1)"], end_turn=False)
            output = {"content_type": "execution_output", "text": "1"}
            yield self.done("c2", role="tool", content=output)
        if self.words & {"image", "sediment"}:
            id = ("file_" if "sediment" in self.words else "file-") + secrets.token_hex(12)
            files[id] = (self.made.account, PNG)
            scheme = "sediment" if "sediment" in self.words else "file-service"
            pointer = {
                "content_type": "image_asset_pointer",
                "asset_pointer": f"{scheme}://{id}",
                "width": 1,
                "height": 1,
            }
            content = {"content_type": "multimodal_text", "parts": [pointer]}
            yield self.done("i1", role="tool", content=content)
        if "two" in self.words:
            yield self.done("first", parts=["Let me see."], end_turn=False)

    def after(self) -> Iterator[bytes]:
        id = self.made.id
        yield _event({"type": "title_generation", "title": "A title", "conversation_id": id})
        yield _event({"type": "conversation_detail_metadata", "conversation_id": id})
        yield b"data: [DONE]\n\n"

    def pieces(self) -> list[str]:
        said = self.said
        if "cite" in self.words:
            said += " \ue200cite\ue202turn0search0\ue201"
        return list(self.fault.pieces(said))

    def finished(self) -> JSON:
        metadata: JSON = {"finish_details": {"type": "stop"}, "is_complete": True}
        if "cite" in self.words:
            page = {"title": "A page", "url": "https://page.example/"}
            metadata["content_references"] = [
                {"matched_text": "\ue200cite\ue202turn0search0\ue201", "items": [page]}
            ]
        return metadata

    def snapshots(self) -> Iterator[bytes]:
        for message in self.before():
            yield self._break(self.root(message))
        text = ""
        for piece in self.pieces():
            text += piece
            yield self._break(self.root(self.message(parts=[text])))
            if self.words & {"error", "moderated", "handoff"}:
                yield from self._odd_end()
                return
        last = self.done(self.id, parts=[text], end_turn=True, metadata=self.finished())
        yield self._break(self.root(last))
        yield from self.after()

    def deltas(self) -> Iterator[bytes]:
        yield b'event: delta_encoding\ndata: "v1"\n\n'
        channel = 0
        for channel, message in enumerate(self.before()):
            yield self._delta({"p": "", "o": "add", "v": self.root(message), "c": channel})
        first = self.root(self.message())
        yield self._delta({"p": "", "o": "add", "v": first, "c": channel + 1})
        pieces = self.pieces()
        for number, piece in enumerate(pieces[:-1]):
            append = {"p": "/message/content/parts/0", "o": "append"} if number == 0 else {}
            yield self._delta({**append, "v": piece})
            if self.words & {"error", "moderated", "handoff"}:
                yield from self._odd_end()
                return
        patch = [
            {"p": "/message/metadata", "o": "append", "v": self.finished()},
            {"p": "/message/content/parts/0", "o": "append", "v": pieces[-1]},
            {"p": "/message/status", "o": "replace", "v": "finished_successfully"},
            {"p": "/message/end_turn", "o": "replace", "v": True},
        ]
        yield self._delta({"p": "", "o": "patch", "v": patch})
        complete = {"type": "message_stream_complete", "conversation_id": self.made.id}
        yield _event(complete)
        yield from self.after()

    def _odd_end(self) -> Iterator[bytes]:
        if "error" in self.words:
            yield _event(self.root(None, error="Something went wrong."))
        elif "moderated" in self.words:
            yield _event({"moderation_response": {"flagged": True, "blocked": True}})
        else:
            yield _event({"type": "stream_handoff", "options": []})
        yield b"data: [DONE]\n\n"

    def _delta(self, data: JSON) -> bytes:
        return self._break(data, "event: delta\n")

    def _break(self, data: JSON, name: str = "") -> bytes:
        whole = _event(data, name)
        return whole.replace(b"\n", b"\r\n") if "crlf" in self.words else whole


def _event(data: JSON, name: str = "") -> bytes:
    body = encode(data)
    return name.encode() + b"data: " + body + b" " * (-len(body) % 8) + b"\n\n"


@blueprint.websocket("/client/hubs/conversations", subprotocols=[SUBPROTOCOL])  # type: ignore[untyped-decorator]
async def hub(request: Request, ws: WebsocketImplProtocol) -> None:
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
    for number, event in enumerate([_event({"strange": True}), *events], 1):
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
    _, refused = await enter(request)
    slugs = ("gpt-4o", "gpt-5-2", "o3-mini-high")
    return refused or answer({"models": [{"slug": slug, "title": slug} for slug in slugs]})


@blueprint.get("/backend-api/conversation/<id>")
async def conversation(request: Request, id: str) -> HTTPResponse | None:
    _, refused = await enter(request)
    found = conversations.get(id)
    if refused:
        return refused
    if found is None or found.account != _token(request):
        return detail(404, {"message": "not found", "code": "conversation_not_found"})
    return answer({"title": "A title", "current_node": found.current, "mapping": {}})


@blueprint.get("/api/auth/session")
async def session(request: Request) -> HTTPResponse:
    """Signed in by the session cookie, in one piece or in two; its value begins with the token."""
    cookies = _cookies(request)
    name = "__Secure-next-auth.session-token"
    held = cookies.get(name) or cookies.get(f"{name}.0", "") + cookies.get(f"{name}.1", "")
    if not held or "gone" in held:
        return answer({})
    rotated = [("set-cookie", f"{name}=again-{held}; Path=/; Secure; HttpOnly; Max-Age=7776000")]
    ends = int(time.time()) + 864_000
    claims = base64.urlsafe_b64encode(encode({"exp": ends, "sub": held})).decode().rstrip("=")
    return answer({"accessToken": f"eyJhbGciOiJSUzI1NiJ9.{claims}.c2ln", "user": {}}, rotated)


@blueprint.post("/backend-api/files")
async def new_file(request: Request) -> HTTPResponse | None:
    _, refused = await enter(request)
    if refused:
        return refused
    id = "file-" + secrets.token_hex(12)
    files[id] = (_token(request), b"")
    place = f"http://{request.headers.get('host')}/chatgpt/storage/{id}?se=1&sig=x"
    return answer({"status": "success", "file_id": id, "upload_url": place})


@blueprint.put("/storage/<id>")
async def store(request: Request, id: str) -> HTTPResponse:
    if id not in files or "authorization" in request.headers or not request.body:
        return HTTPResponse(b"", 403)
    if request.headers.get("x-ms-blob-type") != "BlockBlob":
        return HTTPResponse(b"", 400)
    files[id] = (files[id][0], request.body)
    return HTTPResponse(b"", 201)


@blueprint.post("/backend-api/files/<id>/uploaded")
async def uploaded(request: Request, id: str) -> HTTPResponse | None:
    _, refused = await enter(request)
    return refused or answer({"status": "success" if files.get(id, ("", b""))[1] else "error"})


async def download(request: Request, id: str, conversation: str = "") -> HTTPResponse | None:
    _, refused = await enter(request)
    if refused:
        return refused
    held = files.get(id)
    if held is None or held[0] != _token(request):
        return detail(404, "File not found")
    base = f"http://{request.headers.get('host')}/chatgpt/backend-api/estuary/content"
    return answer({"status": "success", "download_url": f"{base}?id={id}&sig=y&v=0"})


@blueprint.get("/backend-api/estuary/content")
async def content(request: Request) -> HTTPResponse | None:
    _, refused = await enter(request)
    held = files.get(request.args.get("id", ""))
    if refused or held is None or held[0] != _token(request):
        return refused or detail(404, "File not found")
    return HTTPResponse(held[1], 200, content_type="image/png")


@blueprint.post("/oauth/<what>")
async def oauth(request: Request, what: str) -> HTTPResponse:
    asked = request.json or {}
    if what == "token" and asked.get("refresh_token", "").startswith("good"):
        return answer({"access_token": "fresh", "expires_in": 86400, "token_type": "Bearer"})
    if what == "revoke" and asked.get("token"):
        return HTTPResponse(b"", 200)
    said = {"error": "invalid_grant", "error_description": "Unknown or invalid refresh token."}
    return answer(said, status=403)


async def anything(request: Request, path: str = "") -> HTTPResponse | None:
    """What the site has besides is answered with what was asked."""
    _, refused = await enter(request)
    if refused:
        return refused
    headers = [[str(name), value] for name, value in request.headers.items()]
    said = {"method": request.method, "path": request.path, "query": request.query_string}
    body = request.body.decode("utf-8", "replace")
    return answer({**said, "headers": headers, "body": body}, [("set-cookie", "_cfuvid=x; Path=/")])


for _side in ("api", "anon"):
    blueprint.add_route(
        requirements,
        f"/backend-{_side}/sentinel/chat-requirements",
        methods=["POST"],
        name=f"requirements_{_side}",
    )
    blueprint.add_route(
        ask, f"/backend-{_side}/conversation", methods=["POST"], name=f"ask_{_side}"
    )
blueprint.add_route(download, "/backend-api/files/<id>/download", name="download")
blueprint.add_route(
    download, "/backend-api/conversation/<conversation>/attachment/<id>/download", name="attachment"
)
for _room in ("backend-api", "public-api"):
    blueprint.add_route(
        anything,
        f"/{_room}/<path:path>",
        methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        name=f"anything_{_room.replace('-', '_')}",
    )
