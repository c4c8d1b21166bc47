"""What each dialect makes of a request: of the neutral one, and of a caller's own bytes."""

import json
from typing import Any

import pytest

from app.config.presets import BY_NAME, PRESETS
from app.config.schema import KeyEntry, Upstream
from app.wire.dialect import Dialect
from app.wire.provider import Provider
from providers.openai import compatible
from tests.calls import call_of
from tests.recorded import recorded

RECORDED = json.loads((recorded("openai-compatible") / "requests.json").read_text("utf-8"))
STRICT = [each for each in PRESETS if each.dialect.refuses]
HI = [{"role": "user", "content": "Hi"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
SCHEMA = {
    "type": "json_schema",
    "json_schema": {"name": "n", "schema": {"type": "object", "x": 1.50}},
}
CALLED = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
LOOP = [
    *HI,
    {"role": "assistant", "content": "a", "reasoning_content": "t", "tool_calls": [CALLED]},
    {"role": "tool", "tool_call_id": "call_1", "content": "1"},
]


def provider_of(dialect: Dialect, **more: Any) -> Provider:
    entry = Upstream(
        name="lab", api_url="https://lab.example/v1", api_keys=[KeyEntry(id="a", val="k")], **more
    )
    return compatible.provider(entry, dialect)


def sent(dialect: Dialect, body: dict[str, Any], *, native: bool = False, **more: Any):
    provider = provider_of(dialect, **more)
    call = call_of(provider, {"model": "m", "messages": HI, **body}, native=native)
    if native:
        assert provider.native is not None
        request = provider.native.request(call)
    else:
        request = provider.request(call)
    assert isinstance(request.body, bytes)
    return json.loads(request.body), call.dropped


def told(dialect: Dialect, body: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The members beside model and messages."""
    members, _ = sent(dialect, body, **more)
    return {name: value for name, value in members.items() if name not in ("model", "messages")}


def test_the_member_for_the_answers_length():
    both = {"max_tokens": 5}, {"max_completion_tokens": 5}
    for wanted, name in (("max_tokens", "max_tokens"), ("max_completion_tokens",) * 2):
        for body in both:
            assert told(Dialect(max_tokens=wanted), body) == {name: 5}
    assert told(
        Dialect(max_tokens="max_tokens"), {"max_tokens": 5, "max_completion_tokens": 6}
    ) == {"max_tokens": 5}


@pytest.mark.parametrize(("developer", "role"), [("keep", "developer"), ("system", "system")])
def test_the_role_developer(developer, role):
    said = [{"role": "developer", "content": "x"}]
    members, dropped = sent(Dialect(developer=developer), {"messages": said})
    assert members["messages"][0]["role"] == role and dropped == []


def test_usage_is_asked_for_or_comes_by_itself():
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    assert told(Dialect(), {"stream": True}) == asked == told(Dialect(), asked)
    assert told(Dialect(usage="told"), asked) == {"stream": True}
    for native in (True, False):
        assert told(Dialect(usage="told"), {"stream": True}, native=native) == {"stream": True}
    members, dropped = sent(Dialect(usage="told"), asked, native=True)
    assert "stream_options" not in members and dropped == ["stream_options"]


@pytest.mark.parametrize(
    ("back", "wanted"),
    [
        ("reasoning_content", {"content": "a", "reasoning_content": "t"}),
        ("reasoning", {"content": "a", "reasoning": "t"}),
        ("reasoning_details", {"content": "a", "reasoning": "t"}),
        (
            "part",
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "t"}]},
                    {"type": "text", "text": "a"},
                ]
            },
        ),
        ("none", {"content": "a"}),
    ],
)
def test_earlier_thinking_goes_back_verbatim_under_the_dialects_name(back, wanted):
    members, dropped = sent(Dialect(thinking_back=back), {"messages": LOOP})
    said = members["messages"][1]
    assert said == {"role": "assistant", **wanted, "tool_calls": [CALLED]} and dropped == []


def test_openrouter_gets_signed_thoughts_as_its_own_details():
    blocks = [
        {"type": "thinking", "thinking": "t", "signature": "s"},
        {"type": "redacted_thinking", "data": "d"},
    ]
    said = [*HI, {"role": "assistant", "content": "a", "thinking_blocks": blocks}]
    openrouter = BY_NAME["openrouter"].dialect
    entry = {"format": "anthropic-claude-v1"}
    assert sent(openrouter, {"messages": said})[0]["messages"][1] == {
        "role": "assistant",
        "content": "a",
        "reasoning": "t",
        "reasoning_details": [
            {"type": "reasoning.text", "text": "t", "signature": "s", "index": 0, **entry},
            {"type": "reasoning.encrypted", "data": "d", "index": 1, **entry},
        ],
    }
    assert sent(Dialect(), {"messages": said})[0]["messages"][1]["content"] == "a"


@pytest.mark.parametrize("native", [True, False])
def test_nine_character_ids_in_calls_and_results(native):
    members, _ = sent(Dialect(tool_ids="nine"), {"messages": LOOP}, native=native)
    _, assistant, result = members["messages"]
    assert len(result["tool_call_id"]) == 9
    assert assistant["tool_calls"][0]["id"] == result["tool_call_id"]


def test_a_forced_tool():
    body = {"tools": [TOOL], "tool_choice": "required"}
    assert told(Dialect(), body) == body
    assert told(Dialect(force_tool="any"), body)["tool_choice"] == "any"
    members, dropped = sent(Dialect(force_tool="no"), body)
    assert "tool_choice" not in members and dropped == ["tool_choice"]
    for choice in ("auto", "none"):
        assert (
            told(Dialect(force_tool="no"), body | {"tool_choice": choice})["tool_choice"] == choice
        )


def test_a_schema_where_only_json_object_is_known_stands_in_a_system_line():
    asked = {"response_format": SCHEMA}
    assert told(Dialect(), asked) == asked
    line = 'Answer with a JSON object that follows this JSON schema: {"type": "object", "x": 1.5}'
    for system, wanted in (
        ([], line),
        ([{"role": "system", "content": "Be brief."}], f"Be brief.\n\n{line}"),
    ):
        members, dropped = sent(Dialect(json_schema="object"), asked | {"messages": [*system, *HI]})
        assert members["response_format"] == {"type": "json_object"}
        assert members["messages"] == [{"role": "system", "content": wanted}, *HI]
        assert dropped == ["response_format"]
    plain = {"response_format": {"type": "json_object"}}
    assert told(Dialect(json_schema="object"), plain) == plain


def test_parts_or_text():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    image = [parts[0], {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}]
    text = Dialect(content="text")
    said = [{"role": "user", "content": parts}, {"role": "user", "content": image}]
    one, other = sent(text, {"messages": said})[0]["messages"]
    assert one["content"] == "a\nb" and other["content"] == image


@pytest.mark.parametrize(
    ("thinking", "body", "wanted", "left_out"),
    [
        ("reasoning_effort", {"reasoning_effort": "low"}, {"reasoning_effort": "low"}, []),
        ("reasoning_effort", {"thinking": {"type": "enabled"}}, {}, ["thinking"]),
        (
            "thinking",
            {"reasoning_effort": "high"},
            {"reasoning_effort": "high", "thinking": {"type": "enabled"}},
            [],
        ),
        ("thinking", {"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}, []),
        (
            "thinking",
            {"thinking": {"type": "enabled", "budget_tokens": 9}},
            {"thinking": {"type": "enabled"}},
            [],
        ),
        ("thinking", {}, {}, []),
        ("enable_thinking", {"reasoning_effort": "none"}, {"enable_thinking": False}, []),
        (
            "enable_thinking",
            {"reasoning_effort": "high"},
            {"enable_thinking": True},
            ["reasoning_effort"],
        ),
        (
            "enable_thinking",
            {"thinking": {"type": "enabled", "budget_tokens": 99999}},
            {"enable_thinking": True, "thinking_budget": 32768},
            [],
        ),
    ],
)
def test_thinking_is_asked_for_by_the_dialects_switch(thinking, body, wanted, left_out):
    members, dropped = sent(Dialect(thinking=thinking), body)
    assert {n: v for n, v in members.items() if n not in ("model", "messages")} == wanted
    assert dropped == left_out


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("preset", STRICT, ids=[each.name for each in STRICT])
def test_what_a_preset_refuses_for_certain_is_left_out_and_named(preset, native):
    values: dict[str, Any] = {
        "tools": [TOOL],
        "tool_choice": "auto",
        "logit_bias": {"5": 1},
        "logprobs": True,
        "parallel_tool_calls": True,
        "user": "u",
        "stop": ["a"],
        "service_tier": "auto",
        "prompt_cache_key": "k",
    }
    body = {name: values.get(name, 1) for name in preset.dialect.refuses}
    members, dropped = sent(preset.dialect, body, native=native)
    assert set(members) == {"model", "messages"} and set(dropped) == preset.dialect.refuses


@pytest.mark.parametrize("native", [True, False])
def test_what_the_config_drops_is_never_seen(native):
    members, _ = sent(Dialect(), {"store": True, "seed": 1}, native=native, drop=["store"])
    assert set(members) == {"model", "messages", "seed"}


WHOSE = {
    "deepseek-reasoner.sse": "deepseek",
    "groq-error-event.sse": "groq",
    "groq-tools.sse": "groq",
    "openrouter-claude-thinking-tool.sse": "openrouter",
    "openrouter-error-in-stream.sse": "openrouter",
    "mistral-thinking.sse": "mistral",
    "mistral-tool.sse": "mistral",
    "xai-reasoning-tool.sse": "xai",
    "zai-reasoning-tool.sse": "zai",
    "azure-filter-chunk.sse": "azure",
    "ollama-reasoning.sse": "ollama",
    "llamacpp-tool.sse": "llamacpp",
    "llamacpp-error-line.sse": "llamacpp",
    "openrouter-leading-space.json": "openrouter",
    "gemini-compat-tool.json": "gemini-openai",
    "perplexity-chat.json": "perplexity",
}


@pytest.mark.parametrize("case", WHOSE)
def test_a_recorded_request_reaches_its_upstream_as_the_bytes_it_is(case):
    body = RECORDED[case]["body"]
    provider = provider_of(BY_NAME[WHOSE[case]].dialect)
    asks_itself = not body.get("stream") or "stream_options" in body
    raw = json.dumps(body).encode()
    call = call_of(provider, raw, native=True)
    assert provider.native is not None
    got = provider.native.request(call).body
    assert isinstance(got, bytes) and call.dropped == []
    if asks_itself or WHOSE[case] == "mistral":
        assert got is raw
    else:
        assert json.loads(got) == body | {"stream_options": {"include_usage": True}}


def test_the_address_and_the_credential_of_azures_deployments():
    entry = Upstream(
        name="az",
        api_url="https://r.example/openai/deployments/{model}",
        api_version="2024-10-21",
        api_keys=[KeyEntry(id="a", val="k")],
    )
    dialect = BY_NAME["azure-deployments"].dialect
    provider = compatible.provider(entry, dialect)
    call = call_of(provider, {"model": "a/b c?", "messages": []}, native=True)
    assert provider.native is not None
    request = provider.native.request(call)
    assert request.url == (
        "https://r.example/openai/deployments/a%2Fb%20c%3F/chat/completions?api-version=2024-10-21"
    )
    headers = {name.lower(): value for name, value in request.headers}
    assert headers["api-key"] == "s3cret" and "authorization" not in headers
    rule = compatible.forward(entry, dialect)
    assert rule.base(call.config) == "https://r.example/openai"
    assert rule.query == (("api-version", "2024-10-21"),)
