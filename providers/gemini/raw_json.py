"""JSON values that are passed on as bytes: validity checks and encoding.

Such values are decoded as `Raw`: numbers keep every digit, and members unknown here get through.
"""

from typing import Any

import msgspec
from msgspec import Raw

from app.wire.chat import not_json
from app.wire.errors import bad_request

# What decoding raises for bytes that are not the JSON asked for.
JSON_ERRORS = (msgspec.DecodeError, ValueError, RecursionError)

_NOT_SCHEMA = ("$schema", "strict")  # Gemini refuses these members at the top of a schema
_object = msgspec.json.Decoder(dict[str, Raw])


def read_object(data: bytes | Raw) -> dict[str, Raw]:
    """The members of a JSON object, values as bytes. Raises one of `JSON_ERRORS`."""
    return _object.decode(data)


def encode(value: Any) -> bytes:
    """Encodes a request body. Raises GatewayError 400 for numbers or nesting JSON cannot hold."""
    try:
        return msgspec.json.encode(value)
    except (OverflowError, RecursionError, ValueError) as error:
        raise bad_request(f"The request cannot be written as JSON: {error}.") from None


def checked_utf8(raw: Raw) -> Raw:
    """Returns `raw` as it is. Raises GatewayError 400 when it is not valid UTF-8.

    msgspec does not look into the strings of a `Raw` value.
    """
    try:
        bytes(raw).decode()
    except UnicodeDecodeError as error:
        raise not_json(bytes(raw), error) from None
    return raw


# Keywords of a JSON Schema that Gemini knows; it refuses some of the others.
_KEYWORDS = frozenset(
    (
        *("$id", "$defs", "$ref", "$anchor", "type", "format", "title", "description", "enum"),
        *("items", "prefixItems", "minItems", "maxItems", "minimum", "maximum", "anyOf", "oneOf"),
        *("properties", "additionalProperties", "required", "propertyOrdering"),
    )
)
_NAMED_SCHEMAS = ("$defs", "properties")  # their members are names, not keywords


def known_schema(given: dict[str, Raw] | None) -> dict[str, Any]:
    """A caller's JSON Schema with nothing but keywords that Gemini knows, at every depth."""
    try:
        known: dict[str, Any] = _known(msgspec.json.decode(msgspec.json.encode(given or {})))
    except JSON_ERRORS as error:
        raise bad_request(f"A JSON Schema cannot be read: {error}.") from None
    return known


def _known(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_known(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    known: dict[str, Any] = {}
    for name, value in schema.items():
        if name in _NAMED_SCHEMAS and isinstance(value, dict):
            known[name] = {key: _known(inner) for key, inner in value.items()}
        elif name in ("enum", "required", "propertyOrdering"):
            known[name] = value
        elif name == "const":
            known["enum"] = [value]
        elif name in _KEYWORDS:
            known[name] = _known(value)
    return known


def json_schema(given: dict[str, Raw] | None) -> dict[str, Raw]:
    """A caller's JSON Schema, unchanged but for the top-level members that Gemini refuses."""
    return {
        name: checked_utf8(raw) for name, raw in (given or {}).items() if name not in _NOT_SCHEMA
    }
