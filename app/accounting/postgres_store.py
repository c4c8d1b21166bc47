"""The ledger in PostgreSQL, which the workers of several hosts write.

Needs psycopg 3, which is installed apart: `pip install -r requirements-postgres.txt`.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import psycopg

from app.accounting import migrations
from app.accounting.store import (
    ADD_KIND,
    ADD_SUM,
    DAY,
    HOUR,
    LAST_BATCH,
    OWN,
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

T = TypeVar("T")
Connection = psycopg.Connection[tuple[Any, ...]]

_CONNECT_SECONDS = 5
_STATEMENT_MS = 20_000
_LOST_MS = 10_000  # without an answer to what was sent
_LOCK = 0x616E7970726F7879  # of migrations: any number of our own
_COPY_CALLS = f"COPY ledger_call_rows ({', '.join(OWN)}) FROM STDIN"
# What it says of values that it cannot hold, in contrast to a server that is not there.
_OF_VALUES = (psycopg.DataError, psycopg.IntegrityError, UnicodeError)


class PostgresStore:
    """One connection to the server; see Store."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._connection: Connection | None = None

    def write(self, batch: Batch) -> None:
        """Writes all of it, or nothing. Raises Unwritten."""
        self._do(lambda connection: _write(connection, batch))

    def prune(self, calls_before: int, hours_before: int, writers_before: int, limit: int) -> int:
        """See Store.prune."""

        def delete(connection: Connection) -> int:
            connection.execute(_own(PRUNE_HOURS), (HOUR, hours_before))
            connection.execute(_own(PRUNE_WRITERS), (writers_before,))
            connection.execute(_own(PRUNE_KINDS), (calls_before // 1000 - DAY,))
            return connection.execute(_own(PRUNE_CALLS), (calls_before, limit)).rowcount

        return self._do(delete)

    def read(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        """See Store.read."""
        return self._do(lambda connection: connection.execute(_own(statement), values).fetchall())

    def change(self, steps: Sequence[Step]) -> list[int]:
        """See Store.change."""

        def run(connection: Connection) -> list[int]:
            with connection.transaction():
                return [connection.execute(_own(text), values).rowcount for text, values in steps]

        return self._do(run)

    def close(self) -> None:
        """Closes the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _do(self, work: Callable[[Connection], T]) -> T:
        try:
            return work(self._open())
        except _OF_VALUES as error:
            raise Unwritten(str(error), is_final=True) from error
        except (psycopg.Error, OSError, migrations.TooNew) as error:
            self.close()
            raise Unwritten(str(error)) from error

    def _open(self) -> Connection:
        if self._connection is not None and not self._connection.closed:
            return self._connection
        connection = psycopg.connect(
            self._address,
            autocommit=True,
            connect_timeout=_CONNECT_SECONDS,
            tcp_user_timeout=_LOST_MS,
            prepare_threshold=None,  # poolers hand the connection on between statements
            application_name="any-proxy",
            client_encoding="utf8",  # of an SQL_ASCII database text would come as bytes
        )
        try:
            connection.execute(f"SET statement_timeout = {_STATEMENT_MS}")
            _migrate(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection


def _write(connection: Connection, batch: Batch) -> None:
    with connection.transaction(), connection.cursor() as cursor:
        last = cursor.execute(_own(LAST_BATCH), (batch.writer,)).fetchone()
        if last is not None and last[0] >= batch.number:
            return
        cursor.executemany(_own(ADD_KIND), batch.used_kinds())
        with cursor.copy(_COPY_CALLS) as copy:
            for row in batch.rows:
                copy.write_row(row)
        cursor.executemany(_own(ADD_SUM), batch.sums)
        cursor.execute(_own(SET_BATCH), (batch.writer, batch.number, batch.time))


def _migrate(connection: Connection) -> None:
    if not migrations.missing(_version(connection)):
        return
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        connection.execute("CREATE TABLE IF NOT EXISTS ledger_version (number INTEGER NOT NULL)")
        for number, statements in migrations.missing(_version(connection)):
            for statement in statements:
                kind = "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
                statement = statement.replace("{id}", kind).replace("{number}", "BIGINT")
                connection.execute(_own(statement))
            connection.execute("DELETE FROM ledger_version")
            connection.execute("INSERT INTO ledger_version VALUES (%s)", (number,))


def _version(connection: Connection) -> int:
    found = connection.execute("SELECT to_regclass('ledger_version')").fetchone()
    if found is None or found[0] is None:
        return 0
    row = connection.execute("SELECT number FROM ledger_version").fetchone()
    return int(row[0]) if row is not None else 0


def _own(statement: str) -> bytes:
    """A shared statement with this driver's mark for a value."""
    return statement.replace("?", "%s").encode()
