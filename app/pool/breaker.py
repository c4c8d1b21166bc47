"""The circuit breaker: whether the upstream is to blame for a failure, and not the key.

When the keys of one upstream fail alike within seconds, and none of them succeeds, the upstream's
own row cools down (its breaker is open) and no key does. The states and transitions of that row
are those of cooldowns.py: open is cooling, half-open lets one attempt of all workers probe.
"""

from app.pool.cooldowns import DISABLED, REFUSALS, Cooldowns
from app.pool.lease import NO_ROW, Entry, Group, Lease
from app.pool.outcomes import Outcome
from app.state.shared_table import (
    COOLDOWN_BEGAN,
    COOLDOWN_UNTIL,
    FAILED_CALL,
    FAILURE_KIND,
    FIELDS,
    LAST_AT,
    LAST_STATUS,
    REASON,
    SUCCESS_AT,
    SharedState,
)

PROBE_SECONDS = 5.0  # how long the probe of an open breaker is waited for
_SEVERAL = 3  # keys that fail alike open the breaker; of fewer keys, all
_WINDOW_SECONDS = {Outcome.AUTH: 30.0, Outcome.FORBIDDEN: 30.0, Outcome.UPSTREAM: 10.0}


class Breaker:
    """Opens and closes the breakers of all upstreams. One per worker; keeps no state."""

    def __init__(self, state: SharedState, cooldowns: Cooldowns) -> None:
        self._state, self._cells, self._cooldowns = state, state.cells, cooldowns

    def is_open(self, group: Group) -> bool:
        """Whether the upstream of this group is down, as far as is known."""
        return self._cells[group.base + COOLDOWN_UNTIL] != 0.0

    def takes_blame(
        self, lease: Lease, entry: Entry, group: Group, outcome: Outcome, now: float
    ) -> bool:
        """Whether the upstream and not the key is to blame for this failure: its breaker is open
        for that reason, or this failure opens it."""
        cells, base = self._cells, group.base
        if base == NO_ROW:
            return False
        if cells[base + COOLDOWN_UNTIL]:
            blamed = Outcome(int(cells[base + REASON]))
            is_alike = _alike(outcome, blamed)
            if is_alike or outcome is Outcome.UPSTREAM:
                self._cooldowns.begin(base, blamed, None, lease.at, now, is_breaker=True)
                if is_alike:
                    self._copy_refusal(group, entry)
                return is_alike
            # The upstream answers, and the answer is about this key alone: it is back.
            self._cooldowns.end_after_success(base, lease.at, now)
            return False
        since = self._fail_alike(group, outcome, now)
        if since is None:
            return False
        self._copy_refusal(group, entry)
        self._cooldowns.begin(base, outcome, None, lease.at, now, is_breaker=True)
        self._acquit(group, outcome, since, now)
        return True

    def _acquit(self, group: Group, outcome: Outcome, since: float, now: float) -> None:
        """Ends the cooldowns that keys began for what the upstream is blamed for now."""
        cells = self._cells
        for entry in group.entries:
            base = entry.base
            cools = cells[base + COOLDOWN_UNTIL] and cells[base + COOLDOWN_BEGAN] > since
            if not cools or cells[base + REASON] == DISABLED:
                continue
            if _alike(Outcome(int(cells[base + FAILURE_KIND])), outcome):
                self._cooldowns.end(base, now)

    def _copy_refusal(self, group: Group, entry: Entry) -> None:
        """The last answer to the key becomes the last answer of the upstream."""
        cells = self._cells
        cells[group.base + LAST_STATUS] = cells[entry.base + LAST_STATUS]
        self._state.set_refusal(group.base // FIELDS, self._state.refusal(entry.row))

    def _fail_alike(self, group: Group, outcome: Outcome, now: float) -> float | None:
        """Returns the start (Unix time) of a window in which several keys failed alike and none
        succeeded, None when there is none.

        One request that breaks the upstream by itself must not open the breaker for all callers:
        except for 401, which no request provokes, the failures must come from two calls at least.
        """
        window = _WINDOW_SECONDS.get(outcome)
        if window is None or len(group.entries) < 2:
            return None
        cells = self._cells
        since = max(now - window, cells[group.base + SUCCESS_AT])
        alike, calls = 0, set()
        several = min(_SEVERAL, len(group.entries))
        for entry in group.entries:
            base = entry.base
            kind = Outcome(int(cells[base + FAILURE_KIND]))
            if kind and _alike(kind, outcome) and cells[base + LAST_AT] > since:
                alike += 1
                calls.add(cells[base + FAILED_CALL])
                if outcome is Outcome.UPSTREAM and alike >= several and len(calls) > 1:
                    return since
            elif outcome in REFUSALS and not (
                cells[base + COOLDOWN_UNTIL] and cells[base + COOLDOWN_BEGAN] <= since
            ):
                return None  # this key is not refused: so the others themselves are bad
        if outcome is Outcome.UPSTREAM or alike < several:
            return None
        return since if outcome is Outcome.AUTH or len(calls) > 1 else None


def _alike(one: Outcome, other: Outcome) -> bool:
    return one is other or (one in REFUSALS and other in REFUSALS)
