"""The folder of HAR files: what a scan adds and removes, and which worker logs it."""

import asyncio
import errno
import logging

import pytest

from app.config.schema import Config
from app.pool.key_pool import KeyPool
from app.pool.web_sessions import Sessions
from app.process import har_folder
from app.process.har_folder import POOL, HarFolder
from app.state.shared_table import SharedState
from app.wire.provider import Key
from providers.openai.har import Found


class Folder:
    """HAR files whose reading is played."""

    def __init__(self, tmp_path, leads=True):
        self.leads, self.path = leads, tmp_path
        self.broken = set()
        self.pool = KeyPool(Config(), SharedState())
        self.kept = Sessions(self.pool, tmp_path / "kept")
        self.folder = HarFolder(self.kept, str(tmp_path), lambda: self.leads, self.read)

    async def read(self, path):
        if path.name in self.broken:
            raise BlockingIOError(errno.EAGAIN, "no process can be started")
        return Found(val=f"secret-of-{path.name}")

    def add(self, name):
        (self.path / name).write_text("{}")
        (self.path / name).chmod(0o600)

    def scan(self):
        asyncio.run(self.folder.scan())

    @property
    def sessions(self):
        return {key.id for key in self.pool.web_sessions() if key.pool == POOL}


def test_a_file_that_cannot_be_read_now_keeps_no_other_out_and_is_tried_again(tmp_path):
    folder = Folder(tmp_path)
    for name in ("a.har", "b.har", "c.har"):
        folder.add(name)
    folder.broken = {"a.har", "b.har"}
    with pytest.raises(BlockingIOError):  # told by the one who repeats it
        folder.scan()
    assert folder.sessions == {"c.har"}
    folder.broken.clear()
    folder.scan()
    assert folder.sessions == {"a.har", "b.har", "c.har"}


def test_the_watch_itself_goes_on_after_a_failure(tmp_path, monkeypatch, caplog):
    folder = Folder(tmp_path)
    folder.add("a.har")
    folder.broken = {"a.har"}
    monkeypatch.setattr(har_folder, "SCAN_SECONDS", 0.001)

    async def main():
        running = asyncio.create_task(folder.folder.run())
        while not caplog.text:
            await asyncio.sleep(0.001)
        folder.broken.clear()
        while not folder.sessions:
            assert not running.done()
            await asyncio.sleep(0.001)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())


def test_who_comes_to_lead_says_what_was_found_before(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    folder = Folder(tmp_path, leads=False)
    folder.add("a.har")
    folder.scan()
    assert not caplog.records  # the leader says it
    folder.leads = True
    folder.scan()
    assert [record.message for record in caplog.records] == [
        f"the HAR file {tmp_path / 'a.har'} is a web session now"
    ]
    folder.scan()
    assert len(caplog.records) == 1


def test_what_the_leader_has_said_meanwhile_is_not_said_again(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(har_folder, "KEEP_LINES_SECONDS", 0.0)
    folder = Folder(tmp_path, leads=False)
    folder.add("a.har")
    folder.kept.adopt([Key(POOL, "a.har", "x" * 20, {})])
    folder.scan()
    folder.leads = True
    folder.scan()
    assert not caplog.records
