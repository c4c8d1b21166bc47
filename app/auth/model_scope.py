"""Which model a raw request is for, as far as a token's `models` must know it.

Only for callers whose token names models: everybody else's requests are passed on unread. What two
JSON readers could understand differently counts as naming no model.
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
_LIST = re.compile(r"(?:[^/]+/)?models(?:/[^/:]+)?/?").fullmatch


def is_only_a_list(method: str, path: str) -> bool:
    """Telling which models there are, or about one of them: nothing is asked of any."""
    return method in ("GET", "HEAD") and _LIST(path) is not None


def in_path(path: str) -> str | None:
    """Gemini's way: .../models/gemini-2.5-flash:generateContent."""
    found = _IN_PATH(unquote(path))
    return found[1].removeprefix("models/") if found else None


def in_body(body: bytes) -> str | None:
    """The top-level member `model` of a JSON object."""
    try:
        members = read_members(body)
    except GatewayError:
        return None
    if not _is_plain(body, members) or _otherwise_written(members, ("model",)):
        return None
    try:
        return _text(members["model"])
    except (KeyError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def check_said_once(body: bytes, *names: str) -> None:
    """Raises GatewayError 400 where a member stands twice, or one of these in other letters."""
    members = read_members(body)
    if name := _otherwise_written(members, names):
        raise bad_request(f"The body holds more than one {name}; send one.", param=name)
    if not _is_plain(body, members):
        raise bad_request("The body holds a member more than once; send each once.")


def _is_plain(body: bytes, members: dict[str, Raw]) -> bool:
    """Whether the body holds these members, one after the other, and no other one: a decoder
    keeps the last of those that have the same name.

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


def _otherwise_written(members: dict[str, Raw], names: tuple[str, ...]) -> str | None:
    for name in names:
        written = [key for key in members if key.lower() == name]
        if len(written) > 1 or (written and written[0] != name):
            return name
    return None
