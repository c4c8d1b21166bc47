"""What goes on beside the calls survives whatever goes wrong in it."""

import asyncio
import os

import pytest

from app.offload.background import repeat
from app.state.reload_status import ReloadStatus


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


def test_the_wait_for_a_reload_ends_when_the_main_process_is_gone():
    gone = os.getppid() + 1 if os.getppid() > 1 else 2**22 - 7
    outcome = asyncio.run(asyncio.wait_for(ReloadStatus().ask(gone), 1))
    assert outcome is not None and not outcome.ok and "main process is gone" in outcome.message
