"""generateContent bodies as the neutral request, and as every other provider is told of it."""

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.fronts.gemini.request import NoSuchMethod, method_of, read_counted
from app.wire.errors import GatewayError
from app.wire.signature_mark import mark
from providers.gemini.native_body import read_native, with_model_of_url
from tests.calls import DIRECTORY
from tests.fronts.gemini_calls import (
    EVENTS,
    PNG,
    RECORDINGS,
    asked_of,
    chat_of,
    config_of,
    model,
    refusal,
    to_claude,
    to_openai,
    user,
)

GENERATING = [
    name
    for name, request in RECORDINGS.items()
    if "enerateContent" in request["path"] and request["method"] == "POST"
]
ADD = {
    "name": "add",
    "parameters": {
        "type": "OBJECT",
        "properties": {"b": {"type": "NUMBER", "nullable": True}, "a": {"type": "NUMBER"}},
        "property_ordering": ["a", "b"],
        "required": ["a"],
    },
}


# --- paths ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("models/gemini-2.5-flash:generateContent", ("gemini-2.5-flash", "generateContent")),
        ("models/claude/claude-sonnet-5:countTokens", ("claude/claude-sonnet-5", "countTokens")),
        ("claude/claude-sonnet-5:streamGenerateContent", ("claude/claude-sonnet-5", "")),
        ("claude%2Fclaude-sonnet-5%3AgenerateContent", ("claude/claude-sonnet-5", "")),
        ("models/or/qwen:free:generateContent", ("or/qwen:free", "generateContent")),
        ("tunedModels/x:generateContent", ("tunedModels/x", "generateContent")),
    ],
)
def test_model_and_method_are_read_from_the_path(target, found):
    name, method = method_of(target)
    assert name == found[0]
    assert method.endswith(found[1] or "enerateContent")


@pytest.mark.parametrize("target", ["files", "models/m:predict", ":generateContent", "models/m"])
def test_other_paths_are_no_methods(target):
    with pytest.raises(NoSuchMethod):
        method_of(target)


@pytest.mark.parametrize("name", RECORDINGS)
def test_every_recorded_request_is_glanced_at(name):
    request = RECORDINGS[name]
    if request["method"] == "POST":
        asked = asked_of(request["body"], request["path"])
        assert "/" not in asked.model or asked.model == "claude/claude-sonnet-5"
        assert asked.stream == ("streamGenerateContent" in request["path"])
        assert not asked.options.is_array
        assert "key=" not in asked.query


@pytest.mark.parametrize("slash", [b"/", rb"\/", b"_"])  # PHP escapes it
def test_marks_of_other_houses_do_not_reach_google(slash):
    signature = mark("c", '[{"type":"thinking","thinking":"??>"}]').encode()
    assert b"/" in signature
    body = b'{"contents":[{"parts":[{"thoughtSignature":"%b"},{"text":"a/b"}]}]}'
    sent = read_native(asked_of(body % signature.replace(b"/", slash)))
    assert sent == body % b"skip_thought_signature_validator"


def test_the_model_that_a_body_names_is_that_of_the_url():
    body = b'{"requests":[%b,{"model" : "models/other","content":"models/my"}]}'
    mine = (
        rb'{"model":"models\/my"},{"model": "my","content":{"parts":[{"text":"\"model\":\"my\""}]}}'
    )
    sent = with_model_of_url(body % mine, "my", "models/true")
    mine = mine.replace(rb'"models\/my"', b'"models/true"').replace(b'"my"', b'"models/true"')
    assert sent == body % mine


# --- recordings to every provider -------------------------------------------------------------


@pytest.mark.parametrize("name", GENERATING)
def test_every_recorded_request_is_told_to_openai_with_nothing_named(name):
    request = RECORDINGS[name]
    chat = EVENTS.read(asked_of(request["body"], request["path"]))
    body = to_openai(chat)
    assert body[" dropped"] == (["top_k"] if name == "other-clients-0" else [])
    assert chat.dropped == []
    declared = [
        function["name"]
        for tool in request["body"].get("tools", [])
        for function in tool.get("functionDeclarations", [])
    ]
    assert [tool["function"]["name"] for tool in body.get("tools", [])] == declared
    assert '"OBJECT"' not in json.dumps(body)
    calls = [call["id"] for m in body["messages"] for call in m.get("tool_calls", [])]
    answered = [m["tool_call_id"] for m in body["messages"] if m["role"] == "tool"]
    assert calls == answered


@pytest.mark.parametrize("name", GENERATING)
def test_every_recorded_request_is_told_to_claude(name):
    request = RECORDINGS[name]
    chat = EVENTS.read(asked_of(request["body"], request["path"]))
    body = to_claude(chat)
    assert body["messages"][0]["role"] == "user"
    assert len(body.get("tools", [])) == len(chat.tools or [])
    assert '"OBJECT"' not in json.dumps(body)


@pytest.mark.parametrize("provider", ["openai-chat-web", "bing", "coze"])
@pytest.mark.parametrize("name", GENERATING)
def test_every_recorded_request_is_read_by_a_web_chat_or_refused_for_what_it_lacks(name, provider):
    request = RECORDINGS[name]
    chat = EVENTS.read(asked_of(request["body"], request["path"]))
    chosen = DIRECTORY.pinned.get(provider) or DIRECTORY.choose("coze", "coze-api").provider
    lacking = {member for member in chat.insists if member in chosen.lacks}
    try:
        chosen.read(chat, asked_of({}))
    except GatewayError as error:
        assert error.status == 400
        assert lacking or error.param in chat.insists


# --- spellings --------------------------------------------------------------------------------


def snake(value, names):
    """The value with these member names in snake_case."""
    if isinstance(value, list):
        return [snake(each, names) for each in value]
    if isinstance(value, dict):
        out = {}
        for name, each in value.items():
            spelled = "".join(f"_{c.lower()}" if c.isupper() else c for c in name)
            out[spelled if name in names else name] = snake(each, names)
        return out
    return value


FULL = {
    "contents": [
        user({"text": "go"}),
        model({"functionCall": {"name": "add", "args": {"inlineData": 1, "someName": 2}}}),
        user(
            {"functionResponse": {"name": "add", "response": {"functionCall": "kept"}}},
            {"inlineData": {"mimeType": "image/png", "data": PNG}},
        ),
    ],
    "systemInstruction": {"parts": [{"text": "Be short."}]},
    "tools": [{"functionDeclarations": [ADD]}],
    "toolConfig": {"functionCallingConfig": {"mode": "any", "allowedFunctionNames": ["add"]}},
    "generationConfig": {
        "maxOutputTokens": 50,
        "topP": 0.5,
        "topK": 20,
        "stopSequences": ["END"],
        "responseMimeType": "application/json",
        "responseSchema": {"type": "OBJECT", "properties": {"maxOutputTokens": {"type": "STRING"}}},
        "thinkingConfig": {"includeThoughts": True, "thinkingBudget": 512},
    },
}
CAMEL = sorted(
    {
        *("systemInstruction", "toolConfig", "generationConfig", "functionDeclarations"),
        *("functionCallingConfig", "allowedFunctionNames", "maxOutputTokens", "topP", "topK"),
        *("stopSequences", "responseMimeType", "responseSchema", "thinkingConfig"),
        *("includeThoughts", "thinkingBudget", "mimeType"),
    }
)


@pytest.mark.parametrize("names", [CAMEL, CAMEL[::2], CAMEL[1::2]])
def test_both_spellings_give_the_same_upstream_bytes(names):
    plain = chat_of(FULL)
    twin = snake(FULL, names)
    # What is the caller's own is spelled as it is: members of schemas are no members of ours.
    twin_config = twin.get("generationConfig") or twin["generation_config"]
    for name in ("responseSchema", "response_schema"):
        if name in twin_config:
            twin_config[name] = FULL["generationConfig"]["responseSchema"]
    assert twin != FULL
    for provider in (to_openai, to_claude):
        assert provider(chat_of(twin)) == provider(plain)


def test_parts_in_snake_case_are_read_and_arguments_are_left_alone():
    parts = snake(FULL["contents"], ["functionCall", "functionResponse", "inlineData", "mimeType"])
    parts[1]["parts"][0]["function_call"]["args"] = {"inlineData": 1, "some_name": 2}
    parts[2]["parts"][0]["function_response"]["response"] = {"function_call": "kept"}
    chat = chat_of({"contents": parts, "tools": FULL["tools"]})
    assert chat.messages[1].tool_calls[0].function.arguments == '{"inlineData":1,"some_name":2}'
    assert chat.messages[2].content == '{"function_call":"kept"}'
    assert chat.messages[3].content[0].type == "image_url"


def test_whole_numbers_may_be_floats_and_words_of_any_case():
    chat = config_of(topK=20.0, maxOutputTokens=5.0, seed=7.0, candidateCount=1.0)
    assert (chat.top_k, chat.max_completion_tokens, chat.seed, chat.n) == (20, 5, 7, None)
    assert "topK" in refusal({"generationConfig": {"topK": 1.5}}).message
    assert config_of(thinkingConfig={"thinkingLevel": "low"}).reasoning_effort == "low"


def test_null_is_absent_and_unknown_members_are_named():
    chat = chat_of(
        {"toolConfig": None, "labels": {"a": "b"}, "store": False, "safetySettings": [], "new": 1},
        generationConfig={"seed": None, "mediaResolution": "LOW", "audioTimestamp": True},
        serviceTier="flex",
    )
    named = ["serviceTier", "new", "generationConfig.mediaResolution"]
    assert chat.dropped == [*named, "generationConfig.audioTimestamp"]


@pytest.mark.parametrize(
    "contents", ["hi", ["hi"], {"parts": {"text": "hi"}}, [{"parts": [{"text": "hi"}]}]]
)
def test_contents_are_taken_in_each_form(contents):
    chat = chat_of({"contents": contents})
    assert [(m.role, m.content) for m in chat.messages] == [("user", "hi")]


@pytest.mark.parametrize(
    "system",
    [
        "be",
        {"text": "be"},
        {"parts": [{"text": "be"}]},
        [{"text": "be"}],
        {"parts": {"text": "be"}},
    ],
)
def test_system_instructions_are_taken_in_each_form(system):
    assert chat_of({"systemInstruction": system}).messages[0].content == "be"


def test_no_contents_is_refused_in_googles_words():
    assert refusal({"contents": []}).message == "contents is not specified"


# --- tools and schemas ------------------------------------------------------------------------

LOWER = {
    "type": "object",
    "properties": {"a": {"type": "number"}, "b": {"type": ["number", "null"]}},
    "required": ["a"],
}


@pytest.mark.parametrize("member", ["parameters", "parametersJsonSchema"])
def test_googles_schemas_become_json_schemas(member):
    declared = {"name": "add", member: ADD["parameters"]}
    chat = chat_of({"tools": [{"functionDeclarations": [declared]}]})
    (tool,) = to_openai(chat)["tools"]
    assert tool["function"]["parameters"] == LOWER
    assert list(tool["function"]["parameters"]["properties"]) == ["a", "b"]
    assert to_claude(chat)["tools"][0]["input_schema"] == LOWER


def test_names_that_only_google_takes_are_told_in_others():
    chat = chat_of({"tools": [{"functionDeclarations": [{"name": "files.read:all"}]}]})
    (claude,), (openai,) = to_claude(chat)["tools"], to_openai(chat)["tools"]
    assert claude["name"] == openai["function"]["name"] == "files_read_all_b461f433"


@pytest.mark.parametrize("member", ["parameters", "parametersJsonSchema"])
def test_a_function_that_takes_nothing_is_one_that_openai_takes(member):
    declared = [{"name": "f", member: {"type": "OBJECT"}}, {"name": "g", member: {}}]
    tools = to_openai(chat_of({"tools": [{"functionDeclarations": declared}]}))["tools"]
    assert tools[0]["function"]["parameters"] == {"type": "object", "properties": {}}
    assert "parameters" not in tools[1]["function"]


def test_every_spelling_inside_a_schema():
    given = {
        "type": "OBJECT",
        "properties": {
            "type": {"type": "STRING", "format": "enum", "enum": ["A", "B"], "nullable": True},
            "nullable": {"type": "ARRAY", "min_items": "1", "items": {"type": "INTEGER"}},
            "ref": {"ref": "#/defs/x", "nullable": True},
            "any": {"any_of": [{"type": "STRING"}], "nullable": True},
        },
        "title": "T",
        "example": {"type": "OBJECT"},
    }
    chat = config_of(responseMimeType="application/json", responseSchema=given)
    schema = json.loads(bytes(chat.response_format["json_schema"]))["schema"]
    assert schema["properties"] == {
        "type": {"type": ["string", "null"], "enum": ["A", "B", None]},
        "nullable": {"type": "array", "minItems": 1, "items": {"type": "integer"}},
        "ref": {"anyOf": [{"$ref": "#/$defs/x"}, {"type": "null"}]},
        "any": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    }
    assert (schema["title"], schema["example"]) == ("T", {"type": "OBJECT"})


def test_a_json_schema_passes_as_it_is():
    schema = b'{"type":"object","properties":{"n":{"type":"number","maximum":1e400}}}'
    declared = b'{"name":"f","parametersJsonSchema":%b}' % schema
    body = b'{"contents":"x","tools":[{"functionDeclarations":[%b]}]}' % declared
    chat = EVENTS.read(asked_of(body))
    assert msgspec.json.encode(chat.tools[0].function.parameters) == schema


@pytest.mark.parametrize(
    ("odd", "kept"),
    [
        ({"propertyOrdering": [{}, ["a"], None, 1, "a"]}, {}),
        ({"propertyOrdering": {"a": 1}}, {}),
        ({"minItems": "9" * 5000}, {"minItems": "9" * 5000}),  # no whole number that Python reads
        ({"maxItems": "-1", "nullable": 1}, {"maxItems": "-1"}),
    ],
)
def test_odd_values_of_googles_keywords_are_no_error_of_the_gateway(odd, kept):
    schema = {"type": "OBJECT", "properties": {"b": {}, "a": {}}} | odd
    chat = config_of(responseMimeType="application/json", responseSchema=schema)
    told = json.loads(bytes(chat.response_format["json_schema"]))["schema"]
    assert told == {"type": "object", "properties": {"b": {}, "a": {}}} | kept


@pytest.mark.parametrize(
    "body",
    [
        b'{"contents":"x","tools":[{"functionDeclarations":[%b]}]}'
        % b'{"name":"f","parameters":{"a":"\xff"}}',
        b'{"contents":[{"parts":[{"functionCall":{"name":"f","args":{"a":"\xff"}}}]}]}',
    ],
)
def test_broken_utf8_where_nobody_looks_is_refused(body):
    with pytest.raises(GatewayError) as caught:
        EVENTS.read(asked_of(body))
    assert caught.value.status == 400


def test_a_schema_without_an_end_is_refused():
    deep: dict = {"type": "STRING"}
    for _ in range(120):
        deep = {"type": "ARRAY", "items": deep}
    error = refusal(
        {"generationConfig": {"responseSchema": deep, "responseMimeType": "application/json"}}
    )
    assert "nested too deeply" in error.message


@pytest.mark.parametrize(
    ("config", "choice"),
    [
        ({"mode": "AUTO"}, "auto"),
        ({"mode": "ANY"}, "required"),
        ({"mode": "none"}, "none"),
        (
            {"mode": "ANY", "allowedFunctionNames": ["f"]},
            {"type": "function", "function": {"name": "f"}},
        ),
    ],
)
def test_calling_modes(config, choice):
    tools = [{"functionDeclarations": [{"name": "f"}, {"name": "g"}]}]
    chat = chat_of({"tools": tools, "toolConfig": {"functionCallingConfig": config}})
    assert chat.tool_choice == choice


def test_several_allowed_functions_and_one_that_is_not_there():
    tools = [{"functionDeclarations": [{"name": "f"}, {"name": "g"}, {"name": "h"}]}]
    config = {"mode": "ANY", "allowedFunctionNames": ["f", "g"]}
    chat = chat_of({"tools": tools, "toolConfig": {"functionCallingConfig": config}})
    assert [tool["name"] for tool in to_claude(chat)["tools"]] == ["f", "g"]
    config["allowedFunctionNames"] = ["x"]
    refusal({"tools": tools, "toolConfig": {"functionCallingConfig": config}})


def test_validated_makes_legal_schemas_strict():
    strict = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    declared = [{"name": "f", "parametersJsonSchema": strict}, {"name": "g", "parameters": LOWER}]
    config = {"functionCallingConfig": {"mode": "VALIDATED"}}
    chat = chat_of({"tools": [{"functionDeclarations": declared}], "toolConfig": config})
    assert [tool.function.strict for tool in chat.tools] == [True, None]


def test_googles_own_tools_are_named_beside_functions_and_refused_alone():
    tools = [{"codeExecution": {}, "functionDeclarations": [{"name": "f"}]}, {"googleSearch": {}}]
    chat = chat_of({"tools": tools})
    assert chat.dropped == ["tools.codeExecution"]
    assert [(tool.kind, tool.path) for tool in chat.server_tools] == [
        ("web_search", "tools[1].googleSearch")
    ]
    assert "codeExecution" in refusal({"tools": [{"codeExecution": {}}]}).message


# --- generationConfig -------------------------------------------------------------------------


def test_what_gemini_cli_always_sends_says_nothing():
    chat = config_of(temperature=1, topP=0.95, topK=64)
    assert (chat.temperature, chat.top_p, chat.top_k) == (None, None, None)
    for body in (to_openai(chat), to_claude(chat, "claude-opus-4-8")):
        assert body[" dropped"] == []
        assert not {"temperature", "top_p", "top_k"} & set(body)


def test_other_sampling_is_told_and_named_where_it_is_dropped():
    body = to_openai(config_of(temperature=0.2, topP=0.99, topK=5))
    assert (body["temperature"], body["top_p"], body[" dropped"]) == (0.2, 0.99, ["top_k"])
    assert EVENTS.word("top_k") == "generationConfig.topK"


@pytest.mark.parametrize(
    ("thinking", "effort", "thoughts"),
    [
        ({}, None, "omitted"),
        ({"includeThoughts": True}, None, "shown"),
        ({"thinkingBudget": 0}, "none", "off"),
        ({"thinkingBudget": -1, "includeThoughts": True}, None, "shown"),
        ({"thinkingBudget": 512}, "low", "omitted"),
        ({"thinkingBudget": 4096}, "medium", "omitted"),
        ({"thinkingBudget": 24576}, "high", "omitted"),
        ({"thinkingLevel": "MINIMAL"}, "minimal", "omitted"),
        ({"thinkingLevel": "HIGH", "includeThoughts": True}, "high", "shown"),
    ],
)
def test_thinking(thinking, effort, thoughts):
    chat = config_of(thinkingConfig=thinking)
    assert (chat.reasoning_effort, chat.thoughts) == (effort, thoughts)


def test_claude_is_told_whether_thoughts_are_shown():
    shown = config_of(thinkingConfig={"thinkingLevel": "HIGH", "includeThoughts": True})
    hidden = config_of(thinkingConfig={"thinkingLevel": "HIGH"})
    thinking = [to_claude(chat, "claude-opus-4-8")["thinking"] for chat in (shown, hidden)]
    assert [each["display"] for each in thinking] == ["summarized", "omitted"]


def test_free_json_is_named_to_openai_where_nobody_says_the_word():
    free = {"generationConfig": {"responseMimeType": "application/json"}}
    line = "Answer with a JSON object, and nothing else."
    hi = {"role": "user", "content": "hi"}
    assert to_openai(chat_of(free))["messages"] == [{"role": "system", "content": line}, hi]
    short = to_openai(chat_of(free, systemInstruction="Be short."))["messages"]
    assert short == [{"role": "system", "content": f"Be short.\n\n{line}"}, hi]
    for said in ({"contents": "As json."}, {"systemInstruction": "Speak JSON."}):
        assert line not in json.dumps(to_openai(chat_of(free, **said)))


def test_one_word_out_of_several():
    chat = config_of(
        responseMimeType="text/x.enum", responseSchema={"type": "STRING", "enum": ["a"]}
    )
    schema = to_openai(chat)["response_format"]["json_schema"]["schema"]
    assert schema["properties"] == {"value": {"type": "string", "enum": ["a"]}}


@pytest.mark.parametrize("member", ["responseSchema", "responseJsonSchema"])
@pytest.mark.parametrize(
    ("given", "inner"),
    [
        ({"type": "ARRAY", "items": {"type": "STRING"}}, {"items": {"type": "string"}}),
        ({"type": "STRING", "enum": ["a", "b"]}, {"enum": ["a", "b"]}),
        ({"anyOf": [{"type": "OBJECT"}, {"type": "NULL"}]}, {}),
        ({"type": "OBJECT", "nullable": True, "properties": {}}, {}),
    ],
)
def test_an_answer_that_is_no_object_is_asked_for_in_one(member, given, inner):
    chat = config_of(**{"responseMimeType": "application/json", member: given})
    for schema in (
        to_openai(chat)["response_format"]["json_schema"]["schema"],
        to_claude(chat)["output_config"]["format"]["schema"],
    ):
        assert (schema["type"], schema["required"]) == ("object", ["value"])
        assert inner.items() <= schema["properties"]["value"].items()


def test_definitions_stay_at_the_root_of_a_schema():
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}
    schema = {"type": "array", "items": {"$ref": "#/$defs/node"}, "$defs": {"node": node}}
    chat = config_of(responseMimeType="application/json", responseJsonSchema=schema)
    told = to_openai(chat)["response_format"]["json_schema"]["schema"]
    assert told["$defs"] == {"node": node}
    assert told["properties"] == {"value": {"type": "array", "items": {"$ref": "#/$defs/node"}}}


@pytest.mark.parametrize(
    "config",
    [
        {"responseModalities": ["TEXT", "IMAGE"]},
        {"speechConfig": {}},
        {"imageConfig": {"aspectRatio": "1:1"}},
        {"thinkingConfig": {"thinkingLevel": "VERY"}},
    ],
)
def test_what_changes_the_answer_is_refused(config):
    assert refusal({"generationConfig": config}).param.startswith("generationConfig.")


def test_cached_content_is_refused_and_more_candidates_than_one_by_claude():
    assert refusal({"cachedContent": "cachedContents/x"}).param == "cachedContent"
    with pytest.raises(GatewayError) as caught:
        to_claude(config_of(candidateCount=2))
    assert caught.value.status == 400


def test_the_newer_way_to_ask_for_json():
    format = {"text": {"mimeType": "application/json", "schema": LOWER}}
    body = to_openai(config_of(responseFormat=[format]))
    assert body["response_format"]["json_schema"]["schema"] == LOWER


@pytest.mark.parametrize("body", [b"", b"[]", b'{"contents": 5}', b'{"contents": [', b'"x"'])
def test_what_is_no_body_is_a_400(body):
    with pytest.raises(GatewayError) as caught:
        EVENTS.read(asked_of(body))
    assert caught.value.status == 400


# --- anything ---------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from([*CAMEL, "parts", "text", "role"]), inner, max_size=3)
    ),
    max_leaves=5,
)


def changed(draw, value):
    """The value with one member, somewhere in it, replaced by anything."""
    if not isinstance(value, dict | list) or not value or draw(st.integers(0, 3)) == 0:
        return draw(JSON)
    if isinstance(value, list):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], changed(draw, value[at]), *value[at + 1 :]]
    name = draw(st.sampled_from(sorted(value)))
    return {**value, name: changed(draw, value[name])}


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_body_of_anything_is_read_or_refused(data):
    bodies = [FULL, *(RECORDINGS[name]["body"] for name in GENERATING)]
    body = changed(data.draw, data.draw(st.sampled_from(bodies)))
    for read in (EVENTS.read, read_counted):
        try:
            read(asked_of(body))
        except GatewayError as error:
            assert error.status in (400, 413)
