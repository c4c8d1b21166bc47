"""The parts of the supervisor that need no process; tests/server starts whole gateways."""

from itertools import pairwise

import pytest

from app.config.schema import Config, Timeouts
from app.process.supervisor import RestartBackoff, reload_seconds


def restarts(backoff, seconds, step=0.5):
    """When a process that dies at once is started again, looking every `step` seconds."""
    return [at for at in _times(seconds, step) if backoff.is_due("worker-0", at)]


def _times(seconds, step):
    return [n * step for n in range(int(seconds / step))]


def test_a_crash_loop_becomes_rarer_up_to_half_a_minute():
    times = restarts(RestartBackoff(), 130)
    pauses = [after - before for before, after in pairwise(times)]
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]


def test_a_process_that_lived_for_a_while_starts_again_at_once():
    backoff = RestartBackoff()
    assert len(restarts(backoff, 10)) == 4
    assert backoff.is_due("worker-0", 100.0)
    assert not backoff.is_due("worker-0", 100.5)
    assert backoff.is_due("worker-0", 101.0)


def test_each_process_has_its_own_back_off():
    backoff = RestartBackoff()
    assert backoff.is_due("worker-0", 0.0) and backoff.is_due("worker-1", 0.1)
    assert not backoff.is_due("worker-0", 0.2)


@pytest.mark.parametrize(("drain", "total", "seconds"), [(30, 600, 600), (900, 600, 900)])
def test_a_replaced_worker_may_finish_the_longest_call(drain, total, seconds):
    config = Config(drain_seconds=drain, timeouts=Timeouts(total=total))
    assert reload_seconds(config) == seconds
