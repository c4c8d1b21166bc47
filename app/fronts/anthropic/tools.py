"""Messages' tools as functions of the neutral request.

A caller's own tools become functions. So do those of Anthropic's that the caller runs itself and
the model knows by heart. Those that Anthropic runs are told to upstreams that have the like, else
left out beside others; alone they are refused: a model without its search tool answers from memory
as if it had searched. Protocol sheet: front-messages.
"""

import re
from collections.abc import Collection, Iterator

import msgspec
from msgspec import Raw, Struct

from app.fronts.anthropic.schema import Tool, ToolChoice
from app.wire import chat
from app.wire.errors import bad_request

_KNOWN_TO_THE_MODEL = re.compile(r"(bash|text_editor|memory)_\d{8}")
_ONLY_AT_ANTHROPIC = re.compile(r"(computer|browser)_")
_SERVER = re.compile(r"(web_search|web_fetch)_\d{8}")
_SEARCHES_TOOLS = "tool_search_tool_"


class Tools(Struct):
    """The tools of a request, sorted by who runs them."""

    functions: list[chat.Function] = []
    server: list[chat.ServerTool] = []
    dropped: list[str] = []


def read_tools(tools: list[Tool], found: Collection[str], removed: Collection[str]) -> Tools:
    """The tools that the model is given.

    `found` are the names of deferred tools that the conversation has brought in, `removed` of those
    it has taken out. Raises GatewayError 400 for tools that only Anthropic has.
    """
    gives_all = any((tool.type or "").startswith(_SEARCHES_TOOLS) for tool in tools)
    out = Tools()
    deferred = 0
    for index, tool in enumerate(tools):
        path = f"tools[{index}]"
        if tool.defer_loading and not gives_all and tool.name not in found:
            deferred += 1
        elif tool.name not in removed and "direct" in (tool.allowed_callers or ("direct",)):
            _sort(tool, path, out)
    if deferred and deferred == len(tools):
        raise bad_request("tools: At least one tool must have defer_loading=false.", "tools")
    if out.dropped and not out.functions and not out.server:
        kind = next(tool.type for tool in tools if tool.type)
        raise bad_request(
            f"tools: {kind!r} is run by Anthropic, and this model's provider has no such tool.",
            "tools",
        )
    return out


def _sort(tool: Tool, path: str, out: Tools) -> None:
    kind = tool.type or "custom"
    if kind == "custom":
        out.functions.append(_custom(tool, path))
    elif found := _KNOWN_TO_THE_MODEL.fullmatch(kind):
        out.functions.append(_known(tool, found[1], path))
    elif _ONLY_AT_ANTHROPIC.match(kind):
        raise bad_request(
            f"{path}: a tool of type {kind[:64]!r} works with Claude's own API only.", path
        )
    elif found := _SERVER.fullmatch(kind):
        out.server.append(chat.ServerTool(found[1], kind, path))
    else:
        out.dropped.append(f"tools.{kind}")


def _custom(tool: Tool, path: str) -> chat.Function:
    if not tool.name:
        raise bad_request(f"{path}.name: a tool needs a name.", f"{path}.name")
    schema = tool.input_schema
    if schema is None:
        raise bad_request(f"{path}.input_schema: Field required.", f"{path}.input_schema")
    return chat.Function(tool.name, _description(tool), chat.with_properties(schema), tool.strict)


def _description(tool: Tool) -> str | None:
    if not tool.input_examples:
        return tool.description
    examples = "\n".join(
        bytes(example).decode("utf-8", "replace") for example in tool.input_examples
    )
    return "\n\n".join(filter(None, (tool.description, f"Examples of its input:\n{examples}")))


# --- tools whose inputs Claude knows by heart ---------------------------------------------------

_TEXT, _NUMBER = {"type": "string"}, {"type": "integer"}
_RANGE = {
    "type": "array",
    "items": _NUMBER,
    "description": "First and last line, counted from 1; -1 as the last is the end.",
}
_BASH = {
    "command": {"type": "string", "description": "The command to run."},
    "restart": {"type": "boolean", "description": "Restarts the shell instead."},
}
_EDITOR = {
    "path": _TEXT,
    "view_range": _RANGE,
    "file_text": {"type": "string", "description": "For create: what the file is to hold."},
    "old_str": {"type": "string", "description": "For str_replace: the text to replace."},
    "new_str": {"type": "string", "description": "For str_replace: what is to stand there."},
    "insert_line": {"type": "integer", "description": "For insert: the line to insert after."},
    "insert_text": {"type": "string", "description": "For insert: the text to insert."},
}
_MEMORY = {
    **_EDITOR,
    "old_path": {"type": "string", "description": "For rename."},
    "new_path": {"type": "string", "description": "For rename."},
}
_EDITS = ("view", "create", "str_replace", "insert")
_WHAT = {
    "bash": "Runs a command in a shell that stays open between the calls.",
    "text_editor": "Views, creates and edits text files.",
    "memory": "Views, creates, edits, deletes and renames the files of your memory, in /memories.",
}


def _known(tool: Tool, kind: str, path: str) -> chat.Function:
    if not tool.name:
        raise bad_request(f"{path}.name: a tool needs a name.", f"{path}.name")
    if kind == "bash":
        schema = {"type": "object", "properties": _BASH}
    else:
        commands = [*_EDITS, "delete", "rename"] if kind == "memory" else [*_EDITS]
        if tool.type in ("text_editor_20241022", "text_editor_20250124"):
            commands.append("undo_edit")
        members = _MEMORY if kind == "memory" else _EDITOR
        schema = {
            "type": "object",
            "properties": {"command": {"type": "string", "enum": commands}, **members},
            "required": ["command"] if kind == "memory" else ["command", "path"],
        }
    parameters = {name: Raw(msgspec.json.encode(value)) for name, value in schema.items()}
    return chat.Function(tool.name, _description(tool) or _WHAT[kind], parameters)


# --- the choice ---------------------------------------------------------------------------------


def read_choice(choice: ToolChoice | None, tools: Tools) -> str | dict[str, object] | None:
    """`tool_choice` in neutral words. Raises GatewayError 400 for a tool that is not given."""
    if choice is None:
        return None
    names = {function.name for function in tools.functions}
    match choice.type:
        case "auto" | "none":
            return choice.type if names else None
        case "any":
            if not names:
                raise bad_request(
                    "tool_choice: there is no tool that can be called.", "tool_choice"
                )
            return "required"
        case "tool":
            if choice.name not in names:
                raise bad_request(
                    f"tool_choice.name: {(choice.name or '')[:128]!r} is not among the tools that "
                    "this model can be given.",
                    "tool_choice.name",
                )
            return {"type": "function", "function": {"name": choice.name}}
        case _:
            raise bad_request(
                "tool_choice.type: must be auto, any, tool or none.", "tool_choice.type"
            )


def names_in(tool: dict[str, Raw]) -> Iterator[str]:
    """The name that a tool_addition or a tool_removal refers to."""
    try:
        yield msgspec.json.decode(tool["name"], type=str)
    except (KeyError, msgspec.DecodeError, UnicodeDecodeError):
        return


def definition_in(tool: dict[str, Raw]) -> Tool | None:
    """The tool that a tool_addition defines; None where it refers to one of `tools`."""
    try:
        return msgspec.json.decode(tool["definition"], type=Tool)
    except (KeyError, msgspec.DecodeError, UnicodeDecodeError):
        return None
