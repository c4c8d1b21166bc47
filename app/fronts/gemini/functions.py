"""Google's tools and schemas as functions of the neutral request.

Google has a schema language of its own beside JSON Schema, with upper-case types, `nullable` and
`propertyOrdering`, and clients write either in the other's place. Protocol sheet: front-gemini,
3.1.
"""

import re
from typing import Any

import msgspec
from msgspec import Raw, Struct

from app.fronts.gemini.schema import FunctionCallingConfig, FunctionDeclaration, Tool
from app.wire.chat import Function, ServerTool, plain, with_properties
from app.wire.errors import bad_request
from app.wire.strict_schema import is_strict

_MOST_DEPTH = 100
# What tells that a schema is not JSON Schema as it should be.
_GOOGLES = re.compile(
    rb'"(?:nullable|property_?[oO]rdering|ref|defs|any_of|one_of|unique_items|(?:min|max)_[a-z]+'
    rb'|additional_properties)"|"(?:min|max)(?:Items|Length|Properties)"\s*:\s*"'
    rb'|"type"\s*:\s*(?:\[\s*)?"[A-Z]|"format"\s*:\s*"enum"'
).search
_KEYWORDS = {
    "any_of": "anyOf",
    "one_of": "oneOf",
    "ref": "$ref",
    "defs": "$defs",
    "property_ordering": "propertyOrdering",
    "additional_properties": "additionalProperties",
    "min_items": "minItems",
    "max_items": "maxItems",
    "unique_items": "uniqueItems",
    "min_length": "minLength",
    "max_length": "maxLength",
    "min_properties": "minProperties",
    "max_properties": "maxProperties",
}
# int64 in Google's API, which its JSON writes as text.
_NUMBERS = frozenset(
    ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")
)
_INT64 = re.compile(r"[0-9]{1,19}").fullmatch
_ONE = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")
_SEVERAL = ("anyOf", "oneOf", "allOf", "prefixItems")
_NAMED = ("properties", "$defs", "definitions", "patternProperties")


def json_schema(given: dict[str, Raw], path: str) -> dict[str, Raw]:
    """The schema as JSON Schema. Raises GatewayError 400 for one that is nested too deeply."""
    if not _GOOGLES(msgspec.json.encode(given)):
        return given
    schema = _json_schema(plain(given), path, 0)
    return {name: Raw(msgspec.json.encode(value)) for name, value in schema.items()}


def _json_schema(given: Any, path: str, depth: int) -> Any:
    if depth > _MOST_DEPTH:
        raise bad_request(f"{path}: the schema is nested too deeply.", path)
    if not isinstance(given, dict):
        return given
    schema: dict[str, Any] = {}
    for said, value in given.items():
        name = str(_KEYWORDS.get(said, said))
        if name == "type":
            value = _types(value)
        elif said == "ref" and isinstance(value, str):
            value = value.replace("#/defs/", "#/$defs/", 1)
        elif name in _NUMBERS and isinstance(value, str) and _INT64(value):
            value = int(value)
        elif name in _ONE:
            value = _json_schema(value, path, depth + 1)
        elif name in _SEVERAL and isinstance(value, list):
            value = [_json_schema(each, path, depth + 1) for each in value]
        elif name in _NAMED and isinstance(value, dict):
            value = {key: _json_schema(each, path, depth + 1) for key, each in value.items()}
        schema[name] = value
    return _without_googles(schema)


def _types(said: Any) -> Any:
    if isinstance(said, list):
        return [_types(each) for each in said]
    return said.lower() if isinstance(said, str) else said


def _is_name(name: Any, properties: dict[str, Any]) -> bool:
    return isinstance(name, str) and name in properties


def _without_googles(schema: dict[str, Any]) -> dict[str, Any]:
    """What only Google's own schemas have, in JSON Schema's words or left out."""
    order = schema.pop("propertyOrdering", None)
    properties = schema.get("properties")
    if isinstance(order, list) and isinstance(properties, dict):
        first = {name: properties[name] for name in order if _is_name(name, properties)}
        schema["properties"] = first | properties
    if schema.get("format") == "enum":
        del schema["format"]
    if schema.pop("nullable", None) is not True:
        return schema
    kind = schema.get("type")
    if isinstance(kind, str | list):
        kinds = kind if isinstance(kind, list) else [kind]
        schema["type"] = [*kinds, *(() if "null" in kinds else ("null",))]
        if isinstance(enum := schema.get("enum"), list) and None not in enum:
            schema["enum"] = [*enum, None]
        return schema
    if isinstance(several := schema.get("anyOf"), list):
        schema["anyOf"] = [*several, {"type": "null"}]
        return schema
    return {"anyOf": [schema, {"type": "null"}]} if schema else schema


# --- tools --------------------------------------------------------------------------------------

_SERVER = {
    "googleSearch": "web_search",
    "googleSearchRetrieval": "web_search",
    "google_search": "web_search",
    "google_search_retrieval": "web_search",
    "urlContext": "web_fetch",
    "url_context": "web_fetch",
}
_FUNCTIONS = "functionDeclarations"
_tool = msgspec.json.Decoder(Tool)
_members = msgspec.json.Decoder(dict[str, Raw])


class Tools(Struct):
    """The tools of a request, sorted by who runs them."""

    functions: list[Function] = []
    server: list[ServerTool] = []
    dropped: list[str] = []


def read_tools(tools: list[Raw]) -> Tools:
    """The functions, and what Google itself runs.

    Raises GatewayError 400 for tools that only Google has, where nothing stands beside them: a
    model without its search answers from memory as if it had searched.
    """
    out = Tools()
    for at, tool in enumerate(tools):
        path = f"tools[{at}]"
        for name, value in _members.decode(tool).items():
            if bytes(value) == b"null" or name == _FUNCTIONS:
                continue
            kind = _SERVER.get(name)
            if kind is not None:
                out.server.append(ServerTool(kind, name, f"{path}.{name}"))
            else:
                out.dropped.append(f"tools.{name}")
        for k, declared in enumerate(_tool.decode(tool).function_declarations or ()):
            out.functions.append(_function(declared, f"{path}.{_FUNCTIONS}[{k}]"))
    if out.dropped and not out.functions and not out.server:
        raise bad_request(
            f"{out.dropped[0]}: this tool is run by Google and works with Gemini's own API only.",
            "tools",
        )
    return out


def _function(declared: FunctionDeclaration, path: str) -> Function:
    if not declared.name:
        raise bad_request(f"{path}.name: a function needs a name.", f"{path}.name")
    schema, member = declared.parameters_json_schema, "parametersJsonSchema"
    if schema is None:
        schema, member = declared.parameters, "parameters"
    parameters = with_properties(json_schema(schema, f"{path}.{member}")) if schema else None
    return Function(declared.name, declared.description or None, parameters)


def read_choice(config: FunctionCallingConfig | None, tools: Tools) -> str | dict[str, Any] | None:
    """The calling mode as `tool_choice`; VALIDATED makes functions strict where that is legal.

    Raises GatewayError 400 for a mode that is unknown, and for names that are not declared.
    """
    mode = ((config and config.mode) or "AUTO").upper().removeprefix("MODE_")
    path = "toolConfig.functionCallingConfig"
    if mode not in ("AUTO", "VALIDATED", "ANY", "NONE", "UNSPECIFIED"):
        raise bad_request(f"{path}.mode: must be AUTO, VALIDATED, ANY or NONE.", f"{path}.mode")
    if not tools.functions:
        return None
    if mode == "NONE":
        return "none"
    if mode == "VALIDATED":
        for function in tools.functions:
            if function.parameters is not None and is_strict(plain(function.parameters)):
                function.strict = True
    wanted = "required" if mode == "ANY" else "auto"
    allowed = (config and config.allowed_function_names) or []
    if not allowed:
        return wanted if config is not None and config.mode else None
    for name in allowed:
        if all(function.name != name for function in tools.functions):
            path += ".allowedFunctionNames"
            raise bad_request(f"{path}: {name[:128]!r} is not among the functions.", path)
    if len(allowed) == 1 and wanted == "required":
        return {"type": "function", "function": {"name": allowed[0]}}
    entries = [{"type": "function", "function": {"name": name}} for name in allowed]
    return {"type": "allowed_tools", "allowed_tools": {"mode": wanted, "tools": entries}}
