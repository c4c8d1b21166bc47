"""The neutral chat request as an OpenAI body: what is sent, what is left out and named."""

import json
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from app.wire.chat import ChatRequest
from app.wire.provider import Call
from providers.openai.api import PROVIDER
from tests.calls import call_of
from tests.recorded import recorded

RECORDED = {
    name: asked["body"]
    for name, asked in json.loads((recorded("openai") / "requests.json").read_text("utf-8")).items()
    if asked["body"] is not None and "messages" in asked["body"]
}
HI = [{"role": "user", "content": "Hi"}]
# A value of each member of the neutral request beside `model` and `stream`.
MEMBERS: dict[str, Any] = {
    "messages": HI,
    "max_tokens": 5,
    "max_completion_tokens": 6,
    "temperature": 0.1,
    "top_p": 1,
    "n": 2,
    "stop": ["a", "b"],
    "seed": 12345678901234567,
    "presence_penalty": -0.5,
    "frequency_penalty": 2,
    "logit_bias": {"5": -100},
    "logprobs": False,
    "top_logprobs": 3,
    "tools": [{"type": "function", "function": {"name": "f", "strict": True}}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "parallel_tool_calls": False,
    "functions": [{"name": "f", "description": "d", "parameters": {"type": "object"}}],
    "function_call": {"name": "f"},
    "response_format": {"type": "json_object"},
    "reasoning_effort": "low",
    "modalities": ["text"],
    "user": "u",
    "safety_identifier": "s",
}
LEFT_OUT: dict[str, Any] = {
    "top_k": 5,
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "cache_control": {"type": "ephemeral"},
}


def translated(body: dict[str, Any], **more: Any) -> tuple[dict[str, Any], Call]:
    call = call_of(PROVIDER, body, native=False, **more)
    return json.loads(PROVIDER.request(call).body), call


def test_every_member_of_the_neutral_request_has_a_value_here():
    aside = {"model", "stream", "stream_options"}
    named = {name for name in ChatRequest.__struct_encode_fields__ if name[0] != " "}
    assert set(MEMBERS) | set(LEFT_OUT) | aside == named


@pytest.mark.parametrize("name", MEMBERS)
def test_each_member_that_openai_knows_is_sent_as_it_is(name):
    body = {"model": "m", "messages": HI, name: MEMBERS[name]}
    sent, call = translated(body)
    assert sent == body and call.dropped == []


@pytest.mark.parametrize("name", LEFT_OUT)
def test_each_member_of_other_families_is_left_out_and_named_once(name):
    call = call_of(PROVIDER, {"model": "m", "messages": HI, name: LEFT_OUT[name]}, native=False)
    for _ in range(2):  # another key is tried
        sent = json.loads(PROVIDER.request(call).body)
        assert sent == {"model": "m", "messages": HI}
        assert call.dropped == [name]


def test_members_that_nobody_set_are_not_sent():
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi", "name": None}]}
    body |= dict.fromkeys(name for name in (MEMBERS | LEFT_OUT) if name != "messages")
    assert translated(body)[0] == {"model": "m", "messages": HI}


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_request_is_the_same_after_the_neutral_one(name):
    body = dict(RECORDED[name])
    if body.get("stream"):  # usage is always asked for
        body["stream_options"] = {"include_usage": True}
    else:
        body.pop("stream", None)
    sent, call = translated(RECORDED[name])
    assert sent == body and call.dropped == []


CONVERSATION: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "developer", "content": [{"type": "text", "text": "Really."}], "name": "dev"},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "Look"},
            {"type": "image_url", "image_url": {"url": "https://x.test/a.png", "detail": "low"}},
            {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
            {"type": "file", "file": {"file_data": "data:x", "filename": "a.pdf"}},
            {"type": "file", "file": {"file_id": "file-1"}},
        ],
    },
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1.0}'}},
            {"id": "b", "type": "function", "function": {"name": "g", "arguments": ""}},
        ],
    },
    {"role": "tool", "tool_call_id": "a", "content": "1"},
    {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "2"}]},
    {"role": "assistant", "refusal": "No"},
    {"role": "assistant", "content": [{"type": "refusal", "refusal": "No"}]},
    {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
    {"role": "function", "name": "f", "content": "x\u00e9\U0001f600"},
]


@pytest.mark.parametrize("message", CONVERSATION)
def test_a_message_of_any_kind_is_sent_as_it_is(message):
    assert translated({"model": "m", "messages": [message]})[0]["messages"] == [message]


def test_a_conversation_keeps_its_order():
    assert translated({"model": "m", "messages": CONVERSATION})[0]["messages"] == CONVERSATION


def test_an_image_address_as_a_text_becomes_openais_object():
    part = {"type": "image_url", "image_url": "https://x.test/a.png"}
    sent, _ = translated({"model": "m", "messages": [{"role": "user", "content": [part]}]})
    assert sent["messages"][0]["content"] == [
        {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}
    ]


def test_thoughts_and_signatures_of_other_models_are_not_sent():
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": "x", "tool_calls": [call]}
    more = {
        "reasoning_content": "hm",
        "thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "s"}],
        "tool_calls": [call | {"extra_content": {"google": {"thought_signature": "s"}}}],
    }
    assert translated({"model": "m", "messages": [message | more]})[0]["messages"] == [message]


MARK = {"cache_control": {"type": "ephemeral"}}
TEXT = {"type": "text", "text": "Hi"}


@pytest.mark.parametrize(
    ("members", "marked"),
    [
        ({"messages": HI}, {"messages": [HI[0] | MARK]}),
        (
            {"messages": [{"role": "user", "content": [TEXT]}]},
            {"messages": [{"role": "user", "content": [TEXT | MARK]}]},
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "f"}}]},
            {"tools": [{"type": "function", "function": {"name": "f"}} | MARK]},
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "f"}}]},
            {"tools": [{"type": "function", "function": {"name": "f"} | MARK}]},
        ),
        ({"functions": [{"name": "f"}]}, {"functions": [{"name": "f"} | MARK]}),
        ({}, MARK),
    ],
)
def test_cache_marks_are_left_out_wherever_they_stand_and_named_once(members, marked):
    body = {"model": "m", "messages": HI}
    sent, call = translated(body | marked)
    assert sent == body | members
    assert call.dropped == ["cache_control"]


def test_unknown_members_travel_when_the_caller_spoke_openais_wire():
    more = {"service_tier": "flex", "prediction": {"type": "content"}, "novel": None}
    body = {"model": "m", "messages": HI, **more}
    sent, call = translated(body)
    assert sent == body and call.dropped == []


def test_unknown_members_of_another_wire_are_left_out_and_named():
    call = call_of(PROVIDER, {"model": "m", "messages": HI}, native=False)
    call.chat.extras = {
        "safetySettings": Raw(b"[{}]"),
        "container": Raw(b"null"),
        "two words\r\n": Raw(b"1"),
    }
    call.chat.extras_wire = "gemini"
    assert json.loads(PROVIDER.request(call).body) == {"model": "m", "messages": HI}
    assert call.dropped == ["safetySettings"]


def test_an_unknown_member_never_takes_the_place_of_a_known_one():
    call = call_of(PROVIDER, {"model": "m", "messages": HI}, native=False, stream=True)
    call.chat.extras = {"model": Raw(b'"x"'), "stream": Raw(b"false"), "messages": Raw(b"[]")}
    sent = json.loads(PROVIDER.request(call).body)
    assert (sent["model"], sent["stream"], sent["messages"]) == ("m", True, HI)


def test_members_of_the_gateway_are_not_sent():
    body = {"model": "m", "messages": HI, "provider": "openai-api", "claude": {"index": "k"}}
    assert translated(body)[0] == {"model": "m", "messages": HI}


def test_the_model_is_the_calls_and_not_the_callers_word():
    sent, _ = translated({"model": "openai/m", "messages": HI}, model="m")
    assert sent["model"] == "m"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("asked", [None, {"include_usage": False}, {"include_obfuscation": False}])
def test_usage_is_asked_for_in_each_stream_and_only_there(stream, asked):
    body = {"model": "m", "messages": HI, "stream": not stream, "stream_options": asked}
    sent, _ = translated(body, stream=stream)
    if stream:
        assert sent.pop("stream") is True
        assert sent.pop("stream_options") == (asked or {}) | {"include_usage": True}
    assert sent == {"model": "m", "messages": HI}


@pytest.mark.parametrize("number", ["0.10000000000000000555", "12345678901234567890123", "1E400"])
def test_numbers_of_schemas_and_unknown_members_keep_every_digit(number):
    schema = b'{"type": "object", "maximum": %b}' % number.encode()
    tool = b'{"type": "function", "function": {"name": "f", "parameters": %b}}' % schema
    body = (
        b'{"model": "m", "messages": [{"role": "user", "content": "Hi"}], "tools": [%b], '
        b'"functions": [{"name": "f", "parameters": %b}], "novel": %b, '
        b'"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": %b}}}'
        % (tool, schema, number.encode(), schema)
    )
    sent = PROVIDER.request(call_of(PROVIDER, body, native=False)).body
    assert isinstance(sent, bytes)
    exact = {"parse_int": str, "parse_float": str}
    assert json.loads(sent, **exact) == json.loads(body, **exact)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name", ["temperature", "top_p", "frequency_penalty", "seed", "max_tokens"]
)
def test_numbers_keep_their_value(name):
    for number in [0, 1, 2**53 - 1] + [0.1, 1e-7] * (name not in ("seed", "max_tokens")):
        sent, _ = translated({"model": "m", "messages": HI, name: number})
        assert sent[name] == number


def test_the_body_is_valid_utf8_json_of_any_text():
    text = '\u0000\u2028\U0001f600\\"\u00e9'
    sent, _ = translated({"model": "m", "messages": [{"role": "user", "content": text}]})
    assert sent["messages"][0]["content"] == text


def test_the_neutral_request_itself_is_left_as_it_was():
    body = {"model": "m", "messages": [CONVERSATION[2], *HI], "stream": True, **MEMBERS}
    call = call_of(PROVIDER, body | {"functions": [{"name": "f"} | MARK]}, native=False)
    before = msgspec.json.encode(call.chat)
    PROVIDER.request(call)
    assert msgspec.json.encode(call.chat) == before
