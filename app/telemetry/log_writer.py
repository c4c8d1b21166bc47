"""Writes the log on a thread of its own: whoever does not read it holds up no call.

One writer per file descriptor. What it cannot write in time waits in a bounded queue; what finds
no room there is dropped and counted. The end of the process waits a second for what is queued.
"""

import atexit
import os
import select
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

MAX_QUEUED = 4 * 1024 * 1024  # bytes
FLUSH_SECONDS = 1.0


class LogWriter:
    """`on_drop` is called after each loss, on whichever thread met it."""

    def __init__(self, fd: int, on_drop: Callable[[], None] | None = None) -> None:
        self._fd, self._on_drop = fd, on_drop
        self._queue: SimpleQueue[list[bytes]] = SimpleQueue()
        # Of each pair one is written by the thread alone, the other by those who put.
        self._taken, self._done = 0, 0  # bytes; the difference is what waits
        self._refused, self._lost = 0, 0  # lines
        self._thread: threading.Thread | None = None

    def put(self, pieces: list[bytes]) -> None:
        """Whole lines, each piece to be written at once. Returns at once."""
        size = sum(map(len, pieces))
        if self._taken - self._done + size > MAX_QUEUED or not self._is_running():
            self._refused += _lines(pieces)
            if self._on_drop is not None:
                self._on_drop()
            return
        self._taken += size
        self._queue.put(pieces)

    @property
    def dropped(self) -> int:
        return self._refused + self._lost

    def flush(self, seconds: float = FLUSH_SECONDS) -> None:
        """Waits until all is written that was put so far, or the time is over."""
        wanted, end = self._taken, time.monotonic() + seconds
        while self._done < wanted and time.monotonic() < end:
            time.sleep(0.002)

    def _is_running(self) -> bool:
        if self._thread is None:
            # A daemon: one that waits for a reader must not keep the process.
            thread = threading.Thread(target=self._run, name=f"log-{self._fd}", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no thread to be had; the next line tries again
                return False
            self._thread = thread
        return True

    def _run(self) -> None:
        while True:
            pieces = self._queue.get()
            for piece in pieces:
                if not self._write(piece):
                    self._lost += _lines([piece])
                    if self._on_drop is not None:
                        self._on_drop()
            self._done += sum(map(len, pieces))

    def _write(self, data: bytes) -> bool:
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:  # somebody else made the pipe so
                select.select((), (self._fd,), ())
            except OSError:
                return False  # nobody reads the log any more; serving goes on
        return True


def _lines(pieces: list[bytes]) -> int:
    return sum(piece.count(b"\n") for piece in pieces)


_writers: dict[int, LogWriter] = {}
_count: Callable[[int], None] | None = None


def writer_of(fd: int) -> LogWriter:
    """The process's one writer for this descriptor."""
    if fd not in _writers:
        _writers[fd] = LogWriter(fd, _tell_dropped)
    return _writers[fd]


def count_dropped(count: Callable[[int], None]) -> None:
    """From now on `count` is told how many lines this process has dropped in all."""
    global _count
    _count = count
    _tell_dropped()


def _tell_dropped() -> None:
    if _count is not None:
        _count(sum(writer.dropped for writer in _writers.values()))


def flush(seconds: float = FLUSH_SECONDS) -> None:
    end = time.monotonic() + seconds
    for writer in _writers.values():
        writer.flush(max(end - time.monotonic(), 0.0))


atexit.register(flush)
