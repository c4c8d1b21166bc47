"""Requests per minute and requests at a time, counted across all workers.

Every worker has counters of its own in shared memory and writes no others; a limit is held against
their sum. A worker counts first and looks then, so that two at the same moment may both be refused
but never both be let in, and no lock is held that a killed worker could keep. What a killed worker
had under way is forgotten as soon as somebody is refused because of it.
"""

import os
import time
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.sharedctypes import RawArray
from multiprocessing.synchronize import Lock
from pathlib import Path
from typing import Any

from app.shared_state import fingerprint

ROWS = 1024
_CELLS = 3  # at a time; this and the last minute's count, each with its minute, by turns
_COUNT = 1 << 24  # a cell holds minute * _COUNT + count
_CHECK_SECONDS = 0.25


class TokenLimits:
    """The table. Make it in the main process; `handles` is what a worker needs to attach."""

    def __init__(self, handles: tuple[Any, Any, Any, Lock] | None = None, slots: int = 1) -> None:
        self.handles = handles or (
            RawArray("q", ROWS),
            RawArray("q", slots),
            RawArray("q", slots * ROWS * _CELLS),
            get_context("spawn").Lock(),
        )
        self._names = memoryview(self.handles[0]).cast("B").cast("q")
        self._pids = memoryview(self.handles[1]).cast("B").cast("q")
        self._cells = memoryview(self.handles[2]).cast("B").cast("q")
        self._lock = self.handles[3]
        self._mine = -1
        self._rows: dict[str, int] = {}
        self._looked = 0.0

    def enter(self, name: str, rpm: int, at_a_time: int) -> float:
        """Counts one request of `name`: 0.0, or the seconds after which to come again.

        After 0.0, `leave(name)` ends it. A limit of 0 is none.
        """
        row = self._row(name)
        if at_a_time and self._add(row, 1) > at_a_time:
            self._forget_the_dead()
            if self._sum(row) > at_a_time:
                self._add(row, -1)
                return 1.0
        if rpm:
            wait = self._count(row, rpm, time.time())
            if wait:
                if at_a_time:
                    self._add(row, -1)
                return wait
        return 0.0

    def leave(self, name: str, at_a_time: int) -> None:
        if at_a_time:
            self._add(self._row(name), -1)

    def _add(self, row: int, amount: int) -> int:
        """The sum of all workers afterwards."""
        self._cells[self._mine * ROWS * _CELLS + row * _CELLS] += amount
        return self._sum(row)

    def _sum(self, row: int) -> int:
        cells, at = self._cells, row * _CELLS
        return sum(cells[at :: ROWS * _CELLS])

    def _count(self, row: int, rpm: int, now: float) -> float:
        """A sliding minute: the last one counts by the part of it that is still in sight."""
        minute, second = divmod(now, 60.0)
        this = int(minute)
        cells = self._cells
        step, at = ROWS * _CELLS, row * _CELLS + 1
        mine = self._mine * step + at + this % 2
        if cells[mine] // _COUNT != this:
            cells[mine] = this * _COUNT
        cells[mine] += 1
        current = _of(this, cells[at + this % 2 :: step])
        last = _of(this - 1, cells[at + (this - 1) % 2 :: step])
        if current + last * (1.0 - second / 60.0) <= rpm:
            return 0.0
        cells[mine] -= 1
        current -= 1
        if current < rpm:  # when enough of the last minute is out of sight
            return max(60.0 * (1.0 - (rpm - current - 1) / last) - second, 0.05)
        return 60.0 - second + 60.0 * (1.0 - (rpm - 1) / current)

    def _row(self, name: str) -> int:
        row = self._rows.get(name)
        if row is None:
            if self._mine < 0:
                self._settle()
            row = self._rows[name] = self._claim(name)
        return row

    def _claim(self, name: str) -> int:
        """The row of `name`, found by fingerprint so that a changed config moves nobody."""
        mark, names = fingerprint(name), self._names
        locked = self._lock.acquire(timeout=0.2)  # a killed holder never releases it
        try:
            row = mark % ROWS
            for _ in range(ROWS):
                if names[row] in (0, mark):
                    names[row] = mark
                    return row
                row = (row + 1) % ROWS
            return mark % ROWS  # full: two names share a row, and its limits
        finally:
            if locked:
                self._lock.release()

    def _settle(self) -> None:
        """Takes a place that nobody has any more. What it counted by the minute stays true."""
        locked = self._lock.acquire(timeout=0.2)
        try:
            for slot, pid in enumerate(self._pids):
                if pid == 0 or _is_gone(pid):
                    self._pids[slot] = os.getpid()
                    self._clear(slot)
                    self._mine = slot
                    return
        finally:
            if locked:
                self._lock.release()
        # More workers than places: this one counts for itself alone.
        own = TokenLimits(slots=1)
        self._names, self._pids, self._cells = own._names, own._pids, own._cells
        self._pids[0] = os.getpid()
        self._mine = 0

    def _forget_the_dead(self) -> None:
        now = time.monotonic()
        if now - self._looked < _CHECK_SECONDS:
            return
        self._looked = now
        for slot, pid in enumerate(self._pids):
            if pid and pid != self._pids[self._mine] and _is_gone(pid) and self._pids[slot] == pid:
                self._clear(slot)

    def _clear(self, slot: int) -> None:
        first = slot * ROWS * _CELLS
        for at in range(first, first + ROWS * _CELLS, _CELLS):
            if self._cells[at]:
                self._cells[at] = 0


def _of(minute: int, cells: memoryview) -> int:
    return sum(cell % _COUNT for cell in cells if cell // _COUNT == minute)


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    with suppress(OSError):  # a zombie that nobody has buried yet is gone as well
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"Z"
    return False
