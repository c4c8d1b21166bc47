"""What docs/nginx.md promises, with the files of deploy/nginx/ in a real nginx."""

import time

import httpx
import pytest

from tests.server.conftest import config_for
from tests.server.load import CHAT, Load
from tests.server.nginx import needed, nginx
from tests.server.running import ROOT, Running, free_port

FOLDER = ROOT / "deploy/nginx"


def documented(port: int, one: int, other: int) -> str:
    """The files with the addresses of a test."""
    text = "".join((FOLDER / name).read_text() for name in ("upstream.conf", "server.conf"))
    for here, there in (
        ("listen 80;", f"listen 127.0.0.1:{port};"),
        ("127.0.0.1:8999 ", f"127.0.0.1:{one} "),
        ("127.0.0.1:9000 ", f"127.0.0.1:{other} "),
    ):
        assert text.count(here) == 1
        text = text.replace(here, there)
    return text


def start(folder, simulator, port: int) -> Running:
    config = config_for(
        simulator.url,
        port=f"127.0.0.1:{port}",
        access={"protected": False},
        drain_seconds=20,
    )
    gateway = Running(folder, config)
    gateway.port, gateway.url = port, f"http://127.0.0.1:{port}"
    return gateway


@needed
@pytest.mark.slow
def test_a_rolling_restart_costs_no_call(simulator, tmp_path):
    ports = [free_port(), free_port()]
    port = free_port()
    gateways = [start(tmp_path / str(each), simulator, each) for each in ports]
    try:
        for gateway in gateways:
            gateway.wait()
        with nginx(tmp_path / "nginx", documented(port, *ports), port):
            with Load(port, streams=8, model="sim-long-20+drip", per_second=40) as load:
                for at, each in enumerate(ports):
                    while load.open < 6:  # the drain has something to wait for
                        time.sleep(0.01)
                    assert gateways[at].stop(20) == 0
                    gateways[at] = start(tmp_path / f"{each}-again", simulator, each).wait()
            picture = "data:image/png;base64," + "A" * 3_000_000
            parts = [{"type": "image_url", "image_url": {"url": picture}}]
            body = {"model": "gpt-4o", "messages": [{"role": "user", "content": parts}]}
            large = httpx.post(f"http://127.0.0.1:{port}{CHAT}", json=body, timeout=20)
        assert set(load.streamed) == set(load.asked) == {"whole"}
        assert load.streamed["whole"] > 8 and load.asked["whole"] > 40
        assert large.status_code == 200
        # Both were asked before and after.
        assert all(gateway.log(outcome="complete") for gateway in gateways)
    finally:
        for gateway in gateways:
            gateway.stop()
