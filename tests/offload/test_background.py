"""What goes on beside the calls survives whatever goes wrong in it."""

import asyncio
import errno
import os

import pytest

from app.config.schema import Config
from app.offload.background import repeat
from app.pool import cooldown_store
from app.pool.key_pool import KeyPool
from app.pool.leader import LeaderTasks
from app.state.reload_status import ReloadStatus
from app.state.shared_table import SharedState


class Enough(BaseException):
    pass


def repeated(failing, every=2.0):
    """The pauses that `repeat` makes when each try fails (True) or does well."""
    tries, pauses = iter(failing), []

    async def work():
        if next(tries):
            raise RuntimeError("broken")

    async def sleep(seconds):
        pauses.append(seconds)
        if len(pauses) == len(failing):
            raise Enough

    with pytest.raises(Enough):
        asyncio.run(repeat("the work", work, every, sleep))
    return pauses


def test_a_failure_is_told_once_and_tried_again_with_growing_pauses(caplog):
    pauses = repeated([False, *[True] * 8, False, True])
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60, 60, 2, 4]
    told = [record.message for record in caplog.records]
    assert told == [
        "the work failed; it is tried again",
        "the work works again",
        "the work failed; it is tried again",
    ]


def test_a_rare_work_is_not_done_more_often_because_it_fails():
    assert repeated([True, True, False], every=300.0) == [300, 300, 300]


class State(SharedState):
    held = False

    def lead(self):
        self.held = True
        return True

    def step_down(self):
        self.held = False


class BrokenMirror:
    async def sync(self):
        raise ValueError("not what was expected")

    async def close(self):
        pass


def keeper_at(path):
    config = Config(state_path=str(path))
    state = State()
    return LeaderTasks(config, state, KeyPool(config, state)), state


def turns(keeper, seconds=0.02):
    async def main():
        running = asyncio.create_task(keeper.run())
        await asyncio.sleep(seconds)
        leads, alive = keeper.leads, not running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return leads, alive

    return asyncio.run(main())


def test_a_leader_that_cannot_do_its_work_lets_another_lead_and_tries_again(tmp_path, caplog):
    keeper, state = keeper_at(tmp_path / "rests.json")
    keeper._mirror = BrokenMirror()
    assert turns(keeper) == (False, True)
    assert not state.held
    assert "tried again" in caplog.text and "not what was expected" in caplog.text


def test_a_leader_that_leaves_lets_another_lead_at_once(tmp_path):
    keeper, state = keeper_at(tmp_path / "rests.json")
    assert turns(keeper) == (True, True)
    assert not state.held and not keeper.leads


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOSPC])
def test_only_what_is_this_workers_own_trouble_costs_it_the_lead(tmp_path, monkeypatch, number):
    def save(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(cooldown_store, "save", save)
    keeper, state = keeper_at(tmp_path / "rests.json")
    keeper._saved_at = 0.0
    monkeypatch.setattr(keeper, "_is_news", lambda: True)

    async def main():
        if number == errno.EMFILE:
            with pytest.raises(OSError):
                await keeper._turn()
        else:
            await keeper._turn()

    asyncio.run(main())
    assert state.held is keeper.leads is (number == errno.ENOSPC)


def test_the_wait_for_a_reload_ends_when_the_main_process_is_gone():
    gone = os.getppid() + 1 if os.getppid() > 1 else 2**22 - 7
    outcome = asyncio.run(asyncio.wait_for(ReloadStatus().ask(gone), 1))
    assert outcome is not None and not outcome.ok and "main process is gone" in outcome.message
