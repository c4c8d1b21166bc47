"""The doors below /backend-api and /backend-anon: the chatgpt.com site's own bodies.

`web2api` answers in OpenAI's shape, `conversation` with the site's own stream.
"""

from msgspec.structs import replace

from app.fronts.openai_chat.front import door
from app.fronts.raw_stream import RawStream
from app.wire.front import Answering, Front, Route
from app.wire.provider import Decoder
from app.wire.renderer import Renderer


def fronts(chat: Front) -> tuple[Front, ...]:
    """The four doors; `chat` says how OpenAI's shape is rendered."""
    found = []
    for side, provider in (("api", "openai-chat-web"), ("anon", "openai-chat-web/anonymous")):
        translated = Route(f"/backend-{side}/web2api", provider=provider)
        own = Route(f"/backend-{side}/conversation", provider=provider, stream=True)
        first = door(chat, f"chatgpt-web-{side}-openai", "chatgpt-web", translated)
        second = replace(
            first,
            name=f"chatgpt-web-{side}",
            answers="chatgpt-web",
            routes=(own,),
            copy=copy,
        )
        found += [first, second]
    return tuple(found)


def copy(answering: Answering, decoder: Decoder | None) -> Renderer:
    """The site's own stream, of which the decoder says where it goes on and ends."""
    assert decoder is not None, "the provider brings the decoder of its untouched stream"
    return RawStream(answering, decoder)
