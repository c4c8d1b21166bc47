"""Claude's thoughts in the one place that Gemini's clients bring back: a call's thoughtSignature.

The signature is the gateway's mark with the thinking blocks as JSON. It is base64, without which
google-genai refuses the answer. Blocks that are too large for it stay in this worker's memory, by
the id of the call. Protocol sheet: front-gemini, 4.3.
"""

from collections import OrderedDict
from typing import Any

import msgspec

from app.wire.asked import UNREADABLE
from app.wire.events import Thought
from app.wire.signature_mark import mark, read_mark

_MAX_BYTES = 64 * 1024
_MAX_ENTRIES, _MAX_HELD_BYTES = 256, 32 * 1024 * 1024
_blocks = msgspec.json.Decoder(list[dict[str, Any]])


class RememberedThoughts:
    """Thinking blocks by the id of the call they stand before; the oldest are forgotten."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0

    def remember(self, call_id: str, blocks: bytes) -> None:
        """Keeps the blocks, as JSON."""
        self._bytes += len(blocks) - len(self._held.pop(call_id, b""))
        self._held[call_id] = blocks
        while len(self._held) > _MAX_ENTRIES or self._bytes > _MAX_HELD_BYTES:
            self._bytes -= len(self._held.popitem(last=False)[1])

    def recall(self, call_id: str) -> list[dict[str, Any]] | None:
        """The blocks of this call; None where they are not known."""
        held = self._held.get(call_id)
        return None if held is None else _blocks.decode(held)


THOUGHTS = RememberedThoughts()


def sign(thoughts: list[Thought], call_id: str) -> str | None:
    """The signature that carries these thoughts; None where there is nothing to carry."""
    blocks: list[dict[str, Any]] = []
    for thought in thoughts:
        if thought.redacted is not None:
            blocks.append({"type": "redacted_thinking", "data": thought.redacted})
        elif thought.signature:
            block = {"type": "thinking", "thinking": thought.text, "signature": thought.signature}
            blocks.append(block)
    if not blocks:
        return None
    payload = msgspec.json.encode(blocks)
    if len(payload) > _MAX_BYTES:
        THOUGHTS.remember(call_id, payload)
        return None
    return mark("c", payload.decode())


def thinking_blocks(signature: str) -> list[dict[str, Any]] | None:
    """The blocks that `sign` has put into the signature; None where it holds none."""
    found = read_mark(signature)
    if found is None or found[0] != "c":
        return None
    try:
        return _blocks.decode(found[1])
    except UNREADABLE:
        return None
