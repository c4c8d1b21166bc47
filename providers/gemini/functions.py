"""OpenAI's `tools`, `functions` and `tool_choice` as Gemini's function declarations and modes.

Source: Google's function calling reference.
"""

import re
from collections.abc import Iterable
from typing import Any

from app.wire.chat import Tool
from app.wire.errors import bad_request
from providers.gemini.models import Model
from providers.gemini.openai_request import Chat
from providers.gemini.raw_json import json_schema, known_schema
from providers.gemini.schema import (
    FunctionCallingConfig,
    FunctionDeclaration,
    ToolConfig,
    ToolList,
)


class Names:
    """The mapping between a caller's function names and the names that Gemini accepts.

    OpenAI allows less than Gemini, but callers send more (blanks, slashes): those characters
    become `_`, and two names that become one are told apart by a number.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._sent: dict[str, str] = {}
        self.renamed: dict[str, str] = {}  # sent -> the caller's, only where they differ
        good: list[str] = []
        bad: list[str] = []
        for name in names:
            (good if _NAME.fullmatch(name) else bad).append(name)
        self._taken = set(good)
        for name in bad:
            self.sent(name)

    def sent(self, name: str) -> str:
        """The name to send for the caller's `name`; the same one at every call."""
        if _NAME.fullmatch(name):
            return name
        sent = self._sent.get(name)
        if sent is None:
            stem = re.sub(r"[^a-zA-Z0-9_.:-]", "_", name)[:60]
            stem = stem if _NAME.fullmatch(stem) else f"_{stem}"
            sent, count = stem, 1
            while sent in self._taken:
                count += 1
                sent = f"{stem[:60]}_{count}"
            self._taken.add(sent)
            self._sent[name] = sent
            self.renamed[sent] = name
        return sent


_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}")


def function_names(chat: Chat) -> Names:
    """The name mapping for all functions that the request declares."""
    tools = [tool.function.name for tool in chat.tools or [] if tool.function is not None]
    return Names(tools + [function.name for function in chat.functions or []])


def _all_tools(chat: Chat) -> tuple[list[Tool], str]:
    if chat.tools:
        return chat.tools, "tools"
    return [Tool(function=function) for function in chat.functions or []], "functions"


def function_declarations(chat: Chat, names: Names) -> list[FunctionDeclaration]:
    """The declarations of the functions in `tools` or `functions`.

    Raises GatewayError 400 for tools of another type and for functions without a name.
    """
    tools, at = _all_tools(chat)
    # A caller of Google's API through OpenAI's words knows its keywords; others do not.
    schema_of = json_schema if chat.extras_wire == "openai-chat" else known_schema
    declarations = []
    for k, tool in enumerate(tools):
        if tool.type != "function":
            raise bad_request(
                f"Gemini has no tools of type {tool.type!r}; use function.", f"{at}[{k}].type"
            )
        function = tool.function
        if function is None or not function.name:
            raise bad_request("A tool needs a function with a name.", f"{at}[{k}].function")
        declarations.append(
            FunctionDeclaration(
                names.sent(function.name),
                function.description or None,
                schema_of(function.parameters) or None,
            )
        )
    return declarations


def tool_lists(
    chat: Chat, model: Model, functions: list[FunctionDeclaration], dropped: list[str]
) -> list[ToolList]:
    """The functions, and Google's own tools where the model takes them: up to 2.5 it takes
    either. Names in `dropped` what is left out."""
    lists = [ToolList(function_declarations=functions)] if functions else []
    for tool in chat.server_tools:
        if functions and model.generation < (3, 0):
            dropped.append(f"tools.{tool.name}")
        elif tool.kind == "web_search":
            lists.append(ToolList(google_search={}))
        elif tool.kind == "web_fetch":
            lists.append(ToolList(url_context={}))
    return lists


def tool_config(chat: Chat, tools: list[FunctionDeclaration], names: Names) -> ToolConfig | None:
    """`tool_choice` or `function_call` as a calling mode; None for the default, AUTO.

    Raises GatewayError 400 for a choice that cannot be met, such as a function not declared.
    """
    choice, at = chat.tool_choice, "tool_choice"
    if choice is None and chat.function_call is not None:
        choice, at = chat.function_call, "function_call"
        if isinstance(choice, dict):
            choice = {"type": "function", "function": choice}
    mode, allowed = _read_choice(choice, at)
    if not tools:
        if mode == "ANY" or allowed:
            raise bad_request("A tool cannot be demanded without `tools`.", at)
        return None
    declared = {tool.name for tool in tools}
    sent = [names.sent(name) for name in allowed]
    for name, word in zip(allowed, sent, strict=True):
        if word not in declared:
            raise bad_request(f"{name!r} is not among the tools.", at)
    functions = [tool.function for tool in _all_tools(chat)[0]]
    strict = any(function is not None and function.strict for function in functions)
    # Names may only be given with ANY and VALIDATED.
    if mode == "AUTO" and (strict or allowed):
        mode = "VALIDATED"
    if mode == "AUTO":
        return None
    return ToolConfig(FunctionCallingConfig(mode, sent or None))


def _read_choice(choice: Any, at: str) -> tuple[str, list[str]]:
    match choice:
        case None | "auto":
            return "AUTO", []
        case "none":
            return "NONE", []
        case "required":
            return "ANY", []
        case {"type": "function", "function": {"name": str(name)}} if name:
            return "ANY", [name]
        case {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": list(tools)}} if (
            mode in ("auto", "required") and tools
        ):
            return "ANY" if mode == "required" else "AUTO", [_allowed(tool, at) for tool in tools]
        case _:
            raise bad_request(
                "Use auto, none, required, a function or allowed_tools of functions.", at
            )


def _allowed(tool: Any, at: str) -> str:
    match tool:
        case {"type": "function", "function": {"name": str(name)}} if name:
            return name
        case _:
            raise bad_request("Every allowed tool must be a function with a name.", at)
