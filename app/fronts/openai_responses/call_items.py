"""Called functions as the items that the caller knows its tools by.

A function, a custom tool and one of a namespace are streamed. Tools that the caller runs by a name
of OpenAI's are told when their arguments are whole, for theirs are objects. Protocol sheet:
front-responses, 4.2 and 4.6.
"""

from typing import Any

import msgspec

from app.fronts.openai_responses.custom_input import CustomInput
from app.fronts.openai_responses.tools import Known

_decode_raw = msgspec.json.Decoder(msgspec.Raw).decode
_NOT_JSON = (msgspec.DecodeError, UnicodeError, RecursionError)
# The type of the item, the prefix of its id, the member with the pieces, and the events of these.
_STREAMED = {
    "function": ("function_call", "fc", "arguments", "response.function_call_arguments"),
    "custom": ("custom_tool_call", "ctc", "input", "response.custom_tool_call_input"),
}
_WHOLE = {
    "tool_search": ("tool_search_call", "tsc"),
    "local_shell": ("local_shell_call", "lsh"),
    "shell": ("shell_call", "sh"),
    "apply_patch": ("apply_patch_call", "apc"),
}


class Call:
    """One call of the answer. `pieces` are those of its arguments as the model wrote them."""

    def __init__(self, known: Known, call_id: str) -> None:
        self.known, self.call_id = known, call_id
        self.pieces: list[str] = []
        self.told: list[str] = []  # to the caller
        self.is_over = False
        self._custom = CustomInput() if known.kind == "custom" else None
        kind = known.kind
        self.is_streamed = kind in _STREAMED
        if self.is_streamed:
            self.type, self.prefix, self.member, self.event = _STREAMED[kind]
        else:
            self.type, self.prefix = _WHOLE[kind]

    def add(self, piece: str) -> None:
        """Takes a piece of the arguments; `delta_of` says what the caller gets of it."""
        self.pieces.append(piece)

    def delta_of(self, piece: str) -> str:
        """What the caller is told of this piece."""
        told = piece if self._custom is None else self._custom.feed(piece)
        self.told.append(told)
        return told

    def last_delta(self, *, is_cut: bool) -> str:
        """What is still to be told at the end of the call, or where the token limit cut it."""
        told = ""
        if self._custom is not None:
            told = self._custom.rest()
        elif not is_cut and not any(self.told):
            told = "{}"  # a call without arguments
        self.told.append(told)
        return told

    def has_whole_arguments(self) -> bool:
        """Whether what has come is a JSON object, which nothing can go on with."""
        text = "".join(self.pieces)
        return text.lstrip().startswith("{") and _object(text) is not None

    def is_readable(self) -> bool:
        """Whether the arguments, if any, are JSON."""
        text = "".join(self.pieces)
        if not text or self.known.kind == "custom":
            return True
        try:
            _decode_raw(text)
        except _NOT_JSON:
            return False
        return True

    def item(self, id: str, status: str) -> dict[str, Any]:
        """The item with what was told so far."""
        known = self.known
        item: dict[str, Any] = {"id": id, "type": self.type, "status": status}
        if self.is_streamed:
            item[self.member] = "".join(self.told)
            item |= {"call_id": self.call_id, "name": known.name}
            if known.namespace is not None:
                item["namespace"] = known.namespace
            return item
        item["call_id"] = self.call_id
        said = _object("".join(self.pieces)) or {}
        match known.kind:
            case "tool_search":
                item |= {
                    "execution": "client",
                    "arguments": said if status != "in_progress" else {},
                }
            case "apply_patch":
                item["operation"] = said.get("operation") or {}
            case "local_shell":
                item["action"] = {"type": "exec", "command": [], "env": {}, **said}
            case _:
                unset: dict[str, Any] = {
                    "commands": [],
                    "timeout_ms": None,
                    "max_output_length": None,
                }
                item["action"] = unset | said
        return item


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = msgspec.json.decode(text)
    except _NOT_JSON:
        return None
    return value if isinstance(value, dict) else None
