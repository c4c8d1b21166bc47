"""An SQLite file that all workers share, opened when it is first needed.

Write-ahead log: readers never wait, and a killed process leaves the file whole.
"""

import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

BUSY_SECONDS = 5  # how long a write waits for another process's


class SqliteFile:
    """One connection to the file, used on one thread. A file that was deleted or replaced is opened
    anew.

    `prepare` is called with each new connection, to make the tables.
    """

    def __init__(self, path: Path, prepare: Callable[[sqlite3.Connection], None]) -> None:
        self._path, self._prepare = path, prepare
        self._database: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None  # device and inode of the open file

    def open(self) -> sqlite3.Connection:
        """The connection. Raises sqlite3.Error or OSError where the file cannot be used."""
        if self._database is not None and self._opened == _identity(self._path):
            return self._database
        self.close()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # It is nobody's business but its owner's. Only a file that is not there yet: this process
        # would lose the locks of its other connections by closing theirs.
        with suppress(FileExistsError):
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        database = sqlite3.connect(self._path, timeout=BUSY_SECONDS)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            self._prepare(database)
        except BaseException:
            database.close()
            raise
        self._database, self._opened = database, _identity(self._path)
        return database

    def close(self) -> None:
        """Closes the connection; the next `open` makes a new one."""
        database, self._database = self._database, None
        if database is not None:
            database.close()


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode, which change when a file is replaced; None for no file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
