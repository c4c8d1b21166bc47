"""CPU work above a millisecond, in a small process beside the worker.

A thread would not do: it shares the interpreter with the event loop, which would then wait its turn
at every step. The process starts when first needed, does one piece of work at a time, and ends with
its worker. Who stops waiting stops the work: the process is killed and another one starts.

    python -m app.slow_work     reads calls from its input, writes results to its output
"""

import asyncio
import os
import pickle
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

_ROOT = Path(__file__).parents[1]
_SIZE = struct.Struct("!I")


async def start_beside(module: str, *args: str, stdin: int) -> asyncio.subprocess.Process:
    """`python -m module args` in a process that inherits nothing but its own pipes."""
    _keep_files()
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *args,
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=_ROOT,
    )


@cache
def _keep_files() -> None:
    """Marks what this process was started with, its listening socket above all, as its own.

    uvloop does not close files in a child: one that outlives its worker would hold the port.
    """
    for name in os.listdir("/dev/fd"):
        if int(name) > 2:
            with suppress(OSError):  # the listing's own
                os.set_inheritable(int(name), False)


class SlowWork:
    """One per worker."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """`function(*args)`: a module's own function, arguments and result that can be pickled."""
        async with self._turn:
            process = self._process or await start_beside(
                "app.slow_work", stdin=asyncio.subprocess.PIPE
            )
            self._process = None  # until it answers: who is cancelled here leaves none behind
            try:
                assert process.stdin is not None and process.stdout is not None
                call = pickle.dumps((function, args))
                process.stdin.write(_SIZE.pack(len(call)) + call)
                await process.stdin.drain()
                (size,) = _SIZE.unpack(await process.stdout.readexactly(_SIZE.size))
                went_well, result = pickle.loads(await process.stdout.readexactly(size))  # noqa: S301
            except BaseException:
                await _end(process)
                raise
            self._process = process
        if not went_well:
            raise RuntimeError(f"{function.__qualname__} failed: {result}")
        return result

    async def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()
    if process.stdin is not None:
        process.stdin.close()


def serve(calls: BinaryIO, results: BinaryIO) -> None:
    """Until its worker is gone."""
    while len(head := calls.read(_SIZE.size)) == _SIZE.size:
        function, args = pickle.loads(calls.read(_SIZE.unpack(head)[0]))  # noqa: S301, our worker's
        try:
            answer = True, function(*args)
        except Exception as error:
            answer = False, repr(error)
        told = pickle.dumps(answer)
        results.write(_SIZE.pack(len(told)) + told)
        results.flush()


if __name__ == "__main__":
    os.nice(5)
    serve(sys.stdin.buffer, sys.stdout.buffer)
