"""Events folded into one Response object, or into the answer to /compact."""

from typing import Any

import msgspec

from app.fronts.openai_responses.base import Object, ResponsesRenderer
from app.fronts.openai_responses.request import COMPACT, COMPACT_OBJECT
from app.wire.errors import bad_response
from app.wire.events import TokenLogprob
from app.wire.front import Answering
from app.wire.kept import PREFIX
from app.wire.provider import Decoder
from app.wire.renderer import JSON

_INPUT: dict[str, Any] = {"type": "input_text"}
_TEXT_OF: dict[Any, dict[str, Any]] = {"assistant": {"type": "output_text", "annotations": []}}


class WholeResponse(ResponsesRenderer):
    """One Response, sent when the answer is whole. A failure is an HTTP status, never a 200."""

    content_type = JSON

    def __init__(self, answering: Answering, decoder: Decoder) -> None:
        super().__init__(answering, decoder)
        self._left = answering.max_bytes

    def feed(self, data: bytes) -> bytes:
        """Reads a piece of the upstream's answer; nothing is sent before the end."""
        self._left -= len(data)
        if self._left < 0:
            raise bad_response("The upstream's answer is above limits.response_bytes.")
        self.take_all(self.decoder.feed(data))
        return b""

    def finish(self, *, is_cut: bool = False) -> bytes:
        """The whole body. Raises GatewayError 502 for an answer without an ending, and for a tool
        call whose arguments are no JSON."""
        status, reason = self.conclude()
        broken = self.unreadable
        if broken is not None and status != "incomplete":
            raise bad_response(
                f"The model called the tool {broken.known.name!r} with arguments that are no "
                "JSON; try again."
            )
        if self._options.path == COMPACT:
            return msgspec.json.encode(self._compaction())
        return msgspec.json.encode(self.concluded(status, reason))

    def _compaction(self) -> dict[str, Any]:
        """The answer to /compact: what the user said as it was, and the summary of all."""
        items = (msgspec.json.decode(raw, type=dict[str, Any]) for raw in self._options.input)
        asked = [
            as_told(item, f"msg_{self.id.removeprefix(PREFIX)}{place:03x}")
            for place, item in enumerate(items)
            if item.get("type", "message") == "message" and item.get("role") == "user"
        ]
        return {
            "id": self.id,
            "object": COMPACT_OBJECT,
            "created_at": self._answering.created,
            "output": [*asked, *self.output],
            "usage": self.answer.usage(self.usage, self.output),
        }

    def begin(self) -> None:
        """There is nothing to say yet."""

    def tell(self, kind: str, fields: Object) -> None:
        """The items say it all at the end."""

    def piece(self, kind: str, text: str, logprobs: list[TokenLogprob] | None = None) -> None:
        """The items say it all at the end."""


def as_told(item: dict[str, Any], id: str) -> dict[str, Any]:
    """An input item in the one form that answers have; `id` for one that has none."""
    said = {name: value for name, value in item.items() if value is not None}
    kind = said.get("type", "message")
    told = {"id": id, "type": kind, "status": "completed"} | said
    if kind == "message":
        content = said.get("content") or []
        if isinstance(content, str):
            content = [_TEXT_OF.get(said.get("role"), _INPUT) | {"text": content}]
        told["content"] = content
    elif not kind.endswith(("_call", "_output")) and "status" not in said:
        del told["status"]
    return told
