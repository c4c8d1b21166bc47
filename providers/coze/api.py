"""Coze's open API: model `coze-api`, generation v3 by default, v2 by config.

Always streamed upstream: v3's unstreamed form answers without the text and must be polled.
A bot is chosen field by field, headers before the body before the config (see `candidates`).
Source: Coze open API documentation, the official SDKs and their test data.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import structs

from app.config.schema import Config
from app.wire.asked import Asked
from app.wire.chat import ChatRequest, Message
from app.wire.dropped import dropped_parameters
from app.wire.errors import GatewayError, bad_request, bad_response, upstream_cut
from app.wire.events import Event, Finish, Reasoning, Session, Started, Text, Unknown, Usage
from app.wire.framing import SSEParser
from app.wire.provider import Call, Decoder, Key, Provider, Upstream
from app.wire.upstream import UpstreamReply, UpstreamRequest, join_url
from providers.coze import schema
from providers.coze.errors import NO_RETRY, coze_error, error_decoder, read_error
from providers.coze.messages import check_pictures, to_question, unsupported_role
from providers.coze.open_api import post, proxy, read_json
from providers.coze.upload import needs_upload, read_file, read_uploaded, upload_request

POOL = "coze.bots"
MODEL = "coze-api"
MAX_MESSAGES = 100

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


def resumed(own: dict[str, Any]) -> dict[str, Any] | None:
    """The member that goes on with what was handed out."""
    held = own.get("coze") or {}
    return {"conversation": held} if held.get("conversation_id") else None


# -- the request


def _asked(call: Call) -> list[tuple[int, Message]]:
    """The messages to send, each with its index in the request.

    A conversation remembers its turns at Coze's side, so only what stands after the last answer
    goes into a continued one.
    """
    chat: ChatRequest = call.chat
    numbered = list(enumerate(chat.messages))
    if _conversation(call.asked).conversation_id:
        answers = [i for i, message in numbered if message.role == "assistant"]
        numbered = numbered[answers[-1] + 1 :] if answers else numbered
    late = [(i, message) for i, message in numbered if message.keeps_place]
    while numbered and numbered[-1][1].keeps_place:  # Coze is told it before the question
        numbered.pop()
    if late and numbered:
        at = numbered[-1][0]
        numbered[-1:] = [*(pair for pair in late if pair[0] > at), numbered[-1]]
    if not numbered or numbered[-1][1].role != "user":
        raise bad_request("The last message must be the user's question.", param="messages")
    return numbered


async def prepare(call: Call, upstream: Upstream) -> Call:
    """Uploads files that the request holds as data.

    `learned` maps (message, part) indexes to file ids. v2 takes no files.
    """
    places = [
        (i, j, part)
        for i, message in _asked(call)
        for j, part in enumerate(message.parts())
        if message.role == "user" and needs_upload(part)
    ]
    if not places or call.config.coze.api_chat.version == "v2":
        return call
    file_ids: dict[tuple[int, int], str] = {}
    for i, j, part in places:
        file = await upstream.offload(read_file, part, f"messages[{i}].content[{j}]")
        file_ids[i, j] = read_uploaded(await upstream.send(upload_request(call, *file)))
    return structs.replace(call, learned=file_ids)


def request(call: Call) -> UpstreamRequest:
    """A chat, always streamed. Names in `call.dropped` what a bot cannot be told.

    A bot's settings are made in Coze's console, so no sampling parameter has a counterpart.
    """
    call.dropped = dropped_parameters(call.chat)
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
    return post(call, path, msgspec.json.encode(body))


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
                out.append(to_question(call, i, message, system))
                system = []
            case "assistant":
                if text := message.text():
                    out.append(schema.EnterMessage("assistant", "answer", text))
            case _:
                raise unsupported_role(i, message)
    if len(out) > MAX_MESSAGES:
        raise bad_request(
            f"Coze takes at most {MAX_MESSAGES} messages, these are {len(out)}: send fewer, or "
            "continue a conversation by coze.conversation.conversation_id.",
            param="messages",
        )
    check_pictures(out)
    return out


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
                raise unsupported_role(i, message)
    body = schema.ChatV2(
        bot_id=call.key.fields["bot_id"],
        user=call.key.fields["user"],
        query=query,
        conversation_id=given or call.new_id(),  # v2 lets the caller choose it
        chat_history=history,
    )
    return post(call, "/open_api/v2/chat", msgspec.json.encode(body))


def cancel_request(call: Call, conversation_id: str, chat_id: str) -> UpstreamRequest:
    """Marks a chat cancelled, so that its conversation takes the next question (else 4016)."""
    body = schema.CancelChat(conversation_id, chat_id)
    return post(call, "/v3/chat/cancel", msgspec.json.encode(body))


# -- the answer

_chat_decoder = msgspec.json.Decoder(schema.ChatObject)
_message_decoder = msgspec.json.Decoder(schema.MessageObject)
_v2_decoder = msgspec.json.Decoder(schema.EventV2)


class _EventDecoder(ABC):
    """What both generations share: the start, joined texts and errors in bodies."""

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
            said = read_json(error_decoder, stray)
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

    @abstractmethod
    def _take(self, name: bytes, data: bytes, out: list[Event]) -> None:
        """Adds the events of one record of the stream to `out`."""


class DecoderV3(_EventDecoder):
    """Decodes v3's named events. Text comes from deltas; a completed message fills gaps."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self._chat_id = ""
        self._conversation_id = ""

    def cancel_request(self) -> UpstreamRequest | None:
        """What to send when the caller leaves before the end; None when nothing runs upstream."""
        if self._ended or not self._chat_id or not self._conversation_id:
            return None
        return cancel_request(self._call, self._conversation_id, self._chat_id)

    def _take(self, name: bytes, data: bytes, out: list[Event]) -> None:
        if self._ended:
            return
        match name:
            case b"conversation.message.delta":
                message = read_json(_message_decoder, data)
                if message.type == "answer":
                    if message.reasoning_content:
                        out.append(Reasoning(message.reasoning_content))
                    self._say(out, message.id, message.content or "")
            case b"conversation.message.completed":
                message = read_json(_message_decoder, data)
                # function_call, tool_response, follow_up, verbose and knowledge are no answers.
                if message.type == "answer":
                    self._repair(out, message)
            case b"conversation.chat.created" | b"conversation.chat.in_progress":
                chat = read_json(_chat_decoder, data)
                self._chat_id, self._conversation_id = chat.id, chat.conversation_id
                self._start(out, chat.id, chat.conversation_id)
            case b"conversation.chat.completed":
                chat = read_json(_chat_decoder, data)
                self._start(out, chat.id, chat.conversation_id)
                if chat.usage is not None:
                    counts = chat.usage
                    out.append(Usage(counts.input_count, counts.output_count, counts.token_count))
                self._end(out)
            case b"done":  # its data has four forms and no meaning
                if self._started:
                    self._end(out)
            case b"conversation.chat.failed":
                chat = read_json(_chat_decoder, data)
                error = chat.last_error
                code, text = (error.code, error.msg) if error and error.code else (0, "")
                raise coze_error(code or chat.code, text or chat.msg)
            case b"error":
                said = read_json(error_decoder, data)
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


class DecoderV2(_EventDecoder):
    """Decodes v2's unnamed events: pieces with one index are one message, `done` is the end."""

    def _take(self, name: bytes, data: bytes, out: list[Event]) -> None:
        if self._ended:
            return
        event = read_json(_v2_decoder, data)
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
                said = read_json(error_decoder, msgspec.json.encode(about))
                raise coze_error(said.number, said.text)
            case "ping":
                pass
            case _:
                out.append(Unknown(event.event))


def decoder(call: Call) -> Decoder:
    """The decoder for the generation that the config names."""
    return DecoderV2(call) if call.config.coze.api_chat.version == "v2" else DecoderV3(call)


def check_request(config: Config, key: Key) -> UpstreamRequest:
    """Asks whose token this is: the cheapest call that needs a valid one."""
    return UpstreamRequest(
        method="GET",
        url=join_url(config.coze.api_url, "/v1/users/me"),
        headers=[("authorization", f"Bearer {key.val}"), ("accept", "*/*")],
        proxy=proxy(config),
    )


def check_reply(reply: UpstreamReply) -> None:
    """Raises what the reply refuses. A valid token may lack this permission (code 4101)."""
    try:
        number = error_decoder.decode(reply.body).number
    except (msgspec.DecodeError, UnicodeDecodeError):
        number = -1
    if number not in (0, 4101) or (number == 0 and reply.status != 200):
        raise read_error(reply)


PROVIDER = Provider(
    name="coze-api",
    family="coze",
    pool=POOL,
    request=request,
    read_error=read_error,
    decoder=decoder,
    session=session,
    resumed=resumed,
    cancel=lambda decoder: decoder.cancel_request(),
    prepare=prepare,
    candidates=candidates,
    check_request=check_request,
    check_reply=check_reply,
    idle_seconds=300,  # nothing comes while plugins and workflows run
    stops=lambda call: False,
    lacks=frozenset(("tools", "response_format")),
)
