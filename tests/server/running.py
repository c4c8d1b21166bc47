"""The gateway as its users run it: `python run.py -c FILE`, in a process of its own."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]
_chance = random.SystemRandom()  # two processes that run tests may have the same seed


def free_port() -> int:
    """A port that nobody listens on, and that the system gives to no other socket of the tests.

    Whoever asks the system for any port gets one above these. One of those could go to another test
    before it is used here, or while a gateway still dials it as an upstream that is not there.
    """
    while True:
        port = _chance.randrange(20_000, 32_000)
        with socket.socket() as sock, suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


def until(
    what: Callable[[], Any],
    seconds: float = 8,
    told: Callable[[], object] = str,
    every: float = 0.02,
) -> Any:
    """What `what()` gives, once that is true. `told()` says what was there when it never came."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, told()
        time.sleep(every)
    return found


class Running:
    """One gateway. `url` is its address, `log()` its call lines so far."""

    def __init__(
        self,
        folder: Path,
        config: dict,
        *flags: str,
        env: dict | None = None,
        program: Path = ROOT / "run.py",
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / "c.yaml"
        self.out = folder / "out.log"
        self.err = folder / "err.log"
        # JSON is YAML: no quoting to get wrong.
        own = {
            "port": f"127.0.0.1:{self.port}",
            "workers": 1,
            # What is kept in these is nobody else's business.
            "state_path": str(folder / "rests.json"),
            "responses": {"path": str(folder / "responses.db")},
            "ledger": str(folder / "usage.db"),
        } | config
        self.file.write_text(json.dumps(own))
        self.file.chmod(0o600)
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, str(program), "-c", str(self.file), *flags],
                stdout=out,
                stderr=err,
                stdin=subprocess.DEVNULL,
                cwd=ROOT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        # A flag wins over the file.
        self.count = int(dict(pairwise(flags)).get("--workers", own["workers"]))

    def wait(self, seconds: float = 20) -> "Running":
        """Until it answers, and all its workers serve."""
        end = time.monotonic() + seconds
        while True:
            try:
                httpx.get(f"{self.url}/ping", timeout=2).raise_for_status()
                break
            except httpx.HTTPError:
                if self.process.poll() is not None or time.monotonic() > end:
                    raise AssertionError(f"no start: {self.err.read_text()}") from None
                time.sleep(0.05)
        self.wait_workers(self.count, end - time.monotonic())
        return self

    def log(self, **having) -> list[dict]:
        """The call lines whose members have these values."""
        lines = [json.loads(line) for line in self.out.read_text().splitlines()]
        return [line for line in lines if all(line.get(k) == v for k, v in having.items())]

    def wait_log(self, count: int = 1, seconds: float = 5, **having) -> list[dict]:
        """The lines once there are `count` of them: they are written a moment after the answer."""
        return self.wait_lines(lambda lines: len(lines) >= count, seconds, **having)

    def wait_lines(self, enough, seconds: float = 5, **having) -> list[dict]:
        """The lines once `enough(lines)` is true."""
        until(lambda: enough(self.log(**having)), seconds, lambda: (having, self.log()[-5:]))
        return self.log(**having)

    def workers(self) -> list[int]:
        """Pids of its workers: the children that hold the port's socket, if they serve or not."""
        return [pid for pid in children(self.process.pid) if _inherits_listener(pid, self.port)]

    def wait_workers(self, count: int, seconds: float = 8, gone: Collection[int] = ()) -> list[int]:
        """The pids of its workers, once they are so many, all serve, and none is one of `gone`.

        Between its start and the moment it serves a worker loses signals: Sanic ignores them then.
        """

        def serving() -> list[int] | None:
            pids, told = self.workers(), self.err.read_text()
            are_ready = all(f"Worker ready [{pid}]" in told for pid in pids)
            is_so = len(pids) == count and are_ready and not set(gone) & set(pids)
            return pids if is_so else None

        # Not too often: to look takes milliseconds, of what may be a gateway under load.
        return until(serving, seconds, lambda: (self.workers(), self.err.read_text()), every=0.05)

    def open_files(self) -> int:
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in self.workers())

    def wait_gone(self, seconds: float = 3) -> None:
        """Until no process is left that it started."""
        until(lambda: not of_session(self.process.pid), seconds)

    def stop(self, seconds: float = 15) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
                raise
        return self.process.returncode


@contextmanager
def running(folder: Path, config: dict, *flags: str, env: dict | None = None):
    gateway = Running(folder, config, *flags, env=env)
    try:
        yield gateway.wait()
    finally:
        gateway.stop()


def children(pid: int) -> list[int]:
    found = []
    with suppress(OSError):  # it, or a thread of it, ended while we looked
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *children(int(child))]
    return found


def alive(pid: int) -> bool:
    """Running: a zombie that nobody has buried yet does not count."""
    return _stat(pid)[0] != "Z"


def of_session(leader: int) -> list[int]:
    """All that this process has started, whoever is their parent by now."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [pid for pid in pids if (stat := _stat(pid))[3] == str(leader) and stat[0] != "Z"]


def _stat(pid: int) -> list[str]:
    """State, parent, group, session: the start of what the system tells of a process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:4]
    except OSError:
        return ["Z", "", "", ""]  # it is gone


def _inherits_listener(pid: int, port: int) -> bool:
    inodes = set()
    try:
        for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].split(":")[1], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
        return alive(pid) and any(
            os.readlink(fd) in inodes for fd in Path(f"/proc/{pid}/fd").iterdir()
        )
    except OSError:
        return False  # it ended while we looked
