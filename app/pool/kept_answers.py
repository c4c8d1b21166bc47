"""Answers that callers of Responses may go on from, in one bounded SQLite file.

Shared by all workers and kept over restarts. It holds texts, so it is a file of its own, readable
by its owner only, that can be deleted at any time. A turn is written before its last event is sent,
for another worker may get the next one at once. The oldest chains go first, whole. Protocol sheet:
front-responses, 6.3.
"""

import asyncio
import logging
import sqlite3
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from app.state.sqlite_file import SqliteFile
from app.wire.kept import Kept

logger = logging.getLogger("any_proxy.responses")
T = TypeVar("T")

MOST_ROWS = 20_000
MOST_BYTES = 256 * 1024 * 1024
MOST_TURNS = 500  # of one chain
_SWEEP_SECONDS = 60
_TABLE = """CREATE TABLE IF NOT EXISTS turn (
    id TEXT PRIMARY KEY, root TEXT NOT NULL, parent TEXT, owner BLOB NOT NULL,
    pool TEXT NOT NULL, key_id TEXT NOT NULL, used INTEGER NOT NULL, bytes INTEGER NOT NULL,
    turn BLOB NOT NULL
) WITHOUT ROWID"""


class Chain(Struct):
    """Kept turns by their ids, and the key that has answered the last one of the chain."""

    turns: dict[str, Kept] = {}
    pool: str = ""
    key_id: str = ""
    is_too_long: bool = False


def owner_of(credential: str) -> bytes:
    """Whose answers they are: a fingerprint of the caller's token or own key."""
    return sha256(credential.encode()).digest()[:16]


class KeptAnswers:
    """Reads and writes the file. One per worker; all work is done on one thread.

    What goes wrong with the file is logged, and never fails a call. `is_on` is False where the
    config says that nothing is kept; then no file is made.
    """

    def __init__(
        self,
        path: Path,
        keep_hours: float,
        most_rows: int = MOST_ROWS,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._seconds = keep_hours * 3600
        self._most_rows, self._most_bytes = most_rows, most_bytes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="responses")
        self._file = SqliteFile(path, self._prepare)  # used on the thread only
        self._swept = 0.0
        self.is_on = keep_hours > 0

    async def keep(self, owner: bytes, kept: Kept, pool: str, key_id: str) -> None:
        """Writes one turn; it can be read by every worker when this returns."""
        await self._run(None, self._keep, owner, kept, pool, key_id)

    async def find(self, owner: bytes, chain: str | None, ids: Sequence[str]) -> Chain:
        """The turns of `ids`, and of `chain` with all turns before it; only the owner's."""
        if not self.is_on:
            return Chain()
        return await self._run(Chain(), self._find, owner, chain, ids)

    async def delete(self, owner: bytes, id: str) -> bool:
        """Whether there was such a turn; it is gone now."""
        return self.is_on and await self._run(False, self._delete, owner, id)

    async def close(self) -> None:
        """Waits until everything is written, and closes the file."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._file.close)
        self._thread.shutdown(wait=False)

    async def _run(self, otherwise: T, work: Callable[..., T], *args: object) -> T:
        def guarded() -> T:
            try:
                return work(*args)
            except (sqlite3.Error, OSError, zlib.error, msgspec.DecodeError) as error:
                logger.error("the file of kept answers cannot be used: %s", error)
                self._file.close()
                return otherwise

        return await asyncio.get_running_loop().run_in_executor(self._thread, guarded)

    # --- on the thread --------------------------------------------------------------------------

    def _keep(self, owner: bytes, kept: Kept, pool: str, key_id: str) -> None:
        turn = zlib.compress(msgspec.json.encode(kept), 1)
        now = int(time.time())
        with self._file.open() as database:  # one transaction
            root = kept.id
            if kept.parent is not None:
                row = database.execute(
                    "SELECT root FROM turn WHERE id = ?", (kept.parent,)
                ).fetchone()
                root = row[0] if row else kept.id
                database.execute("UPDATE turn SET used = ? WHERE root = ?", (now, root))
            database.execute(
                "INSERT OR REPLACE INTO turn VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (kept.id, root, kept.parent, owner, pool, key_id, now, len(turn), turn),
            )
        if time.monotonic() - self._swept > _SWEEP_SECONDS:
            self._sweep(self._file.open(), now)

    def _find(self, owner: bytes, chain: str | None, ids: Sequence[str]) -> Chain:
        found = Chain()
        database = self._file.open()
        least = time.time() - self._seconds
        read = "SELECT turn, pool, key_id, root FROM turn WHERE id = ? AND owner = ? AND used >= ?"
        next_id = chain
        while next_id is not None and next_id not in found.turns:
            row = database.execute(read, (next_id, owner, least)).fetchone()
            if row is None:
                found.turns.clear()  # a chain with a hole is no chain
                break
            if len(found.turns) >= MOST_TURNS:
                found.is_too_long = True
                break
            kept = msgspec.json.decode(zlib.decompress(row[0]), type=Kept)
            if not found.turns:
                found.pool, found.key_id = row[1], row[2]
                with database:
                    database.execute(
                        "UPDATE turn SET used = ? WHERE root = ?", (int(time.time()), row[3])
                    )
            found.turns[next_id] = kept
            next_id = kept.parent
        for id in ids:
            row = database.execute(read, (id, owner, least)).fetchone()
            if row is not None:
                found.turns.setdefault(id, msgspec.json.decode(zlib.decompress(row[0]), type=Kept))
        return found

    def _delete(self, owner: bytes, id: str) -> bool:
        with self._file.open() as database:
            gone = database.execute("DELETE FROM turn WHERE id = ? AND owner = ?", (id, owner))
            return gone.rowcount > 0

    def _sweep(self, database: sqlite3.Connection, now: int) -> None:
        """Deletes what is too old, then the oldest chains until the rest has room."""
        self._swept = time.monotonic()
        with database:
            database.execute("DELETE FROM turn WHERE used < ?", (int(now - self._seconds),))
            rows, size = database.execute("SELECT COUNT(*), SUM(bytes) FROM turn").fetchone()
            if rows <= self._most_rows and (size or 0) <= self._most_bytes:
                return
            chains = database.execute(
                "SELECT root, COUNT(*), SUM(bytes) FROM turn GROUP BY root ORDER BY MAX(used)"
            ).fetchall()
            for root, count, held in chains:
                if rows <= self._most_rows and size <= self._most_bytes:
                    break
                database.execute("DELETE FROM turn WHERE root = ?", (root,))
                rows, size = rows - count, size - held

    def _prepare(self, database: sqlite3.Connection) -> None:
        database.execute(_TABLE)
        database.execute("CREATE INDEX IF NOT EXISTS turn_root ON turn (root)")
        self._sweep(database, int(time.time()))
