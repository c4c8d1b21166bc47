"""Answers that are copied byte for byte, but for the model's name: where the caller asked for an
alias of the config, it is the alias that the answer names.

Protocol sheet: openai-compatible, 8.
"""

import re

import msgspec
from msgspec import Raw

from app.fronts.openai_chat.passthrough import Passthrough, Whole
from app.wire.front import Answering

_MODEL = re.compile(rb'("model"\s*:\s*)("(?:[^"\\]|\\.)*")')
_members = msgspec.json.Decoder(dict[str, Raw])


class NamedStream(Passthrough):
    """Goes before a stream's own class among the bases.

    Text and tool arguments stand in JSON strings, whose quotes are escaped: they are never touched.
    """

    def __init__(self, answering: Answering) -> None:
        super().__init__(answering)
        self._alias = msgspec.json.encode(answering.alias)
        self._model = b""  # the upstream's own name of it, in quotes

    def feed(self, data: bytes) -> bytes:
        """Returns what may be sent on of the piece."""
        return self._named(super().feed(data))

    def finish(self, *, is_cut: bool = False) -> bytes:
        """Returns the rest. Raises GatewayError 502 for an answer that is not whole."""
        return self._named(super().finish(is_cut=is_cut))

    def _named(self, out: bytes) -> bytes:
        return _MODEL.sub(self._name, out) if b'"model"' in out else out

    def _name(self, found: re.Match[bytes]) -> bytes:
        self._model = self._model or found[2]
        return found[1] + self._alias if found[2] == self._model else found[0]


class NamedBody(Whole):
    """Goes before a whole body's own class among the bases."""

    def __init__(self, answering: Answering) -> None:
        super().__init__(answering)
        self._alias = msgspec.json.encode(answering.alias)

    def finish(self, *, is_cut: bool = False) -> bytes:
        """Returns the rest. Raises GatewayError 502 for an answer that is not whole."""
        return named(super().finish(is_cut=is_cut), self._alias)


def named(body: bytes, alias: bytes) -> bytes:
    """A whole JSON body whose top-level `model` is `alias`, a JSON text; as it is without one."""
    try:
        members = _members.decode(body)
    except msgspec.DecodeError:
        return body  # no object
    if bytes(members.get("model", b""))[:1] != b'"':
        return body
    members["model"] = Raw(alias)
    return msgspec.json.encode(members)
