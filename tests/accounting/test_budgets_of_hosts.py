"""Two hosts and one budget: what is spent on one counts on the other, through a real Redis."""

import asyncio
import shutil

import pytest

from app.auth.token_limits import TokenLimits, limited
from app.config.schema import AccessToken
from app.pool.redis_sync import RedisSync
from app.state.shared_table import SharedState
from app.state.spending import Spending
from app.wire.errors import GatewayError
from tests.accounting.test_budgets import VAL, Bench, settle, token
from tests.server.test_two_hosts import Redis

pytestmark = pytest.mark.skipif(
    not shutil.which("redis-server"), reason="redis-server not found: apt install redis-server"
)


@pytest.fixture
def redis(tmp_path):
    started = Redis(tmp_path / "redis")
    yield started
    started.kill()


class Host:
    """A host's shared memory, its budgets, and the sync of whichever worker leads."""

    def __init__(self, url: str, of: AccessToken, state: SharedState | None = None) -> None:
        self.url, self.state = url, state or SharedState()
        self.bench = Bench(of, self.state)
        self.limited = limited([of], self.state)

    async def sync(self) -> bool:
        """One round of a worker that has just begun to lead."""
        leader = RedisSync(self.url, self.state, lambda: self.limited)
        try:
            return await leader.sync()
        finally:
            await leader.close()

    def may_call(self) -> bool:
        try:
            settle(self.bench.budgets, self.bench.begin(0, 1)[0])
        except GatewayError:
            return False
        return True


@pytest.fixture
def now(monkeypatch):
    """The clock of the sync, which is the one of the benches."""
    monkeypatch.setattr("app.pool.redis_sync.time.time", lambda: Bench(token()).now)


def run(*rounds):
    async def all_of_them():
        return [await each() for each in rounds]

    return asyncio.run(all_of_them())


def test_what_one_host_spends_is_gone_for_all(redis, now):
    limit = token(tokens=100, per="day")
    one, other = Host(redis.url, limit), Host(redis.url, limit)
    one.bench.call(60, 0)
    other.bench.call(39, 0)
    assert run(one.sync, other.sync, one.sync, one.sync, other.sync) == [True] * 5
    assert one.may_call() and other.may_call()
    other.bench.call(1, 0)
    assert not other.may_call()
    run(other.sync, one.sync)
    assert not one.may_call()
    redis.kill()
    assert run(one.sync) == [False]
    assert not one.may_call() and not other.may_call()
    redis.start()  # empty
    run(one.sync, other.sync, one.sync)
    assert not one.may_call() and not other.may_call()


def test_a_host_that_is_gone_has_spent_what_it_had_and_one_that_comes_back_no_more(redis, now):
    limit = token(tokens=100)
    one, other = Host(redis.url, limit), Host(redis.url, limit)
    one.bench.call(50, 0)
    run(one.sync, other.sync)
    replaced = Host(redis.url, limit)  # without the file of its state
    run(replaced.sync)
    replaced.bench.call(49, 0)
    run(replaced.sync, other.sync)
    assert other.may_call()
    returned = SharedState()
    returned.host = one.state.host  # its file was of a moment before it spent anything
    again = Host(redis.url, limit, returned)
    run(again.sync)
    (spent,) = Spending(returned).own()
    assert [tokens for _, tokens, _ in spent.periods] == [50, 50, 50]
    assert again.may_call()
    other.bench.call(1, 0)
    run(other.sync, again.sync)
    assert not again.may_call()


def test_the_rates_of_tokens_are_shared_too(redis):
    limit = AccessToken(id="alice", val=VAL, rpm=3)
    one, other = Host(redis.url, limit), Host(redis.url, limit)
    limits = [TokenLimits(host.state) for host in (one, other)]
    assert [each.enter(limit) for each in (limits[0], limits[0], limits[1])] == [0.0] * 3
    run(one.sync, other.sync)
    assert limits[1].enter(limit) > 0
