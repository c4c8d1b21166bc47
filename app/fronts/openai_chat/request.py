"""OpenAI chat bodies: the little that routing needs, and the whole as the neutral request."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from app.wire.asked import UNREADABLE, Asked, as_bad_request, read_mended
from app.wire.chat import ChatRequest, StreamOptions, read_members
from app.wire.front import Incoming
from app.wire.provider import Wire

WIRE: Wire = "openai-chat"


class ChatOptions(Struct, frozen=True):
    """What this front and an upstream of the same wire need of the body besides."""

    stream_options: StreamOptions | UnsetType | None = UNSET
    n: Any = None

    @property
    def include_usage(self) -> bool:
        """Whether the caller wants the chunk with the usage."""
        asked = self.stream_options
        return isinstance(asked, StreamOptions) and asked.include_usage is True


def _glance_shape(families: Sequence[str]) -> type[Struct]:
    """The members that routing needs, with those of the families; all others are skipped."""
    members: list[tuple[str, Any, Any]] = [
        # An object of this name is OpenRouter's own member, and travels.
        ("provider", str | dict[str, Raw] | UnsetType | None, UNSET),
        ("model", str | None, None),
        ("stream", bool | None, None),
        ("stream_options", StreamOptions | UnsetType | None, UNSET),
        ("n", Any, None),
    ]
    members += [(name, Raw | UnsetType, UNSET) for name in families]
    return msgspec.defstruct("ChatGlance", members)


def glance_for(families: Sequence[str]) -> Callable[[Incoming], Asked]:
    """The `glance` of this front. `families` name the gateway's own members of a body."""
    decode = msgspec.json.Decoder(_glance_shape(families)).decode
    usual = ChatOptions()

    def read(body: bytes) -> Asked:
        found: Any = decode(body)
        own = {}
        for name in families:
            value = getattr(found, name)
            if value is not UNSET:
                own[name] = value
        provider = found.provider
        names = tuple(own)
        if provider is UNSET or isinstance(provider, dict):
            provider = None
        else:
            names += ("provider",)
        options = usual
        if found.stream_options is not UNSET or found.n is not None:
            options = ChatOptions(found.stream_options, found.n)
        return Asked(
            body=body,
            model=found.model or "",
            provider=provider,
            stream=found.stream is True,
            members=own,
            own_names=names,
            options=options,
        )

    def glance(incoming: Incoming) -> Asked:
        """Raises GatewayError 400 for what is not a JSON object with members of the right type."""
        return read_mended(incoming.body, read)

    return glance


_chat = msgspec.json.Decoder(ChatRequest)
_KNOWN = frozenset(name for name in ChatRequest.__struct_encode_fields__ if name[0] != " ")


def read(asked: Asked) -> ChatRequest:
    """The neutral request. Raises GatewayError 400 naming the member that is wrong or missing."""
    body = asked.body
    try:
        chat = _chat.decode(body)
    except UNREADABLE as error:
        raise as_bad_request(error, body) from None
    members = read_members(body)
    own = asked.own_names
    chat.extras = {n: v for n, v in members.items() if n not in _KNOWN and n not in own}
    chat.extras_wire = WIRE
    return chat
