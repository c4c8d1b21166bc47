"""Citation markers in ChatGPT web's texts, replaced by links.

Source: recorded answers and public clients of chatgpt.com.
"""

import re
from typing import Any

import msgspec

from providers.openai.web_schema import Reference

_MAX_HELD = 8192  # a marker longer than that is none
_MARKERS = re.compile("[\ue200-\ue206]")
_STRAY = re.compile("[\ue201-\ue206]")


class Markers:
    """Replaces citation markers: text between private-use characters, held back until it is whole.

    A marker that no reference explains is dropped.
    """

    def __init__(self) -> None:
        self._held = ""
        self.unresolved: list[str] = []

    def feed(self, text: str, references: list[Any]) -> str:
        """The text that can be shown now, with the markers that `references` explain replaced."""
        if not self._held and not _MARKERS.search(text):
            return text
        text = self._held + text
        self._held = ""
        out: list[str] = []
        while True:
            start = text.find("\ue200")
            if start < 0:
                out.append(text)
                break
            out.append(text[:start])
            end = text.find("\ue201", start)
            if end < 0:
                rest = text[start:]
                if len(rest) <= _MAX_HELD:
                    self._held = rest
                else:
                    out.append(rest[1:])
                break
            span = text[start : end + 1]
            meaning = _meaning(span, references)
            if meaning is None:
                self.unresolved.append(span)
            else:
                out.append(meaning)
            text = text[end + 1 :]
        return _STRAY.sub("", "".join(out))

    def late(self, references: list[Any]) -> str:
        """The replacements that became known after the text around them was sent, joined."""
        found = [_meaning(span, references) for span in self.unresolved]
        self.unresolved.clear()
        return " ".join(dict.fromkeys(text for text in found if text))


def _meaning(span: str, references: list[Any]) -> str | None:
    """The replacement of a marker; None while no reference explains it."""
    kind, _, rest = span[1:-1].partition("\ue202")
    if kind == "entity":  # ["company", "OpenAI", ...]: the second is what is read
        try:
            return str(msgspec.json.decode(rest, type=list[Any])[1])
        except (msgspec.DecodeError, IndexError):
            return ""
    for raw in references:
        try:
            reference = msgspec.convert(raw, Reference)
        except msgspec.ValidationError:
            continue
        if reference.matched_text == span:
            return reference.alt or _links(reference)
    return None


def _links(reference: Reference) -> str:
    found = [item for item in [reference, *(reference.items or [])] if item.url]
    return " ".join(f"[{item.title or item.url}]({item.url})" for item in found) or (
        reference.name or ""
    )
