"""Events folded into one Messages object."""

from typing import Any

import msgspec
from msgspec import Raw

from app.fronts.anthropic.base import THINKING, MessagesRenderer
from app.wire.errors import bad_response
from app.wire.front import Answering
from app.wire.provider import Decoder
from app.wire.renderer import JSON

# Where the pieces of a block belong.
_MEMBERS = {"text": "text", THINKING: "thinking", "signature": "signature", "input_json": "input"}
_NO_OBJECT = (msgspec.DecodeError, UnicodeError, RecursionError)
_decode_object = msgspec.json.Decoder(dict[str, Raw]).decode


class WholeMessage(MessagesRenderer):
    """One message, sent when the answer is whole."""

    content_type = JSON

    def __init__(self, answering: Answering, decoder: Decoder) -> None:
        super().__init__(answering, decoder)
        self._left = answering.max_bytes
        self._content: list[dict[str, Any]] = []
        self._pieces: list[dict[str, list[str]]] = []  # of each block, by member

    def feed(self, data: bytes) -> bytes:
        """Reads a piece of the upstream's answer; nothing is sent before the end."""
        self._left -= len(data)
        if self._left < 0:
            raise bad_response("The upstream's answer is above limits.response_bytes.")
        self.take_all(self.decoder.feed(data))
        return b""

    def finish(self, *, is_cut: bool = False) -> bytes:
        """The whole body. Raises GatewayError 502 for an answer without an ending, and for a tool
        call whose arguments are no JSON object."""
        stop = self.conclude()
        is_short = stop["stop_reason"] == "max_tokens"
        content = [
            whole
            for block, pieces in zip(self._content, self._pieces, strict=True)
            if (whole := _whole(block, pieces, is_short)) is not None
        ]
        return msgspec.json.encode(
            {
                "id": self.id,
                "type": "message",
                "role": "assistant",
                "model": self.model,
                "content": content,
                **stop,
                "usage": self.counts.ended(),
            }
        )

    def begin(self) -> None:
        """There is nothing to say yet."""

    def open_block(self, block: dict[str, Any]) -> None:
        """One more block."""
        self._content.append(block)
        self._pieces.append({})

    def add(self, index: int, kind: str, piece: str) -> None:
        """A piece of a block's member."""
        self._pieces[index].setdefault(_MEMBERS[kind], []).append(piece)

    def close_block(self, index: int) -> None:
        """All blocks are whole at the end."""


def _whole(
    block: dict[str, Any], pieces: dict[str, list[str]], is_short: bool
) -> dict[str, Any] | None:
    """The block with its pieces; None for a call whose arguments were cut by the token limit."""
    told: dict[str, Any] = {name: "".join(texts) for name, texts in pieces.items()}
    if block["type"] == "tool_use" and "input" in told:
        try:
            told["input"] = _decode_object(told["input"])
        except _NO_OBJECT:
            if is_short:
                return None
            raise bad_response(
                f"The model called the tool {block['name']!r} with arguments that are no JSON "
                "object; try again."
            ) from None
    return block | told
