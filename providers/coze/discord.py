"""Coze's bots in a Discord channel, through the bridge process on this host.

The bridge owns the one Discord session; to a worker it is an upstream on loopback that answers
with server-sent events: `asked`, `reply` (all that a reply says by now), `quiet`, `failed`.
Each question stands alone: there is no conversation to continue.
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from app.config.schema import Config
from app.wire.asked import Asked
from app.wire.chat import ChatRequest, Part
from app.wire.dropped import dropped_parameters
from app.wire.errors import ErrorBody, GatewayError, bad_request, bad_response, upstream_cut
from app.wire.events import End, Event, Finish, Session, Started, Text, Unknown
from app.wire.framing import SSEParser
from app.wire.media_types import file_name, first_bytes, media_type
from app.wire.provider import Call, Key, Provider
from app.wire.retry_after import retry_after_header
from app.wire.snapshot import Snapshot
from app.wire.upstream import UpstreamReply, UpstreamRequest, join_url
from providers.coze import schema
from providers.coze.channel import prompt
from providers.coze.errors import NO_RETRY

T = TypeVar("T")

POOL = "coze.discord"
MODEL = "coze-discord"


def candidates(
    keys: Sequence[Key], own: str, headers: Mapping[str, str], asked: Asked
) -> list[Key]:
    """The bridge's own key: accounts and bots are chosen there, callers bring none."""
    if not keys:
        raise bad_request(
            "Coze over Discord is not enabled here: ask with model 'coze-api', or set "
            "coze.discord.enable in the config.",
            param="model",
            code="discord_not_enabled",
        )
    return list(keys)


def bridge_secret(bot_token: str) -> str:
    """The bearer token between workers and the bridge, derived from the bot's token."""
    return hmac.new(bot_token.encode(), b"any-proxy discord bridge", hashlib.sha256).hexdigest()


def session(call: Call) -> dict[str, Any]:
    """The bot is known when the question is posted."""
    return {"coze": {"type": "discord", "bot_id": "", "user": ""}}


# -- the question


def to_ask(call: Call) -> schema.BridgeRequest:
    """The last user message as a question for the bridge; earlier messages are not sent.

    Raises GatewayError 400 for an empty or too long question, and for an unknown bot.
    """
    chat: ChatRequest = call.chat
    places = [i for i, message in enumerate(chat.messages) if message.role == "user"]
    if not places:
        raise bad_request("There must be a message of role user.", param="messages")
    place = places[-1]
    message = chat.messages[place]
    lines = [message.text()] if message.text() else []
    files: list[schema.BridgeFile] = []
    for j, part in enumerate(message.parts()):
        if part.type != "text":
            _attach(part, f"messages[{place}].content[{j}]", lines, files)
    if not lines and not files:
        raise bad_request("The question has no text.", param=f"messages[{place}].content")
    bots = call.config.coze.discord.coze_bot
    bot_id = call.headers.get("x-bot-id", "").strip()
    if bot_id and bot_id not in bots:
        raise bad_request(
            f"No Coze bot {bot_id[:64]!r} is configured in coze.discord.coze_bot; leave x-bot-id "
            "out for any.",
            param="x-bot-id",
            code="unknown_bot",
        )
    text = "\n".join(lines)
    prompt(text, bot_id or max(bots, key=len, default=""))  # refuses what is too long
    return schema.BridgeRequest(text, bot_id, call.stream, files)


def _attach(part: Part, where: str, lines: list[str], files: list[schema.BridgeFile]) -> None:
    if part.type == "image_url":
        address, name = part.image_address(), ""
    elif part.type == "file" and part.file is not None:
        address, name = part.file.file_data or "", part.file.filename or ""
    else:
        raise bad_request(
            f"Discord cannot be given a content part of type {part.type!r}.", param=f"{where}.type"
        )
    if address.startswith(("https://", "http://")):
        lines.append(address)
        return
    head, _, data = address.partition(",")
    if not head.startswith("data:") or not head.endswith(";base64"):
        raise bad_request("Expected an http(s) address or a data: URL in base64.", param=where)
    first = first_bytes(data)
    if not first:
        raise bad_request("This is empty, or not valid base64.", param=where)
    kind = media_type(first, head[5:-7], name)
    sent = schema.BridgeFile(name or file_name(kind), kind or "application/octet-stream", data)
    files.append(sent)


def request(call: Call) -> UpstreamRequest:
    """Posts the question to the bridge on the loopback address."""
    call.dropped = dropped_parameters(call.chat)
    return UpstreamRequest(
        method="POST",
        url=f"http://127.0.0.1:{call.config.coze.discord.bridge_port}/ask",
        headers=[
            ("authorization", f"Bearer {bridge_secret(call.key.val)}"),
            ("content-type", "application/json"),
        ],
        body=msgspec.json.encode(to_ask(call)),
    )


# -- the answer

_asked_decoder = msgspec.json.Decoder(schema.Asked)
_reply_decoder = msgspec.json.Decoder(schema.ReplyState)
_failure_decoder = msgspec.json.Decoder(schema.Failure)
_body_decoder = msgspec.json.Decoder(ErrorBody)


def _read(decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad_response(f"The Discord bridge said what is not its protocol: {error}.") from None


def read_error(reply: UpstreamReply) -> GatewayError:
    """The error of the bridge, which has the gateway's own shape."""
    try:
        detail = _body_decoder.decode(reply.body).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return bad_response(f"The Discord bridge answered with HTTP status {reply.status}.")
    return GatewayError(
        reply.status,
        detail.message,
        type=detail.type,
        code=detail.code,
        param=detail.param,
        retry_after=retry_after_header(reply.headers),
        outcome="upstream_error",
    )


class ReplyDecoder:
    """Decodes replies, which grow by edits; pictures and embeds come at the end."""

    def __init__(self, call: Call) -> None:
        self._sse = SSEParser(call.config.limits.response_bytes)
        self._bot_id = ""
        self._texts: dict[str, Snapshot] = {}
        self._replies: dict[str, schema.ReplyState] = {}
        self._started = False
        self._ended = False

    def feed(self, data: bytes) -> list[Event]:
        """Decodes the next bytes of the body; any split gives the same events."""
        out: list[Event] = []
        for name, record in self._sse.feed(data):
            self._take(name, record, out)
        return out

    def finish(self) -> list[Event]:
        """Raises GatewayError 502 when the bridge closed the connection before the end."""
        out: list[Event] = []
        for name, record in self._sse.finish():
            self._take(name, record, out)
        if not self._ended:
            raise upstream_cut("The Discord bridge stopped before the answer was whole")
        return out

    def _take(self, name: bytes, data: bytes, out: list[Event]) -> None:
        if self._ended:
            return
        match name:
            case b"asked":
                self._bot_id = _read(_asked_decoder, data).bot_id
            case b"reply":
                self._reply(_read(_reply_decoder, data), out)
            case b"quiet":
                self._end(out)
            case b"failed":
                failure = _read(_failure_decoder, data)
                raise GatewayError(
                    failure.status,
                    failure.message,
                    code=failure.code,
                    retry_after=failure.retry_after,
                    # The question was posted: an SDK that repeats it would post it again.
                    headers=NO_RETRY,
                    outcome="upstream_timeout" if failure.status == 504 else "upstream_error",
                )
            case _:
                out.append(Unknown(name.decode("latin-1")))

    def _reply(self, reply: schema.ReplyState, out: list[Event]) -> None:
        self._replies[reply.id] = reply
        snapshot = self._texts.get(reply.id)
        if snapshot is not None:
            self._say(reply.id, snapshot.delta(reply.text), out)
        elif reply.text:
            snapshot = self._texts[reply.id] = Snapshot()
            apart = "\n" if self._started else ""  # a long answer goes on in a second reply
            self._say(reply.id, apart + snapshot.delta(reply.text), out)
        if reply.is_done:
            self._end(out)

    def _say(self, reply_id: str, text: str, out: list[Event]) -> None:
        if not text:
            return
        if not self._started:
            self._started = True
            out += (Started(f"chatcmpl-{reply_id}", MODEL), Session({"bot_id": self._bot_id}))
        out.append(Text(text))

    def _end(self, out: list[Event]) -> None:
        self._ended = True
        for reply in self._replies.values():
            if (snapshot := self._texts.get(reply.id)) is not None:
                self._say(reply.id, snapshot.last(reply.text), out)
            for extra in reply.extra:
                self._say(reply.id, ("\n" if self._started else "") + extra, out)
        if not self._started:
            raise bad_response(
                "The Coze bot's answer is empty; is the message content intent enabled for the bot "
                "of coze.discord.chat_bot_token?"
            )
        out += (Finish("stop"), End())


def check_request(config: Config, key: Key) -> UpstreamRequest:
    """Asks Discord whose token this is: the bot's for the key "discord", else a user's."""
    token = f"Bot {key.val}" if key.id == "discord" else key.val
    return UpstreamRequest(
        method="GET",
        url=join_url(config.coze.discord.api_url, "/api/v10/users/@me"),
        headers=[("authorization", token)],
        via="api" if key.id == "discord" else "browser",
        proxy=config.coze.proxy_url or config.proxy_url or None,
    )


def check_reply(reply: UpstreamReply) -> None:
    """Raises GatewayError for a refusal by Discord, whose reply this is."""
    if reply.status != 200:
        raise GatewayError(reply.status, f"Discord answered with HTTP status {reply.status}.")


PROVIDER = Provider(
    name="coze-discord",
    family="coze",
    pool=POOL,
    request=request,
    read_error=read_error,
    decoder=ReplyDecoder,
    session=session,
    takes_own_key=False,
    candidates=candidates,
    check_request=check_request,
    check_reply=check_reply,
    stops=lambda call: False,
    lacks=frozenset(("tools", "response_format")),
)
