"""What the ledger asks of a database, and the statements that SQLite and PostgreSQL share.

A store is used on one thread. It never retries by itself: whoever has the rows keeps them and tries
again. A batch that was written is not written a second time, though its success was never heard.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct

OFF = "off"

# The columns of one call as it is read. `time` is Unix milliseconds, `cost` nano-USD.
COLUMNS = (
    "time", "request_id", "token", "address", "route", "front", "provider", "model_asked", "model",
    "key_id", "stream", "status", "outcome", "code", "attempts", "first_event_ms", "total_ms",
    "prompt_tokens", "cached_tokens", "cache_write_tokens", "completion_tokens",
    "reasoning_tokens", "counted", "cost",
)  # fmt: skip
# Most of them are the same for many calls: they are written once, as a kind of calls. Half the work
# of writing a call is its texts.
KIND = (
    "token", "address", "route", "front", "provider", "model_asked", "model", "key_id", "stream",
    "status", "outcome", "code", "attempts", "counted",
)  # fmt: skip
OWN = (
    "time", "request_id", "kind", "first_event_ms", "total_ms", "prompt_tokens", "cached_tokens",
    "cache_write_tokens", "completion_tokens", "reasoning_tokens", "cost",
)  # fmt: skip
# A sum is over the calls of a span of `seconds` that began at `start`, in Unix seconds.
GROUP = ("seconds", "start", "token", "provider", "model", "key_id")
FIGURES = (
    "calls", "failed", "prompt_tokens", "cached_tokens", "cache_write_tokens", "completion_tokens",
    "reasoning_tokens", "estimated", "cost", "unpriced",
)  # fmt: skip
HOUR, DAY = 3600, 86_400

ADD_CALL = (
    f"INSERT INTO ledger_call_rows ({', '.join(OWN)}) "  # noqa: S608 (constants)
    f"VALUES ({', '.join('?' * len(OWN))})"
)
# `used` is the day of its last call, in Unix seconds.
ADD_KIND = (
    f"INSERT INTO ledger_call_kinds (id, {', '.join(KIND)}, used) "  # noqa: S608 (constants)
    f"VALUES ({', '.join('?' * (len(KIND) + 2))}) ON CONFLICT (id) "
    "DO UPDATE SET used = excluded.used WHERE ledger_call_kinds.used < excluded.used"
)
ADD_SUM = (
    f"INSERT INTO ledger_sums ({', '.join(GROUP + FIGURES)}) "  # noqa: S608 (constants)
    f"VALUES ({', '.join('?' * len(GROUP + FIGURES))}) ON CONFLICT ({', '.join(GROUP)}) "
    f"DO UPDATE SET {', '.join(f'{n} = ledger_sums.{n} + excluded.{n}' for n in FIGURES)}"
)
LAST_BATCH = "SELECT batch FROM ledger_writers WHERE id = ?"
SET_BATCH = (
    "INSERT INTO ledger_writers (id, batch, time) VALUES (?, ?, ?) "
    "ON CONFLICT (id) DO UPDATE SET batch = excluded.batch, time = excluded.time"
)
PRUNE_CALLS = (
    "DELETE FROM ledger_call_rows WHERE id IN "
    "(SELECT id FROM ledger_call_rows WHERE time < ? ORDER BY time LIMIT ?)"
)
PRUNE_KINDS = "DELETE FROM ledger_call_kinds WHERE used < ?"
PRUNE_HOURS = "DELETE FROM ledger_sums WHERE seconds = ? AND start < ?"
PRUNE_WRITERS = "DELETE FROM ledger_writers WHERE time < ?"

Row = tuple[Any, ...]
Step = tuple[str, Sequence[Any]]  # a statement with `?` for each value, and the values


class Unwritten(Exception):
    """The database did not take a batch, or did not say so: it is to be tried again.

    `is_final`: the batch itself is what it cannot take.
    """

    def __init__(self, reason: str, *, is_final: bool = False) -> None:
        super().__init__(reason)
        self.is_final = is_final


class Batch(Struct):
    """Rows and sums of one transaction. `writer` and `number` tell it from every other.

    `kinds` are those that the rows name, at least.
    """

    writer: str
    number: int
    time: int  # Unix seconds
    kinds: list[Row]  # id, then KIND
    rows: list[Row]  # OWN
    sums: list[Row]  # GROUP, then FIGURES

    def used_kinds(self) -> list[Row]:
        """The values of ADD_KIND, in one order: writers that meet wait for one another."""
        today = self.time // DAY * DAY
        return sorted((*kind, today) for kind in self.kinds)


class Store(Protocol):
    """A database with the ledger's tables."""

    def write(self, batch: Batch) -> None:
        """Writes all of it, or nothing. Raises Unwritten."""

    def prune(self, calls_before: int, hours_before: int, writers_before: int, limit: int) -> int:
        """Deletes what is older: calls in Unix milliseconds, at most `limit` of them, hourly sums
        and writers in seconds. Returns how many calls were deleted. Raises Unwritten."""

    def read(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        """The rows of a SELECT with `?` for each value. Raises Unwritten."""

    def change(self, steps: Sequence[Step]) -> list[int]:
        """Runs all of the statements in one transaction. Returns how many rows each has changed.
        Raises Unwritten."""

    def close(self) -> None:
        """Closes the connection; the next call opens another."""


def store_of(place: str) -> Store | None:
    """The store that the config's `ledger` names; None for "off". Opens nothing yet."""
    if place == OFF:
        return None
    if "://" in place:
        from app.accounting.postgres_store import PostgresStore

        return PostgresStore(place)
    from app.accounting.sqlite_store import SqliteStore

    return SqliteStore(Path(place))
