"""CPU work above a millisecond, in a small process beside the worker.

A thread would not do: it shares the interpreter with the event loop, which would then wait its turn
at every step. The process starts when first needed, does one piece of work at a time, and ends with
its worker. Who stops waiting stops the work: the process is killed and another one starts.

    python -m app.offload.cpu_work     reads calls from its input, writes results to its output
"""

import asyncio
import os
import pickle
import struct
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

from app.offload.child_process import ChildProcess

MAX_SECONDS = 30.0  # for one piece of work, without the wait for its turn
_SIZE = struct.Struct("!I")


class CpuWorker:
    """One per worker."""

    def __init__(self, max_seconds: float = MAX_SECONDS) -> None:
        self._max_seconds = max_seconds
        self._process: ChildProcess | None = None
        self._turn = asyncio.Lock()

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """`function(*args)`: a module's own function, arguments and result that can be pickled.

        Raises TimeoutError for work that takes too long; it is stopped.
        """
        async with self._turn:
            process = self._process or await ChildProcess.start("app.offload.cpu_work")
            self._process = None  # until it answers: who is cancelled here leaves none behind
            try:
                call = pickle.dumps((function, args))
                async with asyncio.timeout(self._max_seconds):
                    process.writer.write(_SIZE.pack(len(call)) + call)
                    await process.writer.drain()
                    (size,) = _SIZE.unpack(await process.reader.readexactly(_SIZE.size))
                    told = await process.reader.readexactly(size)
                went_well, result = pickle.loads(told)  # noqa: S301, our own process's
            except BaseException:
                await process.end()
                raise
            self._process = process
        if not went_well:
            raise RuntimeError(f"{function.__qualname__} failed: {result}")
        return result

    async def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await process.end()


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
    os.nice(10)  # whoever waits for a proof waits; the workers keep the cores
    serve(sys.stdin.buffer, sys.stdout.buffer)
