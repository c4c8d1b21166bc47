"""The leader's work survives what goes wrong in it, or another worker does it."""

import asyncio
import errno
import os

import pytest

from app.pool import cooldown_store
from app.pool.leader import LeaderTasks
from app.pool.outcomes import Outcome
from app.state.shared_table import SharedState
from tests.pool.pool_bench import POOL, PoolBench


class State(SharedState):
    """Tells whether the leader lock is held."""

    held = False

    def acquire_leadership(self):
        self.held = True
        return True

    def release_leadership(self):
        self.held = False


class BrokenSync:
    async def sync(self):
        raise ValueError("not what was expected")

    async def close(self):
        pass


def leader_at(path, sync=None):
    bench = PoolBench(1, state_path=str(path))
    state = State(bench.state.handles)
    return LeaderTasks(bench.config, state, bench.pool, sync, bench.clock), state, bench


def run(leader, seconds=0.02):
    async def main():
        running = asyncio.create_task(leader.run())
        await asyncio.sleep(seconds)
        leads, alive = leader.leads, not running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return leads, alive

    return asyncio.run(main())


def test_a_leader_that_cannot_do_its_work_lets_another_lead_and_tries_again(tmp_path, caplog):
    leader, state, _ = leader_at(tmp_path / "rests.json", BrokenSync())
    assert run(leader) == (False, True)
    assert not state.held
    assert "tried again" in caplog.text and "not what was expected" in caplog.text


def test_a_leader_that_leaves_lets_another_lead_at_once(tmp_path):
    leader, state, _ = leader_at(tmp_path / "rests.json")
    assert run(leader) == (True, True)
    assert not state.held and not leader.leads


def test_a_cooldown_is_saved_within_a_second_and_at_the_end(tmp_path):
    path = tmp_path / "rests.json"
    leader, _, bench = leader_at(path)
    bench.sleep(0.5)
    bench.call(Outcome.SPENT, "0")
    asyncio.run(leader.work())
    assert not path.exists()
    bench.sleep(0.5)
    asyncio.run(leader.work())
    assert cooldown_store.load(SharedState(), path, bench.clock()) == 1
    path.unlink()
    bench.sleep(2)
    asyncio.run(leader.work())
    asyncio.run(leader.close())
    assert not path.exists()  # nothing has changed since
    bench.pool.reset(POOL, "0")
    asyncio.run(leader.close())
    assert path.exists()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOSPC])
def test_only_what_is_this_workers_own_trouble_costs_it_the_lead(tmp_path, monkeypatch, number):
    def save(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(cooldown_store, "save", save)
    leader, state, bench = leader_at(tmp_path / "rests.json")
    bench.sleep(2)
    bench.call(Outcome.SPENT, "0")
    if number == errno.EMFILE:
        with pytest.raises(OSError):
            asyncio.run(leader.work())
    else:
        asyncio.run(leader.work())
    assert state.held is leader.leads is (number == errno.ENOSPC)
