"""The errors that a caller gets when no key of a pool may serve the call.

Each caller is told the cause, with the upstream's own words, and not only the first one.
"""

from app.pool.cooldowns import DISABLED, DISABLED_UNTIL, REFUSALS, Cooldowns
from app.pool.lease import Entry, Group, KeysBusy, KeysTried
from app.pool.outcomes import Outcome
from app.state.shared_table import (
    COOLDOWN_UNTIL,
    FIELDS,
    LAST_AT,
    LAST_STATUS,
    MODELS_UNTIL,
    REASON,
    SharedState,
)
from app.wire.errors import GatewayError
from app.wire.retry_after import MOST_SECONDS

_NO_RETRY = (("x-should-retry", "false"),)


def no_key(pool: str) -> GatewayError:
    """The pool is empty."""
    return GatewayError(
        401,
        f"No key to use: send your own in the Authorization header, or configure {pool}.",
        type="invalid_request_error",
        code="no_api_key",
        headers=_NO_RETRY,
    )


def unknown_id(pool: str, wanted: str, size: int) -> GatewayError:
    """The pool has no key with this id; it has `size` keys."""
    return GatewayError(
        401,
        f"No key with id {wanted[:64]!r} in {pool} ({size} configured); "
        "leave out x-auth-id and index to let the gateway choose.",
        type="invalid_request_error",
        code="unknown_auth_id",
        headers=_NO_RETRY,
    )


def all_tried(pool: str) -> KeysTried:
    """Every key that fits has been tried in this call."""
    return KeysTried(502, f"Every key of {pool} has been tried.", code="all_keys_tried")


def all_busy(pool: str) -> KeysBusy:
    """Every available key has as many open calls as it may have."""
    return KeysBusy(
        429,
        f"Every available key of {pool} serves as many calls as it may (max_concurrent).",
        code="all_keys_busy",
        outcome="all_keys_busy",
        retry_after=1,
    )


class Refusals:
    """The errors that tell the reason of a cooldown, read from the shared rows."""

    def __init__(self, state: SharedState, cooldowns: Cooldowns) -> None:
        self._state, self._cells, self._cooldowns = state, state.cells, cooldowns

    def upstream_down(self, group: Group, wait: float) -> GatewayError:
        """The breaker of this upstream is open; `wait` is in seconds."""
        reason, when = Outcome(int(self._cells[group.base + REASON])), f"in {wait:.1f} s"
        if reason is not Outcome.UPSTREAM:
            return self._refused(group.base, reason, f"every key of {group.name}", when, wait)
        return GatewayError(
            503,
            f"The upstream of {group.name} fails for every key that was tried"
            f"{self._quoted(group.base)}: the gateway tries it again {when}.",
            code="upstream_down",
            retry_after=wait,
            outcome="upstream_down",
        )

    def all_cooling(
        self, group: Group, wanted: str | None, soonest: float, now: float
    ) -> GatewayError:
        """Every key, or the one with the id `wanted`, is cooling down or disabled; `soonest` is
        the shortest wait in seconds."""
        entries = [group.by_id[wanted]] if wanted else group.entries
        is_known = soonest < DISABLED_UNTIL / 2
        wait = soonest if is_known else MOST_SECONDS
        cause = self._common_cause(entries)
        if cause is not None:
            base, reason = cause
            what = f"the key {wanted[:64]}" if wanted else f"all {len(entries)} keys"
            code = "key_cooling" if wanted else ""
            when = f"in {soonest:.1f} s"
            return self._refused(base, reason, f"{what} of {group.name}", when, wait, code)
        if wanted:
            code, what = "key_cooling", f"The key {wanted[:64]} of {group.name} is cooling down"
        else:
            code = "all_keys_cooling"
            what = f"All {len(entries)} keys of {group.name} are cooling down"
        when = f"ask again in {soonest:.1f} s." if is_known else "its operator has disabled it."
        return GatewayError(
            429,
            f"{what}{self._reasons(entries, now)}; {when}",
            code=code,
            retry_after=wait,
            outcome=code,
        )

    def _refused(
        self, base: int, reason: Outcome, what: str, when: str, wait: float, code: str = ""
    ) -> GatewayError:
        """The upstream refuses `what`, or its quota is spent: only the operator can change that."""
        is_spent = reason is Outcome.SPENT
        last = int(self._cells[base + LAST_STATUS])
        status = 401 if reason is Outcome.AUTH else 403
        if is_spent:
            status = last if last in (402, 429) else 429
        code = code or ("keys_spent" if is_spent else "keys_refused")
        did = "says that the quota is used up of" if is_spent else "refuses"
        return GatewayError(
            status,
            f"The upstream {did} {what}{self._quoted(base)}; the gateway's operator has to see to "
            f"it. The gateway asks again {when}.",
            type="insufficient_quota" if is_spent else "",
            code=code,
            retry_after=wait,
            headers=_NO_RETRY,
            outcome=code,
        )

    def _quoted(self, base: int) -> str:
        """The last refusal of this row, in brackets: status and words, as far as they are known."""
        status, words = int(self._cells[base + LAST_STATUS]), self._state.refusal(base // FIELDS)
        if not status:
            return ""  # another host heard it, or this one before its restart
        return f" (HTTP {status}: {words.rstrip('.')})" if words else f" (HTTP {status})"

    def _common_cause(self, entries: list[Entry]) -> tuple[int, Outcome] | None:
        """The last base and the reason, when all keys are refused or all are spent.

        Disabled keys do not count.
        """
        cells = self._cells
        bases = [entry.base for entry in entries if cells[entry.base + REASON] != DISABLED]
        reasons = {
            Outcome(int(cells[base + REASON])) if cells[base + COOLDOWN_UNTIL] else Outcome.OK
            for base in bases
        }
        if not reasons or not (reasons <= REFUSALS or reasons == {Outcome.SPENT}):
            return None
        last = max(bases, key=lambda base: cells[base + LAST_AT])
        return last, Outcome(int(cells[last + REASON]))

    def _reasons(self, entries: list[Entry], now: float) -> str:
        counts: dict[str, int] = {}
        for entry in entries:
            word = self._cooldowns.reason(entry.base)
            if not word:
                cools_for_models = self._cells[entry.base + MODELS_UNTIL] > now
                word = "rate limited" if cools_for_models else "in use"
            counts[word] = counts.get(word, 0) + 1
        return f" ({', '.join(f'{count} {word}' for word, count in sorted(counts.items()))})"
