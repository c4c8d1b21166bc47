"""Parrot's API: messages in, JSON lines out.

POST {api_url}/v1/talk    {"voice", "lines": [{"who", "text"}], "most_words"}
200                       {"event": "begin", "id"}, {"event": "say", "text"} ...
                          {"event": "end", "why", "heard", "spoken"}
                          or {"event": "fail", "why", "text"}
any other status          {"why", "text"}
"""

from collections.abc import Iterator

import msgspec
from msgspec import Struct

from app.wire.asked import Asked
from app.wire.chat import ChatRequest
from app.wire.dropped import ALL_BUT_MESSAGES, dropped_parameters
from app.wire.errors import GatewayError, bad_request, bad_response, upstream_cut
from app.wire.events import Event, Finish, Started, Text, Unknown, Usage
from app.wire.framing import RecordParser
from app.wire.provider import Call, Provider
from app.wire.upstream import UpstreamReply, UpstreamRequest, join_url

_WHO = {"system": "owner", "developer": "owner", "user": "guest", "assistant": "parrot"}
_WHY = {"done": "stop", "out_of_breath": "length"}
_STATUS = {"bad_key": 401, "too_fast": 429, "asleep": 503}  # of a failure inside a 200
_DROPPED = [name for name in ALL_BUT_MESSAGES if "max_" not in name]


class Heard(Struct):
    """A line of the answer, or the body of a refusal."""

    event: str = ""
    id: str = ""
    text: str = ""
    why: str = ""
    heard: int = 0
    spoken: int = 0


def read(chat: ChatRequest, asked: Asked) -> ChatRequest:
    """Refuses what Parrot cannot be asked: 400, and no key is spent on it."""
    for at, message in enumerate(chat.messages):
        if message.role not in _WHO:
            raise bad_request(f"Parrot has no {message.role} messages.", f"messages[{at}].role")
        if any(part.type != "text" for part in message.parts()):
            raise bad_request("Parrot takes only text.", f"messages[{at}].content")
    return chat


def request(call: Call) -> UpstreamRequest:
    """The request to Parrot, with the key of this attempt."""
    chat: ChatRequest = call.chat
    call.dropped = dropped_parameters(chat, _DROPPED)
    lines = [{"who": _WHO[message.role], "text": message.text()} for message in chat.messages]
    most = chat.max_completion_tokens or chat.max_tokens
    body = {"voice": call.model, "lines": lines, "most_words": most}
    return UpstreamRequest(
        method="POST",
        url=join_url(call.config.parrot.api_url, "/v1/talk"),
        headers=[
            ("authorization", f"Bearer {call.key.val}"),
            ("content-type", "application/json"),
            ("accept-encoding", "identity"),  # a compressor would hold lines back
        ],
        body=msgspec.json.encode(body),
        proxy=call.config.parrot.proxy_url or call.config.proxy_url or None,
    )


def read_error(reply: UpstreamReply) -> GatewayError:
    """The error that a refusal stands for; its status decides about the key."""
    said = _decode(reply.body) or Heard()
    status = reply.status if 400 <= reply.status <= 599 else 502
    message = said.text or f"Parrot answered HTTP {reply.status} without a message."
    return GatewayError(status, message, code=said.why or None)


def _decode(data: bytes) -> Heard | None:
    try:
        return msgspec.json.decode(data, type=Heard)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


class ParrotDecoder:
    """Lines in, events out."""

    def __init__(self, call: Call) -> None:
        self._model = call.model
        self._lines = RecordParser(b"\n", call.config.limits.response_bytes)
        self._is_whole = False

    def feed(self, data: bytes) -> Iterator[Event]:
        """The events of the lines that are whole now."""
        for line in self._lines.feed(data):
            yield from self._events(line)

    def finish(self) -> list[Event]:
        """Raises `upstream_cut()` if there was no end."""
        if not self._is_whole:
            raise upstream_cut()
        return []

    def _events(self, line: bytes) -> Iterator[Event]:
        if (heard := _decode(line)) is None:
            raise bad_response("Parrot sent a line that is not JSON.")
        match heard.event:
            case "begin":
                yield Started(f"chatcmpl-{heard.id}", self._model)
            case "say":
                yield Text(heard.text)
            case "end":
                self._is_whole = True
                yield Finish(_WHY.get(heard.why, "stop"), native=heard.why)
                yield Usage(heard.heard, heard.spoken)
            case "fail":
                raise GatewayError(_STATUS.get(heard.why, 502), heard.text, code=heard.why)
            case other:
                yield Unknown(other)


PROVIDER = Provider(
    name="parrot-api",
    family="parrot",
    pool="parrot.api_keys",
    request=request,
    read_error=read_error,
    decoder=ParrotDecoder,
    read=read,
)
