"""Two gateways as two hosts: a real Redis between them, a real nginx in front of them."""

import os
import shutil
import signal
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager

import httpx
import pytest

from tests.server.load import CHAT, Load
from tests.server.nginx import nginx, wait_port
from tests.server.running import Running, free_port, until

_MISSING = [name for name in ("redis-server", "nginx") if not shutil.which(name)]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        bool(_MISSING),
        reason=f"{' and '.join(_MISSING)} not found: apt install redis-server nginx-light",
    ),
]

NGINX = """
  upstream gateways {{
    server 127.0.0.1:{one};
    server 127.0.0.1:{other};
    keepalive 32;
  }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://gateways;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_buffering off;
      proxy_next_upstream off;
      add_header X-Host $upstream_addr always;
    }}
  }}
"""


class Redis:
    """Debian's server, without a file to remember by: after a SIGKILL it knows nothing."""

    def __init__(self, folder) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        folder.mkdir()
        self.start()

    def start(self) -> None:
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port)]
        command += ["--save", "", "--appendonly", "no", "--dir", str(self.folder)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        wait_port(self.port)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def nginx_before(folder, *gateways: Running):
    port = free_port()
    one, other = (gateway.port for gateway in gateways)
    with nginx(folder, NGINX.format(port=port, one=one, other=other), port):
        yield port


class Hosts:
    """What both hosts are made of, and what they say."""

    def __init__(self, folder, simulator) -> None:
        self.simulator = simulator
        self.mark = uuid.uuid4().hex[:8]
        self.key = f"sk-ant-api03-shared-{self.mark}"
        self.redis = Redis(folder / "redis")
        config = {
            "workers": 2,
            "redis_url": self.redis.url,
            "access": {"protected": False},
            "trusted_proxies": ["127.0.0.1"],
            "openai": {
                "api_url": f"{simulator.url}/openai",
                "api_keys": [{"id": f"o{n}", "val": f"sk-{n}-{self.mark}"} for n in range(3)],
            },
            "claude": {
                "api_url": f"{simulator.url}/claude",
                "api_keys": [{"id": "shared", "val": self.key}],
            },
        }
        self.hosts = [Running(folder / name, config) for name in ("one", "other")]
        self.port = 0
        self.http = httpx.Client(timeout=30)

    def ask(self, model: str, port: int = 0) -> httpx.Response:
        body = {"model": f"claude/{model}", "messages": [{"role": "user", "content": "hi"}]}
        return self.http.post(f"http://127.0.0.1:{port or self.port}{CHAT}", json=body)

    def upstream_calls(self) -> int:
        return self.simulator.stats()["by_key"].get(self.key, {}).get("requests", 0)

    def model(self) -> str:
        return f"m-{uuid.uuid4().hex}"

    def rest_on(self, host: Running, model: str, fault: str = "429-after-30") -> float:
        """Lets the shared key fail at one host; when that was."""
        self.simulator.fault(fault, key=self.key, times=1)
        answer = self.ask(model, host.port)
        assert answer.status_code == 429 and answer.headers["x-attempts"] == "1", answer.text
        return time.monotonic()

    def is_told(self, host: Running) -> bool:
        """Whether this host knows that the key rests for some model. Asks no upstream."""
        (key,) = self.keys(host, "claude.api_keys")
        return bool(key["models"])

    def keys(self, host: Running, pool: str) -> list[dict]:
        keys = self.http.get(f"{host.url}/admin/keys").json()["keys"]
        return [key for key in keys if key["pool"] == pool]

    def wait_for(self, what: Callable[[], bool], seconds: float = 15) -> None:
        until(what, seconds, self.errors)

    def all_say(self, what: str, times: int) -> bool:
        """Whether every host has logged it so often."""
        return all(text.count(what) >= times for text in self.errors())

    def wait_told(self, host: Running, since: float) -> float:
        """Seconds until the other host knew."""
        while not self.is_told(host):
            assert time.monotonic() - since < 10, "never told"
            time.sleep(0.02)
        return time.monotonic() - since

    def forget(self) -> None:
        """Wakes the key everywhere."""
        order = {"action": "reset", "id": "shared", "pool": "claude.api_keys"}
        for host in self.hosts:
            assert self.http.post(f"{host.url}/admin/keys", json=order).status_code == 200

    def errors(self) -> list[str]:
        return [host.err.read_text() for host in self.hosts]


@pytest.fixture
def hosts(simulator, tmp_path):
    simulator.reset()
    made = Hosts(tmp_path, simulator)
    try:
        for host in made.hosts:
            host.wait()
        with nginx_before(tmp_path / "nginx", *made.hosts) as port:
            made.port = port
            yield made
    finally:
        for host in made.hosts:
            host.stop()
        made.redis.kill()
        made.http.close()
    simulator.reset()


def test_a_rest_on_one_host_is_obeyed_by_the_other_within_two_seconds(hosts):
    one, other = hosts.hosts
    model = hosts.model()
    rested = hosts.rest_on(one, model)
    before = hosts.upstream_calls()
    took = hosts.wait_told(other, rested)
    print(f"told after {took:.2f} s")
    assert took < 4  # two, and what a busy machine adds
    answers = [hosts.ask(model) for _ in range(200)]
    assert Counter(answer.headers["x-host"] for answer in answers) == {
        f"127.0.0.1:{one.port}": 100,
        f"127.0.0.1:{other.port}": 100,
    }
    assert {answer.status_code for answer in answers} == {429}
    assert {answer.headers["x-gateway-error"] for answer in answers} == {"all_keys_cooling"}
    assert all(20 <= int(answer.headers["retry-after"]) <= 30 for answer in answers)
    assert hosts.upstream_calls() == before


def test_an_open_breaker_on_one_host_is_obeyed_by_the_other(hosts):
    one, other = hosts.hosts
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}

    def ask(host):
        return hosts.http.post(host.url + CHAT, json=body)

    def knows(host):
        """The row without an id is the upstream; it is there while the breaker is open."""
        return any(not key["id"] for key in hosts.keys(host, "openai.api_keys"))

    hosts.simulator.fault("503", times=-1, family="openai")
    while not knows(one):
        assert ask(one).status_code == 503
    hosts.wait_for(lambda: knows(other), 3)
    # Of itself it would try all three keys; what it was told leaves one probe at most.
    answers = [ask(other) for _ in range(20)]
    assert {answer.status_code for answer in answers} == {503}
    assert int(answers[0].headers["x-attempts"]) <= 1
    assert sum(int(answer.headers["x-attempts"]) for answer in answers) <= 1
    hosts.simulator.reset()
    healed = time.monotonic()
    while {ask(host).status_code for host in hosts.hosts} != {200}:
        assert time.monotonic() - healed < 10
        time.sleep(0.1)


def test_without_redis_for_a_while_no_request_fails_and_sharing_comes_back(hosts):
    one, other = hosts.hosts
    with Load(hosts.port, streams=20, model="sim-long-20+drip-50", per_second=50) as load:
        hosts.wait_for(lambda: load.asked["whole"] > 50 and load.open == 20)
        hosts.redis.kill()
        hosts.wait_for(lambda: hosts.all_say("Redis cannot be used", 1))
        alone = hosts.model()
        hosts.rest_on(one, alone)
        calls = hosts.upstream_calls()
        answers = [hosts.ask(alone, one.port) for _ in range(20)]
        assert {answer.headers["x-gateway-error"] for answer in answers} == {"all_keys_cooling"}
        assert hosts.upstream_calls() == calls and not hosts.is_told(other)

        hosts.redis.start()
        back = time.monotonic()
        late = hosts.wait_told(other, back)
        print(f"what was learnt alone was told {late:.2f} s after the return")
        assert late < 3 and all("Redis is back" in text for text in hosts.errors())
        hosts.forget()
        hosts.wait_for(lambda: not any(hosts.is_told(host) for host in hosts.hosts))
        took = hosts.wait_told(one, hosts.rest_on(other, hosts.model()))
        print(f"and what came next after {took:.2f} s")
        assert took < 4

        os.kill(hosts.redis.process.pid, signal.SIGSTOP)  # it hangs, which is worse than to be gone
        hosts.wait_for(lambda: hosts.all_say("Redis cannot be used", 2))
        os.kill(hosts.redis.process.pid, signal.SIGCONT)
        hosts.wait_for(lambda: hosts.all_say("Redis is back", 2))
    print(dict(load.asked), dict(load.streamed))
    assert set(load.asked) == {"whole"} and load.asked["whole"] > 150, load.asked
    assert set(load.streamed) == {"whole"} and load.streamed["whole"] > 40, load.streamed
    for host in hosts.hosts:
        # Whose keys failed was asked for above; nothing else did.
        assert {line["outcome"] for line in host.log(provider="openai-api")} == {"complete"}
        assert len(host.log(provider="openai-api")) > 60
        assert "Traceback" not in host.err.read_text()
