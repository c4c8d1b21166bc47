"""One row of shared memory per worker process: its metrics, and a ring of its last log lines.

Only its owner writes to a row, so no lock is needed and a process killed at any moment leaves the
memory usable. A reader adds up all rows. The row of a dead worker is taken over by the next one
that starts, with its counts: counters never go down.
"""

from multiprocessing.heap import Arena

from app.state.process_identity import alive, own, pid_of
from app.state.process_lock import ProcessLock

NAMES = 64 * 1024
VALUES = 4096
RING = 512 * 1024
_HEADER = 64
_ROW = _HEADER + VALUES * 8 + NAMES + RING
# Header cells. The last two belong to the code that fills `names` and `ring`.
_PID, _OWNER, NAMES_SIZE, RING_HEAD = range(4)


class Row:
    """One worker's memory. `cells` is the header; the owner fills `values`, `names` and `ring`."""

    def __init__(self, memory: memoryview) -> None:
        self.cells = memory[:_HEADER].cast("q")
        self.values = memory[_HEADER : _HEADER + VALUES * 8].cast("d")
        names_at = _HEADER + VALUES * 8
        self.names = memory[names_at : names_at + NAMES]
        self.ring = memory[names_at + NAMES :]

    @property
    def pid(self) -> int:
        """The pid of the owner, 0 for a row that has had none."""
        return int(self.cells[_PID])

    @property
    def is_alive(self) -> bool:
        """Whether the owner still runs."""
        return pid_of(self.cells[_OWNER]) == self.pid and alive(self.cells[_OWNER])


class WorkerRows:
    """All rows. The main process makes them; a worker attaches with `handles`."""

    def __init__(self, handles: Arena | None = None, workers: int = 1) -> None:
        # During a reload old and new workers run together. Pages never written cost nothing.
        self.handles = handles if handles is not None else Arena(_ROW * (4 * workers + 16))
        memory = memoryview(self.handles.buffer)
        self._lock = ProcessLock(self.handles.fd, wait_seconds=1.0, poll_seconds=0.005)
        self._all = [
            Row(memory[start : start + _ROW]) for start in range(0, len(memory) - _ROW + 1, _ROW)
        ]

    def claim(self) -> Row | None:
        """Returns a row for this process, None when every row has a running owner."""
        with self._lock:
            free = [row for row in self._all if row.pid and not row.is_alive]
            for row in (*free, *(row for row in self._all if not row.pid)):
                row.cells[_OWNER] = own()
                row.cells[_PID] = pid_of(own())
                return row
        return None

    def used(self) -> list[Row]:
        """Returns every row that has, or had, an owner."""
        return [row for row in self._all if row.pid]
