"""Limits that hold across processes."""

import multiprocessing
import os
import signal
import time

import pytest

from app import token_limits as room
from app.token_limits import TokenLimits


def test_requests_at_a_time_are_held_and_given_back():
    limits = TokenLimits()
    assert [limits.enter("a", 0, 2) for _ in range(3)] == [0.0, 0.0, 1.0]
    assert limits.enter("b", 0, 2) == 0.0
    limits.leave("a", 2)
    assert limits.enter("a", 0, 2) == 0.0


def test_requests_per_minute_slide(monkeypatch):
    limits = TokenLimits()
    clock = [600.0]
    monkeypatch.setattr(room.time, "time", lambda: clock[0])
    assert [limits.enter("a", 10, 0) for _ in range(10)] == [0.0] * 10
    wait = limits.enter("a", 10, 0)
    assert wait == pytest.approx(60 + 6)  # when the first tenth of the last minute is out of sight
    clock[0] += wait - 1
    assert limits.enter("a", 10, 0) > 0
    clock[0] += 1.1
    assert limits.enter("a", 10, 0) == 0.0
    clock[0] += 120
    assert [limits.enter("a", 10, 0) for _ in range(10)] == [0.0] * 10


def test_no_minute_holds_more_than_about_the_limit(monkeypatch):
    limits = TokenLimits()
    clock = [0.0]
    monkeypatch.setattr(room.time, "time", lambda: clock[0])
    passed = []
    for tenth in range(6000):
        clock[0] = 6000 + tenth / 10
        if limits.enter("a", 30, 0) == 0.0:
            passed.append(clock[0])
    for start in passed:
        assert sum(start <= at < start + 60 for at in passed) <= 36
    assert 250 <= len(passed) <= 330  # ten minutes of thirty


def test_a_refused_request_holds_nothing():
    limits = TokenLimits()
    assert limits.enter("a", 1, 5) == 0.0
    for _ in range(10):
        assert limits.enter("a", 1, 5) > 0
    limits.leave("a", 5)
    assert limits._sum(limits._row("a")) == 0


def _hammer(handles, results, hold):
    limits = TokenLimits(handles)
    results.put(sum(limits.enter("a", 0, 50) == 0.0 for _ in range(40)))
    time.sleep(hold)


def _count_minute(handles, results, start):
    limits = TokenLimits(handles)
    start.wait()
    results.put(sum(limits.enter("a", 500, 0) == 0.0 for _ in range(400)))


def test_all_workers_together_never_pass_the_limit_and_the_dead_give_back():
    context = multiprocessing.get_context("spawn")
    limits = TokenLimits(slots=8)
    results = context.Queue()
    workers = [
        context.Process(target=_hammer, args=(limits.handles, results, 60), daemon=True)
        for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    try:
        passed = [results.get(timeout=30) for _ in workers]
        assert sum(passed) == 50
        assert limits.enter("a", 0, 50) == 1.0
        for worker in workers:
            os.kill(worker.pid, signal.SIGKILL)
        time.sleep(room._CHECK_SECONDS + 0.2)
        assert limits.enter("a", 0, 50) == 0.0  # zombies though they still are
    finally:
        for worker in workers:
            worker.kill()
            worker.join()


def test_the_minute_is_counted_by_all_workers_together(monkeypatch):
    context = multiprocessing.get_context("spawn")
    limits = TokenLimits(slots=8)
    results, start = context.Queue(), context.Event()
    workers = [
        context.Process(target=_count_minute, args=(limits.handles, results, start), daemon=True)
        for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    if time.time() % 60 > 50:  # not over the turn of a minute
        time.sleep(61 - time.time() % 60)
    start.set()
    passed = sum(results.get(timeout=30) for _ in workers)
    for worker in workers:
        worker.join()
    assert 490 <= passed <= 500  # two at the same moment may both be refused, never both let in


def test_more_workers_than_places_count_for_themselves():
    first = TokenLimits(slots=1)
    assert first.enter("a", 0, 1) == 0.0
    first._pids[0] = os.getppid()
    second = TokenLimits(first.handles)
    assert second.enter("a", 0, 1) == 0.0 and second.enter("a", 0, 1) == 1.0
