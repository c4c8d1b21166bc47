"""What odd answers of an upstream come to, on the wire and in the pool."""

import json

import httpx
import pytest

from tests.server.scripted_upstream import gateway as gateway
from tests.server.scripted_upstream import upstream as upstream

CHAT = "/c/v1/chat/completions"
JSON = {"content-type": "application/json"}
EVENTS = {"content-type": "text/event-stream"}
NUMBERS = '{"a":12345678901234567890123,"b":1e400,"c":0.1000000000000000055511,"d":-0,"e":[1E5]}'


def ask(gateway, body: str | dict) -> httpx.Response:
    if isinstance(body, dict):
        body = json.dumps({"messages": [{"role": "user", "content": "hi"}]} | body)
    return httpx.post(gateway.url + CHAT, content=body, headers=JSON, timeout=20)


def resting(gateway) -> int:
    keys = httpx.get(f"{gateway.url}/admin/keys").json()["keys"]
    return sum(key["state"] != "awake" for key in keys)


@pytest.mark.parametrize("provider", [None, "openai", "claude"])
def test_a_callers_numbers_keep_their_digits(gateway, upstream, provider):
    arguments = json.dumps(NUMBERS)
    call = f'{{"id":"a","type":"function","function":{{"name":"f","arguments":{arguments}}}}}'
    said = '{"role":"user","content":"hi"},{"role":"assistant","content":null,"tool_calls":[%s]}'
    model = "claude-sonnet-4-5" if provider == "claude" else "gpt-4o"
    body = f'{{"model":"{model}","odd":1e400,"messages":[{said % call}]'
    body += f',"provider":"{provider}"}}' if provider else "}"
    good = {"type": "message", "content": [], "choices": []}
    upstream.script([{"status": 200, "headers": JSON, "body": good}])
    assert ask(gateway, body).status_code == 200
    (asked,) = upstream.asked
    if provider == "claude":
        assert NUMBERS.encode() in asked.body
    else:
        assert arguments.encode() in asked.body and b'"odd":1e400' in asked.body


@pytest.mark.parametrize("stream", [True, False])
def test_openais_numbers_pass_as_they_came(gateway, upstream, stream):
    part = "delta" if stream else "message"
    call = f'{{"index":0,"function":{{"name":"f","arguments":{json.dumps(NUMBERS)}}}}}'
    choice = f'{{"index":0,"{part}":{{"tool_calls":[{call}]}},"finish_reason":"tool_calls"}}'
    usage = '"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,"odd":1e400}'
    said = f'{{"id":"c","seed":12345678901234567890123,"choices":[{choice}],{usage}}}'
    body = f"data: {said}\n\ndata: [DONE]\n\n" if stream else said
    headers = EVENTS if stream else JSON
    upstream.script([{"status": 200, "headers": headers, "body": body}])
    answer = ask(gateway, {"model": "gpt-4o", "stream": stream})
    assert (answer.status_code, answer.text) == (200, body)


@pytest.mark.parametrize("stream", [True, False])
def test_claudes_numbers_pass_as_they_came(gateway, upstream, stream):
    block = f'{{"type":"tool_use","id":"t","name":"f","input":{NUMBERS}}}'
    message = f'{{"id":"m","type":"message","content":[{block}],"stop_reason":"tool_use"}}'
    events = [
        '{"type":"message_start","message":{"id":"m"}}',
        f'{{"type":"content_block_start","index":0,"content_block":{block}}}',
        '{"type":"content_block_stop","index":0}',
        '{"type":"message_stop"}',
    ]
    body = "".join(f"data: {event}\n\n" for event in events) if stream else message
    upstream.script([{"status": 200, "headers": EVENTS if stream else JSON, "body": body}])
    answer = ask(gateway, {"model": "claude/claude-sonnet-4-5", "stream": stream})
    assert answer.status_code == 200
    assert json.dumps(NUMBERS) in answer.text


@pytest.mark.parametrize("stream", [True, False])
def test_an_account_refused_inside_a_200_rests_and_another_key_answers(gateway, upstream, stream):
    before = resting(gateway)
    message = "Your credit balance is too low to access the Anthropic API."
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": message}}
    start = {"type": "message_start", "message": {"id": "m"}}
    told = [start, {"type": "message_stop"}]
    good = {"type": "message", "content": []}
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in told) if stream else good
    upstream.script(
        [
            {"status": 200, "headers": JSON, "body": error},
            {"status": 200, "headers": EVENTS if stream else JSON, "body": body},
        ]
    )
    answer = ask(gateway, {"model": "claude/claude-sonnet-4-5", "stream": stream})
    assert answer.status_code == 200 and answer.headers["x-attempts"] == "2"
    assert resting(gateway) == before + 1


def test_an_openai_account_refused_inside_a_200(gateway, upstream):
    before = resting(gateway)
    error = {"message": "You exceeded your current quota.", "type": "insufficient_quota"}
    bad = {"error": error | {"code": "insufficient_quota", "param": None}}
    chunk = {"choices": [{"index": 0, "delta": {"content": "ok"}, "finish_reason": "stop"}]}
    upstream.script(
        [
            {"status": 200, "headers": EVENTS, "body": f"data: {json.dumps(bad)}\n\n"},
            {
                "status": 200,
                "headers": EVENTS,
                "body": f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n",
            },
        ]
    )
    answer = ask(gateway, {"model": "gpt-4o", "stream": True})
    assert (answer.status_code, answer.headers["x-attempts"]) == (200, "2"), answer.text
    assert "ok" in answer.text
    assert resting(gateway) == before + 1


@pytest.mark.parametrize("model", ["gpt-4o", "claude/claude-sonnet-4-5"])
def test_a_size_that_only_this_request_has_rests_no_key(gateway, upstream, model):
    before = resting(gateway)
    message = "Request too large for this model on tokens per min (TPM): Limit 3, Requested 9."
    error = {"type": "rate_limit_error", "message": message, "code": "rate_limit_exceeded"}
    upstream.script([{"status": 429, "headers": JSON, "body": {"type": "error", "error": error}}])
    answer = ask(gateway, {"model": model})
    assert (answer.status_code, len(upstream.asked)) == (429, 1)
    assert answer.json()["error"]["message"] == message
    assert resting(gateway) == before
    # It rests for this model neither: the next request is asked.
    upstream.script([{"status": 400, "headers": JSON, "body": {"error": {"message": "asked"}}}])
    assert ask(gateway, {"model": model}).status_code == 400
