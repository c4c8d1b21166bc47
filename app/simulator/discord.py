"""Discord, under /discord: the REST API; the gateway is in discord_gateway.py.

Complete enough for discord.py. Bot tokens begin with `bot-` or `demo-`; with `nointent` in one the
content intent is refused (4014). Any other token is a user's: `dead` 401, `locked` 40002, `rate-3`
three posts a second, `sim-429` ...
A user's message that mentions a bot is answered by it, as the word behind the last slash asks:
early (before the POST returns), nobuttons, silent, spent, picture, partial, rewrite, second, hang,
slow-N (N ms between edits).
POST /discord/_gateway {"do": "drop" | "reconnect" | "invalid" | "resumable" | "forget" | "count"}.
"""

import asyncio
import re
import secrets
import time
from typing import Any

import msgspec
from sanic import Blueprint, HTTPResponse, Request

from app.simulator import delivery
from app.simulator.delivery import Dialect, with_headers
from app.simulator.discord_bot import MENTION, reply_to
from app.simulator.discord_state import (
    GUILD,
    JSON,
    OWN_BOT,
    encode,
    new_message,
    next_id,
    state,
    user,
)
from app.simulator.faults import Refusal
from app.simulator.ledger import record_of

BOT_TOKENS = ("bot-", "demo-")
_RATE = re.compile(r"rate-(\d+)")

blueprint = Blueprint("discord", url_prefix="/discord")


def answer(body: Any, status: int = 200, headers: delivery.Headers = ()) -> HTTPResponse:
    """A JSON answer."""
    # discord.py reads JSON only when the type is exactly this, without a charset.
    response = HTTPResponse(encode(body), status, content_type="application/json")
    return with_headers(response, [("via", "1.1 google"), *headers])


def wrong(status: int, code: int, message: str) -> HTTPResponse:
    """An error answer with Discord's code."""
    return answer({"message": message, "code": code}, status)


def limited(seconds: float, scope: str = "user") -> HTTPResponse:
    """A 429 that says how many seconds to wait."""
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


async def check_request(request: Request) -> HTTPResponse | None:
    """Checks faults and the token; the answer when the request stops here, or None."""
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


# <who> is always @me, which Sanic's router does not find when it is written out.
@blueprint.get("/api/v10/users/<who>")
async def me(request: Request, who: str) -> HTTPResponse:
    """The user of the token."""
    refused = await check_request(request)
    key = record_of(request).key
    if not request.headers.get("authorization", "").startswith("Bot "):
        return refused or answer(user(user_id(key), "someone", False))
    if refused is None and not key.startswith(BOT_TOKENS):
        refused = wrong(401, 0, "401: Unauthorized")
    return refused or answer(OWN_BOT)


@blueprint.get("/api/v10/oauth2/applications/<who>")
async def application(request: Request, who: str) -> HTTPResponse:
    """The application of the bot token."""
    return await check_request(request) or answer(
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
            "owner": user("1000000000000000002", "owner", False),
        }
    )


@blueprint.get("/api/v10/gateway/bot")
async def gateway_bot(request: Request) -> HTTPResponse:
    """The gateway's address and the session start limit."""
    limit = {
        "total": 1000,
        "remaining": 1000 - state.identified,
        "reset_after": 14_400_000,
        "max_concurrency": 1,
    }
    url = gateway_url(request)
    return await check_request(request) or answer(
        {"url": url, "shards": 1, "session_start_limit": limit}
    )


@blueprint.get("/api/v10/channels/<channel>/messages")
async def read_messages(request: Request, channel: str) -> HTTPResponse:
    """Up to `limit` messages of a channel after the message `after`, newest first."""
    if refused := await check_request(request):
        return refused
    after, limit = int(request.args.get("after", "0")), int(request.args.get("limit", "50"))
    found = [
        message
        for message in state.messages.values()
        if message["channel_id"] == channel and int(message["id"]) > after
    ]
    page = sorted(found, key=lambda m: int(m["id"]))
    page = page[:limit] if after else page[-limit:]
    return answer(page[::-1])


@blueprint.get("/api/v10/channels/<channel>/messages/<id>")
async def read_message(request: Request, channel: str, id: str) -> HTTPResponse:
    """One message."""
    refused = await check_request(request)
    found = state.messages.get(id)
    return refused or (answer(found) if found else wrong(404, 10008, "Unknown Message"))


@blueprint.post("/api/v10/channels/<channel>/messages")
async def post_message(request: Request, channel: str) -> HTTPResponse:
    """Stores a message, dispatches it, and lets the mentioned bot reply."""
    if refused := await check_request(request):
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
    if body.get("enforce_nonce") and nonce in state.nonces:
        return answer(state.messages[state.nonces[nonce]], headers=headers)
    is_bot = request.headers.get("authorization", "").startswith("Bot ")
    author = OWN_BOT if is_bot else user(user_id(key), "someone", False)
    message = new_message(channel, author, content, attachments=attachments)
    message["nonce"] = body.get("nonce")
    mentions = MENTION.findall(content)
    message["mentions"] = [user(id, "coze", True) for id in mentions]
    state.put(message)
    state.nonces[nonce] = message["id"]
    await state.dispatch("MESSAGE_CREATE", {**message, "guild_id": GUILD})
    if mentions and not is_bot:  # a Coze bot does not listen to other bots
        task = asyncio.create_task(reply_to(message, mentions[-1]))
        state.answering.add(task)
        task.add_done_callback(state.answering.discard)
        if "/early" in content:
            await asyncio.sleep(0.15)
    return answer(message, headers=headers)


def _spend(key: str) -> list[tuple[str, str]] | None:
    """The headers of one more post by this account, None when it is one too many."""
    asked = _RATE.search(key)
    limit = int(asked[1]) if asked else 1000
    now = time.monotonic()
    recent = [at for at in state.posts.get(key, []) if at > now - 1.0]
    if len(recent) >= limit:
        return None
    recent.append(now)
    state.posts[key] = recent
    return [
        ("x-ratelimit-limit", str(limit)),
        ("x-ratelimit-remaining", str(limit - len(recent))),
        ("x-ratelimit-reset-after", f"{1.0 - (now - recent[0]):.3f}"),
        ("x-ratelimit-bucket", "abcd1234"),
    ]


def user_id(key: str) -> str:
    """The id of the account behind a user token."""
    return str(1_000_000_000_000_001_000 + sum(key.encode()) % 1000)


def gateway_url(request: Request) -> str:
    """The websocket address of the gateway."""
    return f"ws://{request.host}/discord/gw"
