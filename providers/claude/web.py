"""claude.ai as an upstream: a person's own signed-in session, asked like its web app asks.

    organization (unless known) -> conversation (unless continued) -> files -> the question

Private and undocumented; facts from public clients and captures. The history lives upstream, so a
continued conversation is sent only what is new, and a new one everything at once.
"""

import re
import uuid
from base64 import b64decode
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec
from msgspec import Struct

from app.config.schema import Config
from app.wire.asked import Asked
from app.wire.chat import ChatRequest, Message, Part, plain
from app.wire.cookies import after_set_cookie, read_cookie, read_cookie_header
from app.wire.errors import GatewayError, bad_request, bad_response
from app.wire.image_bytes import Picture, read_picture
from app.wire.provider import Call, Decoder, ForwardRule, Key, Provider, Upstream
from app.wire.upstream import Headers, UpstreamReply, UpstreamRequest, join_url
from providers.claude import attachments, web_errors
from providers.claude.schema import Base64Source, ImageBlock, TextSource
from providers.claude.web_decode import WebDecoder, told_conversation
from providers.claude.web_schema import (
    ClaudeMember,
    Conversation,
    Created,
    Organization,
    Uploaded,
)

POOL = "claude.web_sessions"
FIRST_MESSAGE = "00000000-0000-4000-8000-000000000000"  # the parent of a conversation's first turn
PASTED_ABOVE = 30_000  # characters; a longer history goes along as an attached text
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")
_IN_PATH = re.compile(r"/chat_conversations/([0-9a-fA-F-]{36})(?:/|$)")

_NOT_IN_A_NAME = re.compile(r"[^\w .()\[\]+-]")

T = TypeVar("T")


class Document(Struct, frozen=True):
    """A file that goes up as it is."""

    media_type: str
    data: bytes
    title: str

    def name(self, number: int) -> str:
        return self.title or f"file-{number}.pdf"


class Enclosed(Struct):
    """What comes with the words: files to be uploaded, and texts that go along as they are."""

    files: list[Picture | Document] = []
    texts: list[dict[str, Any]] = []


class ChatCall(Struct):
    """What the caller wants, read once however many sessions are tried."""

    conversation: Conversation
    prompt: str
    pasted: str  # a long history, "" when the prompt holds all
    enclosed: Enclosed
    model: str | None
    thinks: bool
    dropped: list[str]


class Ready(Struct):
    """What `prepare` found out."""

    organization_id: str
    conversation: Conversation
    files: list[str]
    cookies: str


# Reading what the caller sent

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
    "logprobs",
    "top_logprobs",
    "parallel_tool_calls",
    "modalities",
)
_SPEAKERS = {"assistant": "Assistant", "tool": "Tool", "function": "Tool"}


def read(chat: ChatRequest, asked: Asked) -> ChatCall:
    """Raises GatewayError 400 for what the site cannot be asked."""
    member = asked.member("claude", ClaudeMember) or ClaudeMember()
    _refuse_unsupported(chat)
    conversation = member.conversation or Conversation()
    if conversation.uuid and not _UUID.match(conversation.uuid):
        raise bad_request("This is no conversation's uuid.", param="claude.conversation.uuid")
    prompt, pasted, enclosed = _question(chat.messages, continued=bool(conversation.uuid))
    wanted = plain(chat.response_format or {})
    if wanted.get("type") in ("json_schema", "json_object"):
        prompt += "\n\n" + _json_wish(wanted)
    model = (conversation.model or chat.model or "").rpartition("/")[2]
    return ChatCall(
        conversation,
        prompt,
        pasted,
        enclosed,
        model if model.startswith("claude-") else None,
        chat.reasoning_effort in ("medium", "high", "xhigh", "max"),
        [name for name in _DROPPED if getattr(chat, name) is not None]
        + ["cache_control"] * chat.has_cache_marks(),
    )


def _refuse_unsupported(chat: ChatRequest) -> None:
    unsayable = {
        "tools": bool(chat.tools),
        "functions": bool(chat.functions),
        "tool_choice": chat.tool_choice not in (None, "none", "auto"),
        "function_call": chat.function_call not in (None, "none", "auto"),
        "n": chat.n not in (None, 1),
    }
    for param, present in unsayable.items():
        if present:
            raise bad_request(
                f"claude.ai's web backend has no counterpart for {param}; leave it out, or use "
                'Claude\'s API (claude.type "api").',
                param=param,
                code="unsupported_parameter",
            )


def _json_wish(response_format: dict[str, Any]) -> str:
    held = response_format.get("json_schema")
    schema = held.get("schema") if isinstance(held, dict) else None
    if schema is None:
        return "Answer with one JSON object and nothing else."
    text = msgspec.json.encode(schema).decode()
    return f"Answer with one JSON object of this JSON schema and nothing else: {text}"


def _question(messages: list[Message], continued: bool) -> tuple[str, str, Enclosed]:
    """The prompt, the history to attach ("" when the prompt holds it), pictures and files."""
    first = 0
    if continued:
        answers = [i for i, message in enumerate(messages) if message.role == "assistant"]
        first = answers[-1] + 1 if answers else 0
    system: list[str] = []
    turns: list[tuple[str, str]] = []
    enclosed = Enclosed()
    for i, message in enumerate(messages[first:], first):
        text = _text(message, f"messages[{i}]", enclosed)
        if message.role in ("system", "developer"):
            if not continued and text:  # a continued conversation has had it
                system.append(text)
        elif text:
            turns.append((message.role, text))
    if not enclosed.files and not enclosed.texts and not any(role == "user" for role, _ in turns):
        raise bad_request("There is no message of the user to send.", param="messages")
    if continued or len(turns) <= 1:
        return "\n\n".join([*system, *(text for _, text in turns)]), "", enclosed
    said = [f"{_SPEAKERS.get(role, 'Human')}: {text}" for role, text in turns]
    whole = "\n\n".join([*system, *said])
    if len(whole) <= PASTED_ABOVE or turns[-1][0] != "user":
        return whole, "", enclosed
    return turns[-1][1], "\n\n".join([*system, *said[:-1]]), enclosed


def _text(message: Message, at: str, enclosed: Enclosed) -> str:
    texts = []
    for j, part in enumerate(message.parts()):
        where = f"{at}.content[{j}]"
        match part.type:
            case "text" | "input_text":
                texts.append(part.text or "")
            case "refusal":
                texts.append(part.refusal or "")
            case "image_url":
                enclosed.files.append(read_picture(part, f"{where}.image_url"))
            case "file":
                _enclose(part, f"{where}.file", enclosed)
            case _:
                raise bad_request(
                    f"claude.ai takes text, images and files; a part of type {part.type[:40]!r} "
                    "cannot be sent.",
                    param=where,
                    code="unsupported_content",
                )
    for call in message.tool_calls or []:
        if call.function is not None:
            texts.append(f"[called {call.function.name}({call.function.arguments or ''})]")
    return "\n\n".join(text for text in texts if text)


def _enclose(part: Part, at: str, enclosed: Enclosed) -> None:
    """A PDF is uploaded; a text goes along as if it had been pasted."""
    found = attachments.document(part.file, at)
    if isinstance(found, ImageBlock):
        assert isinstance(found.source, Base64Source), "a file has no address"
        url = f"data:;base64,{found.source.data}"
        enclosed.files.append(read_picture(Part("image_url", image_url=url), f"{at}.file_data"))
        return
    title = _NOT_IN_A_NAME.sub("_", found.title or "")[:100]
    source = found.source
    if isinstance(source, TextSource):
        enclosed.texts.append(_pasted(source.data, title or "paste.txt"))
        return
    try:
        data = b64decode(source.data, validate=True)
    except ValueError:
        raise bad_request("The file's base64 is broken.", param=f"{at}.file_data") from None
    enclosed.files.append(Document(source.media_type, data, title))


def _pasted(text: str, name: str) -> dict[str, Any]:
    return {
        "file_name": name,
        "file_type": name.rpartition(".")[2] if "." in name else "txt",
        "file_size": len(text.encode()),
        "extracted_content": text,
    }


def index(asked: Asked) -> str | None:
    member = asked.member("claude", ClaudeMember)
    return member.index if member is not None else None


def conversation(ask: ChatCall) -> str | None:
    """The conversation a body goes on with."""
    return ask.conversation.uuid


def conversation_of(own: dict[str, Any]) -> str | None:
    """The conversation in what is handed out."""
    found: str | None = own["claude"]["conversation"].get("uuid")
    return found


def session(call: Call) -> dict[str, Any]:
    """What every chunk carries, to be sent back unchanged in order to go on."""
    own: dict[str, Any] = {"type": "web"}
    if call.key.id:
        own["index"] = call.key.id
    ready: Ready = call.learned
    own["conversation"] = told_conversation(ready.conversation)
    return {"claude": own}


# Who asks


def session_cookie(key: Key) -> str:
    """The Cookie header of a session, with whatever else the site has given it."""
    return after_set_cookie(key.fields.get("cookies", ""), [f"sessionKey={key.val}"], 0)


def browser_headers(config: Config, cookies: str, referer: str = "/new") -> Headers:
    """What the web app's own script sends; the rest follows from the browser that is imitated."""
    origin = config.claude.web_url.rstrip("/")
    return [
        ("Accept", "*/*"),
        ("Origin", origin),
        ("Referer", origin + referer),
        ("anthropic-client-platform", "web_claude_ai"),
        ("Cookie", cookies),
    ]


def proxy(config: Config) -> str | None:
    return config.claude.proxy_url or config.proxy_url or None


def renewed(key: Key, set_cookies: list[str], now: int) -> Key | None:
    """The session after an answer that rotated its cookie; None when nothing changed."""
    for line in reversed(set_cookies):
        cookie = read_cookie(line, now)
        if cookie is None or cookie.name != "sessionKey":
            continue
        if not cookie.value or cookie.expires == 0 or cookie.value == key.val:
            return None
        fields = {**key.fields, "expires": str(cookie.expires or "")}
        return Key(key.pool, key.id, cookie.value, fields)
    return None


class _Visitor(Struct):
    """One session at work, and the cookies it is given on the way."""

    call: Call
    upstream: Upstream
    cookies: str

    async def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> UpstreamReply:
        call = self.call
        headers = browser_headers(call.config, self.cookies)
        if body is not None:
            headers.append(("Content-Type", content_type))
        reply = await self.upstream.send(
            UpstreamRequest(
                method=method,
                url=join_url(call.config.claude.web_url, path),
                headers=headers,
                body=body,
                via="browser",
                proxy=proxy(call.config),
            )
        )
        self.cookies = after_set_cookie(self.cookies, reply.set_cookies, call.now)
        key = renewed(call.key, reply.set_cookies, call.now)
        if key is not None:
            await self.use(key)
        return reply

    async def use(self, key: Key) -> None:
        """Goes on with a key that was changed, and has the others know it if it is pooled."""
        self.call = msgspec.structs.replace(self.call, key=key)
        if key.id:
            await self.upstream.renew(key)

    async def ask(self, method: str, path: str, body: Any, shape: type[T]) -> T:
        encoded = None if body is None else msgspec.json.encode(body)
        return self.expect(await self.send(method, path, encoded), shape)

    def expect(self, reply: UpstreamReply, shape: type[T]) -> T:
        """The JSON that was due, or the error that came instead."""
        if not 200 <= reply.status < 300 or web_errors.is_challenge(reply):
            raise web_errors.read_error(reply, self.call.now)
        return _decoded(reply, shape)


def _decoded(reply: UpstreamReply, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(reply.body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise bad_response("claude.ai's answer is not what was due.") from None


async def prepare(call: Call, upstream: Upstream) -> Call:
    """Everything that comes before the question itself."""
    ask: ChatCall = call.chat
    visitor = _Visitor(call, upstream, session_cookie(call.key))
    organization_id = call.key.fields.get("organization_id") or await _organization(visitor)
    base = f"/api/organizations/{quote(organization_id, safe='')}/chat_conversations"
    conversation = ask.conversation
    if not conversation.uuid:
        conversation = await _create(visitor, base, ask)
    if ask.thinks:
        wish = {"settings": {"paprika_mode": "extended"}}
        # Only paid accounts may; the answer is a good one without it too.
        await visitor.send("PUT", f"{base}/{conversation.uuid}", msgspec.json.encode(wish))
    files = [
        await _upload(visitor, organization_id, file, n)
        for n, file in enumerate(ask.enclosed.files, 1)
    ]
    ready = Ready(organization_id, conversation, files, visitor.cookies)
    return msgspec.structs.replace(visitor.call, learned=ready)


async def _organization(visitor: _Visitor) -> str:
    """The organization that can chat; asked once per session and remembered with it."""
    found = await visitor.ask("GET", "/api/organizations", None, list[Organization])
    able = [o for o in found if o.uuid and "chat" in (o.capabilities or [])]
    if not able:
        raise web_errors.no_chat_organization()
    chosen = max(able, key=lambda o: len(o.capabilities or [])).uuid
    key = visitor.call.key
    fields = {**key.fields, "organization_id": chosen}
    await visitor.use(Key(key.pool, key.id, key.val, fields))
    return chosen


async def _create(visitor: _Visitor, base: str, ask: ChatCall) -> Conversation:
    body: dict[str, Any] = {
        "uuid": str(uuid.UUID(hex=visitor.call.new_id())),
        "name": ask.conversation.name or "",
        "include_conversation_preferences": True,
        "is_temporary": False,
    }
    if ask.model is not None:  # a free account may name none, so only what the caller named
        body["model"] = ask.model
    made = await visitor.ask("POST", base, body, Created)
    if not _UUID.match(made.uuid):
        raise bad_response("claude.ai made a conversation without a uuid.")
    return Conversation(
        made.uuid,
        made.name,
        made.summary,
        made.model or ask.model,
        made.created_at,
        made.updated_at,
    )


async def _upload(
    visitor: _Visitor, organization_id: str, file: Picture | Document, number: int
) -> str:
    boundary = "----WebKitFormBoundary" + visitor.call.new_id()[:16]
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; '
        f'filename="{file.name(number)}"\r\nContent-Type: {file.media_type}\r\n\r\n'
    )
    body = head.encode() + file.data + f"\r\n--{boundary}--\r\n".encode()
    path = f"/api/{quote(organization_id, safe='')}/upload"
    reply = await visitor.send("POST", path, body, f"multipart/form-data; boundary={boundary}")
    found = visitor.expect(reply, Uploaded)
    if not found.file_uuid:
        raise bad_response("claude.ai gave no id for an uploaded file.")
    return found.file_uuid


# The question


def request(call: Call) -> UpstreamRequest:
    ask: ChatCall = call.chat
    ready: Ready = call.learned
    call.dropped[:] = ask.dropped
    body: dict[str, Any] = {
        "prompt": ask.prompt,
        "timezone": "UTC",
        "attachments": list(ask.enclosed.texts),
        "files": ready.files,
        "sync_sources": [],
        "rendering_mode": "messages",
    }
    if ask.pasted:
        body["attachments"].insert(0, _pasted(ask.pasted, "paste.txt"))
    if ask.model is not None:
        body["model"] = ask.model
    if not ask.conversation.uuid:
        body["parent_message_uuid"] = FIRST_MESSAGE
    elif ask.conversation.parent_message_uuid:
        body["parent_message_uuid"] = ask.conversation.parent_message_uuid
    conversation_id = ready.conversation.uuid or ""
    headers = browser_headers(call.config, ready.cookies, f"/chat/{conversation_id}")
    headers[0] = ("Accept", "text/event-stream")
    headers.append(("Content-Type", "application/json"))
    organization = quote(ready.organization_id, safe="")
    path = f"/api/organizations/{organization}/chat_conversations/{conversation_id}/completion"
    return UpstreamRequest(
        method="POST",
        url=join_url(call.config.claude.web_url, path),
        headers=headers,
        body=msgspec.json.encode(body),
        via="browser",
        proxy=proxy(call.config),
    )


def decoder(call: Call) -> Decoder:
    ready: Ready = call.learned
    return WebDecoder(
        ready.conversation,
        ready.conversation.model or call.model,
        call.now,
        call.config.limits.response_bytes,
    )


def read_error(reply: UpstreamReply) -> GatewayError:
    return web_errors.read_error(reply)


def explain(call: Call, reply: UpstreamReply) -> GatewayError:
    return web_errors.read_error(reply, call.now)


def check_request(config: Config, key: Key) -> UpstreamRequest:
    """Which organizations the session belongs to: the page the web app itself asks first."""
    return UpstreamRequest(
        method="GET",
        url=join_url(config.claude.web_url, "/api/organizations"),
        headers=browser_headers(config, session_cookie(key)),
        via="browser",
        proxy=proxy(config),
    )


PROVIDER = Provider(
    name="claude-web",
    pool=POOL,
    read=read,
    request=request,
    read_error=read_error,
    decoder=decoder,
    index=index,
    session=session,
    prepare=prepare,
    explain=explain,
    renewed=renewed,
    conversation=conversation,
    conversation_of=conversation_of,
    check_request=check_request,
)


def _own(headers: Mapping[str, str]) -> str:
    """The caller's session: their sessionKey cookie, else their Authorization."""
    held = read_cookie_header(headers.get("cookie", "")).get("sessionKey", "")
    return held or headers.get("authorization", "")


def _credential(key: Key, headers: Mapping[str, str], config: Config) -> Headers:
    said = browser_headers(config, session_cookie(key))
    return [(n, v) for n, v in said if n != "Accept"]


def _base(config: Config) -> str:
    return config.claude.web_url


def _proxy(config: Config) -> str:
    return config.claude.proxy_url


def _conversation_in(path: str) -> str | None:
    found = _IN_PATH.search(path)
    return found[1] if found else None


FORWARDS = (
    ForwardRule(
        prefix="/claude/web/",
        upstream_prefix="/",
        provider="claude-web",
        pool=POOL,
        base=_base,
        proxy=_proxy,
        via="browser",
        credential=_credential,
        credential_headers=("authorization", "anthropic-client-platform"),
        own=_own,
        renewed=renewed,
        conversation=_conversation_in,
        read_error=read_error,
    ),
)
