"""embedContent and batchEmbedContents as OpenAI's embeddings, for upstreams that have those.

`taskType` and `title` have no place there. Protocol sheet: front-gemini, 6.
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from app.fronts.gemini.errors import error_body, error_status
from app.fronts.gemini.front import CREDENTIAL_HEADERS
from app.fronts.gemini.schema import Content, EmbedContent, EmbedContents, in_camel_case
from app.fronts.openai_chat import passthrough
from app.wire.asked import UNREADABLE, Asked, as_bad_request
from app.wire.errors import bad_request, bad_response
from app.wire.front import Answering, Front
from app.wire.provider import Decoder
from app.wire.renderer import Renderer

_BATCH = "batchEmbedContents"


class _Vector(Struct):
    embedding: Raw


class _Answer(Struct):
    data: list[_Vector]


_one = msgspec.json.Decoder(EmbedContent)
_several = msgspec.json.Decoder(EmbedContents)
_answer = msgspec.json.Decoder(_Answer)


def front_for(embeddings: Front, asked: Asked) -> Front:
    """The front of this call: `embeddings`, OpenAI's, whose answers are told as Google's."""
    return replace(
        embeddings,
        name="gemini",
        copy=_batch if asked.method == _BATCH else _single,
        error_body=error_body,
        error_status=error_status,
        credential_headers=CREDENTIAL_HEADERS,
        house="gemini",
    )


def openai_body(asked: Asked) -> bytes:
    """The body of OpenAI's embeddings. Raises GatewayError 400 for what is no text."""
    is_batch = asked.method == _BATCH
    try:
        if is_batch:
            several = _several.decode(in_camel_case(asked.body, EmbedContents)).requests or []
        else:
            several = [_one.decode(in_camel_case(asked.body, EmbedContent))]
    except UNREADABLE as error:
        raise as_bad_request(error, asked.body) from None
    if not several:
        raise bad_request("requests is not specified", "requests")
    texts = [
        _text(one.content, f"requests[{at}].content" if is_batch else "content")
        for at, one in enumerate(several)
    ]
    sizes = {one.output_dimensionality for one in several}
    if len(sizes) > 1:
        path = "requests.outputDimensionality"
        raise bad_request(f"{path}: must be the same in each request.", path)
    body: dict[str, Any] = {"model": asked.model, "input": texts, "encoding_format": "float"}
    if (size := sizes.pop()) is not None:
        body["dimensions"] = int(size)
    return msgspec.json.encode(body)


def _text(content: Content | str | None, path: str) -> str:
    if content is None:
        raise bad_request(f"{path} is not specified", path)
    if isinstance(content, str):
        return content
    parts = content.all_parts()
    if any(part.text is None for part in parts):
        raise bad_request(f"{path}: others than Gemini embed text only.", path)
    return "\n".join(part.text or "" for part in parts)


def _single(answering: Answering, decoder: Decoder | None) -> Renderer:
    return _Embedding(answering)


def _batch(answering: Answering, decoder: Decoder | None) -> Renderer:
    return _Embeddings(answering)


class _Embeddings(passthrough.Whole):
    """OpenAI's list of embeddings as Google's; the numbers keep every digit."""

    def finish(self, *, is_cut: bool = False) -> bytes:
        """The whole body. Raises GatewayError 502 for an answer that holds none."""
        body = super().finish(is_cut=is_cut)
        try:
            vectors = [{"values": one.embedding} for one in _answer.decode(body).data]
        except UNREADABLE:
            raise bad_response("The upstream's answer holds no embeddings.") from None
        return msgspec.json.encode(self._told(vectors))

    def _told(self, vectors: list[dict[str, Raw]]) -> dict[str, Any]:
        return {"embeddings": vectors}


class _Embedding(_Embeddings):
    """The same for one text."""

    def _told(self, vectors: list[dict[str, Raw]]) -> dict[str, Any]:
        if len(vectors) != 1:
            raise bad_response(f"The upstream made {len(vectors)} embeddings of one text.")
        return {"embedding": vectors[0]}
