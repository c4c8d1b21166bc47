"""Tables of fixed rows in shared memory: a write by one worker is visible to all at once.

A row is found by fingerprint and not by position, so a reload with a reordered key list never gives
one key's cooldown to another. Every field is one 8-byte value, so a process killed at any moment
leaves no half-written field. A decision that only one process may take is taken under `guard`, a
file lock that the kernel releases when its holder dies.

    keys      one row per key and per upstream, claimed for good
    models    one row per key and model that cools down, claimed when needed; the oldest is reused
    windows   one per key row: requests and tokens of the last minute
    spent     one per row of an access token: what it has spent, see app/state/spending.py
    refusals  one per key row: the text of the upstream's last refusal
    counts    one line per worker: its open calls and its attempts per key, and what its calls
              reserve of a token's budget. Only its owner writes to a line; a reader adds up all.

The fields of key and model rows are the state of cooldowns and breakers: app/pool/cooldowns.py says
who writes them, in which order.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from multiprocessing.heap import Arena
from random import getrandbits

from app.state.process_identity import alive, own
from app.state.process_lock import ProcessLock

ROWS = 4096  # of keys; the row behind the last stays empty, for keys that found the table full
MODEL_ROWS = 4096
_WAYS = 8  # model rows in which one fingerprint may stand (a set-associative table)

FIELDS = 15  # 8-byte values per row
(
    FINGERPRINT,
    COOLDOWN_UNTIL,  # Unix time; 0: available; in the past: the next call is the probe
    FAILURES,  # of FAILURE_KIND, in a row
    LAST_STATUS,  # HTTP status of the last answer
    LAST_AT,  # Unix time of the last answer that says something about the key
    BACKOFF_STEP,  # cooldowns in a row for the same reason: each is longer than the one before
    COOLDOWN_BEGAN,  # Unix time
    REASON,  # of the cooldown: an Outcome, or DISABLED
    PROBE_UNTIL,  # Unix time until which a probe is waited for
    PROBE_PID,  # identity of the probing process
    CHANGED_AT,  # Unix time at which the cooldown was last begun, lengthened or ended
    MODELS_UNTIL,  # of a key: until then its models may have rows
    VALUE,  # of a key: fingerprint of its secret; of a model's row: fingerprint of its key
    FAILED_CALL,  # id of the call that met the last failure
    FAILURE_KIND,  # the last failure, an Outcome; 0 after a success
) = range(FIELDS)
SUCCESS_AT = MODELS_UNTIL  # of an upstream's row: Unix time of the last success of any of its keys

BUCKETS = 16  # of 5 s each: more than a minute
OTHERS = BUCKETS * 3  # behind the buckets (stamp, requests, tokens of each) what other hosts use:
_WINDOW_FIELDS = OTHERS + 4  # requests, tokens, open calls, valid until

_MODELS_AT = (ROWS + 1) * FIELDS
_WINDOWS_AT = _MODELS_AT + MODEL_ROWS * FIELDS

OTHERS_SPENT = 9  # behind start, tokens, nano-USD of day, week and month: the same of other hosts
WARNED_OF = 2 * OTHERS_SPENT  # start of the period that was warned of, and how urgently
SPENT_CHANGED_AT = WARNED_OF + 2  # Unix time
_SPENT_FIELDS = SPENT_CHANGED_AT + 1
_SPENT_AT = _WINDOWS_AT + (ROWS + 1) * _WINDOW_FIELDS
_HOST_AT = _SPENT_AT + (ROWS + 1) * _SPENT_FIELDS  # a number by which other hosts know this one
SPENT_AT = _HOST_AT + 1  # Unix time at which anything was last spent
TOKENS_CHANGED = SPENT_AT + 1  # how often access tokens were changed while the gateway runs
_SLOTS_USED = TOKENS_CHANGED + 1  # lines that have, or had, an owner: always the first ones
_OWNERS_AT = _SLOTS_USED + 1
_REFUSAL_BYTES = 256
_REFUSALS_BYTES = (ROWS + 1) * _REFUSAL_BYTES
# Its owner, its attempts, the tokens and nano-USD that it reserves and has not booked, its open
# calls.
_SLOT_BYTES = 8 + (ROWS + 1) * 8 * 5 + (ROWS + 1) * 2


def fingerprint(name: str) -> int:
    """Returns the mark by which a row is found: 48 bits of blake2b: exact in a float, never 0."""
    return int.from_bytes(blake2b(name.encode(), digest_size=6).digest(), "big") or 1


class SharedState:
    """The shared memory. The main process makes it; a worker attaches with `handles`.

    `cells` holds all numbers of all tables. A row is addressed by its base, the index of its first
    field: `cells[base + COOLDOWN_UNTIL]`.
    """

    def __init__(self, handles: Arena | None = None, workers: int = 1) -> None:
        # During a reload old and new workers run together, and lines of dead ones are freed late.
        size = _OWNERS_AT * 8 + _REFUSALS_BYTES + (4 * workers + 16) * _SLOT_BYTES
        self.handles = handles if handles is not None else Arena(size)
        memory = memoryview(self.handles.buffer)
        self._slots = (self.handles.size - _OWNERS_AT * 8 - _REFUSALS_BYTES) // _SLOT_BYTES
        self._owners = _OWNERS_AT
        self._uses = self._owners + self._slots
        # By rows, not by lines: all of a row is read before each call with a budget.
        self._budgets = self._uses + self._slots * (ROWS + 1)
        counts_at = (self._budgets + self._slots * (ROWS + 1) * 4) * 8
        self.cells = memory[:counts_at].cast("d")
        refusals_at = counts_at + self._slots * (ROWS + 1) * 2
        self._counts = memory[counts_at:refusals_at].cast("H")
        self._refusals = memory[refusals_at : refusals_at + _REFUSALS_BYTES]
        self.guard = ProcessLock(self.handles.fd, wait_seconds=0.05, poll_seconds=0.0002)
        self._leader_lock = ProcessLock(self.handles.fd, offset=1)
        self._slot = self._own_uses = -1

    def acquire_leadership(self) -> bool:
        """Takes the leader lock if it is free. True if this process holds it now."""
        return self._leader_lock.acquire_now()

    def release_leadership(self) -> None:
        """Releases the leader lock, so that another process can take it."""
        self._leader_lock.release()

    # --- rows -------------------------------------------------------------------------------

    def row(self, name: str) -> int:
        """Returns the row of `name`, claimed if it has none yet; -1 when the table is full."""
        return self.row_of(fingerprint(name))

    def row_of(self, mark: int) -> int:
        """Returns the row with this fingerprint, claimed if there is none; -1: table full."""
        found, free = self._find(mark)
        if found >= 0 or free < 0:
            return found
        with self.guard:
            found, free = self._find(mark)
            if found < 0 and free >= 0:
                self.cells[free * FIELDS + FINGERPRINT] = mark
                found = free
        return found

    def find_row(self, mark: int) -> int:
        """Returns the row with this fingerprint, -1 when there is none."""
        return self._find(mark)[0]

    def _find(self, mark: int) -> tuple[int, int]:
        """The row with this fingerprint and the free one where it would go, -1 for none."""
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
        """Returns the base of the row of a key and model, -1 when there is none."""
        cells = self.cells
        for base in _model_places(mark):
            if cells[base] == mark:
                return base
        return -1

    def claim_model(self, mark: int) -> int:
        """Returns the base of the row of a key and model, claimed if there is none.

        Callers choose model names, so the table must be bounded: when no place is free, the row
        whose cooldown ends first is reused.
        """
        base = self.model_base(mark)
        if base >= 0:
            return base
        cells = self.cells
        with self.guard:
            places = _model_places(mark)
            for base in places:
                if cells[base] in (0.0, mark):
                    break
            else:
                base = min(places, key=lambda place: cells[place + COOLDOWN_UNTIL])
            if cells[base] != mark:
                for field in range(FIELDS):
                    cells[base + field] = 0.0
                cells[base] = mark
        return base

    def models_of(self, mark: float) -> Iterator[int]:
        """Yields the bases of the rows of the key with this fingerprint and its models."""
        owners = self.cells[_MODELS_AT + VALUE : _WINDOWS_AT : FIELDS].tolist()
        for number, owner in enumerate(owners):
            if owner == mark:
                yield _MODELS_AT + number * FIELDS

    def changed(self, since: float) -> Iterator[tuple[int, bool]]:
        """Yields (base, is a model's row) of rows whose cooldown changed after `since`."""
        for start, rows in ((0, ROWS), (_MODELS_AT, MODEL_ROWS)):
            column = self.cells[start + CHANGED_AT : start + rows * FIELDS : FIELDS].tolist()
            for number, changed_at in enumerate(column):
                if changed_at > since:
                    yield start + number * FIELDS, start > 0

    def window(self, row: int) -> int:
        """Returns the index in `cells` of the rate window of the key in this row."""
        return _WINDOWS_AT + row * _WINDOW_FIELDS

    def spent(self, row: int) -> int:
        """Returns the index in `cells` of what the token in this row has spent."""
        return _SPENT_AT + row * _SPENT_FIELDS

    def spent_column(self, field: int) -> Sequence[float]:
        """Returns one field of what was spent, of all rows."""
        return self.cells[_SPENT_AT + field : _HOST_AT : _SPENT_FIELDS].tolist()

    @property
    def host(self) -> int:
        """The number by which other hosts know what is spent on this one; drawn when first asked
        for."""
        with self.guard:
            if not self.cells[_HOST_AT]:
                self.cells[_HOST_AT] = getrandbits(47) + 1
            return int(self.cells[_HOST_AT])

    @host.setter
    def host(self, number: int) -> None:
        self.cells[_HOST_AT] = number

    def refusal(self, row: int) -> str:
        """Returns the text of the upstream's last refusal. It may be a mix of two texts when
        another process writes at the same time."""
        text = bytes(self._refusals[row * _REFUSAL_BYTES : (row + 1) * _REFUSAL_BYTES])
        return text.rstrip(b"\0").decode(errors="ignore")

    def set_refusal(self, row: int, text: str) -> None:
        """Stores the first 256 bytes of `text`, which must hold no secret."""
        kept = text.encode(errors="ignore")[:_REFUSAL_BYTES]
        self._refusals[row * _REFUSAL_BYTES : (row + 1) * _REFUSAL_BYTES] = kept.ljust(
            _REFUSAL_BYTES, b"\0"
        )

    # --- counts: each worker has its own line, so no update is lost and a dead one's can be freed -

    def open_calls(self, row: int) -> int:
        """Returns the open calls with the key in this row, of all workers."""
        return sum(self._counts[row :: ROWS + 1].tolist())

    def count(self, row: int, change: int) -> None:
        """Adds `change` to this process's open calls with the key in this row.

        The caller holds the guard.
        """
        if self._slot < 0:
            self._slot = self._claim_slot()
        place = self._slot * (ROWS + 1) + row
        self._counts[place] = max(self._counts[place] + change, 0)

    @property
    def lines_used(self) -> int:
        """How many processes have, or had, a line of their own; at least 1."""
        return int(self.cells[_SLOTS_USED]) or 1

    def standing(self, row: int) -> tuple[float, float, float, float]:
        """Returns what all workers reserve of the budget in this row, and what their calls have
        spent that is not booked: tokens and nano-USD of each."""
        start = self._budgets + row * self._slots * 4
        used = int(self.cells[_SLOTS_USED])
        if used == 1:
            tokens, nano, spent, cost = self.cells[start : start + 4]
            return tokens, nano, spent, cost
        values = self.cells[start : start + used * 4].tolist()
        return sum(values[::4]), sum(values[1::4]), sum(values[2::4]), sum(values[3::4])

    def change_budget(
        self, row: int, held_tokens: float, held_nano: float, spent_tokens: float, spent_nano: float
    ) -> None:
        """Adds to what this process reserves, and to what it has spent and not booked; negative
        numbers give back what was reserved, and are booked.

        Without the guard: who writes first and then reads what all have written sees every other
        one who did. The caller must not hold the guard.
        """
        cells, at = self.cells, self._own_budget(row)
        if at < 0:
            with self.guard:
                at = -at
                cells[at] += held_tokens
                cells[at + 1] += held_nano
                cells[at + 2] += spent_tokens
                cells[at + 3] += spent_nano
            return
        # What was spent before what it gives back: a reader in between may see it twice, not never.
        cells[at + 2] += spent_tokens
        cells[at + 3] += spent_nano
        cells[at] += held_tokens
        cells[at + 1] += held_nano

    def _own_budget(self, row: int) -> int:
        """The place of this process in a row's budget; negative where others share it."""
        if self._slot < 0:
            with self.guard:
                self._slot = self._claim_slot()
        at = self._budgets + (row * self._slots + self._slot) * 4
        return -at if self._slot == self._slots - 1 else at

    def uses(self, row: int) -> int:
        """Returns the attempts with the key in this row, of all workers, dead ones included."""
        end = self._uses + self._slots * (ROWS + 1)
        return int(sum(self.cells[self._uses + row : end : ROWS + 1].tolist()))

    def add_use(self, row: int) -> None:
        """Counts one attempt of this process. The caller must not hold the guard."""
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
        """Frees the lines, open calls and reservations of dead workers. True if there was one."""
        found = False
        for slot in range(self._slots - 1):
            owner = int(self.cells[self._owners + slot])
            if owner and not alive(owner):
                start, end = slot * (ROWS + 1), (slot + 1) * (ROWS + 1)
                self._counts[start:end] = memoryview(bytes(2 * (ROWS + 1))).cast("H")
                for field in range(4):
                    first = self._budgets + slot * 4 + field
                    column = slice(
                        first, self._budgets + self._slots * (ROWS + 1) * 4, self._slots * 4
                    )
                    self.cells[column] = memoryview(bytes(8 * (ROWS + 1))).cast("d")
                self.cells[self._owners + slot] = 0.0
                found = True
        return found

    def _claim_slot(self) -> int:
        # The caller holds the guard.
        last = self._slots - 1  # shared by processes for which no other line is free
        for _ in range(2):
            owners = self.cells[self._owners : self._owners + last].tolist()
            for wanted in (own(), 0):
                if wanted in owners:
                    slot = owners.index(wanted)
                    self.cells[self._owners + slot] = own()
                    self.cells[_SLOTS_USED] = max(self.cells[_SLOTS_USED], slot + 1)
                    return slot
            self.forget_dead()
        self.cells[_SLOTS_USED] = last + 1
        return last


def _model_places(mark: int) -> range:
    """The bases of the model rows in which this fingerprint may stand."""
    first = _MODELS_AT + (mark % (MODEL_ROWS // _WAYS)) * _WAYS * FIELDS
    return range(first, first + _WAYS * FIELDS, FIELDS)
