"""Web sessions from the operator's HAR files: every *.har below a folder, at start and on change.

A file is read in a child process, so that one of 200 MB neither blocks nor bloats a worker:
`python -m app.process.har_folder FILE` prints the session it found as JSON, to its worker alone.
"""

import asyncio
import logging
import os
import re
import stat
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import msgspec

from app.config.schema import Config
from app.offload.background import repeat
from app.offload.child_process import ChildProcess
from app.pool.web_sessions import ExpiryWarner, Sessions, describe_expiry
from app.wire.cookies import jwt_expiry
from app.wire.provider import Key
from providers.openai.har import TO_BE_RENEWED, Found, read_har

logger = logging.getLogger("any_proxy.sessions")

POOL = "openai.web_sessions"
SCAN_SECONDS = 2.0
WARN_EVERY_SCANS = 30
CHUNK_BYTES = 1024 * 1024
READ_SECONDS = 300
# How long a worker that is not the leader keeps its log lines: after a reload the new workers see a
# file before one of them leads.
KEEP_LINES_SECONDS = 60.0
_ID = re.compile(r"[!-~](?:[ -~]{0,126}[!-~])?\Z")  # it travels in x-auth-id

Seen = dict[Path, tuple[int, int]]


class HarFolder:
    """Scans the folder, one per worker. Each adds the sessions; the one that `leads` logs it."""

    def __init__(
        self,
        sessions: Sessions,
        folder: str,
        leads: Callable[[], bool],
        read: Callable[[Path], Awaitable[Found]] | None = None,
    ) -> None:
        self._sessions, self._leads = sessions, leads
        self._read = read or read_in_child
        self._lines: deque[tuple[float, int, str]] = deque(maxlen=1000)
        self._scans = 0
        self._folder = Path(folder) if folder else None
        self._seen: Seen = {}
        self._warner = ExpiryWarner()
        self._configured = {key.id for key in sessions.given(POOL)}

    async def run(self) -> None:
        """Scans every two seconds, until cancelled."""
        await repeat("the look at web sessions and HAR files", self.scan, SCAN_SECONDS)

    async def scan(self) -> None:
        """Adds the sessions of new and changed files, removes those of files that are gone.

        Raises the last error of a file, once all others are read.
        """
        try:
            if self._scans % WARN_EVERY_SCANS == 0:
                for line in self._warner.new_warnings(self._sessions.expiries(int(time.time()))):
                    self._lines.append((time.monotonic(), logging.WARNING, line))
            self._scans += 1
            if self._folder is not None:
                await self._scan_folder(self._folder)
        finally:
            self._log_lines()

    async def _scan_folder(self, folder: Path) -> None:
        now = await asyncio.to_thread(list_files, folder)
        for path in self._seen.keys() - now.keys():
            self._sessions.forget(POOL, path.name)
            self._queue_line(logging.INFO, path, "is gone, and its session with it")
            del self._seen[path]
        failed: Exception | None = None
        for path, mark in now.items():
            if self._seen.get(path) != mark:
                try:
                    await self._add(path)
                except Exception as error:  # the other files are read nevertheless
                    failed = error
                    continue
                self._seen[path] = mark
        if failed is not None:
            raise failed

    async def _add(self, path: Path) -> None:
        if path.name in self._configured:
            self._queue_line(logging.WARNING, path, f"is passed over: {POOL} has this id already")
            return
        if not _ID.match(path.name):
            self._queue_line(logging.WARNING, path, "is passed over: name it in plain ASCII")
            return
        if is_open_to_others(path):
            self._queue_line(logging.WARNING, path, "can be read by other users: chmod 600")
        found = await self._read(path)
        if found.problem:
            self._sessions.forget(POOL, path.name)
            self._queue_line(logging.WARNING, path, f"gives no session: {found.problem}")
            return
        self._sessions.adopt([Key(POOL, path.name, found.val, found.fields)])
        self._queue_line(logging.INFO, path, "is a web session now")

    def _queue_line(self, level: int, path: Path, what: str) -> None:
        self._lines.append((time.monotonic(), level, f"the HAR file {path} {what}"))

    def _log_lines(self) -> None:
        """Logs the queued lines if this worker leads; drops those that the leader has logged."""
        while self._lines:
            at, level, line = self._lines[0]
            if self._leads():
                logger.log(level, "%s", line)
            elif time.monotonic() - at < KEEP_LINES_SECONDS:
                return
            self._lines.popleft()


async def read_in_child(path: Path) -> Found:
    """The session in one file, read by a child process within five minutes."""
    reader = await ChildProcess.start(
        "app.process.har_folder",
        os.path.abspath(path),  # noqa: ASYNC240, looks at no disk
    )
    try:
        async with asyncio.timeout(READ_SECONDS):
            output = await reader.reader.read()
        return msgspec.json.decode(output, type=Found)
    except (TimeoutError, OSError, msgspec.DecodeError):
        return Found(problem="it cannot be read")
    finally:
        await reader.end()


def list_files(folder: Path) -> Seen:
    """Every HAR file below the folder, with its modification time (ns) and size."""
    found: Seen = {}
    for path in sorted(folder.rglob("*.har")):
        with suppress(OSError):
            held = path.stat()
            if stat.S_ISREG(held.st_mode):
                found[path] = (held.st_mtime_ns, held.st_size)
    return found


def is_open_to_others(path: Path) -> bool:
    """Whether users other than the owner and its group have access."""
    try:
        return bool(path.stat().st_mode & 0o007)
    except OSError:
        return False


def read(path: Path) -> Found:
    """The session in one file, read in this process."""
    try:
        with path.open("rb") as file:
            return read_har(_pieces(file), int(time.time()))
    except OSError as error:
        return Found(problem=f"it cannot be read ({error.strerror})")


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(CHUNK_BYTES):
        yield piece


def check_files(folder: str) -> Iterator[tuple[str, str, int | None]]:
    """For `run.py check`: (file, problem or "", end of its token in Unix s) of each HAR file."""
    for path in list_files(Path(folder)) if folder else ():
        found = read(path)
        problem = found.problem
        if not problem and is_open_to_others(path):
            problem = "it can be read by other users: chmod 600"
        renews = found.val == TO_BE_RENEWED
        yield str(path), problem, None if renews else jwt_expiry(found.val)


def check_lines(config: Config) -> list[str]:
    """The lines of `run.py check` about web sessions: when each expires, what each HAR holds."""
    now = int(time.time())
    lines = []
    for entry in config.openai.web_sessions:
        ends = jwt_expiry(entry.val)
        if ends is not None:
            lines.append(f"session {entry.id} of {POOL} {describe_expiry(ends - now)}")
    for path, problem, ends in check_files(config.hars_path):
        if problem:
            lines.append(f"warning: {path}: {problem}")
        elif ends is None:
            lines.append(f"{path}: a web session; when it ends is not said")
        else:
            lines.append(f"{path}: a web session that {describe_expiry(ends - now)}")
    return lines


def main(arguments: list[str]) -> int:
    """The child process: prints the session in the file, as JSON."""
    os.nice(10)
    sys.stdout.buffer.write(msgspec.json.encode(read(Path(arguments[0]))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
