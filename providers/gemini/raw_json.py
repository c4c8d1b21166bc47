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


def json_schema(given: dict[str, Raw] | None) -> dict[str, Raw]:
    """A caller's JSON Schema, unchanged but for the top-level members that Gemini refuses."""
    return {
        name: checked_utf8(raw) for name, raw in (given or {}).items() if name not in _NOT_SCHEMA
    }
