"""The shared table: rows, and counts of many processes of which none is lost."""

import os
import subprocess
import sys

from app.pool.outcomes import Outcome
from app.state import shared_table
from app.state.process_identity import own
from app.state.shared_table import PROBE_PID, SharedState, fingerprint
from tests.pool.pool_bench import POOL, PoolBench
from tests.server.running import ROOT

_PROGRAM = """
import multiprocessing, os, signal
from app.pool.key_pool import KeyPool
from app.pool.outcomes import Outcome
from app.state.rate_windows import RateWindows
from app.state.shared_table import SharedState
from app.config.schema import Config, KeyEntry, OpenAI

POOL, EACH, NOW = "openai.api_keys", 4000, 1_800_000_000.0
CONFIG = Config(openai=OpenAI(api_keys=[KeyEntry(id="a", val="sk-a")]))

def work(handles, begin, is_crowded):
    state = SharedState(handles)
    if is_crowded:
        # As if every other line were taken. A private name: else it takes 28 processes more.
        state._slot = state._slots - 1
    pool, windows = KeyPool(CONFIG, state), RateWindows(state)
    lease = pool.pick(POOL, "a", model="m")
    begin.wait()
    for _ in range(EACH):
        pool.report(lease, Outcome.OK, 200)
    for _ in range(EACH // 4):
        windows.correct(7, 2, NOW)
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    for is_crowded in (False, True):
        state, begin = SharedState(workers=3), context.Barrier(3)
        arguments = (state.handles, begin, is_crowded)
        processes = [context.Process(target=work, args=arguments) for _ in range(3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        state.forget_dead()
        pool = KeyPool(CONFIG, state)
        lease = pool.pick(POOL, "a", model="m")
        pool.report(lease, Outcome.OK, 200)  # in a slot that a dead process had
        (key,) = pool.key_statuses()
        print(key.uses - 3 * EACH, RateWindows(state).used(7, NOW)[1] - 3 * EACH // 2)
"""


def test_three_processes_that_count_in_one_cell_lose_nothing(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(_PROGRAM)
    done = subprocess.run(
        [sys.executable, str(program)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == ["1", "0.0", "1", "0.0"], done.stderr


def test_workers_of_one_fleet_add_up():
    bench = PoolBench(1)
    for pool in (bench.worker(), bench.worker(), bench.pool):
        for _ in range(5):
            lease = pool.pick(POOL, "0", model="m")
            pool.report(lease, Outcome.OK, 200)
    assert [key.uses for key in bench.worker().key_statuses()] == [15]


def test_a_probe_of_a_process_whose_number_another_one_has_is_taken_over():
    bench = PoolBench(1)
    bench.call(Outcome.AUTH, "0")
    bench.sleep(10.1)
    lease = bench.begin("0")
    assert bench.wait() == 1
    bench.state.cells[lease.claims[0] + PROBE_PID] += 2**22
    assert bench.begin("0").claims


def test_open_calls_of_a_process_whose_number_another_one_has_are_freed(monkeypatch):
    state = SharedState()
    with monkeypatch.context() as patch, state.guard:
        # No other process can get this one's pid while it runs.
        patch.setattr(shared_table, "own", lambda: own() + 2**22)
        state.count(5, 2)
    assert state.open_calls(5) == 2
    assert state.forget_dead() and state.open_calls(5) == 0


def test_rows_are_found_again_and_never_shared():
    state = SharedState()
    rows = [state.row(f"name-{n}") for n in range(2000)]
    assert len(set(rows)) == 2000
    assert [state.row(f"name-{n}") for n in range(2000)] == rows
    assert fingerprint("a") != fingerprint("b")


def test_a_full_table_says_so_and_overwrites_nothing():
    state = SharedState()
    rows = {state.row(f"name-{n}") for n in range(5000)}
    assert -1 in rows and len(rows) == 4097
