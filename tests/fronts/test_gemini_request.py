"""generateContent bodies as the neutral request, and as every other provider is told of it."""

import json

import msgspec
import pytest

from app.config.schema import Config
from app.fronts.gemini.request import NoSuchMethod, method_of, read_counted
from app.fronts.gemini.signatures import sign
from app.wire.chat import ChatRequest
from app.wire.errors import GatewayError
from app.wire.events import Thought
from app.wire.provider import Call, Key, Provider
from tests.calls import DIRECTORY, counted_ids
from tests.fronts.gemini_calls import EVENTS, asked_of, chat_of, config_of, recordings

RECORDINGS = recordings()
GENERATING = [
    name
    for name, request in RECORDINGS.items()
    if "enerateContent" in request["path"] and request["method"] == "POST"
]
PNG = RECORDINGS["other-clients-0"]["body"]["contents"][0]["parts"][1]["inlineData"]["data"]
ADD = {
    "name": "add",
    "parameters": {
        "type": "OBJECT",
        "properties": {"b": {"type": "NUMBER", "nullable": True}, "a": {"type": "NUMBER"}},
        "property_ordering": ["a", "b"],
        "required": ["a"],
    },
}


def told(provider: Provider, chat: ChatRequest, model: str, stream: bool = False) -> dict:
    """The body that this provider sends upstream."""
    call = Call(
        config=Config(),
        asked=asked_of({}),
        chat=provider.read(chat, asked_of({})),
        key=Key(provider.pool, "k1", "s3cret"),
        model=model,
        stream=stream,
        headers={},
        now=1,
        new_id=counted_ids(),
        dropped=[],
    )
    body = json.loads(provider.request(call).body)
    body[" dropped"] = call.dropped
    return body


def to_openai(chat: ChatRequest) -> dict:
    return told(DIRECTORY.pinned["openai"], chat, "gpt-4o")


def to_claude(chat: ChatRequest, model: str = "claude-sonnet-4-5") -> dict:
    return told(DIRECTORY.pinned["claude"], chat, model)


def refusal(body: dict) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        chat_of(body)
    assert caught.value.status == 400
    return caught.value


def user(*parts: dict) -> dict:
    return {"role": "user", "parts": list(parts)}


def model(*parts: dict) -> dict:
    return {"role": "model", "parts": list(parts)}


def called(name: str, **more) -> dict:
    return {"functionCall": {"name": name, "args": {}} | more}


def result(name: str, text: str, **more) -> dict:
    return {"functionResponse": {"name": name, "response": {"output": text}} | more}


def talk(*contents: dict) -> ChatRequest:
    return chat_of({"contents": [user({"text": "go"}), *contents]})


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


# --- calls and results ------------------------------------------------------------------------


def pairs(chat: ChatRequest) -> list[tuple[str, str]]:
    """Each call's id and the text of its result, in the order of the results."""
    return [(m.tool_call_id, m.content) for m in chat.messages if m.role == "tool"]


def ids(chat: ChatRequest) -> list[str]:
    return [c.id for m in chat.messages for c in m.tool_calls or ()]


def test_calls_without_ids_are_answered_in_order():
    chat = talk(
        model(called("f"), called("f"), called("g")),
        user(result("g", "3"), result("f", "1"), result("f", "2")),
    )
    assert pairs(chat) == list(zip(ids(chat), ["1", "2", "3"], strict=True))
    assert len(set(ids(chat))) == 3
    assert all(len(each) == 29 and each.startswith("call_") for each in ids(chat))


def test_an_id_that_was_made_up_is_the_same_in_the_next_request():
    first = talk(model(called("f")), user(result("f", "1")))
    second = talk(model(called("f")), user(result("f", "1")), model({"text": "so"}), user())
    assert ids(first) == ids(second)


def test_ids_win_over_order_and_prefixes_are_taken_off():
    chat = talk(
        model(called("f", id="f_1_0"), called("f", id="f_1_1")),
        user(result("f", "second", id="f__f_1_1"), result("f", "first", id="f_1_0")),
    )
    assert pairs(chat) == [("f_1_0", "first"), ("f_1_1", "second")]


def test_results_without_a_name_go_by_place_and_one_too_many_is_refused():
    two = model(called("f"), called("g"))
    chat = talk(two, user(result("", "1"), result("", "2")))
    assert [text for _, text in pairs(chat)] == ["1", "2"]
    with pytest.raises(GatewayError) as caught:
        talk(two, user(result("f", "1"), result("g", "2"), result("g", "3")))
    assert caught.value.status == 400
    assert caught.value.param == "contents[2].parts[2].functionResponse"


def test_a_call_without_a_result_gets_an_empty_one():
    chat = talk(model(called("f"), called("g")), user(result("g", "2"), {"text": "and now?"}))
    assert [text for _, text in pairs(chat)] == ["", "2"]
    assert chat.messages[-1].content == "and now?"


def test_results_may_come_in_contents_of_their_own_and_ids_twice():
    chat = talk(
        model(called("f", id="a")),
        model(called("f", id="a")),
        {"role": "function", "parts": [result("f", "1", id="a")]},
        {"role": "tool", "parts": [result("f", "2", id="a")]},
    )
    assert [text for _, text in pairs(chat)] == ["1", "2"]
    assert len(set(ids(chat))) == 2


@pytest.mark.parametrize(
    ("response", "text", "is_error"),
    [
        ({"output": "x"}, "x", False),
        ({"result": "x"}, "x", False),
        ({"error": "x"}, "x", True),
        ({"result": 3}, '{"result":3}', False),
        ({"output": "x", "more": 1.50}, '{"output":"x","more":1.5}', False),
        ({}, "", False),
        (None, "", False),
    ],
)
def test_a_result_says_what_it_holds(response, text, is_error):
    told_ = {"functionResponse": {"name": "f", "response": response}}
    message = talk(model(called("f")), user(told_)).messages[2]
    assert (message.content, message.is_error) == (text, is_error)


def test_pictures_beside_results_follow_all_results():
    chat = talk(
        model(called("f"), called("g")),
        user(
            result("f", "1"),
            {"inlineData": {"mimeType": "image/png", "data": PNG}},
            result("g", "2"),
        ),
    )
    roles = [message["role"] for message in to_openai(chat)["messages"]]
    assert roles == ["user", "assistant", "tool", "tool", "user"]


def test_pictures_inside_a_result_belong_to_it():
    held = {"inlineData": {"mimeType": "image/png", "data": PNG}}
    chat = talk(model(called("f")), user(result("f", "1", parts=[held])))
    assert [part.type for part in chat.messages[2].content] == ["text", "image_url"]


def test_a_lone_result_can_be_counted():
    request = RECORDINGS["count-tokens"]
    chat = read_counted(asked_of(request["body"], request["path"]))
    assert [message.role for message in chat.messages] == ["tool", "tool", "user"]
    whole = {"generateContentRequest": {"model": "models/m", **FULL}}
    assert len(read_counted(asked_of(whole)).messages) == 5


# --- parts ------------------------------------------------------------------------------------


def test_files_of_each_kind():
    chat = talk(
        user(
            {"inlineData": {"mimeType": "image/png", "data": PNG.replace("+", "-")}},
            {"inlineData": {"mimeType": "audio/mp3", "data": "SUQz"}},
            {"inlineData": {"mimeType": "application/pdf", "data": "JVBERi0xLjQ"}},
            {"fileData": {"fileUri": "https://example.com/a.png"}},
            {"fileData": {"fileUri": "https://example.com/a", "mimeType": "application/pdf"}},
        )
    )
    parts = chat.messages[1].content
    assert [part.type for part in parts] == [
        "image_url",
        "input_audio",
        "file",
        "image_url",
        "file",
    ]
    assert parts[0].image_address() == f"data:image/png;base64,{PNG}"
    assert parts[1].input_audio.format == "mp3"
    assert parts[2].file.file_data == "data:application/pdf;base64,JVBERi0xLjQ="
    assert parts[4].file.url == "https://example.com/a"


@pytest.mark.parametrize(
    "part",
    [
        {"inlineData": {"mimeType": "video/mp4", "data": "AAAA"}},
        {"fileData": {"fileUri": "gs://bucket/a.png", "mimeType": "image/png"}},
        {"fileData": {"fileUri": "https://www.youtube.com/watch?v=1"}},
        {"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/a"}},
    ],
)
def test_what_only_gemini_reads_is_refused_with_its_path(part):
    error = refusal({"contents": [user(part)]})
    assert error.param.startswith("contents[0].parts[0].")


def test_code_that_ran_at_google_is_text_and_thoughts_are_nothing():
    chat = talk(
        model(
            {"text": "hm", "thought": True},
            {"executableCode": {"language": "PYTHON", "code": "1+1"}},
            {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "2"}},
            {"text": "Two."},
        )
    )
    assert chat.messages[1].content == "\n```python\n1+1\n```\n\n```\n2\n```\nTwo."


# --- signatures -------------------------------------------------------------------------------

THOUGHT = Thought("Let me see.", "EqMBCkYIBRgC+/==")


@pytest.mark.parametrize("other_alphabet", [False, True])
def test_claudes_thought_comes_back_before_the_call(other_alphabet):
    signature = sign([THOUGHT, Thought(redacted="c2VjcmV0")], "a")
    if other_alphabet:
        signature = signature.replace("+", "-").replace("/", "_")
    chat = talk(
        model({"text": "I look."}, called("f", id="a") | {"thoughtSignature": signature}),
        user(result("f", "1", id="a")),
    )
    blocks = to_claude(chat)["messages"][1]["content"]
    assert blocks[:2] == [
        {"type": "thinking", "thinking": THOUGHT.text, "signature": THOUGHT.signature},
        {"type": "redacted_thinking", "data": "c2VjcmV0"},
    ]
    assert [block["type"] for block in blocks[2:]] == ["text", "tool_use"]
    assert "anyproxy" not in json.dumps(to_openai(chat))


def test_a_thought_before_a_later_call_comes_back_there():
    first, second = sign([THOUGHT], "a"), sign([Thought("More.", "c2ln")], "b")
    chat = talk(
        model(
            called("f", id="a") | {"thoughtSignature": first},
            called("g", id="b") | {"thoughtSignature": second},
        ),
        user(result("f", "1", id="a"), result("g", "2", id="b")),
    )
    kinds = [block["type"] for block in to_claude(chat)["messages"][1]["content"]]
    assert kinds == ["thinking", "tool_use", "thinking", "tool_use"]


def test_a_thought_too_large_for_a_signature_is_remembered_by_the_call():
    large = Thought("x" * 70_000, "c2ln")
    assert sign([large], "call_large") is None
    chat = talk(model(called("f", id="call_large")), user(result("f", "1", id="call_large")))
    assert chat.messages[1].thinking_blocks[0]["thinking"] == large.text


@pytest.mark.parametrize("signature", ["skip_thought_signature_validator", "c2lnbmF0dXJl"])
def test_other_signatures_reach_neither_openai_nor_claude(signature):
    chat = talk(model(called("f") | {"thoughtSignature": signature}), user(result("f", "1")))
    assert signature not in json.dumps([to_openai(chat), to_claude(chat)])


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


def test_one_word_out_of_several():
    chat = config_of(
        responseMimeType="text/x.enum", responseSchema={"type": "STRING", "enum": ["a"]}
    )
    schema = to_openai(chat)["response_format"]["json_schema"]["schema"]
    assert schema["properties"] == {"value": {"type": "string", "enum": ["a"]}}


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
