"""The operator's HAR files as web sessions: every *.har of a folder, at start and when it changes.

A file is read by a small process of its own, so that one of 200 MB neither blocks nor bloats a
worker: `python -m app.process.har_folder FILE` prints the session it found as JSON, to its worker
alone.
"""

import asyncio
import logging
import os
import re
import stat
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
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
LOOK_EVERY_SECONDS = 2.0
WARN_EVERY_LOOKS = 30
PIECE_BYTES = 1024 * 1024
READ_SECONDS = 300
# So long a worker keeps what it would say: a reload's new ones see a file before they lead.
UNSAID_SECONDS = 60.0
_ID = re.compile(r"[!-~](?:[ -~]{0,126}[!-~])?\Z")  # it travels in x-auth-id

Seen = dict[Path, tuple[int, int]]


class HarFolder:
    """One per worker. Each takes the sessions; the one that `leads` tells the log of them."""

    def __init__(self, sessions: Sessions, folder: str, leads: Callable[[], bool]) -> None:
        self._sessions, self._leads = sessions, leads
        self._unsaid: deque[tuple[float, int, str]] = deque(maxlen=1000)
        self._looks = 0
        self._folder = Path(folder) if folder else None
        self._seen: Seen = {}
        self._warner = ExpiryWarner()
        self._taken = {key.id for key in sessions.given(POOL)}

    async def run(self) -> None:
        """Until cancelled."""
        await repeat("the look at web sessions and HAR files", self.look, LOOK_EVERY_SECONDS)

    async def look(self) -> None:
        try:
            if self._looks % WARN_EVERY_LOOKS == 0:
                for line in self._warner.new_warnings(self._sessions.expiries(int(time.time()))):
                    self._unsaid.append((time.monotonic(), logging.WARNING, line))
            self._looks += 1
            if self._folder is not None:
                await self._look_into(self._folder)
        finally:
            self._speak()

    async def _look_into(self, folder: Path) -> None:
        now = await asyncio.to_thread(listed, folder)
        for path in self._seen.keys() - now.keys():
            self._sessions.forget(POOL, path.name)
            self._say(logging.INFO, path, "is gone, and its session with it")
            del self._seen[path]
        failed: Exception | None = None
        for path, mark in now.items():
            if self._seen.get(path) != mark:
                try:
                    await self._take(path)
                except Exception as error:  # one file must not keep the others out
                    failed = error
                    continue
                self._seen[path] = mark
        if failed is not None:
            raise failed

    async def _take(self, path: Path) -> None:
        if path.name in self._taken:
            self._say(logging.WARNING, path, f"is passed over: {POOL} has this id already")
            return
        if not _ID.match(path.name):
            self._say(logging.WARNING, path, "is passed over: name it in plain ASCII")
            return
        if is_open_to_others(path):
            self._say(logging.WARNING, path, "can be read by other users: chmod 600")
        found = await self._read(path)
        if found.problem:
            self._sessions.forget(POOL, path.name)
            self._say(logging.WARNING, path, f"gives no session: {found.problem}")
            return
        self._sessions.adopt([Key(POOL, path.name, found.val, found.fields)])
        self._say(logging.INFO, path, "is a web session now")

    async def _read(self, path: Path) -> Found:
        reader = await ChildProcess.start(
            "app.process.har_folder",
            os.path.abspath(path),  # noqa: ASYNC240, looks at no disk
        )
        try:
            async with asyncio.timeout(READ_SECONDS):
                told = await reader.reader.read()
            return msgspec.json.decode(told, type=Found)
        except (TimeoutError, OSError, msgspec.DecodeError):
            return Found(problem="it cannot be read")
        finally:
            await reader.end()

    def _say(self, level: int, path: Path, what: str) -> None:
        self._unsaid.append((time.monotonic(), level, f"the HAR file {path} {what}"))

    def _speak(self) -> None:
        """Each worker finds the same: what the leader has said by now the others need not say."""
        while self._unsaid:
            at, level, line = self._unsaid[0]
            if self._leads():
                logger.log(level, "%s", line)
            elif time.monotonic() - at < UNSAID_SECONDS:
                return
            self._unsaid.popleft()


def listed(folder: Path) -> Seen:
    """Every HAR file below the folder, with its time and size."""
    found: Seen = {}
    for path in sorted(folder.rglob("*.har")):
        with suppress(OSError):
            held = path.stat()
            if stat.S_ISREG(held.st_mode):
                found[path] = (held.st_mtime_ns, held.st_size)
    return found


def is_open_to_others(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & 0o007)
    except OSError:
        return False


def read(path: Path) -> Found:
    """The session in one file, read here and now."""
    try:
        with path.open("rb") as file:
            return read_har(_pieces(file), int(time.time()))
    except OSError as error:
        return Found(problem=f"it cannot be read ({error.strerror})")


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(PIECE_BYTES):
        yield piece


def checked(folder: str) -> Iterator[tuple[str, str, int | None]]:
    """For `run.py check`: file, what is wrong with it ("" for nothing), when its token ends."""
    for path in listed(Path(folder)) if folder else ():
        found = read(path)
        problem = found.problem
        if not problem and is_open_to_others(path):
            problem = "it can be read by other users: chmod 600"
        renews = found.val == TO_BE_RENEWED
        yield str(path), problem, None if renews else jwt_expiry(found.val)


def check_lines(config: Config) -> list[str]:
    """What `run.py check` says of web sessions: how long each has to live, what each HAR gives."""
    now = int(time.time())
    lines = []
    for entry in config.openai.web_sessions:
        ends = jwt_expiry(entry.val)
        if ends is not None:
            lines.append(f"session {entry.id} of {POOL} {describe_expiry(ends - now)}")
    for path, problem, ends in checked(config.hars_path):
        if problem:
            lines.append(f"warning: {path}: {problem}")
        elif ends is None:
            lines.append(f"{path}: a web session; when it ends is not said")
        else:
            lines.append(f"{path}: a web session that {describe_expiry(ends - now)}")
    return lines


def main(arguments: list[str]) -> int:
    os.nice(10)
    sys.stdout.buffer.write(msgspec.json.encode(read(Path(arguments[0]))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
