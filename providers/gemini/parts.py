"""Parts of a Gemini answer that are no plain text, as the text or JSON that OpenAI callers get."""

import re

import msgspec
from msgspec import Raw

from providers.gemini.raw_json import JSON_ERRORS
from providers.gemini.schema import NamedParts, Part

_named = msgspec.json.Decoder(NamedParts)
_KNOWN = {*Part.__struct_encode_fields__, "partMetadata", "videoMetadata"}


def json_arguments(args: Raw) -> str:
    """The arguments of a tool call as compact JSON text; `{}` for none."""
    raw = bytes(args)
    if raw.startswith(b'"'):  # some proxies send the object as text
        try:
            raw = msgspec.json.decode(raw, type=str).strip().encode()
        except JSON_ERRORS:
            return "{}"
    if not raw.startswith(b"{"):
        return "{}"
    try:
        text = msgspec.json.format(raw, indent=-1).decode()
    except JSON_ERRORS:
        return raw.decode(errors="replace")
    # Google escapes < > & = and '. Not decoded and encoded again: numbers would lose digits.
    return _ESCAPE.sub(_plain, text) if "\\u" in text else text


_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)")


def _plain(found: re.Match[str]) -> str:
    code = int(found[1] or "0", 16)
    must_stay = code < 0x20 or code in (0x22, 0x5C) or 0xD800 <= code < 0xE000
    return found[0] if must_stay else chr(code)


def markdown_link(mime: str, url: str) -> str:
    """Markdown that shows an image, or links to any other file.

    OpenAI's chat answers have no place for media, and most clients render Markdown.
    """
    return f"![image]({url})" if mime.startswith("image/") else f"[{mime or 'file'}]({url})"


def unknown_members(record: bytes) -> str:
    """Comma-separated names of the members unknown here, for the metric of protocol drift."""
    try:
        candidates = _named.decode(record).candidates or []
    except JSON_ERRORS:
        return "of unknown shape"
    parts = [part for one in candidates if one.content for part in one.content.parts or []]
    names = {name for part in parts for name in part if name not in _KNOWN}
    return ",".join(sorted(names)) or "without content"
