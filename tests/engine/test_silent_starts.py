"""A stream that breaks off before anything of an answer was said: another key answers."""

import asyncio
import json

import pytest

from tests.engine.fakes import CUT, FakeResponse, FakeSink
from tests.engine.test_failover import (
    CLAUDE_PIECES,
    DONE,
    EVENT,
    ROLE,
    Bench,
    good,
)
from tests.engine.test_reverse_proxy import ForwardBench, ForwardSink

START = CLAUDE_PIECES[0]
PING = b'event: ping\ndata: {"type": "ping"}\n\n'
BLOCK = (
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
    b'"content_block":{"type":"%b","%b":""}}\n\n'
)
OVERLOADED = (
    b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error",'
    b'"message":"Overloaded"}}\n\n'
)
FAILED = (
    b'data: {"error":{"message":"at capacity","type":"server_error",'
    b'"code":"server_is_overloaded"}}\n\n'
)
COMMENT = b": OPENROUTER PROCESSING\n\n"
EMPTY = b'data: {"choices":[],"prompt_filter_results":[{"prompt_index":0}]}\n\n'
NOTHING = (
    b'data: {"choices":[{"index":0,"delta":{"content":"","reasoning":null,"tool_calls":[]}}]}\n\n'
)
EMPTY_GEMINI = (
    b'data: {"candidates":[{"content":{"role":"model"},"index":0}],"modelVersion":"g",'
    b'"usageMetadata":{"promptTokenCount":3}}\n\n'
)
GEMINI = (
    b'data: {"candidates":[{"content":{"parts":[{"text":"hi"}],"role":"model"},'
    b'"finishReason":"STOP","index":0}],"modelVersion":"g"}\n\n'
)
GEMINI_FAILED = b'data: {"error":{"code":503,"message":"overloaded","status":"UNAVAILABLE"}}\n\n'
WITH_CHOICES = (
    b'data: {"id":"x","error":{"code":502,"message":"Provider returned error"},'
    b'"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}]}\n\n'
)

STARTS = {
    "role, error": ("m", [ROLE, FAILED]),
    "role and error in one read": ("m", [ROLE + FAILED]),
    "role, cut": ("m", [ROLE, CUT]),
    "role, end": ("m", [ROLE]),
    "role, half an event": ("m", [ROLE, b'data: {"choi', CUT]),
    "role, an error beside choices": ("m", [ROLE, WITH_CHOICES]),
    "an error beside choices": ("m", [WITH_CHOICES]),
    "an error event": ("m", [ROLE, b'event: error\ndata: {"message":"no","code":"x"}\n\n']),
    "an error field": ("m", [ROLE, b'error: {"message":"no","code":"500"}\n\n']),
    "an error as text": ("m", [ROLE, b'data: {"error":"overloaded"}\n\n']),
    "filter results, error": ("m", [EMPTY, ROLE, FAILED]),
    "empty deltas, cut": ("m", [ROLE, NOTHING, NOTHING, CUT]),
    "with CR LF": ("m", [(ROLE + FAILED).replace(b"\n", b"\r\n")]),
    "comments, error": ("m", [COMMENT, COMMENT + COMMENT, FAILED]),
    "comments, cut": ("m", [COMMENT, CUT]),
    "comments, role, comments, cut": ("m", [COMMENT, ROLE, COMMENT, CUT]),
    "comments, end": ("m", [COMMENT]),
    "message_start, error": ("claude/x", [START, PING, OVERLOADED]),
    "message_start, cut": ("claude/x", [START, CUT]),
    "message_start, end": ("claude/x", [START + PING]),
    "block of text, error": ("claude/x", [START, BLOCK % (b"text", b"text"), OVERLOADED]),
    "block of thinking, cut": ("claude/x", [START, BLOCK % (b"thinking", b"thinking"), CUT]),
    "Gemini without text, error": ("gemini/x", [EMPTY_GEMINI, GEMINI_FAILED]),
    "Gemini without text, cut": ("gemini/x", [EMPTY_GEMINI, CUT]),
}
WHOLE = {
    "m": lambda: good(),
    "claude/x": lambda: FakeResponse(pieces=[START, *CLAUDE_PIECES[1:]]),
    "gemini/x": lambda: FakeResponse(pieces=[GEMINI]),
}


def bench_of(*answers, **more):
    """Whoever is asked, the first gets the first of these, the second the second."""
    order = list(answers)
    keys = {name: order for name in ("a", "b", "c1", "c2", "g1", "g2")}
    return Bench(keys, ["a", "b"], claude_keys=("c1", "c2"), gemini_keys=("g1", "g2"), **more)


@pytest.mark.parametrize("start", STARTS)
def test_a_stream_that_fails_before_it_says_anything_is_rescued(start):
    model, pieces = STARTS[start]
    bench = bench_of(FakeResponse(pieces=list(pieces)), WHOLE[model])
    alone = bench_of(WHOLE[model])
    body, wanted = bench.run(model=model), alone.run(model=model)
    assert texts(body) == texts(wanted) and body.endswith(DONE)
    assert body.count(b'"role":"assistant"') == wanted.count(b'"role":"assistant"')
    assert dict(bench.sink.headers)["x-attempts"] == "2" and len(set(bench.used)) == 2
    (tried,) = bench.record.tried
    assert tried.next == "next" and bench.record.outcome == "complete"
    assert bench.record.bytes_out == len(body)


@pytest.mark.parametrize("start", STARTS)
def test_where_no_other_key_is_the_failure_is_a_true_status(start):
    model, pieces = STARTS[start]
    bench = bench_of(FakeResponse(pieces=list(pieces)), FakeResponse(pieces=list(pieces)))
    assert bench.fail(model=model).status >= 500
    assert not bench.sink.started and len(bench.used) == 2


def texts(body):
    """What a client reads."""
    found = []
    for line in body.splitlines():
        if line.startswith(b"data: {"):
            for choice in json.loads(line[6:])["choices"]:
                found.append(choice["delta"].get("content") or "")
    return "".join(found)


SAYING = {
    "text": b'{"content":"a"}',
    "thinking": b'{"reasoning_content":"a"}',
    "OpenRouter's thinking": b'{"content":"","reasoning":"a"}',
    "a call": b'{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":""}}]}',
    "an older call": b'{"function_call":{"name":"f","arguments":""}}',
    "a refusal": b'{"refusal":"no"}',
    "sound": b'{"audio":{"id":"x"}}',
}


@pytest.mark.parametrize("what", SAYING)
def test_what_was_held_is_sent_with_the_first_word_and_nothing_is_held_later(what):
    said = b'data: {"choices":[{"index":0,"delta":%b}]}\n\n' % SAYING[what]
    bench = bench_of(FakeResponse(pieces=[COMMENT, ROLE, said, ROLE, COMMENT, CUT]))
    body = bench.run()
    assert bench.sink.sent[:3] == [COMMENT + ROLE + said, ROLE, COMMENT]
    assert b'"code":"upstream_cut"' in body and len(bench.used) == 1


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
        b'data: {"choices":[{"index":0,"text":"a"}]}\n\n',
        b'data: {"object":"of another kind"}\n\n',
        b"data: no JSON\n\n",
        b'data: {"choices":[{"index":0,"delta":"odd"}]}\n\n',
        b'data: {"choices":[3]}\n\n',
        b"data: [1]\n\n",
    ],
)
def test_what_is_not_known_to_be_nothing_is_not_held(event):
    bench = bench_of(FakeResponse(pieces=[ROLE, event, ROLE, CUT]))
    bench.run()
    assert bench.sink.sent[:2] == [ROLE + event, ROLE]


def test_no_more_than_a_little_is_held():
    bench = bench_of(FakeResponse(pieces=[*[NOTHING] * 2000, CUT]))
    assert bench.run().count(NOTHING) == 2000 and len(bench.used) == 1


def test_a_stream_that_says_nothing_at_all_but_its_end_comes_whole():
    end = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    bench = bench_of(FakeResponse(pieces=[ROLE, end, DONE]))
    assert bench.run() == ROLE + end + DONE and bench.record.outcome == "complete"


def test_comments_are_passed_on_after_the_first_word():
    bench = bench_of(FakeResponse(pieces=[COMMENT, COMMENT, EVENT, COMMENT, DONE]))
    assert bench.run() == COMMENT + COMMENT + EVENT + COMMENT + DONE


def test_comments_are_a_sign_of_life_but_no_first_event():
    waiting = [0.06, COMMENT] * 4
    bench = bench_of(FakeResponse(pieces=[*waiting, EVENT, DONE]), first_event=0.15)
    assert bench.run().endswith(EVENT + DONE) and len(bench.used) == 1
    bench = bench_of(FakeResponse(pieces=[COMMENT, 5]), good, first_event=0.05, idle=5)
    assert bench.run() == EVENT + EVENT + DONE and len(bench.used) == 2


def test_comments_do_not_prolong_the_total():
    waiting = [0.02, COMMENT] * 50
    bench = bench_of(FakeResponse(pieces=waiting), first_event=0.1, total=0.2)
    assert "timeouts.total" in bench.fail().message and len(bench.used) == 1


def test_a_silent_beginning_is_bridged_by_comments_of_our_own():
    bench = bench_of(
        FakeResponse(pieces=[ROLE, 0.15, FAILED]), good, keep_alive_comment=0.05, idle=1
    )
    body = bench.run()
    assert body.startswith(b": ping\n\n") and body.endswith(EVENT + EVENT + DONE)


def test_a_key_is_not_called_well_before_it_said_something():
    bench = bench_of(FakeResponse(pieces=[ROLE, FAILED]), FakeResponse(pieces=[ROLE, FAILED]))
    bench.fail()
    assert all(row.last_status == 503 for row in bench.pool.key_statuses() if row.uses)


def test_a_caller_who_leaves_while_a_beginning_is_held_leaves_nothing_behind():
    bench = bench_of(FakeResponse(pieces=[ROLE, 60]), sink=FakeSink())

    async def leave():
        asking = asyncio.create_task(bench.ask())
        await asyncio.sleep(0.05)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(leave())
    assert bench.clients.responses[0].closed and bench.record.outcome == "client_gone"


# The raw paths.

CREATED = (
    b'event: response.created\ndata: {"type":"response.created","response":{"id":"r"}}\n\n'
    b'event: response.in_progress\ndata: {"type":"response.in_progress"}\n\n'
)
RAW = {
    "chat": [ROLE, FAILED],
    "chat, cut": [ROLE, CUT],
    "chat, end": [ROLE],
    "chat, half": [ROLE + b'data: {"cho', b"ices", CUT],
    "Messages": [START, PING, OVERLOADED],
    "Messages, a block": [START + BLOCK % (b"thinking", b"thinking"), OVERLOADED],
    "Messages, cut": [START[:50], START[50:], CUT],
    "Responses, error": [CREATED, b'event: error\ndata: {"type":"error","message":"no"}\n\n'],
    "Responses, failed": [
        CREATED,
        b'data: {"type":"response.failed","response":{"error":{"code":"server_error"}}}\n\n',
    ],
    "Gemini": [EMPTY_GEMINI.replace(b"\n", b"\r\n"), GEMINI_FAILED],
    "comments": [COMMENT, COMMENT, FAILED],
}


def forward_of(*answers, **more):
    order = list(answers)
    return ForwardBench({"a": order, "b": order}, **more)


@pytest.mark.parametrize("start", RAW)
def test_a_forwarded_stream_that_fails_before_it_says_anything_is_rescued(start):
    bench = forward_of(FakeResponse(pieces=list(RAW[start])), good())
    asyncio.run(bench.ask(path="chat/completions"))
    assert bench.sink.body == EVENT + EVENT + DONE and bench.sink.ended
    assert ("x-attempts", "2") in bench.sink.headers and len(set(bench.used)) == 2
    assert bench.record.outcome == "complete" and bench.record.tried[0].next == "next"
    assert all(response.closed for response in bench.clients.responses)


def test_a_forwarded_stream_that_fails_for_all_keys_comes_as_it_was_told():
    bench = forward_of(FakeResponse(pieces=[ROLE, FAILED]), FakeResponse(pieces=[ROLE, FAILED]))
    asyncio.run(bench.ask(path="chat/completions"))
    assert bench.sink.body == ROLE + FAILED and bench.sink.status == 200 and bench.sink.ended
    assert bench.record.outcome == "upstream_error" and len(bench.record.tried) == 2


def test_a_forwarded_stream_is_held_until_its_first_word_only():
    pieces = [COMMENT, ROLE, EVENT, b"data: any", b"thing\n\n", CUT]
    bench = forward_of(FakeResponse(pieces=pieces))
    asyncio.run(bench.ask(path="chat/completions"))
    assert bench.sink.body == COMMENT + ROLE + EVENT + b"data: anything\n\n"
    assert bench.sink.aborted and len(bench.used) == 1


def test_a_forwarded_stream_is_not_held_for_long(monkeypatch):
    monkeypatch.setattr("app.engine.forwarded_answer.HOLD_SECONDS", 0.05)
    bench = forward_of(FakeResponse(pieces=[ROLE, 0.3, EVENT, DONE]))
    asyncio.run(bench.ask(path="chat/completions"))
    assert bench.sink.body.startswith(ROLE)


@pytest.mark.parametrize(
    "headers",
    [
        [("content-type", "application/json")],
        [("content-type", "text/event-stream"), ("content-encoding", "gzip")],
    ],
)
def test_what_is_no_plain_stream_is_forwarded_at_once(headers):
    bench = forward_of(FakeResponse(headers=headers, pieces=[ROLE, CUT]))
    asyncio.run(bench.ask(path="chat/completions"))
    assert bench.sink.body == ROLE and bench.sink.aborted and len(bench.used) == 1


def test_a_forwarded_stream_without_one_event_is_passed_on():
    bench = forward_of(FakeResponse(pieces=[COMMENT]))
    asyncio.run(bench.ask(path="chat/completions"))
    assert bench.sink.body == COMMENT and len(bench.used) == 1


def test_a_named_keys_forwarded_stream_is_told_as_it_is():
    bench = forward_of(FakeResponse(pieces=[ROLE, FAILED]))
    asyncio.run(bench.ask(headers=[("x-auth-id", "a")], path="chat/completions"))
    assert bench.sink.body == ROLE + FAILED and bench.used == ["a"]


def test_a_caller_who_leaves_while_a_forward_is_held_leaves_nothing_behind():
    bench = forward_of(FakeResponse(pieces=[ROLE, 60]))
    bench.sink = ForwardSink()

    async def leave():
        asking = asyncio.create_task(bench.ask(path="chat/completions"))
        await asyncio.sleep(0.05)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(leave())
    assert bench.clients.responses[0].closed and bench.record.outcome == "client_gone"
