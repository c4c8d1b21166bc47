"""Requests of real clients, and mutated ones, as each kind of upstream is asked them."""

import json
from copy import deepcopy

import pytest
from google.genai import types as google
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai.types.chat import completion_create_params as openai
from pydantic import TypeAdapter

from app.wire.errors import GatewayError
from providers.claude.native_body import read_native
from providers.gemini.api import PROVIDER as GEMINI
from providers.openai.api import PROVIDER as OPENAI
from tests.fronts.messages_calls import asked_of, sent
from tests.recorded import requests_of_clients

REQUESTS = requests_of_clients()
TARGETS = (
    (OPENAI, "gpt-5"),
    (OPENAI, "gpt-4o"),
    (GEMINI, "gemini-2.5-pro"),
    (GEMINI, "gemini-3-pro"),
)
STREAMED = TypeAdapter(openai.CompletionCreateParamsStreaming)
WHOLE = TypeAdapter(openai.CompletionCreateParamsNonStreaming)
# What only Anthropic understands, and the members that carry it.
ANTHROPICS = (b"cache_control", b"defer_loading", b"safeguards", b"user_id", b"billing-header")
NEVER_NAMED = {"metadata", "cache_control"}


def replayed(name, provider, model):
    call = REQUESTS[name]
    headers = {key.lower(): value for key, value in call["headers"].items()}
    return sent(provider, call["body"], model, headers=headers)


@pytest.mark.parametrize("name", [name for name in REQUESTS if name != "web-search"])
@pytest.mark.parametrize(("provider", "model"), TARGETS)
def test_recorded_requests_are_valid_to_each_upstream(name, provider, model):
    body, dropped, call = replayed(name, provider, model)
    raw = json.dumps(body).encode()
    assert not [word for word in ANTHROPICS if word in raw]
    assert not NEVER_NAMED & set(dropped)
    if provider is OPENAI:
        (STREAMED if call.stream else WHOLE).validate_python(body)
        return
    for content in body["contents"]:
        # The recorded signatures were written by hand: not each is base64.
        google.Content.model_validate(_without_signatures(content))
    for tool in body.get("tools", ()):
        google.Tool.model_validate(tool)
    google.GenerationConfig.model_validate(body.get("generationConfig", {}))


def _without_signatures(content):
    parts = [
        {name: value for name, value in part.items() if name != "thoughtSignature"}
        for part in content["parts"]
    ]
    return {**content, "parts": parts}


def test_recorded_marks_reach_gemini_as_signatures_of_their_calls():
    body, _, _ = replayed("thinking-interleaved", GEMINI, "gemini-2.5-pro")
    parts = [part for content in body["contents"] for part in content["parts"]]
    signed = [part["thoughtSignature"] for part in parts if "functionCall" in part]
    assert signed == ["CsQBAdHtim8kA", "CsQBAdHtim8kB"]


def test_the_conversation_is_the_key_of_the_prompt_cache():
    body, _, _ = replayed("start", OPENAI, "gpt-5")
    session = {k.lower(): v for k, v in REQUESTS["start"]["headers"].items()}
    assert body["prompt_cache_key"] == session["x-claude-code-session-id"]


def test_the_classifier_has_room_to_think_and_its_stop_is_cut():
    body, _, call = replayed("auto-mode-classifier", OPENAI, "gpt-5")
    assert body["max_completion_tokens"] == 64 + 2048
    assert "stop" not in body and not OPENAI.stops(call)
    body, _, call = replayed("auto-mode-classifier", GEMINI, "gemini-2.5-flash")
    config = body["generationConfig"]
    assert (config["maxOutputTokens"], config["stopSequences"]) == (64, ["</block>"])
    assert GEMINI.stops(call)


def _paths(value, path=()):
    yield path
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, inner in items:
        yield from _paths(inner, (*path, key))


ODD = st.sampled_from([None, 0, -1, "", "x", [], {}, [None], {"type": "odd"}, True, 1e300, ["a"]])


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_mutated_bodies_are_translated_or_a_400(data):
    body = json.loads(json.dumps(REQUESTS[data.draw(st.sampled_from(sorted(REQUESTS)))]["body"]))
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from([p for p in _paths(body) if p]))
        holder = body
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = deepcopy(data.draw(ODD))
    for provider, model in (
        (OPENAI, "gpt-5"),
        (GEMINI, "gemini-2.5-pro"),
        (GEMINI, "gemini-3-pro"),
    ):
        try:
            sent(provider, body, model)
        except GatewayError as error:
            assert error.status == 400
    try:
        read_native(asked_of(body))
    except GatewayError as error:
        assert error.status == 400
