"""A caller who leaves costs nothing: the upstream is let go within a second, nothing is left."""

import asyncio
import json
import time

import httpx
import pytest

from tests.server.conftest import config_for
from tests.server.running import running, until

CHAT = "/c/v1/chat/completions"


@pytest.fixture(scope="module")
def gateway(simulator, tmp_path_factory):
    """One of its own, so that open files can be counted."""
    with running(tmp_path_factory.mktemp("gateway"), config_for(simulator.url)) as own:
        yield own


async def leave(gateway, path, model, stream, count, after=0.25):
    """`count` callers ask and hang up without a word."""

    async def one():
        _reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        body = json.dumps(
            {"model": model, "stream": stream, "messages": [{"role": "user", "content": "x"}]}
        ).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        await asyncio.sleep(after)
        writer.transport.abort()

    await asyncio.gather(*(one() for _ in range(count)))


@pytest.mark.parametrize("path", [CHAT, "/v1/chat/completions"], ids=["chat", "forward"])
@pytest.mark.parametrize(
    ("model", "stream"),
    [("sim-hang", False), ("sim-hang", True), ("sim-hang-after-3", True)],
    ids=["waiting", "waiting for a stream", "streaming"],
)
def test_a_leaving_caller_frees_the_upstream_within_a_second(
    gateway, simulator, path, model, stream
):
    asyncio.run(leave(gateway, path, model, stream, 5))
    until(lambda: simulator.stats()["open"]["requests"] == 0, 1.0)
    gateway.wait_log(5, outcome="client_gone")


def test_of_a_leaving_caller_nothing_is_told_outside_of_the_log(gateway):
    """Sanic would choose the form of an answer that nobody gets, by the parsed body, and warn."""
    before = len(gateway.log(outcome="client_gone"))
    asyncio.run(leave(gateway, CHAT, "sim-hang", False, 1))
    gateway.wait_log(before + 1, outcome="client_gone")
    for line in gateway.err.read_text().splitlines():
        json.loads(line)


def storm(gateway, simulator, count):
    httpx.get(gateway.url + "/ping")
    time.sleep(0.2)
    before = gateway.open_files()
    for _ in range(count // 100):
        for stream, model in ((True, "sim-hang-after-2"), (False, "sim-hang")):
            asyncio.run(leave(gateway, CHAT, model, stream, 50, after=0.15))
    until(lambda: simulator.stats()["open"]["requests"] == 0)
    until(lambda: gateway.open_files() <= before + 5)
    answer = httpx.post(
        gateway.url + CHAT,
        json={"model": "gpt-4o", "messages": [{"role": "user", "content": "still there"}]},
    )
    assert "still there" in answer.text


def test_a_hundred_leaving_callers_leave_nothing_behind(gateway, simulator):
    storm(gateway, simulator, 100)


@pytest.mark.slow
def test_a_thousand_leaving_callers_leave_nothing_behind(gateway, simulator):
    storm(gateway, simulator, 1000)


def test_a_slow_reader_slows_the_upstream_instead_of_filling_memory(gateway, simulator):
    """60 MB are on offer; what nobody reads stays with the upstream."""

    def resident():
        status = f"/proc/{gateway.workers()[0]}/status"
        with open(status) as lines:
            return next(int(li.split()[1]) for li in lines if li.startswith("VmRSS"))

    body = {"model": "sim-big-60000", "stream": True, "messages": []}
    body["messages"] = [{"role": "user", "content": "x"}]
    before = resident()
    with httpx.stream("POST", gateway.url + CHAT, json=body, timeout=30) as answer:
        pieces = answer.iter_raw()
        next(pieces)
        time.sleep(1.0)
        assert resident() - before < 20_000  # kB
        assert simulator.stats()["open"]["requests"] == 1
        pieces.close()
    until(lambda: simulator.stats()["open"]["requests"] == 0)
