"""What becomes of each member of a Messages body, for each kind of upstream."""

import json

import pytest

from app.engine.call import dropped_names
from app.wire.errors import GatewayError
from app.wire.model_in_body import with_model
from app.wire.signature_mark import mark
from app.wire.upstream import UpstreamReply
from providers.bing.web import PROVIDER as BING
from providers.claude.native_body import read_native
from providers.claude.web import PROVIDER as CLAUDE_WEB
from providers.coze.api import PROVIDER as COZE
from providers.gemini.api import PROVIDER as GEMINI
from providers.openai import learned
from providers.openai.api import PROVIDER as OPENAI
from providers.openai.web import PROVIDER as CHATGPT_WEB
from tests.fronts.messages_calls import HI, MESSAGES, asked_of, chat_of, sent
from tests.recorded import requests_of_clients

RESPONSES = OPENAI.variant.provider
TOOL = {"name": "Bash", "description": "x", "input_schema": {"type": "object"}}
REQUESTS = requests_of_clients()


@pytest.fixture(autouse=True)
def nothing_learned():
    learned.forget()


def to_openai(more, model="gpt-4.1"):
    return sent(OPENAI, {"model": "m", "max_tokens": 9000, "messages": HI, **more}, model)


def to_gemini(more, model="gemini-2.5-flash"):
    return sent(GEMINI, {"model": "m", "max_tokens": 9000, "messages": HI, **more}, model)


def refusal(more, provider=OPENAI, model="gpt-4.1"):
    with pytest.raises(GatewayError) as caught:
        sent(provider, {"model": "m", "max_tokens": 9, "messages": HI, **more}, model)
    assert caught.value.status == 400
    return caught.value


# --- top level ----------------------------------------------------------------------------------

FORMAT = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}
# member, what OpenAI is sent, what Gemini is sent in generationConfig, what is named as dropped
TOP = [
    ({"temperature": 0.5}, {"temperature": 0.5}, {"temperature": 0.5}, []),
    ({"temperature": 1}, {}, {"temperature": 1}, []),
    ({"top_p": 0.9}, {"top_p": 0.9}, {"topP": 0.9}, []),
    ({"stop_sequences": ["a", " "]}, {"stop": ["a"]}, {"stopSequences": ["a"]}, []),
    ({"stop_sequences": list("abcdef")}, {}, {}, []),
    ({"metadata": {"user_id": "x" * 180}}, {}, {}, []),
    ({"cache_control": {"type": "ephemeral"}}, {}, {}, []),
    ({"service_tier": "auto"}, {}, {}, []),
    ({"inference_geo": "global"}, {}, {}, []),
    ({"context_management": {"edits": []}}, {}, {}, ["context_management"]),
    ({"safeguards": {}}, {}, {}, ["safeguards"]),
    ({"brand_new": 1}, {}, {}, ["brand_new"]),
    ({"brand_new": None}, {}, {}, []),
    ({"output_config": {"task_budget": 5}}, {}, {}, ["output_config.task_budget"]),
    (
        {"output_config": {"format": {"type": "json_schema", "schema": FORMAT}}},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "output", "schema": FORMAT, "strict": True},
            }
        },
        {"responseMimeType": "application/json", "responseJsonSchema": FORMAT},
        [],
    ),
    ({"thinking": {"type": "disabled"}}, {"reasoning_effort": "none"}, {"budget": 0}, []),
    ({"thinking": {"type": "adaptive"}}, {}, {"budget": -1, "shown": True}, []),
    (
        {"thinking": {"type": "adaptive", "display": "omitted"}},
        {},
        {"budget": -1},
        [],
    ),
    (
        {"thinking": {"type": "enabled", "budget_tokens": 5000}},
        {"reasoning_effort": "medium"},
        {"budget": 5000, "shown": True},
        [],
    ),
    (
        {"output_config": {"effort": "low"}},
        {"reasoning_effort": "low"},
        {"budget": 1024},
        [],
    ),
]


@pytest.mark.parametrize(("more", "openai", "gemini", "named"), TOP)
def test_each_member_is_passed_translated_or_named(more, openai, gemini, named):
    body, dropped, _ = to_openai(more)
    assert body == {
        "model": "gpt-4.1",
        "messages": HI,
        "max_completion_tokens": 9000,
        **openai,
    }
    assert dropped == named
    config, dropped, _ = to_gemini(more)
    wanted = {"maxOutputTokens": 9000, **gemini}
    thinking = {}
    if "budget" in gemini:
        thinking["thinkingBudget"] = wanted.pop("budget")
    if wanted.pop("shown", False):
        thinking["includeThoughts"] = True
    if thinking:
        wanted["thinkingConfig"] = thinking
    assert config["generationConfig"] == wanted
    assert dropped == named


def test_top_k_is_named_where_it_is_dropped():
    assert to_openai({"top_k": 5})[1] == ["top_k"]
    assert to_gemini({"top_k": 5})[0]["generationConfig"]["topK"] == 5


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ({"container": "c1"}, "container"),
        ({"mcp_servers": [{"url": "x"}]}, "mcp_servers"),
        ({"thread": {}, "compaction": {"a": 1}}, "compaction"),
        ({"inference_geo": "us"}, "inference_geo"),
        ({"messages": []}, "messages"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"output_config": {"effort": "giant"}}, "output_config.effort"),
        ({"thinking": {"type": "odd"}}, "thinking.type"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "x"}}, "tool_choice.name"),
        ({"tools": [{"type": "computer_20250124", "name": "c"}]}, "tools[0]"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0]"),
        ({"tools": [{"type": "code_execution_20250825", "name": "c"}]}, "tools"),
        ({"tools": [TOOL | {"defer_loading": True}]}, "tools"),
        (
            {"messages": [{"role": "user", "content": [
                {"type": "image", "source": {"type": "file", "file_id": "f"}}]}]},
            "messages[0].content[0].source",
        ),
        (
            {"messages": [{"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t", "content": "x"}]}]},
            "messages[0].content[0].tool_use_id",
        ),
    ],
)  # fmt: skip
def test_what_changes_the_meaning_is_refused_by_name(more, path):
    error = refusal(more)
    assert error.param == path and path in error.message


@pytest.mark.parametrize("provider", [BING, COZE])
def test_tools_are_refused_where_there_are_none(provider):
    assert refusal({"tools": [TOOL]}, provider).param == "tools"
    form = {"output_config": {"format": {"type": "json_schema", "schema": FORMAT}}}
    assert refusal(form, provider).param == "output_config.format"


@pytest.mark.parametrize("provider", [CLAUDE_WEB, CHATGPT_WEB])
def test_websites_take_tools_that_may_not_be_called_and_stops_that_are_cut_here(provider):
    asked = asked_of(
        {
            "model": "m",
            "messages": HI,
            "tools": [TOOL],
            "tool_choice": {"type": "none"},
            "stop_sequences": ["x"],
            "top_k": 5,
        }
    )
    assert provider.read(chat_of(asked), asked).dropped == ["top_k"]
    assert refusal({"tools": [TOOL]}, provider).param == "tools"


# --- conversation -------------------------------------------------------------------------------


def calls(*names, thoughts=()):
    blocks = [{"type": "tool_use", "id": n, "name": "Bash", "input": {"a": n}} for n in names]
    return {"role": "assistant", "content": [*thoughts, *blocks]}


def result(id, content, **more):
    return {"type": "tool_result", "tool_use_id": id, "content": content, **more}


PIXEL = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aaaa"}}


def test_results_come_in_the_order_of_the_calls_then_pictures_then_text():
    turn = {
        "role": "user",
        "content": [result("b", [PIXEL]), result("a", "one"), {"type": "text", "text": "go"}],
    }
    messages = [*HI, calls("a", "b"), turn]
    body, _, _ = to_openai({"messages": messages, "tools": [TOOL]})
    told = body["messages"][2:]
    assert [m["role"] for m in told] == ["tool", "tool", "user", "user"]
    assert [m["content"] for m in told[:2]] == ["one", "[image: see below]"]
    assert told[2]["content"][0]["image_url"]["url"] == "data:image/png;base64,aaaa"
    assert told[3]["content"] == "go"
    parts = to_gemini({"messages": messages, "tools": [TOOL]})[0]["contents"][2]["parts"]
    assert [list(part) for part in parts] == [
        ["functionResponse"],
        ["functionResponse"],
        ["inlineData"],
        ["text"],
    ]
    assert [part["functionResponse"]["id"] for part in parts[:2]] == ["a", "b"]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("Exit code 3", "Error: Exit code 3"),
        ("an Error came", "an Error came"),
        ("", "Error: the tool failed."),
    ],
)
def test_a_failed_tool_is_told(said, told):
    turn = {"role": "user", "content": [result("a", said, is_error=True)]}
    messages = [*HI, calls("a"), turn]
    assert to_openai({"messages": messages})[0]["messages"][2]["content"] == told
    sent = to_gemini({"messages": messages})[0]["contents"][2]["parts"][0]["functionResponse"]
    assert sent["response"] == {"error": said or "the tool failed"}


def test_a_missing_result_has_a_placeholder():
    body, _, _ = to_openai({"messages": [*HI, calls("a"), {"role": "user", "content": "go"}]})
    assert [m.get("content") for m in body["messages"]] == ["hi", None, "no result", "go"]


def test_a_system_message_keeps_its_place():
    early = [*HI, {"role": "system", "content": "early"}]
    late = [*early, {"role": "assistant", "content": "ok"}, *HI, {"role": "system", "content": "L"}]
    body, _, _ = to_openai({"system": "top", "messages": late})
    assert [m["role"] for m in body["messages"]] == [
        "system", "user", "system", "assistant", "user", "system",
    ]  # fmt: skip
    body, _, _ = to_gemini({"system": "top", "messages": late})
    assert [p["text"] for p in body["systemInstruction"]["parts"]] == ["top", "early"]
    last = body["contents"][-1]["parts"][-1]["text"]
    assert last == "<system-reminder>\nL\n</system-reminder>"


def test_the_attribution_line_is_left_out():
    line = {"type": "text", "text": "x-anthropic-billing-header: cc_version=1;"}
    body, _, _ = to_openai({"system": [line, {"type": "text", "text": "top"}]})
    assert body["messages"][0] == {"role": "system", "content": "top"}


def test_the_last_effort_of_the_conversation_wins():
    late = [*HI, {"role": "system", "content": "x", "output_config": {"effort": "low"}}]
    assert chat_of({"model": "m", "messages": late}).reasoning_effort == "low"


def test_a_gemini_signature_goes_back_with_its_call():
    thought = {"type": "thinking", "thinking": "", "signature": mark("g", "c2ln")}
    messages = [*HI, calls("a", thoughts=[thought])]
    parts = to_gemini({"messages": messages})[0]["contents"][1]["parts"]
    assert parts[0]["thoughtSignature"] == "c2ln" and len(parts) == 1
    body, _, _ = to_openai({"messages": messages})
    assert "c2ln" not in json.dumps(body)


@pytest.mark.parametrize("signature", ["", mark("t")])
def test_unsigned_thoughts_go_back_within_the_round_to_who_wants_them(signature):
    thought = {"type": "thinking", "thinking": "hm", "signature": signature}
    round_ = [*HI, calls("a", thoughts=[thought]), {"role": "user", "content": [result("a", "1")]}]
    assert chat_of({"model": "m", "messages": round_}).messages[1].reasoning_content == "hm"
    over = chat_of({"model": "m", "messages": [*round_, *calls_over()]})
    assert over.messages[1].reasoning_content is None
    assert "hm" not in json.dumps(to_openai({"messages": round_})[0])


def calls_over():
    return [{"role": "assistant", "content": "done"}, {"role": "user", "content": "next"}]


def test_foreign_and_redacted_thoughts_are_never_told():
    thoughts = [
        {"type": "thinking", "thinking": "secret", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "secret"},
    ]
    messages = [*HI, calls("a", thoughts=thoughts)]
    for body in (to_openai({"messages": messages})[0], to_gemini({"messages": messages})[0]):
        assert "secret" not in json.dumps(body)


def test_documents_and_search_results_are_told():
    pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf",
           "data": "JVBERi0="}, "title": "a.pdf"}  # fmt: skip
    text = {"type": "document", "source": {"type": "text", "data": "body"}, "title": "T"}
    found = {"type": "search_result", "source": "http://x", "title": "S",
             "content": [{"type": "text", "text": "hit"}]}  # fmt: skip
    messages = [{"role": "user", "content": [pdf, text, found]}]
    parts = to_openai({"messages": messages})[0]["messages"][0]["content"]
    assert parts[0]["file"] == {
        "file_data": "data:application/pdf;base64,JVBERi0=",
        "filename": "a.pdf",
    }
    assert [part["text"] for part in parts[1:]] == ["T\nbody", "S (http://x)\nhit"]


@pytest.mark.parametrize(
    "source",
    [
        {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
        {"type": "url", "url": "https://x/a.pdf"},
    ],
)
def test_what_is_said_about_a_file_stands_behind_it(source):
    document = {"type": "document", "source": source, "context": "The bill of May."}
    body, _, _ = to_openai({"messages": [{"role": "user", "content": [document]}]})
    file, context = body["messages"][0]["content"]
    assert (file["type"], context["text"]) == ("file", "The bill of May.")


def test_what_anthropics_tools_found_is_not_run_into_the_answer():
    found = {"type": "web_search_result", "title": "T", "url": "https://x/y"}
    said = [
        {"type": "text", "text": "I look."},
        {"type": "web_search_tool_result", "tool_use_id": "s", "content": [found]},
        {"type": "text", "text": "It "},
        {"type": "text", "text": "rains."},
    ]
    messages = [*HI, {"role": "assistant", "content": said}, *HI]
    told = to_openai({"messages": messages})[0]["messages"][1]["content"]
    assert told == "I look.\nT - https://x/y\nIt rains."


# --- tools --------------------------------------------------------------------------------------


def test_a_deferred_tool_is_given_once_it_was_found():
    tools = [TOOL, TOOL | {"name": "Later", "defer_loading": True}]
    assert [t["function"]["name"] for t in to_openai({"tools": tools})[0]["tools"]] == ["Bash"]
    reference = [{"type": "tool_reference", "tool_name": "Later"}]
    messages = [*HI, calls("a"), {"role": "user", "content": [result("a", reference)]}]
    body, _, _ = to_openai({"tools": tools, "messages": messages})
    assert [tool["function"]["name"] for tool in body["tools"]] == ["Bash", "Later"]
    assert body["messages"][-1]["content"] == "Tool Later is now available."


def test_server_tools_are_told_where_they_can_be_and_else_named():
    search = {"type": "web_search_20250305", "name": "web_search"}
    body, dropped, _ = to_gemini({"tools": [search]})
    assert (body["tools"], dropped) == ([{"googleSearch": {}}], [])
    for body, dropped, _ in (
        to_openai({"tools": [search, TOOL]}),
        to_gemini({"tools": [search, TOOL]}),
    ):
        assert len(body["tools"]) == 1 and dropped == ["tools.web_search_20250305"]
    body, _, _ = to_gemini({"tools": [search, TOOL]}, "gemini-3-pro")
    assert len(body["tools"]) == 2


def test_a_server_tool_that_may_not_be_called_is_not_told():
    search = {"type": "web_search_20250305", "name": "web_search"}
    more = {"tools": [search], "tool_choice": {"type": "none"}}
    for body, dropped, _ in (to_gemini(more), to_openai(more)):
        assert "tools" not in body and dropped == []


def test_tools_that_the_caller_runs_by_heart_become_functions():
    tools = [
        {"type": "bash_20250124", "name": "bash"},
        {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
        {"type": "memory_20250818", "name": "memory"},
    ]
    functions = [tool["function"] for tool in to_openai({"tools": tools})[0]["tools"]]
    assert [f["name"] for f in functions] == [tool["name"] for tool in tools]
    assert "rename" in functions[2]["parameters"]["properties"]["command"]["enum"]


def test_long_names_are_shortened_everywhere_and_called_back():
    name = "mcp__" + "x" * 78
    body, _, call = to_openai(
        {
            "tools": [TOOL | {"name": name}],
            "tool_choice": {"type": "tool", "name": name},
            "messages": [*HI, {"role": "assistant", "content": [
                {"type": "tool_use", "id": "a", "name": name, "input": {}}]}],
        }
    )  # fmt: skip
    short = body["tools"][0]["function"]["name"]
    assert len(short) == 64 and body["tool_choice"]["function"]["name"] == short
    assert body["messages"][1]["tool_calls"][0]["function"]["name"] == short
    chunk = {"id": "c", "model": "m", "choices": [{"index": 0, "message": {"tool_calls": [
        {"id": "1", "function": {"name": short, "arguments": "{}"}}]},
        "finish_reason": "tool_calls"}]}  # fmt: skip
    decoder = OPENAI.decoder(call)
    events = [*decoder.feed(json.dumps(chunk).encode()), *decoder.finish()]
    assert [event.name for event in events if hasattr(event, "arguments")] == [name]


def test_schemas_hold_nothing_that_gemini_refuses():
    schema = {
        "$schema": "x",
        "type": "object",
        "properties": {"pattern": {"type": "string", "pattern": "a", "exclusiveMinimum": 1}},
        "propertyNames": {"type": "string"},
    }
    body, _, _ = to_gemini({"tools": [TOOL | {"input_schema": schema}]})
    sent = body["tools"][0]["functionDeclarations"][0]["parametersJsonSchema"]
    assert sent == {"type": "object", "properties": {"pattern": {"type": "string"}}}


# --- what upstreams refuse ----------------------------------------------------------------------


def reply(message, status=400, **more):
    return UpstreamReply(status, {}, json.dumps({"error": {"message": message, **more}}).encode())


def test_a_session_that_an_upstream_cannot_be_told_is_not_named():
    body = {"model": "m", "max_tokens": 9000, "messages": HI}
    headers = {"x-claude-code-session-id": "session-1"}
    told, _, call = sent(OPENAI, body, "gpt-4.1", headers=headers)
    assert told["prompt_cache_key"] == "session-1"
    assert dropped_names(call.chat, OPENAI, MESSAGES, ["prompt_cache_key", "seed"]) == ["seed"]


def test_a_refused_parameter_is_left_out_from_then_on():
    more = {"output_config": {"effort": "max"}, "temperature": 0.5, "max_tokens": 128000}
    body, _, call = to_openai(more)
    assert body["reasoning_effort"] == "max"
    for said in (
        reply("Unsupported value: 'reasoning_effort' does not support 'max'."),
        reply("Unsupported value: 'reasoning_effort' does not support 'xhigh'."),
        reply("Unsupported parameter: 'temperature' is not supported.", param="temperature"),
        reply("max_tokens is too large: 128000. This model supports at most 16384 tokens."),
    ):
        body = json.loads(OPENAI.retry(call, said).body)
    assert body["reasoning_effort"] == "high" and "temperature" not in body
    assert body["max_completion_tokens"] == 16384
    assert OPENAI.retry(call, reply("no such model")) is None
    body, dropped, _ = to_openai(more)
    assert body["max_completion_tokens"] == 16384 and dropped == ["temperature"]


@pytest.mark.parametrize("provider", [OPENAI, RESPONSES])
def test_a_short_answer_has_room_for_thinking_that_cannot_be_switched_off(provider):
    def limit(model, **more):
        asked = {"model": "m", "messages": HI, "thinking": {"type": "disabled"}} | more
        body, _, call = sent(provider, asked, model)
        return body.get("max_completion_tokens", body.get("max_output_tokens")), call

    assert limit("gpt-5-codex", max_tokens=64)[0] == limit("o3-pro", max_tokens=64)[0] == 2112
    assert limit("gpt-5-codex", max_tokens=4000)[0] == 4000
    same, call = limit("gpt-5.4-pro", max_tokens=64)
    assert same == 64
    refused = "Unsupported value: 'reasoning_effort' does not support 'none'."
    again = provider.retry(call, reply(refused, param="reasoning_effort"))
    assert b"2112" in again.body  # this model has said that it thinks
    assert limit("gpt-5.4-pro", max_tokens=64)[0] == 2112


# --- the byte path ------------------------------------------------------------------------------


def test_the_usual_body_goes_to_claude_untouched():
    for call in REQUESTS.values():
        raw = json.dumps(call["body"], indent=1).encode()
        if b"YW55cHJveHkx" not in raw and b'"signature": ""' not in raw:
            assert read_native(asked_of(raw)) is raw or read_native(asked_of(raw)) == raw


def test_thoughts_that_anthropic_has_not_signed_do_not_reach_it():
    signed = {"type": "thinking", "thinking": "x", "signature": "c2ln"}
    ours = {"type": "thinking", "thinking": "", "signature": mark("g", "c2ln")}
    empty = {"type": "thinking", "thinking": "y", "signature": ""}
    turns = [calls("a", thoughts=[signed, ours]), {"role": "assistant", "content": [ours, empty]}]
    body = {"model": "m", "messages": [*HI, *turns], "claude": {}, "provider": "claude", "n": 1.50}
    left = json.loads(read_native(asked_of(body)))
    assert left["messages"] == [*HI, calls("a", thoughts=[signed])]
    assert set(left) == {"model", "messages", "n"}


def test_an_alias_changes_the_models_value_and_nothing_else():
    body = b'{ "tools": [{"model": "smart"}], "model" : "smart", "x": 1.0 }'
    assert with_model(body, "smart", "claude-x") == body.replace(
        b': "smart", "x"', b': "claude-x", "x"'
    )


@pytest.mark.parametrize("broken", ["in a schema", "in a text"])
def test_broken_utf8_is_a_400_wherever_it_stands(broken):
    tool = {"name": "a", "description": "in a text", "input_schema": {"title": "in a schema"}}
    raw = json.dumps({"model": "gpt-5", "messages": HI, "tools": [tool]}).encode()
    chat_of(asked_of(raw))
    with pytest.raises(GatewayError) as caught:
        chat_of(asked_of(raw.replace(broken.encode(), b"\x9a")))
    assert caught.value.status == 400 and "utf-8" in caught.value.message
