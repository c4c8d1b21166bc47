"""What a provider of OpenAI's wire does for the bodies of other fronts."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from msgspec import structs

from app.wire.chat import ChatRequest
from app.wire.events import Event, ToolCall
from app.wire.provider import Call, Decoder, Upstream
from app.wire.upstream import UpstreamReply, UpstreamRequest
from providers.openai import decode
from providers.openai.learned import learn
from providers.openai.messages import urls_to_fetch
from providers.openai.request import effort_of, encode_request, known_of, stops, tool_names

# An upstream may refuse one parameter after the other.
_MOST_RETRIES = 4


def translated(
    address: Callable[[Call], str], post: Callable[[Call, bytes], UpstreamRequest]
) -> dict[str, Any]:
    """The members of the `Provider`. `address` is the upstream's, by which is known what it
    refuses; `post` makes the request of a body."""

    def request(call: Call) -> UpstreamRequest:
        return post(call, encode_request(call, address(call)))

    def retry(call: Call, reply: UpstreamReply) -> UpstreamRequest | None:
        known = known_of(call, address(call))
        return request(call) if learn(known, reply, call.chat, effort_of(call, known)) else None

    return {
        "request": request,
        "retry": retry,
        "most_retries": _MOST_RETRIES,
        "prepare": prepare,
        "decoder": decoder,
        "stops": lambda call: stops(call, known_of(call, address(call))),
    }


async def prepare(call: Call, upstream: Upstream) -> Call:
    """Fetches files by URL. `learned`: url -> (mime type, content)."""
    urls = urls_to_fetch(call.chat.messages)
    if not urls or call.learned:
        return call
    return structs.replace(call, learned=await upstream.fetch(urls))


def decoder(call: Call) -> Decoder:
    """The decoder of the answer."""
    chat = call.chat
    renamed = tool_names(chat).renamed if isinstance(chat, ChatRequest) else {}
    return Renaming(decode.decoder(call), renamed) if renamed else decode.decoder(call)


class Renaming:
    """A decoder whose tool calls have the caller's names for functions."""

    def __init__(self, inner: Decoder, renamed: Mapping[str, str]) -> None:
        self._inner, self._renamed = inner, renamed

    def feed(self, data: bytes) -> Iterator[Event]:
        """The events that the next bytes complete."""
        yield from map(self._as_called, self._inner.feed(data))

    def finish(self) -> Iterator[Event]:
        """The events of the end."""
        yield from map(self._as_called, self._inner.finish())

    def _as_called(self, event: Event) -> Event:
        if isinstance(event, ToolCall):
            event.name = self._renamed.get(event.name, event.name)
        return event
