"""The ledger in an SQLite file, which all workers of this machine write."""

import sqlite3
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from app.accounting import migrations
from app.accounting.store import (
    ADD_CALL,
    ADD_KIND,
    ADD_SUM,
    DAY,
    HOUR,
    LAST_BATCH,
    PRUNE_CALLS,
    PRUNE_HOURS,
    PRUNE_KINDS,
    PRUNE_WRITERS,
    SET_BATCH,
    Batch,
    Row,
    Step,
    Unwritten,
)
from app.state.sqlite_file import SqliteFile

T = TypeVar("T")

_CHECKPOINT_PAGES = 4000  # of 4 KiB: some seconds of a busy gateway
# Rows in one statement: a third less work than one by one. And each statement gives the interpreter
# lock away some times, over which the event loop and this thread then fight.
_AT_ONCE = (250, 50, 10, 1)
_VALUES = ADD_CALL.partition(" VALUES ")[2]
_ADD_CALLS = [(count, ADD_CALL + f", {_VALUES}" * (count - 1)) for count in _AT_ONCE]
# What it says of values that it cannot hold, in contrast to a file that cannot be written.
_OF_VALUES = (
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    OverflowError,
    UnicodeError,
)


class SqliteStore:
    """One connection to the file; see Store."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = SqliteFile(path, _migrate)

    def write(self, batch: Batch) -> None:
        """Writes all of it, or nothing. Raises Unwritten."""
        self._do(lambda database: _write(database, batch))

    def prune(self, calls_before: int, hours_before: int, writers_before: int, limit: int) -> int:
        """See Store.prune."""

        def delete(database: sqlite3.Connection) -> int:
            with database:
                database.execute(PRUNE_HOURS, (HOUR, hours_before))
                database.execute(PRUNE_WRITERS, (writers_before,))
                database.execute(PRUNE_KINDS, (calls_before // 1000 - DAY,))
                return database.execute(PRUNE_CALLS, (calls_before, limit)).rowcount

        return self._do(delete)

    def read(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        """See Store.read. A file that is not there has no rows, and none is made."""
        if not self._path.exists():
            return []
        return self._do(lambda database: database.execute(statement, tuple(values)).fetchall())

    def change(self, steps: Sequence[Step]) -> list[int]:
        """See Store.change."""

        def run(database: sqlite3.Connection) -> list[int]:
            with database:
                database.execute("BEGIN IMMEDIATE")
                return [database.execute(text, tuple(values)).rowcount for text, values in steps]

        return self._do(run)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return work(self._file.open())
        except _OF_VALUES as error:
            raise Unwritten(str(error), is_final=True) from error
        except (sqlite3.Error, OSError, migrations.TooNew) as error:
            self.close()
            raise Unwritten(str(error)) from error


def _write(database: sqlite3.Connection, batch: Batch) -> None:
    with database:
        database.execute("BEGIN IMMEDIATE")
        last = database.execute(LAST_BATCH, (batch.writer,)).fetchone()
        if last is not None and last[0] >= batch.number:
            return
        database.executemany(ADD_KIND, batch.used_kinds())
        at, rows = 0, batch.rows
        for count, statement in _ADD_CALLS:
            end = len(rows) - (len(rows) - at) % count
            values = (list(chain.from_iterable(rows[n : n + count])) for n in range(at, end, count))
            database.executemany(statement, values)
            at = end
        database.executemany(ADD_SUM, batch.sums)
        database.execute(SET_BATCH, (batch.writer, batch.number, batch.time))


def _migrate(database: sqlite3.Connection) -> None:
    database.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    if not migrations.missing(_version(database)):
        return
    with database:
        database.execute("BEGIN IMMEDIATE")
        for number, statements in migrations.missing(_version(database)):
            for statement in statements:
                statement = statement.replace("{id}", "INTEGER PRIMARY KEY AUTOINCREMENT")
                database.execute(statement.replace("{number}", "INTEGER"))
            database.execute(f"PRAGMA user_version = {number}")


def _version(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])
