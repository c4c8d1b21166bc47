"""OpenAI Responses as a front: `POST /c/v1/responses`, and the routes about its answers."""

from collections.abc import Sequence

from app.fronts.openai_responses.errors import (
    error_body,
    error_event,
    error_headers,
    error_status,
)
from app.fronts.openai_responses.passthrough import ResponsesPassthrough, WholeBody
from app.fronts.openai_responses.request import COMPACT, RESPONSES, WIRE, glance_for, read, word
from app.fronts.openai_responses.response import WholeResponse
from app.fronts.openai_responses.stream import ResponseStream
from app.wire.asked import Asked
from app.wire.errors import GatewayError
from app.wire.front import Answering, Front, Route
from app.wire.kept import PREFIX, item_place
from app.wire.provider import Decoder
from app.wire.renderer import Renderer


def copy(answering: Answering, decoder: Decoder | None) -> Renderer:
    """An answer of OpenAI's Responses byte for byte."""
    return ResponsesPassthrough(answering) if answering.asked.stream else WholeBody(answering)


def refers(asked: Asked) -> tuple[str | None, list[str]]:
    """The kept answer that the body goes on from, and those whose items it names."""
    options = asked.options
    previous = options.previous
    chain = previous if previous and previous.startswith(PREFIX) else None
    places = map(item_place, options.references)
    return chain, [place[0] for place in places if place is not None]


def fail(asked: Asked, error: GatewayError, request_id: str) -> bytes:
    """The events that end a stream which has begun."""
    live = asked.options.live
    return error_event(error, request_id) if live is None else bytes(live.failed(error))


def wake(asked: Asked) -> bytes:
    """An event for a stream that was silent for long; b"" where there can be none."""
    live = asked.options.live
    return b"" if live is None else bytes(live.awake())


def front(families: Sequence[str]) -> Front:
    """The front. `families` name the gateway's own members of a body."""
    return Front(
        name="openai-responses",
        asks=WIRE,
        answers=WIRE,
        routes=(Route(RESPONSES), Route(RESPONSES + COMPACT)),
        glance=glance_for(families),
        read=read,
        copy=copy,
        stream=ResponseStream,
        whole=WholeResponse,
        error_body=error_body,
        error_event=error_event,
        error_headers=error_headers,
        error_status=error_status,
        word=word,
        refers=refers,
        fail=fail,
        wake=wake,
    )
