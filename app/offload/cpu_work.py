"""CPU work above a millisecond, in a child process of the worker.

A thread is no alternative: it shares the interpreter lock with the event loop. The process starts
at the first use, runs one function at a time, and ends with its worker. When the caller of `run` is
cancelled, the process is killed; the next call starts another one.

    python -m app.offload.cpu_work     reads pickled calls from stdin, writes results to stdout
"""

import asyncio
import os
import pickle
import struct
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

from app.offload.child_process import ChildProcess

MAX_SECONDS = 30.0  # for one function, without the wait for the process
_SIZE = struct.Struct("!I")


class CpuWorker:
    """Runs functions of one worker in its child process, one at a time."""

    def __init__(self, max_seconds: float = MAX_SECONDS) -> None:
        self._max_seconds = max_seconds
        self._process: ChildProcess | None = None
        self._lock = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """The id of the child process while it waits for work."""
        return self._process.pid if self._process else None

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Returns `function(*args)`. The function is one of a module's top level; arguments and
        result can be pickled.

        Raises TimeoutError after `max_seconds`, RuntimeError if the function raised, and
        IncompleteReadError or ConnectionError if the process died.
        """
        async with self._lock:
            process = self._process or await ChildProcess.start("app.offload.cpu_work")
            self._process = None  # until it has answered: after a cancellation it is not used again
            try:
                call = pickle.dumps((function, args))
                async with asyncio.timeout(self._max_seconds):
                    process.writer.write(_SIZE.pack(len(call)) + call)
                    await process.writer.drain()
                    (size,) = _SIZE.unpack(await process.reader.readexactly(_SIZE.size))
                    answer = await process.reader.readexactly(size)
                succeeded, result = pickle.loads(answer)  # noqa: S301, our own process's
            except BaseException:
                await process.end()
                raise
            self._process = process
        if not succeeded:
            raise RuntimeError(f"{function.__qualname__} failed: {result}")
        return result

    async def close(self) -> None:
        """Ends the process."""
        process, self._process = self._process, None
        if process is not None:
            await process.end()


def serve(calls: BinaryIO, results: BinaryIO) -> None:
    """The child's loop: runs calls until the input ends."""
    while len(head := calls.read(_SIZE.size)) == _SIZE.size:
        function, args = pickle.loads(calls.read(_SIZE.unpack(head)[0]))  # noqa: S301, our worker's
        try:
            answer = True, function(*args)
        except Exception as error:
            answer = False, repr(error)
        data = pickle.dumps(answer)
        results.write(_SIZE.pack(len(data)) + data)
        results.flush()


if __name__ == "__main__":
    os.nice(10)  # the workers come first
    serve(sys.stdin.buffer, sys.stdout.buffer)
