"""Settings as the generation config: kept, refused or dropped."""

from typing import Any

import pytest

from providers.gemini.api import PROVIDER
from tests.providers.gemini.bodies import HELLO, WEATHER, dropped, refused
from tests.providers.gemini.calls import make_call, sent, user


@pytest.mark.parametrize(
    ("settings", "config"),
    [
        ({"temperature": 0}, {"temperature": 0}),
        (
            {"temperature": 1.5, "top_p": 0.5, "top_k": 7},
            {"temperature": 1.5, "topP": 0.5, "topK": 7},
        ),
        ({"max_tokens": 9}, {"maxOutputTokens": 9}),
        ({"max_tokens": 9, "max_completion_tokens": 8}, {"maxOutputTokens": 8}),
        ({"n": 1}, None),
        ({"n": 3}, {"candidateCount": 3}),
        ({"stop": "a"}, {"stopSequences": ["a"]}),
        ({"stop": ["a", "", "b"]}, {"stopSequences": ["a", "b"]}),
        ({"stop": []}, None),
        ({"seed": 7}, {"seed": 7}),
        ({"seed": -(2**31)}, {"seed": -(2**31)}),
        ({"seed": 2**31}, {"seed": -(2**31)}),
        ({"presence_penalty": 0, "frequency_penalty": 0}, None),
        ({"logprobs": True, "top_logprobs": 3}, {"responseLogprobs": True, "logprobs": 3}),
        ({"logprobs": True, "top_logprobs": 50}, {"responseLogprobs": True, "logprobs": 20}),
        ({"logprobs": False}, None),
        ({"response_format": {"type": "text"}}, None),
        (
            {"response_format": {"type": "json_object"}},
            {"responseMimeType": "application/json"},
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {
                        "name": "dog",
                        "strict": True,
                        "schema": {"$schema": "x", "type": "object", "$defs": {"a": {}}},
                    },
                }
            },
            {
                "responseMimeType": "application/json",
                "responseJsonSchema": {"type": "object", "$defs": {"a": {}}},
            },
        ),
        ({"modalities": ["text"]}, None),
        ({"modalities": ["text", "image"]}, {"responseModalities": ["TEXT", "IMAGE"]}),
    ],
)
def test_settings_become_the_generation_config(settings: Any, config: Any) -> None:
    expected = {"contents": HELLO} | ({} if config is None else {"generationConfig": config})
    assert sent(user(**settings)) == expected


@pytest.mark.parametrize(
    ("settings", "param"),
    [
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": -1}, "top_p"),
        ({"top_k": 0}, "top_k"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"n": 0}, "n"),
        ({"n": 9}, "n"),
        ({"stop": list("abcdef")}, "stop"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": -1}, "top_logprobs"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "x", "format": "wav"}}, "audio"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"response_format": {}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": "x"}}},
            "response_format.json_schema.schema",
        ),
        ({"reasoning_effort": "heroic"}, "reasoning_effort"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": "maybe"}, "tool_choice"),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "x"}}},
            "tool_choice",
        ),
        ({"tools": [WEATHER], "tool_choice": {"type": "custom"}}, "tool_choice"),
        ({"tools": [WEATHER, {"type": "custom", "custom": {}}]}, "tools[1].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"functions": [{"name": ""}]}, "functions[0].function"),
        ({"generation_config": []}, "generation_config"),
        ({"extra_body": {"google": {"cached_content": 1}}}, "extra_body.google.cached_content"),
    ],
)
def test_settings_that_cannot_be_kept_are_refused_by_name(settings: Any, param: str) -> None:
    assert refused(user(**settings)).param == param


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        (
            {"presence_penalty": 0.5, "frequency_penalty": -1},
            ["presence_penalty", "frequency_penalty"],
        ),
        ({"presence_penalty": 0}, []),
        ({"logit_bias": {"50256": -100}}, ["logit_bias"]),
        ({"logit_bias": {}}, []),
        ({"user": "u", "safety_identifier": "s"}, ["user", "safety_identifier"]),
        ({"metadata": {"a": "b"}, "store": True}, ["metadata", "store"]),
        ({"metadata": None, "store": None, "audio": None}, []),
        ({"service_tier": "flex", "verbosity": "low"}, ["service_tier", "verbosity"]),
        ({"prediction": {}, "prompt_cache_key": "k"}, ["prediction", "prompt_cache_key"]),
        ({"web_search_options": {}}, ["web_search_options"]),
        ({"parallel_tool_calls": False, "tools": [WEATHER]}, ["parallel_tool_calls"]),
        ({"parallel_tool_calls": True, "tools": [WEATHER]}, []),
        ({"stream_options": {"include_usage": True}, "stream": True}, []),
    ],
)
def test_what_is_dropped_is_named_and_not_sent(settings: Any, names: list[str]) -> None:
    assert sorted(dropped(user(**settings))) == sorted(names)
    assert set(sent(user(**settings))) <= {"contents", "tools"}


@pytest.mark.parametrize(
    ("model", "effort", "thinking"),
    [
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0}),
        ("gemini-2.5-pro", "none", {"thinkingBudget": 128}),
        ("gemini-2.5-flash", "minimal", {"thinkingBudget": 1024, "includeThoughts": True}),
        ("gemini-2.5-flash", "low", {"thinkingBudget": 1024, "includeThoughts": True}),
        ("models/gemini-2.5-pro", "medium", {"thinkingBudget": 8192, "includeThoughts": True}),
        ("gemini-2.5-flash-lite", "high", {"thinkingBudget": 24576, "includeThoughts": True}),
        ("gemini-2.5-flash", "xhigh", {"thinkingBudget": 24576, "includeThoughts": True}),
        ("gemini-3-flash-preview", "none", {"thinkingLevel": "MINIMAL"}),
        ("gemini-3-pro-preview", "none", {"thinkingLevel": "LOW"}),
        (
            "gemini-3-flash-preview",
            "minimal",
            {"thinkingLevel": "MINIMAL", "includeThoughts": True},
        ),
        ("gemini-3-pro-preview", "minimal", {"thinkingLevel": "LOW", "includeThoughts": True}),
        ("gemini-3.1-pro", "minimal", {"thinkingLevel": "LOW", "includeThoughts": True}),
        ("gemini-3.7-flash", "minimal", {"thinkingLevel": "LOW", "includeThoughts": True}),
        ("gemini-3.6-flash", "low", {"thinkingLevel": "LOW", "includeThoughts": True}),
        ("gemini-3-pro-preview", "medium", {"thinkingLevel": "HIGH", "includeThoughts": True}),
        ("gemini-3.1-pro", "medium", {"thinkingLevel": "MEDIUM", "includeThoughts": True}),
        ("gemini-flash-latest", "max", {"thinkingLevel": "HIGH", "includeThoughts": True}),
        ("gemini-2.0-flash", "high", None),
        ("gemini-1.5-pro-latest", "high", None),
        ("gemini-pro", "high", None),
        ("gemma-3-27b-it", "high", None),
        ("gemini-2.5-flash-image", "high", None),
        ("tunedModels/mine-123", "high", None),
    ],
)
def test_reasoning_effort_becomes_what_the_model_understands(
    model: str, effort: str, thinking: Any
) -> None:
    body = user(reasoning_effort=effort) | {"model": model}
    assert sent(body).get("generationConfig", {}).get("thinkingConfig") == thinking
    assert dropped(body) == ([] if thinking else ["reasoning_effort"])


def test_reasoning_effort_is_dropped_for_v1() -> None:
    assert sent(user(reasoning_effort="low"), headers={"x-version": "v1"}) == {"contents": HELLO}


def test_google_extensions_are_merged_last_and_never_doubled() -> None:
    body = user(
        max_tokens=5,
        temperature=1,
        reasoning_effort="low",
        generation_config={"max_output_tokens": 7, "media_resolution": "LOW"},
        extra_body={
            "google": {
                "thinking_config": {"thinking_level": "HIGH", "include_thoughts": False},
                "safety_settings": [
                    {"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}
                ],
            }
        },
        cached_content="cachedContents/x",
    )
    assert sent(body) == {
        "contents": HELLO,
        "generationConfig": {
            "maxOutputTokens": 7,
            "temperature": 1,
            "mediaResolution": "LOW",
            "thinkingConfig": {"thinkingLevel": "HIGH", "includeThoughts": False},
        },
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
        "cachedContent": "cachedContents/x",
    }


def test_a_response_schema_of_googles_own_replaces_ours() -> None:
    body = user(
        response_format={"type": "json_schema", "json_schema": {"schema": {"type": "object"}}},
        generation_config={"response_schema": {"type": "STRING", "max_length": 3}},
    )
    assert sent(body)["generationConfig"] == {
        "responseMimeType": "application/json",
        "responseSchema": {"type": "STRING", "max_length": 3},
    }


# More digits than a float has, and none that may be lost.
NUMBERS = '{"a":12345678901234567890123,"b":1.10,"c":1e400,"d":-0.0,"e":[1E5]}'


@pytest.mark.parametrize(
    "member",
    [
        '"tools":[{"type":"function","function":{"name":"f","parameters":{"x":%s}}}]',
        '"functions":[{"name":"f","parameters":%s}]',
        '"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":%s}}',
        '"generation_config":{"response_schema":%s}',
        '"generation_config":{"thinking_config":{"some_budget":%s}}',
        '"safety_settings":[%s]',
        '"extra_body":{"google":{"thinking_config":{"x":%s}}}',
    ],
)
def test_numbers_keep_their_digits(member: str) -> None:
    body = '{"messages":[{"role":"user","content":"x"}],' + member % NUMBERS + "}"
    request = PROVIDER.request(make_call(body.encode(), model="gemini-2.5-flash"))
    assert NUMBERS.encode()[1:-1] in request.body  # type: ignore[operator]


def test_a_schema_that_is_no_text_is_refused() -> None:
    body = b'{"messages":[{"role":"user","content":"x"}],"functions":[{"name":"f","parameters":'
    error = refused(body + b'{"title":"\xff"}}]}', model="gemini-2.5-flash")
    assert error.code == "invalid_json"
