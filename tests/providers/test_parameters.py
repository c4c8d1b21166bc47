"""docs/parameters.md against OpenAI's own list of parameters, and its columns against the code."""

import json
from typing import Any

import pytest
from openai.types.chat import completion_create_params

from app.wire.asked import Asked
from app.wire.errors import GatewayError
from providers.claude import api as claude
from providers.gemini import api as gemini
from providers.openai import api as openai_api
from tests.calls import call_of
from tests.parameters_table import parameters_table
from tests.providers.gemini.calls import make_call

assert openai_api.PROVIDER.variant is not None
RESPONSES = openai_api.PROVIDER.variant.provider

# A value of each parameter that says something.
VALUES: dict[str, Any] = {
    "cache_control": {"type": "ephemeral"},
    "audio": {"voice": "x", "format": "wav"},
    "frequency_penalty": 1,
    "presence_penalty": 1,
    "logit_bias": {"5": 1},
    "logprobs": True,
    "metadata": {"a": "b"},
    "moderation": {},
    "modalities": ["text", "audio"],
    "n": 2,
    "parallel_tool_calls": False,
    "prediction": {"type": "content", "content": "x"},
    "prompt_cache_key": "k",
    "prompt_cache_options": {},
    "prompt_cache_retention": "24h",
    "safety_identifier": "s",
    "seed": 5,
    "service_tier": "flex",
    "store": True,
    "user": "u",
    "verbosity": "low",
    "web_search_options": {},
}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def chat(**members: Any) -> bytes:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **members}
    return json.dumps(body).encode()


def test_every_parameter_of_openais_client_has_a_row():
    shape = completion_create_params.CompletionCreateParamsStreaming
    members = set(shape.__annotations__)  # inherited ones included
    assert {"messages", "stream", "logit_bias"} < members
    assert members <= set(parameters_table("openai"))


@pytest.mark.parametrize("name", parameters_table("openai"))
def test_openai_gets_every_parameter_untouched(name):
    body = chat(**{name: {"any": 1.50}})
    assert openai_api.PROVIDER.native.read(Asked(body=body)) is body
    assert parameters_table("openai")[name].startswith("passed")


@pytest.mark.parametrize("name", VALUES)
def test_what_the_table_says_of_gemini_is_what_happens(name):
    said = parameters_table("gemini")[name].partition(":")[0]
    more = {"tools": [TOOL]} if name == "parallel_tool_calls" else {}
    call = make_call(chat(**{name: VALUES[name]}, **more), model="gemini-2.5-flash")
    if said == "400" or name == "modalities":
        with pytest.raises(GatewayError) as caught:
            gemini.PROVIDER.request(call)
        assert (caught.value.status, caught.value.param) == (400, name)
        return
    plain = make_call(chat(**more), model="gemini-2.5-flash")
    changed = gemini.PROVIDER.request(call).body != gemini.PROVIDER.request(plain).body
    assert (call.dropped == [name]) == (said == "dropped")
    assert changed == (said == "translated")


@pytest.mark.parametrize(
    ("name", "value"),
    [("store", False), ("metadata", {}), ("service_tier", "auto"), ("verbosity", "medium")],
)
def test_what_gemini_is_not_told_is_not_named_where_it_is_the_default(name, value):
    call = make_call(chat(**{name: value}), model="gemini-2.5-flash")
    gemini.PROVIDER.request(call)
    assert call.dropped == []


def test_gemini_drops_nothing_that_the_table_does_not_name():
    dropped = {name for name, cell in parameters_table("gemini").items() if cell.startswith("drop")}
    call = make_call(chat(**{name: VALUES[name] for name in dropped}, tools=[TOOL]), model="m")
    gemini.PROVIDER.request(call)
    assert set(call.dropped) == dropped


@pytest.mark.parametrize("role", ["system", "user", "assistant"])
@pytest.mark.parametrize("provider", [claude.PROVIDER, gemini.PROVIDER, RESPONSES])
def test_who_speaks_is_named_where_the_upstream_cannot_be_told(provider, role):
    messages = [{"role": "user", "content": "Hi"}, {"role": role, "content": "x", "name": "bo"}]
    call = call_of(provider, {"model": "m", "messages": [*messages, messages[0]]}, native=False)
    assert b'"bo"' not in provider.request(call).body
    assert call.dropped == ["messages.name"]


@pytest.mark.parametrize("provider", [claude.PROVIDER, gemini.PROVIDER, RESPONSES])
def test_a_spoken_answer_of_before_is_named_where_nobody_can_hear_it(provider):
    spoken = {"role": "assistant", "content": None, "audio": {"id": "audio_1"}}
    messages = [{"role": "user", "content": "Hi"}, spoken, {"role": "user", "content": "And?"}]
    call = call_of(provider, {"model": "m", "messages": messages}, native=False)
    assert b"audio_1" not in provider.request(call).body
    assert call.dropped == ["messages.audio"]


@pytest.mark.parametrize("provider", [claude.PROVIDER, gemini.PROVIDER, RESPONSES])
def test_the_name_beside_a_tools_result_says_nothing_new(provider):
    called = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "a", "content": "1", "name": "f"},
    ]
    call = call_of(provider, {"model": "m", "messages": messages, "tools": [TOOL]}, native=False)
    provider.request(call)
    assert call.dropped == []


MARKED = {"cache_control": {"type": "ephemeral"}}


@pytest.mark.parametrize(
    "members",
    [
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"} | MARKED]}]},
        {"messages": [{"role": "user", "content": "x"} | MARKED]},
        {"tools": [TOOL | MARKED]},
        {"tools": [TOOL | {"function": TOOL["function"] | MARKED}]},
        {"functions": [TOOL["function"] | MARKED]},
    ],
    ids=["part", "message", "tool", "function", "legacy function"],
)
def test_a_cache_mark_that_gemini_cannot_take_is_named_wherever_it_stands(members):
    call = make_call(chat(**members), model="gemini-2.5-flash")
    assert b"cache_control" not in gemini.PROVIDER.request(call).body
    assert call.dropped == ["cache_control"]
