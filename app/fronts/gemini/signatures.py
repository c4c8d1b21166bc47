"""Other houses' thoughts in the one place that Gemini's clients bring back: a thoughtSignature.

The signature of a call is the gateway's mark with Claude's thinking blocks as JSON, or with the
text of a thought that has no signature, which DeepSeek and Moonshot want back. It is base64,
without which google-genai refuses the answer. Thoughts that are too large for it stay in this
worker's memory, by the id of the call. Protocol sheets: front-gemini, 4.3; openai-compatible.
"""

from collections import OrderedDict
from typing import Any

import msgspec

from app.wire.asked import UNREADABLE
from app.wire.events import Thought
from app.wire.signature_mark import mark, read_mark

_MOST_SIGNS = 88 * 1024  # of 64 KiB
_MAX_ENTRIES, _MAX_HELD_BYTES = 256, 32 * 1024 * 1024
_blocks = msgspec.json.Decoder(list[dict[str, Any]])


class RememberedThoughts:
    """Signatures by the id of the call they belong to; the oldest are forgotten."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, str] = OrderedDict()
        self._bytes = 0

    def remember(self, call_id: str, signature: str) -> None:
        """Keeps the signature."""
        self._bytes += len(signature) - len(self._held.pop(call_id, ""))
        self._held[call_id] = signature
        while len(self._held) > _MAX_ENTRIES or self._bytes > _MAX_HELD_BYTES:
            self._bytes -= len(self._held.popitem(last=False)[1])

    def recall(self, call_id: str) -> str | None:
        """The signature of this call; None where it is not known."""
        return self._held.get(call_id)


THOUGHTS = RememberedThoughts()


def sign(thoughts: list[Thought], reasoning: str, call_id: str) -> str | None:
    """The signature that carries these thoughts, else the text of one without a signature; None
    where there is nothing to carry."""
    blocks: list[dict[str, Any]] = []
    for thought in thoughts:
        if thought.redacted is not None:
            blocks.append({"type": "redacted_thinking", "data": thought.redacted})
        elif thought.signature:
            block = {"type": "thinking", "thinking": thought.text, "signature": thought.signature}
            blocks.append(block)
    if not blocks and not reasoning:
        return None
    signature = mark("c", msgspec.json.encode(blocks).decode()) if blocks else mark("t", reasoning)
    if len(signature) > _MOST_SIGNS:
        THOUGHTS.remember(call_id, signature)
        return None
    return signature


def carried(signature: str) -> tuple[list[dict[str, Any]] | None, str]:
    """Claude's blocks and the thought without a signature that `sign` has put in."""
    match read_mark(signature):
        case ("c", blocks):
            try:
                return _blocks.decode(blocks), ""
            except UNREADABLE:
                return None, ""
        case ("t", reasoning):
            return None, reasoning
    return None, ""
