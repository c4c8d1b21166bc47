"""CPU work in a child process: results, failures, cancellation, and nothing left behind."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import uvloop

from app.offload.cpu_work import CpuWorker
from app.offload.group_signals import FOR_THE_GROUP
from providers.openai import sentinel

LOOPS = [uvloop.new_event_loop, asyncio.new_event_loop]
ARRAY = sentinel.browser_array("sha3", "agent", 1, "s")
ENDLESS = sentinel.Puzzle("sha3", "x", "0" * 60, ARRAY)


def run(main, loop) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_results_and_failures_come_back_and_one_process_serves_all(loop) -> None:
    async def main() -> None:
        work = CpuWorker()
        assert await asyncio.gather(*(work.run(divmod, n, 3) for n in range(5))) == [
            divmod(n, 3) for n in range(5)
        ]
        first = work.pid
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            await work.run(divmod, 1, 0)
        puzzle = sentinel.Puzzle("sha3", "x", "00ffff", ARRAY)
        assert await work.run(sentinel.search, puzzle, 0, 5000) == sentinel.search(puzzle, 0, 5000)
        assert work.pid == first
        await work.close()

    run(main, loop)


@pytest.mark.parametrize("number", FOR_THE_GROUP)
def test_a_signal_to_the_whole_process_group_ends_no_work(number) -> None:
    async def main() -> None:
        work = CpuWorker()
        assert await work.run(divmod, 7, 2) == (3, 1)
        first = work.pid
        os.kill(first, number)
        assert await work.run(divmod, 7, 2) == (3, 1)
        assert work.pid == first
        await work.close()

    run(main, LOOPS[0])


@pytest.mark.parametrize("loop", LOOPS)
def test_who_stops_waiting_stops_the_work(loop) -> None:
    async def main() -> None:
        work = CpuWorker()
        assert await work.run(divmod, 7, 2) == (3, 1)
        pid = work.pid
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await work.run(sentinel.search, ENDLESS, 0, 10**9)
        assert time.monotonic() - began < 10
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert await work.run(divmod, 7, 2) == (3, 1)
        await work.close()

    run(main, loop)


def test_work_that_takes_too_long_is_stopped_and_the_wait_for_its_turn_does_not_count() -> None:
    async def main() -> None:
        work = CpuWorker(1.0)  # far above what a busy machine adds to the sleeps
        await work.run(divmod, 7, 2)
        began = time.monotonic()
        results = await asyncio.gather(
            *(work.run(time.sleep, 0.4) for _ in range(3)),
            work.run(sentinel.search, ENDLESS, 0, 10**9),
            return_exceptions=True,
        )
        assert [type(each) for each in results] == [type(None)] * 3 + [TimeoutError]
        assert time.monotonic() - began < 10
        assert await work.run(divmod, 7, 2) == (3, 1)
        await work.close()

    run(main, LOOPS[0])


def test_a_killed_process_fails_one_call_only() -> None:
    async def main() -> None:
        work = CpuWorker()
        await work.run(divmod, 7, 2)
        os.kill(work.pid, 9)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await work.run(divmod, 7, 2)
        assert await work.run(divmod, 7, 2) == (3, 1)
        await work.close()

    run(main, LOOPS[0])


def test_the_process_does_not_hold_the_listening_socket() -> None:
    """In an interpreter of its own: what a worker is started with is told apart only once."""
    script = """if True:
        import asyncio, os, socket, uvloop
        from app.offload.cpu_work import CpuWorker
        listener = socket.create_server(("127.0.0.1", 0))
        listener.set_inheritable(True)  # as a worker gets it
        async def main():
            work = CpuWorker()
            links = [os.readlink(f"/proc/self/fd/{listener.fileno()}")]
            await work.run(divmod, 1, 1)
            for name in os.listdir(f"/proc/{work.pid}/fd"):
                assert os.readlink(f"/proc/{work.pid}/fd/{name}") not in links
            await work.close()
        uvloop.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.slow  # measures time: wants a machine with a core to spare
def test_the_loop_is_free_while_a_hard_proof_is_worked_out() -> None:
    async def main() -> None:
        work = CpuWorker()
        await work.run(divmod, 1, 1)
        busy = asyncio.create_task(work.run(sentinel.search, ENDLESS, 0, 10**9))
        late = []
        for _ in range(200):
            began = time.perf_counter()
            await asyncio.sleep(0.002)
            late.append(time.perf_counter() - began - 0.002)
        busy.cancel()
        await asyncio.wait([busy])
        late.sort()
        assert late[100] < 0.003  # a thread in this process would make it five
        await work.close()

    run(main, LOOPS[0])
