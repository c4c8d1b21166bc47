"""`make demo` is the first thing a newcomer types: it must answer, and leave nothing behind."""

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from tests.conftest import ROOT


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_prints_a_curl_that_works_and_stops_whole(tmp_path, number):
    simulator, gateway = free_port(), free_port()
    config = tmp_path / "demo.yaml"
    text = (ROOT / "etc" / "demo.yaml").read_text()
    config.write_text(text.replace("8998", str(simulator)).replace("8999", str(gateway)))
    command = [sys.executable, "-m", "app.simulator.demo", "--config", str(config)]
    command += ["--gateway", f"127.0.0.1:{gateway}", "--simulator-port", str(simulator)]
    demo = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    with demo:
        said = ""
        while "Ctrl-C" not in said:
            line = demo.stdout.readline()
            assert line, said
            said += line
        url = re.search(r"curl (\S+)", said)[1]
        body = re.search(r"-d '(.*)'", said)[1]
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(url, body.encode(), headers)
        with urllib.request.urlopen(request, timeout=10) as reply:
            answer = json.load(reply)
        assert answer["choices"][0]["message"]["content"] == "You said: Hello!"
        demo.send_signal(number)
        assert demo.wait(20) == 0
    for port in (simulator, gateway):
        with socket.socket() as again:
            assert again.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.slow
def test_the_demo_ends_when_its_gateway_cannot_start(tmp_path):
    config = tmp_path / "broken.yaml"
    config.write_text("prot: 1\n")
    command = [sys.executable, "-m", "app.simulator.demo", "--config", str(config)]
    command += ["--simulator-port", str(free_port()), "--gateway", f"127.0.0.1:{free_port()}"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 2 and "prot" in done.stderr
