"""Writes log lines on a thread, so that a slow reader of the log blocks no call.

One writer per file descriptor. Lines wait in a bounded queue; lines that find it full are dropped
and counted. At exit the process waits up to a second for the queue.
"""

import atexit
import os
import select
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import util
from queue import SimpleQueue

MAX_QUEUED = 4 * 1024 * 1024  # bytes
FLUSH_SECONDS = 1.0


class LogWriter:
    """Queue and thread of one file descriptor.

    `on_drop` is called after each loss, on the thread where it happened.
    """

    def __init__(self, fd: int, on_drop: Callable[[], None] | None = None) -> None:
        self._fd, self._on_drop = fd, on_drop
        self._queue: SimpleQueue[list[bytes]] = SimpleQueue()
        # Of each pair, `put` writes the first and the thread the second: no lock is needed.
        self._queued, self._written = 0, 0  # bytes so far; the difference is waiting
        self._refused, self._lost = 0, 0  # lines: the queue was full, the write failed
        self._thread: threading.Thread | None = None

    def put(self, pieces: list[bytes]) -> None:
        """Queues whole lines: one system call per piece, a file takes all at once. Never blocks."""
        size = sum(map(len, pieces))
        if self.waiting + size > MAX_QUEUED or not self._is_running():
            self._refused += _lines(pieces)
            if self._on_drop is not None:
                self._on_drop()
            return
        self._queued += size
        self._queue.put(pieces)

    @property
    def waiting(self) -> int:
        """Bytes that are queued and not yet written."""
        return self._queued - self._written

    @property
    def dropped(self) -> int:
        """Lines lost so far."""
        return self._refused + self._lost

    def flush(self, seconds: float = FLUSH_SECONDS) -> None:
        """Blocks until everything queued so far is written, at most `seconds`."""
        wanted, end = self._queued, time.monotonic() + seconds
        while self._written < wanted and time.monotonic() < end:
            time.sleep(0.002)

    def _is_running(self) -> bool:
        if self._thread is None:
            # A daemon: one that blocks on a reader must not keep the process alive.
            thread = threading.Thread(target=self._run, name=f"log-{self._fd}", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # can't start a thread; the next line tries again
                return False
            self._thread = thread
        return True

    def _run(self) -> None:
        # To a file, any write is whole: the workers share its offset. A pipe's is up to 4 KiB.
        is_file = False
        with suppress(OSError):  # it is closed, and each write will say so
            is_file = stat.S_ISREG(os.fstat(self._fd).st_mode)
        while True:
            pieces = self._queue.get()
            if is_file:
                pieces = [b"".join(pieces)]
            for piece in pieces:
                if not self._write(piece):
                    self._lost += _lines([piece])
                    if self._on_drop is not None:
                        self._on_drop()
            self._written += sum(map(len, pieces))

    def _write(self, data: bytes) -> bool:
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:  # another process made the pipe non-blocking
                select.select((), (self._fd,), ())
            except OSError:
                return False  # the reader is gone; serving goes on
        return True


def _lines(pieces: list[bytes]) -> int:
    return sum(piece.count(b"\n") for piece in pieces)


_writers: dict[int, LogWriter] = {}
_count: Callable[[int], None] | None = None


def writer_of(fd: int) -> LogWriter:
    """The writer of this process for a file descriptor."""
    if fd not in _writers:
        _writers[fd] = LogWriter(fd, _report_dropped)
    return _writers[fd]


def count_dropped(count: Callable[[int], None]) -> None:
    """Calls `count` with the total of lines that this process has dropped, now and at each loss."""
    global _count
    _count = count
    _report_dropped()


def _report_dropped() -> None:
    if _count is not None:
        _count(sum(writer.dropped for writer in _writers.values()))


def flush(seconds: float = FLUSH_SECONDS) -> None:
    """Blocks until every writer has written its queue, at most `seconds` in all."""
    end = time.monotonic() + seconds
    for writer in _writers.values():
        writer.flush(max(end - time.monotonic(), 0.0))


atexit.register(flush)
# A child process of multiprocessing ends without what is registered there.
util.Finalize(None, flush, exitpriority=0)
