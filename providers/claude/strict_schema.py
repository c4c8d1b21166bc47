"""A JSON Schema as Claude's strict output takes it, told as Anthropic's own SDKs tell it.

Strict output knows few words: every object is closed, `oneOf` is said as `anyOf`, and what cannot
be enforced moves into the description, where the model still reads it. Source: Anthropic's
document on structured outputs, and what its SDKs make of a schema.
"""

import re
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from app.wire.errors import bad_request

Schema = dict[str, Any]

_MOST_DEPTH = 100
_TYPES = frozenset(("object", "array", "string", "integer", "number", "boolean", "null"))
_FORMATS = frozenset(
    ("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid")
)
_ABOUT_THE_SCHEMA = ("$schema", "$id", "$comment", "$anchor")
_DEFINITIONS = ("$defs", "definitions")
_REFERENCE = re.compile(r"#/(\$defs|definitions)/([^/]+)")
# A schema without a type has the one that its words are about.
_WORDS = {
    "object": ("properties", "additionalProperties", "patternProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems", "uniqueItems"),
    "string": ("pattern", "minLength", "maxLength", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
_MERGED = frozenset(
    ("type", "properties", "required", "additionalProperties", "title", "description")
)


class Strict(Struct):
    """A schema in the form that strict output takes."""

    schema: Schema
    loses: bool  # it takes less than the one it was made of: maps and free objects are closed


def strict_schema(schema: Schema) -> Strict | None:
    """The strict form; None where strict output has no words for it (anything, recursion)."""
    writer = _Writer(schema)
    try:
        if writer.is_recursive():
            return None
        return Strict(writer.write(schema, 0), writer.loses)
    except _Unsayable:
        return None


class _Unsayable(Exception):
    pass


class _Writer:
    def __init__(self, root: Schema) -> None:
        self.loses = False
        self._defined = {
            (holder, name): inner
            for holder in _DEFINITIONS
            if isinstance(held := root.get(holder), dict)
            for name, inner in held.items()
        }

    def is_recursive(self) -> bool:
        """A definition that leads back to itself."""
        leads = {at: set(self._leads(inner, 0)) for at, inner in self._defined.items()}
        while leads:
            ends = [at for at, to in leads.items() if not to & leads.keys()]
            if not ends:
                return True
            for at in ends:
                del leads[at]
        return False

    def _leads(self, inner: Any, depth: int) -> Iterator[tuple[str, str]]:
        if depth > 4 * _MOST_DEPTH:  # lists and maps count here as well
            raise _too_deep()
        if isinstance(inner, dict):
            if isinstance(inner.get("$ref"), str) and (at := _REFERENCE.fullmatch(inner["$ref"])):
                yield at[1], at[2]
            for value in inner.values():
                yield from self._leads(value, depth + 1)
        elif isinstance(inner, list):
            for value in inner:
                yield from self._leads(value, depth + 1)

    def write(self, schema: Any, depth: int) -> Schema:
        if depth > _MOST_DEPTH:
            raise _too_deep()
        if not isinstance(schema, dict):
            raise _Unsayable  # true and false: anything and nothing
        left = {name: value for name, value in schema.items() if name not in _ABOUT_THE_SCHEMA}
        kept: Schema = {}
        for holder in _DEFINITIONS:
            if isinstance(held := left.pop(holder, None), dict):
                kept[holder] = {name: self.write(inner, depth + 1) for name, inner in held.items()}
        if "allOf" in left:
            left = self._merged(left)
        if "$ref" in left:
            at = _REFERENCE.fullmatch(str(left["$ref"]))
            if at is None or (at[1], at[2]) not in self._defined:
                raise _Unsayable
            return kept | {"$ref": left["$ref"]}  # which stands alone
        self._say_what_it_is(left, kept, depth)
        for name in ("title", "description"):
            if isinstance(told := left.pop(name, None), str):
                kept[name] = told
        if left:
            hint = "{" + ", ".join(f"{name}: {_plain(value)}" for name, value in left.items()) + "}"
            told = kept.get("description")
            kept["description"] = f"{told}\n\n{hint}" if told else hint
        return kept

    def _say_what_it_is(self, left: Schema, kept: Schema, depth: int) -> None:
        """Moves from `left` to `kept` what strict output enforces."""
        types = _types(left.pop("type", None))
        values = left.get("enum")
        if isinstance(values, list) and values and all(map(_is_plain, values)):
            kept["enum"] = left.pop("enum")
        if "const" in left and _is_plain(left["const"]):
            kept["const"] = left.pop("const")
        if "enum" in kept or "const" in kept:
            return  # which say the type as well
        if "properties" not in left and self._say_variants(left, kept, bool(types), depth):
            return
        types = types or [name for name, words in _WORDS.items() if any(w in left for w in words)]
        if not types:
            raise _Unsayable
        kept["type"] = types[0] if len(types) == 1 else types
        if "object" in types:
            self._say_object(left, kept, depth)
        if "array" in types:
            self._say_array(left, kept, depth)
        if "string" in types and str(left.get("format")) in _FORMATS:
            kept["format"] = left.pop("format")

    def _say_variants(self, left: Schema, kept: Schema, has_type: bool, depth: int) -> bool:
        for name in ("anyOf", "oneOf"):
            variants = left.get(name)
            if not isinstance(variants, list) or not variants:
                continue
            try:
                kept["anyOf"] = [self.write(variant, depth + 1) for variant in variants]
            except _Unsayable:
                if not has_type:
                    raise
                continue  # such as {"required": [...]}: a hint beside the type
            del left[name]
            return True
        return False

    def _say_object(self, left: Schema, kept: Schema, depth: int) -> None:
        named = left.pop("properties", None)
        named = named if isinstance(named, dict) else {}
        others = left.pop("additionalProperties", None)
        # An object that names nothing is a free one, but for the arguments of a tool without any.
        if others or (not named and depth and others is None) or "patternProperties" in left:
            self.loses = True
        kept["properties"] = {
            name: self.write(inner, depth + 1)
            for name, inner in named.items()
            if inner is not False
        }
        needed = left.pop("required", None)
        if isinstance(needed, list):
            kept["required"] = [
                name for name in needed if isinstance(name, str) and name in kept["properties"]
            ]
        kept["additionalProperties"] = False

    def _say_array(self, left: Schema, kept: Schema, depth: int) -> None:
        items = left.pop("items", None)
        first = left.pop("prefixItems", items if isinstance(items, list) else None)
        if isinstance(first, list) and first:
            self.loses = True  # which stands where
            variants = [*first, items] if isinstance(items, dict) and items else first
            told = [self.write(variant, depth + 1) for variant in variants]
            kept["items"] = told[0] if len(told) == 1 else {"anyOf": told}
        elif isinstance(items, dict) and items:
            kept["items"] = self.write(items, depth + 1)
        if left.get("minItems") in (0, 1):
            kept["minItems"] = left.pop("minItems")

    def _merged(self, schema: Schema) -> Schema:
        """Without `allOf`: closed objects cannot be valid against one another."""
        own = {name: value for name, value in schema.items() if name != "allOf"}
        parts = schema["allOf"]
        if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
            raise _Unsayable
        if len(parts) == 1 and not own.keys() - {"title", "description", "default"}:
            return {**parts[0], **({} if "$ref" in parts[0] else own)}
        merged: Schema = {"type": "object", "properties": {}, "required": []}
        for part in [*parts, own]:
            part = self._resolved(part)
            if part.keys() - _MERGED or part.get("type", "object") != "object":
                raise _Unsayable
            named, needed = part.get("properties", {}), part.get("required", [])
            if not isinstance(named, dict) or not isinstance(needed, list):
                raise _Unsayable
            for name, inner in named.items():
                if merged["properties"].setdefault(name, inner) != inner:
                    raise _Unsayable
            merged["required"] += needed
            merged |= {name: part[name] for name in ("title", "description") if name in part}
        return merged

    def _resolved(self, part: Schema) -> Schema:
        at = _REFERENCE.fullmatch(str(part.get("$ref", "")))
        if at is None:
            return part
        found = self._defined.get((at[1], at[2]))
        if not isinstance(found, dict):
            raise _Unsayable
        return found


def _types(said: Any) -> list[str]:
    """The types by name, [] for none. An unknown one cannot be said."""
    types = said if isinstance(said, list) else [] if said is None else [said]
    if not all(isinstance(name, str) and name in _TYPES for name in types):
        raise _Unsayable
    return types


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _too_deep() -> Exception:
    return bad_request(f"A JSON Schema may nest {_MOST_DEPTH} levels here, not more.")
