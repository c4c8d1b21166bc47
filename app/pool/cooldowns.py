"""The cooldowns of keys, of keys for one model, and of upstreams: the state machine of a row.

A key, a key for one model, and an upstream have one row each in shared memory (see
app/state/shared_table.py). All workers read and write the same rows; no worker has a copy of this
state. The row of an upstream is its circuit breaker (breaker.py), with the same states.

States, as the fields of a row say them; in brackets the word of the admin API:

    available  [awake]     COOLDOWN_UNTIL = 0
    cooling    [resting]   COOLDOWN_UNTIL > now
    half-open  [due]       0 < COOLDOWN_UNTIL <= now, and no probe is under way
    probing    [probing]   the same, with PROBE_UNTIL > now, and the process PROBE_PID runs
    disabled   [disabled]  REASON = DISABLED, and COOLDOWN_UNTIL is far in the future

Transitions:

    available --begin-----> cooling    a failure; of FORBIDDEN and UPSTREAM the second in a row
    cooling   --begin-----> cooling    a failure of an attempt from before the cooldown is the same
                                       incident: only a longer Retry-After counts. A later attempt
                                       (one that ignores the breaker) begins a longer cooldown
    cooling   --(time)----> half-open  nobody writes: readers compare COOLDOWN_UNTIL with the clock
    half-open --claim-----> probing    one attempt of all workers, under the guard
    probing   --begin-----> cooling    the probe failed; longer, if for the same reason as before
    probing   --end-------> available  the probe succeeded
    probing   --release---> half-open  the probe told nothing. The same without a write when
                                       PROBE_UNTIL has passed or the process is dead
    any       --end-------> available  a success of an attempt from after the cooldown began; a new
                                       secret; the breaker takes the blame; the operator's reset
    any       --disable---> disabled   the operator; only the operator's reset ends it

A model's row that has been half-open for MODEL_MEMORY seconds counts as available.

Who writes which fields:

    begin, end, disable   COOLDOWN_UNTIL, COOLDOWN_BEGAN, REASON, BACKOFF_STEP, CHANGED_AT. `begin`
                          and `end` clear PROBE_UNTIL, `end` also FAILURES and FAILURE_KIND
    begin_for_model       VALUE of the model's row, MODELS_UNTIL of the key's row
    end_models            MODELS_UNTIL of the key's row
    claim_probe, release  PROBE_UNTIL, PROBE_PID
    KeyPool               VALUE of a key, FAILURES, FAILURE_KIND, FAILED_CALL, LAST_AT, LAST_STATUS,
                          SUCCESS_AT
    Breaker               LAST_STATUS of the upstream's row
    cooldown_store.merge  what `begin` and `begin_for_model` write, and LAST_STATUS: news from a
                          file or another host, if CHANGED_AT is later there

The guard is held where two workers must not both decide: to claim a probe, to take from a rate
limit, to count a failure. `begin` and `end` go without it: every field is one 8-byte value, two
workers that begin a cooldown at the same moment write nearly the same, and the later write counts.

What a crash leaves behind. A process may be killed between any two writes; nothing repairs a row
afterwards, so the order of the writes matters:

    in `begin`    COOLDOWN_UNTIL is written last. Before it the row is still available or half-open,
                  with a raised BACKOFF_STEP: the next failure begins a longer cooldown than due.
    in `end`      COOLDOWN_UNTIL is written first. After it the row is available, perhaps with an
                  old BACKOFF_STEP. Without the new CHANGED_AT other hosts do not hear of the end,
                  and find it by their own probe.
    in `disable`  REASON is written first, so that no concurrent `begin` shortens the cooldown.
                  After it the row is available and never cools down, until the operator's next
                  order.
    as the probe  PROBE_PID is dead: the next attempt claims the probe at once.
    in the guard  the kernel releases it.
"""

from app.pool.lease import Entry, Lease
from app.pool.outcomes import Outcome
from app.state.process_identity import alive, own
from app.state.shared_table import (
    BACKOFF_STEP,
    CHANGED_AT,
    COOLDOWN_BEGAN,
    COOLDOWN_UNTIL,
    FAILURE_KIND,
    FAILURES,
    MODELS_UNTIL,
    PROBE_PID,
    PROBE_UNTIL,
    REASON,
    VALUE,
    SharedState,
    fingerprint,
)
from app.wire.retry_after import MOST_SECONDS

DISABLED = 100.0  # a REASON that is no Outcome
DISABLED_UNTIL = 1e11
MODEL_MEMORY = 600.0  # seconds after its cooldown in which a model's row waits for its probe
# The first cooldown of a key and the longest, in seconds; each is twice the one before.
KEY_COOLDOWNS = {
    Outcome.AUTH: (10.0, 600.0),
    Outcome.FORBIDDEN: (10.0, 600.0),
    Outcome.SPENT: (1800.0, 43_200.0),
    Outcome.LIMITED: (10.0, 300.0),
    Outcome.UPSTREAM: (2.0, 2.0),
}
BREAKER_COOLDOWNS = (2.0, 5.0)
REFUSALS = frozenset((Outcome.AUTH, Outcome.FORBIDDEN))
_MOST_STEPS = 30  # 2 ** 29 times the first is longer than any longest


class Cooldowns:
    """Begins and ends cooldowns, and says how long to wait. One per worker; keeps no state."""

    def __init__(self, state: SharedState) -> None:
        self._state, self._cells = state, state.cells

    # --- reading ----------------------------------------------------------------------------

    def wait(self, base: int, now: float) -> float:
        """Returns the seconds until this row lets a call through, 0 for now (perhaps as its
        probe). While a probe is under way, it is 1."""
        cells = self._cells
        until = cells[base + COOLDOWN_UNTIL]
        if until == 0.0:
            return 0.0
        if until > now:
            return until - now
        if cells[base + PROBE_UNTIL] > now and alive(int(cells[base + PROBE_PID])):
            return 1.0
        return 0.0

    def wait_for(self, entry: Entry, model_base: int, now: float) -> float:
        """Returns the seconds until a key's row, and its model's, let a call through."""
        wait = self.wait(entry.base, now)
        return wait if model_base < 0 else max(wait, self.wait(model_base, now))

    def model_base(self, entry: Entry, model: str, now: float) -> int:
        """Returns the base of the row of this key and model, -1 when none says anything."""
        if self._cells[entry.base + MODELS_UNTIL] < now:
            return -1
        base = self._state.model_base(_model_mark(entry, model))
        return -1 if base >= 0 and self._is_forgotten(base, now) else base

    def reason(self, base: int) -> str:
        """Returns why this row cools down, in a word or two; "" when it is available."""
        if self._cells[base + COOLDOWN_UNTIL] == 0.0:
            return ""
        reason = self._cells[base + REASON]
        return "disabled" if reason == DISABLED else Outcome(int(reason)).word

    def is_refused(self, base: int) -> bool:
        """Whether the last word about this row is a refusal of its key. This holds beyond the end
        of the cooldown, until a probe is answered."""
        cells = self._cells
        cools_for_it = cells[base + COOLDOWN_UNTIL] != 0.0 and cells[base + REASON] in REFUSALS
        return cools_for_it or cells[base + FAILURE_KIND] in REFUSALS

    # --- writing ----------------------------------------------------------------------------

    def begin(
        self,
        base: int,
        reason: Outcome,
        retry_after: float | None,
        attempt_began: float,
        now: float,
        *,
        is_breaker: bool = False,
    ) -> float:
        """Begins a cooldown, or lengthens it. Returns the seconds that are left of it.

        `retry_after` is what the upstream asked for, in seconds; without it the cooldown is twice
        as long as the last one for the same reason.
        """
        cells = self._cells
        if cells[base + REASON] == DISABLED:
            return 0.0
        asked = _within_reason(retry_after)
        if cells[base + COOLDOWN_UNTIL] and attempt_began <= cells[base + COOLDOWN_BEGAN]:
            # The attempt was under way when the cooldown began: the same incident.
            if asked is not None and now + asked > cells[base + COOLDOWN_UNTIL]:
                cells[base + COOLDOWN_UNTIL], cells[base + CHANGED_AT] = now + asked, now
            return cells[base + COOLDOWN_UNTIL] - now
        if reason is Outcome.UPSTREAM and cells[base + REASON] not in (0.0, Outcome.UPSTREAM):
            # The probe says nothing about the reason of the cooldown: the next probe soon.
            seconds = KEY_COOLDOWNS[reason][0]
        else:
            first, longest = BREAKER_COOLDOWNS if is_breaker else KEY_COOLDOWNS[reason]
            is_same = cells[base + REASON] == reason
            step = min(cells[base + BACKOFF_STEP] + 1, _MOST_STEPS) if is_same else 1
            seconds = min(first * 2 ** (step - 1), longest) if asked is None else asked
            cells[base + BACKOFF_STEP] = step
            cells[base + REASON] = reason
        cells[base + COOLDOWN_BEGAN] = cells[base + CHANGED_AT] = now
        cells[base + PROBE_UNTIL] = 0.0
        cells[base + COOLDOWN_UNTIL] = now + seconds  # last: from here on every worker sees it
        return seconds

    def begin_for_model(
        self, entry: Entry, model: str, retry_after: float | None, attempt_began: float, now: float
    ) -> None:
        """Begins a cooldown of this key for this model only."""
        base = self._state.claim_model(_model_mark(entry, model))
        self._cells[base + VALUE] = self._cells[entry.base]  # the fingerprint of its key
        if self._is_forgotten(base, now):
            self.end(base, now)  # so that this is a first cooldown again
        seconds = self.begin(base, Outcome.LIMITED, retry_after, attempt_began, now)
        until = now + seconds + MODEL_MEMORY
        self._cells[entry.base + MODELS_UNTIL] = max(self._cells[entry.base + MODELS_UNTIL], until)

    def end(self, base: int, now: float) -> None:
        """Ends a cooldown, whatever its reason, and forgets the failures before it."""
        cells = self._cells
        cells[base + COOLDOWN_UNTIL] = 0.0  # first: from here on the row is available
        for field in (BACKOFF_STEP, REASON, PROBE_UNTIL, FAILURES, FAILURE_KIND):
            cells[base + field] = 0.0
        cells[base + CHANGED_AT] = now

    def end_models(self, base: int, now: float) -> None:
        """Ends the cooldowns of a key for single models. `base` is the key's row."""
        for model_base in self._state.models_of(self._cells[base]):
            self.end(model_base, now)
        self._cells[base + MODELS_UNTIL] = 0.0

    def end_after_success(self, base: int, attempt_began: float, now: float) -> None:
        """Ends a cooldown, if the attempt that succeeded began after it, and it is not disabled."""
        cells = self._cells
        if attempt_began > cells[base + COOLDOWN_BEGAN] and cells[base + REASON] != DISABLED:
            self.end(base, now)

    def disable(self, base: int, now: float) -> None:
        """Lets no call through until `end`."""
        cells = self._cells
        cells[base + REASON] = DISABLED  # first: from here on no `begin` changes the row
        cells[base + CHANGED_AT] = now
        cells[base + COOLDOWN_UNTIL] = DISABLED_UNTIL

    # --- probes -----------------------------------------------------------------------------

    def claim_probe(self, base: int, until: float) -> None:
        """Makes this process's attempt the probe of a half-open row. The caller holds the guard."""
        self._cells[base + PROBE_PID] = own()
        self._cells[base + PROBE_UNTIL] = until

    def release_probes(self, lease: Lease) -> None:
        """Lets other attempts probe the rows that this lease claimed and has not reported on."""
        for base in lease.claims:
            # A cooldown that began anew has cleared it, and another process may probe by now.
            if self._cells[base + PROBE_PID] == own():
                self._cells[base + PROBE_UNTIL] = 0.0
        lease.claims = ()

    def _is_forgotten(self, base: int, now: float) -> bool:
        """Whether a model's cooldown ended so long ago that it says nothing any more."""
        return 0.0 < self._cells[base + COOLDOWN_UNTIL] < now - MODEL_MEMORY


def _within_reason(retry_after: float | None) -> float | None:
    """What an upstream asked for, between 0.1 s and half an hour; None for nothing or nonsense."""
    if retry_after is None or not 0 <= retry_after < float("inf"):
        return None
    return min(max(retry_after, 0.1), MOST_SECONDS)


def _model_mark(entry: Entry, model: str) -> int:
    return fingerprint(f"{entry.name}\n{model}")
