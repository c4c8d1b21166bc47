"""Anthropic's own client on POST /c/v1/messages, before every kind of upstream."""

import contextlib

import anthropic
import httpx
import pytest

from tests.recorded import requests_of_clients
from tests.server.conftest import CLAUDE_KEYS

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"name": "get_weather", "description": "The weather.", "input_schema": CITY}]
CALL = 'call get_weather with {"city": "Paris"}'
MODELS = ("claude-haiku-4-5", "openai/gpt-5-mini", "gemini/gemini-2.5-flash", "gemini/gemini-3-pro")
REQUESTS = requests_of_clients()
VERSION = {"anthropic-version": "2023-06-01"}


@pytest.fixture(scope="module")
def client(doors):
    made = anthropic.Anthropic(base_url=f"{doors.url}/c", api_key="pool", max_retries=0)
    with contextlib.closing(made):
        yield made


def ask(text):
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize("model", MODELS)
def test_a_question_is_answered_whole_and_as_a_stream(client, model):
    whole = client.messages.create(model=model, max_tokens=100, messages=ask("hello"))
    with client.messages.stream(model=model, max_tokens=100, messages=ask("hello")) as stream:
        streamed = stream.get_final_message()
    for message in (whole, streamed):
        assert message.content[0].text and message.stop_reason == "end_turn"
        assert message.usage.input_tokens > 0 and message.usage.output_tokens > 0
    assert whole.id != streamed.id


@pytest.mark.parametrize("model", MODELS)
def test_a_tool_is_called_and_its_result_goes_back(client, model):
    messages = ask(CALL)
    with client.messages.stream(
        model=model, max_tokens=2000, messages=messages, tools=TOOLS
    ) as stream:
        first = stream.get_final_message()
    assert first.stop_reason == "tool_use"
    call = next(block for block in first.content if block.type == "tool_use")
    assert (call.name, call.input) == ("get_weather", {"city": "Paris"})
    messages += [
        {"role": "assistant", "content": [block.to_dict() for block in first.content]},
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "22 degrees"}],
        },
    ]
    second = client.messages.create(model=model, max_tokens=2000, messages=messages, tools=TOOLS)
    assert second.stop_reason == "end_turn" and second.content[-1].text


@pytest.mark.parametrize("model", MODELS[1:])
@pytest.mark.parametrize("name", REQUESTS)
def test_recorded_requests_are_answered(doors, model, name):
    if name in ("thinking-interleaved", "other-clients-4") and model.startswith("gemini"):
        return  # its signatures were written by hand and are no base64, which Gemini refuses
    request = REQUESTS[name]
    body = {**request["body"], "model": model}
    headers = {"x-api-key": "pool", **VERSION}
    path = request["path"]
    reply = httpx.post(f"{doors.url}{path}", json=body, headers=headers, timeout=20)
    if name == "web-search" and model.startswith("openai"):
        assert reply.status_code == 400
        assert "web search" in reply.json()["error"]["message"]
        return
    assert reply.status_code == 200, reply.text
    dropped = reply.headers.get("x-gateway-dropped-params", "")
    assert not {"metadata", "cache_control", "anthropic-beta"} & set(dropped.split(", "))
    assert reply.headers["request-id"].startswith("req_")


def test_names_alone_choose_the_house(client, doors):
    for model, house in (("claude-haiku-4-5", "claude-api"), ("gemini-2.5-flash", "gemini-api")):
        client.messages.create(model=model, max_tokens=10, messages=ask(f"house of {model}"))
        assert doors.wait_log(model=model, front="anthropic")[-1]["provider"] == house


def test_a_key_of_another_house_is_refused_and_sent_nowhere(doors):
    made = anthropic.Anthropic(base_url=f"{doors.url}/c", api_key=CLAUDE_KEYS["a1"], max_retries=0)
    with contextlib.closing(made), pytest.raises(anthropic.AuthenticationError) as caught:
        made.messages.create(model="gemini-2.5-flash", max_tokens=10, messages=ask("hi"))
    assert caught.value.body["error"]["type"] == "authentication_error"
    assert "gemini" in caught.value.body["error"]["message"]


@pytest.mark.parametrize("model", MODELS)
def test_tokens_are_counted_or_estimated(client, model):
    text = "How many tokens does this sentence have, more or less? " * 20
    counted = client.messages.count_tokens(model=model, messages=ask(text), tools=TOOLS)
    assert 100 < counted.input_tokens < 2000


def test_an_estimate_says_so(doors):
    body = {"model": "openai/gpt-5-mini", "messages": ask("hi")}
    reply = httpx.post(f"{doors.url}/c/v1/messages/count_tokens", json=body, headers=VERSION)
    assert reply.headers["x-gateway-estimate"] == "true"


def test_models_are_listed_as_anthropics(client):
    ids = [model.id for model in client.models.list(limit=5)]
    claude = next(id for id in ids if id.startswith("claude-"))
    assert any(id.startswith("gemini/") for id in ids)
    assert client.models.retrieve(claude).display_name == claude
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("missing")


def test_claude_code_keeps_every_listed_model(doors):
    reply = httpx.get(
        f"{doors.url}/c/v1/models?limit=1000",
        headers={**VERSION, "user-agent": "claude-code/2.1.332", "authorization": "Bearer pool"},
    ).json()
    ids = [model["id"] for model in reply["data"]]
    assert ids and all("claude" in id or "anthropic" in id for id in ids)
    shown = next(id for id in ids if id.startswith("anthropic/gemini/"))
    body = {"model": shown, "max_tokens": 100, "messages": ask("hi")}
    answer = httpx.post(f"{doors.url}/c/v1/messages", json=body, headers=VERSION)
    assert answer.json()["model"] == shown


@pytest.mark.parametrize("path", ["/c/api/hello", "/c", "/c/"])
def test_the_greeting_is_answered_with_nothing(doors, path):
    assert httpx.head(f"{doors.url}{path}").status_code == 200
    assert httpx.get(f"{doors.url}{path}").content == b""


def test_what_is_not_offered_names_the_raw_forward(doors):
    reply = httpx.post(f"{doors.url}/c/v1/messages/batches", json={})
    assert reply.status_code == 404
    assert "/claude/api/v1/messages/batches" in reply.json()["error"]["message"]
    assert httpx.post(f"{doors.url}/c/api/event_logging/batch").json()["type"] == "error"


@pytest.mark.parametrize("path", ["/c/v1/files", "/c/v1/files/file_1/content"])
def test_files_are_kept_where_the_headers_say(doors, path):
    asked = f"{doors.url}{path}"
    anthropics = httpx.get(asked, headers=VERSION)
    assert anthropics.status_code == 404
    said = anthropics.json()
    assert (said["type"], said["error"]["type"]) == ("error", "not_found_error")
    assert f"/claude/api{path.removeprefix('/c')}" in said["error"]["message"]
    googles = httpx.get(asked, headers={"x-goog-api-key": "pool"})
    assert googles.json()["error"]["status"] == "NOT_FOUND"
    assert f"/gemini{path.removeprefix('/c')}" in googles.json()["error"]["message"]
    openais = httpx.get(asked)
    assert openais.status_code == 404 and "code" in openais.json()["error"]
    assert path.removeprefix("/c") in openais.json()["error"]["message"]
    unknown = httpx.get(f"{doors.url}/c/v1/nothing", headers=VERSION)
    assert (unknown.status_code, unknown.json()["type"]) == (404, "error")
