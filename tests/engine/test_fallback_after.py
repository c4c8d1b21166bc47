"""A fallback is asked beside an upstream that is silent; the first to speak answers, alone."""

import asyncio
import json
import logging

import pytest

from app.config.schema import Config, KeyEntry, OpenAI
from app.pool.key_pool import KeyPool
from app.state.shared_table import SharedState
from tests.engine.fakes import CUT, FakeResponse, FakeSink
from tests.engine.test_failover import (
    CLAUDE_PIECES,
    DONE,
    EVENT,
    JSON,
    ROLE,
    Bench,
    claude,
    good,
    refusal,
)

FALLBACKS = ["claude/claude-sonnet-4-5", "gemini/gemini-2.5-flash"]
GEMINI = (
    b'data: {"candidates":[{"content":{"parts":[{"text":"hi"}],"role":"model"},'
    b'"finishReason":"STOP","index":0}],"modelVersion":"g"}\n\n'
)


def slow(seconds, *pieces):
    return lambda: FakeResponse(pieces=[seconds, *(pieces or (EVENT, EVENT + DONE))])


def bench_of(answers, after=0.05, keys=("a",), **more):
    return Bench(answers, list(keys), FALLBACKS, fallback_after=after, **more)


def trail(bench):
    return [(one.provider, one.outcome, one.next) for one in bench.record.tried]


def let_go(bench, number):
    """No task is left, and this response was closed."""
    return bench.clients.responses[number].closed


def test_the_fallback_answers_for_a_silent_upstream_which_is_let_go():
    bench = bench_of({"a": slow(5), "c": claude})
    assert b'"content":"hi"' in bench.run() and bench.sink.body.endswith(DONE)
    assert bench.used == ["a", "c"] and let_go(bench, 0)
    headers = dict(bench.sink.headers)
    assert (headers["x-gateway-model"], headers["x-attempts"]) == (FALLBACKS[0], "2")
    assert headers["x-auth-id"] == "c" and bench.sink.ended
    assert trail(bench) == [("openai-api", "overtaken", "let go")]
    assert (bench.record.provider, bench.record.attempts) == ("claude-api", 2)
    assert (bench.record.outcome, bench.record.key_id) == ("complete", "c")
    assert bench.record.bytes_out == len(bench.sink.body)


def test_the_first_may_still_be_faster_and_then_the_fallback_is_let_go():
    bench = bench_of({"a": slow(0.15), "c": slow(5)})
    assert bench.run() == EVENT + EVENT + DONE
    assert bench.used == ["a", "c"] and let_go(bench, 1)
    assert dict(bench.sink.headers)["x-attempts"] == "2"
    assert trail(bench) == [("claude-api", "overtaken", "let go")]
    assert (bench.record.provider, bench.record.key_id) == ("openai-api", "a")


def test_who_loses_is_let_go_before_the_winner_has_ended():
    async def main():
        bench = bench_of({"a": slow(0.15, EVENT, 60), "c": slow(60)})
        asking = asyncio.create_task(bench.ask())
        while not bench.sink.started:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0)
        assert let_go(bench, 1) and not let_go(bench, 0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert let_go(bench, 0) and bench.record.outcome == "client_gone"
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


class Leaving(FakeSink):
    """A caller who closes the connection as soon as they have the end."""

    leave = staticmethod(lambda: None)

    async def end(self):
        await super().end()
        self.leave()

    async def answer(self, body):
        await super().answer(body)
        self.leave()


@pytest.mark.parametrize("stream", [True, False])
def test_who_leaves_with_the_end_in_hand_has_a_complete_answer(stream):
    whole = FakeResponse(headers=JSON, pieces=[b'{"choices":[]}'])
    bench = bench_of({"a": slow(0.15) if stream else lambda: whole, "c": slow(60)}, sink=Leaving())

    async def main():
        asking = asyncio.create_task(bench.ask(stream=stream))
        bench.sink.leave = asking.cancel
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(main())
    assert (bench.record.outcome, bench.record.status) == ("complete", 200)


@pytest.mark.parametrize("answers", [{"a": good}, {"a": slow(0.1)}])
def test_nobody_is_asked_beside_an_upstream_that_speaks_in_time(answers):
    bench = bench_of(answers, after=1)
    assert bench.run() == EVENT + EVENT + DONE and bench.used == ["a"]
    assert trail(bench) == [] and dict(bench.sink.headers)["x-attempts"] == "1"


def test_nobody_is_asked_beside_a_stream_that_has_begun_to_answer():
    bench = bench_of({"a": lambda: FakeResponse(pieces=[EVENT, 0.2, EVENT + DONE])})
    assert bench.run() == EVENT + EVENT + DONE and bench.used == ["a"]


def test_a_beginning_that_says_nothing_is_silence():
    bench = bench_of({"a": lambda: FakeResponse(pieces=[ROLE, 5]), "c": claude})
    assert b'"content":"hi"' in bench.run() and bench.used == ["a", "c"]


def test_without_the_option_an_upstream_may_take_its_time():
    bench = bench_of({"a": slow(0.2), "c": claude}, after=0)
    assert bench.run() == EVENT + EVENT + DONE and bench.used == ["a"]


def test_an_upstream_that_fails_in_time_is_followed_by_its_fallback_as_ever():
    bench = bench_of({"a": lambda: refusal(429), "c": claude}, after=1)
    assert b'"content":"hi"' in bench.run() and bench.used == ["a", "c"]
    assert trail(bench) == [("openai-api", "rate limited", "next")]
    assert bench.record.attempts == 2


def test_an_upstream_that_fails_late_leaves_the_answer_to_the_fallback():
    bench = bench_of(
        {"a": lambda: FakeResponse(500, JSON, [0.1, b"{}"]), "c": slow(0.3, *CLAUDE_PIECES)}
    )
    assert b'"content":"hi"' in bench.run() and bench.used == ["a", "c"]
    assert trail(bench) == [("openai-api", "upstream failed", "next")]


def test_a_fallback_that_fails_leaves_the_answer_to_the_next_one_and_to_the_first():
    bench = bench_of({"a": slow(0.3), "c": lambda: refusal(529), "g": lambda: refusal(500)})
    assert bench.run() == EVENT + EVENT + DONE and bench.used == ["a", "c", "g"]
    assert bench.record.attempts == 3 and bench.record.provider == "openai-api"
    bench = bench_of(
        {"a": slow(5), "c": lambda: refusal(529), "g": lambda: FakeResponse(pieces=[GEMINI])}
    )
    assert b'"content":"hi"' in bench.run() and bench.record.provider == "gemini-api"


def test_if_all_fail_the_first_ones_error_is_told():
    late = lambda: FakeResponse(429, JSON, [0.15, b'{"error":{"message":"mine"}}'])  # noqa: E731
    bench = bench_of({"a": late, "c": lambda: refusal(529), "g": lambda: refusal(500)})
    error = bench.fail()
    assert (error.status, error.message) == (429, "mine")
    assert ("x-attempts", "3") in error.headers and bench.record.attempts == 3
    assert len(bench.record.tried) == 3


def test_a_final_refusal_is_told_and_ends_what_is_asked_beside():
    late = lambda: FakeResponse(400, JSON, [0.15, b'{"error":{"message":"mine"}}'])  # noqa: E731
    bench = bench_of({"a": late, "c": slow(5)})
    assert bench.fail().message == "mine" and let_go(bench, 1)


def test_a_winner_that_breaks_off_is_told_in_its_stream():
    bench = bench_of({"a": slow(5), "c": lambda: FakeResponse(pieces=[*CLAUDE_PIECES[:2], CUT])})
    body = bench.run()
    assert b'"content":"hi"' in body and b'"code":"upstream_cut"' in body
    assert bench.used == ["a", "c"] and bench.record.outcome == "upstream_cut"


def test_the_winners_silence_has_its_own_limit():
    bench = bench_of({"a": slow(5), "c": slow(0, *CLAUDE_PIECES[:2], 5)}, idle=0.1)
    assert b"timeouts.idle" in bench.run() and bench.record.outcome == "upstream_idle"


def test_the_total_bounds_both():
    bench = bench_of({"a": slow(5), "c": slow(5)}, total=0.2)
    assert "timeouts.total" in bench.fail().message
    assert let_go(bench, 0) and let_go(bench, 1)


def test_comments_bridge_the_silence_of_both_and_of_the_winner():
    silent = slow(0.3, *CLAUDE_PIECES[:2], 0.15, *CLAUDE_PIECES[2:])
    bench = bench_of({"a": slow(5), "c": silent}, keep_alive_comment=0.05)
    body = bench.run()
    first = body.index(b"data:")
    assert body[:first].count(b": ping\n\n") >= 3 and b": ping\n\n" in body[first:]
    assert body.count(b'"content":"hi"') == 1 and body.endswith(DONE)


def test_answers_that_are_not_streamed_race_as_well():
    whole = json.dumps(
        {
            "id": "m", "type": "message", "role": "assistant", "model": "x",
            "content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn",
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }
    ).encode()  # fmt: skip
    bench = bench_of(
        {
            "a": lambda: FakeResponse(headers=JSON, pieces=[5, b"{}"]),
            "c": lambda: FakeResponse(headers=JSON, pieces=[whole]),
        }
    )
    bench.run(stream=False)
    assert json.loads(bench.sink.whole)["choices"][0]["message"]["content"] == "hi"
    assert bench.record.outcome == "complete" and let_go(bench, 0)


@pytest.mark.parametrize("bound", [{"x-auth-id": "a"}, {"authorization": "Bearer a"}])
def test_nobody_is_asked_beside_a_named_or_own_key(bound):
    bench = bench_of({"a": slow(0.2), "c": claude})
    assert bench.run(headers=bound) == EVENT + EVENT + DONE and bench.used == ["a"]


def test_a_loser_is_no_failure_of_its_key_and_gives_its_place_back():
    bench = bench_of({"a": slow(5), "c": claude})
    entry = KeyEntry(id="a", val="a", max_concurrent=1)
    openai = OpenAI(api_url="http://openai", api_keys=[entry])
    config = Config(openai=openai, claude=bench.config.claude)
    bench.pool = bench.exchange.pool = KeyPool(config, SharedState())
    for _ in range(3):
        bench.sink = FakeSink()
        bench.run()
    assert bench.used == ["a", "c"] * 3
    (one,) = (row for row in bench.pool.key_statuses() if row.id == "a")
    assert (one.state, one.last_status) == ("awake", 0)


def test_a_shutdown_ends_both_and_is_told():
    async def main():
        bench = bench_of({"a": slow(60), "c": slow(60)})
        asking = asyncio.create_task(bench.ask())
        await asyncio.sleep(0.15)
        bench.exchange.calls.end_all()
        with pytest.raises(Exception, match="shutting down"):
            await asking
        assert let_go(bench, 0) and let_go(bench, 1) and len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_a_fault_of_ours_in_either_comes_out(caplog):
    def broken():
        raise ZeroDivisionError

    for answers in ({"a": broken}, {"a": slow(5), "c": broken}):
        with caplog.at_level(logging.ERROR), pytest.raises(ZeroDivisionError):
            bench_of(answers).run()
