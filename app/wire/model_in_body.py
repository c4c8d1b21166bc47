"""Another name of the model in a body that otherwise travels byte for byte."""

import re

import msgspec
from msgspec import Raw, Struct

from app.wire.chat import read_members

_MODEL = re.compile(rb'"model"\s*:\s*("(?:[^"\\]|\\.)*")')


class _Name(Struct):
    """The member that names the model."""

    model: str = ""


_name = msgspec.json.Decoder(_Name)
_text = msgspec.json.Decoder(str)


def with_model(body: bytes, asked: str, model: str) -> bytes:
    """The body with another name in its `model`, which is `asked` now; nothing else changes. The
    very same bytes where both names are equal."""
    if model == asked:
        return body
    said = msgspec.json.encode(model)
    for found in _MODEL.finditer(body):
        begin, end = found.span(1)
        changed = body[:begin] + said + body[end:]
        # A tool may have a parameter of this name: that one is not it.
        if _text.decode(found[1]) == asked and _name.decode(changed).model == model:
            return changed
    return msgspec.json.encode({**read_members(body), "model": Raw(said)})
