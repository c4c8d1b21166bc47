"""OpenAI chat completions as a front: `POST /c/v1/chat/completions`."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from app.fronts.alias import NamedBody, NamedStream
from app.fronts.openai_chat.completion import Completion
from app.fronts.openai_chat.errors import error_body, error_event
from app.fronts.openai_chat.passthrough import Passthrough, Whole
from app.fronts.openai_chat.request import WIRE, glance_for, read
from app.fronts.openai_chat.stream import ChatStream
from app.wire.front import Answering, Front, Route
from app.wire.provider import Decoder, Wire
from app.wire.renderer import Renderer

CHAT = "/c/v1/chat/completions"
BING = "/bing/message"  # whatever its `provider` says


def copy(answering: Answering, decoder: Decoder | None) -> Renderer:
    """An OpenAI answer byte for byte."""
    if answering.alias:
        return NamedStream(answering) if answering.asked.stream else NamedBody(answering)
    return Passthrough(answering) if answering.asked.stream else Whole(answering)


def models(listed: list[dict[str, Any]]) -> bytes:
    """OpenAI's list of models."""
    return msgspec.json.encode({"object": "list", "data": listed})


def front(families: Sequence[str]) -> Front:
    """The front. `families` name the gateway's own members of a body."""
    return Front(
        name="openai-chat",
        asks=WIRE,
        answers=WIRE,
        routes=(Route(CHAT), Route(BING, provider="bing")),
        glance=glance_for(families),
        read=read,
        copy=copy,
        stream=ChatStream,
        whole=Completion,
        error_body=error_body,
        error_event=error_event,
        models=models,
    )


def door(chat: Front, name: str, asks: Wire, route: Route, *headers: str) -> Front:
    """A front that takes an upstream's own bodies on one path and answers in OpenAI's shape."""
    return replace(
        chat,
        name=name,
        asks=asks,
        routes=(route,),
        read=None,
        credential_headers=(*chat.credential_headers, *headers),
        models=None,
    )
