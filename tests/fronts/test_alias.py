"""Answers to an alias name the alias, and are otherwise the upstream's bytes."""

import json

import pytest

from tests.calls import CHAT, FRONTS, answering, asked_of

MESSAGES = FRONTS["anthropic"]
CHUNK = b'data: {"id":"c","model":%b,"choices":[{"index":0,"delta":{"content":%b}}]}\n\n'
TEXT = json.dumps('{"model":"true-1"}').encode()  # a text that looks like a member


def rendered(front, body, pieces, alias="smart"):
    renderer = front.copy(answering(asked=asked_of(body, front), alias=alias), None)
    renderer.labelled("text/event-stream" if body.get("stream") else "application/json")
    return b"".join([*map(renderer.feed, pieces), renderer.finish()])


def body_of(**more):
    return {
        "model": "smart",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "x"}],
    } | more


def stream_of(model: bytes) -> bytes:
    done = b'data: {"id":"c","model":%b,"choices":[{"index":0,"finish_reason":"stop"}]}\n\n' % model
    return CHUNK % (model, TEXT) + CHUNK % (b'"other"', b'"x"') + done + b"data: [DONE]\n\n"


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_a_stream_names_the_alias_and_no_text_is_touched(size):
    sent = stream_of(b'"true-1"')
    pieces = [sent[at : at + size] for at in range(0, len(sent), size)]
    assert rendered(CHAT, body_of(stream=True), pieces) == stream_of(b'"smart"')
    assert rendered(CHAT, body_of(stream=True), pieces, alias="") == sent


def test_a_whole_answer_names_the_alias_and_its_arguments_are_not_touched():
    call = {"type": "tool_use", "id": "t", "name": "f", "input": {"model": "true-1"}}
    said = {"id": "m", "type": "message", "model": "true-1", "content": [call], "usage": {}}
    told = json.loads(rendered(MESSAGES, body_of(), [json.dumps(said).encode()]))
    assert told == said | {"model": "smart"}


def test_a_messages_stream_names_the_alias():
    start = {"type": "message_start", "message": {"model": "true-1", "usage": {}, "content": []}}
    sent = b"event: message_start\ndata: %b\n\n" % json.dumps(start).encode()
    sent += b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    told = rendered(MESSAGES, body_of(stream=True), [sent])
    assert told == sent.replace(b'"true-1"', b'"smart"')
