"""The key pool: chooses the credential that answers a call, and records how each attempt went.

The caller's own credential comes first (app/auth), then the key named by id, then a random one of
the configured keys that are available. Random choice needs no agreement between workers. What they
must agree on is in shared memory: cooldowns.py says which states a key has and who changes them,
breaker.py when the upstream is to blame and not the key.

The pool never talks to an upstream, and nothing here awaits.
"""

import random
import time
from collections.abc import Callable, Collection

from app.config.schema import Config
from app.pool import refusals
from app.pool.breaker import PROBE_SECONDS, Breaker
from app.pool.configured_keys import (
    MANY_ACCOUNTS,
    WEB_SESSIONS,
    addresses,
    configured,
    limits_of,
)
from app.pool.cooldowns import DISABLED, DISABLED_UNTIL, REFUSALS, Cooldowns
from app.pool.lease import NO_KEY, NO_ROW, Entry, Group, KeyStatus, Lease
from app.pool.outcomes import Outcome
from app.state.rate_windows import RateWindows, guess_tokens
from app.state.shared_table import (
    COOLDOWN_UNTIL,
    FAILED_CALL,
    FAILURE_KIND,
    FAILURES,
    FIELDS,
    LAST_AT,
    LAST_STATUS,
    MODELS_UNTIL,
    REASON,
    ROWS,
    SUCCESS_AT,
    VALUE,
    SharedState,
    fingerprint,
)
from app.wire.errors import GatewayError
from app.wire.provider import Key
from app.wire.retry_after import whole_seconds

# How long a call goes on with other keys although the breaker has opened during it.
INSIST_SECONDS = 5.0
_FORGIVEN_ONCE = frozenset((Outcome.FORBIDDEN, Outcome.UPSTREAM))  # the second in a row counts
_SAYS_NOTHING = frozenset((Outcome.GONE, Outcome.OURS))
_DEAD_WORKERS_SECONDS = 0.5  # between two searches for dead workers


def row_name(pool: str, id: str, address: str) -> str:
    """Returns the name of a key's row in shared memory; the id "" stands for its upstream.

    The address is part of it: a refusal at one address says nothing about another.
    """
    return f"{pool}/{id}\n{address.rstrip('/')}"


class KeyPool:
    """The keys of one worker, with their state in shared memory.

    `quick` and `pick` give a lease; the holder calls `report` once the attempt has told something,
    and `release` always.
    """

    def __init__(
        self, config: Config, state: SharedState, clock: Callable[[], float] = time.time
    ) -> None:
        self._state, self._cells, self._clock = state, state.cells, clock
        self.rate_windows = RateWindows(state)
        self._cooldowns = Cooldowns(state)
        self._breaker = Breaker(state, self._cooldowns)
        self._refusals = refusals.Refusals(state, self._cooldowns)
        self._limits, self._addresses = limits_of(config), addresses(config)
        timeouts = config.timeouts
        self._probe_seconds = timeouts.connect + timeouts.first_event
        self._dead_freed_at = 0.0
        self._groups: dict[str, Group] = {}
        for name, keys in configured(config).items():
            self._group(name)
            for key in keys:
                self.put(key)
                self._check_value(self._groups[name].by_id[key.id])

    # --- the keys ---------------------------------------------------------------------------

    def web_sessions(self) -> list[Key]:
        """Returns the keys that expire and are renewed."""
        return [key for name in WEB_SESSIONS for key in self.keys(name)]

    def find(self, pool: str, id: str) -> Key | None:
        """Returns the key with this id, None when there is none."""
        group = self._groups.get(pool)
        entry = group.by_id.get(id) if group else None
        return entry.key if entry else None

    def put(self, key: Key, *, is_renewed: bool = False) -> None:
        """Adds a key, or replaces the one with the same id.

        A renewed secret ends a cooldown that began because the old one was refused.
        """
        group = self._group(key.pool)
        entry = group.by_id.get(key.id)
        if entry is None:
            name = row_name(key.pool, key.id, self._addresses.get(key.pool, ""))
            entry = Entry(key, name, self._state.row(name), self._limits.get((key.pool, key.id)))
            group.by_id[key.id] = entry
            group.entries.append(entry)
            group.deck.clear()
        entry.key = key
        if is_renewed and self._cells[entry.base + REASON] in REFUSALS:
            self._cooldowns.end(entry.base, self._clock())

    def _check_value(self, entry: Entry) -> None:
        """Clears the cooldown if the key's secret has changed since it began."""
        value = float(fingerprint(entry.key.val))
        known = self._cells[entry.base + VALUE]
        if entry.row >= ROWS or known == value:
            return
        self._cells[entry.base + VALUE] = value
        if known and self._cells[entry.base + REASON] != DISABLED:
            self._cooldowns.end(entry.base, self._clock())
            self._cooldowns.end_models(entry.base, self._clock())

    def drop(self, pool: str, id: str) -> None:
        """Removes a key. Its row stays, for the key may come back."""
        group = self._groups.get(pool)
        entry = group.by_id.pop(id, None) if group else None
        if group is not None and entry is not None:
            group.entries.remove(entry)
            group.deck.clear()

    def size(self, pool: str) -> int:
        """Returns the number of keys in a pool."""
        group = self._groups.get(pool)
        return len(group.entries) if group else 0

    def keys(self, pool: str) -> list[Key]:
        """Returns the keys of a pool, in the order of the config."""
        group = self._groups.get(pool)
        return [entry.key for entry in group.entries] if group else []

    def limited(self) -> dict[str, int]:
        """Returns fingerprint (hexadecimal) -> row, of the keys that have limits."""
        return {
            f"{fingerprint(entry.name):x}": entry.row
            for group in self._groups.values()
            for entry in group.entries
            if entry.limits is not None and entry.row < ROWS
        }

    def _group(self, name: str) -> Group:
        group = self._groups.get(name)
        if group is None:
            row = self._state.row(row_name(name, "", self._addresses.get(name, "")))
            group = self._groups[name] = Group(name, row)
        return group

    # --- picking ----------------------------------------------------------------------------

    def quick(
        self, pool: str, model: str = "", call: float = 0.0, body_bytes: int = 0
    ) -> Lease | None:
        """Draws one key and returns a lease if it may serve at once, else None: then use `pick`.

        The common case: no id, nothing tried yet. A half-open key is claimed as its probe. Only a
        key that was cooling lately, or has limits, costs more than a few reads of shared memory.
        """
        group = self._groups.get(pool)
        cells = self._cells
        if group is None or not group.entries or cells[group.base + COOLDOWN_UNTIL]:
            return None
        entry, now = group.draw(), self._clock()
        base = entry.base
        if (
            not cells[base + COOLDOWN_UNTIL]
            and cells[base + MODELS_UNTIL] < now
            and entry.limits is None
        ):
            return Lease(entry.key, group, entry, model, call, now)
        lease = Lease(NO_KEY, group, None, model, call, now, guess_tokens(body_bytes))
        return None if self._try(lease, group, entry, insist=False) else lease

    def pick(
        self,
        pool: str,
        wanted: str | None = None,
        *,
        model: str = "",
        among: Collection[str] | None = None,
        tried: Collection[str] = (),
        call: float = 0.0,
        body_bytes: int = 0,
        insist: bool = False,
    ) -> Lease:
        """Returns a lease of the key with the id `wanted`, else of a random available key.

        `among` are the ids that fit, `tried` those that were tried in this call. `insist` ignores
        an open breaker. An unknown id is never answered by another key.

        Raises GatewayError: 401 `unknown_auth_id` for an id that is not configured; 401
        `no_api_key` for an empty pool; 429 `all_keys_cooling` or `key_cooling`, 503
        `upstream_down`, and `keys_refused` or `keys_spent` with the upstream's status, each with
        the time until the first cooldown ends; KeysBusy; KeysTried.
        """
        if not wanted and not tried and among is None:
            lease = self.quick(pool, model, call, body_bytes)
            if lease is not None:
                return lease
        now = self._clock()
        group = self._groups.get(pool)
        if group is None or not group.entries:
            raise refusals.unknown_id(pool, wanted, 0) if wanted else refusals.no_key(pool)
        if wanted:
            named = group.by_id.get(wanted)
            if named is None:
                raise refusals.unknown_id(pool, wanted, len(group.entries))
            fitting = [named] if wanted not in tried else []
        else:
            fitting = [
                entry
                for entry in group.entries
                if entry.key.id not in tried and (among is None or entry.key.id in among)
            ]
        if not fitting:
            raise refusals.all_tried(pool)
        lease = Lease(NO_KEY, group, model=model, call=call, at=now, guess=guess_tokens(body_bytes))
        self._search(lease, group, fitting, wanted, insist)
        return lease

    def _search(
        self, lease: Lease, group: Group, fitting: list[Entry], wanted: str | None, insist: bool
    ) -> None:
        """Gives the lease the first of the fitting keys, in random order, that may serve."""
        now = lease.at
        if not insist and (down := self._cooldowns.wait(group.base, now)):
            raise self._refusals.upstream_down(group, down)
        random.shuffle(fitting)
        soonest, is_busy = DISABLED_UNTIL, False
        for entry in fitting:
            wait = self._try(lease, group, entry, insist)
            if not wait:
                return
            if wait < 0:
                is_busy = True
            else:
                soonest = min(soonest, wait)
        if is_busy:
            self._free_dead_workers(now)
            raise refusals.all_busy(group.name)
        raise self._refusals.all_cooling(group, wanted, soonest, now)

    def _free_dead_workers(self, now: float) -> None:
        """Frees the open calls of killed workers, not more often than twice a second."""
        if now - self._dead_freed_at > _DEAD_WORKERS_SECONDS:
            self._dead_freed_at = now
            with self._state.guard:
                self._state.forget_dead()

    def _try(self, lease: Lease, group: Group, entry: Entry, insist: bool) -> float:
        """Gives the lease this key: 0.0. Else seconds to wait, or -1 (max_concurrent)."""
        now, cooldowns = lease.at, self._cooldowns
        model_base = cooldowns.model_base(entry, lease.model, now)
        wait = cooldowns.wait_for(entry, model_base, now)
        if not wait and entry.limits is not None:
            wait = self.rate_windows.wait(entry.row, entry.limits, now)
        if wait:
            return wait
        bases = (entry.base, model_base) if insist else (group.base, entry.base, model_base)
        return self._claim(lease, entry, [base for base in bases if base >= 0])

    def _claim(self, lease: Lease, entry: Entry, bases: list[int]) -> float:
        """Atomically claims probes and rate limits: 0.0. If another process was faster, seconds to
        wait, or -1 (max_concurrent)."""
        cells, now, limits = self._cells, lease.at, entry.limits
        claims = [base for base in bases if cells[base + COOLDOWN_UNTIL] != 0.0]
        if claims or limits is not None:
            with self._state.guard:
                if any(self._cooldowns.wait(base, now) for base in claims):
                    return 1.0
                if limits is not None:
                    if wait := self.rate_windows.wait(entry.row, limits, now):
                        return wait
                    self.rate_windows.take(entry.row, limits, lease.guess, now)
                    lease.is_counted = True
                for base in claims:
                    is_upstream = lease.group is not None and base == lease.group.base
                    seconds = PROBE_SECONDS if is_upstream else self._probe_seconds
                    self._cooldowns.claim_probe(base, now + seconds)
        lease.key, lease.entry, lease.claims = entry.key, entry, tuple(claims)
        return 0.0

    def say_when(
        self,
        error: GatewayError,
        pool: str,
        model: str = "",
        wanted: str | None = None,
        among: Collection[str] | None = None,
    ) -> None:
        """Sets the Retry-After of a 429 or 503 to the time until one of these keys is available.

        The upstream's own Retry-After speaks of the last key alone.
        """
        group = self._groups.get(pool)
        if group is None or error.status not in (429, 503):
            return
        now, cooldowns = self._clock(), self._cooldowns
        waits = [
            cooldowns.wait_for(entry, cooldowns.model_base(entry, model, now), now)
            for entry in group.entries
            if (not wanted or entry.key.id == wanted) and (among is None or entry.key.id in among)
        ]
        wait = max(min(waits, default=0.0), cooldowns.wait(group.base, now))
        error.retry_after = float(whole_seconds(wait or error.retry_after or 0.0))

    # --- reporting --------------------------------------------------------------------------

    def report(
        self,
        lease: Lease,
        outcome: Outcome,
        status: int = 0,
        retry_after: float | None = None,
        words: str = "",
    ) -> None:
        """Records how an attempt went.

        `retry_after` is what the upstream asked for, in seconds; `words` is what it said of a
        failure, and must hold no secret.
        """
        entry, group = lease.entry, lease.group
        if entry is None or group is None or entry.row >= ROWS or outcome in _SAYS_NOTHING:
            return  # the caller's own key, or nothing was learned
        cells, base, now = self._cells, entry.base, self._clock()
        self._state.add_use(entry.row)
        cells[base + LAST_STATUS] = status
        if outcome is Outcome.OK or outcome is Outcome.REQUEST:
            cells[base + LAST_AT] = now
            if cells[base + FAILURE_KIND]:
                cells[base + FAILURE_KIND] = cells[base + FAILURES] = 0.0
            cells[group.base + SUCCESS_AT] = now
            if cells[base + COOLDOWN_UNTIL]:
                self._cooldowns.end_after_success(base, lease.at, now)
            if cells[group.base + COOLDOWN_UNTIL]:
                self._cooldowns.end_after_success(group.base, lease.at, now)
            for claimed in lease.claims:
                self._cooldowns.end_after_success(claimed, lease.at, now)
            lease.claims = ()
        elif outcome is not Outcome.CUT:
            self._state.set_refusal(entry.row, words)
            self._record_failure(lease, entry, group, outcome, retry_after, now)

    def _record_failure(
        self,
        lease: Lease,
        entry: Entry,
        group: Group,
        outcome: Outcome,
        retry_after: float | None,
        now: float,
    ) -> None:
        cells, base = self._cells, entry.base
        with self._state.guard:  # so that two workers that fail at once count as two
            if cells[base + FAILURE_KIND] != outcome:
                cells[base + FAILURE_KIND], cells[base + FAILURES] = outcome, 0.0
            cells[base + FAILURES] += 1
        cells[base + LAST_AT] = now
        cells[base + FAILED_CALL] = lease.call
        if self._breaker.takes_blame(lease, entry, group, outcome, now):
            return
        if group.name in MANY_ACCOUNTS and outcome in (Outcome.LIMITED, Outcome.SPENT):
            return  # of one account behind the key; the others can answer
        if outcome is Outcome.LIMITED:
            self._cooldowns.begin_for_model(entry, lease.model, retry_after, lease.at, now)
            return
        is_probe = base in lease.claims
        if is_probe or outcome not in _FORGIVEN_ONCE or cells[base + FAILURES] >= 2:
            self._cooldowns.begin(base, outcome, retry_after, lease.at, now)

    def release(self, lease: Lease, tokens: int | None = None) -> None:
        """Ends a lease. `tokens` is what the call cost, where the upstream reported it.

        Idempotent. A probe that was not reported on leaves the row half-open.
        """
        if lease.claims:
            self._cooldowns.release_probes(lease)
        if not lease.is_counted or lease.entry is None or lease.entry.limits is None:
            return
        lease.is_counted = False
        with self._state.guard:
            self.rate_windows.give_back(lease.entry.row, lease.entry.limits)
        if tokens is not None and lease.entry.limits.tpm and tokens != lease.guess:
            self.rate_windows.correct(lease.entry.row, tokens - lease.guess, self._clock())

    def spend(self, lease: Lease, tokens: int) -> None:
        """Counts tokens of a call that goes on, as a websocket tells them."""
        entry = lease.entry
        limits = None if entry is None else entry.limits
        if lease.is_counted and entry is not None and limits is not None and limits.tpm:
            self.rate_windows.correct(entry.row, tokens, self._clock())

    # --- for operators ----------------------------------------------------------------------

    def key_statuses(self) -> list[KeyStatus]:
        """Returns the status of every key, and under the id "" of every upstream that is down."""
        now, found = self._clock(), []
        for group in self._groups.values():
            if self._breaker.is_open(group):
                found.append(self._key_status(group, "", group.base, now))
            for entry in group.entries:
                status = self._key_status(group, entry.key.id, entry.base, now)
                status.limits = entry.limits
                found.append(status)
        return found

    def _key_status(self, group: Group, id: str, base: int, now: float) -> KeyStatus:
        cells, cooldowns = self._cells, self._cooldowns
        until, why = cells[base + COOLDOWN_UNTIL], cooldowns.reason(base)
        wait = cooldowns.wait(base, now)
        state = "resting" if until > now else "probing" if wait else "due"
        if until == 0.0:
            state = "awake"
        elif why == "disabled":
            state, until = "disabled", 0.0
        models_until = (
            cells[base + MODELS_UNTIL] if id and cells[base + MODELS_UNTIL] > now else 0.0
        )
        last, uses = int(cells[base + LAST_STATUS]), self._state.uses(base // FIELDS)
        refused = cooldowns.is_refused(base) or cooldowns.is_refused(group.base)
        return KeyStatus(
            group.name,
            id,
            state,
            why,
            until,
            1 if models_until else 0,
            last,
            uses,
            refused,
            models_until,
        )

    def reset(self, pool: str, id: str) -> bool:
        """Ends the cooldown of a key, whatever its reason; the id "" stands for the upstream.
        False if there is no such key."""
        base = self._base_of(pool, id)
        if base is None:
            return False
        self._cooldowns.end(base, self._clock())
        if id:
            self._cooldowns.end_models(base, self._clock())
        return True

    def disable(self, pool: str, id: str) -> bool:
        """Sends no call to this key until `reset`. False if there is no such key."""
        base = self._base_of(pool, id) if id else None
        if base is None:
            return False
        self._cooldowns.disable(base, self._clock())
        return True

    def _base_of(self, pool: str, id: str) -> int | None:
        group = self._groups.get(pool)
        if group is None:
            return None
        entry = group.by_id.get(id)
        base = group.base if not id else entry.base if entry else NO_ROW
        return None if base == NO_ROW else base
