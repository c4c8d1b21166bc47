"""Anthropic's Messages as a front: `POST /c/v1/messages`."""

from collections.abc import Sequence

from app.fronts.anthropic.errors import (
    ID_HEADER,
    ID_PREFIX,
    error_body,
    error_event,
    error_headers,
    error_status,
)
from app.fronts.anthropic.message import WholeMessage
from app.fronts.anthropic.passthrough import (
    MessagesPassthrough,
    NamedMessage,
    NamedMessages,
    WholeBody,
)
from app.fronts.anthropic.request import WIRE, glance_for, read, word
from app.fronts.anthropic.stream import KEEP_ALIVE, MessageStream
from app.wire.front import Answering, Front, Route
from app.wire.provider import Decoder
from app.wire.renderer import Renderer

MESSAGES = "/c/v1/messages"


def copy(answering: Answering, decoder: Decoder | None) -> Renderer:
    """A Messages answer byte for byte."""
    if answering.alias:
        return NamedMessages(answering) if answering.asked.stream else NamedMessage(answering)
    return MessagesPassthrough(answering) if answering.asked.stream else WholeBody(answering)


def front(families: Sequence[str]) -> Front:
    """The front. `families` name the gateway's own members of a body."""
    return Front(
        name="anthropic",
        asks=WIRE,
        answers=WIRE,
        routes=(Route(MESSAGES),),
        glance=glance_for(families),
        read=read,
        copy=copy,
        stream=MessageStream,
        whole=WholeMessage,
        error_body=error_body,
        error_event=error_event,
        error_headers=error_headers,
        error_status=error_status,
        id_header=ID_HEADER,
        id_prefix=ID_PREFIX,
        credential_headers=("x-api-key", "authorization"),
        keep_alive=KEEP_ALIVE,
        word=word,
        house="claude",
    )
