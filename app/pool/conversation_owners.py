"""Which session a conversation belongs to, for callers who do not send `index` back.

Bounded, shared by all workers, alive after a restart: one small SQLite file. Conversation ids are
kept as fingerprints. A conversation nobody remembers is never given to a stranger's session.
"""

import asyncio
import logging
import os
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from threading import Lock

logger = logging.getLogger("any_proxy.conversations")

MAX_REMEMBERED = 100_000


class Conversations:
    """One per worker. The file is opened once, on a thread that does nothing else: what comes while
    it writes is written next, all at once."""

    def __init__(self, path: Path, most: int = MAX_REMEMBERED) -> None:
        self._path, self._most = path, most
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="conversations")
        self._lock = Lock()
        self._waiting: dict[bytes, str] = {}  # to be written; guarded by the lock
        self._writes = 0
        self._database: sqlite3.Connection | None = None  # the thread's
        self._opened: tuple[int, int] | None = None  # which file that is

    async def owner(self, pool: str, conversation_id: str) -> str | None:
        """The id of the session that had this conversation, None when that is not known."""
        mark = _mark(pool, conversation_id)
        # The thread does one thing after another: what was to be remembered before is by then.
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._find, mark)

    def remember(self, pool: str, conversation_id: str, key_id: str) -> None:
        """Does not wait for the file."""
        mark = _mark(pool, conversation_id)
        with self._lock:
            is_coming = bool(self._waiting)
            self._waiting[mark] = key_id
        if not is_coming:
            self._thread.submit(self._write)

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._let_go)
        self._thread.shutdown(wait=False)

    # on the thread

    def _find(self, mark: bytes) -> str | None:
        try:
            row = (
                self._open().execute("SELECT key_id FROM owner WHERE mark = ?", (mark,)).fetchone()
            )
        except (sqlite3.Error, OSError) as error:
            logger.error("the memory of conversations cannot be read: %s", error)
            self._let_go()
            return None
        return str(row[0]) if row else None

    def _write(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        now = int(time.time())
        try:
            with self._open() as database:  # one transaction
                database.executemany(
                    "INSERT INTO owner VALUES (?, ?, ?) ON CONFLICT (mark) "
                    "DO UPDATE SET key_id = excluded.key_id, at = excluded.at",
                    [(mark, key_id, now) for mark, key_id in waiting.items()],
                )
                self._writes += len(waiting)
                if self._writes * 100 >= self._most:
                    self._writes = 0
                    database.execute(
                        "DELETE FROM owner WHERE mark IN "
                        "(SELECT mark FROM owner ORDER BY at DESC LIMIT -1 OFFSET ?)",
                        (self._most,),
                    )
        except (sqlite3.Error, OSError) as error:
            logger.error("the memory of conversations cannot be written: %s", error)
            self._let_go()

    def _open(self) -> sqlite3.Connection:
        if self._database is not None and self._opened == _file(self._path):
            return self._database
        self._let_go()  # somebody took the file away
        self._path.parent.mkdir(parents=True, exist_ok=True)
        database = self._database = sqlite3.connect(self._path, timeout=5)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute(
            "CREATE TABLE IF NOT EXISTS owner "
            "(mark BLOB PRIMARY KEY, key_id TEXT NOT NULL, at INTEGER NOT NULL) WITHOUT ROWID"
        )
        self._opened = _file(self._path)
        return database

    def _let_go(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            database.close()


def _file(path: Path) -> tuple[int, int] | None:
    try:
        held = os.stat(path)
    except OSError:
        return None
    return held.st_dev, held.st_ino


def _mark(pool: str, conversation_id: str) -> bytes:
    return blake2b(f"{pool}\n{conversation_id}".encode(), digest_size=16).digest()
