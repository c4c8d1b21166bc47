"""Cooldowns as data: kept in a file for the next start, sent to other hosts through Redis.

The file also keeps what access tokens have spent (app/state/spending.py).

A key is identified by a fingerprint that includes its upstream's address, its secret by another:
neither another address nor a replaced secret inherits a cooldown. What is read back may be old or
damaged: the later change counts, and an impossible value is ignored.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from math import isfinite
from pathlib import Path

import msgspec
from msgspec import Struct

from app.pool.cooldowns import DISABLED, DISABLED_UNTIL, MODEL_MEMORY
from app.pool.outcomes import Outcome
from app.state.shared_table import (
    BACKOFF_STEP,
    CHANGED_AT,
    COOLDOWN_BEGAN,
    COOLDOWN_UNTIL,
    FIELDS,
    FINGERPRINT,
    LAST_STATUS,
    MODELS_UNTIL,
    PROBE_UNTIL,
    REASON,
    VALUE,
    SharedState,
)
from app.state.spending import Spending, Spent

_DAY = 86_400.0
_REASONS = frozenset((*(float(outcome) for outcome in Outcome), DISABLED))
_MOST_BYTES = 16 * 1024 * 1024


class Cooldown(Struct, array_like=True):
    """One row. `until` is 0 for a row that is available since `changed`; times are Unix times."""

    mark: int  # fingerprint of the row
    owner: int  # of a model's row: fingerprint of its key's row; else 0
    value: int  # fingerprint of the key's secret
    until: float
    began: float
    changed: float
    reason: float  # an Outcome, or DISABLED
    step: float  # of the back-off
    status: int = 0  # the upstream's last HTTP status; 0 in a model's row

    def is_sane(self, now: float) -> bool:
        """Whether this gateway can have written these values."""
        numbers = (self.until, self.began, self.changed, self.reason, self.step)
        return (
            all(isfinite(number) and number >= 0 for number in numbers)
            and (self.until <= now + _DAY or self.until == DISABLED_UNTIL)
            and self.changed <= now + _DAY
            and self.reason in _REASONS
            and self.step <= 100
            and 0 <= self.status < 1000
            and 0 < self.mark < 2**48
        )


class _File(Struct):
    version: int
    cooldowns: list[Cooldown] = msgspec.field(name="rests")
    host: int = 0  # by which other hosts know what is spent here
    spent: list[Spent] = []


_decode = msgspec.json.Decoder(_File).decode


def export(state: SharedState, since: float = 0.0) -> Iterator[Cooldown]:
    """Yields the rows whose cooldown began or ended after `since`."""
    cells = state.cells
    for base, is_model in state.changed(since):
        owner, value = 0, int(cells[base + VALUE])
        if is_model:
            row = state.find_row(value)
            owner, value = value, int(cells[row * FIELDS + VALUE]) if row >= 0 else 0
        yield Cooldown(
            mark=int(cells[base + FINGERPRINT]),
            owner=owner,
            value=value,
            until=cells[base + COOLDOWN_UNTIL],
            began=cells[base + COOLDOWN_BEGAN],
            changed=cells[base + CHANGED_AT],
            reason=cells[base + REASON],
            step=cells[base + BACKOFF_STEP],
            status=0 if is_model else int(cells[base + LAST_STATUS]),
        )


def merge(state: SharedState, cooldown: Cooldown, now: float, *, claim: bool = False) -> bool:
    """Writes one row into shared memory if it is newer than what is there. True if it was.

    `claim` takes a row for a key that has none yet; else an unknown key is ignored.
    """
    if not cooldown.is_sane(now):
        return False
    cells = state.cells
    key = cooldown.owner or cooldown.mark
    row = state.row_of(key) if claim else state.find_row(key)
    if row < 0:
        return False
    base = key_base = row * FIELDS
    known = cells[key_base + VALUE]
    if known and cooldown.value and known != cooldown.value:
        return False  # another secret under the same id
    if cooldown.owner:
        base = state.model_base(cooldown.mark)
        if base < 0:
            if not cooldown.until:
                return False
            base = state.claim_model(cooldown.mark)
    if cooldown.changed <= cells[base + CHANGED_AT]:
        return False
    cells[base + BACKOFF_STEP], cells[base + REASON] = cooldown.step, cooldown.reason
    cells[base + COOLDOWN_BEGAN], cells[base + CHANGED_AT] = cooldown.began, cooldown.changed
    cells[base + PROBE_UNTIL] = 0.0
    if cooldown.owner:
        cells[base + VALUE] = cooldown.owner
        until = cooldown.until + MODEL_MEMORY
        cells[key_base + MODELS_UNTIL] = max(cells[key_base + MODELS_UNTIL], until)
    else:
        if cooldown.value:
            cells[base + VALUE] = cooldown.value
        if cooldown.status:
            cells[base + LAST_STATUS] = cooldown.status
    cells[base + COOLDOWN_UNTIL] = cooldown.until  # last: from here on every worker sees it
    return True


def save(state: SharedState, path: Path, now: float) -> None:
    """Writes the file atomically: the rows that cool down or wait for their probe, and what was
    spent.

    Raises OSError.
    """
    kept = [cooldown for cooldown in export(state) if cooldown.until > now - MODEL_MEMORY]
    body = msgspec.json.encode(_File(1, kept, state.host, list(Spending(state).own())))
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(body)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def load(state: SharedState, path: Path, now: float) -> int:
    """Merges the file and returns how many rows were news; 0 for a file that cannot be read."""
    with suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
        if path.stat().st_size > _MOST_BYTES:
            return 0
        file = _decode(path.read_bytes())
        if file.version == 1:
            spending = Spending(state)
            if 0 < file.host < 2**48:
                state.host = file.host
            for spent in file.spent:
                spending.restore(spent, now)
            return sum(merge(state, cooldown, now, claim=True) for cooldown in file.cooldowns)
    return 0
