"""Child processes of a worker, for work that would block its event loop or fill its memory.

Runs `python -m MODULE ARGS` with one socket as stdin and stdout; when the worker dies, the child
reads the end of its input. Children are started on a thread with `subprocess`: on the event loop
uvloop would fork the whole worker, which takes 10 ms for every 300 MB of it, and would leave the
listening socket open in the child, which could then hold the port after its worker's death. Signals
to the process group are blocked in them.
"""

import asyncio
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from app.offload import group_signals

_ROOT = Path(__file__).parents[2]
# A thread of its own: the default executor may be busy with files.
_THREAD = ThreadPoolExecutor(1, thread_name_prefix="child-process", initializer=group_signals.block)


class ChildProcess:
    """A running process: `writer` is its input, `reader` its output. Always `end` it."""

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.pid, self.reader, self.writer = process.pid, reader, writer
        self._process = process

    @classmethod
    async def start(cls, module: str, *args: str) -> "ChildProcess":
        """Starts `python -m module args`. Raises OSError if no process can be started."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        starting = loop.run_in_executor(_THREAD, _start, theirs, module, *args)
        try:
            process = await asyncio.shield(starting)
        except BaseException:
            ours.close()
            starting.add_done_callback(_end_unwanted)
            raise
        try:
            reader, writer = await asyncio.open_connection(sock=ours)
        except BaseException:
            ours.close()
            _THREAD.submit(_end, process)
            raise
        return cls(process, reader, writer)

    async def end(self) -> None:
        """Kills the process if it still runs, and reaps it, even if the caller is cancelled."""
        self.writer.transport.abort()
        ending = asyncio.get_running_loop().run_in_executor(_THREAD, _end, self._process)
        await asyncio.shield(ending)


def _start(theirs: socket.socket, module: str, *args: str) -> "subprocess.Popen[bytes]":
    with theirs:
        return subprocess.Popen(  # noqa: S603, modules of our own
            [sys.executable, "-m", module, *args],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=subprocess.DEVNULL,
            cwd=_ROOT,
        )


def _end(process: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError):
        process.kill()
    process.wait()


def _end_unwanted(starting: "asyncio.Future[subprocess.Popen[bytes]]") -> None:
    """Ends a process whose `start` was cancelled."""
    if not starting.cancelled() and starting.exception() is None:
        _THREAD.submit(_end, starting.result())
