"""ChatGPT's website as an upstream: a person's own session, or none, asked like the site asks.

Two steps: `prepare` fetches what the guard wants to see with the question (and uploads pictures,
looks up where a conversation stands, renews a token that is about to end); `request` is then pure.
Private and undocumented; facts from public clients. No challenge is solved here: what only a
browser can give comes from the caller or from the operator's own HAR, or is a clear error.
"""

import hashlib
import re
import uuid
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import msgspec
from msgspec import Struct

from app.config.schema import Config
from app.wire.asked import Asked
from app.wire.chat import (
    ChatRequest,
    Message,
    Part,
    plain,
    read_members,
)
from app.wire.cookies import after_set_cookie, cookie_header, jwt_expiry, read_cookie_header
from app.wire.errors import GatewayError, bad_request, bad_response, from_validation
from app.wire.image_bytes import Picture, read_picture
from app.wire.provider import Call, Decoder, ForwardRule, Key, Native, Provider, Upstream
from app.wire.upstream import Headers, UpstreamReply, UpstreamRequest, join_url
from providers.openai import sentinel, web_errors, web_images
from providers.openai.har import SESSION_COOKIE, TO_BE_RENEWED
from providers.openai.web_decode import AnswerFrames, OwnStream, WebDecoder
from providers.openai.web_schema import (
    Conversation,
    NativeAsk,
    Node,
    OpenAIMember,
    SignedIn,
    UploadPlace,
    WebModels,
)

POOL = "openai.web_sessions"
ANONYMOUS_POOL = "openai.anonymous"  # never configured: the routes that ask without an account
# The browser client's own (a test compares): the proof of work must name the one that is sent.
USER_AGENT = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/150.0.0.0 Safari/537.36"
)
RENEW_BEFORE_SECONDS = 600
_PICTURES = "image/avif,image/webp,image/apng,image/*,*/*;q=0.8"
# Of a raw request: what tells who asks, and from where.
_REPLACED = ("authorization", "oai-device-id", "oai-language", "chatgpt-account-id")
ARKOSE_LIVES_SECONDS = 600
_IN_PATH = re.compile(r"conversation/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:/|$)")
_HOST = re.compile(r"[A-Za-z0-9.:\[\]-]{1,255}\Z")

T = TypeVar("T")


class ChatCall(Struct):
    """What the caller wants, read once however many sessions are tried.

    Either `prompt` with `pictures` (an OpenAI-shaped request) or `native`, the site's own body.
    """

    state: Conversation
    message_id: str | None = None
    arkose_token: str | None = None
    prompt: str = ""
    pictures: list[Picture] = []
    native: dict[str, Any] | None = None
    dropped: list[str] = []


class Ready(Struct):
    """What `prepare` found out."""

    requirements: sentinel.Requirements
    cookies: str
    device_id: str
    conversation_id: str
    parent_id: str
    message_id: str
    proof: str | None = None
    arkose_token: str | None = None
    files: list[str] = []


# Reading what the caller sent


def read(chat: ChatRequest, asked: Asked) -> ChatCall:
    """An OpenAI-shaped request. Raises GatewayError 400 for what the site cannot be asked."""
    member = asked.member("openai", OpenAIMember) or OpenAIMember()
    _refuse_unsupported(chat)
    state = member.state()
    prompt, pictures = _question(chat.messages, continued=state.conversation_id is not None)
    return ChatCall(
        state,
        member.message_id or None,
        member.arkose_token or None,
        prompt,
        pictures,
        dropped=[name for name in _DROPPED if getattr(chat, name) is not None]
        + ["cache_control"] * chat.has_cache_marks(),
    )


def read_native(asked: Asked) -> ChatCall:
    """The site's own body: what it must have is there, everything else stays as it is."""
    body = asked.body
    try:
        must = msgspec.json.decode(body, type=NativeAsk)
        native = read_members(body)  # values stay bytes, whatever their size
        body.decode()  # which have not been looked at
    except msgspec.ValidationError as error:
        raise from_validation(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad_request(f"The body is not valid JSON: {error}.", code="invalid_json") from None
    if not must.messages:
        raise bad_request("A question needs a message.", param="messages")
    for name in ("stream", "provider", "openai"):
        native.pop(name, None)
    state = Conversation(must.conversation_id or None, None, must.parent_message_id)
    return ChatCall(state, must.messages[0].id, must.arkose_token or None, native=native)


_DROPPED = (
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "stop",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "parallel_tool_calls",
    "reasoning_effort",
    "modalities",
)


def _refuse_unsupported(chat: ChatRequest) -> None:
    def no(param: str, what: str) -> GatewayError:
        return bad_request(
            f"ChatGPT web cannot be asked {what}; leave {param} out or use another provider.",
            param=param,
            code="unsupported_parameter",
        )

    if chat.n is not None and chat.n != 1:
        raise no("n", "for several answers")
    if chat.tools and chat.tool_choice != "none":
        raise no("tools", "to call tools")
    if chat.functions and chat.function_call != "none":
        raise no("functions", "to call functions")
    if chat.logprobs:
        raise no("logprobs", "for log probabilities")
    if plain(chat.response_format or {}).get("type") in ("json_schema", "json_object"):
        raise no("response_format", "for JSON of a given shape")


def _question(messages: list[Message], continued: bool) -> tuple[str, list[Picture]]:
    """The one message that is sent: the new turn, or the whole history as a transcript.

    Earlier answers are not sent as messages of their own: models tend to go on with them.
    """
    first = 0
    if continued:
        answers = [i for i, message in enumerate(messages) if message.role == "assistant"]
        first = answers[-1] + 1 if answers else 0
    system: list[str] = []
    turns: list[tuple[str, str]] = []
    pictures: list[Picture] = []
    for i, message in enumerate(messages[first:], first):
        text = _text(message, f"messages[{i}]", pictures)
        if message.role in ("system", "developer"):
            if not continued and text:  # a continued conversation has had it
                system.append(text)
        elif text:
            turns.append((message.role, text))
    if not turns and not pictures:
        raise bad_request(
            "There is no new message to send: the last one must be the user's.", param="messages"
        )
    if continued or (len(turns) <= 1 and all(role == "user" for role, _ in turns)):
        return "\n\n".join([*system, *(text for _, text in turns)]), pictures
    transcript = [f"{_SPEAKERS.get(role, role.capitalize())}: {text}" for role, text in turns]
    return "\n\n".join([*system, *transcript]), pictures


_SPEAKERS = {"user": "User", "assistant": "Assistant", "tool": "Tool", "function": "Tool"}


def _text(message: Message, at: str, pictures: list[Picture]) -> str:
    texts = []
    for j, part in enumerate(message.parts()):
        where = f"{at}.content[{j}]"
        match part.type:
            case "text" | "input_text":
                texts.append(part.text or "")
            case "refusal":
                texts.append(part.refusal or "")
            case "image_url":
                pictures.append(read_picture(part, f"{where}.image_url"))
            case _:
                raise _unsupported(part, where)
    for call in message.tool_calls or []:
        if call.function is not None:
            texts.append(f"[called {call.function.name}({call.function.arguments or ''})]")
    return "\n".join(text for text in texts if text)


def _unsupported(part: Part, where: str) -> GatewayError:
    return bad_request(
        f"ChatGPT web takes text and images; a part of type {part.type[:40]!r} cannot be sent.",
        param=where,
        code="unsupported_content",
    )


def index(asked: Asked) -> str | None:
    member = asked.member("openai", OpenAIMember)
    return member.state().index if member is not None else None


def session(call: Call) -> dict[str, Any]:
    return {"openai": _session(call)}


def _session(call: Call) -> dict[str, Any]:
    """What every chunk carries for the next turn; the conversation is added when it is known."""
    if call.key.id:
        return {"index": call.key.id}
    if not call.key.val:
        return {"device_id": _device(call)}
    return {}


# Who asks


def _device(call: Call) -> str:
    """A browser keeps its device id: one per session, or per conversation without an account."""
    key = call.key
    if key.fields.get("device_id"):
        return key.fields["device_id"]
    if key.val:
        return _device_of(key)
    held: str | None = call.chat.state.device_id if isinstance(call.chat, ChatCall) else None
    try:
        return str(uuid.UUID(held or ""))
    except ValueError:
        if call.learned is not None:
            found: str = call.learned.device_id
            return found
        return str(uuid.UUID(hex=call.new_id()))


def _device_of(key: Key) -> str:
    name = f"{key.pool}/{key.id}" if key.id else key.val
    digest = hashlib.sha256(b"device\n" + name.encode()).digest()
    return str(uuid.UUID(bytes=digest[:16], version=4))


def user_agent(key: Key) -> str:
    return key.fields.get("user_agent") or USER_AGENT


def origin(config: Config) -> str:
    return config.openai.chat_web_url.rstrip("/")


def proxy(config: Config) -> str | None:
    return config.openai.proxy_url or config.proxy_url or None


def browser_headers(key: Key, config: Config, device_id: str, cookies: str) -> Headers:
    """What the site's own script sends with everything it asks."""
    headers: Headers = [
        ("Accept", "*/*"),
        ("Accept-Language", key.fields.get("accept_language") or "en-US,en;q=0.9"),
        ("Origin", origin(config)),
        ("Referer", origin(config) + "/"),
        ("User-Agent", user_agent(key)),
        ("OAI-Language", key.fields.get("oai_language") or "en-US"),
        ("OAI-Device-Id", device_id),
    ]
    for name in ("sec-ch-ua", "sec-ch-ua-mobile", "sec-ch-ua-platform"):
        if key.fields.get(name):
            headers.append((name, key.fields[name]))
    if key.val:
        headers.append(("Authorization", f"Bearer {key.val}"))
    if key.fields.get("account_id"):
        headers.append(("ChatGPT-Account-Id", key.fields["account_id"]))
    jar = read_cookie_header(cookies)
    jar.setdefault("oai-did", device_id)
    headers.append(("Cookie", cookie_header(jar)))
    return headers


def _side(key: Key) -> str:
    return "/backend-api" if key.val else "/backend-anon"


class _Visitor(Struct):
    """One session at work: its headers, and the cookies it is given on the way."""

    call: Call
    upstream: Upstream
    device_id: str
    cookies: str

    async def send(
        self, method: str, path: str, body: Any = None, renewing: bool = False
    ) -> UpstreamReply:
        call = self.call
        key = msgspec.structs.replace(call.key, val="") if renewing else call.key
        headers = browser_headers(key, call.config, self.device_id, self.cookies)
        if body is not None:
            headers.append(("Content-Type", "application/json"))
        reply = await self.upstream.send(
            UpstreamRequest(
                method=method,
                url=join_url(call.config.openai.chat_web_url, path),
                headers=headers,
                body=None if body is None else msgspec.json.encode(body),
                via="browser",
                proxy=proxy(call.config),
            )
        )
        self.cookies = after_set_cookie(self.cookies, reply.set_cookies, call.now)
        return reply

    async def ask(self, method: str, path: str, body: Any, shape: type[T]) -> T:
        """One JSON answer. Raises the error it stands for when it is none."""
        reply = await self.send(method, path, body)
        if not 200 <= reply.status < 300 or web_errors.is_challenge(reply):
            raise web_errors.read_error(reply, anonymous=not self.call.key.val)
        try:
            return msgspec.json.decode(reply.body, type=shape)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise bad_response(f"chatgpt.com's answer to {path} is not what was due.") from None


async def prepare(call: Call, upstream: Upstream) -> Call:
    """Everything that comes before the question itself."""
    call = await _with_living_token(call, upstream)
    ask: ChatCall = call.chat
    visitor = _Visitor(call, upstream, _device(call), call.key.fields.get("cookies", ""))
    if ask.pictures and not call.key.val:
        raise bad_request(
            "Images need a ChatGPT account; configure openai.web_sessions or send a token.",
            param="messages",
            code="unsupported_content",
        )
    files = [await _upload(visitor, picture, n) for n, picture in enumerate(ask.pictures, 1)]
    conversation_id = ask.state.conversation_id or ""
    parent_id = await _parent(visitor, ask)
    array = _browser(call)
    p = sentinel.question(call.config.openai.pow, array, f"0.{int(call.new_id()[:13], 16)}")
    requirements = await _requirements(visitor, p)
    if requirements.force_login and not call.key.val:
        raise web_errors.login_required()
    if call.key.val and requirements.persona == "chatgpt-noauth":
        raise web_errors.token_expired("token_not_accepted")
    arkose_token = await _arkose_token(call, upstream, ask, requirements)
    ready = Ready(
        requirements,
        visitor.cookies,
        visitor.device_id,
        conversation_id,
        parent_id,
        ask.message_id or str(uuid.UUID(hex=call.new_id())),
        await _proof(upstream, call.config.openai.pow, array, requirements),
        arkose_token,
        files,
    )
    return msgspec.structs.replace(call, learned=ready)


async def _with_living_token(call: Call, upstream: Upstream) -> Call:
    """A token at its end is renewed where the session's cookie allows it, else refused here."""
    key = call.key
    ends = jwt_expiry(key.val) if key.val else None
    if key.val == TO_BE_RENEWED:
        ends = 0
    if ends is None or ends - call.now > RENEW_BEFORE_SECONDS:
        return call
    cookies = key.fields.get("cookies", "")
    if key.id and SESSION_COOKIE in cookies:
        visitor = _Visitor(call, upstream, _device(call), cookies)
        token = read_session(await visitor.send("GET", "/api/auth/session", renewing=True))
        if token is not None:
            fields = {**key.fields, "cookies": visitor.cookies}
            key = Key(key.pool, key.id, token, fields)
            await upstream.renew(key)
            return msgspec.structs.replace(call, key=key)
    if ends <= call.now:
        raise web_errors.token_expired()
    return call


def read_session(reply: UpstreamReply) -> str | None:
    """The access token of a signed-in session. Signed out is a 200 too, without a token."""
    if reply.status != 200:
        return None
    try:
        return msgspec.json.decode(reply.body, type=SignedIn).accessToken or None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


async def _parent(visitor: _Visitor, ask: ChatCall) -> str:
    """The message the question follows. In an answer, last_message_id is the assistant's."""
    state, call = ask.state, visitor.call
    if ask.native is not None:
        return state.parent_message_id or ""
    if state.conversation_id is None:
        return str(uuid.UUID(hex=call.new_id()))
    known = state.last_message_id or state.parent_message_id
    if known:
        return known
    path = "/backend-api/conversation/" + quote(state.conversation_id, safe="")
    found = (await visitor.ask("GET", path, None, Node)).current_node if call.key.val else None
    if found:
        return found
    raise bad_request(
        "Say which message to go on from: send back last_message_id as it was handed out.",
        param="openai.conversation.last_message_id",
    )


async def _requirements(visitor: _Visitor, p: str) -> sentinel.Requirements:
    path = _side(visitor.call.key) + "/sentinel/chat-requirements"
    reply = await visitor.send("POST", path, {"p": p})
    if reply.status == 403 and not web_errors.is_challenge(reply):
        reply = await visitor.send("POST", path, {"p": p})  # nothing was asked yet: once more
    if reply.status != 200 or web_errors.is_challenge(reply):
        raise web_errors.read_error(reply, anonymous=not visitor.call.key.val)
    found = sentinel.read_requirements(reply.body)
    if found is None:
        raise bad_response("chatgpt.com's guard answered without a token.")
    return found


async def _arkose_token(
    call: Call, upstream: Upstream, ask: ChatCall, requirements: sentinel.Requirements
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
    rest = {name: value for name, value in fields.items() if name != "arkose_token"}
    await upstream.renew(Key(call.key.pool, call.key.id, call.key.val, rest))
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


async def _upload(visitor: _Visitor, picture: Picture, number: int) -> str:
    """A picture becomes a file of the account; its id."""
    place = await visitor.ask(
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
    stored = await visitor.upstream.send(
        UpstreamRequest(
            method="PUT",
            url=place.upload_url,
            headers=[  # no authorization: the address itself is signed
                ("Content-Type", picture.media_type),
                ("x-ms-blob-type", "BlockBlob"),
                ("x-ms-version", "2020-04-08"),
                ("Origin", origin(visitor.call.config)),
                ("User-Agent", user_agent(visitor.call.key)),
            ],
            body=picture.data,
            via="browser",
            proxy=proxy(visitor.call.config),
        )
    )
    if stored.status not in (200, 201):
        raise bad_response(f"chatgpt.com's storage refused an image (HTTP {stored.status}).")
    await visitor.ask("POST", f"/backend-api/files/{place.file_id}/uploaded", {}, dict[str, Any])
    return place.file_id


# The question


def request(call: Call) -> UpstreamRequest:
    ask: ChatCall = call.chat
    ready: Ready = call.learned
    call.dropped[:] = ask.dropped
    headers = browser_headers(call.key, call.config, ready.device_id, ready.cookies)
    headers[0] = ("Accept", "text/event-stream")
    headers.append(("Content-Type", "application/json"))
    token = ready.requirements.token
    headers.append(("OpenAI-Sentinel-Chat-Requirements-Token", token))
    if ready.proof is not None:
        headers.append(("OpenAI-Sentinel-Proof-Token", ready.proof))
    if ready.arkose_token is not None:
        headers.append(("OpenAI-Sentinel-Arkose-Token", ready.arkose_token))
    turnstile = call.headers.get("openai-sentinel-turnstile-token")
    if turnstile:
        headers.append(("OpenAI-Sentinel-Turnstile-Token", turnstile))
    return UpstreamRequest(
        method="POST",
        url=join_url(call.config.openai.chat_web_url, _side(call.key) + "/conversation"),
        headers=headers,
        body=msgspec.json.encode(_body(call, ask, ready)),
        via="browser",
        proxy=proxy(call.config),
    )


def _body(call: Call, ask: ChatCall, ready: Ready) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "action": "next",
        "parent_message_id": ready.parent_id,
        "model": call.model or "auto",
        "timezone_offset_min": 0,
        "suggestions": [],
        "history_and_training_disabled": False,
        "conversation_mode": {"kind": "primary_assistant"},
        "force_paragen": False,
        "force_paragen_model_slug": "",
        "force_nulligen": False,
        "force_rate_limit": False,
        "force_use_sse": True,
        "websocket_request_id": str(uuid.UUID(hex=call.new_id())),
    }
    if ask.native is not None:
        given = dict(ask.native)
        if not ask.state.conversation_id:
            given.pop("conversation_id", None)  # absent for a new one, not null, not ""
        return {**defaults, **given}
    if ready.conversation_id:
        defaults["conversation_id"] = ready.conversation_id
    message: dict[str, Any] = {
        "id": ready.message_id,
        "author": {"role": "user"},
        "content": {"content_type": "text", "parts": [ask.prompt]},
        "metadata": {},
    }
    if ready.files:
        pointers = [
            {
                "content_type": "image_asset_pointer",
                "asset_pointer": f"file-service://{file}"
                if file.startswith("file-")
                else f"sediment://{file}",
                "size_bytes": len(picture.data),
                "width": picture.width,
                "height": picture.height,
            }
            for file, picture in zip(ready.files, ask.pictures, strict=True)
        ]
        message["content"] = {
            "content_type": "multimodal_text",
            "parts": [*pointers, *([ask.prompt] if ask.prompt else [])],
        }
        message["metadata"] = {
            "attachments": [
                {
                    "id": file,
                    "name": picture.name(n),
                    "size": len(picture.data),
                    "mime_type": picture.media_type,
                    "width": picture.width,
                    "height": picture.height,
                }
                for n, (file, picture) in enumerate(zip(ready.files, ask.pictures, strict=True), 1)
            ]
        }
    return {**defaults, "messages": [message]}


# The answer


def frames(call: Call) -> AnswerFrames:
    return AnswerFrames(origin(call.config), user_agent(call.key), proxy(call.config))


def decoder(call: Call) -> Decoder:
    ask: ChatCall = call.chat
    ready: Ready = call.learned
    key = call.key
    base = public_address(call.headers, call.config)

    def image_link(pointer: str, conversation_id: str) -> str | None:
        path = web_images.link(pointer, conversation_id, key)
        return base + path if path is not None else None

    native = ask.native is not None
    return WebDecoder(
        frames(call),
        image_link=image_link,
        model=call.model,
        own_ids=(ready.message_id,),
        parent_id=ready.parent_id if ready.conversation_id or native else None,
        session=_session(call),
        prompt_size=len(ask.prompt),
        max_bytes=call.config.limits.response_bytes,
    )


def public_address(headers: Mapping[str, str], config: Config) -> str:
    """The gateway's own address as this caller sees it, "" where they do not say."""
    host = headers.get("host") or ""
    if not _HOST.match(host):
        return ""
    proto = (headers.get("x-forwarded-proto") or "").lower()
    if proto not in ("http", "https"):
        proto = "https" if config.https_info.enable else "http"
    return f"{proto}://{host}"


def own_stream(call: Call) -> Decoder:
    return OwnStream(frames(call), call.config.limits.response_bytes)


def session_request(config: Config, key: Key, path: str) -> UpstreamRequest:
    """A page of the backend as this session's browser asks for it."""
    device = key.fields.get("device_id") or _device_of(key)
    return UpstreamRequest(
        method="GET",
        url=join_url(config.openai.chat_web_url, path),
        headers=browser_headers(key, config, device, key.fields.get("cookies", "")),
        via="browser",
        proxy=proxy(config),
    )


def picture_request(config: Config, address: str) -> UpstreamRequest:
    """A picture at the storage's signed address; no credential goes there."""
    return UpstreamRequest(
        method="GET",
        url=address,
        headers=[("Accept", _PICTURES), ("sec-fetch-dest", "image"), ("sec-fetch-mode", "no-cors")],
        via="browser",
        proxy=proxy(config),
    )


def address_request(config: Config, key: Key, address: str) -> UpstreamRequest | None:
    """The picture at the address the backend told: its own, or the storage's. None elsewhere."""
    own = origin(config) + "/"
    if address.startswith(own):
        return session_request(config, key, "/" + address[len(own) :])
    host = urlsplit(address).hostname or ""
    is_storage = host == "files.oaiusercontent.com" or host.endswith(".oaiusercontent.com")
    if address.startswith("https://") and is_storage:
        return picture_request(config, address)
    return None


def read_error(reply: UpstreamReply) -> GatewayError:
    return web_errors.read_error(reply)


def explain(call: Call, reply: UpstreamReply) -> GatewayError:
    """A refused question. A missing Turnstile answer is often let pass, and sometimes not."""
    ready: Ready = call.learned
    error = web_errors.read_error(reply, anonymous=not call.key.val)
    turnstile = ready.requirements.turnstile
    if (
        reply.status == 403
        and error.code != "cloudflare_challenge"
        and turnstile is not None
        and turnstile.required
        and not call.headers.get("openai-sentinel-turnstile-token")
    ):
        return web_errors.turnstile_required()
    if call.chat.native is not None and error.code != "cloudflare_challenge":
        error.raw = reply.body if reply.body[:1] == b"{" else None
    return error


def conversation(ask: ChatCall) -> str | None:
    """The conversation a body goes on with."""
    return ask.state.conversation_id


def conversation_of(own: dict[str, Any]) -> str | None:
    """The conversation in what is handed out."""
    found: str | None = own["openai"].get("conversation_id")
    return found


def models_request(config: Config, key: Key) -> UpstreamRequest:
    return session_request(config, key, _side(key) + "/models")


def read_models(reply: UpstreamReply) -> list[dict[str, Any]]:
    found = msgspec.json.decode(reply.body, type=WebModels).models
    return [
        {"id": model.slug, "object": "model", "created": 0, "owned_by": "openai"}
        for model in found
        if model.slug
    ]


PROVIDER = Provider(
    name="openai-chat-web",
    pool=POOL,
    read=read,
    request=request,
    read_error=read_error,
    decoder=decoder,
    index=index,
    session=session,
    prepare=prepare,
    explain=explain,
    conversation=conversation,
    conversation_of=conversation_of,
    # The site's own body, answered in OpenAI's words or with the site's own stream.
    native=Native(
        wire="chatgpt-web",
        read=read_native,
        request=request,
        prepare=prepare,
        untouched=own_stream,
        index=lambda asked: None,
    ),
    anonymous=True,
    models_request=models_request,
    read_models=read_models,
)

# Nobody's session.
ANONYMOUS = msgspec.structs.replace(PROVIDER, pool=ANONYMOUS_POOL, takes_own_key=False)


def _own(headers: Mapping[str, str]) -> str:
    return headers.get("authorization", "")


def _credential(key: Key, headers: Mapping[str, str], config: Config) -> Headers:
    """A raw request as this session's browser sends it, but for what the caller says better."""
    device = key.fields.get("device_id") or _device_of(key)
    said = browser_headers(key, config, device, key.fields.get("cookies", ""))
    return [(n, v) for n, v in said if n.lower() not in ("accept", "accept-language")]


def _proxy(config: Config) -> str:
    return config.openai.proxy_url


def _conversation_in(path: str) -> str | None:
    found = _IN_PATH.match(path)
    return found[1] if found else None


FORWARDS = tuple(
    ForwardRule(
        prefix=prefix,
        upstream_prefix=prefix,
        provider="openai-chat-web",
        pool=POOL,
        base=origin,
        proxy=_proxy,
        via="browser",
        credential=_credential,
        credential_headers=_REPLACED,
        own=_own,
        anonymous=True,
        conversation=_conversation_in,
        read_error=read_error,
    )
    for prefix in ("/backend-api/", "/public-api/")
)
