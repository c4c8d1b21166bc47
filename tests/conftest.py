"""What tests in every room may use: the simulator as a process, and the further official SDKs."""

import json
import os
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from functools import lru_cache
from pathlib import Path
from typing import Any

import certifi
import pytest

from app.telemetry.redaction import Redactor, redact
from tests.sdk.install import COZEPY, NODE_MODULES, OPENAI_1X, node_commands

ROOT = Path(__file__).parents[1]
_MACHINES = {certifi.where(), os.environ.get("SSL_CERT_FILE")}
_new_context = ssl.create_default_context


@lru_cache
def _context_of(cafile: str) -> ssl.SSLContext:
    return _new_context(cafile=cafile)


def _shared_context(*purpose: Any, cafile: str | None = None, **more: Any) -> ssl.SSLContext:
    """`ssl.create_default_context`, once for the machine's own certificates: to read them takes
    25 ms, and each of the thousands of clients of these tests would."""
    if cafile in _MACHINES and cafile and not purpose and not more:
        return _context_of(cafile)
    return _new_context(*purpose, cafile=cafile, **more)


ssl.create_default_context = _shared_context

INSTALL = "run `python -m tests.sdk.install` (or `make test`) first"


@pytest.fixture(autouse=True)
def no_secrets_of_other_tests():
    """There is one redactor in a process: a secret of one test is a plain word in the next."""
    yield
    vars(redact).update(vars(Redactor()))


class Simulator:
    """The simulator in a process of its own on a free port, and its control endpoints."""

    def __init__(self, *flags: str, root: Path = ROOT) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "app.simulator", "--port", "0", "--with-parent", *flags],
            cwd=root,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        assert said.startswith("simulator listening on http://"), said
        self.url = said.split()[-1]
        self.openai_url = f"{self.url}/openai/v1"

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)
        self.process.stdout.close()

    def stats(self) -> dict:
        return self._call("GET", "/_sim/stats")

    def last(self, n: int = 20, **where: str) -> list[dict]:
        """The last requests, newest last; `where` is key=, path= (a prefix), model=."""
        return self._call("GET", "/_sim/last?" + urllib.parse.urlencode({"n": n, **where}))

    def reset(self) -> None:
        self._call("POST", "/_sim/reset")

    def fault(self, name: str, times: int = 1, **where: str) -> None:
        """Fails the next requests that match `where`: key=, path=, family=, model=."""
        self._call("POST", "/_sim/faults", {"fault": name, "times": times, **where})

    def wait_for(self, what, seconds: float = 5) -> dict:
        """The stats once `what(stats)` is true."""
        end = time.monotonic() + seconds
        while not what(stats := self.stats()):
            assert time.monotonic() < end, stats
            time.sleep(0.01)
        return stats

    def _call(self, method: str, path: str, body: dict | None = None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {error.read().decode()}") from None


@pytest.fixture(scope="session")
def simulator():
    """One for all tests; tests tell themselves apart by keys and models of their own."""
    running = Simulator()
    yield running
    running.stop()


class OtherProgram:
    """Runs a script in another interpreter and gives back what it printed, decoded from JSON."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        self._command = command
        self._env = env

    def run(self, script: str, **env: str):
        done = subprocess.run(
            [*self._command, script],
            env={**os.environ, **self._env, **env},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="session")
def openai_1x() -> OtherProgram:
    """Python with the last openai 1.x in place of the newest."""
    assert OPENAI_1X.is_dir(), INSTALL
    return OtherProgram([sys.executable, "-c"], {"PYTHONPATH": str(OPENAI_1X)})


@pytest.fixture(scope="session")
def cozepy() -> OtherProgram:
    """Python with the official Coze SDK."""
    assert COZEPY.is_dir(), INSTALL
    return OtherProgram([sys.executable, "-W", "ignore", "-c"], {"PYTHONPATH": str(COZEPY)})


@pytest.fixture(scope="session")
def node() -> OtherProgram:
    """Node with the npm package `openai` to `require`."""
    found = node_commands()
    assert found is not None and NODE_MODULES.is_dir(), INSTALL
    return OtherProgram([str(found[0]), "-e"], {"NODE_PATH": str(NODE_MODULES)})
