"""Embeddings in the format that was asked for, whichever the upstream has.

Source: protocol sheet openai-compatible, section 9.
"""

import re
from base64 import b64decode
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Raw, Struct

from app.fronts.openai_chat.passthrough import Whole
from app.wire.front import Answering
from app.wire.vectors import VectorFinder, as_base64

# What an answer of another shape raises, which is not ours to judge.
_OTHER_SHAPE = (msgspec.DecodeError, ValueError, RecursionError, KeyError)
_IS_EMBEDDING = re.compile(rb'.*"embedding"\s*:\s*', re.DOTALL).fullmatch
_NAME_BYTES = 64  # of the text before a list, in which its name stands


class _Wanted(Struct):
    encoding_format: Any = None


class _Answer(Struct):
    data: list[dict[str, Raw]]


_wanted = msgspec.json.Decoder(_Wanted)
_answer = msgspec.json.Decoder(_Answer)
_members = msgspec.json.Decoder(dict[str, Raw])
_numbers = msgspec.json.Decoder(list[float])
_text = msgspec.json.Decoder(str)


class Embeddings(Whole):
    """OpenAI's list of embeddings as it came, but for vectors in the other format.

    Numbers become base64 where that was asked for. Base64 becomes numbers where those were asked
    for and it cannot be float32: then its bytes are the numbers. Nothing tells float32 from float64
    or from four bytes that are numbers each.
    """

    def __init__(self, answering: Answering) -> None:
        super().__init__(answering)
        self._wanted: Any = None
        with suppress(*_OTHER_SHAPE):
            self._wanted = _wanted.decode(answering.asked.body).encoding_format
        self._vectors = VectorFinder(answering.max_bytes)

    def feed(self, data: bytes) -> bytes:
        """Keeps the piece, with numbers in base64 where that was asked for."""
        if self._wanted != "base64":
            return super().feed(data)
        for text, vector in self._vectors.feed(data):
            super().feed(text)
            is_embedding = _IS_EMBEDDING(text[-_NAME_BYTES:])
            super().feed(_to_base64(vector) if is_embedding else vector)
        return b""

    def finish(self, *, is_cut: bool = False) -> bytes:
        """Returns the body. Raises GatewayError 502 for an answer that is not whole."""
        super().feed(self._vectors.rest())
        body = super().finish(is_cut=is_cut)
        return _with_numbers(body) if self._wanted == "float" else body


def _to_base64(vector: bytes) -> bytes:
    try:
        return msgspec.json.encode(as_base64(_numbers.decode(vector)))
    except _OTHER_SHAPE:
        return vector


def _with_numbers(answer: bytes) -> bytes:
    """The answer with numbers in place of base64, or as it is."""
    if b'"embedding":"' not in answer and b'"embedding": "' not in answer:
        return answer
    with suppress(*_OTHER_SHAPE):
        data = _answer.decode(answer).data
        for one in data:
            one["embedding"] = _to_numbers(one["embedding"])
        members = _members.decode(answer)
        members["data"] = Raw(msgspec.json.encode(data))
        return msgspec.json.encode(members)
    return answer


def _to_numbers(vector: Raw) -> Raw:
    packed = b64decode(_text.decode(vector), validate=True)
    if len(packed) % 4 == 0:
        raise ValueError("these may be float32")
    return Raw(msgspec.json.encode(list(memoryview(packed).cast("b"))))
