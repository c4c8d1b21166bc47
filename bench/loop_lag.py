"""Measures how late an event loop is while slow work runs outside it: `python -m bench.loop_lag`.

A probe is scheduled on the loop every two milliseconds and notes how late it ran: first with
nothing else to do, then while proofs of work are searched (several at once), while the process for
them is started and stopped again and again, and while a HAR file of 200 MB is read. Only what runs
in a worker runs in this process. The first line shows what the machine itself adds: on a busy one
the other lines contain that too. `own` is the most CPU time that this process itself used between
two runs of the probe; a loop that is blocked by its own work shows it there.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import uvloop

from app.config.load import load
from app.offload.cpu_work import CpuWorker
from app.pool.key_pool import KeyPool
from app.pool.web_sessions import Sessions
from app.process.har_folder import HarFolder
from app.state.shared_table import SharedState
from providers.openai import sentinel

EVERY_SECONDS = 0.002


class Probe:
    """Measures how late the loop is, from `with` to its end, and prints one row."""

    def __init__(self, name: str) -> None:
        self._name, self._late = name, []
        self._loop = asyncio.get_running_loop()

    def __enter__(self):
        self._cpu, self._began = time.process_time(), time.monotonic()
        self._own, self._before = 0.0, resident_mb("self")
        self._next()
        return self

    def _next(self) -> None:
        self._used = time.thread_time()
        self._due = time.perf_counter() + EVERY_SECONDS
        self._timer = self._loop.call_later(EVERY_SECONDS, self._called)

    def _called(self) -> None:
        self._late.append((time.perf_counter() - self._due) * 1000)
        self._own = max(self._own, (time.thread_time() - self._used) * 1000)
        self._next()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        late, took = sorted(self._late), time.monotonic() - self._began
        cpu = (time.process_time() - self._cpu) / took * 100
        grown = resident_mb("self") - self._before
        p50, p99, p999 = (percentile(late, part) for part in (0.5, 0.99, 0.999))
        print(
            f"| {self._name} | {took:.1f} | {p50:.2f} | {p99:.2f} | {p999:.2f} | {late[-1]:.2f} | "
            f"{self._own:.2f} | {cpu:.1f} | {grown:+.1f} |",
            flush=True,
        )


def percentile(ordered: list[float], part: float) -> float:
    """The value at the given part (0 to 1) of an ordered list."""
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)]


def resident_mb(pid: int | str) -> float:
    """Resident memory of a process, 0.0 when it is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
    return 0.0


async def proofs(kind: sentinel.Kind, count: int) -> None:
    """Searches `count` of the hardest proofs that are accepted, all at once."""
    work = CpuWorker()
    array = sentinel.browser_array(kind, "Mozilla/5.0", 1, "session")

    async def one(n: int) -> None:
        puzzle = sentinel.Puzzle(kind, f"0.{n}", "0000ff", array)
        await work.run(sentinel.search, puzzle, 0, sentinel.MAX_TRIES[kind])

    with Probe(f"{count} proofs at once, {kind}"):
        await asyncio.gather(*(one(n) for n in range(count)))
    await work.close()


async def starts(count: int) -> None:
    """Starts and stops the process for CPU work again and again."""
    work = CpuWorker()
    with Probe(f"the process for proofs started and stopped {count} times"):
        for _ in range(count):
            await work.run(divmod, 1, 1)
            await work.close()


async def har(folder: Path, megabytes: int) -> None:
    """Reads a large HAR file, as a worker does when one appears in its folder."""
    write_har(folder / "large.har", megabytes)
    config = folder / "c.yaml"
    config.write_text(json.dumps({"port": "127.0.0.1:1"}))
    config.chmod(0o600)
    pool = KeyPool(load(str(config), {}).config, SharedState())
    sessions = Sessions(pool, folder / "sessions")
    reader_mb = 0.0
    with Probe(f"a HAR of {megabytes} MB read"):
        reading = asyncio.create_task(HarFolder(sessions, str(folder), lambda: True).run())
        while pool.find("openai.web_sessions", "large.har") is None:
            for task in Path("/proc/self/task").glob("*/children"):
                reader_mb = max([reader_mb, *map(resident_mb, task.read_text().split())])
            await asyncio.sleep(0.05)
    reading.cancel()
    print(f"\nThe process that read it had {reader_mb:.0f} MB at most.")


def write_har(path: Path, megabytes: int) -> None:
    """Writes a HAR: entries of every size, one a quarter of the file, the session in the middle."""
    session = {
        "url": "https://chatgpt.com/backend-api/me",
        "headers": [{"name": "authorization", "value": "Bearer bench-token"}],
        "cookies": [{"name": "oai-did", "value": "bench"}],
    }

    def entry(size: int, request: dict | None = None) -> bytes:
        request = request or {"url": "https://cdn.example/a.js", "headers": [], "cookies": []}
        content = {"text": 'a"é\\' * (size // 9), "mimeType": "text/plain"}
        found = {"startedDateTime": "2026-01-02T03:04:05.678Z", "request": request}
        return json.dumps({**found, "response": {"content": content}}).encode()

    small, medium = entry(3_000), entry(400_000)
    with path.open("wb") as file:
        file.write(b'{"log":{"version":"1.2","entries":[' + entry(megabytes * 250_000))
        while file.tell() < megabytes * 500_000:
            file.write(b"," + medium + b"," + small)
        file.write(b"," + entry(100, session))
        while file.tell() < megabytes * 1_000_000:
            file.write(b"," + medium + b"," + small)
        file.write(b"]}}")
    path.chmod(0o600)


async def main() -> None:
    """Runs all measurements and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.loop_lag", description=__doc__)
    parser.add_argument("--megabytes", type=int, default=200, help="of the HAR file")
    parser.add_argument("--ballast", type=int, default=0, help="MB this process is larger by")
    asked = parser.parse_args()
    ballast = bytearray(os.urandom(1_000_000) * asked.ballast)
    load_now = " ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{os.cpu_count()} cores, load {load_now}, ballast {len(ballast) // 1_000_000} MB\n")
    print("| | s | late ms p50 | p99 | p99.9 | most | own | CPU % | MB grown |")
    print("|---|---|---|---|---|---|---|---|---|")
    with Probe("nothing"):
        await asyncio.sleep(5)
    await starts(20)
    await proofs("sha3", 6)
    await proofs("fnv", 6)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        await har(Path(name), asked.megabytes)


if __name__ == "__main__":
    sys.exit(uvloop.run(main()))
