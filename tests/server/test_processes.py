"""Processes: flags, exit status, signals, workers that die."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPConnection

import httpx
import pytest

from app import __version__
from tests.server.conftest import config_for
from tests.server.running import (
    ROOT,
    Running,
    alive,
    children,
    free_port,
    of_session,
    running,
    until,
)

CHAT = "/c/v1/chat/completions"
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}


def command(*arguments, env=None):
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "run.py", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, **(env or {})},
    )
    return done, time.monotonic() - began


def test_version_is_told():
    done, _ = command("--version")
    assert done.returncode == 0 and __version__ in done.stdout


def test_check_only_reads():
    done, _ = command("check", "-c", "etc/c.yaml")
    assert done.returncode == 0 and "no mistakes" in done.stdout


def test_a_bad_config_ends_with_status_2_and_every_mistake(tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text("port: 99999999\nworkerz: 2\nopenai:\n  api_keys: nope\n")
    for arguments in (("check", "-c", str(file)), ("-c", str(file))):
        done, _ = command(*arguments)
        assert done.returncode == 2
        places = [line.split(" ")[0] for line in done.stderr.splitlines()]
        assert f"{file}:1:7:" in places and f"{file}:2:1:" in places and f"{file}:4:13:" in places


def test_a_taken_port_ends_with_status_2(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done, _ = command("-c", "etc/demo.yaml", "--port", f"127.0.0.1:{port}")
    assert done.returncode == 2 and str(port) in done.stderr


def test_a_key_in_the_environment_is_enough_to_start(tmp_path):
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), "--port", f"127.0.0.1:{port}", "--workers", "1"],
        cwd=tmp_path,  # no etc/c.yaml here
        env={**os.environ, "OPENAI_API_KEY": "sk-env-1234"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        end = time.monotonic() + 15
        while True:
            with suppress(httpx.TransportError):
                assert httpx.get(f"http://127.0.0.1:{port}/ping").status_code == 200
                break
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.05)
    finally:
        process.terminate()
        process.communicate(timeout=15)


def test_a_signal_during_start_up_stops_at_once(simulator, tmp_path):
    for delay in (0.3, 0.6, 0.9):
        gateway = Running(tmp_path / str(delay), config_for(simulator.url, workers=4))
        time.sleep(delay)
        began = time.monotonic()
        gateway.stop()
        assert time.monotonic() - began < 8


def test_flags_win_over_environment_and_file(simulator, tmp_path):
    env = {"ANY_PROXY_LOG_FORMAT": "json", "ANY_PROXY_WORKERS": "1"}
    with running(tmp_path, config_for(simulator.url), "--workers", "2", env=env) as gateway:
        assert len(gateway.wait_workers(2)) == 2


@pytest.fixture(scope="module")
def four(simulator, tmp_path_factory):
    config = config_for(simulator.url, workers=4)
    config["openai"]["api_keys"] = [{"id": f"k{n}", "val": f"sk-key-{n}"} for n in range(4)]
    with running(tmp_path_factory.mktemp("four"), config) as gateway:
        yield gateway


def test_every_worker_picks_keys_uniformly(four):
    def ask(_):
        # A connection of its own each, so that all workers get their share.
        connection = HTTPConnection("127.0.0.1", four.port, timeout=30)
        connection.request("POST", CHAT, json.dumps(BODY))
        with connection.getresponse() as answer:
            assert answer.status == 200
            answer.read()
        connection.close()
        return answer.headers["x-auth-id"]

    with ThreadPoolExecutor(16) as callers:
        counts = Counter(callers.map(ask, range(800)))
    assert set(counts) == {"k0", "k1", "k2", "k3"}
    # 200 expected each; five standard deviations are 61.
    assert all(139 <= n <= 261 for n in counts.values()), counts


def test_a_killed_worker_comes_back_within_five_seconds(four):
    victims = four.wait_workers(4)[:2]
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    four.wait_workers(4, 5, gone=victims)
    for _ in range(20):
        assert httpx.post(four.url + CHAT, json=BODY, timeout=30).status_code == 200


def test_workers_leave_when_the_main_process_dies(simulator, tmp_path):
    gateway = Running(tmp_path, config_for(simulator.url, workers=2)).wait()
    pids = children(gateway.process.pid)
    gateway.process.kill()
    gateway.process.wait()
    until(lambda: not any(map(alive, pids)))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_cleanly_and_open_streams_may_finish(simulator, tmp_path, number):
    gateway = Running(tmp_path, config_for(simulator.url, workers=2)).wait()
    try:
        body = BODY | {"model": "sim-long-20+drip-50", "stream": True}
        with httpx.stream("POST", gateway.url + CHAT, json=body, timeout=30) as answer:
            pieces = answer.iter_raw()
            next(pieces)
            gateway.process.send_signal(number)
            rest = b"".join(pieces)
        assert rest.endswith(b"data: [DONE]\n\n")
        assert gateway.process.wait(15) == 0
        assert "Traceback" not in gateway.err.read_text()
        (line,) = gateway.log()
        assert line["outcome"] == "complete"
    finally:
        gateway.stop()


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_second_signal_leaves_no_process_behind(simulator, tmp_path, number):
    gateway = Running(tmp_path, config_for(simulator.url, workers=2)).wait()
    pid = gateway.process.pid
    try:
        body = BODY | {"model": "sim-hang-after-2", "stream": True}
        with httpx.stream("POST", gateway.url + CHAT, json=body, timeout=30) as answer:
            pieces = answer.iter_raw()  # held: let go, it would close the connection
            next(pieces)
            assert len(of_session(pid)) >= 4  # it, two workers, Sanic's helpers
            gateway.process.send_signal(number)
            time.sleep(1.2)  # signals within a second count as one
            assert gateway.process.poll() is None  # it waits for the stream
            gateway.process.send_signal(number)
            assert gateway.process.wait(3) == 1
        gateway.wait_gone()
    finally:
        for each in of_session(pid):
            os.kill(each, signal.SIGKILL)


def test_a_log_that_nobody_reads_stops_no_call_and_no_end(simulator, tmp_path):
    os.mkfifo(tmp_path / "out.log")
    unread = os.open(tmp_path / "out.log", os.O_RDONLY | os.O_NONBLOCK)
    gateway = Running(tmp_path, config_for(simulator.url)).wait()
    try:
        with httpx.Client(timeout=5) as client:
            for _ in range(300):  # a pipe takes the lines of some 220
                assert client.post(gateway.url + CHAT, json=BODY).status_code == 200
    finally:
        assert gateway.stop() == 0
        os.close(unread)


def test_a_text_log_has_one_short_line_for_a_call(simulator, tmp_path):
    with running(tmp_path, config_for(simulator.url), "--log-format", "text") as gateway:
        answer = httpx.post(gateway.url + CHAT, json=BODY)
        line = until(gateway.out.read_text)
        assert " 200 gpt-4o " in line and f"id={answer.headers['x-request-id']}\n" in line
        assert len(line) < 160 and line.count("\n") == 1 and "\x1b" not in line


def test_tls_is_served_when_it_is_enabled(simulator, tmp_path):
    pem, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", str(key), "-out", str(pem)],
        check=True, capture_output=True,
    )  # fmt: skip
    info = {"enable": True, "pem_file": str(pem), "key_file": str(key)}
    gateway = Running(tmp_path, config_for(simulator.url, https_info=info))
    try:
        import ssl

        context = ssl.create_default_context(cafile=str(pem))
        url = f"https://localhost:{gateway.port}"
        end = time.monotonic() + 15
        while True:
            try:
                answer = httpx.post(url + CHAT, json=BODY, verify=context)
                break
            except httpx.TransportError:
                assert time.monotonic() < end
                time.sleep(0.1)
        assert answer.status_code == 200 and json.loads(answer.text)["choices"]
    finally:
        gateway.stop()
