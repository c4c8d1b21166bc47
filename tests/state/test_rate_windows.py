"""Limits of one key: calls at a time, requests and tokens per minute, in all workers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.config.schema import Config, KeyEntry, OpenAI
from app.pool.key_pool import KeyPool, row_name
from app.pool.lease import KeysBusy
from app.pool.outcomes import Outcome
from app.state.rate_windows import RateWindows
from app.state.shared_table import SharedState
from app.wire.errors import GatewayError

POOL = "openai.api_keys"
ROOT = Path(__file__).parents[2]


class Clock:
    def __init__(self):
        self.now = 1_800_000_002.0

    def __call__(self):
        return self.now


def workers(count=1, clock=None, **limits):
    keys = [KeyEntry(id="1", val="sk-1", **limits)]
    config = Config(openai=OpenAI(api_keys=keys))
    state = SharedState()
    return [
        KeyPool(config, SharedState(state.handles), clock or Clock()) for _ in range(count)
    ], state


def serve(pool, body_bytes=0, tokens=None):
    lease = pool.pick(POOL, model="m", body_bytes=body_bytes)
    pool.report(lease, Outcome.OK, 200)
    pool.release(lease, tokens)
    return lease


def test_so_many_calls_at_a_time_and_no_more():
    (pool,), _ = workers(max_concurrent=2)
    leases = [pool.pick(POOL) for _ in range(2)]
    with pytest.raises(KeysBusy) as caught:
        pool.pick(POOL)
    assert (caught.value.status, caught.value.code) == (429, "all_keys_busy")
    pool.release(leases[0])
    pool.release(leases[0])  # twice is once
    pool.pick(POOL)
    with pytest.raises(KeysBusy):
        pool.pick(POOL)


class Overtaken(RateWindows):
    """Between the look and the taking, another worker takes what was left."""

    def wait(self, row, limits, now):
        wait = super().wait(row, limits, now)
        if not wait:
            super().take(row, limits, 0, now)
        return wait


def test_whoever_is_overtaken_waits_for_a_place_as_the_others_do():
    (pool,), state = workers(max_concurrent=1)
    pool.rate_windows = Overtaken(state)
    with pytest.raises(KeysBusy):
        pool.pick(POOL)


def test_whoever_is_overtaken_is_told_the_true_wait():
    (pool,), state = workers(rpm=1)
    pool.rate_windows = Overtaken(state)
    with pytest.raises(GatewayError) as caught:
        pool.pick(POOL)
    assert caught.value.code == "all_keys_cooling" and 55 < caught.value.retry_after <= 66


def test_another_key_serves_while_one_is_busy():
    keys = [KeyEntry(id="1", val="a", max_concurrent=1), KeyEntry(id="2", val="b")]
    pool = KeyPool(Config(openai=OpenAI(api_keys=keys)), SharedState())
    pool.pick(POOL, "1")
    assert {pool.pick(POOL).key.id for _ in range(30)} == {"2"}


def test_what_a_killed_worker_had_open_is_given_back():
    (pool,), state = workers(max_concurrent=3)
    script = """
import os, sys
from multiprocessing.heap import Arena
from app.pool.key_pool import KeyPool
from app.state.shared_table import SharedState
from app.config.schema import Config, KeyEntry, OpenAI
state = SharedState(Arena(int(sys.argv[1]), int(sys.argv[2])))
keys = [KeyEntry(id="1", val="sk-1", max_concurrent=3)]
pool = KeyPool(Config(openai=OpenAI(api_keys=keys)), state)
leases = [pool.pick("openai.api_keys") for _ in range(2)]
print("taken", flush=True)
os.kill(os.getpid(), 9)
"""
    handles = state.handles
    os.set_inheritable(handles.fd, True)
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(handles.size), str(handles.fd)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        close_fds=False,
    )
    assert other.stdout.readline() == b"taken\n"
    other.stdout.close()
    assert state.open_calls(state.row(row_name(POOL, "1", "https://api.openai.com"))) == 2
    while Path(f"/proc/{other.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        pass
    leases = []
    for _ in range(3):  # the first that finds the key busy looks for the dead
        try:
            leases.append(pool.pick(POOL))
        except KeysBusy:
            leases.append(pool.pick(POOL))
    assert (
        len(leases) == 3
        and state.open_calls(state.row(row_name(POOL, "1", "https://api.openai.com"))) == 3
    )
    other.wait()


def test_requests_per_minute_hold_in_every_minute_and_across_workers():
    clock = Clock()
    pools, _ = workers(3, clock, rpm=30)
    served = []
    for step in range(1200):
        clock.now += 0.25
        try:
            serve(pools[step % 3])
            served.append(clock.now)
        except GatewayError as error:
            assert error.status == 429 and 0 < error.retry_after <= 65
    for begin in served:
        assert sum(begin <= at < begin + 60 for at in served) <= 30
    assert len(served) >= 30 * 4  # and what may be served is


def test_retry_after_says_when_the_next_one_may_come():
    clock = Clock()
    (pool,), _ = workers(1, clock, rpm=5)
    for _ in range(5):
        serve(pool)
    with pytest.raises(GatewayError) as caught:
        serve(pool)
    assert caught.value.code == "all_keys_cooling"
    clock.now += caught.value.retry_after - 0.01
    with pytest.raises(GatewayError):
        serve(pool)
    clock.now += 0.02
    serve(pool)


def test_tokens_are_guessed_from_the_body_and_put_right_afterwards():
    clock = Clock()
    (pool,), _ = workers(1, clock, tpm=1000)
    serve(pool, body_bytes=400, tokens=900)  # guessed 100
    serve(pool, body_bytes=400, tokens=20)
    serve(pool, body_bytes=400)  # the upstream told nothing: the guess stands
    with pytest.raises(GatewayError) as caught:
        serve(pool)
    assert caught.value.status == 429
    clock.now += 70
    serve(pool)


def test_keys_without_limits_are_not_counted():
    (pool,), state = workers()
    for _ in range(10):
        pool.pick(POOL)
    assert state.open_calls(state.row(row_name(POOL, "1", "https://api.openai.com"))) == 0
