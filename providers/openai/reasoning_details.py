"""OpenRouter's `reasoning_details`: the model's thinking piece by piece, and what must come back.

    text with a signature at its end         Thought
    encrypted text of Anthropic's models     Thought (redacted)
    other entries with signature, data, id   one Extension when the choice ends

The text of the entries is told as Reasoning where it arrives; what is kept here is for the next
turn alone.
"""

from typing import Any

from app.wire.events import Extension, Thought

_TEXT, _SUMMARY, _ENCRYPTED = "reasoning.text", "reasoning.summary", "reasoning.encrypted"
_WANTED_BACK = ("signature", "data", "id")


def text_of(entry: dict[str, Any]) -> str:
    """The thinking that the entry holds, "" for none."""
    text = entry.get("text") or entry.get("summary")
    return text if isinstance(text, str) else ""


class ReasoningDetails:
    """The entries of one choice, those that are pieces of one joined."""

    __slots__ = ("_kept", "_open", "_pieces")

    def __init__(self) -> None:
        self._kept: list[dict[str, Any]] = []
        self._open: dict[str, Any] | None = None  # more of it may come
        self._pieces: list[str] = []  # the text of the open one

    def take(self, entry: dict[str, Any], index: int) -> Thought | None:
        """Takes the next entry. Returns the thought of choice `index` that it completes."""
        kind, signature, data = (entry.get(name) for name in ("type", "signature", "data"))
        if kind == _ENCRYPTED and isinstance(data, str) and _is_anthropics(entry):
            return Thought(redacted=data, index=index)
        before = self._open
        if before is not None and kind in (_TEXT, _SUMMARY) and _is_same(before, entry):
            before |= {name: value for name, value in entry.items() if value is not None}
        else:
            self._close()
            self._open = dict(entry)
        self._pieces.append(text_of(entry))
        if kind != _TEXT or not isinstance(signature, str) or not signature:
            return None
        thought = Thought("".join(self._pieces), signature, index=index)
        self._open, self._pieces = None, []
        return thought

    def rest(self, index: int) -> list[Extension]:
        """What else must come back, at the end of the choice."""
        self._close()
        return [Extension({"reasoning_details": self._kept}, index)] if self._kept else []

    def _close(self) -> None:
        entry, text = self._open, "".join(self._pieces)
        self._open, self._pieces = None, []
        if entry is None or not any(entry.get(name) for name in _WANTED_BACK):
            return
        if text:
            entry["summary" if entry.get("type") == _SUMMARY else "text"] = text
        self._kept.append(entry)


def _is_same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one.get(name) == other.get(name) for name in ("type", "index"))


def _is_anthropics(entry: dict[str, Any]) -> bool:
    return str(entry.get("format")).startswith("anthropic")
