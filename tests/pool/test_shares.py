"""A key whose rest is over has its probe soon and its fair share of calls again."""

import random
from collections import Counter

import pytest

from app.config.schema import Config, KeyEntry, OpenAI
from app.pool.outcomes import Outcome
from app.wire.errors import GatewayError
from tests.pool.test_key_pool import POOL, Room

CALLS_PER_SECOND = 40


@pytest.fixture(autouse=True)
def same_draws_every_time():
    random.seed(11)


class Fleet:
    """Several workers that answer in turn, each with a pool on the same memory."""

    def __init__(self, keys, workers):
        self.room = Room(keys)
        self.workers = [self.room.worker() for _ in range(workers)]
        self.calls = 0

    def call(self, model="m", outcome=Outcome.OK):
        self.room.sleep(1 / CALLS_PER_SECOND)
        pool = self.workers[self.calls % len(self.workers)]
        self.calls += 1
        # As the exchange does it: the quick way, and the careful one where that says no.
        turn = pool.quick(POOL, model, float(self.calls))
        if turn is None:
            turn = pool.pick(POOL, model=model, call=float(self.calls))
        pool.report(turn, outcome, 200)
        pool.release(turn)
        return turn.key.id

    def share(self, id, calls, model="m"):
        return Counter(self.call(model) for _ in range(calls))[id] / calls


SIZES = pytest.mark.parametrize(
    ("keys", "workers", "calls"), [(3, 1, 300), (3, 4, 300), (50, 1, 300), (50, 4, 3000)]
)


@SIZES
@pytest.mark.parametrize("outcome", [Outcome.LIMITED, Outcome.AUTH, Outcome.SPENT])
def test_a_key_that_rested_has_its_share_again(keys, workers, calls, outcome):
    fleet = Fleet(keys, workers)
    fleet.room.call(outcome, "0", retry_after=5)
    assert fleet.share("0", 20) == 0
    fleet.room.sleep(5)
    waited = next(n for n in range(1000) if fleet.call() == "0")
    if keys == 3:
        assert waited < 2 * CALLS_PER_SECOND
    assert fleet.share("0", calls) == pytest.approx(1 / keys, rel=0.2)


@SIZES
def test_and_so_it_is_for_each_model(keys, workers, calls):
    fleet = Fleet(keys, workers)
    fleet.room.call(Outcome.LIMITED, "0", "slow", retry_after=60)
    fleet.room.call(Outcome.LIMITED, "0", "m", retry_after=5)
    fleet.room.sleep(6)
    assert fleet.share("0", 200, "slow") == 0
    assert fleet.share("0", calls, "other") == pytest.approx(1 / keys, rel=0.2)
    assert any(fleet.call("m") == "0" for _ in range(1000))
    assert fleet.share("0", calls, "m") == pytest.approx(1 / keys, rel=0.2)


@SIZES
def test_what_a_resting_key_cannot_serve_is_shared_by_all_others(keys, workers, calls):
    fleet = Fleet(keys, workers)
    fleet.room.call(Outcome.AUTH, "0", retry_after=1800)
    served = Counter(fleet.call() for _ in range(calls * 4))
    assert "0" not in served and len(served) == keys - 1
    even = calls * 4 / (keys - 1)
    assert all(0.5 * even < count < 1.5 * even for count in served.values())


def test_a_key_with_limits_among_others_without_has_its_share():
    room = Room(3)
    keys = [KeyEntry(id="0", val="sk-0", rpm=1_000_000), *room.config.openai.api_keys[1:]]
    room.config = Config(openai=OpenAI(api_keys=keys))
    room.pool = room.worker()
    served = Counter()
    for _ in range(900):
        turn = room.pool.quick(POOL, "m", 1.0) or room.pool.pick(POOL, model="m", call=1.0)
        served[turn.key.id] += 1
        room.pool.release(turn)
    assert served["0"] == pytest.approx(300, rel=0.2)


def test_awake_keys_are_not_looked_at_carefully_while_another_rests(monkeypatch):
    room = Room(50)
    room.call(Outcome.AUTH, "0", retry_after=1800)
    careful = []
    search = room.pool._search
    monkeypatch.setattr(room.pool, "_search", lambda *a: careful.append(1) or search(*a))
    for _ in range(1000):
        room.pool.pick(POOL, model="m")
    assert len(careful) < 60  # one draw of fifty


def test_a_probe_under_way_is_left_alone_by_the_quick_way():
    room = Room(2)
    room.call(Outcome.AUTH, "0", retry_after=5)
    room.sleep(5.1)
    turns = [room.pool.quick(POOL, "m", 2.0) for _ in range(40)]
    probes = [turn for turn in turns if turn is not None and turn.claims]
    assert [turn.key.id for turn in probes] == ["0"]
    room.end(probes[0], Outcome.AUTH)
    with pytest.raises(GatewayError):
        room.begin("0")
