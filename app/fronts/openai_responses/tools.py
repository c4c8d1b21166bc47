"""Responses' tools as functions of the neutral request, and the way back from a called function.

A function, a custom tool, each tool of a namespace and those that the caller runs by a name that
OpenAI gave (shells, apply_patch, a tool search) become functions. `Tools.known` leads from the name
of each to what the caller has to be told. Tools that OpenAI runs are told to upstreams that have
the like, else left out beside others; alone they are refused. Protocol sheet: front-responses, 3.4.
"""

import re
from collections.abc import Collection, Iterable, Iterator

import msgspec
from msgspec import Raw, Struct

from app.fronts.openai_responses.schema import AllowedTool, Tool, ToolChoice
from app.wire import chat
from app.wire.errors import GatewayError, bad_request

_WEB_SEARCH = re.compile(r"web_search(_preview)?(_\d{4}_\d\d_\d\d)?")
_NOT_HERE = re.compile(r"file_search|code_interpreter|computer.*|mcp|shell")
_MOST_NAME = 32


class Known(Struct, frozen=True):
    """What a function stands for: `kind` is the type of the tool that was flattened into it."""

    kind: str
    name: str
    namespace: str | None = None


Placed = tuple[str, Tool]  # a tool and its path in the body


class Tools(Struct):
    """The tools of a request, sorted by who runs them."""

    functions: dict[str, chat.Function] = {}
    known: dict[str, Known] = {}
    server: list[chat.ServerTool] = []
    dropped: list[str] = []

    def called(self, name: str) -> Known:
        """What the model has called. Some leave the namespace out, which is found if there is one
        of this name; a name that nobody gave is a function's."""
        known = self.known.get(name)
        if known is None:
            found = [each for each in self.known.values() if each.namespace and each.name == name]
            known = found[0] if len(found) == 1 else Known("function", name)
        return known


def flat_name(namespace: str | None, name: str) -> str:
    """The one name of a tool in a namespace."""
    return f"{namespace}__{name}" if namespace else name


def placed(tools: Iterable[Tool] | None, path: str) -> list[Placed]:
    """The tools with their paths."""
    return [(f"{path}[{index}]", tool) for index, tool in enumerate(tools or ())]


def read_tools(given: list[Placed], added: list[Placed], found: list[Placed]) -> Tools:
    """The tools that the model is given: those of `tools`, those `added` by items of the
    conversation, and those `found` by a search there.

    Raises GatewayError 400 for tools that only OpenAI has.
    """
    out = Tools()
    searches = any(
        tool.type == "tool_search" and tool.execution == "client" for _, tool in (*given, *added)
    )
    for path, tool in given:
        _sort(tool, path, out, searches)
    if out.dropped and not out.functions and not out.server and not added and not found:
        kind = out.dropped[0].removeprefix("tools.")
        raise bad_request(f"{given[0][0]}: {kind!r} is run by OpenAI alone.", given[0][0])
    later = [*((each, searches) for each in added), *((each, False) for each in found)]
    for (path, tool), waits in later:
        extra = Tools()
        _sort(tool, path, extra, waits)
        out.functions |= extra.functions
        out.known |= extra.known
        out.server += extra.server
        out.dropped += extra.dropped
    return out


def _sort(tool: Tool, path: str, out: Tools, searches: bool) -> None:
    match tool.type:
        case "function" | "custom":
            if not (tool.defer_loading and searches):
                _add(out, path, tool, None, tool.description)
        case "namespace":
            told = tool.description
            for at, inner in placed(tool.tools, f"{path}.tools"):
                if inner.type in ("function", "custom") and not (inner.defer_loading and searches):
                    said = "\n\n".join(filter(None, (told, inner.description)))
                    _add(out, at, inner, _named(tool, path), said or None)
                    told = None
        case "tool_search":
            if tool.execution == "client":
                _add(out, path, tool, None, tool.description)
        case "local_shell" | "apply_patch":
            _add(out, path, tool, None, None)
        case "shell" if (tool.environment or {}).get("type", "local") == "local":
            _add(out, path, tool, None, None)
        case kind if _WEB_SEARCH.fullmatch(kind):
            out.server.append(chat.ServerTool("web_search", kind, path))
        case kind if _NOT_HERE.fullmatch(kind):
            raise bad_request(
                f"{path}: a tool of type {kind[:64]!r} is run by OpenAI and works with its own "
                "API only; leave it out.",
                path,
            )
        case kind:
            out.dropped.append(f"tools.{kind[:_MOST_NAME]}")


def _named(tool: Tool, path: str) -> str:
    if not tool.name:
        raise bad_request(f"{path}.name: a tool needs a name.", f"{path}.name")
    return tool.name


def _add(out: Tools, path: str, tool: Tool, namespace: str | None, description: str | None) -> None:
    kind = tool.type
    name = _named(tool, path) if kind in ("function", "custom") else kind
    flat = flat_name(namespace, name)
    if flat in out.functions:
        raise bad_request(f"{path}.name: there are two tools {flat[:128]!r}.", f"{path}.name")
    function = chat.Function(flat, description)
    match kind:
        case "function":
            function.parameters = _with_properties(tool.parameters)
            function.strict = tool.strict or None
        case "tool_search":
            function.parameters = _with_properties(tool.parameters)
        case "custom":
            function.description = "\n\n".join(filter(None, (description, *_grammar(tool))))
            function.parameters = _CUSTOM
        case _:
            function.description, function.parameters = _RUN_BY_THE_CALLER[kind]
    out.functions[flat] = function
    out.known[flat] = Known(kind, name, namespace)


def _with_properties(schema: dict[str, Raw] | None) -> dict[str, Raw]:
    return chat.with_properties(schema) if schema else _schema({})


def _grammar(tool: Tool) -> Iterator[str]:
    shape = tool.format
    if shape is not None and shape.type == "grammar" and shape.definition:
        yield f"The input must match this {shape.syntax or 'lark'} grammar:\n{shape.definition}"


# --- tools that the model knows at OpenAI by their type alone ------------------------------------


def _schema(properties: dict[str, object], *required: str) -> dict[str, Raw]:
    schema = {"type": "object", "properties": properties, "required": list(required)}
    if not required:
        del schema["required"]
    return {name: Raw(msgspec.json.encode(value)) for name, value in schema.items()}


_TEXT, _NUMBER = {"type": "string"}, {"type": "integer"}
_TEXTS = {"type": "array", "items": _TEXT}
_CUSTOM = _schema({"input": {"type": "string", "description": "The whole input."}}, "input")
_RUN_BY_THE_CALLER: dict[str, tuple[str, dict[str, Raw]]] = {
    "local_shell": (
        "Runs a command on the user's machine.",
        _schema(
            {
                "command": {**_TEXTS, "description": "The command and its arguments."},
                "env": {"type": "object", "description": "Further environment variables."},
                "working_directory": _TEXT,
                "timeout_ms": _NUMBER,
                "user": _TEXT,
            },
            "command",
        ),
    ),
    "shell": (
        "Runs commands in a shell on the user's machine.",
        _schema(
            {
                "commands": {**_TEXTS, "description": "Lines to run, each in a shell of its own."},
                "timeout_ms": _NUMBER,
                "max_output_length": _NUMBER,
            },
            "commands",
        ),
    ),
    "apply_patch": (
        "Creates, updates or deletes one file.",
        _schema(
            {
                "operation": {
                    "type": "object",
                    "properties": {
                        "type": {
                            "type": "string",
                            "enum": ["create_file", "update_file", "delete_file"],
                        },
                        "path": _TEXT,
                        "diff": {
                            "type": "string",
                            "description": "The change as a V4A diff; not for delete_file.",
                        },
                    },
                    "required": ["type", "path"],
                }
            },
            "operation",
        ),
    ),
}


# --- the choice ----------------------------------------------------------------------------------


def read_choice(choice: str | ToolChoice | None, tools: Tools) -> str | dict[str, object] | None:
    """`tool_choice` in neutral words.

    Raises GatewayError 400 for a tool that is not given.
    """
    if choice is None:
        return None
    if isinstance(choice, str):
        if choice not in ("auto", "none", "required"):
            raise _bad_choice("must be auto, none, required or an object.")
        return choice if tools.functions else None
    if choice.type == "allowed_tools":
        names = [_chosen(each, tools.functions) for each in choice.tools or ()]
        allowed = [{"type": "function", "function": {"name": name}} for name in names]
        mode = "required" if choice.mode == "required" else "auto"
        return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": allowed}}
    name = _chosen(choice, tools.functions)
    return {"type": "function", "function": {"name": name}}


def _chosen(choice: AllowedTool, names: Collection[str]) -> str:
    by_type = choice.type in ("apply_patch", "shell", "local_shell")
    name = choice.type if by_type else flat_name(choice.namespace, choice.name or "")
    if choice.type in ("function", "custom") or by_type:
        if name in names:
            return name
        raise _bad_choice(f"the tool {name[:128]!r} is not among the tools.")
    raise _bad_choice(f"a tool of type {choice.type[:64]!r} cannot be chosen here.")


def _bad_choice(what: str) -> GatewayError:
    return bad_request(f"tool_choice: {what}", "tool_choice")
