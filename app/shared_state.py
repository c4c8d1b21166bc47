"""Fixed rows in shared memory that every worker sees at once.

One row per key (or key and model), found by fingerprint and not by position, so that a reload
with a reordered key list never gives one key's rest to another. Every field is a single 8-byte
value where the last writer is right: no lock is held to read or write one, and a process killed
at any moment leaves the table whole. Claiming a row takes a lock with a time limit.
"""

from hashlib import blake2b
from multiprocessing import get_context
from multiprocessing.sharedctypes import RawArray
from multiprocessing.synchronize import Lock
from typing import Any

ROWS = 4096
_FIELDS = 8  # 8-byte values per row
FINGERPRINT, REST_UNTIL, FAILURES, LAST_STATUS, LAST_AT, USES = range(6)


def fingerprint(name: str) -> int:
    """48 bits of blake2b: exact in a float, never 0."""
    return int.from_bytes(blake2b(name.encode(), digest_size=6).digest(), "big") or 1


class SharedState:
    """The table. Make it in the main process; `handles` is what a worker needs to attach."""

    def __init__(self, handles: tuple[Any, Lock] | None = None) -> None:
        context = get_context("spawn")
        self.handles = handles or (RawArray("d", ROWS * _FIELDS), context.Lock())
        self._cells = memoryview(self.handles[0]).cast("B").cast("d")
        self._lock = self.handles[1]

    def row(self, name: str) -> int:
        """The row of `name`, claimed if it has none yet; -1 when the table is full."""
        mark = float(fingerprint(name))
        found, free = self._find(mark)
        if found >= 0 or free < 0:
            return found
        # A killed holder never releases the lock: after the limit we go on without it. The worst
        # a lost race can do is that two names claim one row, which the re-read below notices.
        locked = self._lock.acquire(timeout=0.2)
        try:
            found, free = self._find(mark)
            if found < 0 and free >= 0:
                self._cells[free * _FIELDS + FINGERPRINT] = mark
                found, _ = self._find(mark)
            return found
        finally:
            if locked:
                self._lock.release()

    def _find(self, mark: float) -> tuple[int, int]:
        cells = self._cells
        row = int(mark) % ROWS
        for _ in range(ROWS):
            seen = cells[row * _FIELDS]
            if seen == mark:
                return row, -1
            if seen == 0.0:
                return -1, row
            row = (row + 1) % ROWS
        return -1, -1

    def get(self, row: int, field: int) -> float:
        return self._cells[row * _FIELDS + field]

    def set(self, row: int, field: int, value: float) -> None:
        self._cells[row * _FIELDS + field] = value

    def add(self, row: int, field: int, amount: float = 1.0) -> None:
        """Not atomic across workers: for figures where a rare lost count does no harm."""
        self._cells[row * _FIELDS + field] += amount
