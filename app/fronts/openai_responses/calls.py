"""Calls and outputs of every kind among the input items, in the words of functions.

The other direction of `tools.py`: what the model was told as a function comes back as one. Protocol
sheet: front-responses, 3.2.
"""

from typing import Any

import msgspec
from msgspec import Raw

from app.fronts.openai_responses.content import parts_of
from app.fronts.openai_responses.schema import Item, decoded
from app.fronts.openai_responses.tools import flat_name
from app.wire.chat import Message, Part
from app.wire.errors import bad_request

CALLS = frozenset(
    (
        "function_call",
        "custom_tool_call",
        "tool_search_call",
        "local_shell_call",
        "shell_call",
        "apply_patch_call",
    )
)
OUTPUTS = frozenset(
    (
        "function_call_output",
        "custom_tool_call_output",
        "tool_search_output",
        "local_shell_call_output",
        "shell_call_output",
        "apply_patch_call_output",
    )
)


def call_of(item: Item, path: str) -> tuple[str, str]:
    """The function's name and its arguments as JSON text. Raises GatewayError 400."""
    match item.type:
        case "function_call":
            arguments = decoded(item.arguments, str | None, f"{path}.arguments")
            return _name(item, path), (arguments or "").strip() or "{}"
        case "custom_tool_call":
            given = decoded(item.input, str | None, f"{path}.input")
            return _name(item, path), _json({"input": given or ""})
        case "tool_search_call":
            return "tool_search", _compact(item.arguments)
        case "apply_patch_call":
            return "apply_patch", _json({"operation": Raw(_compact(item.operation).encode())})
        case _:
            action: dict[str, Raw] = decoded(item.action, dict[str, Raw] | None, path) or {}
            kept = {name: value for name, value in action.items() if name != "type"}
            return (item.type or "").removesuffix("_call"), _json(kept)


def output_of(item: Item, path: str) -> Message:
    """The result as a tool's message, its text before pictures and files. Raises GatewayError 400.

    Its `tool_call_id` is still to be set.
    """
    if item.type == "tool_search_output":
        found = [inner for tool in item.tools or () for inner in (tool, *(tool.tools or ()))]
        lines = [f"{tool.name}: {tool.description or ''}" for tool in found if tool.name]
        return Message("tool", "\n".join(lines) or "No tools were found.")
    if item.type == "shell_call_output":
        return Message("tool", _compact(item.output))
    parts = parts_of(item.output, f"{path}.output")
    text = "\n".join(part.text or "" for part in parts if part.type == "text")
    others = [part for part in parts if part.type != "text"]
    if not others:
        return Message("tool", text)
    return Message("tool", [*([Part("text", text=text)] if text else []), *others])


def _name(item: Item, path: str) -> str:
    if not item.name:
        raise bad_request(f"{path}.name: a call needs the tool's name.", f"{path}.name")
    return flat_name(item.namespace, item.name)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _compact(raw: Raw) -> str:
    data = bytes(raw)
    return msgspec.json.format(data, indent=-1).decode() if data else "{}"
