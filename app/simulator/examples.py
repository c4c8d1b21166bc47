"""A value that fits a JSON schema: tool arguments and structured answers of simulated models.

Deterministic. A structured answer has every property, and its free strings are `text`, so that a
test can see which question it belongs to. Tool arguments are safe for an agent to run: only what is
required, nothing of the prompt, and no switch turned on.
"""

from typing import Any

MAX_DEPTH = 12
FORMATS = {
    "date": "2026-01-02",
    "time": "03:04:05Z",
    "date-time": "2026-01-02T03:04:05Z",
    "duration": "P1D",
    "email": "someone@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def example(schema: Any, text: str) -> Any:
    """A value that fits the schema, `text` where any string will do. Local `$ref` are followed."""
    return _value(schema, text, schema if isinstance(schema, dict) else {}, 0)


def arguments(schema: Any) -> dict[str, Any]:
    """The arguments of a tool call when the prompt gives none: only what is required."""
    given = _value(schema, None, schema if isinstance(schema, dict) else {}, 0)
    return given if isinstance(given, dict) else {}


def _value(schema: Any, text: str | None, root: dict[str, Any], depth: int) -> Any:
    """`text` is None for the arguments of a tool."""
    if not isinstance(schema, dict) or depth > MAX_DEPTH:
        return None
    deeper = depth + 1
    if text is None and "default" in schema:
        return schema["default"]
    if text is None and isinstance(schema.get("examples"), list) and schema["examples"]:
        return schema["examples"][0]
    if isinstance(schema.get("$ref"), str):
        return _value(_target(root, schema["$ref"]), text, root, deeper)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for choice in ("anyOf", "oneOf"):
        if schema.get(choice):
            return _value(schema[choice][0], text, root, deeper)
    if schema.get("allOf"):
        merged: dict[str, Any] = {}
        for part in schema["allOf"]:
            value = _value(part, text, root, deeper)
            merged |= value if isinstance(value, dict) else {}
        return merged
    match _kind(schema):
        case "object":
            required = schema.get("required") or []
            return {
                name: _value(member, text, root, deeper)
                for name, member in (schema.get("properties") or {}).items()
                if text is not None or name in required
            }
        case "array":
            count = max(int(schema.get("minItems") or 0), 1)
            return [_value(schema.get("items"), text, root, deeper)] * count
        case "integer":
            return int(_number(schema))
        case "number":
            return _number(schema)
        case "boolean":
            return text is not None
        case "null":
            return None
        case _:
            return _string(schema, "example" if text is None else text)


def _kind(schema: dict[str, Any]) -> str:
    """The type, in either case (Gemini writes OBJECT), the first one that is not null."""
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = next((each for each in kind if each != "null"), "null")
    return str(kind).lower()


def _number(schema: dict[str, Any]) -> float | int:
    if "minimum" in schema:
        return schema["minimum"]  # type: ignore[no-any-return]
    if "exclusiveMinimum" in schema:
        return schema["exclusiveMinimum"] + 1  # type: ignore[no-any-return]
    most = schema.get("maximum", schema.get("exclusiveMaximum", 8) - 1)
    return min(7, most) if isinstance(most, int | float) else 7


def _string(schema: dict[str, Any], text: str) -> str:
    value = FORMATS.get(str(schema.get("format")), text)
    value = value.ljust(int(schema.get("minLength") or 0), "x")
    return value[: int(schema.get("maxLength") or 1_000)]


def _target(root: dict[str, Any], reference: str) -> Any:
    found: Any = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        if step and isinstance(found, dict):
            found = found.get(step.replace("~1", "/").replace("~0", "~"))
    return found
