"""Four workers and the simulator: what one learns of a key, all obey."""

import json
import os
import signal
import statistics
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import httpx
import pytest

from tests.server.running import Running, running

CHAT = "/c/v1/chat/completions"


def ask(gateway, model="gpt-4o", path=CHAT, headers=None, **members):
    """Status, headers, body, seconds; a connection of its own, so that all workers get some."""
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}
    began = time.perf_counter()
    connection = HTTPConnection("127.0.0.1", gateway.port, timeout=60)
    connection.request("POST", path, json.dumps(body | members), headers or {})
    with connection.getresponse() as answer:
        content = answer.read()
    connection.close()
    return answer.status, answer.headers, content, time.perf_counter() - began


def calls(simulator, key) -> int:
    return simulator.stats()["by_key"].get(key, {}).get("requests", 0)


class Four(Running):
    """Pools that no other test touches."""

    def __init__(self, folder, simulator, **more):
        self.mark = uuid.uuid4().hex[:8]
        self.solo = f"sk-solo-{self.mark}"
        self.claudes = [f"sk-ant-api03-c{n}-{self.mark}" for n in range(5)]
        self.geminis = [f"AIza-dead-{n}-{self.mark}" for n in range(49)] + [f"AIza-{self.mark}"]
        config = {
            "workers": 4,
            "openai": {
                "api_url": f"{simulator.url}/openai",
                "api_keys": [{"id": "solo", "val": self.solo}],
            },
            "claude": {
                "api_url": f"{simulator.url}/claude",
                "api_keys": [{"id": f"c{n}", "val": key} for n, key in enumerate(self.claudes)],
            },
            "google_gemini": {
                "api_url": f"{simulator.url}/gemini",
                "api_keys": [{"id": f"g{n}", "val": key} for n, key in enumerate(self.geminis)],
            },
            "fallbacks": {"sim-429-after-1": ["claude/claude-sonnet-4-5"]},
        }
        super().__init__(folder, config | more)


@pytest.fixture(scope="module")
def module_four(simulator, tmp_path_factory):
    gateway = Four(tmp_path_factory.mktemp("failover"), simulator)
    yield gateway.wait()
    assert gateway.stop() == 0


@pytest.fixture
def four(module_four, simulator):
    simulator.reset()
    return module_four


def test_a_rest_seen_by_one_worker_is_obeyed_by_all(four, simulator):
    at_a_time, model = 8, f"m-{uuid.uuid4().hex}"
    simulator.fault("429-after-5", times=-1, key=four.solo)
    told = []
    pace = threading.Semaphore(0)

    def one(_):
        pace.acquire()
        status, headers, _, _ = ask(four, model)
        told.append((status, int(headers["retry-after"])))

    with ThreadPoolExecutor(at_a_time) as callers:
        asked = [callers.submit(one, n) for n in range(500)]
        for _ in range(500):
            pace.release()
            time.sleep(0.0085)  # all of them within the five seconds
        for each in asked:
            each.result()
    assert all(status == 429 and 1 <= wait <= 6 for status, wait in told) and len(told) == 500
    assert 1 <= calls(simulator, four.solo) <= at_a_time + 1


def test_of_200_requests_at_the_end_of_a_rest_one_is_the_probe(four, simulator):
    model = f"m-{uuid.uuid4().hex}"
    simulator.fault("429-after-2", key=four.solo)
    assert ask(four, model)[0] == 429
    simulator.fault("slow-first-3000", times=-1, key=four.solo)
    time.sleep(2.1)
    before = calls(simulator, four.solo)
    with ThreadPoolExecutor(40) as callers:
        answers = list(callers.map(lambda _: ask(four, model), range(200)))
    assert Counter(status for status, *_ in answers) == {429: 199, 200: 1}
    assert calls(simulator, four.solo) == before + 1


def test_a_key_that_rested_has_its_share_of_four_workers_calls_again(four, simulator):
    model, key = f"claude/m-{uuid.uuid4().hex}", four.claudes[0]
    simulator.fault("429-after-1", key=key)
    while not calls(simulator, key):
        assert ask(four, model)[0] == 200  # by another key, where this one was tried
    time.sleep(1.1)
    for _ in range(400):
        ask(four, model)
        if calls(simulator, key) > 1:
            break
    before = calls(simulator, key)
    assert before > 1
    with ThreadPoolExecutor(4) as callers:
        answers = list(callers.map(lambda _: ask(four, model)[0], range(300)))
    assert set(answers) == {200}
    assert 60 * 0.7 < calls(simulator, key) - before < 60 * 1.3


def test_all_resting_is_told_within_20_ms_and_without_an_upstream_call(four, simulator):
    model = f"m-{uuid.uuid4().hex}"
    simulator.fault("429-after-30", key=four.solo)
    assert ask(four, model)[0] == 429
    before = calls(simulator, four.solo)
    answers = [ask(four, model) for _ in range(100)]
    assert {status for status, *_ in answers} == {429}
    assert {headers["x-gateway-error"] for _, headers, _, _ in answers} == {"all_keys_cooling"}
    assert {headers["x-attempts"] for _, headers, _, _ in answers} == {"0"}
    assert all(25 <= int(headers["retry-after"]) <= 30 for _, headers, _, _ in answers)
    assert statistics.median(seconds for *_, seconds in answers) < 0.02
    assert calls(simulator, four.solo) == before


def test_one_request_succeeds_with_49_dead_keys_of_50(four, simulator):
    status, headers, _, _ = ask(four, "gemini/gemini-2.5-flash")
    assert status == 200 and headers["x-auth-id"] == "g49"
    for _ in range(20):  # by now they rest, or will soon
        status, headers, _, _ = ask(four, "gemini/gemini-2.5-flash")
        assert status == 200 and headers["x-auth-id"] == "g49"
    assert all(calls(simulator, key) <= 4 for key in four.geminis[:49])


@pytest.mark.parametrize(
    "fault", ["503", *(pytest.param(each, marks=pytest.mark.slow) for each in ("401", "reset"))]
)
def test_a_failing_upstream_punishes_no_key_and_its_return_is_noticed(four, simulator, fault):
    model = "claude/claude-sonnet-4-5"
    simulator.fault(fault, times=-1, family="claude")
    statuses = Counter()
    end = time.monotonic() + 4
    with ThreadPoolExecutor(8) as callers:
        while time.monotonic() < end:
            statuses.update(
                status for status, *_ in callers.map(lambda _: ask(four, model), "abcd")
            )
    outage = simulator.stats()["requests"]["by_family"]["claude"]
    # Where every key is refused the caller hears so; else the upstream is down.
    told = 401 if fault == "401" else 503
    assert statuses[told] > 50 and 200 not in statuses
    assert outage < 60  # by far the most are told without asking
    simulator.reset()
    healed = time.monotonic()
    while ask(four, model)[0] != 200:
        assert time.monotonic() - healed < 10
        time.sleep(0.05)
    keys = httpx.get(f"{four.url}/admin/keys").json()["keys"]
    assert {key["state"] for key in keys if key["pool"] == "claude.api_keys"} == {"awake"}
    assert {ask(four, model)[1]["x-auth-id"] for _ in range(60)} == {"c0", "c1", "c2", "c3", "c4"}


def test_another_providers_model_answers_and_is_named(four, simulator):
    for _ in range(3):
        status, headers, content, _ = ask(four, "sim-429-after-1")
        assert status == 200 and headers["x-gateway-model"] == "claude/claude-sonnet-4-5"
        assert json.loads(content)["model"].startswith("claude-sonnet-4-5")
    (line, *_) = four.wait_log(model="claude-sonnet-4-5", attempts=2)
    assert line["tried"][0]["key_id"] == "solo" and line["tried"][0]["status"] == 429


def test_a_forward_is_sent_again_with_another_key(four, simulator):
    simulator.fault("429-after-1", times=2, family="claude")
    body = {"anthropic-version": "2023-06-01"}
    status, headers, _, _ = ask(four, "claude-sonnet-4-5", "/claude/api/v1/messages", body)
    assert status == 200 and headers["x-attempts"] == "3"


def test_rests_survive_a_restart_and_the_file_tells_nothing(simulator, tmp_path):
    simulator.reset()
    key = f"sk-once-{uuid.uuid4().hex[:8]}"
    config = {
        "openai": {
            "api_url": f"{simulator.url}/openai",
            "api_keys": [{"id": "once", "val": key}],
        },
        "workers": 2,
    }
    simulator.fault("402", key=key)
    with running(tmp_path, config) as gateway:
        assert ask(gateway)[0] == 402 == ask(gateway)[0]
    text = (tmp_path / "rests.json").read_text()
    assert json.loads(text)["rests"] and "once" not in text and "sk-" not in text
    with running(tmp_path, config) as gateway:
        status, headers, _, _ = ask(gateway)
        assert (status, headers["x-gateway-error"]) == (402, "keys_spent")
    assert calls(simulator, key) == 1


def test_what_a_killed_worker_had_open_is_given_back(simulator, tmp_path):
    simulator.reset()
    key = f"sk-one-{uuid.uuid4().hex[:8]}"
    entry = {"id": "one", "val": key, "max_concurrent": 1}
    config = {"openai": {"api_url": f"{simulator.url}/openai", "api_keys": [entry]}, "workers": 2}
    body = {"model": "sim-hang-after-2", "stream": True}
    body["messages"] = [{"role": "user", "content": "hi"}]
    with running(tmp_path, config) as gateway:
        with httpx.stream("POST", gateway.url + CHAT, json=body, timeout=30) as stream:
            pieces = stream.iter_raw()
            next(pieces)
            waiting = ThreadPoolExecutor(1).submit(ask, gateway)
            time.sleep(0.5)
            assert not waiting.done() and calls(simulator, key) == 1, waiting.result()
            for pid in gateway.workers():
                if open_streams(pid, simulator):
                    os.kill(pid, signal.SIGKILL)
        # The waiting call may have been the killed worker's as well.
        try:
            status = waiting.result(20)[0]
        except OSError:
            status = ask(gateway)[0]
        assert status == 200


def open_streams(pid, simulator) -> int:
    """Connections of this process to the simulator."""
    port = int(simulator.url.rpartition(":")[2])
    found = 0
    inodes = set()
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "01" and int(fields[2].split(":")[1], 16) == port:
            inodes.add(f"socket:[{fields[9]}]")
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            found += os.readlink(f"/proc/{pid}/fd/{fd}") in inodes
        except OSError:
            continue
    return found


def test_limits_hold_across_workers(simulator, tmp_path):
    simulator.reset()
    key = f"sk-rpm-{uuid.uuid4().hex[:8]}"
    entry = {"id": "one", "val": key, "rpm": 20, "max_concurrent": 3}
    config = {"openai": {"api_url": f"{simulator.url}/openai", "api_keys": [entry]}, "workers": 4}
    with running(tmp_path, config) as gateway:
        with ThreadPoolExecutor(12) as callers:
            answers = list(callers.map(lambda _: ask(gateway, "sim-slow-first-30"), range(80)))
        assert Counter(status for status, *_ in answers) == {200: 20, 429: 60}
        assert calls(simulator, key) == 20
        waits = [int(h["retry-after"]) for status, h, *_ in answers if status == 429]
        assert all(30 < wait <= 66 for wait in waits), sorted(waits)
