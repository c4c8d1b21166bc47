"""Finds the model that a raw request names, to check it against the `models` of a token.

Used only for callers whose token names models: other raw requests are forwarded unread. A body that
two JSON parsers could read differently counts as naming no model.
"""

import re
from urllib.parse import unquote

import msgspec
from msgspec import Raw

from app.wire.chat import read_members
from app.wire.errors import GatewayError, bad_request

_IN_PATH = re.compile(r"(?:\A|/)((?:tuned)?[mM]odels/[^/:]+)").search
_KEY = re.compile(rb'\s*("[^"\\]*+(?:\\.[^"\\]*+)*+")\s*:\s*').match
_END = re.compile(rb"\s*([,}])").match
_text = msgspec.json.Decoder(str).decode
_MODEL_LIST = re.compile(r"(?:[^/]+/)?models(?:/[^/:]+)?/?").fullmatch


def is_model_list(method: str, path: str) -> bool:
    """Whether a request lists models or describes one, and so uses none."""
    return method in ("GET", "HEAD") and _MODEL_LIST(path) is not None


def model_in_path(path: str) -> str | None:
    """The model in a Gemini path: .../models/gemini-2.5-flash:generateContent."""
    found = _IN_PATH(unquote(path))
    return found[1].removeprefix("models/") if found else None


def model_in_body(body: bytes) -> str | None:
    """The top-level member `model` of a JSON object; None if absent, no text or ambiguous."""
    try:
        members = read_members(body)
    except GatewayError:
        return None
    if not _is_unambiguous(body, members) or _ambiguous_name(members, ("model",)):
        return None
    try:
        return _text(members["model"])
    except (KeyError, msgspec.DecodeError, UnicodeDecodeError):
        return None


# The parts of a message by which a live API is told its model.
_SETTINGS = ("setup", "session", "response")


def models_in_message(body: bytes) -> list[str]:
    """The models that a message of a live API names, at its top or in its settings.

    Raises GatewayError 400 for what is no JSON object, or could be read in two ways.
    """
    check_unambiguous(body, "model", *_SETTINGS)
    members = read_members(body)
    found = []
    for name in _SETTINGS:
        inner = bytes(members.get(name, b""))
        if inner[:1] == b"{":
            check_unambiguous(inner, "model")
            found.append(read_members(inner).get("model"))
    try:
        return [_text(raw) for raw in (members.get("model"), *found) if raw is not None]
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise bad_request("The model must be a text.", param="model") from None


def check_unambiguous(body: bytes, *names: str) -> None:
    """Raises GatewayError 400 if a JSON object has a duplicate member, or one of `names` in other
    letter case."""
    members = read_members(body)
    if name := _ambiguous_name(members, names):
        raise bad_request(f"The body holds more than one {name}; send one.", param=name)
    if not _is_unambiguous(body, members):
        raise bad_request("The body holds a member more than once; send each once.")


def _is_unambiguous(body: bytes, members: dict[str, Raw]) -> bool:
    """Whether the body holds exactly these members in this order. With duplicates it holds more: a
    decoder keeps the last one of each name.

    Values are compared as bytes, never decoded: they may be many megabytes.
    """
    at = body.index(b"{") + 1
    close = b"" if members else b"}"
    for name, raw in members.items():
        key = _KEY(body, at)
        if key is None or _text(key[1]) != name:
            return False
        value, at = bytes(raw), key.end()
        if not body.startswith(value, at) or (end := _END(body, at + len(value))) is None:
            return False
        close, at = end[1], end.end()
    return close == b"}" and (not members or not body[at:].strip())


def _ambiguous_name(members: dict[str, Raw], names: tuple[str, ...]) -> str | None:
    """The first of `names` that the members hold in other letter case."""
    for name in names:
        spellings = [key for key in members if key.lower() == name]
        if len(spellings) > 1 or (spellings and spellings[0] != name):
            return name
    return None
