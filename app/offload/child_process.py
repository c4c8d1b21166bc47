"""Small processes beside a worker, for work that would hold up its event loop or fill its memory.

`python -m MODULE ARGS` with one socket for its input and output: a process whose worker is gone
finds its input at its end. They are started on a thread: on the loop uvloop would fork the whole
worker, which takes 10 ms for every 300 MB of it, and would leave the listening socket open in the
child, which could then hold the port when its worker is long dead. Signals to the process group
do not reach them.
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
# One of our own: the default ones may all be busy with files.
_THREAD = ThreadPoolExecutor(1, thread_name_prefix="beside", initializer=group_signals.block)


class ChildProcess:
    """A running process: write its input, read its output, and `end` it, whatever happened."""

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
        """Kills it if it still runs. Once begun this is done, even if its caller is cancelled."""
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
    """Nobody waited for it to start."""
    if not starting.cancelled() and starting.exception() is None:
        _THREAD.submit(_end, starting.result())
