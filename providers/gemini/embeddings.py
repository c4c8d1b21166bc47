"""OpenAI's embeddings in Gemini's words: batchEmbedContents, a hundred texts a call.

Sources: Google's Gemini API reference; protocol sheet openai-compatible, section 9.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Raw, Struct

from app.wire.asked import Asked
from app.wire.chat import not_json
from app.wire.errors import bad_request, bad_response, from_validation
from app.wire.events import Event, Piece, Usage
from app.wire.provider import Call
from app.wire.vectors import as_base64, unit

MOST_AT_ONCE = 100
_NOT_READABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

# These models take the task as the beginning of the text, and ignore the member for it.
_TASK_IN_TEXT = "embedding-2"
_DOCUMENT = "RETRIEVAL_DOCUMENT"
_TASKS = {
    "RETRIEVAL_QUERY": "search result",
    "QUESTION_ANSWERING": "question answering",
    "FACT_VERIFICATION": "fact checking",
    "CODE_RETRIEVAL_QUERY": "code retrieval",
    "CLASSIFICATION": "classification",
    "CLUSTERING": "clustering",
    "SEMANTIC_SIMILARITY": "sentence similarity",
}


class Options(Struct):
    """The body's `gemini` member, as far as it is about embeddings."""

    task_type: str | None = None
    title: str | None = None


class _Body(Struct):
    input: str | list[str | int | list[int]]
    dimensions: int | None = None
    encoding_format: str | None = None
    user: Any = None


class Embeddings(Struct, frozen=True):
    """A request as it was read. `dimensions` is None for the model's own number."""

    texts: list[str]
    dimensions: int | None
    is_base64: bool
    task_type: str
    title: str
    dropped: tuple[str, ...]

    def batches(self) -> list[list[str]]:
        """The texts of each call, in order."""
        starts = range(0, len(self.texts), MOST_AT_ONCE)
        return [self.texts[start : start + MOST_AT_ONCE] for start in starts]


class _Vector(Struct):
    values: Raw = Raw(b"[]")


class _Usage(Struct, rename="camel"):
    prompt_token_count: int | None = None


class _Reply(Struct, rename="camel"):
    embeddings: list[_Vector] = []
    usage_metadata: _Usage | None = None


_body = msgspec.json.Decoder(_Body)
_reply = msgspec.json.Decoder(_Reply)
_numbers = msgspec.json.Decoder(list[float])


def read(asked: Asked) -> Embeddings:
    """Raises GatewayError 400 for what Gemini cannot be asked; tokens are one such."""
    try:
        body = _body.decode(asked.body)
    except msgspec.ValidationError as error:
        raise from_validation(error) from None
    except _NOT_READABLE as error:
        raise not_json(asked.body, error) from None
    texts = [body.input] if isinstance(body.input, str) else body.input
    if not texts:
        raise bad_request("`input` is empty; send a text or a list of texts.", "input")
    if not all(isinstance(text, str) for text in texts):
        raise bad_request(
            "Gemini takes texts, not token ids; send the texts that the tokens are made of "
            "(LangChain: check_embedding_ctx_length=False).",
            "input",
        )
    if body.dimensions is not None and body.dimensions < 1:
        raise bad_request("`dimensions` must be 1 or more.", "dimensions")
    if body.encoding_format not in (None, "float", "base64"):
        raise bad_request("`encoding_format` must be float or base64.", "encoding_format")
    options = asked.member("gemini", Options) or Options()
    return Embeddings(
        texts=[text for text in texts if isinstance(text, str)],
        dimensions=body.dimensions,
        is_base64=body.encoding_format == "base64",
        task_type=(options.task_type or "").upper(),
        title=options.title or "",
        dropped=() if body.user is None else ("user",),
    )


def batch_body(asked: Embeddings, texts: Iterable[str], model: str) -> bytes:
    """A batchEmbedContents body; `model` is the path of the model, models/..."""
    shared: dict[str, Any] = {"model": model}
    before = ""
    if _TASK_IN_TEXT in model:
        before = _beginning(asked.task_type, asked.title)
    else:
        told = {"taskType": asked.task_type, "title": asked.title}
        shared |= {name: value for name, value in told.items() if value}
    if asked.dimensions is not None:
        shared["outputDimensionality"] = asked.dimensions
    requests = [{**shared, "content": {"parts": [{"text": before + text}]}} for text in texts]
    return msgspec.json.encode({"requests": requests})


def _beginning(task_type: str, title: str) -> str:
    if task_type == _DOCUMENT:
        return f"title: {title or 'none'} | text: "
    task = _TASKS.get(task_type)
    return f"task: {task} | query: " if task else ""


class EmbeddingsDecoder:
    """The answers of all batches as one of OpenAI's, in one `Piece`.

    `call.chat` is what `read` made of the request, `call.learned` the bodies of the answers that
    came before this one.
    """

    def __init__(self, call: Call) -> None:
        self._asked: Embeddings = call.chat
        self._replies: list[bytes] = call.learned or []
        self._model = call.model.removeprefix("models/")
        self._body = bytearray()
        self._left = call.config.limits.response_bytes - sum(map(len, self._replies))

    def feed(self, data: bytes) -> Iterator[Event]:
        """Keeps the bytes: nothing can be said before all is there."""
        self._left -= len(data)
        if self._left < 0:
            raise bad_response("Gemini's answer is above limits.response_bytes.")
        self._body += data
        return iter(())

    def finish(self) -> list[Event]:
        """Raises GatewayError 502 for an answer that is not whole, or not one for each text."""
        try:
            replies = [_reply.decode(body) for body in (*self._replies, bytes(self._body))]
            vectors = [self._value(each.values) for reply in replies for each in reply.embeddings]
        except _NOT_READABLE:
            raise bad_response("Gemini's embeddings cannot be read.") from None
        if len(vectors) != len(self._asked.texts):
            raise bad_response(
                f"Gemini sent {len(vectors)} embeddings for {len(self._asked.texts)} texts."
            )
        counts = [
            reply.usage_metadata.prompt_token_count
            for reply in replies
            if reply.usage_metadata is not None
            and reply.usage_metadata.prompt_token_count is not None
        ]
        tokens = sum(counts)
        body = {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": vector}
                for index, vector in enumerate(vectors)
            ],
            "model": self._model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
        events: list[Event] = [Piece(msgspec.json.encode(body))]
        return [*events, Usage(tokens, 0, tokens)] if counts else events

    def _value(self, values: Raw) -> Any:
        """The vector as it was asked for. Its bytes stay as they are where nothing is to be done.

        A shortened vector of gemini-embedding-001 is not of length 1, as OpenAI's are.
        """
        asked = self._asked
        if asked.dimensions is None and not asked.is_base64:
            return values
        numbers = _numbers.decode(values)
        if asked.dimensions is not None:
            numbers = unit(numbers)
        return as_base64(numbers) if asked.is_base64 else numbers
