"""What the website wants before a question: a valid token, the guard's checks, uploaded pictures.

No challenge is solved here: what only a browser can give comes from the caller or from the
operator's own HAR, or is a clear error. Source: public clients of chatgpt.com.
"""

import uuid
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Struct

from app.config.schema import Config
from app.wire.cookies import after_set_cookie, jwt_expiry
from app.wire.errors import bad_request, bad_response
from app.wire.image_bytes import Picture
from app.wire.provider import Call, Key, Send, Upstream
from app.wire.upstream import UpstreamReply, UpstreamRequest
from providers.openai import sentinel, web_errors, web_images
from providers.openai.har import SESSION_COOKIE, TO_BE_RENEWED
from providers.openai.web_question import WebQuestion
from providers.openai.web_schema import Node, SignedIn, UploadPlace
from providers.openai.web_session import (
    SessionClient,
    backend,
    device_id,
    origin,
    proxy,
    session_request,
    user_agent,
)

RENEW_BEFORE_SECONDS = 600
ARKOSE_LIVES_SECONDS = 600


class Ready(Struct):
    """What `prepare` found out; `files` are the ids of the uploaded pictures."""

    requirements: sentinel.Requirements
    cookies: str
    device_id: str
    conversation_id: str
    parent_id: str
    message_id: str
    proof: str | None = None
    arkose_token: str | None = None
    files: list[str] = []


async def prepare(call: Call, upstream: Upstream) -> Call:
    """Makes the requests that come before the question itself.

    Raises GatewayError for a refusal, and for what only a browser or an account can give.
    """
    key = await refresh(call.key, call.config, call.now, upstream.send)
    if key is not call.key:
        await upstream.renew(key)
        call = msgspec.structs.replace(call, key=key)
    ask: WebQuestion = call.chat
    client = SessionClient(call, upstream, device_id(call), call.key.fields.get("cookies", ""))
    if ask.pictures and not call.key.val:
        raise bad_request(
            "Images need a ChatGPT account; configure openai.web_sessions or send a token.",
            param="messages",
            code="unsupported_content",
        )
    files = [await _upload(client, picture, n) for n, picture in enumerate(ask.pictures, 1)]
    conversation_id = ask.state.conversation_id or ""
    parent_id = await _parent(client, ask)
    array = _browser(call)
    p = sentinel.question(call.config.openai.pow, array, f"0.{int(call.new_id()[:13], 16)}")
    requirements = await _requirements(client, p)
    if requirements.force_login and not call.key.val:
        raise web_errors.login_required()
    if call.key.val and requirements.persona == "chatgpt-noauth":
        raise web_errors.token_expired("token_not_accepted")
    arkose_token = await _arkose_token(call, upstream, ask, requirements)
    ready = Ready(
        requirements,
        client.cookies,
        client.device_id,
        conversation_id,
        parent_id,
        ask.message_id or str(uuid.UUID(hex=call.new_id())),
        await _proof(upstream, call.config.openai.pow, array, requirements),
        arkose_token,
        files,
    )
    return msgspec.structs.replace(call, learned=ready)


async def refresh(key: Key, config: Config, now: int, send: Send) -> Key:
    """Renews a token that is about to expire where the session has a cookie for it.

    Raises GatewayError 401 for an expired token that cannot be renewed.
    """
    ends = jwt_expiry(key.val) if key.val else None
    if key.val == TO_BE_RENEWED:
        ends = 0
    if ends is None or ends - now > RENEW_BEFORE_SECONDS:
        return key
    cookies = key.fields.get("cookies", "")
    if key.id and SESSION_COOKIE in cookies:
        unsigned = msgspec.structs.replace(key, val="")  # the access token stays out
        reply = await send(session_request(config, unsigned, "/api/auth/session"))
        token = read_session(reply)
        if token is not None:
            fields = {**key.fields, "cookies": after_set_cookie(cookies, reply.set_cookies, now)}
            return Key(key.pool, key.id, token, fields)
    if ends <= now:
        raise web_errors.token_expired()
    return key


def read_session(reply: UpstreamReply) -> str | None:
    """The access token of a signed-in session. Signed out is a 200 too, without a token."""
    if reply.status != 200:
        return None
    try:
        return msgspec.json.decode(reply.body, type=SignedIn).accessToken or None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


async def _parent(client: SessionClient, ask: WebQuestion) -> str:
    """The id of the message that the question follows: the assistant's last one."""
    state, call = ask.state, client.call
    if ask.native is not None:
        return state.parent_message_id or ""
    if state.conversation_id is None:
        return str(uuid.UUID(hex=call.new_id()))
    known = state.last_message_id or state.parent_message_id
    if known:
        return known
    path = "/backend-api/conversation/" + quote(state.conversation_id, safe="")
    found = (await client.request("GET", path, None, Node)).current_node if call.key.val else None
    if found:
        return found
    raise bad_request(
        "Say which message to go on from: send back last_message_id as it was handed out.",
        param="openai.conversation.last_message_id",
    )


async def _requirements(client: SessionClient, p: str) -> sentinel.Requirements:
    path = backend(client.call.key) + "/sentinel/chat-requirements"
    reply = await client.send("POST", path, {"p": p})
    if reply.status == 403 and not web_errors.is_challenge(reply):
        reply = await client.send("POST", path, {"p": p})  # nothing was asked yet: once more
    if reply.status != 200 or web_errors.is_challenge(reply):
        raise web_errors.read_error(reply, anonymous=not client.call.key.val)
    found = sentinel.read_requirements(reply.body)
    if found is None:
        raise bad_response("chatgpt.com's guard answered without a token.")
    return found


async def _arkose_token(
    call: Call, upstream: Upstream, ask: WebQuestion, requirements: sentinel.Requirements
) -> str | None:
    if requirements.arkose is None or not requirements.arkose.required:
        return ask.arkose_token
    if ask.arkose_token:
        return ask.arkose_token
    fields = call.key.fields
    found = fields.get("arkose_token")
    if not found or call.now - int(fields.get("arkose_at") or 0) > ARKOSE_LIVES_SECONDS:
        raise web_errors.arkose_required()
    # It opens one question only: forgotten before it is used.
    remaining = {name: value for name, value in fields.items() if name != "arkose_token"}
    await upstream.renew(Key(call.key.pool, call.key.id, call.key.val, remaining))
    return found


def _browser(call: Call) -> tuple[Any, ...]:
    """The browser as the proof of work describes it: the HAR's own where there is one."""
    held = sentinel.array_of(call.key.fields.get("proof", ""))
    if held is not None:
        return sentinel.dated(held, call.now)
    return sentinel.browser_array(
        call.config.openai.pow, user_agent(call.key), call.now, call.new_id()
    )


async def _proof(
    upstream: Upstream,
    kind: sentinel.Kind,
    array: tuple[Any, ...],
    requirements: sentinel.Requirements,
) -> str | None:
    work = requirements.proofofwork
    if work is None or not work.required:
        return None
    if work.seed is None or not work.difficulty:
        raise web_errors.proof_failed("chatgpt.com did not say which")
    if sentinel.expected_tries(work.difficulty) > sentinel.MAX_EXPECTED_TRIES:
        raise web_errors.proof_failed("chatgpt.com asks for too much of it")
    puzzle = sentinel.Puzzle(kind, work.seed, work.difficulty, array)
    at_once = sentinel.AT_ONCE[kind]
    found = sentinel.search(puzzle, 0, at_once)
    if found is None:
        try:
            found = await upstream.offload(
                sentinel.search, puzzle, at_once, sentinel.MAX_TRIES[kind] - at_once
            )
        except TimeoutError:
            raise web_errors.proof_failed("it took too long") from None
    if found is None:
        raise web_errors.proof_failed("no answer was found in time")
    return sentinel.ANSWER_PREFIX + found


async def _upload(client: SessionClient, picture: Picture, number: int) -> str:
    """Uploads a picture as a file of the account; returns the file id."""
    place = await client.request(
        "POST",
        "/backend-api/files",
        {
            "file_name": picture.name(number),
            "file_size": len(picture.data),
            "use_case": "multimodal",
            "timezone_offset_min": 0,
        },
        UploadPlace,
    )
    if not web_images.FILE.match(place.file_id) or not place.upload_url.startswith("http"):
        raise bad_response("chatgpt.com gave no place for an upload.")
    stored = await client.upstream.send(
        UpstreamRequest(
            method="PUT",
            url=place.upload_url,
            headers=[  # no authorization: the address itself is signed
                ("Content-Type", picture.media_type),
                ("x-ms-blob-type", "BlockBlob"),
                ("x-ms-version", "2020-04-08"),
                ("Origin", origin(client.call.config)),
                ("User-Agent", user_agent(client.call.key)),
            ],
            body=picture.data,
            via="browser",
            proxy=proxy(client.call.config),
        )
    )
    if stored.status not in (200, 201):
        raise bad_response(f"chatgpt.com's storage refused an image (HTTP {stored.status}).")
    await client.request("POST", f"/backend-api/files/{place.file_id}/uploaded", {}, dict[str, Any])
    return place.file_id
