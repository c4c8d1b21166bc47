"""OpenAI's tools, tool choices and JSON Schemas as Anthropic's.

`json_schema` answers come from `output_config.format`; models too old for it are given one more
tool, which they must call, and whose input is the answer.
"""

from typing import Any

from app.wire.chat import ChatRequest, Function, plain
from app.wire.errors import bad_request
from app.wire.provider import Call
from app.wire.tool_names import ToolNames
from providers.claude.generations import Abilities, abilities_of
from providers.claude.parameters import drop
from providers.claude.schema import Mark, ToolChoice, ToolDefinition
from providers.claude.strict_schema import strict_schema

_LONGEST_NAME = 128


def tool_names(chat: ChatRequest) -> ToolNames:
    """How the request's functions are called here."""
    functions = [tool.function for tool in chat.tools or () if tool.function is not None]
    return ToolNames((each.name for each in (*functions, *(chat.functions or ()))), _LONGEST_NAME)


def json_tool(chat: ChatRequest, model: str) -> str | None:
    """The name of the tool that replaces json_schema on older models; None without one."""
    if wanted_schema(chat) is None or abilities_of(model).structured:
        return None
    return _json_tool_name(chat)


def _json_tool_name(chat: ChatRequest) -> str:
    taken = {tool.function.name for tool in chat.tools or () if tool.function}
    taken |= {function.name for function in chat.functions or ()}
    name = "json_output"
    while name in taken:
        name += "_"
    return name


def wanted_schema(chat: ChatRequest) -> dict[str, Any] | None:
    """The JSON Schema in `response_format`; None for text or free JSON.

    Raises GatewayError 400 for another format or a schema that is missing.
    """
    if chat.response_format is None:
        return None
    wanted = plain(chat.response_format)
    match wanted.get("type"):
        case "text" | "json_object":
            return None
        case "json_schema":
            holder = wanted.get("json_schema")
            schema = holder.get("schema") if isinstance(holder, dict) else None
            if not isinstance(schema, dict):
                raise bad_request(
                    "response_format.json_schema.schema must be a JSON Schema object.",
                    param="response_format.json_schema.schema",
                )
            return schema
        case _:
            raise bad_request(
                "response_format.type must be text, json_object or json_schema.",
                param="response_format.type",
            )


def with_json_tool(
    chat: ChatRequest,
    schema: dict[str, Any],
    tools: list[ToolDefinition],
    choice: ToolChoice | None,
) -> tuple[list[ToolDefinition], ToolChoice]:
    """Adds a tool whose arguments are the answer, for models without structured output.

    Returns the tools and the choice that forces the model to call one.
    """
    name = _json_tool_name(chat)
    output = ToolDefinition(
        name,
        _object_schema(schema, "response_format.json_schema.schema"),
        "Give the final answer to the user with this tool.",
    )
    if not tools or (choice is not None and choice.type == "none"):
        return [*tools, output], ToolChoice("tool", name=name)
    if choice is not None and choice.type == "tool":
        return [*tools, output], choice
    alone = choice is not None and choice.disable_parallel_tool_use
    return [*tools, output], ToolChoice("any", disable_parallel_tool_use=alone)


def _object_schema(schema: dict[str, Any] | None, at: str) -> dict[str, Any]:
    if not schema:
        return {"type": "object", "properties": {}}
    if schema.get("type") is None:
        return {"type": "object"} | {k: v for k, v in schema.items() if k != "type"}
    if schema["type"] != "object":
        raise bad_request(f'{at}.type must be "object".', param=f"{at}.type")
    return schema


def tools_and_choice(
    chat: ChatRequest, abilities: Abilities, call: Call
) -> tuple[list[ToolDefinition], ToolChoice | None]:
    """`tools` and `tool_choice`, or `functions` and `function_call`, as Anthropic takes them.

    Raises GatewayError 400 for tools of another type and for a choice that is not declared.
    """
    legacy = chat.uses_functions
    if chat.tools and chat.functions:
        drop(call, "functions")
    functions: list[tuple[str, Function, Mark | None]] = []
    if legacy:
        functions = [
            (f"functions[{at}]", f, f.cache_control) for at, f in enumerate(chat.functions or ())
        ]
    for at, tool in enumerate(chat.tools or ()):
        if tool.type != "function" or tool.function is None:
            raise bad_request(
                "Claude is given tools of type function only.", param=f"tools[{at}].type"
            )
        mark = tool.cache_control or tool.function.cache_control
        functions.append((f"tools[{at}].function", tool.function, mark))
    tools = [_tool(function, at, abilities, call, mark) for at, function, mark in functions]
    choice, allowed = _tool_choice(chat, legacy)
    if not tools:
        if choice is not None and choice.type in ("any", "tool"):
            drop(call, "tool_choice")
        return [], None
    known = {tool.name for tool in tools}
    wanted = allowed if allowed is not None else [choice.name] if choice and choice.name else []
    for name in wanted:
        if name not in known:
            raise bad_request(
                f"tool_choice names {name!r}, which is not among the tools.",
                param="function_call" if legacy else "tool_choice",
            )
    if allowed is not None:
        tools = [tool for tool in tools if tool.name in allowed]
    # The legacy shape has room for one call only.
    if chat.parallel_tool_calls is False or legacy:
        choice = choice or ToolChoice("auto")
        choice.disable_parallel_tool_use = choice.type != "none"
    return tools, choice


def _tool(
    function: Function, at: str, abilities: Abilities, call: Call, mark: Mark | None
) -> ToolDefinition:
    if not function.name:
        raise bad_request("A tool needs a name.", param=f"{at}.name")
    parameters = None if function.parameters is None else plain(function.parameters)
    schema = _object_schema(parameters, f"{at}.parameters")
    strict = None
    if function.strict is True:
        strict = strict_schema(schema) if abilities.structured else None
        if strict is None or strict.loses:  # the arguments are rather loose than cut short
            strict = None
            drop(call, "tools.function.strict")
    return ToolDefinition(
        function.name,
        schema if strict is None else strict.schema,
        function.description or None,
        strict is not None,
        mark,
    )


def _tool_choice(chat: ChatRequest, legacy: bool) -> tuple[ToolChoice | None, list[str] | None]:
    """The tool choice, and the names that `allowed_tools` permits."""
    if legacy:
        said = chat.function_call
        if isinstance(said, dict):
            return ToolChoice("tool", name=_name_in(said, "function_call.name")), None
        param = "function_call"
    else:
        said = chat.tool_choice
        param = "tool_choice"
    if isinstance(said, dict):
        if said.get("type") == "function":
            function = said.get("function")
            return ToolChoice("tool", name=_name_in(function, "tool_choice.function.name")), None
        if said.get("type") == "allowed_tools":
            return _allowed_tools(said)
        raise bad_request(
            "tool_choice.type must be function or allowed_tools.", param="tool_choice.type"
        )
    match said:
        case None:
            return None, None
        case "auto" | "none":
            return ToolChoice(said), None
        case "required" if not legacy:
            return ToolChoice("any"), None
        case _:
            words = "auto, none" if legacy else "auto, none, required"
            raise bad_request(f"{param} {said!r} is not one of {words}.", param=param)


def _allowed_tools(said: dict[str, Any]) -> tuple[ToolChoice, list[str]]:
    at = "tool_choice.allowed_tools"
    # OpenAI's document nests them; some clients send mode and tools beside the type.
    inner = said.get("allowed_tools", said)
    listed = inner.get("tools") if isinstance(inner, dict) else None
    if not isinstance(inner, dict) or not isinstance(listed, list) or not listed:
        raise bad_request(f"{at}.tools must list at least one tool.", param=f"{at}.tools")
    names = []
    for index, tool in enumerate(listed):
        holder = tool.get("function", tool) if isinstance(tool, dict) else None
        names.append(_name_in(holder, f"{at}.tools[{index}].function.name"))
    match inner.get("mode", "auto"):
        case "auto":
            return ToolChoice("auto"), names
        case "required":
            return ToolChoice("any"), names
        case _:
            raise bad_request(f"{at}.mode must be auto or required.", param=f"{at}.mode")


def _name_in(holder: Any, at: str) -> str:
    name = holder.get("name") if isinstance(holder, dict) else None
    if not isinstance(name, str) or not name:
        raise bad_request(f"{at} must be the name of a tool.", param=at)
    return name
