"""Servers under measurement: started, watched through /proc, stopped."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

TICK_US = 1e6 / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A TCP port that is free now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Server:
    """A server process and all its descendants."""

    def __init__(self, command, port, log: Path, env=None):
        self.port, self.log = port, log
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})}, start_new_session=True,
            )  # fmt: skip

    def wait(self, seconds=30):
        """Waits until it listens; returns the seconds. Exits when it does not start."""
        began = time.monotonic()
        while True:
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", self.port)) == 0:
                    return time.monotonic() - began
            if self.process.poll() is not None or time.monotonic() - began > seconds:
                raise SystemExit(f"{self.process.args[0]} did not start: {self.log.read_text()}")
            time.sleep(0.01)

    def pids(self):
        """The process ids of the whole tree."""
        found, waiting = [], [self.process.pid]
        while waiting:
            pid = waiting.pop()
            found.append(pid)
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                waiting += map(int, task.read_text().split())
        return found

    def cpu_us(self):
        """CPU time of the whole tree so far, in microseconds."""
        total = 0
        for pid in self.pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15]))
        return total * TICK_US

    def settle(self):
        """Waits until it is idle, so that work done after the answers counts too."""
        last, end = self.cpu_us(), time.monotonic() + 5
        while time.monotonic() < end:
            time.sleep(0.2)
            now = self.cpu_us()
            if now - last < 10_000:
                return
            last = now

    def resident_mb(self):
        """Peak resident memory of the largest process: of a worker, not of its helpers."""
        sizes = []
        for pid in self.pids():
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmHWM"):
                    sizes.append(int(line.split()[1]) / 1024)
        return max(sizes)

    def stop(self):
        """Stops the whole tree."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, number)
                self.process.wait(10)
                return
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
