"""Discord, under /discord: the REST API and the gateway, true enough for discord.py to live on.

Bot tokens begin with `bot-` or `demo-`; `nointent` in one forbids the content intent (4014). Any
other token is a user's: `dead` 401, `locked` 40002, `rate-3` three posts a second, `sim-429` ...
A user's message that mentions a bot is answered by it, as the word behind the last slash asks:
early (before the POST returns), nobuttons, silent, spent, picture, partial, rewrite, second, hang,
slow-N (N ms between edits).
POST /discord/_gateway {"do": "drop" | "reconnect" | "invalid" | "resumable" | "forget" | "count"}.
"""

import asyncio
import re
import secrets
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from typing import Any

import msgspec
from msgspec import Struct
from sanic import Blueprint, HTTPResponse, Request
from sanic.server.websockets.impl import WebsocketImplProtocol

from app.simulator import delivery
from app.simulator.delivery import Dialect, with_headers
from app.simulator.faults import Refusal
from app.simulator.ledger import record_of

JSON = dict[str, Any]
encode = msgspec.json.encode

BOT_TOKENS = ("bot-", "demo-")
GUILD = "1100000000000000001"
HEARTBEAT_MS = 41_250
MESSAGE_CONTENT = 1 << 15
KEPT_MESSAGES = 5000
KEPT_SESSIONS = 20
KEPT_EVENTS = 2000  # per session, for RESUME
_ids = count(1_200_000_000_000_000_000)
_MENTION = re.compile(r"<@!?(\d+)>")
_WORD = re.compile(r"/([a-z]+)(?:-(\d+))?\s*<@")
_RATE = re.compile(r"rate-(\d+)")

blueprint = Blueprint("discord", url_prefix="/discord")


class Session(Struct, eq=False):
    """One gateway session: its connection while it has one, and its events for a RESUME."""

    id: str
    intents: int
    seq: int = 0
    sent: deque[tuple[int, str]] = msgspec.field(default_factory=lambda: deque(maxlen=KEPT_EVENTS))
    ws: Any = None
    url: str = ""


class World:
    """All there is: messages, sessions, and how often each account has posted lately."""

    def __init__(self) -> None:
        self.messages: dict[str, JSON] = {}
        self.nonces: dict[tuple[str, str], str] = {}
        self.sessions: dict[str, Session] = {}
        self.posts: dict[str, list[float]] = {}
        self.identified = 0
        self.answering: set[asyncio.Task[None]] = set()

    def keep(self, message: JSON) -> None:
        self.messages[message["id"]] = message
        while len(self.messages) > KEPT_MESSAGES:
            del self.messages[next(iter(self.messages))]

    async def dispatch(self, name: str, data: JSON) -> None:
        """An event for every session, now or at its RESUME."""
        for session in list(self.sessions.values()):
            told = data
            if name.startswith("MESSAGE") and not session.intents & MESSAGE_CONTENT:
                empty: JSON = {"content": "", "embeds": [], "attachments": [], "components": []}
                told = {**data, **{n: v for n, v in empty.items() if n in data}}
            await send_event(session, name, told)


world = World()


async def send_event(session: Session, name: str, data: JSON) -> None:
    session.seq += 1
    text = encode({"t": name, "s": session.seq, "op": 0, "d": data}).decode()
    session.sent.append((session.seq, text))
    if session.ws is not None:
        with suppress(Exception):  # a lost connection: RESUME brings it
            await session.ws.send(text)


# REST -------------------------------------------------------------------------------------------


def answer(body: Any, status: int = 200, headers: delivery.Headers = ()) -> HTTPResponse:
    # discord.py reads JSON only when the type is exactly this, without a charset.
    response = HTTPResponse(encode(body), status, content_type="application/json")
    return with_headers(response, [("via", "1.1 google"), *headers])


def wrong(status: int, code: int, message: str) -> HTTPResponse:
    return answer({"message": message, "code": code}, status)


def limited(seconds: float, scope: str = "user") -> HTTPResponse:
    headers = [
        ("retry-after", str(max(1, round(seconds)))),
        ("x-ratelimit-limit", "5"),
        ("x-ratelimit-remaining", "0"),
        ("x-ratelimit-reset-after", f"{seconds:.3f}"),
        ("x-ratelimit-bucket", "abcd1234"),
        ("x-ratelimit-scope", scope),
    ]
    body = {"message": "You are being rate limited.", "retry_after": seconds, "global": False}
    return answer(body, 429, headers)


def _refuse(asked: Refusal) -> HTTPResponse:
    if asked.status == 429:
        after = asked.retry_after or "1"
        return limited(float(after) if after.isdigit() else 1.0)
    if asked.status == 401:
        return wrong(401, 0, "401: Unauthorized")
    return wrong(asked.status, 0, f"{asked.status}: the simulator refuses")


DIALECT = Dialect(refuse=_refuse, error_event=b"", error_body=b"", bad_event=b"")


async def enter(request: Request) -> HTTPResponse | None:
    fault = request.app.ctx.faults.pick(request)
    if refused := await delivery.before_answer(request, fault, DIALECT):
        return refused
    key = record_of(request).key
    if not key or "dead" in key:
        return wrong(401, 0, "401: Unauthorized")
    if "locked" in key:
        needed = "You need to verify your account in order to perform this action"
        return wrong(403, 40002, needed)
    return None


def _user(id: str, name: str, is_bot: bool) -> JSON:
    return {
        "id": id,
        "username": name,
        "discriminator": "0",
        "global_name": None,
        "avatar": None,
        "bot": is_bot,
    }


OWN_BOT = _user("1000000000000000001", "listener", True)


# <who> is always @me, which Sanic's router does not find when it is written out.
@blueprint.get("/api/v10/users/<who>")
async def me(request: Request, who: str) -> HTTPResponse:
    refused = await enter(request)
    key = record_of(request).key
    if not request.headers.get("authorization", "").startswith("Bot "):
        return refused or answer(_user(_user_id(key), "someone", False))
    if refused is None and not key.startswith(BOT_TOKENS):
        refused = wrong(401, 0, "401: Unauthorized")
    return refused or answer(OWN_BOT)


@blueprint.get("/api/v10/oauth2/applications/<who>")
async def application(request: Request, who: str) -> HTTPResponse:
    return await enter(request) or answer(
        {
            "id": OWN_BOT["id"],
            "name": "listener",
            "icon": None,
            "description": "",
            "bot_public": False,
            "bot_require_code_grant": False,
            "summary": "",
            "verify_key": "0" * 64,
            "flags": 1 << 19,
            "team": None,
            "owner": _user("1000000000000000002", "owner", False),
        }
    )


@blueprint.get("/api/v10/gateway/bot")
async def gateway_bot(request: Request) -> HTTPResponse:
    limit = {
        "total": 1000,
        "remaining": 1000 - world.identified,
        "reset_after": 14_400_000,
        "max_concurrency": 1,
    }
    url = _gateway_url(request)
    return await enter(request) or answer({"url": url, "shards": 1, "session_start_limit": limit})


@blueprint.get("/api/v10/channels/<channel>/messages")
async def read_messages(request: Request, channel: str) -> HTTPResponse:
    if refused := await enter(request):
        return refused
    after, limit = int(request.args.get("after", "0")), int(request.args.get("limit", "50"))
    found = [
        message
        for message in world.messages.values()
        if message["channel_id"] == channel and int(message["id"]) > after
    ]
    page = sorted(found, key=lambda m: int(m["id"]))
    page = page[:limit] if after else page[-limit:]
    return answer(page[::-1])


@blueprint.get("/api/v10/channels/<channel>/messages/<id>")
async def read_message(request: Request, channel: str, id: str) -> HTTPResponse:
    refused = await enter(request)
    found = world.messages.get(id)
    return refused or (answer(found) if found else wrong(404, 10008, "Unknown Message"))


@blueprint.post("/api/v10/channels/<channel>/messages")
async def post_message(request: Request, channel: str) -> HTTPResponse:
    if refused := await enter(request):
        return refused
    key = record_of(request).key
    attachments: list[JSON] = []
    if request.files:
        file = request.files.get("files[0]")
        form: Any = request.form or {}
        body = msgspec.json.decode(form.get("payload_json") or "{}")
        if file is None:
            return wrong(400, 50006, "Cannot send an empty message")
        url = f"https://cdn.example/{secrets.token_hex(4)}/{file.name}?ex=1&is=2&hm=3"
        size = len(file.body)
        attachments = [{"id": next_id(), "filename": file.name, "size": size, "url": url}]
    else:
        body = msgspec.json.decode(request.body)
    content = body.get("content", "")
    if len(content) > 2000:
        return wrong(400, 50035, "Invalid Form Body")
    if not content and not attachments:
        return wrong(400, 50006, "Cannot send an empty message")
    headers = _spend(key)
    if headers is None:
        return limited(1.0)
    nonce = (key, str(body.get("nonce")))
    if body.get("enforce_nonce") and nonce in world.nonces:
        return answer(world.messages[world.nonces[nonce]], headers=headers)
    is_bot = request.headers.get("authorization", "").startswith("Bot ")
    author = OWN_BOT if is_bot else _user(_user_id(key), "someone", False)
    message = new_message(channel, author, content, attachments=attachments)
    message["nonce"] = body.get("nonce")
    mentions = _MENTION.findall(content)
    message["mentions"] = [_user(id, "coze", True) for id in mentions]
    world.keep(message)
    world.nonces[nonce] = message["id"]
    await world.dispatch("MESSAGE_CREATE", {**message, "guild_id": GUILD})
    if mentions and not is_bot:  # a Coze bot does not listen to other bots
        task = asyncio.create_task(_answer(message, mentions[-1]))
        world.answering.add(task)
        task.add_done_callback(world.answering.discard)
        if "/early" in content:
            await asyncio.sleep(0.15)
    return answer(message, headers=headers)


def _spend(key: str) -> list[tuple[str, str]] | None:
    """The headers of one more post by this account, None when it is one too many."""
    asked = _RATE.search(key)
    limit = int(asked[1]) if asked else 1000
    now = time.monotonic()
    recent = [at for at in world.posts.get(key, []) if at > now - 1.0]
    if len(recent) >= limit:
        return None
    recent.append(now)
    world.posts[key] = recent
    return [
        ("x-ratelimit-limit", str(limit)),
        ("x-ratelimit-remaining", str(limit - len(recent))),
        ("x-ratelimit-reset-after", f"{1.0 - (now - recent[0]):.3f}"),
        ("x-ratelimit-bucket", "abcd1234"),
    ]


def next_id() -> str:
    return str(next(_ids))


def _user_id(key: str) -> str:
    return str(1_000_000_000_000_001_000 + sum(key.encode()) % 1000)


def new_message(channel: str, author: JSON, content: str, **more: Any) -> JSON:
    return {
        "type": 0,
        "id": next_id(),
        "channel_id": channel,
        "author": author,
        "content": content,
        "timestamp": "2024-01-01T00:00:00.000000+00:00",
        "edited_timestamp": None,
        "tts": False,
        "mention_everyone": False,
        "mentions": [],
        "mention_roles": [],
        "attachments": [],
        "embeds": [],
        "components": [],
        "flags": 0,
        "pinned": False,
        **more,
    }


# a Coze bot -------------------------------------------------------------------------------------

BUTTONS = [
    {
        "type": 1,
        "id": 1,
        "components": [
            {"type": 2, "id": 2, "style": 2, "label": "Tell me more", "custom_id": "more"}
        ],
    }
]
SPENT = "You have exceeded the daily limit for sending messages to the bot. Try tomorrow."


async def _answer(question: JSON, bot_id: str) -> None:
    """What a Coze bot does: a reply, edits of it, buttons at its end, and one late edit."""
    content = question["content"]
    found = _WORD.search(content)
    word, number = (found[1], int(found[2] or 0)) if found else ("", 0)
    if word == "silent":
        return
    step = number / 1000 if word == "slow" else 0.01
    text = _MENTION.sub("", content).strip()
    for id, snapshot, is_last in _snapshots(question, bot_id, word, f"You said: {text}"):
        fresh = snapshot["id"] not in world.messages
        world.keep(snapshot)
        event = {**snapshot, "guild_id": GUILD}
        if word == "partial" and not fresh:
            kept = ("id", "channel_id", "guild_id", "components" if is_last else "content")
            event = {name: event[name] for name in kept}
        await world.dispatch("MESSAGE_CREATE" if fresh else "MESSAGE_UPDATE", event)
        if word == "hang" and not fresh:
            return
        if word != "early" or id:
            await asyncio.sleep(step)
    if word != "partial":
        # Discord looks at the links of a message after it was written.
        late = {**snapshot, "guild_id": GUILD, "embeds": [*snapshot["embeds"], {"type": "link"}]}
        await world.dispatch("MESSAGE_UPDATE", late)


def _snapshots(
    question: JSON, bot_id: str, word: str, text: str
) -> Iterator[tuple[int, JSON, bool]]:
    """Each state of the reply (or replies): number, whole message, is it the last."""
    reply = {
        "type": 19,
        "message_reference": {
            "type": 0,
            "channel_id": question["channel_id"],
            "guild_id": GUILD,
            "message_id": question["id"],
        },
        "referenced_message": question,
        "mentions": [question["author"]],
    }
    author = _user(bot_id, "coze", True)
    made = new_message(question["channel_id"], author, "", **reply)
    if word == "spent":
        yield 0, {**made, "content": SPENT}, True
        return
    states = [text[: round(len(text) * part / 4)] for part in (1, 2, 3, 4)]
    if word == "rewrite":
        states.insert(2, "Let me think again")
    for number, state in enumerate(states):
        is_last = number == len(states) - 1
        message = {**made, "content": state}
        if number:
            message["edited_timestamp"] = "2024-01-01T00:00:01.000000+00:00"
        if is_last and word == "picture":
            message["embeds"] = [{"type": "rich", "image": {"url": "https://cdn.example/p.png"}}]
        if is_last and word == "partial":
            yield number, message, False
        if is_last and word not in ("nobuttons", "second"):
            message = {**message, "components": BUTTONS}
        yield number, message, is_last
    if word == "second":
        more = new_message(question["channel_id"], author, "And more.", **reply)
        yield len(states), more, False
        yield len(states) + 1, {**more, "components": BUTTONS}, True


# the gateway ------------------------------------------------------------------------------------


def _gateway_url(request: Request) -> str:
    return f"ws://{request.host}/discord/gw"


@blueprint.websocket("/gw")  # type: ignore[untyped-decorator]
async def gateway(request: Request, ws: WebsocketImplProtocol) -> None:
    await ws.send(
        encode({"t": None, "s": None, "op": 10, "d": {"heartbeat_interval": HEARTBEAT_MS}}).decode()
    )
    session: Session | None = None
    try:
        while True:
            data = await ws.recv()
            if data is None:
                return
            payload = msgspec.json.decode(data)
            match payload["op"]:
                case 1:
                    await ws.send('{"op":11}')
                case 2:
                    session = await _identify(request, ws, payload["d"])
                case 6:
                    session = await _resume(ws, payload["d"])
    finally:
        if session is not None and session.ws is ws:
            session.ws = None


async def _identify(request: Request, ws: WebsocketImplProtocol, data: JSON) -> Session | None:
    token, intents = data["token"], data["intents"]
    if not token.startswith(BOT_TOKENS):
        await ws.close(4004, "Authentication failed.")
        return None
    if "nointent" in token and intents & MESSAGE_CONTENT:
        await ws.close(4014, "Disallowed intent(s).")
        return None
    world.identified += 1
    session = Session(secrets.token_hex(16), intents, ws=ws)
    world.sessions[session.id] = session
    while len(world.sessions) > KEPT_SESSIONS:
        del world.sessions[next(iter(world.sessions))]
    ready = {
        "v": 10,
        "user": OWN_BOT,
        "guilds": [],
        "session_id": session.id,
        "session_type": "normal",
        "resume_gateway_url": _gateway_url(request),
        "private_channels": [],
        "relationships": [],
        "presences": [],
        "application": {"id": OWN_BOT["id"], "flags": 1 << 19},
    }
    await send_event(session, "READY", ready)
    return session


async def _resume(ws: WebsocketImplProtocol, data: JSON) -> Session | None:
    session = world.sessions.get(data["session_id"])
    if session is None:
        await ws.send('{"t":null,"s":null,"op":9,"d":false}')
        return None
    session.ws = ws
    for seq, text in list(session.sent):
        if seq > (data["seq"] or 0):
            await ws.send(text)
    await send_event(session, "RESUMED", {})
    return session


@blueprint.post("/_gateway")
async def control(request: Request) -> HTTPResponse:
    """What a gateway does to its clients now and then, at once and to all of them."""
    what = (request.json or {}).get("do", "")
    open_sessions = [session for session in world.sessions.values() if session.ws is not None]
    if what == "count":
        return answer({"sessions": len(open_sessions), "identified": world.identified})
    if what == "forget":
        world.sessions.clear()
    for session in open_sessions:
        ws, drop = session.ws, what in ("drop", "forget")
        if drop:
            session.ws = None
            await ws.close(4000, "Unknown error.")
        else:
            op = {"reconnect": (7, None), "invalid": (9, False), "resumable": (9, True)}[what]
            if what == "invalid":
                world.sessions.pop(session.id, None)
            await ws.send(encode({"t": None, "s": None, "op": op[0], "d": op[1]}).decode())
    return answer({"sessions": len(open_sessions), "identified": world.identified})
