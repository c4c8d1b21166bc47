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
from app.wire.vectors import as_base64

# What an answer of another shape raises, which is not ours to judge.
_OTHER_SHAPE = (msgspec.DecodeError, ValueError, RecursionError, KeyError)
# A vector's first byte. All are alike in one answer.
_FIRST = re.compile(rb'"embedding"\s*:\s*(["\[])').search


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
    """OpenAI's list of embeddings as it came, but for vectors in the other format."""

    def __init__(self, answering: Answering) -> None:
        super().__init__(answering)
        self._asked = answering.asked.body

    def finish(self, *, is_cut: bool = False) -> bytes:
        """Returns the body. Raises GatewayError 502 for an answer that is not whole."""
        return in_asked_format(super().finish(is_cut=is_cut), self._asked)


def in_asked_format(answer: bytes, asked: bytes) -> bytes:
    """The answer, with numbers in base64 where base64 was asked for.

    Base64 where `float` was asked for is made numbers only if it cannot be float32: then its bytes
    are numbers themselves. Nothing tells float32 from float64 and from four bytes a number.
    """
    found = _FIRST(answer)
    if found is None:
        return answer
    recode = None
    with suppress(*_OTHER_SHAPE):
        match _wanted.decode(asked).encoding_format:
            case "base64" if found[1] == b"[":
                recode = _to_base64
            case "float" if found[1] == b'"':
                recode = _to_numbers
        if recode is not None:
            data = _answer.decode(answer).data
            for one in data:
                one["embedding"] = recode(one["embedding"])
            members = _members.decode(answer)
            members["data"] = Raw(msgspec.json.encode(data))
            return msgspec.json.encode(members)
    return answer


def _to_base64(vector: Raw) -> Raw:
    return Raw(msgspec.json.encode(as_base64(_numbers.decode(vector))))


def _to_numbers(vector: Raw) -> Raw:
    packed = b64decode(_text.decode(vector), validate=True)
    if len(packed) % 4 == 0:
        raise ValueError("these may be float32")
    return Raw(msgspec.json.encode(list(memoryview(packed).cast("b"))))
