"""OpenAI's endpoints beside chat as fronts: `POST /c/v1/embeddings` and its like.

One front for each endpoint, all of one wire: the body goes up and the answer comes back as bytes.
"""

from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from app.fronts.alias import NamedBody, named
from app.fronts.openai_chat.passthrough import Whole
from app.fronts.openai_endpoints import form
from app.fronts.openai_endpoints.copied import Copied
from app.fronts.openai_endpoints.embeddings import Embeddings
from app.fronts.raw_stream import RawStream
from app.wire.endpoints import ENDPOINTS, FORMS, Endpoint
from app.wire.front import Answering, Front, Route
from app.wire.provider import Decoder, Wire
from app.wire.renderer import Renderer

WIRE: Wire = "openai-endpoint"


def fronts(chat: Front) -> tuple[Front, ...]:
    """The front of each endpoint; `chat` says how OpenAI's bodies and errors are read and told."""
    return tuple(_front(chat, endpoint) for endpoint in ENDPOINTS)


def _front(chat: Front, endpoint: Endpoint) -> Front:
    # Speech is a stream whatever its body says: the first sound is played while the rest is made.
    route = Route(f"/c/v1/{endpoint}", stream=True if endpoint == "audio/speech" else None)
    front = replace(
        chat,
        name="openai-" + endpoint.replace("/", "-"),
        asks=WIRE,
        answers=WIRE,
        endpoint=endpoint,
        routes=(route,),
        read=None,
        models=None,
    )
    if endpoint == "completions":
        return front
    return replace(
        front,
        glance=form.glance if endpoint in FORMS else chat.glance,
        copy=_copy(endpoint),
        error_event=None,
        keep_alive=b"",
        is_text=False,
    )


def _copy(endpoint: Endpoint) -> Callable[[Answering, Decoder | None], Renderer]:
    """How its answers are copied, by what they are: JSON unless streamed, or sound and its text."""
    whole, named_whole = Whole, NamedBody
    if endpoint == "embeddings":
        whole, named_whole = Embeddings, _NamedEmbeddings
    is_audio = endpoint.startswith("audio/")

    def copy(answering: Answering, decoder: Decoder | None) -> Renderer:
        alias = bool(answering.alias)
        if decoder is not None:
            return (_NamedPieces if alias else RawStream)(answering, decoder)
        if is_audio or answering.asked.stream:
            return Copied(answering)
        return (named_whole if alias else whole)(answering)

    return copy


class _NamedEmbeddings(NamedBody, Embeddings):
    """Embeddings that name the alias which was asked for."""


class _NamedPieces(RawStream):
    """A whole JSON answer in pieces that names the alias which was asked for."""

    def __init__(self, answering: Answering, decoder: Decoder) -> None:
        super().__init__(answering, decoder)
        self._alias = msgspec.json.encode(answering.alias)

    def finish(self, *, is_cut: bool = False) -> bytes:
        """Returns the answer."""
        return named(super().finish(is_cut=is_cut), self._alias)
