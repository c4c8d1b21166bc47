"""Fixed rows in shared memory that every worker sees at once.

A row is found by fingerprint and not by position, so that a reload with a reordered key list never
gives one key's rest to another. A process killed at any moment leaves the table whole: every field
is one 8-byte value, and what must be decided by one process alone is decided under a lock that the
system takes back from the dead.

    keys      one row per key and per upstream, claimed for good
    models    one row per key and model that rests, claimed when needed; the stalest gives way
    windows   beside each key's row: requests and tokens of the last minute
    words     beside each key's row: what its upstream said last when it refused
    counts    one line per worker: its open calls per key, and how often it has used each; only its
              owner writes in it, and whoever reads adds up all lines
"""

import fcntl
import time
from collections.abc import Iterator
from hashlib import blake2b
from multiprocessing.heap import Arena
from types import TracebackType

from app.state.process_identity import alive, own

ROWS = 4096  # of keys; a row behind them stays empty for keys that found no place
MODEL_ROWS = 4096
_WAYS = 8  # places that one model's fingerprint may take

FIELDS = 15  # 8-byte values per row
(
    FINGERPRINT,
    REST_UNTIL,  # Unix time; 0: awake; past: whoever comes next is the probe
    FAILURES,  # of one kind, in a row
    LAST_STATUS,
    LAST_AT,
    STRIKES,  # rests in a row: each is longer than the one before
    RESTED_AT,  # when this rest began
    WHY,  # of the rest, an Outcome
    PROBE_UNTIL,  # somebody probes, and is believed to be alive that long
    PROBE_PID,  # its identity
    CHANGED_AT,  # when the rest was last set or lifted
    MODELS_UNTIL,  # of a key: until then a look at its models' rows is needed
    VALUE,  # of a key: fingerprint of its secret; of a model's row: of its key's row
    FAILED_CALL,  # which call met the last failure
    KIND,  # of the last failure, an Outcome; 0 when all was well
) = range(FIELDS)
SUCCESS_AT = MODELS_UNTIL  # of an upstream's row: when a key of its last did its work

BUCKETS = 16  # of 5 s each: more than a minute's
WINDOW = BUCKETS * 3  # stamp, requests, tokens
OTHERS = WINDOW  # behind them what other hosts use: requests, tokens, open calls, until
_WINDOW_FIELDS = WINDOW + 4

_MODELS_AT = (ROWS + 1) * FIELDS
_WINDOWS_AT = _MODELS_AT + MODEL_ROWS * FIELDS
_OWNERS_AT = _WINDOWS_AT + (ROWS + 1) * _WINDOW_FIELDS
_WORDS = 256  # bytes
_WORDS_BYTES = (ROWS + 1) * _WORDS
_SLOT_BYTES = 8 + (ROWS + 1) * 8 + (ROWS + 1) * 2  # its owner, its uses, its open calls
_GUARD_SECONDS = 0.05


def fingerprint(name: str) -> int:
    """48 bits of blake2b: exact in a float, never 0."""
    return int.from_bytes(blake2b(name.encode(), digest_size=6).digest(), "big") or 1


class _Guard:
    """One process at a time. The system takes the lock back from a process that dies."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> None:
        end = 0.0
        while True:
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0)
                return
            except OSError:
                # Held for microseconds, unless its holder was stopped in the middle: then going on
                # without it (a second probe, a call too many) is better than standing still.
                now = time.monotonic()
                end = end or now + _GUARD_SECONDS
                if now >= end:
                    return
                time.sleep(0.0002)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, 0)


class SharedState:
    """The memory. Made in the main process; `handles` is what a worker needs to attach.

    `cells` is all of it as numbers: a row's fields stand from its base on.
    """

    def __init__(self, handles: Arena | None = None, workers: int = 1) -> None:
        # Old and new workers live side by side during reloads, and the dead are found late.
        size = _OWNERS_AT * 8 + _WORDS_BYTES + (4 * workers + 16) * _SLOT_BYTES
        self.handles = handles if handles is not None else Arena(size)
        memory = memoryview(self.handles.buffer)
        self._slots = (self.handles.size - _OWNERS_AT * 8 - _WORDS_BYTES) // _SLOT_BYTES
        self._owners = _OWNERS_AT
        self._uses = self._owners + self._slots
        counts_at = (self._uses + self._slots * (ROWS + 1)) * 8
        self.cells = memory[:counts_at].cast("d")
        words_at = counts_at + self._slots * (ROWS + 1) * 2
        self._counts = memory[counts_at:words_at].cast("H")
        self._words = memory[words_at : words_at + _WORDS_BYTES]
        self._descriptor = self.handles.fd
        self.guard = _Guard(self._descriptor)
        self._slot = self._own_uses = -1

    def lead(self) -> bool:
        """Whether this process is the one that does what one of them must do."""
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 1)
        except OSError:
            return False
        return True

    def step_down(self) -> None:
        """Lets another process lead."""
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, 1)

    # --- rows -------------------------------------------------------------------------------

    def row(self, name: str) -> int:
        """The row of `name`, claimed if it has none yet; -1 when the table is full."""
        return self.row_of(fingerprint(name))

    def row_of(self, mark: int) -> int:
        found, free = self._find(mark)
        if found >= 0 or free < 0:
            return found
        with self.guard:
            found, free = self._find(mark)
            if found < 0 and free >= 0:
                self.cells[free * FIELDS + FINGERPRINT] = mark
                found = free
        return found

    def known(self, mark: int) -> int:
        """The row with this fingerprint, -1 when there is none."""
        return self._find(mark)[0]

    def _find(self, mark: int) -> tuple[int, int]:
        cells = self.cells
        row = mark % ROWS
        for _ in range(ROWS):
            seen = cells[row * FIELDS]
            if seen == mark:
                return row, -1
            if seen == 0.0:
                return -1, row
            row = (row + 1) % ROWS
        return -1, -1

    def model_base(self, mark: int) -> int:
        """Where the row of a resting key and model begins in `cells`, -1 when there is none."""
        cells = self.cells
        first = _MODELS_AT + (mark % (MODEL_ROWS // _WAYS)) * _WAYS * FIELDS
        for base in range(first, first + _WAYS * FIELDS, FIELDS):
            if cells[base] == mark:
                return base
        return -1

    def claim_model(self, mark: int, now: float) -> int:
        """The same, claimed if need be: callers choose models' names, so the table has an end and
        the row whose rest ended first gives way."""
        base = self.model_base(mark)
        if base >= 0:
            return base
        cells = self.cells
        with self.guard:
            first = _MODELS_AT + (mark % (MODEL_ROWS // _WAYS)) * _WAYS * FIELDS
            places = range(first, first + _WAYS * FIELDS, FIELDS)
            for base in places:
                if cells[base] in (0.0, mark):
                    break
            else:
                base = min(places, key=lambda place: cells[place + REST_UNTIL])
            if cells[base] != mark:
                for field in range(FIELDS):
                    cells[base + field] = 0.0
                cells[base] = mark
        return base

    def changed(self, since: float) -> Iterator[tuple[int, bool]]:
        """Bases of rows whose rest changed after `since`, and whether they are a model's."""
        for start, rows in ((0, ROWS), (_MODELS_AT, MODEL_ROWS)):
            column = self.cells[start + CHANGED_AT : start + rows * FIELDS : FIELDS].tolist()
            for number, changed_at in enumerate(column):
                if changed_at > since:
                    yield start + number * FIELDS, start > 0

    def get(self, row: int, field: int) -> float:
        return self.cells[row * FIELDS + field]

    def set(self, row: int, field: int, value: float) -> None:
        self.cells[row * FIELDS + field] = value

    def window(self, row: int) -> int:
        """Where the last minute of the key in this row begins in `cells`."""
        return _WINDOWS_AT + row * _WINDOW_FIELDS

    def words(self, row: int) -> str:
        """What `say` was told last, or two of its words mixed if somebody writes just now."""
        said = bytes(self._words[row * _WORDS : (row + 1) * _WORDS])
        return said.rstrip(b"\0").decode(errors="ignore")

    def say(self, row: int, words: str) -> None:
        """The start of `words`, which hold no secret, for all workers to tell."""
        said = words.encode(errors="ignore")[:_WORDS]
        self._words[row * _WORDS : (row + 1) * _WORDS] = said.ljust(_WORDS, b"\0")

    # --- counts: of each worker by itself, so that none is lost, and a dead one's are known -------

    def open_calls(self, row: int) -> int:
        return sum(self._counts[row :: ROWS + 1].tolist())

    def count(self, row: int, change: int) -> None:
        """This process has one more, or one less, open call at the key in this row. For whoever
        holds the guard."""
        if self._slot < 0:
            self._slot = self._claim_slot()
        place = self._slot * (ROWS + 1) + row
        self._counts[place] = max(self._counts[place] + change, 0)

    def uses(self, row: int) -> int:
        """Attempts with the key in this row, of all processes there ever were."""
        end = self._uses + self._slots * (ROWS + 1)
        return int(sum(self.cells[self._uses + row : end : ROWS + 1].tolist()))

    def add_use(self, row: int) -> None:
        """One more attempt of this process. For whoever does not hold the guard."""
        if self._own_uses >= 0:
            self.cells[self._own_uses + row] += 1
            return
        with self.guard:
            if self._slot < 0:
                self._slot = self._claim_slot()
            line = self._uses + self._slot * (ROWS + 1)
            self.cells[line + row] += 1
        if self._slot < self._slots - 1:
            self._own_uses = line

    def forget_dead(self) -> bool:
        """Gives back what killed workers had open. True when there was one."""
        found = False
        for slot in range(self._slots - 1):
            owner = int(self.cells[self._owners + slot])
            if owner and not alive(owner):
                start, end = slot * (ROWS + 1), (slot + 1) * (ROWS + 1)
                self._counts[start:end] = memoryview(bytes(2 * (ROWS + 1))).cast("H")
                self.cells[self._owners + slot] = 0.0
                found = True
        return found

    def _claim_slot(self) -> int:
        # Under the guard already, as every change of a count.
        last = self._slots - 1  # for more processes than there can be: they share it
        for _ in range(2):
            owners = self.cells[self._owners : self._owners + last].tolist()
            for wanted in (own(), 0):
                if wanted in owners:
                    slot = owners.index(wanted)
                    self.cells[self._owners + slot] = own()
                    return slot
            self.forget_dead()
        return last
