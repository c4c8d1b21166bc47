"""The neutral request as a Responses body: every recorded request, and rules of their own."""

import json
from typing import Any

import pydantic
import pytest
from msgspec import Raw
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from openai.types.responses.response_input_param import ResponseInputParam

from app.config.schema import Config
from app.wire.asked import Asked
from app.wire.chat import ChatRequest, Message
from app.wire.errors import GatewayError
from app.wire.provider import Call, Key
from app.wire.signature_mark import mark
from providers.openai.api import PROVIDER
from tests.calls import chat_of, counted_ids
from tests.fronts import gemini_calls, messages_calls
from tests.recorded import recorded

assert PROVIDER.variant is not None
RESPONSES = PROVIDER.variant.provider
MEMBERS = (
    set(ResponseCreateParamsNonStreaming.__annotations__)
    | {"stream"}
    | {
        name
        for base in ResponseCreateParamsNonStreaming.__orig_bases__  # type: ignore[attr-defined]
        for name in getattr(base, "__annotations__", {})
    }
)
INPUT = pydantic.TypeAdapter(ResponseInputParam, config={"arbitrary_types_allowed": True})


def written(chat: ChatRequest, *, stream: bool = False) -> tuple[dict[str, Any], list[str]]:
    """The body, and the names of what was left out."""
    asked = Asked(body=b"{}")
    call = Call(
        config=Config(),
        asked=asked,
        chat=RESPONSES.read(chat, asked),
        key=Key("p", "1", "k"),
        model="gpt-9-pro",
        stream=stream,
        headers={},
        now=1,
        new_id=counted_ids(),
    )
    body: dict[str, Any] = json.loads(RESPONSES.request(call).body)
    return body, call.dropped


def body_of(messages: list[Any], **more: Any) -> dict[str, Any]:
    return written(chat_of({"model": "m", "messages": messages} | more))[0]


def input_of(*messages: Any) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = body_of(list(messages))["input"]
    return items


def recordings() -> dict[str, ChatRequest]:
    found = {}
    for family in ("openai", "openai-compatible"):
        told = json.loads((recorded(family) / "requests.json").read_bytes())
        for name, request in told.items():
            if "messages" in (request.get("body") or {}):
                found[f"{family} {name}"] = chat_of(request["body"])
    for family in ("claude-code", "messages-clients"):
        for file in sorted(recorded(family).glob("*.json")):
            told = json.loads(file.read_bytes())
            for number, request in enumerate(told if isinstance(told, list) else [told]):
                body = request.get("body")
                if isinstance(body, dict) and "messages" in body and "max_tokens" in body:
                    found[f"{family} {file.stem} {number}"] = messages_calls.chat_of(body)
    for name, request in gemini_calls.recordings().items():
        if "contents" in (request.get("body") or {}) and "enerateContent" in request["path"]:
            found[f"gemini {name}"] = gemini_calls.chat_of(request["body"])
    return found


RECORDINGS = recordings()


def test_there_are_recordings_of_every_front():
    counts = {
        family: sum(name.startswith(family) for name in RECORDINGS)
        for family in ("openai", "claude-code", "messages-clients", "gemini")
    }
    assert min(counts.values()) >= 5, counts


def test_free_json_is_named_where_nobody_says_the_word():
    asked = {"type": Raw(b'"json_object"')}
    for said, count in (("Colours?", 2), ("Colours, as JSON?", 1)):
        messages = [Message("user", said)]
        body, _ = written(
            ChatRequest(messages=messages, model="m", response_format=asked, extras_wire="gemini")
        )
        assert len(body["input"]) == count
        assert "json" in json.dumps(body["input"]).lower()


@pytest.mark.parametrize("name", sorted(RECORDINGS))
def test_a_recorded_request_becomes_one_that_openai_takes(name):
    chat = RECORDINGS[name]
    if (chat.n or 1) > 1 or any(mode != "text" for mode in chat.modalities or ()):
        with pytest.raises(GatewayError):
            written(chat)
        return
    if any(part.type == "input_audio" for m in chat.messages for part in m.parts()):
        with pytest.raises(GatewayError, match="input_audio"):
            written(chat)
        return
    body, _ = written(chat)
    assert set(body) <= MEMBERS, set(body) - MEMBERS
    INPUT.validate_python(body["input"])
    calls = [item["call_id"] for item in body["input"] if item["type"] == "function_call"]
    results = [i["call_id"] for i in body["input"] if i["type"] == "function_call_output"]
    assert set(results) <= set(calls)
    assert all(isinstance(tool["strict"], bool) and tool["name"] for tool in body.get("tools", ()))
    # A thought is never last, and never before what the user says.
    for item, after in zip(body["input"], [*body["input"][1:], {}], strict=True):
        if item["type"] == "reasoning":
            assert after.get("type") in ("reasoning", "function_call") or (
                after.get("role") == "assistant"
            )


def test_roles_stay_and_system_texts_keep_their_place():
    items = input_of(
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Ho"},
        {"role": "system", "content": "Now be brief."},
    )
    assert [item["role"] for item in items] == ["developer", "user", "assistant", "system"]
    assert items[2]["content"] == "Ho"


def test_a_refusal_stays_one():
    said = {"role": "assistant", "content": "Hm.", "refusal": "No."}
    assert input_of({"role": "user", "content": "Hi"}, said)[1]["content"] == [
        {"type": "output_text", "text": "Hm."},
        {"type": "refusal", "refusal": "No."},
    ]


def test_a_failed_tool_with_a_picture_has_failed():
    image = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "is_error": True}
    result["content"] = [{"type": "image", "source": image}, {"type": "text", "text": "No file."}]
    call = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}
    messages = [{"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    body, _ = written(messages_calls.chat_of({"model": "m", "messages": messages}))
    shown = {
        "type": "input_image",
        "image_url": "data:image/png;base64,iVBORw0KGgo=",
        "detail": "auto",
    }
    assert body["input"][-1]["output"] == [
        {"type": "input_text", "text": "Error: No file."},
        shown,
    ]


def test_parts_of_the_user():
    image = {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "high"}}
    named = {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0="}}
    plain = {"type": "file", "file": {"file_data": "JVBERi0xLjQK", "filename": "a.pdf"}}
    upload = {"type": "file", "file": {"file_id": "file-1"}}
    text = {"type": "text", "text": "Look."}
    [item] = input_of({"role": "user", "content": [text, image, named, plain, upload]})
    assert item["content"] == [
        {"type": "input_text", "text": "Look."},
        {"type": "input_image", "image_url": "https://x/y.png", "detail": "high"},
        {
            "type": "input_file",
            "filename": "file",
            "file_data": "data:application/pdf;base64,JVBERi0=",
        },
        {
            "type": "input_file",
            "filename": "a.pdf",
            "file_data": "data:application/pdf;base64,JVBERi0xLjQK",
        },
        {"type": "input_file", "file_id": "file-1"},
    ]


def test_a_file_that_is_no_base64_is_openais_to_refuse():
    odd = {"type": "file", "file": {"file_data": "\u00e9\u2713"}}
    [item] = input_of({"role": "user", "content": [odd]})
    assert item["content"][0]["file_data"].endswith(";base64,\u00e9\u2713")


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"n": 2}, "n"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        (
            {"response_format": {"type": "json_schema", "json_schema": "x"}},
            "response_format.json_schema",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}
                        ],
                    }
                ]
            },
            "messages[0].content[0].type",
        ),
        (
            {
                "tools": [
                    {"type": "function", "function": {"name": "f"}},
                    {"type": "custom", "custom": {"name": "c"}},
                ]
            },
            "tools[1].type",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "Hi"},
                    {
                        "role": "assistant",
                        "tool_calls": [
                            {"id": "c", "type": "custom", "custom": {"name": "c", "input": "x"}}
                        ],
                    },
                ]
            },
            "messages[1].tool_calls[0].type",
        ),
    ],
)
def test_what_would_be_another_answer_is_refused(more, param):
    with pytest.raises(GatewayError) as caught:
        written(chat_of({"model": "m", "messages": [{"role": "user", "content": "Hi"}]} | more))
    assert (caught.value.status, caught.value.param) == (400, param)


def call(id: str, name: str = "f", arguments: str = "{}") -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_long_ids_of_calls_are_shortened_alike_in_both_places():
    long = "call_" + "x" * 90
    _, asked, answered = input_of(
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "tool_calls": [call(long)]},
        {"role": "tool", "tool_call_id": long, "content": "1"},
    )
    assert asked["call_id"] == answered["call_id"] and len(asked["call_id"]) <= 64


def test_the_older_functions_become_tools():
    body = body_of(
        [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "function_call": {"name": "f", "arguments": '{"a":1}'}},
            {"role": "function", "name": "f", "content": "1"},
        ],
        functions=[{"name": "f", "parameters": {"type": "object"}}],
        function_call={"name": "f"},
    )
    _, asked, answered = body["input"]
    assert (asked["name"], asked["arguments"]) == ("f", '{"a":1}')
    assert answered == {
        "type": "function_call_output",
        "call_id": asked["call_id"],
        "output": "1",
    }
    assert body["tools"][0]["name"] == "f"
    assert body["tool_choice"] == {"type": "function", "name": "f"}
    assert body["parallel_tool_calls"] is False  # `function_call` has room for one


@pytest.mark.parametrize(("store", "named"), [(True, ["store"]), (False, []), (None, [])])
def test_an_answer_that_shall_be_stored_is_told_that_it_is_not(store, named):
    messages = [{"role": "user", "content": "Hi"}]
    body, dropped = written(chat_of({"model": "m", "messages": messages, "store": store}))
    assert (body["store"], dropped) == (False, named)


def test_thoughts_of_other_houses_are_left_out():
    blocks = [
        {"type": "thinking", "thinking": "hm", "signature": "of Claude's"},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "thinking", "thinking": "hm", "signature": mark("g", "sig")},
        {"type": "thinking", "thinking": "hm", "signature": mark("o", "no JSON")},
        {"type": "thinking", "thinking": "hm", "signature": mark("o", '{"id":"rs_1"}')},
    ]
    said = {"role": "assistant", "content": "Ho", "thinking_blocks": blocks}
    assert [item["type"] for item in input_of({"role": "user", "content": "Hi"}, said)] == [
        "message",
        "message",
    ]


def test_settings_in_the_words_of_responses():
    schema = {"type": "object", "properties": {}}
    body = body_of(
        [{"role": "user", "content": "Hi"}],
        max_tokens=5,
        logprobs=True,
        top_logprobs=2,
        temperature=1,
        top_p=0.5,
        reasoning_effort="high",
        verbosity="low",
        metadata={"a": "b"},
        service_tier="flex",
        prompt_cache_key="k",
        safety_identifier="s",
        parallel_tool_calls=False,
        tools=[{"type": "function", "function": {"name": "f", "strict": True}}],
        tool_choice={
            "type": "allowed_tools",
            "allowed_tools": {
                "mode": "required",
                "tools": [{"type": "function", "function": {"name": "f"}}],
            },
        },
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "n", "schema": schema, "strict": True},
        },
    )
    del body["input"]
    assert body == {
        "model": "gpt-9-pro",
        "store": False,
        "include": ["reasoning.encrypted_content", "message.output_text.logprobs"],
        "max_output_tokens": 16,
        "top_logprobs": 2,
        "top_p": 0.5,
        "reasoning": {"effort": "high", "summary": "auto"},
        "text": {
            "format": {"type": "json_schema", "name": "n", "schema": schema, "strict": True},
            "verbosity": "low",
        },
        "metadata": {"a": "b"},
        "service_tier": "flex",
        "prompt_cache_key": "k",
        "safety_identifier": "s",
        "parallel_tool_calls": False,
        "tools": [
            {
                "type": "function",
                "name": "f",
                "parameters": {"type": "object", "properties": {}},
                "strict": True,
            }
        ],
        "tool_choice": {
            "type": "allowed_tools",
            "mode": "required",
            "tools": [{"type": "function", "name": "f"}],
        },
    }


@pytest.mark.parametrize(
    ("thinking", "reasoning"),
    [
        ({"type": "disabled"}, {"effort": "none", "summary": "auto"}),
        ({"type": "enabled", "budget_tokens": 2000}, {"summary": "auto"}),
    ],
)
def test_thinking_in_anthropics_words(thinking, reasoning):
    chat = chat_of(
        {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "thinking": thinking}
    )
    body, dropped = written(chat)
    assert body["reasoning"] == reasoning
    assert ("thinking" in dropped) == ("budget_tokens" in thinking)
