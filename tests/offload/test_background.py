"""What goes on beside the calls survives whatever goes wrong in it."""

import asyncio
import errno
import logging
import os

import pytest

from app.config.schema import Config
from app.offload.background import repeat
from app.pool import cooldown_store
from app.pool.key_pool import KeyPool
from app.pool.leader import LeaderTasks
from app.pool.web_sessions import Sessions
from app.process import har_folder
from app.process.har_folder import POOL, HarFolder
from app.state.reload_status import ReloadStatus
from app.state.shared_table import SharedState
from app.wire.provider import Key
from providers.openai.har import Found


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


class Folder:
    """HAR files whose reading is played."""

    def __init__(self, tmp_path, monkeypatch, leads=True):
        self.leads, self.path = leads, tmp_path
        self.broken = set()
        self.pool = KeyPool(Config(), SharedState())
        sessions = Sessions(self.pool, tmp_path / "kept")
        self.watch = HarFolder(sessions, str(tmp_path), lambda: self.leads)
        monkeypatch.setattr(self.watch, "_read", self.read)

    async def read(self, path):
        if path.name in self.broken:
            raise BlockingIOError(errno.EAGAIN, "no process can be started")
        return Found(val=f"secret-of-{path.name}")

    def add(self, name):
        (self.path / name).write_text("{}")
        (self.path / name).chmod(0o600)

    def look(self):
        asyncio.run(self.watch.scan())

    @property
    def sessions(self):
        return {key.id for key in self.pool.web_sessions() if key.pool == POOL}


def test_a_file_that_cannot_be_read_now_keeps_no_other_out_and_is_tried_again(
    tmp_path, monkeypatch
):
    folder = Folder(tmp_path, monkeypatch)
    for name in ("a.har", "b.har", "c.har"):
        folder.add(name)
    folder.broken = {"a.har", "b.har"}
    with pytest.raises(BlockingIOError):  # told by the one who repeats it
        folder.look()
    assert folder.sessions == {"c.har"}
    folder.broken.clear()
    folder.look()
    assert folder.sessions == {"a.har", "b.har", "c.har"}


def test_the_watch_itself_goes_on_after_a_failure(tmp_path, monkeypatch, caplog):
    folder = Folder(tmp_path, monkeypatch)
    folder.add("a.har")
    folder.broken = {"a.har"}
    monkeypatch.setattr(har_folder, "SCAN_SECONDS", 0.001)

    async def main():
        running = asyncio.create_task(folder.watch.run())
        while not caplog.text:
            await asyncio.sleep(0.001)
        folder.broken.clear()
        while not folder.sessions:
            assert not running.done()
            await asyncio.sleep(0.001)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())


def test_who_comes_to_lead_says_what_was_found_before(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    folder = Folder(tmp_path, monkeypatch, leads=False)
    folder.add("a.har")
    folder.look()
    assert not caplog.records  # the leader says it
    folder.leads = True
    folder.look()
    assert [record.message for record in caplog.records] == [
        f"the HAR file {tmp_path / 'a.har'} is a web session now"
    ]
    folder.look()
    assert len(caplog.records) == 1


def test_what_the_leader_has_said_meanwhile_is_not_said_again(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(har_folder, "KEEP_LINES_SECONDS", 0.0)
    folder = Folder(tmp_path, monkeypatch, leads=False)
    folder.add("a.har")
    folder.watch._sessions.adopt([Key(POOL, "a.har", "x" * 20, {})])
    folder.look()
    folder.leads = True
    folder.look()
    assert not caplog.records


def test_the_wait_for_a_reload_ends_when_the_main_process_is_gone():
    gone = os.getppid() + 1 if os.getppid() > 1 else 2**22 - 7
    outcome = asyncio.run(asyncio.wait_for(ReloadStatus().ask(gone), 1))
    assert outcome is not None and not outcome.ok and "main process is gone" in outcome.message
