"""Limits of one access token that hold across processes."""

import multiprocessing
import os
import signal
import time

from app.auth import token_limits as room
from app.auth.token_limits import TokenLimits
from app.config.schema import AccessToken
from app.state.shared_table import SharedState


def token(id="a", **limits):
    return AccessToken(id=id, val="0123456789abcdef", **limits)


TWO, TEN, FIFTY, MANY = (
    token(max_concurrent=2),
    token(rpm=10),
    token(max_concurrent=50),
    token(rpm=500),
)


def test_requests_at_a_time_are_held_and_given_back():
    limits = TokenLimits(SharedState())
    assert [limits.enter(TWO) for _ in range(3)] == [0.0, 0.0, 1.0]
    assert limits.enter(token("b", max_concurrent=2)) == 0.0
    limits.leave(TWO)
    assert limits.enter(TWO) == 0.0


def test_no_minute_holds_more_requests_than_it_may():
    clock = [6000.0]
    limits = TokenLimits(SharedState(), lambda: clock[0])
    passed = []
    for tenth in range(6000):
        clock[0] = 6000 + tenth / 10
        wait = limits.enter(TEN)
        if wait == 0.0:
            passed.append(clock[0])
        else:
            assert 0 < wait <= 66
    for start in passed:
        assert sum(start <= at < start + 60 for at in passed) <= 10
    assert len(passed) >= 90


def test_who_comes_again_after_the_time_told_is_let_in():
    clock = [6000.0]
    limits = TokenLimits(SharedState(), lambda: clock[0])
    assert [limits.enter(TEN) for _ in range(10)] == [0.0] * 10
    clock[0] += limits.enter(TEN)
    assert limits.enter(TEN) == 0.0


def test_a_refused_request_holds_nothing():
    state = SharedState()
    limits = TokenLimits(state)
    both = token(rpm=1, max_concurrent=5)
    assert limits.enter(both) == 0.0
    for _ in range(10):
        assert limits.enter(both) > 0
    limits.leave(both)
    later = TokenLimits(state)  # with another config
    assert [later.enter(token(max_concurrent=5)) for _ in range(6)] == [0.0] * 5 + [1.0]


def _take(handles, results, limit, times, hold):
    limits = TokenLimits(SharedState(handles))
    results.put(sum(limits.enter(limit) == 0.0 for _ in range(times)))
    time.sleep(hold)


def started(state, *arguments):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [
        context.Process(target=_take, args=(state.handles, results, *arguments), daemon=True)
        for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    return workers, [results.get(timeout=30) for _ in workers]


def test_all_workers_together_never_pass_the_limit_and_the_dead_give_back():
    state = SharedState(workers=4)
    limits = TokenLimits(state)
    workers, passed = started(state, FIFTY, 40, 60)
    try:
        assert sum(passed) == 50
        assert limits.enter(FIFTY) == 1.0
        for worker in workers:
            os.kill(worker.pid, signal.SIGKILL)
        time.sleep(room._CLEANUP_SECONDS + 0.2)  # private: the clock of other processes is real
        assert limits.enter(FIFTY) == 0.0  # zombies though they still are
    finally:
        for worker in workers:
            worker.kill()
            worker.join()


def test_the_minute_is_counted_by_all_workers_together():
    workers, passed = started(SharedState(workers=4), MANY, 400, 0)
    for worker in workers:
        worker.join()
    assert sum(passed) == 500


def test_a_token_of_the_same_id_has_its_own_limits():
    limits = TokenLimits(SharedState())
    assert limits.enter(TWO) == 0.0
    other = token(max_concurrent=1)
    assert limits.enter(other) == 1.0, "what the first one holds counts"
    limits.leave(TWO)
    assert limits.enter(other) == 0.0
