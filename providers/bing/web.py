"""Bing chat over its web page's protocol: one websocket per turn.

    prepare: create the conversation · upload the picture
    hub:     handshake → {} → ping, question → updates (whole text so far), pings → final item

Every address comes from the config. Captchas are reported, never solved.
Facts: recorded frames, several independent clients, the SignalR hub protocol.
"""

import base64
import binascii
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, quote_plus

import msgspec
from msgspec import Raw, Struct, structs

from app.config.schema import Config
from app.wire.asked import Asked
from app.wire.chat import ChatRequest, Message, Part, not_json
from app.wire.errors import (
    GatewayError,
    bad_request,
    bad_response,
    from_validation,
    upstream_cut,
)
from app.wire.events import End, Event, Finish, Reply, Session, Started, Text, Unknown
from app.wire.framing import RecordParser
from app.wire.provider import Call, Provider, Upstream
from app.wire.snapshot import Snapshot
from app.wire.upstream import Headers, UpstreamReply, UpstreamRequest, join_url
from providers.bing import schema

MODEL = "gpt-4-bing"
BUNDLE_VERSION = "1.1694.0"
USER_AGENT = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/125.0.0.0 Safari/537.36 Edg/125.0.0.0"
)
_REFERER = "/chat?q=Bing+AI&FORM=hpcodx"
_UPLOAD_REFERER = "/search?q=Bing+AI&showconv=1&FORM=hpcodx"
NO_RETRY = (("x-should-retry", "false"),)

RECORD_END = "\x1e"
HANDSHAKE = '{"protocol":"json","version":1}' + RECORD_END
PING = '{"type":6}' + RECORD_END
# The hub drops a client it has not heard for 30 s and pings only while it is silent itself, so a
# long answer is broken off unless the client speaks too: a ping after so many updates.
UPDATES_PER_PING = 50

_OPTIONS = [
    "nlu_direct_response_filter",
    "deepleo",
    "disable_emoji_spoken_text",
    "responsible_ai_policy_235",
    "enablemm",
    "dv3sugg",
    "iyxapbing",
    "iycapbing",
    "uquopt",
    "techinstgnd",
    "rctechalwlst",
    "eredirecturl",
    "bcechat",
    "gencontentv3",
]
# Tone by a word in the model's name; the first is what any other name gets.
_TONES = {
    "Creative": ["h3imaginative", "clgalileo"],
    "Balanced": ["galileo"],
    "Precise": ["h3precise", "clgalileo"],
}
# Search results, loader messages and ads are not asked for. Disengaged must be: it is told else.
_MESSAGE_TYPES = [
    "ActionRequest",
    "Chat",
    "ConfirmationCard",
    "Context",
    "Disengaged",
    "GenerateContentQuery",
    "InvokeAction",
    "Progress",
    "RenderContentRequest",
    "SearchQuery",
]

# -- the `bing` member

# The original's README and its code differ in capitals, and its decoder took any.
_SPELLINGS = {
    name.lower(): name
    for name in (
        "conversation",
        "conversationId",
        "clientId",
        "signature",
        "traceId",
        "imageUrl",
        "imageBase64",
    )
}


def read_member(raw: Raw | None) -> schema.BingMember:
    """`bing` in any spelling; the conversation may stand in it directly, as answers show it."""
    if raw is None:
        return schema.BingMember()
    try:
        given = msgspec.json.decode(raw)
        if isinstance(given, dict):
            given = _spelled(given)
            inner = given.get("conversation")
            if isinstance(inner, dict):
                given["conversation"] = _spelled(inner)
            elif inner is None and "conversationId" in given:
                given["conversation"] = given
        return msgspec.convert(given or {}, schema.BingMember)
    except msgspec.ValidationError as error:
        wrong = from_validation(error)
        wrong.param = f"bing.{wrong.param}" if wrong.param else "bing"
        raise wrong from None


def _spelled(given: dict[str, Any]) -> dict[str, Any]:
    return {_SPELLINGS.get(name.lower(), name): value for name, value in given.items()}


class BingChat(Struct):
    """The chat request with its `bing` member."""

    chat: ChatRequest
    bing: schema.BingMember


def read(chat: ChatRequest, asked: Asked) -> BingChat:
    """The request and its `bing` member. Raises GatewayError 400."""
    member = read_member(asked.members.get("bing"))
    given = member.conversation
    if given is not None:
        for name in ("conversation_id", "client_id", "signature"):
            if not getattr(given, name):
                spelled = schema.Conversation.__struct_encode_fields__[
                    schema.Conversation.__struct_fields__.index(name)
                ]
                raise bad_request(
                    f"To continue a Bing conversation its {spelled} is needed too; leave the "
                    "conversation out to begin a new one.",
                    param=f"bing.conversation.{spelled}",
                )
    return BingChat(chat, member)


# -- HTTP: create, list, delete, upload

NewId = Callable[[], str]


def _headers(config: Config, now: int, new_id: NewId, referer: str = _REFERER) -> Headers:
    """What the page adds to what a browser sends anyway. Built anew for every request."""
    return [
        ("accept", "application/json"),
        ("referer", join_url(config.bing.web_url, referer)),
        (
            "x-ms-useragent",
            "azsdk-js-api-client-factory/1.0.0-beta.1 core-rest-pipeline/1.15.1 OS/Linux",
        ),
        ("x-ms-client-request-id", _uuid(new_id)),
        ("cookie", cookie(now)),
    ]


def cookie(now: int) -> str:
    """An anonymous visitor's."""
    day = datetime.fromtimestamp(now, UTC).date().isoformat()
    return (
        "SRCHD=AF=NOFORM; PPLState=1; KievRPSSecAuth=; SUID=; SRCHUSR=; BCP=AD=1&AL=1&SM=1; "
        f"SRCHHPGUSR=HV={now}; _Rwho=u=d&ts={day}"
    )


def _uuid(new_id: NewId) -> str:
    id = new_id()
    return f"{id[:8]}-{id[8:12]}-{id[12:16]}-{id[16:20]}-{id[20:]}"


def _proxy(config: Config) -> str | None:
    return config.bing.proxy_url or config.proxy_url or None


def _hub_origin(config: Config) -> str:
    """The hub's HTTP address: ws becomes http, wss https."""
    url = config.bing.ws_url
    return "http" + url[2:] if url.startswith("ws") else url


def _get(config: Config, path: str, now: int, new_id: NewId) -> UpstreamRequest:
    return UpstreamRequest(
        method="GET",
        url=join_url(config.bing.web_url, path),
        headers=_headers(config, now, new_id),
        via="browser",
        proxy=_proxy(config),
    )


def create_request(config: Config, now: int, new_id: NewId) -> UpstreamRequest:
    path = f"/turing/conversation/create?bundleVersion={BUNDLE_VERSION}"
    return _get(config, path, now, new_id)


def read_created(reply: UpstreamReply) -> schema.Conversation:
    """The new conversation. Its signature stands in a header only."""
    _check(reply)
    try:
        created = msgspec.json.decode(reply.body, type=schema.Created)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _unauthorized("answered with a page in place of a conversation") from None
    result = created.result or schema.Result()
    if result.value not in ("Success", "", None):
        raise result_error(result)
    signature = reply.headers.get("x-sydney-encryptedconversationsignature", "")
    if not (created.conversation_id and created.client_id and signature):
        raise _unauthorized("gave a conversation without id or signature")
    return schema.Conversation(created.conversation_id, created.client_id, signature)


def list_request(config: Config, now: int, new_id: NewId) -> UpstreamRequest:
    return _get(config, "/turing/conversation/chats", now, new_id)


def delete_request(config: Config, body: bytes, now: int, new_id: NewId) -> UpstreamRequest:
    """From the body of DELETE /bing/conversation. Bing itself wants a POST."""
    try:
        asked = msgspec.json.decode(body, type=schema.DeleteAsked)
    except msgspec.ValidationError as error:
        raise from_validation(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise not_json(body, error) from None
    for name, value in (
        ("conversationId", asked.conversation_id),
        ("conversationSignature", asked.conversation_signature),
        ("participant.id", asked.participant.id),
    ):
        if not value:
            raise bad_request(f"{name} is needed to delete a conversation.", param=name)
    return UpstreamRequest(
        method="POST",
        url=join_url(_hub_origin(config), "/sydney/DeleteSingleConversation"),
        headers=[*_headers(config, now, new_id), ("content-type", "application/json")],
        body=msgspec.json.encode(
            schema.Delete(asked.conversation_id, asked.conversation_signature, asked.participant)
        ),
        via="browser",
        proxy=_proxy(config),
    )


def read_passed(reply: UpstreamReply) -> bytes:
    """The body of a list or a delete, which is the caller's as it is."""
    _check(reply)
    return reply.body


def _check(reply: UpstreamReply) -> None:
    if not 200 <= reply.status < 300:
        raise read_error(reply)


def upload_request(
    config: Config, conversation_id: str, tone: str, picture: str, now: int, new_id: NewId
) -> UpstreamRequest:
    """`picture` is a JPEG in base64, or the address of a picture that Bing fetches itself."""
    remote = picture.startswith(("https://", "http://"))
    knowledge = {
        "imageInfo": {"url": picture} if remote else {},
        "knowledgeRequest": {
            "invokedSkills": ["ImageById"],
            "subscriptionId": "Bing.Chat.Multimodal",
            "invokedSkillsRequestData": {"enableFaceBlur": True},
            "convoData": {"convoid": conversation_id, "convotone": tone},
        },
    }
    fields = [(b"knowledgeRequest", msgspec.json.encode(knowledge))]
    if not remote:
        fields.append((b"imageBase64", picture.encode()))
    boundary = f"----WebKitFormBoundary{new_id()[:16]}"
    body = b"".join(
        b'--%b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
        % (boundary.encode(), name, value)
        for name, value in fields
    )
    return UpstreamRequest(
        method="POST",
        url=join_url(config.bing.web_url, "/images/kblob"),
        headers=[
            *_headers(config, now, new_id, _UPLOAD_REFERER),
            ("origin", config.bing.web_url.rstrip("/")),
            ("content-type", f"multipart/form-data; boundary={boundary}"),
        ],
        body=body + f"--{boundary}--\r\n".encode(),
        via="browser",
        proxy=_proxy(config),
    )


def read_uploaded(config: Config, reply: UpstreamReply) -> str:
    """The picture's address. The copy with blurred faces wins where there is one."""
    try:
        uploaded = msgspec.json.decode(reply.body, type=schema.Uploaded)
    except (msgspec.DecodeError, UnicodeDecodeError):
        uploaded = schema.Uploaded()
    if reply.status != 200 or not uploaded.blob_id:
        raise GatewayError(
            400,
            f"Bing refused the picture (HTTP {reply.status}); try a smaller one.",
            param="bing.imageBase64",
            code="image_upload_failed",
        )
    id = uploaded.processed_blob_id or uploaded.blob_id
    return join_url(config.bing.web_url, f"/images/blob?bcid={quote(id, safe='')}")


# -- what the caller asks


def tone_of(model: str) -> str:
    lower = model.lower()
    return next((tone for tone in _TONES if tone.lower() in lower), "Creative")


def _question(chat: ChatRequest) -> tuple[int, Message]:
    """The last user message and its place."""
    for i in range(len(chat.messages) - 1, -1, -1):
        if chat.messages[i].role == "user":
            return i, chat.messages[i]
    raise bad_request("There must be a message of role user.", param="messages")


def picture_of(asked: BingChat) -> tuple[str, str]:
    """Where the turn's picture stands, and it as JPEG in base64 or as an address; "" for none."""
    pictures = [("bing.imageBase64", asked.bing.image_base64)] if asked.bing.image_base64 else []
    i, message = _question(asked.chat)
    for j, part in enumerate(message.parts()):
        where = f"messages[{i}].content[{j}]"
        if part.type == "image_url":
            pictures.append((where, _address(part)))
        elif part.type != "text":
            raise bad_request(
                f"Bing cannot be given a content part of type {part.type!r}.", param=f"{where}.type"
            )
    if len(pictures) > 1:
        raise bad_request("Bing takes one picture per turn.", param=pictures[1][0])
    if not pictures:
        return "", ""
    where, picture = pictures[0]
    if picture.startswith(("https://", "http://")) and where != "bing.imageBase64":
        return where, picture
    if picture.startswith("data:"):
        picture = picture.partition(",")[2]
    # A JPEG begins with FF D8 FF.
    if not picture.startswith("/9j/"):
        raise bad_request("Bing takes only JPEG pictures, in base64.", param=where)
    return where, picture


def _address(part: Part) -> str:
    url = part.image_url
    return url if isinstance(url, str) else url.url if url is not None else ""


def _is_base64(picture: str) -> bool:
    try:
        base64.b64decode(picture, validate=True)
    except binascii.Error:
        return False
    return True


async def prepare(call: Call, upstream: Upstream) -> Call:
    """Makes the conversation unless one is continued, and uploads the picture."""
    asked: BingChat = call.chat
    config, now, new_id = call.config, call.now, call.new_id
    where, picture = picture_of(asked)
    is_data = bool(picture) and not picture.startswith("http")
    if is_data and not await upstream.offload(_is_base64, picture):
        raise bad_request("The picture is not valid base64.", param=where)
    given = asked.bing.conversation
    if given is not None:
        # An echoed imageUrl belongs to the turn that brought it and is not attached again.
        conversation = structs.replace(given, image_url="")
    else:
        conversation = read_created(await upstream.send(create_request(config, now, new_id)))
    learned = Learned(conversation, is_start=not conversation.trace_id)
    if learned.is_start:
        conversation.trace_id = new_id()
    if picture:
        request = upload_request(
            config, conversation.conversation_id, tone_of(call.model), picture, now, new_id
        )
        conversation.image_url = read_uploaded(config, await upstream.send(request))
    return structs.replace(call, learned=learned)


class Learned(Struct):
    conversation: schema.Conversation
    is_start: bool


def session(call: Call) -> dict[str, Any]:
    return {"bing": msgspec.to_builtins(call.learned.conversation)}


def request(call: Call) -> UpstreamRequest:
    """Opens the hub. The question follows when the hub has answered the handshake."""
    asked: BingChat = call.chat
    call.dropped = [name for name in _UNSAID if getattr(asked.chat, name) is not None]
    call.dropped += ["cache_control"] * asked.chat.has_cache_marks()
    config = call.config
    signature = quote(call.learned.conversation.signature, safe="")
    return UpstreamRequest(
        method="GET",
        url=join_url(config.bing.ws_url, f"/sydney/ChatHub?sec_access_token={signature}"),
        headers=[
            ("origin", config.bing.web_url.rstrip("/")),
            ("user-agent", USER_AGENT),
            ("cookie", cookie(call.now)),
        ],
        via="websocket",
        proxy=_proxy(config),
        messages=[HANDSHAKE],
    )


_UNSAID = (
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


def question(call: Call) -> str:
    """The one type-4 record of a turn."""
    asked: BingChat = call.chat
    learned: Learned = call.learned
    conversation = learned.conversation
    place, message = _question(asked.chat)
    text = message.text()
    if not text and not conversation.image_url:
        raise bad_request("The question has no text.", param=f"messages[{place}].content")
    tone = tone_of(call.model)
    request_id = _uuid(call.new_id)
    user = schema.UserMessage(
        text=text,
        request_id=request_id,
        message_id=request_id,
        timestamp=datetime.fromtimestamp(call.now, UTC).isoformat(),
        image_url=conversation.image_url,
        original_image_url=conversation.image_url,
    )
    argument: dict[str, Any] = {
        "source": "cib",
        "optionsSets": _OPTIONS + _TONES[tone],
        "allowedMessageTypes": _MESSAGE_TYPES,
        "sliceIds": [],
        "traceId": conversation.trace_id,
        "conversationHistoryOptionsSets": ["threads_bce", "savemem", "uprofupd", "uprofgen"],
        "isStartOfSession": learned.is_start,
        "requestId": request_id,
        "message": {
            "locale": "en-US",
            "market": "en-US",
            "region": "US",
            "author": "user",
            "inputMethod": "Keyboard",
            "messageType": "Chat",
            **msgspec.to_builtins(user),
        },
        "scenario": "SERP",
        "tone": tone,
        "spokenTextMode": "None",
        "conversationId": conversation.conversation_id,
        "participant": {"id": conversation.client_id},
    }
    # A continued conversation knows its turns; a new one is told what came before.
    if learned.is_start and (told := _before(asked.chat.messages[:place])):
        argument["previousMessages"] = [schema.Context(told)]
    invocation = {
        "arguments": [argument],
        "invocationId": _uuid(call.new_id),
        "target": "chat",
        "type": 4,
    }
    return msgspec.json.encode(invocation).decode() + RECORD_END


def _before(messages: list[Message]) -> str:
    """Instructions and earlier turns as one text."""
    said = [(message.role, message.text()) for message in messages]
    return "\n\n".join(f"[{role}]\n{text}" for role, text in said if text)


# -- errors


def _unauthorized(what: str) -> GatewayError:
    return GatewayError(
        502,
        f"Bing {what}: it refuses this gateway's address or anonymous use; try another proxy.",
        type="upstream_error",
        code="upstream_unauthorized",
        headers=NO_RETRY,
        outcome="upstream_error",
    )


def read_error(reply: UpstreamReply) -> GatewayError:
    """A refused HTTP request or websocket."""
    if reply.status == 429:
        return result_error(schema.Result("Throttled", "Request is throttled."))
    if reply.status in (401, 403, 404):  # 404: Bing's way to say that it will not talk
        return _unauthorized(f"answered with HTTP status {reply.status}")
    return GatewayError(
        502,
        f"Bing answered with HTTP status {reply.status}.",
        type="upstream_error",
        code="upstream_error",
        outcome="upstream_error",
    )


def result_error(result: schema.Result) -> GatewayError:
    """What stands in `result` when it is not Success."""
    said = f"Bing: {result.message or result.error or result.value}"
    match result.value:
        case "CaptchaChallenge":
            # 403: SDKs repeat 429 and 5xx by themselves, which makes captchas likelier.
            return GatewayError(
                403,
                f"{said} This gateway does not solve captchas; try later or by another proxy.",
                code="captcha_required",
                headers=NO_RETRY,
                outcome="upstream_error",
            )
        case "Throttled":
            return GatewayError(429, said, code="rate_limit_exceeded", outcome="upstream_error")
        case "InvalidSession":
            return GatewayError(
                400,
                f"{said} Begin a new one by leaving `bing` out.",
                param="bing",
                code="conversation_expired",
                outcome="upstream_error",
            )
        case "UnauthorizedRequest" | "Forbidden":
            return _unauthorized(f"says {result.value} ({result.message or result.error})")
    return GatewayError(
        502,
        f"{said} ({result.value}).",
        type="upstream_error",
        code="upstream_error",
        outcome="upstream_error",
    )


# -- the answer

_frame_decoder = msgspec.json.Decoder(schema.Frame)


class HubDecoder:
    """The hub's records in, events out.

    Texts are whole snapshots, one per message id. Only the bot's plain messages are told; at the
    end the final item fills what the updates left out, and the sources are listed.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._records = RecordParser(max_bytes=call.config.limits.response_bytes)
        self._shaken = False
        self._started = False
        self._ended = False
        self._updates = 0
        self._texts: dict[str, Snapshot] = {}
        self._drawn: set[str] = set()
        self._sources: dict[str, list[schema.Source]] = {}
        self._throttling: schema.Throttling | None = None

    def feed(self, data: bytes) -> list[Event]:
        out: list[Event] = []
        for record in self._records.feed(data):
            if self._ended:
                break
            try:
                frame = _frame_decoder.decode(record)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise bad_response(f"Bing's hub sent what is no record: {error}.") from None
            self._take(frame, out)
        return out

    def finish(self) -> list[Event]:
        if self._ended:
            return []
        raise upstream_cut(
            "Bing closed the conversation's connection before its answer was whole "
            "(too long a question does that too)"
        )

    def _take(self, frame: schema.Frame, out: list[Event]) -> None:
        match frame.type:
            case 0:
                self._shake(frame, out)
            case 1:
                self._update(frame, out)
            case 2:
                self._final(frame.item or schema.Item(), out)
            case 3:
                if frame.error:
                    raise _hub_error(frame.error)
            case 6:
                out.append(Reply(PING))
            case 7:
                raise _hub_error(frame.error or "the connection was closed")
            case 8 | 9:
                pass  # they belong to a reconnect that is never asked for
            case _:
                out.append(Unknown(f"type {frame.type}"))

    def _shake(self, frame: schema.Frame, out: list[Event]) -> None:
        if frame.error:
            raise _hub_error(frame.error)
        if not self._shaken:
            self._shaken = True
            out.append(Reply(PING + question(self._call)))

    def _update(self, frame: schema.Frame, out: list[Event]) -> None:
        for update in frame.arguments or ():
            self._throttling = update.throttling or self._throttling
            for message in update.messages or ():
                self._message(message, out, is_last=False)
                if self._ended:
                    return
        self._updates += 1
        if self._updates % UPDATES_PER_PING == 0:
            out.append(Reply(PING))

    def _message(self, message: schema.HubMessage, out: list[Event], *, is_last: bool) -> None:
        if message.author != "bot":
            return
        if message.message_type == "Disengaged" or message.content_origin == "Apology":
            self._withdrawn(message, out)
            return
        if message.content_type == "IMAGE" and message.message_type == "GenerateContentQuery":
            self._draw(message, out)
            return
        if not message.is_answer:
            return
        id = message.message_id or ""
        if message.source_attributions:
            self._sources[id] = message.source_attributions
        text = message.text or ""
        snapshot = self._texts.get(id)
        if snapshot is None:
            if not text:
                return
            snapshot = self._texts[id] = Snapshot()
            new = self._apart() + snapshot.delta(text)
        else:
            new = snapshot.last(text) if is_last else snapshot.delta(text)
        self._say(new, out)
        if is_last and len(text.rstrip()) < len(snapshot.text.rstrip()):
            self._end("content_filter", out)  # text was taken back

    def _say(self, text: str, out: list[Event]) -> None:
        if not text:
            return
        if not self._started:
            self._started = True
            out.append(Started("", self._call.model or MODEL))
        out.append(Text(text))

    def _apart(self) -> str:
        return "\n\n" if self._started else ""

    def _draw(self, message: schema.HubMessage, out: list[Event]) -> None:
        """A drawing order: the page that draws it."""
        id = message.message_id or ""
        if message.text and id not in self._drawn:
            self._drawn.add(id)
            path = f"/images/create?q={quote_plus(message.text)}"
            self._say(self._apart() + join_url(self._call.config.bing.web_url, path), out)

    def _withdrawn(self, message: schema.HubMessage, out: list[Event]) -> None:
        """Bing takes its answer back or will not go on. What was told stays told."""
        if message.content_origin == "Apology" and not self._started:
            self._say(message.text or message.spoken_text or message.hidden_text or "", out)
        self._end("content_filter", out)

    def _final(self, item: schema.Item, out: list[Event]) -> None:
        self._throttling = item.throttling or self._throttling
        result = item.result or schema.Result()
        messages = (item.messages or [])[item.first_new_message_index or 0 :]
        if result.value != "Success" and (result.error or not messages):
            raise result_error(result)
        for message in messages:
            self._message(message, out, is_last=True)
            if self._ended:
                return
        if not self._started:
            raise self._nothing()
        self._say(self._references(), out)
        self._end("stop", out)

    def _nothing(self) -> GatewayError:
        used = self._throttling
        if used is not None and used.max and used.used >= used.max:
            return GatewayError(
                400,
                f"This Bing conversation has had its {used.max} turns; begin a new one by leaving "
                "`bing` out.",
                param="bing",
                code="conversation_limit",
                outcome="upstream_error",
            )
        return bad_response("Bing ended the turn without an answer.")

    def _references(self) -> str:
        """The sources that the text cites as [^1^], as footnotes."""
        lines = [
            f"[^{number}^]: [{source.provider_display_name or source.see_more_url}]"
            f"({source.see_more_url})"
            for sources in self._sources.values()
            for number, source in enumerate(sources, 1)
            if source.see_more_url
        ]
        return "\n\n" + "\n".join(lines) if lines else ""

    def _end(self, reason: str, out: list[Event]) -> None:
        self._ended = True
        if not self._started:
            self._started = True
            out.append(Started("", self._call.model or MODEL))
        if (used := self._throttling) is not None and used.max:
            out.append(Session({"throttling": {"used": used.used, "max": used.max}}))
        out += (Finish(reason), End())


def _hub_error(said: str) -> GatewayError:
    return GatewayError(
        502,
        f"Bing's hub: {said}.",
        type="upstream_error",
        code="upstream_error",
        outcome="upstream_error",
    )


PROVIDER = Provider(
    name="bing",
    pool="bing",
    request=request,
    read_error=read_error,
    decoder=HubDecoder,
    read=read,
    session=session,
    prepare=prepare,
    takes_own_key=False,
    anonymous=True,
)
