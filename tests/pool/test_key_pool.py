"""Which credential answers, and what an operator sees and does."""

from collections import Counter

import pytest

from app.config.schema import Config, KeyEntry, OpenAI
from app.pool.key_pool import KeyPool, row_name
from app.pool.lease import KeysTried
from app.pool.outcomes import Outcome
from app.state.shared_table import COOLDOWN_UNTIL, FIELDS, SharedState
from app.wire.errors import GatewayError
from tests.pool.pool_bench import POOL, PoolBench


def pool_of(count, state=None):
    keys = [KeyEntry(id=str(n), val=f"sk-{n}") for n in range(count)]
    return KeyPool(Config(openai=OpenAI(api_keys=keys)), state or SharedState())


def cool(state, id):
    row = state.row(row_name(POOL, id, "https://api.openai.com"))
    state.cells[row * FIELDS + COOLDOWN_UNTIL] = 4e9


def test_random_is_uniform():
    pool = pool_of(4)
    counts = Counter(pool.pick(POOL).key.id for _ in range(4000))
    assert set(counts) == {"0", "1", "2", "3"}
    assert all(850 < n < 1150 for n in counts.values())


def test_a_cooling_key_is_passed_over():
    state = SharedState()
    pool = pool_of(3, state)
    cool(state, "1")
    assert {pool.pick(POOL).key.id for _ in range(200)} == {"0", "2"}


def test_a_cooldown_stays_with_its_key_when_the_list_is_reordered():
    state = SharedState()
    pool_of(3, state)
    cool(state, "1")
    keys = [KeyEntry(id=n, val=f"sk-{n}") for n in ("new", "2", "1", "0")]
    reordered = KeyPool(Config(openai=OpenAI(api_keys=keys)), SharedState(state.handles))
    assert {reordered.pick(POOL).key.id for _ in range(300)} == {"new", "2", "0"}


def test_an_id_is_never_answered_by_another_key():
    with pytest.raises(GatewayError) as caught:
        pool_of(2).pick(POOL, "9")
    assert caught.value.code == "unknown_auth_id"


def test_no_error_and_no_repr_holds_a_key():
    key = pool_of(1).pick(POOL).key
    assert "sk-0" not in repr(key) and "sk-0" not in f"{key}"


def test_all_cooling_tells_the_soonest_end_and_why():
    bench = PoolBench(3)
    bench.call(Outcome.SPENT, "0")
    bench.call(Outcome.LIMITED, "1", retry_after=7)
    bench.call(Outcome.AUTH, "2")
    with pytest.raises(GatewayError) as caught:
        bench.begin()
    error = caught.value
    assert (error.status, error.retry_after) == (429, pytest.approx(7))
    assert "1 refused" in error.message and "1 spent" in error.message


def test_each_key_is_tried_once_in_a_call():
    bench = PoolBench(3)
    tried = set()
    for _ in range(3):
        tried.add(bench.begin(tried=tried).key.id)
    assert tried == {"0", "1", "2"}
    with pytest.raises(KeysTried):
        bench.begin(tried=tried)


def test_a_cooling_key_is_not_used_even_when_it_is_named():
    bench = PoolBench(2)
    bench.call(Outcome.AUTH, "1")
    with pytest.raises(GatewayError) as caught:
        bench.begin("1")
    assert (caught.value.status, caught.value.code) == (401, "key_cooling")


def test_a_disabled_key_is_not_used_until_it_is_reset():
    bench = PoolBench(1)
    assert bench.pool.disable(POOL, "0") and not bench.pool.disable(POOL, "nobody")
    bench.sleep(10**6)
    with pytest.raises(GatewayError) as caught:
        bench.begin()
    assert caught.value.retry_after == 1800 and "disabled" in caught.value.message
    assert [one.state for one in bench.pool.key_statuses()] == ["disabled"]
    assert bench.pool.reset(POOL, "0") and bench.wait() == 0


def test_key_statuses_tell_state_and_reason():
    bench = PoolBench(3)
    bench.call(Outcome.AUTH, "0")
    bench.call(Outcome.OK, "1")
    statuses = {one.id: (one.state, one.why) for one in bench.pool.key_statuses()}
    assert statuses == {"0": ("resting", "refused"), "1": ("awake", ""), "2": ("awake", "")}
    bench.sleep(10.1)
    assert bench.pool.key_statuses()[0].state == "due"
    bench.begin("0")
    assert bench.pool.key_statuses()[0].state == "probing"
