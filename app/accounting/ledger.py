"""The ledger of one worker: a row per call and sums over them, written from a thread.

The event loop hands the record over; about once a second the thread makes the rows of what has
come, adds them up and writes them in one transaction. Without calls it sleeps. While the database
cannot be written, calls go on: rows wait in memory, the oldest are dropped beyond a bound and
counted, and their sums are kept.
"""

import asyncio
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from operator import itemgetter

from msgspec.structs import astuple

from app.accounting.store import (
    DAY,
    FIGURES,
    HOUR,
    KIND,
    OWN,
    Batch,
    Row,
    Store,
    Unwritten,
)
from app.telemetry.call_log import ESTIMATED, CallRecord
from app.telemetry.redaction import redact

logger = logging.getLogger("any_proxy.ledger")

MOST_WAITING = 50_000  # rows in memory, of about half a kilobyte each
MOST_GROUPS = 10_000  # sums in memory; further models are summed as one
BATCH_ROWS = 5_000
_TAKEN_AT_ONCE = 250  # rows made before the event loop may run again: some 0.3 ms
TOGETHER_SECONDS = 1.0
RETRY_SECONDS = (1.0, 2.0, 4.0, 8.0, 15.0)
PRUNE_SECONDS = 3600.0
_HOURS_KEPT_DAYS = 400  # of hourly sums; daily ones stay
_CLOSE_SECONDS = 8.0
OTHER = "(other)"
# No call has more, and no sum of such figures overflows a database's integer.
_MOST_TOKENS, _MOST_COST = 10**9, 10**14
_HOUR_MS = HOUR * 1000


Call = tuple[int, CallRecord]  # with the Unix millisecond of its end
Kinds = dict[int, Row]  # by their ids: the id, then KIND
Sums = dict[Row, list[int]]  # by hour, token, provider, model and key: FIGURES


class Ledger:
    """Takes the records of calls that have ended. `days` is how long rows are kept.

    `report` is called on the thread after each attempt to write, with how many rows were written,
    wait and were dropped so far.
    """

    def __init__(
        self, store: Store, days: int, report: Callable[[int, int, int], None] | None = None
    ) -> None:
        self._store, self._days, self._report = store, days, report
        self._new: deque[Call] = deque()
        self._lock = threading.Lock()  # of the next two; held for no more than an exchange
        self._refused_sums: Sums = {}
        self._refused = 0  # calls that found no room
        self._wake, self._closing = threading.Event(), threading.Event()
        self._is_awake = False
        self._thread: threading.Thread | None = None
        # From here on: the thread's own.
        self._writer, self._number = os.urandom(12).hex(), 0
        self._rows: deque[Row] = deque()
        self._kinds: Kinds = {}  # at least those of the rows
        self._sums: Sums = {}
        self._batch: Batch | None = None  # tried, and not known to be written
        self._written = self._dropped = self._failures = 0
        self._next_prune = 0.0

    def add(self, record: CallRecord) -> None:
        """Takes one call. Never waits for the database, never fails. The record must not be changed
        any more."""
        at = time.time_ns() // 1_000_000
        if len(self._new) < MOST_WAITING:
            self._new.append((at, record))
        else:  # the thread is stuck in the database
            with self._lock:
                self._refused += 1
                _add_up(self._refused_sums, *rows_of([(at, record)]))
        if not self._is_awake:
            self._is_awake = True
            self._wake.set()
            if self._thread is None:
                self._start()

    async def close(self) -> None:
        """Writes what waits, for some seconds at the most, and closes the database."""
        thread = self._thread
        if thread is None:
            return
        self._closing.set()
        self._wake.set()
        await asyncio.to_thread(thread.join, _CLOSE_SECONDS)
        if left := len(self._new) + self._waiting():
            logger.error("the gateway ends, and %d rows of the ledger are not written", left)

    def _start(self) -> None:
        # A daemon: one that waits for a database must not keep the process alive.
        thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no thread can be started; the next call tries again
            self._is_awake = False
            return
        self._thread = thread

    # --- on the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        self._next_prune = time.monotonic() + PRUNE_SECONDS / 60
        while not self._closing.is_set():
            if self._failures:
                self._closing.wait(RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS)) - 1])
            else:
                self._wake.wait(max(self._next_prune - time.monotonic(), 0))
                self._closing.wait(TOGETHER_SECONDS)
            self._wake.clear()
            self._is_awake = False
            self._work()
            if time.monotonic() >= self._next_prune and not self._failures:
                self._prune()
        self._work()
        self._store.close()

    def _waiting(self) -> int:
        return len(self._rows) + (len(self._batch.rows) if self._batch is not None else 0)

    def _work(self) -> None:
        try:
            self._take()
            while self._batch is not None or self._rows or self._sums:
                self._write()
        except Unwritten as error:
            if self._failures == 0:
                reason = redact(str(error))
                logger.error("the ledger cannot be written, its rows wait in memory: %s", reason)
            self._failures += 1
            self._store.close()
        except Exception:  # the thread must live on, for there is no other
            logger.exception("the ledger failed")
            self._failures += 1
        else:
            if self._failures:
                logger.warning("the ledger is written again")
            self._failures = 0
        if self._report is not None:
            self._report(self._written, self._waiting(), self._dropped)

    def _take(self) -> None:
        """Makes the rows and the sums of what the event loop has handed over."""
        new, rows, kinds, sums = self._new, self._rows, self._kinds, self._sums
        while new:
            calls = [new.popleft() for _ in range(min(len(new), _TAKEN_AT_ONCE))]
            these, their_rows = rows_of(calls)
            kinds.update(these)
            rows.extend(their_rows)
            _add_up(sums, these, their_rows)
            time.sleep(0)  # gives the interpreter back to the event loop
        with self._lock:
            refused, self._refused = self._refused, 0
            refused_sums, self._refused_sums = self._refused_sums, {}
        self._dropped += refused
        for group, figures in refused_sums.items():
            _merge(sums, group, figures)
        while self._waiting() > MOST_WAITING and self._rows:
            self._rows.popleft()
            self._dropped += 1
        if len(kinds) > MOST_WAITING:
            self._kinds = {row[2]: kinds[row[2]] for row in self._rows}

    def _write(self) -> None:
        """Writes one batch. Raises Unwritten, and keeps it for the next attempt."""
        if self._batch is None:
            self._number += 1
            kinds = list(self._kinds.values())
            if len(self._rows) <= BATCH_ROWS:
                rows = list(self._rows)
                self._rows.clear()
                self._kinds.clear()
            else:
                rows = [self._rows.popleft() for _ in range(BATCH_ROWS)]
            sums, self._sums = self._sums, {}
            self._batch = Batch(
                self._writer,
                self._number,
                int(time.time()),
                kinds,
                rows,
                list(_spans(sums)),
            )
        try:
            self._store.write(self._batch)
            self._written += len(self._batch.rows)
        except Unwritten as error:
            if not error.is_final:
                raise
            logger.error("%d rows cannot be in the ledger: %s", len(self._batch.rows), error)
            self._dropped += len(self._batch.rows)
        self._batch = None

    def _prune(self) -> None:
        """Deletes some old rows; comes again soon while there are more."""
        now = int(time.time())
        oldest = (now - self._days * DAY) * 1000
        try:
            deleted = self._store.prune(oldest, now - _HOURS_KEPT_DAYS * DAY, now - DAY, BATCH_ROWS)
        except Unwritten as error:
            logger.error("old rows of the ledger cannot be deleted: %s", redact(str(error)))
            self._store.close()
            deleted = 0
        self._next_prune = time.monotonic() + (0 if deleted >= BATCH_ROWS else PRUNE_SECONDS)


def _merge(sums: Sums, group: Row, figures: list[int]) -> None:
    """Adds figures to those of their group, or of the last one that there is room for."""
    held = sums.get(group)
    if held is None and len(sums) >= MOST_GROUPS:
        group = (*group[:3], OTHER, "")
        held = sums.get(group)
    sums[group] = figures if held is None else [a + b for a, b in zip(held, figures, strict=True)]


def _spans(sums: Sums) -> Iterable[Row]:
    """The sums of hours and of days, in one order: writers that meet wait for one another."""
    days: Sums = {}
    for (hour, *group), figures in sums.items():
        _merge(days, (hour // DAY * DAY, *group), figures)
    both = [(HOUR, *group, *figures) for group, figures in sums.items()]
    both += [(DAY, *group, *figures) for group, figures in days.items()]
    return sorted(both, key=lambda row: row[:6])


def _add_up(sums: Sums, kinds: Kinds, rows: Sequence[Row]) -> None:
    """Adds calls, at least one and in the order of their ends, to the sums of their groups."""
    hour = rows[0][0] // _HOUR_MS
    if rows[-1][0] // _HOUR_MS != hour:
        for row in rows:
            _add_up(sums, {row[2]: kinds[row[2]]}, [row])
        return
    alike: dict[int, list[Row]] = {kind_id: [] for kind_id in kinds}
    for row in rows:
        alike[row[2]].append(row)
    for kind_id, same in alike.items():
        kind, calls = kinds[kind_id], len(same)
        _, token, _, _, _, provider, _, model, key_id, _, status, outcome, _, _, counted = kind
        figures = [0] * len(FIGURES)
        figures[0] = calls
        if outcome != "complete" or status >= 400:
            figures[1] = calls
        if counted:
            *tokens, costs = list(zip(*same, strict=True))[5:]
            figures[2:7] = map(sum, tokens)
            if counted == ESTIMATED:
                figures[7] = calls
            figures[8] = sum(filter(None, costs))
            figures[9] = costs.count(None)
        # The name of a model that did not answer is only what somebody wrote.
        _merge(sums, (hour * HOUR, token, provider, model if counted else "", key_id), figures)


def _members(names: Sequence[str]) -> Callable[[Sequence[Row]], Row]:
    """What takes the columns of these members out of those of all."""
    return itemgetter(*map(CallRecord.__struct_fields__.index, names))


_KIND_OF = _members(KIND)
_OWN_OF = _members([name for name in OWN if name not in ("time", "kind")])


def rows_of(calls: Sequence[Call]) -> tuple[Kinds, list[Row]]:
    """The kinds and the rows, OWN, of calls. Column by column, so that built-in functions do most
    of it: a loop over the calls took nearly twice as long."""
    times, records = zip(*calls, strict=True)
    columns = list(zip(*map(astuple, records), strict=True))
    kinds = list(map(_kind, zip(*_KIND_OF(columns), strict=True)))
    ids = list(map(itemgetter(0), kinds))
    request_ids, first, total, *counts, cost = _OWN_OF(columns)
    rows: list[Row] = list(zip(times, request_ids, ids, first, total, *counts, cost, strict=True))
    try:
        fit = max(map(max, counts)) <= _MOST_TOKENS
    except TypeError:  # a count is None: the call has none
        fit = False
    if not fit or max(filter(None, cost), default=0) > _MOST_COST:
        rows = list(map(_fitted, kinds, rows))
    return dict(zip(ids, kinds, strict=True)), rows


def _fitted(kind: Row, row: Row) -> Row:
    """The row without counts if there are none, else with such as fit into a sum."""
    *start, prompt, cached, written, completion, reasoning, cost = row
    counts: Row = (None,) * 5
    if kind[-1]:
        told = (prompt or 0, cached, written, completion or 0, reasoning)
        counts = tuple(min(count, _MOST_TOKENS) for count in told)
    return (*start, *counts, None if cost is None else min(cost, _MOST_COST))


@lru_cache(4096)
def _kind(told: Row) -> Row:
    """The id is made of the rest, so that all workers have the same one."""
    kind = tuple(clean(each) if isinstance(each, str) else int(each) for each in told)
    digest = blake2b("\0".join(map(str, kind)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1, *kind


@lru_cache(4096)
def clean(text: str) -> str:
    """The text without characters that a database refuses or a terminal obeys."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isprintable() else "\ufffd" for c in text)
