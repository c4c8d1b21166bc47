"""Processes that count side by side lose nothing, and the dead keep what they counted."""

import os
import subprocess
import sys

from app.pool.key_pool import KeyPool
from app.pool.outcomes import Outcome
from app.state.process_identity import alive, identity_of, own
from app.state.shared_table import PROBE_PID, SharedState
from app.state.worker_slots import WorkerRows
from tests.pool.test_key_pool import POOL, Room
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
        state._slot = state._slots - 1  # as if every other slot were taken
    pool, quotas = KeyPool(CONFIG, state), RateWindows(state)
    turn = pool.pick(POOL, "a", model="m")
    begin.wait()
    for _ in range(EACH):
        pool.report(turn, Outcome.OK, 200)
    for _ in range(EACH // 4):
        quotas.correct(7, 2, NOW)
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
        turn = pool.pick(POOL, "a", model="m")
        pool.report(turn, Outcome.OK, 200)  # in a slot that a dead process had
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
    room = Room(1)
    for pool in (room.worker(), room.worker(), room.pool):
        for _ in range(5):
            turn = pool.pick(POOL, "0", model="m")
            pool.report(turn, Outcome.OK, 200)
    assert [key.uses for key in room.worker().key_statuses()] == [15]


def test_a_process_is_its_number_and_its_beginning():
    assert own() == identity_of(os.getpid()) and alive(own())
    assert float(own()) == own() < 2**53  # shared memory keeps it as a float
    other = own() + 2**22  # the same number, begun at another time
    assert not alive(other)
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert identity_of(gone.pid) == 0
    assert not alive(0) and not alive(gone.pid)


def test_one_that_is_dead_but_not_buried_does_not_live():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = identity_of(process.pid)
    assert alive(identity)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not alive(identity)
    process.communicate()


def test_a_probe_of_a_process_whose_number_another_one_has_is_taken_over():
    room = Room(1)
    room.call(Outcome.AUTH, "0")
    room.sleep(10.1)
    turn = room.begin("0")
    assert room.rest() == 1
    room.state.cells[turn.claims[0] + PROBE_PID] += 2**22
    assert room.begin("0").claims


def test_open_calls_and_a_row_of_a_process_whose_number_another_one_has_are_free():
    state = SharedState()
    with state.guard:
        state.count(5, 2)
    assert state.open_calls(5) == 2
    state.cells[state._owners + state._slot] += 2**22
    assert state.forget_dead() and state.open_calls(5) == 0
    rows = WorkerRows()
    row = rows.claim()
    assert row.is_alive and row.pid == os.getpid()
    row.cells[1] += 2**22
    assert not row.is_alive and rows.claim() is row
    assert KeyPool(Room(1).config, state).key_statuses()
