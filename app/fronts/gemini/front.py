"""Google's generateContent as a front, `POST /c/v1beta/models/{model}:{method}`, and its routes.

A stream is told in one of two framings: as server-sent events with `alt=sse`, as one JSON array
without. Errors and silence are told in each in its own way, so each is a front of its own.
"""

import re
from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from app.fronts.gemini.answer import WholeAnswer
from app.fronts.gemini.errors import (
    array_error_body,
    array_error_event,
    error_body,
    error_event,
    error_status,
)
from app.fronts.gemini.passthrough import ArrayPassthrough, EventPassthrough, WholeBody
from app.fronts.gemini.request import WIRE, glance_for, read, word
from app.fronts.gemini.stream import ARRAY, ChunkArray, ChunkStream
from app.wire.asked import Asked
from app.wire.front import Answering, Front
from app.wire.provider import Decoder
from app.wire.renderer import Renderer

CREDENTIAL_HEADERS = ("x-goog-api-key", "authorization")
_FILE = re.compile(rb'"[A-Za-z0-9+/_=-]{1000,}"')
_BYTES_PER_TOKEN, _PER_FILE = 4, 1600


def copy(answering: Answering, decoder: Decoder | None) -> Renderer:
    """A Gemini answer byte for byte."""
    if not answering.asked.stream:
        return WholeBody(answering)
    is_array = answering.asked.options.is_array
    return ArrayPassthrough(answering) if is_array else EventPassthrough(answering)


def keep_alive(asked: Asked, has_begun: bool) -> bytes:
    """A chunk without candidates, for comments and empty lines break real clients.

    gemini-cli takes its counts for those of the conversation: they are the gateway's estimate.
    """
    body, files = _FILE.subn(b"", asked.body)
    tokens = len(body) // _BYTES_PER_TOKEN + files * _PER_FILE
    counts = {"promptTokenCount": tokens, "totalTokenCount": tokens}
    chunk = msgspec.json.encode({"usageMetadata": counts, "modelVersion": asked.model})
    return b"data: %b\r\n\r\n" % chunk


def array_keep_alive(asked: Asked, has_begun: bool) -> bytes:
    """A line break between two elements. Before the first one nothing can be said: an error may
    still have to be the whole answer."""
    return b"\n" if has_begun else b""


def fronts(families: Sequence[str]) -> tuple[Front, Front]:
    """The front for events and whole answers, and the one for arrays. `families` name the gateway's
    own members of a body."""
    events = Front(
        name="gemini",
        asks=WIRE,
        answers=WIRE,
        routes=(),  # its paths hold model and method; app/http/routes/gemini.py takes them apart
        glance=glance_for(families),
        read=read,
        copy=copy,
        stream=ChunkStream,
        whole=WholeAnswer,
        error_body=error_body,
        error_event=error_event,
        error_status=error_status,
        credential_headers=CREDENTIAL_HEADERS,
        keep_alive=keep_alive,
        word=word,
        house="gemini",
    )
    array = replace(
        events,
        stream=ChunkArray,
        error_body=array_error_body,
        error_event=array_error_event,
        stream_type=ARRAY,
        keep_alive=array_keep_alive,
    )
    return events, array
