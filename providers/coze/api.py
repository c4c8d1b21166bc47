"""Coze's open API: model `coze-api`, generation v3 by default, v2 by config.

Always streamed upstream: v3's unstreamed form answers without the text and must be polled.
A bot is chosen field by field, headers before the body before the config (see `candidates`).
Facts: Coze open API documentation, the official SDKs and their test data.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec
from msgspec import structs

from app.config.schema import Config
from app.wire.asked import Asked
from app.wire.chat import ChatRequest, Message, Part
from app.wire.errors import GatewayError, bad_request, bad_response, upstream_cut
from app.wire.events import Event, Finish, Reasoning, Session, Started, Text, Unknown, Usage
from app.wire.framing import SSEParser
from app.wire.media_types import HEAD_BYTES, file_name, media_type
from app.wire.provider import Call, Decoder, Key, Provider, Upstream
from app.wire.upstream import Headers, UpstreamReply, UpstreamRequest, join_url
from providers.coze import schema

T = TypeVar("T")

POOL = "coze.bots"
MODEL = "coze-api"
MAX_MESSAGES = 100
NO_RETRY = (("x-should-retry", "false"),)

# What OpenAI callers may set and Coze cannot be told: a bot's settings are made in Coze's console.
UNSAID = (
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "n",
    "stop",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "functions",
    "function_call",
    "response_format",
    "reasoning_effort",
    "modalities",
    "user",
    "safety_identifier",
)

# -- which bot, which user, which token


def candidates(
    keys: Sequence[Key], own: str, headers: Mapping[str, str], asked: Asked
) -> list[Key]:
    """The keys that may answer this call; the caller of this function picks one at random.

    `keys` are the configured bots (fields bot_id and user, val the bot's token or the global one).
    `own` is the caller's token or "": it replaces the token of whatever bot is chosen, and the
    result then belongs to the caller (id ""). Raises GatewayError 400 when what the caller named
    fits no bot, 401 when there is no token for it.
    """
    conversation = _conversation(asked)
    bot_id = headers.get("x-bot-id", "").strip() or str(conversation.bot_id)
    user = headers.get("x-auth-id", "").strip() or str(conversation.user)
    if own and bot_id and user:
        return [Key(POOL, "", own, {"bot_id": bot_id, "user": user})]
    fitting = [
        key
        for key in keys
        if bot_id in ("", key.fields["bot_id"]) and user in ("", key.fields["user"])
    ]
    if fitting:
        if own:
            return [Key(POOL, "", own, key.fields) for key in fitting]
        if with_token := [key for key in fitting if key.val]:
            return with_token
        raise _no_credential(
            "The bot has no access token: set coze.api_chat.access_token or the bot's own, "
            "or send a token in the Authorization header."
        )
    if bot_id or user:
        named = " and ".join(
            f"{name} {value[:64]!r}" for name, value in (("bot", bot_id), ("user", user)) if value
        )
        raise bad_request(
            f"No configured Coze bot has {named}; name another, leave both out for any bot, or "
            "send x-bot-id, x-auth-id and a Coze token in Authorization together.",
            param="coze.conversation",
            code="unknown_bot",
        )
    raise _no_credential(
        "No Coze bot to ask: configure coze.api_chat.bots, or send x-bot-id, x-auth-id and a "
        "Coze token in Authorization."
    )


def _no_credential(message: str) -> GatewayError:
    return GatewayError(
        401, message, type="invalid_request_error", code="no_api_key", headers=NO_RETRY
    )


def _member(asked: Asked) -> schema.CozeMember:
    return asked.member("coze", schema.CozeMember) or schema.CozeMember()


def _conversation(asked: Asked) -> schema.Conversation:
    return _member(asked).conversation or schema.Conversation()


def session(call: Call) -> dict[str, Any]:
    """The `coze` object of every chunk; its conversation_id is filled in by the answer."""
    return {
        "coze": {
            "type": "api",
            "bot_id": call.key.fields["bot_id"],
            "conversation_id": str(_conversation(call.asked).conversation_id),
            "user": call.key.fields["user"],
        }
    }


# -- the request


def _asked(call: Call) -> list[tuple[int, Message]]:
    """The messages to send, each with its place in the request.

    A conversation remembers its turns at Coze's side, so only what stands after the last answer
    goes into a continued one.
    """
    chat: ChatRequest = call.chat
    numbered = list(enumerate(chat.messages))
    if _conversation(call.asked).conversation_id:
        answers = [i for i, message in numbered if message.role == "assistant"]
        numbered = numbered[answers[-1] + 1 :] if answers else numbered
    if not numbered or numbered[-1][1].role != "user":
        raise bad_request("The last message must be the user's question.", param="messages")
    return numbered


def _needs_upload(part: Part) -> bool:
    match part.type:
        case "image_url":
            return _address(part).startswith("data:")
        case "file":
            return part.file is not None and bool(part.file.file_data)
        case _:
            return part.type == "input_audio"


def _address(part: Part) -> str:
    url = part.image_url
    return url if isinstance(url, str) else url.url if url is not None else ""


async def prepare(call: Call, upstream: Upstream) -> Call:
    """Uploads what stands in the request as data; the learned file ids are keyed by place."""
    places = [
        (i, j, part)
        for i, message in _asked(call)
        for j, part in enumerate(message.parts())
        if message.role == "user" and _needs_upload(part)
    ]
    if not places or call.config.coze.api_chat.version == "v2":
        return call
    file_ids: dict[tuple[int, int], str] = {}
    for i, j, part in places:
        name, media_type, data = await upstream.offload(_payload, part, i, j)
        reply = await upstream.send(upload_request(call, name, media_type, data))
        file_ids[i, j] = _file_id(reply)
    return structs.replace(call, learned=file_ids)


def _payload(part: Part, i: int, j: int) -> tuple[str, str, bytes]:
    """A part's bytes with a file name and a media type."""
    where = f"messages[{i}].content[{j}]"
    try:
        if part.input_audio is not None:
            told, name, body = part.input_audio.format, "", part.input_audio.data
        else:
            file = part.file
            url = _address(part) if part.type == "image_url" else (file and file.file_data) or ""
            head, _, body = url.partition(",")
            if not head.startswith("data:") or not head.endswith(";base64"):
                raise bad_request("Expected a data: URL in base64.", param=where)
            told, name = head[5:-7], (file and file.filename) or ""
        data = base64.b64decode(body, validate=True)
    except binascii.Error:
        raise bad_request("This is not valid base64.", param=where) from None
    if not data:
        raise bad_request("This is empty; send content, or leave the part out.", param=where)
    kind = media_type(data[:HEAD_BYTES], told, name)
    return name or file_name(kind), kind or "application/octet-stream", data


def upload_request(call: Call, name: str, media_type: str, data: bytes) -> UpstreamRequest:
    boundary = call.new_id()
    safe = name.replace("\\", "_").replace('"', "_").replace("\r", "_").replace("\n", "_")
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{safe}"\r\n'
        f"Content-Type: {media_type}\r\n\r\n"
    )
    return UpstreamRequest(
        method="POST",
        url=join_url(call.config.coze.api_url, "/v1/files/upload"),
        headers=_headers(call, f"multipart/form-data; boundary={boundary}"),
        body=head.encode() + data + f"\r\n--{boundary}--\r\n".encode(),
        proxy=_proxy(call),
    )


def _file_id(reply: UpstreamReply) -> str:
    if reply.status >= 400:
        raise read_error(reply)
    uploaded = _read(_upload_decoder, reply.body)
    if uploaded.code or uploaded.data is None or not uploaded.data.id:
        raise read_error(reply)
    return uploaded.data.id


def request(call: Call) -> UpstreamRequest:
    chat: ChatRequest = call.chat
    call.dropped = [name for name in UNSAID if getattr(chat, name) is not None]
    call.dropped += ["cache_control"] * chat.has_cache_marks()
    if call.config.coze.api_chat.version == "v2":
        return _request_v2(call)
    body = schema.ChatV3(
        bot_id=call.key.fields["bot_id"],
        user_id=call.key.fields["user"],
        additional_messages=to_enter_messages(call),
    )
    path = "/v3/chat"
    if conversation_id := str(_conversation(call.asked).conversation_id):
        path += "?conversation_id=" + quote(conversation_id, safe="")
    return _post(call, path, body)


def _post(call: Call, path: str, body: Any) -> UpstreamRequest:
    return UpstreamRequest(
        method="POST",
        url=join_url(call.config.coze.api_url, path),
        headers=_headers(call, "application/json"),
        body=msgspec.json.encode(body),
        proxy=_proxy(call),
    )


def _headers(call: Call, content_type: str) -> Headers:
    return [
        ("authorization", f"Bearer {call.key.val}"),
        ("content-type", content_type),
        ("accept", "*/*"),
    ]


def _proxy(call: Call) -> str | None:
    return call.config.coze.proxy_url or call.config.proxy_url or None


def to_enter_messages(call: Call) -> list[schema.EnterMessage]:
    """OpenAI's messages as v3's `additional_messages`; the last is the question.

    Coze knows no system role: such text is put in front of the first user text after it.
    """
    out: list[schema.EnterMessage] = []
    system: list[str] = []
    continued = bool(_conversation(call.asked).conversation_id)
    if not continued:
        for told in _member(call.asked).chat_history or []:
            kind = "answer" if told.role == "assistant" else "question"
            out.append(schema.EnterMessage(told.role, kind, told.content, told.content_type))
    for i, message in _asked(call):
        match message.role:
            case "system" | "developer":
                system.append(message.text())
            case "user":
                out.append(_question(call, i, message, system))
                system = []
            case "assistant":
                if text := message.text():
                    out.append(schema.EnterMessage("assistant", "answer", text))
            case _:
                raise _unsayable(i, message)
    if len(out) > MAX_MESSAGES:
        raise bad_request(
            f"Coze takes at most {MAX_MESSAGES} messages, these are {len(out)}: send fewer, or "
            "continue a conversation by coze.conversation.conversation_id.",
            param="messages",
        )
    _check_pictures(out)
    return out


def _unsayable(i: int, message: Message) -> GatewayError:
    return bad_request(
        f"Coze cannot be given a message of role {message.role!r}; its tools are the bot's own.",
        param=f"messages[{i}].role",
    )


def _question(call: Call, i: int, message: Message, system: list[str]) -> schema.EnterMessage:
    files: list[schema.ObjectItem] = []
    for j, part in enumerate(message.parts()):
        if (item := _object_item(call, i, j, part)) is not None:
            files.append(item)
    text = "\n\n".join(piece for piece in (*system, message.text()) if piece)
    if not files:
        if not message.text():
            raise bad_request("A question must have text.", param=f"messages[{i}].content")
        return schema.EnterMessage("user", "question", text)
    # At most one text item is allowed, and none may be empty.
    items = ([schema.ObjectItem("text", text=text)] if text else []) + files
    content = msgspec.json.encode(items).decode()
    return schema.EnterMessage("user", "question", content, "object_string")


def _object_item(call: Call, i: int, j: int, part: Part) -> schema.ObjectItem | None:
    kind = {"image_url": "image", "file": "file", "input_audio": "audio"}.get(part.type)
    if kind is None:
        if part.type == "text":
            return None
        raise bad_request(
            f"Coze cannot be given a content part of type {part.type!r}.",
            param=f"messages[{i}].content[{j}].type",
        )
    file_id = (call.learned or {}).get((i, j))
    if file_id is None and part.file is not None:
        file_id = part.file.file_id
    if file_id is not None:
        return schema.ObjectItem(kind, file_id=file_id)
    url = _address(part)
    if not url.startswith(("https://", "http://")):
        raise bad_request(
            "Expected an http(s) address or a data: URL.", param=f"messages[{i}].content[{j}]"
        )
    return schema.ObjectItem(kind, file_url=url)


def _check_pictures(messages: list[schema.EnterMessage]) -> None:
    """A picture-only message needs a plain text message beside it, else Coze answers 4000."""
    for place, message in enumerate(messages):
        if message.content_type != "object_string" or '"type":"text"' in message.content:
            continue
        beside = messages[max(place - 1, 0) : place] + messages[place + 1 : place + 2]
        if not any(other.content_type == "text" for other in beside):
            raise bad_request(
                "Coze needs a text with a picture: add a text part to the message.",
                param="messages",
            )


def _request_v2(call: Call) -> UpstreamRequest:
    history = list(_member(call.asked).chat_history or [])
    given = str(_conversation(call.asked).conversation_id)
    history = [] if given else history
    system: list[str] = []
    query = ""
    for i, message in _asked(call):
        for j, part in enumerate(message.parts()):
            if part.type != "text":
                raise bad_request(
                    "Coze's v2 API takes only text; set coze.api_chat.version to v3 for files.",
                    param=f"messages[{i}].content[{j}].type",
                )
        text = message.text()
        match message.role:
            case "system" | "developer":
                system.append(text)
                continue
            case "user":
                if not text:
                    raise bad_request("A question must have text.", param=f"messages[{i}].content")
                if query:
                    history.append(schema.HistoryMessage("user", query, "query"))
                query = "\n\n".join((*system, text))
                system = []
            case "assistant":
                if query:
                    history.append(schema.HistoryMessage("user", query, "query"))
                    query = ""
                if text:
                    history.append(schema.HistoryMessage("assistant", text, "answer"))
            case _:
                raise _unsayable(i, message)
    body = schema.ChatV2(
        bot_id=call.key.fields["bot_id"],
        user=call.key.fields["user"],
        query=query,
        conversation_id=given or call.new_id(),  # v2 lets the caller choose it
        chat_history=history,
    )
    return _post(call, "/open_api/v2/chat", body)


def cancel_request(call: Call, conversation_id: str, chat_id: str) -> UpstreamRequest:
    """Marks a chat cancelled, so that its conversation takes the next question (else 4016)."""
    return _post(call, "/v3/chat/cancel", schema.CancelChat(conversation_id, chat_id))


# -- errors


def coze_error(code: int, text: str, logid: str = "") -> GatewayError:
    """One of Coze's codes as the gateway's error. The logid is what the vendor asks for."""
    meaning = schema.ERRORS.get(code) or schema.Meaning(502, "Coze refused the request")
    trace = f", logid {logid}" if logid else ""
    said = f": {text}" if text else ""
    return GatewayError(
        meaning.status,
        f"Coze{said} ({meaning.says}; coze code {code}{trace}).",
        type=meaning.type or "upstream_error",
        code=meaning.code or f"coze_{code}",
        headers=() if meaning.retry else NO_RETRY,
        outcome="upstream_error",
    )


def read_error(reply: UpstreamReply) -> GatewayError:
    """An error answer, whatever its status: Coze says most of them with HTTP 200."""
    logid = reply.headers.get("x-tt-logid", "")
    try:
        said = _error_decoder.decode(reply.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        said = schema.ErrorReply()
    if said.number:
        return coze_error(
            said.number, said.text, logid or (said.detail.logid if said.detail else "")
        )
    kept = reply.status if reply.status in (400, 401, 402, 403, 404, 413, 422, 429) else 502
    trace = f" (logid {logid})" if logid else ""
    return GatewayError(
        kept,
        f"Coze answered with HTTP status {reply.status} and no error code{trace}.",
        type="upstream_error",
        code="upstream_error",
        outcome="upstream_error",
    )


# -- the answer

_chat_decoder = msgspec.json.Decoder(schema.ChatObject)
_message_decoder = msgspec.json.Decoder(schema.MessageObject)
_v2_decoder = msgspec.json.Decoder(schema.EventV2)
_error_decoder = msgspec.json.Decoder(schema.ErrorReply)
_upload_decoder = msgspec.json.Decoder(schema.UploadReply)


def _read(decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad_response(f"Coze sent what its protocol does not know: {error}.") from None


class _Answering:
    """What both generations share: the start, texts that are joined, and the errors in bodies."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._sse = SSEParser(call.config.limits.response_bytes)
        self._started = False
        self._ended = False
        self._message: str | int = ""  # whose text is being told
        self._told: dict[str | int, list[str]] = {}  # by message

    def _start(self, out: list[Event], id: str, conversation_id: str) -> None:
        if not self._started:
            self._started = True
            out.append(Started(f"chatcmpl-{id}", MODEL))
            if conversation_id:
                out.append(Session({"conversation_id": conversation_id}))

    def _say(self, out: list[Event], message: str | int, text: str) -> None:
        if not text:
            return
        told = self._told.setdefault(message, [])
        told.append(text)
        if message != self._message:
            if len(self._told) > 1:  # a further answer of the same chat
                text = "\n\n" + text
            self._message = message
        out.append(Text(text))

    def _end(self, out: list[Event]) -> None:
        if not self._ended:
            self._ended = True
            out.append(Finish("stop"))

    def finish(self) -> list[Event]:
        out: list[Event] = []
        for name, data in self._sse.finish():
            self._take(name, data, out)
        if self._ended:
            return out
        # An error before the stream is plain JSON with HTTP 200, though a stream was asked for.
        if stray := bytes(self._sse.stray).strip():
            said = _read(_error_decoder, stray)
            logid = said.detail.logid if said.detail else ""
            if said.number:
                raise coze_error(said.number, said.text, logid)
            raise bad_response("Coze answered with JSON in place of a stream.")
        raise upstream_cut()

    def feed(self, data: bytes) -> list[Event]:
        out: list[Event] = []
        for name, record in self._sse.feed(data):
            self._take(name, record, out)
        return out

    def _take(self, name: bytes, data: bytes, out: list[Event]) -> None:
        raise NotImplementedError


class DecoderV3(_Answering):
    """v3's named events. Deltas are told; a completed message only fills a gap they left."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self._chat_id = ""
        self._conversation_id = ""

    def cancel_request(self) -> UpstreamRequest | None:
        """To be sent when the caller leaves before the end."""
        if self._ended or not self._chat_id or not self._conversation_id:
            return None
        return cancel_request(self._call, self._conversation_id, self._chat_id)

    def _take(self, name: bytes, data: bytes, out: list[Event]) -> None:
        if self._ended:
            return
        match name:
            case b"conversation.message.delta":
                message = _read(_message_decoder, data)
                if message.type == "answer":
                    if message.reasoning_content:
                        out.append(Reasoning(message.reasoning_content))
                    self._say(out, message.id, message.content or "")
            case b"conversation.message.completed":
                message = _read(_message_decoder, data)
                # function_call, tool_response, follow_up, verbose and knowledge are no answers.
                if message.type == "answer":
                    self._repair(out, message)
            case b"conversation.chat.created" | b"conversation.chat.in_progress":
                chat = _read(_chat_decoder, data)
                self._chat_id, self._conversation_id = chat.id, chat.conversation_id
                self._start(out, chat.id, chat.conversation_id)
            case b"conversation.chat.completed":
                chat = _read(_chat_decoder, data)
                self._start(out, chat.id, chat.conversation_id)
                if chat.usage is not None:
                    counts = chat.usage
                    out.append(Usage(counts.input_count, counts.output_count, counts.token_count))
                self._end(out)
            case b"done":  # its data has four forms and no meaning
                if self._started:
                    self._end(out)
            case b"conversation.chat.failed":
                chat = _read(_chat_decoder, data)
                error = chat.last_error
                code, text = (error.code, error.msg) if error and error.code else (0, "")
                raise coze_error(code or chat.code, text or chat.msg)
            case b"error":
                said = _read(_error_decoder, data)
                raise coze_error(said.number, said.text, said.detail.logid if said.detail else "")
            case b"conversation.chat.requires_action":
                raise GatewayError(
                    502,
                    "The Coze bot asks for a tool of its caller, which this gateway cannot serve; "
                    "take that tool out of the bot.",
                    type="upstream_error",
                    code="coze_requires_action",
                    headers=NO_RETRY,
                    outcome="upstream_error",
                )
            case b"conversation.audio.delta":
                pass
            case _:
                out.append(Unknown(name.decode("latin-1")))

    def _repair(self, out: list[Event], message: schema.MessageObject) -> None:
        whole = message.content or ""
        if message.id not in self._told:
            self._say(out, message.id, whole)  # no delta came: card answers
        elif message.id == self._message:
            told = "".join(self._told[message.id])
            if whole.startswith(told):
                self._say(out, message.id, whole[len(told) :])


class DecoderV2(_Answering):
    """v2's unnamed events: pieces with one index are one message, `done` is the end."""

    def _take(self, name: bytes, data: bytes, out: list[Event]) -> None:
        if self._ended:
            return
        event = _read(_v2_decoder, data)
        match event.event:
            case "message":
                message = event.message
                if message is None:
                    return
                self._start(out, self._call.new_id(), event.conversation_id)
                if message.type == "answer":
                    self._say(out, event.index, message.content or "")
            case "done":
                self._start(out, self._call.new_id(), event.conversation_id)
                self._end(out)
            case "error":
                about = event.error_information or {"code": event.code, "msg": event.msg}
                said = msgspec.convert(about, schema.ErrorReply, strict=False)
                raise coze_error(said.number, said.text)
            case "ping":
                pass
            case _:
                out.append(Unknown(event.event))


def decoder(call: Call) -> Decoder:
    return DecoderV2(call) if call.config.coze.api_chat.version == "v2" else DecoderV3(call)


def check_request(config: Config, key: Key) -> UpstreamRequest:
    """Whose token it is."""
    return UpstreamRequest(
        method="GET",
        url=join_url(config.coze.api_url, "/v1/users/me"),
        headers=[("authorization", f"Bearer {key.val}"), ("accept", "*/*")],
        proxy=config.coze.proxy_url or config.proxy_url or None,
    )


def check_reply(reply: UpstreamReply) -> None:
    """Coze refuses with 200. A token that may not ask this is a known one all the same."""
    try:
        number = _error_decoder.decode(reply.body).number
    except (msgspec.DecodeError, UnicodeDecodeError):
        number = -1
    if number not in (0, 4101) or (number == 0 and reply.status != 200):
        raise read_error(reply)


PROVIDER = Provider(
    name="coze-api",
    pool=POOL,
    request=request,
    read_error=read_error,
    decoder=decoder,
    session=session,
    cancel=lambda decoder: decoder.cancel_request(),
    prepare=prepare,
    candidates=candidates,
    check_request=check_request,
    check_reply=check_reply,
    idle_seconds=300,  # nothing comes while plugins and workflows run
)
