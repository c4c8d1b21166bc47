"""One row of shared memory per worker process: its figures, and the last calls it carried.

Only its owner writes in a row, so nothing is locked and a process killed at any moment leaves the
memory whole. Whoever reads adds up all rows. A dead worker's row is taken over by the next one
that starts: what was counted stays counted.
"""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.heap import Arena

from app.state.process_identity import alive, own, pid_of

NAMES = 64 * 1024
VALUES = 4096
RING = 512 * 1024
_HEADER = 64
_ROW = _HEADER + VALUES * 8 + NAMES + RING
# Header cells. The last two are the owner's to use.
_PID, _OWNER, NAMES_SIZE, RING_HEAD = range(4)
_CLAIM_SECONDS = 1.0


class Row:
    """`cells`: the header. `values`, `names`, `ring`: the owner's to fill."""

    def __init__(self, memory: memoryview) -> None:
        self.cells = memory[:_HEADER].cast("q")
        self.values = memory[_HEADER : _HEADER + VALUES * 8].cast("d")
        names_at = _HEADER + VALUES * 8
        self.names = memory[names_at : names_at + NAMES]
        self.ring = memory[names_at + NAMES :]

    @property
    def pid(self) -> int:
        """0 for a row that nobody has had yet."""
        return int(self.cells[_PID])

    @property
    def is_alive(self) -> bool:
        """Its owner still is."""
        return pid_of(self.cells[_OWNER]) == self.pid and alive(self.cells[_OWNER])


class WorkerRows:
    """Made in the main process; `handles` is what a worker needs to attach."""

    def __init__(self, handles: Arena | None = None, workers: int = 1) -> None:
        # Old and new workers live side by side during reloads. Pages never used cost nothing.
        self.handles = handles if handles is not None else Arena(_ROW * (4 * workers + 16))
        memory = memoryview(self.handles.buffer)
        self._all = [
            Row(memory[start : start + _ROW]) for start in range(0, len(memory) - _ROW + 1, _ROW)
        ]

    def claim(self) -> Row | None:
        """A row for this process, None when every one has a living owner."""
        with self._one_at_a_time():
            free = [row for row in self._all if row.pid and not row.is_alive]
            for row in (*free, *(row for row in self._all if not row.pid)):
                row.cells[_OWNER] = own()
                row.cells[_PID] = pid_of(own())
                return row
        return None

    def used(self) -> list[Row]:
        """Every row that has, or had, an owner."""
        return [row for row in self._all if row.pid]

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        """The system takes this lock back from a process that dies."""
        end = time.monotonic() + _CLAIM_SECONDS
        while True:
            try:
                fcntl.lockf(self.handles.fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0)
                break
            except OSError:
                if time.monotonic() > end:  # its holder was stopped in the middle
                    break
                time.sleep(0.005)
        try:
            yield
        finally:
            with suppress(OSError):
                fcntl.lockf(self.handles.fd, fcntl.LOCK_UN, 1, 0)
