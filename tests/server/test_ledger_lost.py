"""What becomes of the ledger's rows when workers are killed, and when PostgreSQL goes away."""

import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from app.accounting.store import DAY, store_of
from tests.accounting.postgres import MISSING, Postgres
from tests.server.conftest import config_for
from tests.server.running import Running, running, until

# A killed worker loses the calls that ended since it last wrote: a second, and the write itself.
LOST_SECONDS = 2.5


class Load:
    """Callers that go on until they have asked so often; what each was answered, by request id."""

    def __init__(self, url: str, model: str, callers: int = 8) -> None:
        self.url, self.model, self.callers = url, model, callers
        self.ended: dict[str, float] = {}  # of calls whose answer was whole
        self.told: dict[str, tuple[int, int]] = {}
        self.refused = 0
        self.broken: set[str] = set()
        self._left = 0
        self._lock = threading.Lock()

    def run(self, calls: int) -> None:
        self._left = calls
        with ThreadPoolExecutor(self.callers) as pool:
            for done in [pool.submit(self._caller, n) for n in range(self.callers)]:
                done.result()

    def _caller(self, number: int) -> None:
        body = {"model": self.model, "messages": [{"role": "user", "content": "Hi " * number}]}
        with httpx.Client(timeout=30) as client:
            while True:
                with self._lock:
                    if not self._left:
                        return
                    self._left -= 1
                    id = f"{self.model}-{self._left}"
                try:
                    answer = client.post(
                        f"{self.url}/c/v1/chat/completions",
                        json=body,
                        headers={"x-request-id": id},
                    )
                except httpx.TransportError:  # its worker was killed
                    self.broken.add(id)
                    time.sleep(0.02)
                    continue
                if answer.status_code != 200:
                    self.refused += 1
                    continue
                usage = json.loads(answer.content)["usage"]
                self.ended[id] = time.monotonic()
                self.told[id] = usage["prompt_tokens"], usage["completion_tokens"]


def kill_workers(gateway, load: Load, times: int, every: int) -> list[float]:
    """Kills one worker each time so many more calls have ended; when that was."""
    killed = []
    for n in range(times):
        until(lambda n=n: len(load.ended) > every * (n + 1), 300)
        victim = gateway.wait_workers(gateway.count, 60)[n % gateway.count]
        os.kill(victim, signal.SIGKILL)
        killed.append(time.monotonic())
        gateway.wait_workers(gateway.count, 60, gone=[victim])
    return killed


def check(gateway, load: Load, killed: list[float], simulator) -> None:
    """Rows are the calls that have ended, but for those of a killed worker's last seconds."""
    assert gateway.stop() == 0  # what waits is written
    place = json.loads(gateway.file.read_text())["ledger"]
    store = store_of(place)
    columns = "request_id, prompt_tokens, completion_tokens"
    rows = store.read(
        f"SELECT {columns} FROM ledger_calls WHERE outcome = 'complete' AND model = ?",
        [load.model],
    )
    by_id = {row[0]: row[1:] for row in rows}
    assert len(by_id) == len(rows), "no call twice"
    missing = set(load.ended) - set(by_id)
    late = [id for id in missing if not any(-0.5 < at - load.ended[id] < LOST_SECONDS
            for at in killed)]  # fmt: skip
    assert not late, f"{len(late)} of {len(missing)} lost calls ended long before a kill"
    assert set(by_id) <= set(load.ended) | load.broken
    assert all(by_id[id] == told for id, told in load.told.items() if id in by_id)
    (sums,) = store.read(
        "SELECT SUM(calls), SUM(failed), SUM(prompt_tokens), SUM(completion_tokens) "
        f"FROM ledger_sums WHERE seconds = {DAY} AND model = ?",
        [load.model],
    )
    store.close()
    calls, failed, prompt, completion = map(int, sums)
    assert calls - (failed or 0) == len(rows), "rows and sums are of one transaction"
    assert prompt == sum(row[1] for row in rows) and completion == sum(row[2] for row in rows)
    asked = simulator.stats()["requests"]["by_model"][load.model]
    assert len(rows) + len(missing) <= asked <= len(rows) + len(missing) + len(load.broken) + failed
    if not killed:
        assert asked == calls == len(load.ended)


def test_a_killed_worker_loses_its_last_seconds_only(simulator, tmp_path):
    config = config_for(simulator.url) | {"workers": 2}
    with running(tmp_path, config) as gateway:
        before = Load(gateway.url, "counted-by-both")
        before.run(200)
        counted = f"SELECT SUM(calls), SUM(failed) FROM ledger_sums WHERE seconds = {DAY}"
        store = store_of(json.loads(gateway.file.read_text())["ledger"])
        until(lambda: store.read(counted) == [(200, 0)], told=lambda: store.read(counted))
        store.close()
        assert simulator.stats()["requests"]["by_model"][before.model] == 200
        load = Load(gateway.url, "killed-once")
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(load.run, 400)
            killed = kill_workers(gateway, load, 1, 150)
            done.result()
        check(gateway, load, killed, simulator)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_three_kills_in_twenty_thousand_calls(simulator, tmp_path):
    gateway = Running(tmp_path, config_for(simulator.url) | {"workers": 4})
    try:
        gateway.wait(90)
        load = Load(gateway.url, "killed-thrice", callers=16)
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(load.run, 20_000)
            killed = kill_workers(gateway, load, 3, 4500)
            done.result()
        assert len(load.ended) > 19_800
        check(gateway, load, killed, simulator)
    finally:
        gateway.stop()


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_postgresql_stops_and_starts_under_load(simulator, tmp_path):
    server = Postgres()
    server.start()
    config = config_for(simulator.url) | {"workers": 2, "ledger": server.address}
    try:
        with running(tmp_path, config) as gateway:
            load = Load(gateway.url, "stopped-and-started")
            with ThreadPoolExecutor(1) as pool:
                done = pool.submit(load.run, 4000)
                for n in range(2):
                    until(lambda n=n: len(load.ended) > 400 + 1500 * n, 60)
                    server.stop()
                    before = len(load.ended)
                    until(lambda before=before: len(load.ended) > before + 600, 60)
                    server.start()
                done.result()
            assert len(load.ended) == 4000 and not load.broken, "nothing fails"
            assert "the ledger cannot be written" in gateway.err.read_text()
            until(lambda: "the ledger is written again" in gateway.err.read_text(), 30)
            check(gateway, load, [], simulator)
    finally:
        server.remove()
