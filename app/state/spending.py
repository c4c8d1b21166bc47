"""What access tokens have spent, and what is reserved for their calls under way, in all workers.

A row counts tokens and nano-USD (1e-9 USD) of the current day, week and month, on this host and
on the others. Reservations stand in a line of their worker, so those of a dead one can be freed.
"""

from collections.abc import Iterable, Iterator
from math import isfinite

from msgspec import Struct

from app.state.periods import DAY, starts
from app.state.shared_table import (
    FIELDS,
    FINGERPRINT,
    OTHERS_SPENT,
    SPENT_AT,
    SPENT_CHANGED_AT,
    WARNED_OF,
    SharedState,
)

_PERIODS = 3
Sums = tuple[float, float]  # tokens, nano-USD


class Spent(Struct, array_like=True):
    """What one token has spent on one host: (start, tokens, nano-USD) of day, week and month.

    `mark` is the fingerprint of the token's row.
    """

    mark: int
    periods: list[tuple[float, float, float]]

    def is_sane(self, now: float) -> bool:
        """Whether this gateway can have written these values."""
        return (
            0 < self.mark < 2**48
            and len(self.periods) == _PERIODS
            and all(isfinite(value) and 0 <= value < 2**63 for one in self.periods for value in one)
            and all(start <= now + DAY for start, *_ in self.periods)
        )


class Spending:
    """Reads and writes the spent sums of the shared table. `period` is 0 for the day, 1 for the
    week, 2 for the month."""

    def __init__(self, state: SharedState) -> None:
        self._state = state

    def spent(self, row: int, period: int, now: float) -> Sums:
        """What was spent in the current period, on all hosts."""
        start = starts(now)[period]
        cells, at = self._state.cells, self._state.spent(row) + period * 3
        others = at + OTHERS_SPENT
        tokens = nano = 0.0
        if cells[at] == start:
            tokens, nano = cells[at + 1], cells[at + 2]
        if cells[others] == start:
            tokens += cells[others + 1]
            nano += cells[others + 2]
        return tokens, nano

    def add(self, row: int, tokens: int, nano: int, now: float) -> None:
        """Adds what a call has cost. The caller holds the guard."""
        cells, place = self._state.cells, self._state.spent(row)
        cells[place + SPENT_CHANGED_AT] = cells[SPENT_AT] = now
        for start in starts(now):
            if cells[place] < start:
                cells[place], cells[place + 1], cells[place + 2] = start, 0.0, 0.0
            cells[place + 1] += tokens
            cells[place + 2] += nano
            place += 3

    def first_warning(self, row: int, period: int, level: int, now: float) -> bool:
        """Whether `level` (above 0) is reached for the first time in this period. The caller holds
        the guard."""
        cells, at = self._state.cells, self._state.spent(row) + WARNED_OF
        start = starts(now)[period]
        if cells[at] == start and cells[at + 1] >= level:
            return False
        cells[at], cells[at + 1] = start, level
        return True

    def changed(self, since: float) -> bool:
        """Whether anything was spent after `since`."""
        return self._state.cells[SPENT_AT] > since

    def own(self) -> Iterator[Spent]:
        """Yields what was spent on this host, of all rows."""
        cells = self._state.cells
        column = self._state.spent_column(SPENT_CHANGED_AT)
        for row in [row for row, changed_at in enumerate(column) if changed_at]:
            if mark := int(cells[row * FIELDS + FINGERPRINT]):
                at = self._state.spent(row)
                yield Spent(
                    mark,
                    [
                        (cells[place], cells[place + 1], cells[place + 2])
                        for place in range(at, at + _PERIODS * 3, 3)
                    ],
                )

    def restore(self, spent: Spent, now: float) -> None:
        """Takes what this host has told of itself before: the higher sum of the later period."""
        row = self._state.row_of(spent.mark) if spent.is_sane(now) else -1
        if row < 0:
            return
        cells, at = self._state.cells, self._state.spent(row)
        with self._state.guard:
            for period, (start, *sums) in enumerate(spent.periods):
                place = at + period * 3
                if start > cells[place]:
                    cells[place], cells[place + 1], cells[place + 2] = start, 0.0, 0.0
                for n, value in enumerate(sums, 1):
                    if start == cells[place] and value > cells[place + n]:
                        cells[place + n] = value
                        cells[at + SPENT_CHANGED_AT] = cells[SPENT_AT] = now

    def set_others(self, row: int, spent: Iterable[Spent], now: float) -> None:
        """Stores what the other hosts have spent of the token in this row."""
        sums = [[float(start), 0.0, 0.0] for start in starts(now)]
        for one in spent:
            for total, (start, tokens, nano) in zip(sums, one.periods, strict=True):
                if start == total[0]:
                    total[1] += tokens
                    total[2] += nano
        cells, at = self._state.cells, self._state.spent(row) + OTHERS_SPENT
        for n, value in enumerate(value for total in sums for value in total):
            cells[at + n] = value
