"""Reload: a transaction in all workers, without a failed request or a cut stream."""

import json
import os
import signal
import time

import httpx
import pytest

from tests.server.conftest import config_for
from tests.server.load import CHAT, Load
from tests.server.running import ROOT, Running, free_port, running, until

BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
BAD = "port: 127.0.0.1:1\nopenai:\n  api_keyz: []\n"


def reload(gateway) -> httpx.Response:
    return httpx.post(f"{gateway.url}/admin/reload", timeout=60)


def keys_used(gateway, calls: int = 12) -> set[str]:
    """The ids that answer callers with a connection of their own each: all workers get some."""
    found = set()
    for _ in range(calls):
        answer = httpx.post(gateway.url + CHAT, json=BODY, timeout=30)
        assert answer.status_code == 200, answer.text
        found.add(answer.headers["x-auth-id"])
    return found


@pytest.fixture
def gateway(simulator, tmp_path):
    with running(tmp_path, config_for(simulator.url, workers=2)) as started:
        yield started


def rewrite(gateway, change) -> None:
    config = json.loads(gateway.file.read_text())
    change(config)
    gateway.file.write_text(json.dumps(config))


def only_key(name):
    def change(config):
        config["openai"]["api_keys"] = [{"id": name, "val": f"sk-{name}-33333333"}]

    return change


def test_new_keys_are_in_all_workers_and_removed_ones_finish_their_streams(gateway):
    before = gateway.workers()
    body = BODY | {"model": "sim-long-20+drip-100", "stream": True}
    headers = {"x-auth-id": "k1"}
    with httpx.stream("POST", gateway.url + CHAT, json=body, headers=headers) as stream:
        pieces = stream.iter_raw()
        next(pieces)
        rewrite(gateway, only_key("k3"))
        answer = reload(gateway)
        assert answer.status_code == 200 and answer.json()["ok"] is True
        assert keys_used(gateway) == {"k3"}
        rest = b"".join(pieces)
    assert rest.endswith(b"data: [DONE]\n\n")
    gateway.wait_workers(2, gone=before)


def test_a_bad_file_changes_nothing_and_its_lines_are_told(gateway):
    before = gateway.workers()
    gateway.file.write_text(BAD)
    answer = reload(gateway)
    assert answer.status_code == 400
    (problem,) = answer.json()["problems"]
    assert problem.startswith(f"{gateway.file}:3:3: openai.api_keyz: unknown key")
    assert answer.json()["error"]["code"] == "config_has_mistakes"
    assert gateway.workers() == before and keys_used(gateway) == {"k1", "k2"}


def test_sighup_reloads_too_and_its_complaints_are_in_the_log(gateway):
    gateway.file.write_text(BAD)
    gateway.process.send_signal(signal.SIGHUP)
    until(lambda: f"{gateway.file}:3:3" in gateway.err.read_text())
    gateway.file.write_text(json.dumps(config_for("http://127.0.0.1:1")))
    rewrite(gateway, only_key("k4"))
    gateway.process.send_signal(signal.SIGHUP)
    until(lambda: "reloaded" in gateway.err.read_text())
    assert "port is changed only by a restart" in gateway.err.read_text()


def test_a_worker_that_dies_comes_back_with_the_last_good_config(gateway):
    rewrite(gateway, only_key("k5"))
    assert reload(gateway).status_code == 200
    gateway.file.write_text(BAD)
    assert reload(gateway).status_code == 400
    before = gateway.wait_workers(2)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    gateway.wait_workers(2, gone=before)
    assert keys_used(gateway) == {"k5"}


def test_a_worker_that_is_told_to_leave_is_replaced(gateway):
    first, second = gateway.wait_workers(2)
    os.kill(first, signal.SIGTERM)
    assert second in gateway.wait_workers(2, gone=[first])


def test_what_needs_a_restart_is_told_and_stays(gateway):
    rewrite(gateway, lambda config: config.update(port=f"127.0.0.1:{free_port()}", workers=3))
    answer = reload(gateway)
    assert answer.status_code == 200 and answer.json()["kept"] == ["port"]
    gateway.wait_workers(3)  # at the old port, where we look
    assert httpx.get(f"{gateway.url}/readyz").status_code == 200


@pytest.mark.slow
def test_two_reloads_at_once_both_end(gateway):
    import concurrent.futures

    with concurrent.futures.ThreadPoolExecutor(3) as callers:
        answers = list(callers.map(lambda _: reload(gateway), range(3)))
    assert [answer.status_code for answer in answers] == [200] * 3
    gateway.wait_workers(2)


_CANNOT_START = """
import sys
from functools import partial
from app.process import server
from app.config.load import load
from sanic.worker.loader import AppLoader

def create(config, reread):
    if config.openai.api_keys[0].id == "cursed":
        raise RuntimeError("no start")
    return server.create_app(config, reread)

def loader(config, reread):
    return AppLoader(factory=partial(create, config, reread))

if __name__ == "__main__":
    server.loader_for = loader
    reread = partial(load, sys.argv[2], {})  # behind -c, as run.py has it
    server.serve(reread().config, reread)
"""


@pytest.mark.slow
def test_a_reload_whose_workers_cannot_start_is_taken_back(simulator, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(_CANNOT_START)
    config = config_for(simulator.url, workers=2)
    env = {"PYTHONPATH": str(ROOT)}
    gateway = Running(tmp_path, config, env=env, program=program)
    try:
        gateway.wait()
        rewrite(gateway, only_key("cursed"))
        answer = reload(gateway)
        assert answer.status_code == 503 and "could not start" in answer.json()["message"]
        assert keys_used(gateway) == {"k1", "k2"}
        rewrite(gateway, only_key("blessed"))
        assert reload(gateway).status_code == 200
        assert keys_used(gateway) == {"blessed"}
    finally:
        assert gateway.stop() == 0


class Hands:
    """Ways in which operators and their tools change a file."""

    def __init__(self, file) -> None:
        self.file, self.good = file, file.read_text()

    def rename(self, text: str) -> None:
        fresh = self.file.with_suffix(".new")
        fresh.write_text(text)
        os.replace(fresh, self.file)

    def in_place(self, text: str) -> None:
        self.file.write_text(text)

    def symlink(self, text: str) -> None:
        target = self.file.with_suffix(f".{time.monotonic_ns()}")
        target.write_text(text)
        link = self.file.with_suffix(".link")
        link.symlink_to(target)
        os.replace(link, self.file)


def reloads_under_load(gateway, reloads: int, every: int, streams: int, model: str) -> None:
    """Every so many reloads the file is broken; it is put right before the next."""
    hands = Hands(gateway.file)
    ways = [hands.rename, hands.in_place, hands.symlink]
    with Load(gateway.port, streams=streams, model=model, per_second=20) as load:
        until(lambda: load.open >= streams * 0.9, 30)
        for n in range(reloads):
            broken = n % every == every - 1
            ways[n % 3](BAD if broken else hands.good + "\n" * (n + 1))
            assert reload(gateway).status_code == (400 if broken else 200)
            if broken:
                ways[n % 3](hands.good)
    print(f"{dict(load.streamed)} streams, {dict(load.asked)} requests, {reloads} reloads")
    assert set(load.streamed) == {"whole"} and load.streamed["whole"] >= streams, load.streamed
    assert set(load.asked) == {"whole"}, load.asked
    outcomes = {line["outcome"] for line in gateway.log()}
    assert outcomes == {"complete"}


@pytest.mark.slow
def test_reloads_under_streams_fail_and_cut_nothing(gateway):
    reloads_under_load(gateway, 3, 2, 20, "sim-long-20+drip-100")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_reloads_under_two_hundred_streams_fail_and_cut_nothing(simulator, tmp_path):
    with running(tmp_path, config_for(simulator.url, workers=2)) as gateway:
        reloads_under_load(gateway, 100, 5, 200, "sim-long-30+drip-300")
        gateway.wait_workers(2, 20)


def start_long_stream(gateway, model: str):
    stream = httpx.stream(
        "POST", gateway.url + CHAT, json=BODY | {"model": model, "stream": True}, timeout=60
    )
    answer = stream.__enter__()
    pieces = answer.iter_raw()
    next(pieces)
    return stream, pieces


def test_a_stopping_gateway_says_not_ready_at_once_and_lets_streams_finish(simulator, tmp_path):
    gateway = Running(tmp_path, config_for(simulator.url, workers=1)).wait()
    try:
        stream, pieces = start_long_stream(gateway, "sim-long-30+drip-100")
        gateway.process.send_signal(signal.SIGTERM)
        until(lambda: httpx.get(f"{gateway.url}/readyz").status_code == 503, 1)
        assert httpx.get(f"{gateway.url}/healthz").status_code == 200
        refused = httpx.post(gateway.url + CHAT, json=BODY)
        assert refused.status_code == 503 and refused.headers["retry-after"] == "1"
        assert refused.json()["error"]["code"] == "shutting_down"
        assert b"".join(pieces).endswith(b"data: [DONE]\n\n")
        stream.__exit__(None, None, None)
        assert gateway.process.wait(5) == 0
    finally:
        gateway.stop()
    told = gateway.out.read_text() + gateway.err.read_text()
    assert [line["outcome"] for line in gateway.log(stream=True)] == ["complete"], told


@pytest.mark.slow
def test_streams_beyond_the_drain_budget_end_with_an_error_event(simulator, tmp_path):
    config = config_for(simulator.url, workers=2, drain_seconds=1)
    gateway = Running(tmp_path, config).wait()
    try:
        streams = [start_long_stream(gateway, "sim-long-600+drip-100") for _ in range(4)]
        began = time.monotonic()
        gateway.process.send_signal(signal.SIGTERM)
        for stream, pieces in streams:
            rest = b"".join(pieces)
            stream.__exit__(None, None, None)
            last = rest.strip().rpartition(b"data: ")[2]
            assert json.loads(last)["error"]["code"] == "shutting_down"
        assert gateway.process.wait(10) == 0
        assert time.monotonic() - began < 6
    finally:
        gateway.stop()
    assert [line["outcome"] for line in gateway.log()] == ["shutdown"] * 4


@pytest.mark.slow
def test_a_stop_also_hurries_the_workers_that_a_reload_let_go(simulator, tmp_path):
    config = config_for(simulator.url, workers=1, drain_seconds=1)
    gateway = Running(tmp_path, config).wait()
    try:
        stream, pieces = start_long_stream(gateway, "sim-long-600+drip-100")
        assert reload(gateway).status_code == 200
        began = time.monotonic()
        gateway.process.send_signal(signal.SIGTERM)
        rest = b"".join(pieces)
        stream.__exit__(None, None, None)
        assert b'"shutting_down"' in rest and 0.5 < time.monotonic() - began < 5
        assert gateway.process.wait(10) == 0
    finally:
        gateway.stop()


@pytest.mark.slow
def test_after_a_reload_somebody_still_tells_of_har_files_and_nothing_is_said_of_tasks(
    simulator, tmp_path
):
    folder = tmp_path / "hars"
    folder.mkdir()
    config = config_for(simulator.url, workers=2, hars_path=str(folder))
    with running(tmp_path, config) as gateway:
        assert reload(gateway).status_code == 200
        (folder / "new.har").write_text("{}")
        (folder / "new.har").chmod(0o600)
        until(lambda: "new.har gives no session" in gateway.err.read_text())
        told = gateway.err.read_text()
    assert "cancelled" not in told and told.count("new.har") == 1
