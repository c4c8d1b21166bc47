"""What a provider of OpenAI's wire does for the bodies of other fronts."""

from collections.abc import Iterator, Mapping

from msgspec import structs

from app.wire.chat import ChatRequest
from app.wire.events import Event, ToolCall
from app.wire.provider import Call, Decoder, Upstream
from providers.openai import decode
from providers.openai.messages import urls_to_fetch
from providers.openai.request import tool_names


async def prepare(call: Call, upstream: Upstream) -> Call:
    """Fetches files by URL. `learned`: url -> (mime type, content)."""
    urls = urls_to_fetch(call.chat.messages)
    if not urls or call.learned:
        return call
    return structs.replace(call, learned=await upstream.fetch(urls))


def decoder(call: Call, *, think_tags: bool) -> Decoder:
    """The decoder of the answer; `think_tags` as ChatDecoder has it."""
    chat = call.chat
    renamed = tool_names(chat).renamed if isinstance(chat, ChatRequest) else {}
    inner = decode.decoder(call, think_tags=think_tags)
    return Renaming(inner, renamed) if renamed else inner


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
