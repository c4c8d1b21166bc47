"""Bing chat over its web page's protocol: one websocket per turn.

    prepare: create the conversation · upload the picture
    hub:     handshake → {} → ping, question → updates (whole text so far), pings → final item

Every address comes from the config. Captchas are reported, never solved.
Facts: recorded frames, several independent clients, the SignalR hub protocol.
"""

from typing import Any
from urllib.parse import quote, quote_plus

import msgspec
from msgspec import Raw, Struct, structs

from app.wire.asked import Asked
from app.wire.chat import ChatRequest
from app.wire.dropped import dropped_parameters
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
from app.wire.upstream import UpstreamRequest, join_url
from providers.bing import schema
from providers.bing.conversations import cookie, create_request, proxy, read_created
from providers.bing.errors import hub_error, read_error, result_error
from providers.bing.pictures import is_base64, picture_of, read_uploaded, upload_request
from providers.bing.question import RECORD_END, Learned, question, tone_of

MODEL = "gpt-4-bing"
USER_AGENT = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/125.0.0.0 Safari/537.36 Edg/125.0.0.0"
)

HANDSHAKE = '{"protocol":"json","version":1}' + RECORD_END
PING = '{"type":6}' + RECORD_END
# The hub drops a client that sends nothing for 30 s, and pings only while it has nothing else to
# send. So the client sends a ping after this many updates, or a long answer would be broken off.
UPDATES_PER_PING = 50

# -- the `bing` member

# The Go predecessor's documentation and code differ in letter case, and its decoder took any.
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
    """The `bing` member, its names in any letter case.

    The members of the conversation may stand in it directly, as they do in answers. Raises
    GatewayError 400 for a member of the wrong type.
    """
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


async def prepare(call: Call, upstream: Upstream) -> Call:
    """Creates a conversation unless one is continued, and uploads the picture of the turn."""
    asked: BingChat = call.chat
    config, now, new_id = call.config, call.now, call.new_id
    where, picture = picture_of(asked.chat, asked.bing.image_base64)
    is_data = bool(picture) and not picture.startswith("http")
    if is_data and not await upstream.offload(is_base64, picture):
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


def session(call: Call) -> dict[str, Any]:
    """The conversation, as `bing.conversation` continues it."""
    return {"bing": msgspec.to_builtins(call.learned.conversation)}


def resumed(own: dict[str, Any]) -> dict[str, Any] | None:
    """The member that goes on with what was handed out, but for the picture of that turn."""
    held = own.get("bing") or {}
    if not held.get("conversationId"):
        return None
    return {"conversation": {name: v for name, v in held.items() if name != "imageUrl"}}


def request(call: Call) -> UpstreamRequest:
    """Opens the hub's websocket. The question follows once the hub has answered the handshake."""
    asked: BingChat = call.chat
    call.dropped = dropped_parameters(asked.chat)
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
        proxy=proxy(config),
        messages=[HANDSHAKE],
    )


# -- the answer

_frame_decoder = msgspec.json.Decoder(schema.Frame)


class HubDecoder:
    """Decodes the hub's records.

    Texts are whole snapshots, one per message id. Only the bot's plain messages are told; at the
    end the final item fills what the updates left out, and the sources are listed.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._records = RecordParser(max_bytes=call.config.limits.response_bytes)
        self._shaken = False
        self._started = False
        self._ended = False
        self._completed = False
        self._updates = 0
        self._texts: dict[str, Snapshot] = {}
        self._drawn: set[str] = set()
        self._sources: dict[str, list[schema.Source]] = {}
        self._throttling: schema.Throttling | None = None

    def feed(self, data: bytes) -> list[Event]:
        """Decodes the next bytes of the body; any split gives the same events."""
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
        """Raises GatewayError 502 when the connection was closed before the turn ended."""
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
                    raise hub_error(frame.error)
                self._completed = True
            case 6:
                if self._completed:  # nothing comes any more, though pings would go on for ever
                    raise hub_error("the turn was completed without its final item")
                out.append(Reply(PING))
            case 7:
                raise hub_error(frame.error or "the connection was closed")
            case 8 | 9:
                pass  # they belong to a reconnect that is never asked for
            case _:
                out.append(Unknown(f"type {frame.type}"))

    def _shake(self, frame: schema.Frame, out: list[Event]) -> None:
        if frame.error:
            raise hub_error(frame.error)
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
        """Shows an order to draw as the address of the page that draws it."""
        id = message.message_id or ""
        if message.text and id not in self._drawn:
            self._drawn.add(id)
            path = f"/images/create?q={quote_plus(message.text)}"
            self._say(self._apart() + join_url(self._call.config.bing.web_url, path), out)

    def _withdrawn(self, message: schema.HubMessage, out: list[Event]) -> None:
        """Ends the answer when Bing withdraws it. Text that was sent cannot be taken back."""
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


PROVIDER = Provider(
    name="bing",
    family="bing",
    pool="bing",
    request=request,
    read_error=read_error,
    decoder=HubDecoder,
    read=read,
    session=session,
    resumed=resumed,
    prepare=prepare,
    takes_own_key=False,
    anonymous=True,
    stops=lambda call: False,
    lacks=frozenset(("tools", "response_format")),
)
