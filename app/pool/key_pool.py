"""The key pool: which credential answers this call, and which rest.

The caller's own first, then the one named by id, else one at random among the configured keys that
do not rest. Random needs no agreement between workers; rests stand in shared memory, and when one
ends a single request of all workers probes the key while the others keep away: the next that draws
it, so that a key which has rested has its share of the calls again.

    awake --failure--> resting --its time is over--> due --one probe--> awake, or a longer rest

When the keys of one upstream fail alike within seconds, the upstream is to blame: it rests itself
(the breaker), and no key does. Never talks to an upstream; nothing here awaits.
"""

import random
import time
from collections.abc import Callable, Collection

from app.config.schema import Config
from app.pool.configured_keys import configured, limits_of
from app.pool.cooldown_store import DISABLED, DISABLED_UNTIL, MODEL_MEMORY
from app.pool.lease import NO_ROW, NOBODY, Entry, Group, KeysBusy, KeyStatus, KeysTried, Lease
from app.pool.outcomes import Outcome
from app.state.process_identity import alive, own
from app.state.rate_windows import Quotas, guess_tokens
from app.state.shared_table import (
    CHANGED_AT,
    FAILED_CALL,
    FAILURES,
    FIELDS,
    KIND,
    LAST_AT,
    LAST_STATUS,
    MODELS_UNTIL,
    PROBE_PID,
    PROBE_UNTIL,
    REST_UNTIL,
    RESTED_AT,
    ROWS,
    STRIKES,
    SUCCESS_AT,
    VALUE,
    WHY,
    SharedState,
    fingerprint,
)
from app.wire.errors import GatewayError
from app.wire.provider import Key
from app.wire.retry_after import MOST_SECONDS, whole_seconds

WEB_SESSIONS = ("openai.web_sessions", "claude.web_sessions")
# How long a key rests the first time, and at most; it doubles in between.
RESTS = {
    Outcome.AUTH: (10.0, 600.0),
    Outcome.FORBIDDEN: (10.0, 600.0),
    Outcome.SPENT: (1800.0, 43_200.0),
    Outcome.LIMITED: (10.0, 300.0),
    Outcome.UPSTREAM: (2.0, 2.0),
}
BREAKER_RESTS = (2.0, 5.0)
# How long a call goes on with other keys after it has seen that the upstream is down.
INSIST_SECONDS = 5.0
_IN_A_ROW = frozenset((Outcome.FORBIDDEN, Outcome.UPSTREAM))  # one alone is forgiven
_SAYS_NOTHING = frozenset((Outcome.GONE, Outcome.OURS))
_REFUSALS = frozenset((Outcome.AUTH, Outcome.FORBIDDEN))
_SEVERAL = 3  # keys that fail alike; of fewer, all
_ALIKE_SECONDS = {Outcome.AUTH: 30.0, Outcome.FORBIDDEN: 30.0, Outcome.UPSTREAM: 10.0}
_BREAKER_PROBE_SECONDS = 5.0


def addresses(config: Config) -> dict[str, str]:
    """Where each pool's upstream is."""
    return {
        "openai.api_keys": config.openai.api_url,
        "openai.web_sessions": config.openai.chat_web_url,
        "claude.api_keys": config.claude.api_url,
        "claude.web_sessions": config.claude.web_url,
        "google_gemini.api_keys": config.google_gemini.api_url,
        "coze.bots": config.coze.api_url,
        "coze.discord": config.coze.discord.api_url,
    }


def row_name(pool: str, id: str, address: str) -> str:
    """What a key's row is found by, "" being its upstream's: what one address refuses is no news
    of another one."""
    return f"{pool}/{id}\n{address.rstrip('/')}"


class KeyPool:
    def __init__(
        self, config: Config, state: SharedState, clock: Callable[[], float] = time.time
    ) -> None:
        self._state, self._cells, self._clock = state, state.cells, clock
        self.quotas = Quotas(state)
        self._limits, self._addresses = limits_of(config), addresses(config)
        timeouts = config.timeouts
        self._probe_seconds = timeouts.connect + timeouts.first_event
        self._dead_looked_for = 0.0
        self._groups: dict[str, Group] = {}
        for name, keys in configured(config).items():
            self._group(name)
            for key in keys:
                self.put(key)
                self._check_value(self._groups[name].by_id[key.id])

    # --- the keys ---------------------------------------------------------------------------

    def web_sessions(self) -> list[Key]:
        """The keys that live, end and are renewed."""
        return [key for name in WEB_SESSIONS for key in self.keys(name)]

    def find(self, pool: str, id: str) -> Key | None:
        group = self._groups.get(pool)
        entry = group.by_id.get(id) if group else None
        return entry.key if entry else None

    def put(self, key: Key, *, is_renewed: bool = False) -> None:
        """A key that is new, or has become another value under its old id.

        A renewed one need not rest any longer for what its old value was refused for.
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
        if is_renewed and self._cells[entry.base + WHY] in _REFUSALS:
            self._lift(entry.base, self._clock())

    def _check_value(self, entry: Entry) -> None:
        """What a key's former value did is not the fault of the one that the config has now."""
        value = float(fingerprint(entry.key.val))
        known = self._cells[entry.base + VALUE]
        if entry.row >= ROWS or known == value:
            return
        self._cells[entry.base + VALUE] = value
        if known and self._cells[entry.base + WHY] != DISABLED:
            self._lift(entry.base, self._clock())
            self._cells[entry.base + MODELS_UNTIL] = 0.0

    def drop(self, pool: str, id: str) -> None:
        """A key that is no more; its row stays, for it may come back."""
        group = self._groups.get(pool)
        entry = group.by_id.pop(id, None) if group else None
        if group is not None and entry is not None:
            group.entries.remove(entry)
            group.deck.clear()

    def size(self, pool: str) -> int:
        group = self._groups.get(pool)
        return len(group.entries) if group else 0

    def keys(self, pool: str) -> list[Key]:
        group = self._groups.get(pool)
        return [entry.key for entry in group.entries] if group else []

    def limited(self) -> dict[str, int]:
        """The keys with limits: their fingerprint, as text, and their row."""
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
        """`pick` where the key that is drawn may serve at once, as nearly every one may; else None.

        A key that is due is its probe. Only a key that rested lately, or has limits, costs a look.
        """
        group = self._groups.get(pool)
        cells = self._cells
        if group is None or not group.entries or cells[group.base + REST_UNTIL]:
            return None
        entry, now = group.draw(), self._clock()
        base = entry.base
        if (
            not cells[base + REST_UNTIL]
            and cells[base + MODELS_UNTIL] < now
            and entry.limits is None
        ):
            return Lease(entry.key, group, entry, model, call, now)
        turn = Lease(NOBODY, group, None, model, call, now, guess_tokens(body_bytes))
        return None if self._give(turn, group, entry, insist=False) else turn

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
        """A turn with the key named `wanted`, else with a random one that does not rest.

        `among` are the ids that fit, `tried` those that had their turn in this call, which may
        `insist` although the upstream rests. Raises GatewayError: 401 `unknown_auth_id` for an id
        that is not configured, `no_api_key` for an empty pool; 429 `all_keys_cooling` or 503
        `upstream_down` with the time until the first rest ends; KeysBusy; KeysTried. An unknown id
        is never answered by another key.
        """
        if not wanted and not tried and among is None:
            turn = self.quick(pool, model, call, body_bytes)
            if turn is not None:
                return turn
        now = self._clock()
        group = self._groups.get(pool)
        if group is None or not group.entries:
            if wanted:
                raise self._unknown(pool, wanted)
            raise GatewayError(
                401,
                f"No key to use: send your own in the Authorization header, or configure {pool}.",
                type="invalid_request_error",
                code="no_api_key",
                headers=(("x-should-retry", "false"),),
            )
        if wanted:
            entry_wanted = group.by_id.get(wanted)
            if entry_wanted is None:
                raise self._unknown(pool, wanted)
            fitting = [entry_wanted] if wanted not in tried else []
        else:
            fitting = [
                entry
                for entry in group.entries
                if entry.key.id not in tried and (among is None or entry.key.id in among)
            ]
        if not fitting:
            raise KeysTried(502, f"Every key of {pool} has had its turn.", code="all_keys_tried")
        asked = Lease(NOBODY, group, model=model, call=call, at=now, guess=guess_tokens(body_bytes))
        return self._search(asked, group, fitting, wanted, insist)

    def _search(
        self, turn: Lease, group: Group, fitting: list[Entry], wanted: str | None, insist: bool
    ) -> Lease:
        now = turn.at
        if not insist and (down := self._wait(group.base, now)):
            raise self._upstream_down(group, down)
        random.shuffle(fitting)
        soonest, busy = DISABLED_UNTIL, False
        for entry in fitting:
            wait = self._give(turn, group, entry, insist)
            if not wait:
                return turn
            if wait < 0:
                busy = True
            else:
                soonest = min(soonest, wait)
        if busy:
            if now - self._dead_looked_for > 0.5:  # a killed worker's calls are given back
                self._dead_looked_for = now
                with self._state.guard:
                    self._state.forget_dead()
            raise KeysBusy(
                429,
                f"Every key of {group.name} that is awake serves as many calls as it may "
                "(max_concurrent).",
                code="all_keys_busy",
                outcome="all_keys_busy",
                retry_after=1,
            )
        raise self._all_resting(group, wanted, soonest, now)

    def _give(self, turn: Lease, group: Group, entry: Entry, insist: bool) -> float:
        """Makes it this key's turn: 0. Else the seconds until then, -1 while it is busy."""
        now = turn.at
        model_base = self._model_base(entry, turn.model, now)
        wait = self._until(entry, model_base, now)
        if not wait and entry.limits is not None:
            wait = self.quotas.wait(entry.row, entry.limits, now)
        if wait:
            return wait
        bases = (entry.base, model_base) if insist else (group.base, entry.base, model_base)
        return self._take(turn, entry, [base for base in bases if base >= 0])

    def _until(self, entry: Entry, model_base: int, now: float) -> float:
        """Seconds until the rests of this key, and of its model, let a call through."""
        wait = self._wait(entry.base, now)
        return wait if model_base < 0 else max(wait, self._wait(model_base, now))

    def _wait(self, base: int, now: float) -> float:
        """Seconds until this row lets a call through, 0 for at once (perhaps as its probe)."""
        cells = self._cells
        until = cells[base + REST_UNTIL]
        if until == 0.0:
            return 0.0
        if until > now:
            return until - now
        # Due. Somebody probes already, unless they died over it.
        if cells[base + PROBE_UNTIL] > now and alive(int(cells[base + PROBE_PID])):
            return 1.0
        return 0.0

    def _model_base(self, entry: Entry, model: str, now: float) -> int:
        """Where the row of this key and model begins, -1 when there is none."""
        if self._cells[entry.base + MODELS_UNTIL] < now:
            return -1
        base = self._state.model_base(_model_mark(entry, model))
        if base >= 0 and 0.0 < self._cells[base + REST_UNTIL] < now - MODEL_MEMORY:
            return -1  # so long ago that it is no news
        return base

    def _take(self, turn: Lease, entry: Entry, bases: list[int]) -> float:
        """Claims what must be probed and takes from the limits in one step: 0. When another process
        was faster, the wait that this makes, as of `Quotas.wait`."""
        cells, now, limits = self._cells, turn.at, entry.limits
        claims = [base for base in bases if cells[base + REST_UNTIL] != 0.0]
        if claims or limits is not None:
            with self._state.guard:
                if any(self._wait(base, now) for base in claims):
                    return 1.0
                if limits is not None:
                    if wait := self.quotas.wait(entry.row, limits, now):
                        return wait
                    self.quotas.take(entry.row, limits, turn.guess, now)
                    turn.open = True
                for base in claims:
                    is_upstream = turn.group is not None and base == turn.group.base
                    patience = _BREAKER_PROBE_SECONDS if is_upstream else self._probe_seconds
                    cells[base + PROBE_PID] = own()
                    cells[base + PROBE_UNTIL] = now + patience
        turn.key, turn.entry, turn.claims = entry.key, entry, tuple(claims)
        return 0.0

    # --- refusing ---------------------------------------------------------------------------

    def _unknown(self, pool: str, wanted: str) -> GatewayError:
        return GatewayError(
            401,
            f"No key with id {wanted[:64]!r} in {pool} ({self.size(pool)} configured); "
            "leave out x-auth-id and index to let the gateway choose.",
            type="invalid_request_error",
            code="unknown_auth_id",
            headers=(("x-should-retry", "false"),),
        )

    def _upstream_down(self, group: Group, wait: float) -> GatewayError:
        why, when = Outcome(int(self._cells[group.base + WHY])), f"in {wait:.1f} s"
        if why is not Outcome.UPSTREAM:
            return self._refused(group.base, why, f"every key of {group.name}", when, wait)
        return GatewayError(
            503,
            f"The upstream of {group.name} fails for every key that was tried"
            f"{self._said(group.base)}: it rests, and is tried again {when}.",
            code="upstream_down",
            retry_after=wait,
            outcome="upstream_down",
        )

    def _refused(
        self, base: int, why: Outcome, what: str, when: str, wait: float, code: str = ""
    ) -> GatewayError:
        """What the callers after the first are told: the cause, with the upstream's own words."""
        is_spent = why is Outcome.SPENT
        last = int(self._cells[base + LAST_STATUS])
        status = 401 if why is Outcome.AUTH else 403
        if is_spent:
            status = last if last in (402, 429) else 429
        code = code or ("keys_spent" if is_spent else "keys_refused")
        did = "says that the quota is used up of" if is_spent else "refuses"
        return GatewayError(
            status,
            f"The upstream {did} {what}{self._said(base)}; the gateway's operator has to see to "
            f"it. The gateway asks again {when}.",
            type="insufficient_quota" if is_spent else "",
            code=code,
            retry_after=wait,
            headers=(("x-should-retry", "false"),),
            outcome=code,
        )

    def _said(self, base: int) -> str:
        """The last refusal of this row's upstream, with what is known of it in this fleet."""
        status, words = int(self._cells[base + LAST_STATUS]), self._state.words(base // FIELDS)
        if not status:
            return ""  # it was heard by another host, or before the restart
        return f" (HTTP {status}: {words.rstrip('.')})" if words else f" (HTTP {status})"

    def _all_resting(
        self, group: Group, wanted: str | None, soonest: float, now: float
    ) -> GatewayError:
        entries = [group.by_id[wanted]] if wanted else group.entries
        known = soonest < DISABLED_UNTIL / 2
        wait = soonest if known else MOST_SECONDS
        cause = self._common_cause(entries)
        if cause is not None:
            base, why = cause
            what = f"the key {wanted[:64]}" if wanted else f"all {len(entries)} keys"
            code = "key_cooling" if wanted else ""
            when = f"in {soonest:.1f} s"
            return self._refused(base, why, f"{what} of {group.name}", when, wait, code)
        if wanted:
            code, what = "key_cooling", f"The key {wanted[:64]} of {group.name} rests"
        else:
            code, what = "all_keys_cooling", f"All {len(entries)} keys of {group.name} rest"
        when = f"ask again in {soonest:.1f} s." if known else "its operator has disabled it."
        return GatewayError(
            429,
            f"{what}{self._reasons(entries, now)}; {when}",
            code=code,
            retry_after=wait,
            outcome=code,
        )

    def _common_cause(self, entries: list[Entry]) -> tuple[int, Outcome] | None:
        """Of keys that are all refused, or all spent, the base of the last one and why. Those that
        are disabled do not count."""
        cells = self._cells
        bases = [entry.base for entry in entries if cells[entry.base + WHY] != DISABLED]
        whys = {
            Outcome(int(cells[base + WHY])) if cells[base + REST_UNTIL] else Outcome.OK
            for base in bases
        }
        if not whys or not (whys <= _REFUSALS or whys == {Outcome.SPENT}):
            return None
        last = max(bases, key=lambda base: cells[base + LAST_AT])
        return last, Outcome(int(cells[last + WHY]))

    def _reasons(self, entries: list[Entry], now: float) -> str:
        words: dict[str, int] = {}
        for entry in entries:
            why = self._why(entry.base)
            if not why:
                why = "rate limited" if self._cells[entry.base + MODELS_UNTIL] > now else "in use"
            words[why] = words.get(why, 0) + 1
        return f" ({', '.join(f'{count} {word}' for word, count in sorted(words.items()))})"

    def _why(self, base: int) -> str:
        if self._cells[base + REST_UNTIL] == 0.0:
            return ""
        why = self._cells[base + WHY]
        return "disabled" if why == DISABLED else Outcome(int(why)).word

    def say_when(
        self,
        error: GatewayError,
        pool: str,
        model: str = "",
        wanted: str | None = None,
        among: Collection[str] | None = None,
    ) -> None:
        """Puts our own time until one of these keys may be used in place of the upstream's word
        for one of them, into a 429 or 503 that says how the last of them failed."""
        group = self._groups.get(pool)
        if group is None or error.status not in (429, 503):
            return
        now = self._clock()
        waits = [
            self._until(entry, self._model_base(entry, model, now), now)
            for entry in group.entries
            if (not wanted or entry.key.id == wanted) and (among is None or entry.key.id in among)
        ]
        wait = max(min(waits, default=0.0), self._wait(group.base, now))
        error.retry_after = float(whole_seconds(wait or error.retry_after or 0.0))

    # --- reporting --------------------------------------------------------------------------

    def report(
        self,
        turn: Lease,
        outcome: Outcome,
        status: int = 0,
        retry_after: float | None = None,
        words: str = "",
    ) -> None:
        """How the attempt went; `retry_after` is what the upstream asked for, in seconds, `words`
        what it said of a failure, without secrets."""
        entry, group = turn.entry, turn.group
        if entry is None or group is None or entry.row >= ROWS or outcome in _SAYS_NOTHING:
            return  # the caller's own, or nothing was learned
        cells, base, now = self._cells, entry.base, self._clock()
        self._state.add_use(entry.row)
        cells[base + LAST_STATUS] = status
        if outcome is Outcome.OK or outcome is Outcome.REQUEST:
            cells[base + LAST_AT] = now
            if cells[base + KIND]:
                cells[base + KIND] = cells[base + FAILURES] = 0.0
            cells[group.base + SUCCESS_AT] = now
            if cells[base + REST_UNTIL]:
                self._recover(base, turn)
            if cells[group.base + REST_UNTIL]:
                self._recover(group.base, turn)
            for claimed in turn.claims:
                self._recover(claimed, turn)
            turn.claims = ()
        elif outcome is not Outcome.CUT:
            self._state.say(entry.row, words)
            self._failed(turn, entry, group, outcome, retry_after, now)

    def _failed(
        self,
        turn: Lease,
        entry: Entry,
        group: Group,
        outcome: Outcome,
        retry_after: float | None,
        now: float,
    ) -> None:
        cells, base = self._cells, entry.base
        with self._state.guard:  # two workers that fail at once are two
            if cells[base + KIND] != outcome:
                cells[base + KIND], cells[base + FAILURES] = outcome, 0.0
            cells[base + FAILURES] += 1
        cells[base + LAST_AT] = now
        cells[base + FAILED_CALL] = turn.call
        if self._is_upstreams_doing(turn, entry, group, outcome, now):
            return
        if outcome is Outcome.LIMITED:
            base = self._model_row(entry, turn.model, now)
        elif base not in turn.claims and outcome in _IN_A_ROW and cells[base + FAILURES] < 2:
            return
        seconds = self._rest(base, outcome, retry_after, turn, now)
        if outcome is Outcome.LIMITED:
            until = now + seconds + MODEL_MEMORY
            cells[entry.base + MODELS_UNTIL] = max(cells[entry.base + MODELS_UNTIL], until)

    def _model_row(self, entry: Entry, model: str, now: float) -> int:
        base = self._state.claim_model(_model_mark(entry, model), now)
        self._cells[base + VALUE] = self._cells[entry.base]  # whose model: the key's fingerprint
        if 0.0 < self._cells[base + REST_UNTIL] < now - MODEL_MEMORY:
            self._lift(base, now)  # long ago: this is a new first time
        return base

    def _rest(
        self, base: int, why: Outcome, retry_after: float | None, turn: Lease, now: float
    ) -> float:
        """Begins a rest, or makes it longer; how many seconds are left of it."""
        cells = self._cells
        if cells[base + WHY] == DISABLED:
            return 0.0
        asked = None
        if retry_after is not None and 0 <= retry_after < float("inf"):
            asked = min(max(retry_after, 0.1), MOST_SECONDS)
        if cells[base + REST_UNTIL] and turn.at <= cells[base + RESTED_AT]:
            # This attempt was on its way when the rest began: the same incident, told once more.
            if asked is not None and now + asked > cells[base + REST_UNTIL]:
                cells[base + REST_UNTIL], cells[base + CHANGED_AT] = now + asked, now
            return cells[base + REST_UNTIL] - now
        if why is Outcome.UPSTREAM and cells[base + WHY] not in (0.0, Outcome.UPSTREAM):
            # A probe that told nothing about what the key rests for: the next one soon.
            seconds = RESTS[why][0]
        else:
            first, most = BREAKER_RESTS if turn.group and base == turn.group.base else RESTS[why]
            same = cells[base + WHY] == why
            strikes = min(cells[base + STRIKES] + 1, 30) if same else 1
            seconds = min(first * 2 ** (strikes - 1), most) if asked is None else asked
            cells[base + STRIKES] = strikes
            cells[base + WHY] = why
        cells[base + RESTED_AT] = cells[base + CHANGED_AT] = now
        cells[base + PROBE_UNTIL] = 0.0
        cells[base + REST_UNTIL] = now + seconds  # last: from here on everybody sees it
        return seconds

    def _recover(self, base: int, turn: Lease) -> None:
        """The rest is over, if this attempt began after it."""
        cells = self._cells
        if turn.at > cells[base + RESTED_AT] and cells[base + WHY] != DISABLED:
            self._lift(base, self._clock())

    def _lift(self, base: int, now: float) -> None:
        cells = self._cells
        cells[base + REST_UNTIL] = 0.0
        for field in (STRIKES, WHY, PROBE_UNTIL, FAILURES, KIND):
            cells[base + field] = 0.0
        cells[base + CHANGED_AT] = now

    def release(self, turn: Lease, tokens: int | None = None) -> None:
        """The attempt is over; `tokens` is what it cost, where the upstream told. Idempotent."""
        for base in turn.claims:
            # Nobody told how it went: the next one may probe. (A rest that began anew has done so.)
            if self._cells[base + PROBE_PID] == own():
                self._cells[base + PROBE_UNTIL] = 0.0
        turn.claims = ()
        if not turn.open or turn.entry is None or turn.entry.limits is None:
            return
        turn.open = False
        with self._state.guard:
            self.quotas.give_back(turn.entry.row, turn.entry.limits)
        if tokens is not None and turn.entry.limits.tpm and tokens != turn.guess:
            self.quotas.correct(turn.entry.row, tokens - turn.guess, self._clock())

    # --- the breaker ------------------------------------------------------------------------

    def _is_upstreams_doing(
        self, turn: Lease, entry: Entry, group: Group, outcome: Outcome, now: float
    ) -> bool:
        """Whether the key is not to blame: the breaker is open for this, or opens now."""
        cells, base = self._cells, group.base
        if base == NO_ROW:
            return False
        if cells[base + REST_UNTIL]:
            blamed = Outcome(int(cells[base + WHY]))
            if _alike(outcome, blamed) or outcome is Outcome.UPSTREAM:
                self._rest(base, blamed, None, turn, now)
                if _alike(outcome, blamed):
                    self._quote(group, entry)
                    return True
                return False
            # It answers, and says something about this key alone: the upstream is back.
            self._recover(base, turn)
            return False
        since = self._fail_alike(group, outcome, now)
        if since is None:
            return False
        self._quote(group, entry)
        self._rest(base, outcome, None, turn, now)
        for one in group.entries:
            resting = cells[one.base + REST_UNTIL] and cells[one.base + RESTED_AT] > since
            if resting and _alike(Outcome(int(cells[one.base + KIND])), outcome):
                self._lift(one.base, now)
        return True

    def _quote(self, group: Group, entry: Entry) -> None:
        """What the key heard last is what its upstream is said to have said."""
        cells, row = self._cells, group.base // FIELDS
        cells[group.base + LAST_STATUS] = cells[entry.base + LAST_STATUS]
        self._state.say(row, self._state.words(entry.row))

    def _fail_alike(self, group: Group, outcome: Outcome, now: float) -> float | None:
        """Since when several keys, and nothing but failing ones, met with this outcome.

        A request that breaks the upstream by itself must not close the door for everybody: except
        for 401, which no request provokes, two calls at least have to agree.
        """
        window = _ALIKE_SECONDS.get(outcome)
        if window is None or len(group.entries) < 2:
            return None
        cells = self._cells
        since = max(now - window, cells[group.base + SUCCESS_AT])
        alike, calls = 0, set()
        several = min(_SEVERAL, len(group.entries))
        for entry in group.entries:
            base = entry.base
            kind = Outcome(int(cells[base + KIND]))
            if kind and _alike(kind, outcome) and cells[base + LAST_AT] > since:
                alike += 1
                calls.add(cells[base + FAILED_CALL])
                if outcome is Outcome.UPSTREAM and alike >= several and len(calls) > 1:
                    return since
            elif outcome in _REFUSALS and not (
                cells[base + REST_UNTIL] and cells[base + RESTED_AT] <= since
            ):
                return None  # a key that is not refused: then it is the others that are bad
        if outcome is Outcome.UPSTREAM or alike < several:
            return None
        return since if outcome is Outcome.AUTH or len(calls) > 1 else None

    def is_down(self, pool: str) -> bool:
        """Whether the breaker of this pool's upstream is open."""
        group = self._groups.get(pool)
        return group is not None and self._cells[group.base + REST_UNTIL] != 0.0

    # --- for operators ----------------------------------------------------------------------

    def standings(self) -> list[KeyStatus]:
        """Every key, and every upstream under the id "" that rests."""
        now, found = self._clock(), []
        for group in self._groups.values():
            if self.is_down(group.name):
                found.append(self._standing(group.name, "", group.base, now))
            for entry in group.entries:
                found.append(self._standing(group.name, entry.key.id, entry.base, now))
        return found

    def _standing(self, pool: str, id: str, base: int, now: float) -> KeyStatus:
        cells = self._cells
        until, why = cells[base + REST_UNTIL], self._why(base)
        wait = self._wait(base, now)
        state = "resting" if until > now else "probing" if wait else "due"
        if until == 0.0:
            state = "awake"
        elif why == "disabled":
            state, until = "disabled", 0.0
        models = 1 if id and cells[base + MODELS_UNTIL] > now else 0
        last, uses = int(cells[base + LAST_STATUS]), self._state.uses(base // FIELDS)
        refused = self._is_refused(base) or self._is_refused(self._groups[pool].base)
        return KeyStatus(pool, id, state, why, until, models, last, uses, refused)

    def _is_refused(self, base: int) -> bool:
        # A rest that is over says so still, until its probe was answered.
        cells = self._cells
        rests_for_it = cells[base + REST_UNTIL] != 0.0 and cells[base + WHY] in _REFUSALS
        return rests_for_it or cells[base + KIND] in _REFUSALS

    def reset(self, pool: str, id: str) -> bool:
        """Wakes a key, whatever it rests for; "" wakes the upstream. False if there is none."""
        base = self._base_of(pool, id)
        if base is None:
            return False
        self._lift(base, self._clock())
        if id:
            self._cells[base + MODELS_UNTIL] = 0.0
        return True

    def disable(self, pool: str, id: str) -> bool:
        """No call goes to this key until `reset`."""
        base = self._base_of(pool, id) if id else None
        if base is None:
            return False
        self._cells[base + WHY] = DISABLED
        self._cells[base + CHANGED_AT] = self._clock()
        self._cells[base + REST_UNTIL] = DISABLED_UNTIL
        return True

    def _base_of(self, pool: str, id: str) -> int | None:
        group = self._groups.get(pool)
        if group is None:
            return None
        entry = group.by_id.get(id)
        base = group.base if not id else entry.base if entry else NO_ROW
        return None if base == NO_ROW else base


def _alike(one: Outcome, other: Outcome) -> bool:
    return one is other or (one in _REFUSALS and other in _REFUSALS)


def _model_mark(entry: Entry, model: str) -> int:
    return fingerprint(f"{entry.name}\n{model}")
