"""deploy/Caddyfile in a real Caddy, in front of a gateway and of one that is gone."""

import os
import re
import shutil
import subprocess
import time

import httpx
import pytest

from tests.server.conftest import config_for
from tests.server.load import CHAT
from tests.server.nginx import wait_port
from tests.server.running import ROOT, free_port, running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("caddy"), reason="no caddy: apt install caddy"),
]


def test_streams_pass_at_once_and_a_gateway_that_is_gone_costs_no_call(simulator, tmp_path):
    config = config_for(simulator.url, access={"protected": False})
    with running(tmp_path / "gateway", config) as gateway:
        port, gone = free_port(), free_port()
        text = (ROOT / "deploy/Caddyfile").read_text()
        text = text.replace("127.0.0.1:8999 ", f"127.0.0.1:{gateway.port} ")
        text = text.replace("127.0.0.1:9000 ", f"127.0.0.1:{gone} ")
        assert re.search(rf"reverse_proxy 127.0.0.1:{gateway.port} 127.0.0.1:{gone} ", text)
        file = tmp_path / "Caddyfile"
        file.write_text("{\n\tadmin off\n}\n" + text)
        with (tmp_path / "caddy.log").open("wb") as log:
            process = subprocess.Popen(
                ["caddy", "run", "--config", file, "--adapter", "caddyfile"],
                env={**os.environ, "DOMAIN": f"http://127.0.0.1:{port}", "HOME": str(tmp_path)},
                stdout=log,
                stderr=log,
            )
        try:
            wait_port(port)
            url = f"http://127.0.0.1:{port}{CHAT}"
            body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
            statuses = [httpx.post(url, json=body, timeout=20).status_code for _ in range(10)]
            assert statuses == [200] * 10
            slow = body | {"model": "sim-long-20+drip-100", "stream": True}
            with httpx.stream("POST", url, json=slow, timeout=20) as response:
                arrived = [time.monotonic() for _ in response.iter_raw()]
            assert len(arrived) >= 5 and arrived[-1] - arrived[0] > 1
        finally:
            process.terminate()
            process.wait(10)
