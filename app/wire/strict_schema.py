"""Whether a JSON Schema may be told to an upstream as a strict one, by OpenAI's rules.

Strict means that each object lists all of its properties as required and allows no others. What
does not is refused there, so it is better asked for loosely.
"""

from collections.abc import Mapping
from typing import Any

_HOLDS_SCHEMAS = ("properties", "$defs", "definitions")
_LISTS = ("anyOf", "allOf", "oneOf", "prefixItems")
_REFUSED = ("allOf", "oneOf", "not", "if", "then", "else", "patternProperties", "propertyNames")


def is_strict(schema: Any) -> bool:
    """Whether the schema, decoded, keeps the rules at every depth."""
    if not isinstance(schema, Mapping):
        return not isinstance(schema, list)
    if any(name in schema for name in _REFUSED):
        return False
    properties = schema.get("properties")
    if schema.get("type") == "object" or properties is not None:
        if schema.get("additionalProperties") is not False or not isinstance(properties, Mapping):
            return False
        required = schema.get("required")
        if not isinstance(required, list) or set(map(str, required)) != set(properties):
            return False
    held = [inner for name in _HOLDS_SCHEMAS for inner in _values(schema.get(name))]
    held += [inner for name in _LISTS for inner in _items(schema.get(name))]
    return all(map(is_strict, held)) and ("items" not in schema or is_strict(schema["items"]))


def _values(held: Any) -> list[Any]:
    return list(held.values()) if isinstance(held, Mapping) else []


def _items(held: Any) -> list[Any]:
    return held if isinstance(held, list) else []
