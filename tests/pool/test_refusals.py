"""Why keys are refused is told to every caller, not to the first one alone."""

import asyncio
import json
from time import time

import msgspec
import pytest

from app.fronts.openai_chat.errors import error_body
from app.pool import cooldown_store
from app.pool.key_pool import KeyPool
from app.pool.outcomes import Outcome
from app.state.shared_table import SharedState
from app.telemetry.redaction import redact
from app.wire.errors import GatewayError
from tests.engine.fakes import FakeResponse
from tests.engine.test_failover import JSON, Bench, good
from tests.engine.test_reverse_proxy import ForwardBench, ForwardSink
from tests.pool.pool_bench import POOL, PoolBench, is_down

WORDS = "Your account is not active, please check your billing details"


def refusal(status, words=WORDS, code="x"):
    body = json.dumps({"error": {"message": words, "type": "t", "param": None, "code": code}})
    return FakeResponse(status, JSON, [body.encode()])


def told(error):
    return json.loads(error_body(error))["error"]


KINDS = pytest.mark.parametrize(
    ("status", "code", "told_status", "type", "told_code"),
    [
        (401, "invalid_api_key", 401, "authentication_error", "keys_refused"),
        (403, "x", 403, "permission_error", "keys_refused"),
        (402, "x", 402, "insufficient_quota", "keys_spent"),
        (429, "insufficient_quota", 429, "insufficient_quota", "keys_spent"),
    ],
)


@KINDS
@pytest.mark.parametrize("keys", ["a", "ab", "abcde"])
def test_all_callers_hear_the_status_and_the_words(
    keys, status, code, told_status, type, told_code
):
    bench = Bench(dict.fromkeys(keys, lambda: refusal(status, code=code)))
    for _ in range(2):  # a 403 alone is forgiven
        assert WORDS in bench.fail().message
    for _ in range(3):
        bench.move_to_another_worker()
        bench.used.clear()
        error = bench.fail()
        assert not bench.used
        assert (error.status, error.code) == (told_status, told_code)
        assert f"HTTP {status}: {WORDS}" in error.message
        assert told(error)["type"] == type and 0 < error.retry_after <= 1800
        assert bench.record.outcome == told_code


@KINDS
def test_a_forward_says_the_same(status, code, told_status, type, told_code):
    bench = ForwardBench(dict.fromkeys("ab", lambda: refusal(status, code=code)))
    for _ in range(2 if status == 403 else 1):  # one alone is forgiven
        bench.sink = ForwardSink()
        asyncio.run(bench.ask())
        assert bench.sink.status == status
    bench.move_to_another_worker()
    bench.sink = ForwardSink()
    with pytest.raises(GatewayError) as caught:
        asyncio.run(bench.ask())
    assert (caught.value.status, caught.value.code) == (told_status, told_code)
    assert f"HTTP {status}: {WORDS}" in caught.value.message


def test_a_named_key_tells_its_own_reason():
    bench = Bench({"a": lambda: refusal(401, "no such key"), "b": good})
    asked = {"headers": {"x-auth-id": "a"}}
    assert "no such key" in bench.fail(**asked).message
    error = bench.fail(**asked)
    assert (error.status, error.code) == (401, "key_cooling")
    assert "HTTP 401: no such key" in error.message


def test_what_the_servers_fail_at_stays_a_503_with_their_words():
    bench = Bench(dict.fromkeys("ab", lambda: refusal(500, "The engine is on fire")))
    bench.fail()
    bench.fail()
    bench.move_to_another_worker()
    error = bench.fail()
    assert (error.status, error.code, error.type) == (503, "upstream_down", "server_error")
    assert "HTTP 500: The engine is on fire" in error.message


def test_keys_that_cool_for_different_reasons_are_a_429():
    bench = PoolBench(2)
    bench.call(Outcome.AUTH, "0")
    bench.call(Outcome.SPENT, "1")
    with pytest.raises(GatewayError) as caught:
        bench.begin()
    assert (caught.value.status, caught.value.code) == (429, "all_keys_cooling")


def test_a_disabled_key_beside_refused_ones_hides_no_reason():
    bench = PoolBench(2)
    bench.call(Outcome.AUTH, "0")
    bench.pool.disable(POOL, "1")
    with pytest.raises(GatewayError) as caught:
        bench.begin()
    assert caught.value.status == 401


def test_another_host_and_a_restart_know_the_status_but_no_words():
    bench = Bench(dict.fromkeys("ab", lambda: refusal(402)))
    bench.fail()
    state = SharedState()
    pool = KeyPool(bench.config, state)
    for cooldown in cooldown_store.export(bench.state):
        assert cooldown_store.merge(
            state,
            msgspec.json.decode(msgspec.json.encode(cooldown), type=cooldown_store.Cooldown),
            time(),
        )
    with pytest.raises(GatewayError) as caught:
        pool.pick(POOL)
    assert (caught.value.status, caught.value.code) == (402, "keys_spent")
    assert "HTTP 402" in caught.value.message and WORDS not in caught.value.message


SECRET = "sk-proj-abcdefgh12345678"


def test_no_piece_of_a_key_is_told():
    redact.learn([SECRET])
    for quoted in (SECRET, SECRET[:9] + "****5678", "sk-x***", "abc…… wxyz", "•••• 5678"):
        bench = Bench({"a": lambda said=quoted: refusal(401, f"Incorrect key: {said}. Look.")})
        for _ in range(2):
            message = bench.fail().message
            assert "Incorrect key" in message and "[secret]" in message
            assert not any(part in message for part in ("proj-", "sk-x", "abc", "•", "…", "***"))


def test_words_are_short_and_one_line():
    assert redact.words("a\n b\t" + "x" * 5000) == "a b " + "x" * 235
    state = SharedState()
    state.set_refusal(3, "\u00e9" * 400)
    assert state.refusal(3) == "\u00e9" * 128
    state.set_refusal(3, "no\ud83d half")
    assert state.refusal(3) == "no half"
    state.set_refusal(3, "")
    assert state.refusal(3) == "" == state.refusal(4)


def refused(bench, id="0"):
    return next(one.refused for one in bench.pool.key_statuses() if one.id == id)


@pytest.mark.parametrize("outcome", [Outcome.AUTH, Outcome.FORBIDDEN])
@pytest.mark.parametrize("keys", [1, 3])
def test_a_refused_key_says_so_until_it_is_answered(outcome, keys):
    bench = PoolBench(keys)
    assert not refused(bench)
    bench.call(outcome, "0")
    bench.sleep(3600)  # long due
    assert refused(bench) and not any(refused(bench, str(n)) for n in range(1, keys))
    bench.call(Outcome.UPSTREAM, "0")  # a probe that told nothing
    assert refused(bench) or outcome is Outcome.FORBIDDEN
    bench.sleep(3600)
    bench.call(Outcome.OK, "0")
    assert not refused(bench)


def test_all_keys_behind_an_open_breaker_are_refused_until_one_is_answered():
    bench = PoolBench(2)
    for id in "01":
        bench.call(Outcome.AUTH, id)
    assert is_down(bench.pool)
    bench.sleep(3600)
    assert refused(bench, "0") and refused(bench, "1")
    for id in "01":
        bench.call(Outcome.OK, id)
    assert not refused(bench, "0") and not refused(bench, "1")


def test_a_key_that_is_slow_or_spent_is_not_refused():
    for outcome in (Outcome.LIMITED, Outcome.SPENT, Outcome.UPSTREAM, Outcome.REQUEST):
        bench = PoolBench(1)
        bench.call(outcome, "0")
        assert not refused(bench)
