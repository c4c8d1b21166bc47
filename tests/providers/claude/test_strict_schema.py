"""JSON Schemas as OpenAI takes them, and what Claude's strict output is sent of them."""

from typing import Any

import msgspec
import pytest
from anthropic import transform_schema
from hypothesis import given, settings
from hypothesis import strategies as st

from app.wire.errors import GatewayError
from app.wire.upstream import UpstreamReply
from providers.claude.api import PROVIDER
from providers.claude.strict_schema import strict_schema

USER = {"role": "user", "content": "Hi"}
STRING = {"type": "string"}
ALL = ["object", "array", "string", "number", "boolean", "null"]


def with_m(member: Any, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"m": member}, "required": ["m"]} | more


def m_of(schema: dict[str, Any]) -> Any:
    said = strict_schema(schema)
    assert said is not None
    assert said.schema["additionalProperties"] is False
    return said.schema["properties"]["m"]


@pytest.mark.parametrize(
    ("member", "sent"),
    [
        # maps and free objects
        (
            {"type": "object", "additionalProperties": STRING},
            {"type": "object", "properties": {}, "additionalProperties": False},
        ),
        ({"type": "object"}, {"type": "object", "properties": {}, "additionalProperties": False}),
        (
            {"type": ALL},
            {"type": ALL, "properties": {}, "additionalProperties": False},
        ),
        (
            {"properties": {"a": STRING}},
            {"type": "object", "properties": {"a": STRING}, "additionalProperties": False},
        ),
        # alternatives
        ({"oneOf": [STRING, {"type": "integer"}]}, {"anyOf": [STRING, {"type": "integer"}]}),
        (
            {"anyOf": [{"type": "object"}, {"type": "null"}]},
            {
                "anyOf": [
                    {"type": "object", "properties": {}, "additionalProperties": False},
                    {"type": "null"},
                ]
            },
        ),
        (
            {"type": "object", "properties": {"a": STRING}, "anyOf": [{"required": ["a"]}]},
            {
                "type": "object",
                "properties": {"a": STRING},
                "additionalProperties": False,
                "description": '{anyOf: [{"required":["a"]}]}',
            },
        ),
        ({"type": "string", "anyOf": [{"minLength": 1}, {}]},
         {"type": "string", "description": '{anyOf: [{"minLength":1},{}]}'}),
        # what all must hold together is one object
        (
            {"allOf": [with_m(STRING), {"properties": {"b": STRING}, "required": ["b"]}]},
            {
                "type": "object",
                "properties": {"m": STRING, "b": STRING},
                "required": ["m", "b"],
                "additionalProperties": False,
            },
        ),
        ({"allOf": [STRING], "description": "D"}, {"type": "string", "description": "D"}),
        # words that are not enforced
        (
            {"type": "string", "pattern": "^a$", "default": None, "description": "D"},
            {"type": "string", "description": "D\n\n{pattern: ^a$, default: null}"},
        ),
        ({"type": "string", "format": "uuid"}, {"type": "string", "format": "uuid"}),
        ({"type": "string", "format": "ssn"}, {"type": "string", "description": "{format: ssn}"}),
        (
            {"type": "array", "items": STRING, "minItems": 2, "uniqueItems": True},
            {
                "type": "array",
                "items": STRING,
                "description": "{minItems: 2, uniqueItems: true}",
            },
        ),
        ({"type": "array", "items": STRING, "minItems": 1},
         {"type": "array", "items": STRING, "minItems": 1}),
        ({"type": "array", "items": True}, {"type": "array"}),
        (
            {"type": "array", "prefixItems": [STRING, {"type": "number"}], "items": False},
            {"type": "array", "items": {"anyOf": [STRING, {"type": "number"}]}},
        ),
        ({"minimum": 3}, {"type": "number", "description": "{minimum: 3}"}),
        ({"type": "integer", "maximum": 9, "title": "T"},
         {"type": "integer", "title": "T", "description": "{maximum: 9}"}),
        # values
        ({"type": "string", "enum": ["a", "b"]}, {"enum": ["a", "b"]}),
        ({"const": None}, {"const": None}),
        ({"type": ["string", "null"], "enum": ["a", None]}, {"enum": ["a", None]}),
        (
            {"type": "object", "enum": [{"a": 1}]},
            {
                "type": "object",
                "properties": {},
                "additionalProperties": False,
                "description": '{enum: [{"a":1}]}',
            },
        ),
        ({"type": ["string"]}, STRING),
    ],
)  # fmt: skip
def test_what_a_schema_becomes(member, sent):
    assert m_of(with_m(member)) == sent


@pytest.mark.parametrize(
    "member",
    [
        {},
        True,
        {"description": "anything"},
        {"type": "any"},
        {"type": 5},
        {"$ref": "#"},
        {"$ref": "#/properties/m"},
        {"$ref": "https://example.org/a.json"},
        {"$ref": "#/$defs/missing"},
        {"anyOf": [{"required": ["a"]}]},
        {"allOf": [STRING, {"minLength": 1}]},
        {"allOf": [with_m(STRING), with_m({"type": "number"})]},
        {"not": STRING},
    ],
)
def test_what_strict_output_has_no_words_for(member):
    assert strict_schema(with_m(member)) is None


def test_references_stand_alone_and_their_schemas_are_closed_too():
    schema = with_m(
        {"$ref": "#/$defs/A", "description": "gone"},
        **{"$schema": "x", "$defs": {"A": with_m({"$ref": "#/definitions/B"})}},
        definitions={"B": {"type": "object", "properties": {"x": STRING}}},
    )
    said = strict_schema(schema)
    assert said is not None and not said.loses
    assert said.schema["$defs"]["A"]["additionalProperties"] is False
    assert said.schema["definitions"]["B"]["additionalProperties"] is False
    assert said.schema["properties"] == {"m": {"$ref": "#/$defs/A"}}
    assert "$schema" not in said.schema
    single = with_m({"allOf": [{"$ref": "#/$defs/A"}], "title": "T"}, **{"$defs": {"A": STRING}})
    assert m_of(single) == {"$ref": "#/$defs/A"}
    root = {"$ref": "#/$defs/A", "$defs": {"A": with_m(STRING)}}
    assert strict_schema(root).schema == {
        "$ref": "#/$defs/A",
        "$defs": {"A": with_m(STRING) | {"additionalProperties": False}},
    }


@pytest.mark.parametrize("hop", [False, True])
def test_recursion_cannot_be_said(hop):
    inner = {"type": "array", "items": {"$ref": "#/$defs/B" if hop else "#/$defs/A"}}
    defs = {"A": with_m(inner), "B": with_m({"$ref": "#/$defs/A"})}
    assert strict_schema(with_m({"$ref": "#/$defs/A"}, **{"$defs": defs})) is None


def test_a_property_that_may_not_be_there_is_left_out():
    schema = {"type": "object", "properties": {"a": STRING, "b": False}, "required": ["a", "b"]}
    said = strict_schema(schema)
    assert said.schema["properties"] == {"a": STRING} and said.schema["required"] == ["a"]


simple = st.recursive(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["string", "integer", "number", "boolean", "null"])},
        optional={"description": st.text(max_size=5), "title": st.text(max_size=5)},
    ),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"type": st.just("array"), "items": inner}),
        st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"oneOf": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries(
            {
                "type": st.just("object"),
                "properties": st.dictionaries(st.text(max_size=3), inner, max_size=3),
            },
            optional={"additionalProperties": st.booleans() | inner},
        ),
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(simple)
def test_plain_schemas_come_out_as_anthropics_sdk_has_them(schema):
    said = strict_schema(schema)
    assert said is not None and said.schema == transform_schema(schema)


# --- what is sent -------------------------------------------------------------------------------


def asks_for(schema: Any, **more: Any) -> dict[str, Any]:
    form = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}
    return {"model": "claude-sonnet-4-5", "messages": [USER], "response_format": form} | more


def tool(schema: Any) -> dict[str, Any]:
    function = {"name": "look", "strict": True, "parameters": schema}
    return {"model": "claude-sonnet-4-5", "messages": [USER]} | {
        "tools": [{"type": "function", "function": function}]
    }


def sent(call) -> dict[str, Any]:
    return msgspec.json.decode(PROVIDER.request(call).body)


@pytest.mark.parametrize("strict", [True, False, None])
def test_json_that_cannot_be_strict_is_asked_for_in_words(make_call, strict):
    body = asks_for(with_m({}))
    body["response_format"]["json_schema"]["strict"] = strict
    call = make_call(body)
    request = sent(call)
    assert "output_config" not in request and "tools" not in request
    assert request["system"].endswith(msgspec.json.encode(with_m({})).decode())
    assert call.dropped == (["response_format.json_schema.strict"] if strict else [])


@pytest.mark.parametrize(
    "member", [{}, {"type": "object"}, {"type": "object", "additionalProperties": STRING}]
)
def test_a_tool_whose_arguments_would_be_cut_short_is_not_strict(make_call, member):
    call = make_call(tool(with_m(member)))
    (definition,) = sent(call)["tools"]
    assert definition == {"name": "look", "input_schema": with_m(member)}
    assert call.dropped == ["tools.function.strict"]


@pytest.mark.parametrize(
    "schema",
    [
        None,
        {"type": "object", "properties": {}},
        {"type": "object"},
        with_m({"oneOf": [STRING, {"type": "null"}]}),
        with_m({"type": "integer", "minimum": 1}),
    ],
)
def test_other_strict_tools_are_put_right(make_call, schema):
    call = make_call(tool(schema))
    (definition,) = sent(call)["tools"]
    assert definition["strict"] is True and call.dropped == []
    assert definition["input_schema"]["type"] == "object"
    assert definition["input_schema"]["additionalProperties"] is False
    assert b"oneOf" not in msgspec.json.encode(definition)


class TestRefusal:
    def refuse(self, call, message: str):
        error = {"type": "error", "error": {"type": "invalid_request_error", "message": message}}
        return PROVIDER.retry(call, UpstreamReply(400, {}, msgspec.json.encode(error)))

    @pytest.mark.parametrize(
        "message",
        [
            "output_config.format.schema: For 'object' type, 'additionalProperties' must be ...",
            "Schema is too complex for compilation.",
            "The compiled grammar is too large.",
            "Too many strict tools.",
        ],
    )
    def test_a_schema_that_claude_refuses_is_told_in_words(self, make_call, message):
        call = make_call(asks_for(with_m(STRING)) | {"tools": tool(with_m(STRING))["tools"]})
        assert "output_config" in sent(call)
        again = msgspec.json.decode(self.refuse(call, message).body)
        assert "output_config" not in again and "strict" not in again["tools"][0]
        assert again["system"].endswith(msgspec.json.encode(with_m(STRING)).decode())
        assert call.dropped == ["tools.function.strict", "response_format.json_schema.strict"]

    def test_others_stand(self, make_call):
        strict, loose = make_call(asks_for(with_m(STRING))), make_call({"messages": [USER]})
        assert self.refuse(strict, "max_tokens: too large") is None
        loose.model = "claude-sonnet-4-5"
        assert self.refuse(loose, "tools.0.input_schema: JSON schema is invalid") is None


def test_a_schema_without_an_end_is_a_400(make_call):
    nested: dict[str, Any] = STRING
    for _ in range(120):
        nested = {"type": "array", "items": nested}
    for schema in (with_m(nested), with_m(STRING, **{"$defs": {"A": nested}})):
        with pytest.raises(GatewayError) as caught:
            PROVIDER.request(make_call(asks_for(schema)))
        assert caught.value.status == 400


WORDS = """type properties required items prefixItems anyOf oneOf allOf enum const format minItems
    $ref $defs definitions description title m additionalProperties patternProperties pattern
    minimum not default"""
words = st.sampled_from(WORDS.split())
odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
    | st.sampled_from(["object", "array", "string", "null", "uuid", "m", "#/$defs/m", "#"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def is_closed(schema: Any) -> bool:
    if isinstance(schema, list):
        return all(map(is_closed, schema))
    if not isinstance(schema, dict):
        return True
    names = schema.get("type")
    is_object = "object" in (names if isinstance(names, list) else [names])
    if is_object and schema.get("additionalProperties") is not False:
        return False
    maps = [schema.get(name, {}) for name in ("properties", "$defs", "definitions")]
    inner = [value for held in maps for value in held.values()]
    return is_closed([*inner, schema.get("items"), schema.get("anyOf", [])])


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(words, odd, max_size=5))
def test_any_schema_is_put_right_or_cannot_be_said(schema):
    said = strict_schema(schema)
    assert said is None or is_closed(said.schema)
