"""A generateContent body on its way to Google, byte for byte but for what only the gateway knows.

It comes from Google's own clients, or from POST /gemini/openai, which takes it with `model` inside.
Source: Google's Gemini API reference.
"""

import re
from typing import Any

import msgspec
from msgspec import Raw

from app.wire.asked import UNREADABLE, Asked
from app.wire.chat import not_json, read_members
from app.wire.errors import GatewayError, bad_request
from app.wire.signature_mark import START
from providers.gemini.raw_json import JSON_ERRORS, encode
from providers.gemini.signatures import PLACEHOLDER

_NOT_NATIVE = ("model", "stream", "stream_options")


# A signature of the gateway's own, which carries the thoughts of another house. PHP writes / as \/.
_MARK = re.compile(rb'"%b[A-Za-z0-9+/\\_=-]*"' % START.encode())
_PLACEHOLDER = b'"%b"' % PLACEHOLDER.encode()


def read_native(asked: Asked) -> bytes:
    """The caller's bytes without the gateway's own members and signatures, as Google takes them."""
    return _as_asked(asked) if asked.method else _of_door(asked)


def _as_asked(asked: Asked) -> bytes:
    """A body of Google's own clients, who name model and method in the path."""
    body = asked.body
    if START.encode() in body:
        body = _MARK.sub(_PLACEHOLDER, body)
    if not asked.own_names:
        return body
    members = read_members(body)
    return encode({name: raw for name, raw in members.items() if name not in asked.own_names})


_MODEL = re.compile(rb'("model"\s*:\s*)("(?:[^"\\]|\\.)*")')
_text = msgspec.json.Decoder(str)


def with_model_of_url(body: bytes, asked: str, path: str) -> bytes:
    """The body with the model of the URL, `path`, wherever it names the one that was asked for:
    embeddings and counts name it again, and Google refuses another one there."""

    def named(found: re.Match[bytes]) -> bytes:
        try:
            is_it = _text.decode(found[2]).removeprefix("models/") == asked
        except UNREADABLE:
            return found[0]
        return found[1] + msgspec.json.encode(path) if is_it else found[0]

    return _MODEL.sub(named, body)


def _of_door(asked: Asked) -> bytes:
    """A body with `model` in it; the values are untouched."""
    body = asked.body
    members = read_members(body)
    try:
        body.decode()  # values that are only passed on have not been looked at
    except UnicodeDecodeError as error:
        raise not_json(body, error) from None
    native = {
        name: raw for name, raw in members.items() if name not in (*asked.own_names, *_NOT_NATIVE)
    }
    if "contents" not in native:
        raise bad_request(
            "A generateContent body needs `contents`; OpenAI bodies belong to"
            " /c/v1/chat/completions.",
            "contents",
        )
    for name in ("systemInstruction", "system_instruction"):
        if name in native:
            native[name] = _folded(native[name], name)
    return encode(native)


def _folded(raw: Raw, name: str) -> Raw:
    """A system instruction as one Content; text and arrays of contents are folded into one.

    Arrays are taken because the Go predecessor of this gateway demanded them.
    """
    given = bytes(raw)
    if given[:1] not in (b'"', b"["):
        return raw
    try:
        decoded = msgspec.json.decode(given, type=str | list[str | dict[str, Raw]])
    except JSON_ERRORS as error:
        raise _not_an_instruction(name, error) from None
    parts: list[Any] = []
    for one in [decoded] if isinstance(decoded, str) else decoded:
        if isinstance(one, str):
            parts.append({"text": one})
        elif "parts" in one:
            try:
                parts += msgspec.json.decode(one["parts"], type=list[Raw])
            except JSON_ERRORS as error:
                raise _not_an_instruction(name, error) from None
        else:
            parts.append(one)
    return Raw(encode({"parts": parts}))


def _not_an_instruction(name: str, error: Exception) -> GatewayError:
    return bad_request(f"{name} must be a Content, text or an array of them: {error}.", name)
