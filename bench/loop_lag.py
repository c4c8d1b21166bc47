"""How late an event loop is while slow things are done beside it: `python -m bench.loop_lag`.

A probe on the loop asks to be called every two milliseconds and notes how late it was, first with
nothing else to do, then while proofs of work are searched (several at once), while the process for
them is started and stopped again and again, and while a HAR file of 200 MB is read. Only what runs
in a worker runs in this process. The first line shows what the machine itself adds: on a busy one
the other lines hold that too. `own` is the longest stretch of CPU time that this process itself
took between two looks of the probe; a loop that is blocked by its own work shows it there.
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
    """Notes how late the loop is, from `with` to its end."""

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
        print(
            f"| {self._name} | {took:.1f} | {at(late, 0.5):.2f} | {at(late, 0.99):.2f} | "
            f"{at(late, 0.999):.2f} | {late[-1]:.2f} | {self._own:.2f} | "
            f"{cpu:.1f} | {grown:+.1f} |",
            flush=True,
        )


def at(ordered: list[float], part: float) -> float:
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)]


def resident_mb(pid: int | str) -> float:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
    return 0.0


async def proofs(kind: sentinel.Kind, count: int) -> None:
    """`count` of the hardest that are accepted, as calls that come at the same moment ask them."""
    work = CpuWorker()
    array = sentinel.browser_array(kind, "Mozilla/5.0", 1, "session")

    async def one(n: int) -> None:
        puzzle = sentinel.Puzzle(kind, f"0.{n}", "0000ff", array)
        await work.run(sentinel.search, puzzle, 0, sentinel.MAX_TRIES[kind])

    with Probe(f"{count} proofs at once, {kind}"):
        await asyncio.gather(*(one(n) for n in range(count)))
    await work.close()


async def starts(count: int) -> None:
    work = CpuWorker()
    with Probe(f"the process for proofs started and stopped {count} times"):
        for _ in range(count):
            await work.run(divmod, 1, 1)
            await work.close()


async def har(folder: Path, megabytes: int) -> None:
    write_har(folder / "large.har", megabytes)
    config = folder / "c.yaml"
    config.write_text(json.dumps({"port": "127.0.0.1:1"}))
    config.chmod(0o600)
    pool = KeyPool(load(str(config), {}).config, SharedState())
    sessions = Sessions(pool, folder / "sessions")
    reader_mb = 0.0
    with Probe(f"a HAR of {megabytes} MB read"):
        watch = asyncio.create_task(HarFolder(sessions, str(folder), lambda: True).run())
        while pool.find("openai.web_sessions", "large.har") is None:
            for task in Path("/proc/self/task").glob("*/children"):
                reader_mb = max([reader_mb, *map(resident_mb, task.read_text().split())])
            await asyncio.sleep(0.05)
    watch.cancel()
    print(f"\nThe process that read it had {reader_mb:.0f} MB at most.")


def write_har(path: Path, megabytes: int) -> None:
    """Many entries of every size, one of a quarter of the file, and the session in the middle."""
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
