"""Messages calls through the engine: what a renderer alone cannot show."""

import asyncio
import json
from contextlib import suppress

import pytest

from app.wire.errors import GatewayError
from tests import anthropic_types
from tests.calls import FRONTS
from tests.engine.fakes import CUT, FakeResponse
from tests.engine.test_chat_call import Bench, run
from tests.engine.test_failover import Bench as Failover
from tests.engine.test_failover import refusal

MESSAGES = FRONTS["anthropic"]
ASKED = {
    "front": MESSAGES,
    "model": "openai/gpt-4o",
    "messages": [{"role": "user", "content": "Hi"}],
    "max_tokens": 64,
    "stream": True,
}


def chunk(text):
    delta = {"id": "c", "choices": [{"index": 0, "delta": {"content": text}}]}
    return b"data: %b\n\n" % json.dumps(delta).encode()


def test_an_upstream_is_left_at_a_stop_sequence_that_it_does_not_know():
    pieces = [chunk("yes"), chunk("</blo"), chunk("ck>no"), chunk("never read"), CUT]
    bench = Bench(FakeResponse(pieces=pieces))
    stops = ["1", "2", "3", "4", "</block>"]  # OpenAI takes four
    run(bench.ask(**ASKED, stop_sequences=stops))
    message = anthropic_types.folded(bench.sink.body)
    assert message.content[0].text == "yes"
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "</block>")
    [response] = bench.clients.responses
    assert response.closed and response.pieces == [chunk("never read"), CUT]
    assert bench.record.outcome == "complete"


def test_a_cut_after_the_first_byte_is_anthropics_error_event_and_no_message_stop():
    bench = Bench(FakeResponse(pieces=[chunk("yes"), CUT]))
    run(bench.ask(**ASKED))
    events = anthropic_types.parsed(bench.sink.body)
    assert [event["type"] for event in events] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "error",
    ]
    assert events[-1]["error"]["type"] == "api_error"
    assert events[-1]["request_id"] == "req_r"


START = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-4-5",
        "content": [],
        "usage": {
            "input_tokens": 10,
            "cache_read_input_tokens": 90_000,
            "cache_creation_input_tokens": 200,
            "output_tokens": 1,
        },
    },
}
OPENED = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
TEXT = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "word "}}


@pytest.mark.parametrize("front", ["anthropic", "openai-chat"])
@pytest.mark.parametrize("ending", [60, CUT])
def test_an_answer_that_breaks_off_has_used_the_cache_that_its_start_tells(front, ending):
    events = [START, OPENED, *[TEXT] * 40]
    pieces = [f"event: {e['type']}\ndata: {json.dumps(e)}\n\n".encode() for e in events]
    bench = Failover({"c": lambda: FakeResponse(pieces=[*pieces, ending])}, keys=["a"])
    asked = {"front": FRONTS[front], "model": "claude/claude-haiku-4-5", "max_tokens": 64}
    with suppress(TimeoutError):
        run(asyncio.wait_for(bench.ask(stream=True, **asked), 0.2))
    record = bench.record
    assert record.outcome == ("client_gone" if ending == 60 else "upstream_cut")
    assert (record.prompt_tokens, record.cached_tokens) == (90_210, 90_000)
    assert (record.cache_write_tokens, record.counted) == (200, "estimated")
    assert record.completion_tokens == record.bytes_out // 200 > 10


def test_who_leaves_a_translated_stream_before_its_last_event_has_left_in_the_middle():
    finish = {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    counts = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}
    ends = [b"data: %b\n\n" % json.dumps(each).encode() for each in (finish, counts)]
    bench = Bench(FakeResponse(pieces=[chunk("yes"), *ends, 60]))
    with pytest.raises(TimeoutError):
        run(asyncio.wait_for(bench.ask(**ASKED), 0.1))
    assert b"message_stop" not in bench.sink.body
    assert (bench.record.outcome, bench.record.status) == ("client_gone", 499)
    assert (bench.record.completion_tokens, bench.record.counted) == (3, "told")


def test_geminis_counts_so_far_are_those_of_an_answer_that_breaks_off():
    pieces = [
        b'data: {"candidates":[{"content":{"parts":[{"text":"a"}]}}],"usageMetadata":{'
        b'"promptTokenCount":900,"cachedContentTokenCount":800,"candidatesTokenCount":%d}}\n\n' % n
        for n in (10, 20, 30)
    ]
    bench = Failover({"g": lambda: FakeResponse(pieces=[*pieces, CUT])}, keys=["a"])
    run(bench.ask(stream=True, front=MESSAGES, model="gemini/gemini-2.5-flash", max_tokens=64))
    record = bench.record
    assert record.outcome == "upstream_cut"
    assert (record.prompt_tokens, record.cached_tokens) == (900, 800)
    assert (record.completion_tokens, record.counted) == (30, "estimated")


def test_a_cut_before_the_first_byte_has_a_true_status():
    bench = Bench(FakeResponse(pieces=[CUT]))
    with pytest.raises(GatewayError) as caught:
        run(bench.ask(**ASKED))
    assert caught.value.status == 502 and not bench.sink.started


def test_a_final_refusal_of_claude_says_so_once():
    final = ("x-should-retry", "false")
    bench = Failover({"c": lambda: refusal(400, headers=[final])}, keys=["a"])
    with pytest.raises(GatewayError) as caught:
        bench.run(front=MESSAGES, model="claude/claude-haiku-4-5", max_tokens=64)
    assert caught.value.headers.count(final) == 1  # SDKs look for "false", not "false, false"


@pytest.mark.parametrize("after", [0, 5])
@pytest.mark.parametrize("stream", [True, False])
def test_no_tokens_are_answered_without_the_fallback_that_has_another_wire(stream, after):
    bench = Failover(
        {"c": lambda: refusal(429)}, keys=["a"], fallbacks=["openai/gpt-4o"], fallback_after=after
    )
    asked = {"front": MESSAGES, "model": "claude/claude-haiku-4-5", "max_tokens": 0}
    body = bench.run(stream=stream, **asked)
    message = anthropic_types.folded(body).to_dict() if stream else json.loads(bench.sink.whole)
    assert (message["content"], message["stop_reason"]) == ([], "max_tokens")
    assert bench.used == ["c"]  # Claude itself can warm a cache, OpenAI would write an answer
    assert dict(bench.sink.headers)["x-gateway-model"] == "openai/gpt-4o"
    assert "x-auth-id" not in dict(bench.sink.headers)
    assert (bench.record.provider, bench.record.attempts) == ("openai-api", 1)
