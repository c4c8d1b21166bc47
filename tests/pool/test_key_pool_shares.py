"""A key whose cooldown is over has its probe soon and its fair share of calls again."""

import random
from collections import Counter

import pytest

from app.config.schema import Config, KeyEntry, OpenAI
from app.pool.outcomes import Outcome
from app.wire.errors import GatewayError
from tests.pool.pool_bench import POOL, PoolBench

CALLS_PER_SECOND = 40


@pytest.fixture(autouse=True)
def same_draws_every_time():
    random.seed(11)


class Fleet:
    """Several workers that answer in lease, each with a pool on the same memory."""

    def __init__(self, keys, workers):
        self.bench = PoolBench(keys)
        self.workers = [self.bench.worker() for _ in range(workers)]
        self.calls = 0

    def call(self, model="m", outcome=Outcome.OK):
        self.bench.sleep(1 / CALLS_PER_SECOND)
        pool = self.workers[self.calls % len(self.workers)]
        self.calls += 1
        # As the exchange does it: the quick way, and the careful one where that says no.
        lease = pool.quick(POOL, model, float(self.calls))
        if lease is None:
            lease = pool.pick(POOL, model=model, call=float(self.calls))
        pool.report(lease, outcome, 200)
        pool.release(lease)
        return lease.key.id

    def share(self, id, calls, model="m"):
        return Counter(self.call(model) for _ in range(calls))[id] / calls


SIZES = pytest.mark.parametrize(
    ("keys", "workers", "calls"), [(3, 1, 300), (3, 4, 300), (50, 1, 300), (50, 4, 3000)]
)


@SIZES
@pytest.mark.parametrize("outcome", [Outcome.LIMITED, Outcome.AUTH, Outcome.SPENT])
def test_a_key_that_cooled_has_its_share_again(keys, workers, calls, outcome):
    fleet = Fleet(keys, workers)
    fleet.bench.call(outcome, "0", retry_after=5)
    assert fleet.share("0", 20) == 0
    fleet.bench.sleep(5)
    waited = next(n for n in range(1000) if fleet.call() == "0")
    if keys == 3:
        assert waited < 2 * CALLS_PER_SECOND
    assert fleet.share("0", calls) == pytest.approx(1 / keys, rel=0.2)


@SIZES
def test_and_so_it_is_for_each_model(keys, workers, calls):
    fleet = Fleet(keys, workers)
    fleet.bench.call(Outcome.LIMITED, "0", "slow", retry_after=60)
    fleet.bench.call(Outcome.LIMITED, "0", "m", retry_after=5)
    fleet.bench.sleep(6)
    assert fleet.share("0", 200, "slow") == 0
    assert fleet.share("0", calls, "other") == pytest.approx(1 / keys, rel=0.2)
    assert any(fleet.call("m") == "0" for _ in range(1000))
    assert fleet.share("0", calls, "m") == pytest.approx(1 / keys, rel=0.2)


@SIZES
def test_what_a_cooling_key_cannot_serve_is_shared_by_all_others(keys, workers, calls):
    fleet = Fleet(keys, workers)
    fleet.bench.call(Outcome.AUTH, "0", retry_after=1800)
    served = Counter(fleet.call() for _ in range(calls * 4))
    assert "0" not in served and len(served) == keys - 1
    even = calls * 4 / (keys - 1)
    assert all(0.5 * even < count < 1.5 * even for count in served.values())


def test_a_key_with_limits_among_others_without_has_its_share():
    bench = PoolBench(3)
    keys = [KeyEntry(id="0", val="sk-0", rpm=1_000_000), *bench.config.openai.api_keys[1:]]
    bench.config = Config(openai=OpenAI(api_keys=keys))
    bench.pool = bench.worker()
    served = Counter()
    for _ in range(900):
        lease = bench.pool.quick(POOL, "m", 1.0) or bench.pool.pick(POOL, model="m", call=1.0)
        served[lease.key.id] += 1
        bench.pool.release(lease)
    assert served["0"] == pytest.approx(300, rel=0.2)


def test_available_keys_take_the_quick_way_while_another_cools():
    bench = PoolBench(50)
    bench.call(Outcome.AUTH, "0", retry_after=1800)
    leases = [bench.pool.quick(POOL, "m") for _ in range(1000)]
    assert leases.count(None) == 20  # one draw of fifty: its own


def test_a_probe_under_way_is_left_alone_by_the_quick_way():
    bench = PoolBench(2)
    bench.call(Outcome.AUTH, "0", retry_after=5)
    bench.sleep(5.1)
    leases = [bench.pool.quick(POOL, "m", 2.0) for _ in range(40)]
    probes = [lease for lease in leases if lease is not None and lease.claims]
    assert [lease.key.id for lease in probes] == ["0"]
    bench.end(probes[0], Outcome.AUTH)
    with pytest.raises(GatewayError):
        bench.begin("0")
