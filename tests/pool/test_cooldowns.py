"""When a cooldown begins, how long it is, and who ends it."""

import subprocess

import pytest

from app.config.schema import Config, Coze, CozeDiscord, KeyEntry, OpenAI
from app.pool.key_pool import KeyPool
from app.pool.outcomes import Outcome
from app.state.shared_table import PROBE_PID, SharedState
from app.wire.errors import GatewayError
from tests.pool.pool_bench import POOL, PoolBench


@pytest.mark.parametrize(
    ("outcome", "times", "cooldowns"),
    [
        # Each is twice the one before, up to the longest.
        (Outcome.AUTH, 1, [10, 20, 40, 80, 160, 320, 600, 600]),
        (Outcome.FORBIDDEN, 2, [10, 20, 40, 80, 160, 320, 600, 600]),
        (Outcome.SPENT, 1, [1800, 3600, 7200, 14400, 28800, 43200, 43200]),
        (Outcome.LIMITED, 1, [10, 20, 40, 80, 160, 300, 300]),
        (Outcome.UPSTREAM, 2, [2, 2, 2]),
    ],
)
def test_each_failure_has_its_cooldown_and_its_doubling(outcome, times, cooldowns):
    bench = PoolBench(1)
    for _ in range(times - 1):
        bench.call(outcome, "0")
        assert bench.wait() == 0
    for seconds in cooldowns:
        bench.call(outcome, "0")
        assert bench.wait() == seconds
        bench.sleep(seconds - 0.01)
        assert bench.wait() > 0
        bench.sleep(0.02)
    bench.call(Outcome.OK, "0")  # one success, and it begins anew
    for _ in range(times):
        bench.call(outcome, "0")
    assert bench.wait() == cooldowns[0]


@pytest.mark.parametrize("outcome", [Outcome.OK, Outcome.REQUEST, Outcome.CUT, Outcome.GONE])
def test_what_is_not_the_keys_fault_has_no_cooldown(outcome):
    bench = PoolBench(1)
    for _ in range(5):
        bench.call(outcome, "0")
    assert bench.wait() == 0


@pytest.mark.parametrize("outcome", [Outcome.LIMITED, Outcome.SPENT])
def test_one_spent_account_of_the_discord_bridge_stops_no_other(outcome):
    coze = Coze(discord=CozeDiscord(enable=True, chat_bot_token="t" * 20))
    pool = KeyPool(Config(coze=coze), SharedState())
    for call in (1.0, 2.0):
        lease = pool.pick("coze.discord", None, model="m", call=call)
        pool.report(lease, outcome, 429, 3600.0)
        pool.release(lease)
    pool.release(pool.pick("coze.discord", None, model="m", call=3.0))


@pytest.mark.parametrize("first", [Outcome.FORBIDDEN, Outcome.UPSTREAM])
def test_two_failures_in_a_row_are_not_two_with_a_success_between(first):
    bench = PoolBench(1)
    for _ in range(3):
        bench.call(first, "0")
        bench.call(Outcome.OK, "0")
    assert bench.wait() == 0


def test_429_cools_the_key_for_that_model_only():
    bench = PoolBench(1)
    bench.call(Outcome.LIMITED, "0", "gpt-4o")
    assert bench.wait(model="gpt-4o") == 10 and bench.wait(model="gpt-4o-mini") == 0


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [(7, 7), (0.25, 0.25), (0, 0.1), (99_999, 1800), (float("inf"), 10), (float("nan"), 10),
     (-3, 10), (None, 10)],
)  # fmt: skip
def test_retry_after_is_obeyed_within_reason(asked, seconds):
    bench = PoolBench(1)
    bench.call(Outcome.LIMITED, "0", retry_after=asked)
    assert bench.wait() == pytest.approx(seconds)


def test_failures_that_were_on_their_way_are_one_incident():
    bench = PoolBench(1)
    leases = [bench.begin("0") for _ in range(20)]
    for lease in leases:
        bench.end(lease, Outcome.LIMITED)
    assert bench.wait() == 10
    late = [bench.begin("0", "other") for _ in range(2)]
    bench.end(late[0], Outcome.LIMITED, 5)
    bench.end(late[1], Outcome.LIMITED, 8)
    assert bench.wait(model="other") == 8


def test_a_success_that_began_before_the_cooldown_does_not_end_it():
    bench = PoolBench(1)
    early = bench.begin("0")
    bench.sleep(1)
    bench.call(Outcome.AUTH, "0")
    bench.end(early, Outcome.OK)
    assert bench.wait() == 10


def test_when_a_cooldown_ends_one_request_of_all_workers_is_the_probe():
    bench = PoolBench(1)
    bench.call(Outcome.AUTH, "0")
    others = [bench.worker() for _ in range(3)]
    bench.sleep(10.1)
    probe = others[0].pick(POOL, model="m")
    for pool in (bench.pool, *others) * 50:
        with pytest.raises(GatewayError) as caught:
            pool.pick(POOL, model="m")
        assert (caught.value.code, caught.value.retry_after) == ("keys_refused", 1.0)
    others[0].report(probe, Outcome.OK, 200)
    others[0].release(probe)
    assert {others[1].pick(POOL).key.id for _ in range(9)} == {"0"}


def test_a_probe_whose_caller_left_leaves_its_place_to_the_next():
    bench = PoolBench(1)
    bench.call(Outcome.AUTH, "0")
    bench.sleep(10.1)
    bench.call(Outcome.GONE, "0")
    assert bench.begin("0").claims


def test_a_probe_that_never_answers_is_not_waited_for_for_ever():
    bench = PoolBench(1)
    bench.call(Outcome.AUTH, "0")
    bench.sleep(10.1)
    bench.begin("0")
    bench.sleep(39)
    assert bench.wait() == 1
    bench.sleep(2)
    assert bench.begin("0").claims


def test_a_probe_of_a_killed_worker_is_taken_over_at_once():
    bench = PoolBench(1)
    bench.call(Outcome.AUTH, "0")
    bench.sleep(10.1)
    lease = bench.begin("0")
    gone = subprocess.Popen(["true"])
    gone.wait()
    bench.state.cells[lease.claims[0] + PROBE_PID] = gone.pid
    assert bench.begin("0").claims


def test_a_probe_that_fails_cools_longer_and_a_good_one_ends_it():
    bench = PoolBench(1)
    bench.call(Outcome.LIMITED, "0")
    bench.sleep(10.1)
    bench.call(Outcome.LIMITED, "0")
    assert bench.wait() == 20
    bench.sleep(20.1)
    bench.call(Outcome.UPSTREAM, "0")  # says nothing about the limit
    bench.call(Outcome.OK, "0")
    assert bench.wait() == 0


def test_a_replaced_secret_does_not_cool_for_what_the_old_one_did():
    bench = PoolBench(1)
    bench.call(Outcome.AUTH, "0")
    assert (
        KeyPool(bench.config, SharedState(bench.state.handles), bench.clock) and bench.wait() == 10
    )
    bench.config = Config(openai=OpenAI(api_keys=[KeyEntry(id="0", val="sk-new")]))
    bench.pool = bench.worker()
    assert bench.wait() == 0


def cool_for_two_models(bench):
    for model in ("one", "two"):
        bench.call(Outcome.LIMITED, "0", model, retry_after=900)
        assert bench.wait(model=model) == 900


def limit_again(bench):
    """Cools the key for one model; what the other one had must not come back with it."""
    bench.call(Outcome.LIMITED, "0", "one")
    assert bench.wait(model="one") == 10 and bench.wait(model="two") == 0


def test_a_replaced_secret_does_not_cool_for_the_models_of_the_old_one():
    bench = PoolBench(1)
    cool_for_two_models(bench)
    bench.config = Config(openai=OpenAI(api_keys=[KeyEntry(id="0", val="sk-new")]))
    bench.pool = bench.worker()
    limit_again(bench)


def test_a_reset_ends_the_cooldowns_of_a_key_for_each_model():
    bench = PoolBench(2)
    cool_for_two_models(bench)
    bench.call(Outcome.LIMITED, "1", "two", retry_after=900)
    assert bench.pool.reset(POOL, "0")
    limit_again(bench)
    assert bench.wait(id="1", model="two") == 900


def test_callers_model_names_cannot_fill_the_table():
    bench = PoolBench(2)
    for n in range(12_000):
        bench.call(Outcome.LIMITED, "0", f"model-{n}")
        assert bench.wait(model=f"model-{n}") == 10
    assert bench.wait(id="1", model="model-0") == 0


def test_a_caller_who_invents_models_does_not_end_its_cooldown():
    bench = PoolBench(1)
    bench.call(Outcome.AUTH, "0")
    for n in range(5000):
        with pytest.raises(GatewayError):
            bench.begin("0", f"model-{n}")
    assert bench.wait() == 10
