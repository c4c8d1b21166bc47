"""The lock between processes."""

import os
import subprocess
import sys
import time

import pytest

from app.state.process_lock import ProcessLock
from tests.server.running import ROOT

_HOLDER = """
import os, sys
from app.state.process_lock import ProcessLock
lock = ProcessLock(os.open(sys.argv[1], os.O_RDWR))
print(lock.acquire_now(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def file(tmp_path):
    descriptor = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def holder(file, tmp_path):
    """Another process that holds the lock on the first byte."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path / "lock")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout.readline() == b"True\n"
        yield process
        process.kill()


def test_one_process_has_it_and_its_death_frees_it(file, holder):
    lock = ProcessLock(file)
    assert not lock.acquire_now()
    assert ProcessLock(file, offset=1).acquire_now()  # another byte is another lock
    holder.kill()
    holder.wait()
    assert lock.acquire_now()


def test_a_lock_whose_holder_was_stopped_is_not_waited_for_for_ever(file, holder):
    began = time.monotonic()
    with ProcessLock(file, wait_seconds=0.05, poll_seconds=0.001):
        assert 0.05 <= time.monotonic() - began < 5
