"""What rests, written down: for the next start in a file, for other hosts in Redis.

Keys are told by a fingerprint that has their upstream's address in it, their secrets by another
one: neither another address nor a replaced secret rests for what the old one did. What comes back
may be old, or nonsense: the newest word counts, and a word that cannot be is passed over.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from math import isfinite
from pathlib import Path

import msgspec
from msgspec import Struct

from app.pool.outcomes import Outcome
from app.state.shared_table import (
    CHANGED_AT,
    FIELDS,
    FINGERPRINT,
    LAST_STATUS,
    MODELS_UNTIL,
    PROBE_UNTIL,
    REST_UNTIL,
    RESTED_AT,
    STRIKES,
    VALUE,
    WHY,
    SharedState,
)

MODEL_MEMORY = 600.0  # after its end a model's rest waits that long for its probe
_DAY = 86_400.0
DISABLED = 100.0  # a WHY that no outcome has
DISABLED_UNTIL = 1e11
_OUTCOMES = frozenset(float(outcome) for outcome in Outcome)
_MOST_BYTES = 16 * 1024 * 1024


class Rest(Struct, array_like=True):
    """One row. `until` 0: awake since `changed`. `owner` is the key's mark in a model's row."""

    mark: int
    owner: int
    value: int
    until: float
    began: float
    changed: float
    why: float
    strikes: float
    status: int = 0  # the last that the upstream said; of a model's row none

    def is_sane(self, now: float) -> bool:
        numbers = (self.until, self.began, self.changed, self.why, self.strikes)
        return (
            all(isfinite(number) and number >= 0 for number in numbers)
            and (self.until <= now + _DAY or self.until == DISABLED_UNTIL)
            and self.changed <= now + _DAY
            and (self.why in _OUTCOMES or self.why == DISABLED)
            and self.strikes <= 100
            and 0 <= self.status < 1000
            and 0 < self.mark < 2**48
        )


class _File(Struct):
    version: int
    rests: list[Rest]


_decode = msgspec.json.Decoder(_File).decode


def told(state: SharedState, since: float = 0.0) -> Iterator[Rest]:
    """The rows whose rest was set or lifted after `since`."""
    cells = state.cells
    for base, is_model in state.changed(since):
        owner, value = 0, int(cells[base + VALUE])
        if is_model:
            row = state.known(value)
            owner, value = value, int(cells[row * FIELDS + VALUE]) if row >= 0 else 0
        yield Rest(
            mark=int(cells[base + FINGERPRINT]),
            owner=owner,
            value=value,
            until=cells[base + REST_UNTIL],
            began=cells[base + RESTED_AT],
            changed=cells[base + CHANGED_AT],
            why=cells[base + WHY],
            strikes=cells[base + STRIKES],
            status=0 if is_model else int(cells[base + LAST_STATUS]),
        )


def take_over(state: SharedState, rest: Rest, now: float, *, claim: bool = False) -> bool:
    """Puts one row into shared memory if it is news. `claim`: also of a key not known yet."""
    if not rest.is_sane(now):
        return False
    cells = state.cells
    key = rest.owner or rest.mark
    row = state.row_of(key) if claim else state.known(key)
    if row < 0:
        return False
    base = key_base = row * FIELDS
    known = cells[key_base + VALUE]
    if known and rest.value and known != rest.value:
        return False  # another secret under the same name
    if rest.owner:
        base = state.model_base(rest.mark)
        if base < 0:
            if not rest.until:
                return False
            base = state.claim_model(rest.mark, now)
    if rest.changed <= cells[base + CHANGED_AT]:
        return False
    cells[base + STRIKES], cells[base + WHY] = rest.strikes, rest.why
    cells[base + RESTED_AT], cells[base + CHANGED_AT] = rest.began, rest.changed
    cells[base + PROBE_UNTIL] = 0.0
    if rest.owner:
        cells[base + VALUE] = rest.owner
        until = rest.until + MODEL_MEMORY
        cells[key_base + MODELS_UNTIL] = max(cells[key_base + MODELS_UNTIL], until)
    else:
        if rest.value:
            cells[base + VALUE] = rest.value
        if rest.status:
            cells[base + LAST_STATUS] = rest.status
    cells[base + REST_UNTIL] = rest.until
    return True


def save(state: SharedState, path: Path, now: float) -> None:
    """Whole or not at all. Only what rests, or waits for its probe."""
    resting = [rest for rest in told(state) if rest.until > now - MODEL_MEMORY]
    body = msgspec.json.encode(_File(1, resting))
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(body)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def load(state: SharedState, path: Path, now: float) -> int:
    """How many rests were taken over; a file that cannot be read has none."""
    with suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
        if path.stat().st_size > _MOST_BYTES:
            return 0
        file = _decode(path.read_bytes())
        if file.version == 1:
            return sum(take_over(state, rest, now, claim=True) for rest in file.rests)
    return 0
