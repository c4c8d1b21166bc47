"""Which session a conversation belongs to, for callers who do not send `index` back.

Bounded, shared by all workers, alive after a restart: one small SQLite file. Conversation ids are
kept as fingerprints. A conversation nobody remembers is never given to a stranger's session.
"""

import logging
import sqlite3
import time
from hashlib import blake2b
from pathlib import Path

logger = logging.getLogger("any_proxy.conversations")

MAX_REMEMBERED = 100_000
_TRIM_EVERY = 1_000


class Conversations:
    """Blocking, a millisecond at most: call it off the event loop."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writes = 0

    def owner(self, pool: str, conversation_id: str) -> str | None:
        """The id of the session that had this conversation, None when that is not known."""
        try:
            with self._open() as database:
                row = database.execute(
                    "SELECT key_id FROM owner WHERE mark = ?", (_mark(pool, conversation_id),)
                ).fetchone()
        except (sqlite3.Error, OSError) as error:
            logger.error("the memory of conversations cannot be read: %s", error)
            return None
        return str(row[0]) if row else None

    def remember(self, pool: str, conversation_id: str, key_id: str) -> None:
        try:
            with self._open() as database:
                database.execute(
                    "INSERT INTO owner VALUES (?, ?, ?) ON CONFLICT (mark) "
                    "DO UPDATE SET key_id = excluded.key_id, at = excluded.at",
                    (_mark(pool, conversation_id), key_id, int(time.time())),
                )
                self._writes += 1
                if self._writes % _TRIM_EVERY == 0:
                    database.execute(
                        "DELETE FROM owner WHERE mark IN "
                        "(SELECT mark FROM owner ORDER BY at DESC LIMIT -1 OFFSET ?)",
                        (MAX_REMEMBERED,),
                    )
        except (sqlite3.Error, OSError) as error:
            logger.error("the memory of conversations cannot be written: %s", error)

    def _open(self) -> "_Database":
        return _Database(self._path)


class _Database:
    """One connection, committed and closed: threads and workers come and go."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, timeout=5)

    def __enter__(self) -> sqlite3.Connection:
        connection = self._connection
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS owner "
                "(mark BLOB PRIMARY KEY, key_id TEXT NOT NULL, at INTEGER NOT NULL) WITHOUT ROWID"
            )
        except BaseException:
            connection.close()
            raise
        return connection

    def __exit__(self, failed: object, *_: object) -> None:
        try:
            if failed is None:
                self._connection.commit()
        finally:
            self._connection.close()


def _mark(pool: str, conversation_id: str) -> bytes:
    return blake2b(f"{pool}\n{conversation_id}".encode(), digest_size=16).digest()
