"""Which session owns a conversation, for callers who do not send `index` back.

One bounded SQLite file, shared by all workers and kept over restarts. Conversation ids are stored
as fingerprints. An unknown conversation is never guessed to belong to some session.
"""

import asyncio
import logging
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from threading import Lock

from app.state.sqlite_file import SqliteFile

logger = logging.getLogger("any_proxy.conversations")

MAX_REMEMBERED = 100_000


class Conversations:
    """Reads and writes the file. One per worker.

    All SQLite work is done on one thread. What is remembered while the thread writes is collected
    and written next, in one transaction.
    """

    def __init__(self, path: Path, most: int = MAX_REMEMBERED) -> None:
        self._most = most
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="conversations")
        self._lock = Lock()
        self._pending: dict[bytes, str] = {}  # to be written; guarded by the lock
        self._writes = 0
        self._file = SqliteFile(path, _prepare)  # used on the thread only

    async def owner(self, pool: str, conversation_id: str) -> str | None:
        """Returns the id of the session that owns this conversation, None when it is unknown."""
        mark = _mark(pool, conversation_id)
        # The thread works in order, so what was remembered before this call is written by then.
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._find, mark)

    def remember(self, pool: str, conversation_id: str, key_id: str) -> None:
        """Stores the owner of a conversation, without waiting for the file."""
        mark = _mark(pool, conversation_id)
        with self._lock:
            is_scheduled = bool(self._pending)
            self._pending[mark] = key_id
        if not is_scheduled:
            self._thread.submit(self._write)

    async def close(self) -> None:
        """Waits until everything is written, and closes the file."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._file.close)
        self._thread.shutdown(wait=False)

    # --- on the thread ----------------------------------------------------------------------

    def _find(self, mark: bytes) -> str | None:
        try:
            row = (
                self._file.open()
                .execute("SELECT key_id FROM owner WHERE mark = ?", (mark,))
                .fetchone()
            )
        except (sqlite3.Error, OSError) as error:
            logger.error("the file of conversation owners cannot be read: %s", error)
            self._file.close()
            return None
        return str(row[0]) if row else None

    def _write(self) -> None:
        with self._lock:
            pending, self._pending = self._pending, {}
        now = int(time.time())
        try:
            with self._file.open() as database:  # one transaction
                database.executemany(
                    "INSERT INTO owner VALUES (?, ?, ?) ON CONFLICT (mark) "
                    "DO UPDATE SET key_id = excluded.key_id, at = excluded.at",
                    [(mark, key_id, now) for mark, key_id in pending.items()],
                )
                self._writes += len(pending)
                if self._writes * 100 >= self._most:
                    self._writes = 0
                    database.execute(
                        "DELETE FROM owner WHERE mark IN "
                        "(SELECT mark FROM owner ORDER BY at DESC LIMIT -1 OFFSET ?)",
                        (self._most,),
                    )
        except (sqlite3.Error, OSError) as error:
            logger.error("the file of conversation owners cannot be written: %s", error)
            self._file.close()


def _prepare(database: sqlite3.Connection) -> None:
    database.execute(
        "CREATE TABLE IF NOT EXISTS owner "
        "(mark BLOB PRIMARY KEY, key_id TEXT NOT NULL, at INTEGER NOT NULL) WITHOUT ROWID"
    )


def _mark(pool: str, conversation_id: str) -> bytes:
    return blake2b(f"{pool}\n{conversation_id}".encode(), digest_size=16).digest()
