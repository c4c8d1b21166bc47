"""An SQLite file that several processes share, and several connections in each of them."""

import sqlite3
import subprocess
import sys

from app.state.sqlite_file import SqliteFile


def prepare(database: sqlite3.Connection) -> None:
    database.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER)")
    database.commit()


def elsewhere(path, statement: str) -> str:
    """What another process reads, which opens the file and closes it again."""
    code = "import sqlite3, sys; d = sqlite3.connect(sys.argv[1]); "
    code += "print(d.execute(sys.argv[2]).fetchall()); d.close()"
    return subprocess.run(
        [sys.executable, "-c", code, str(path), statement],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def test_what_is_written_stays_although_another_process_comes_and_goes(tmp_path):
    """Locks belong to a process: one that closes the file by itself loses those of SQLite. Then
    whoever closes it next takes itself for the last one, and deletes the log of the others."""
    path = tmp_path / "shared.db"
    first, second = SqliteFile(path, prepare), SqliteFile(path, prepare)
    with first.open() as database:
        database.execute("INSERT INTO t VALUES (1)")
    second.open()
    assert elsewhere(path, "SELECT n FROM t") == "[(1,)]"
    with first.open() as database:
        database.execute("INSERT INTO t VALUES (2)")
    assert elsewhere(path, "SELECT n FROM t") == "[(1,), (2,)]"
    first.close()
    second.close()
    assert elsewhere(path, "SELECT n FROM t") == "[(1,), (2,)]"


def test_a_new_file_is_its_owners_only(tmp_path):
    file = SqliteFile(tmp_path / "deep" / "new.db", prepare)
    file.open()
    assert (tmp_path / "deep" / "new.db").stat().st_mode & 0o077 == 0
    file.close()
