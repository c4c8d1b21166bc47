"""OpenAI's embeddings in Gemini's words: batchEmbedContents, a hundred texts a call.

Sources: Google's Gemini API reference; protocol sheet openai-compatible, section 9.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Raw, Struct

from app.wire.asked import Asked
from app.wire.chat import not_json
from app.wire.errors import GatewayError, bad_request, bad_response, from_validation
from app.wire.events import Event, Piece, Usage
from app.wire.provider import Call
from app.wire.vectors import VectorFinder, as_base64, unit

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
    values: list[int] = []  # the place of the vector that stood here


class _Usage(Struct, rename="camel"):
    prompt_token_count: int | None = None


class _Reply(Struct, rename="camel"):
    embeddings: list[_Vector] = []
    usage_metadata: _Usage | None = None


_body = msgspec.json.Decoder(_Body)
_reply = msgspec.json.Decoder(_Reply)
_numbers = msgspec.json.Decoder(list[float])
_any = msgspec.json.Decoder(Raw)


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


class _Answer:
    """One answer while it comes. Its vectors are converted one by one, to JSON as it was asked for.

    A shortened vector of gemini-embedding-001 is not of length 1, as OpenAI's are. What needs no
    conversion keeps its bytes.
    """

    def __init__(self, max_bytes: int, *, is_short: bool, is_base64: bool) -> None:
        self._is_short, self._is_base64 = is_short, is_base64
        self._finder = VectorFinder(max_bytes)
        self._found: list[bytes] = []
        self._text: list[bytes] = []  # each vector is its place in `_found`

    def feed(self, data: bytes) -> None:
        """Takes the next bytes. Raises GatewayError 502 for what is no vector."""
        for text, vector in self._finder.feed(data):
            self._text += (text, b"[%d]" % len(self._found))
            try:
                self._found.append(self._converted(vector))
            except _NOT_READABLE:
                raise _unreadable() from None

    def finish(self) -> tuple[list[bytes], int | None]:
        """The vectors in order, and the tokens of the texts, None if they were not counted."""
        try:
            reply = _reply.decode(b"".join((*self._text, self._finder.rest())))
            vectors = [self._found[each.values[0]] for each in reply.embeddings]
        except (*_NOT_READABLE, IndexError):
            raise _unreadable() from None
        usage = reply.usage_metadata
        return vectors, None if usage is None else usage.prompt_token_count

    def _converted(self, vector: bytes) -> bytes:
        if not (self._is_short or self._is_base64):
            _any.decode(vector)
            return vector
        numbers = _numbers.decode(vector)
        if self._is_short:
            numbers = unit(numbers)
        return msgspec.json.encode(as_base64(numbers) if self._is_base64 else numbers)


def converted(
    body: bytes, max_bytes: int, is_short: bool, is_base64: bool
) -> tuple[list[bytes], int | None] | None:
    """A whole answer's vectors and tokens, for a process of its own. None: it cannot be read."""
    answer = _Answer(max_bytes, is_short=is_short, is_base64=is_base64)
    try:
        answer.feed(body)
        return answer.finish()
    except GatewayError:
        return None


def _unreadable() -> GatewayError:
    return bad_response("Gemini's embeddings cannot be read.")


class EmbeddingsDecoder:
    """The answers of all batches as one of OpenAI's, in one `Piece`.

    `call.chat` is what `read` made of the request, `call.learned` what `converted` made of the
    answers that came before this one.
    """

    def __init__(self, call: Call) -> None:
        self._asked: Embeddings = call.chat
        self._before: list[tuple[list[bytes], int | None] | None] = call.learned or []
        self._model = call.model.removeprefix("models/")
        self._last = _Answer(
            call.config.limits.response_bytes,
            is_short=self._asked.dimensions is not None,
            is_base64=self._asked.is_base64,
        )

    def feed(self, data: bytes) -> Iterator[Event]:
        """Nothing can be said before all is there."""
        self._last.feed(data)
        return iter(())

    def finish(self) -> list[Event]:
        """Raises GatewayError 502 for an answer that is not whole, or not one for each text."""
        answers = [*self._before, self._last.finish()]
        whole = [answer for answer in answers if answer is not None]
        if len(whole) < len(answers):
            raise _unreadable()
        vectors = [vector for each, _ in whole for vector in each]
        if len(vectors) != len(self._asked.texts):
            raise bad_response(
                f"Gemini sent {len(vectors)} embeddings for {len(self._asked.texts)} texts."
            )
        counts = [count for _, count in whole if count is not None]
        tokens = sum(counts)
        body = {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": Raw(vector)}
                for index, vector in enumerate(vectors)
            ],
            "model": self._model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
        events: list[Event] = [Piece(msgspec.json.encode(body))]
        return [*events, Usage(tokens, 0, tokens)] if counts else events
