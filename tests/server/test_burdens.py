"""What many callers cost: idle connections, a burst, thirty thousand requests. Slow on purpose."""

import asyncio
import gc
import json
import resource
import socket
import time
from collections import Counter

import httpx
import pytest

from tests.server.conftest import config_for
from tests.server.running import running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CHAT = "/c/v1/chat/completions"
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
MIB = 1024 * 1024


def memory(gateway) -> dict[int, int]:
    """Bytes that are resident in each worker."""
    found = {}
    for pid in gateway.workers():
        with open(f"/proc/{pid}/statm") as file:
            found[pid] = int(file.read().split()[1]) * resource.getpagesize()
    return found


def allow_files(wanted):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        if 0 < hard < wanted:
            pytest.skip(f"needs {wanted} open files")
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def request(model="gpt-4o", stream=False):
    body = json.dumps(BODY | {"model": model, "stream": stream}).encode()
    return b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (
        CHAT.encode(),
        len(body),
        body,
    )


@pytest.mark.parametrize("spoken", [False, True])
def test_ten_thousand_idle_connections_cost_under_50_kb_each(simulator, tmp_path, spoken):
    allow_files(11_000)
    with running(tmp_path, config_for(simulator.url)) as gateway:
        for _ in range(50):
            assert httpx.post(gateway.url + CHAT, json=BODY).status_code == 200
        (before,) = memory(gateway).values()
        held = []
        for _ in range(10_000):
            sock = socket.create_connection(("127.0.0.1", gateway.port), timeout=20)
            held.append(sock)
            if spoken:  # kept alive after a request is another kind of idle
                sock.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
        if spoken:
            for sock in held:
                assert sock.recv(4096).startswith(b"HTTP/1.1 200 ")
        time.sleep(1)
        began = time.monotonic()
        assert httpx.post(gateway.url + CHAT, json=BODY, timeout=20).status_code == 200
        took = time.monotonic() - began
        (after,) = memory(gateway).values()
        each = (after - before) / 10_000
        print(f"{each / 1024:.1f} KB per idle connection; a call beside them took {took:.2f} s")
        for sock in held:
            sock.close()
        assert each < 50 * 1024
        assert took < 2
        end = time.monotonic() + 30
        while gateway.open_files() > 200 and time.monotonic() < end:
            time.sleep(0.1)
        assert gateway.open_files() <= 200


async def one(port, data, answers):
    try:
        reader, writer = await asyncio.wait_for(
            asyncio.open_connection("127.0.0.1", port), timeout=60
        )
    except OSError as error:
        answers.append(type(error).__name__)
        return
    try:
        writer.write(data)
        line = await asyncio.wait_for(reader.readline(), 120)
        answers.append(line[9:12].decode() or "closed")
        while await asyncio.wait_for(reader.read(65536), 120):
            pass
    except (OSError, TimeoutError) as error:
        answers.append(type(error).__name__)
    finally:
        writer.close()


def test_a_burst_of_five_thousand_on_200_places_hears_200_429_and_503_only(simulator, tmp_path):
    allow_files(6_000)
    limits = {"in_flight": 100, "queue": 100, "queue_seconds": 3}  # in each of two workers
    config = config_for(simulator.url, limits=limits, workers=2)
    data = request("sim-slow-first-300", True).replace(b"Host: x", b"Host: x\r\nConnection: close")
    with running(tmp_path, config) as gateway:
        simulator.reset()

        async def burst():
            answers = []
            await asyncio.gather(*(one(gateway.port, data, answers) for _ in range(5_000)))
            return Counter(answers)

        began = time.monotonic()
        counts = asyncio.run(burst())
        print(f"{dict(counts)} in {time.monotonic() - began:.1f} s")
        assert sum(counts.values()) == 5_000
        assert set(counts) <= {"200", "429", "503"}, counts
        assert counts["200"] >= 200 and counts["503"] > 0
        assert httpx.post(gateway.url + CHAT, json=BODY, timeout=20).status_code == 200
        assert "Traceback" not in gateway.err.read_text()


def test_memory_after_30000_requests_is_at_most_20_mb_above_that_after_4000(simulator, tmp_path):
    config = config_for(simulator.url, workers=2)
    with running(tmp_path, config) as gateway:
        gateway.wait()

        async def drive(count, at_a_time=32):
            left = count

            async def worker():
                nonlocal left
                number = 0
                while left > 0:
                    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
                    for _ in range(50):
                        left -= 1
                        number += 1
                        kind = number % 10
                        data = request(stream=kind < 4)
                        if kind == 9:  # something that is refused, with names of its own
                            data = b"GET /nowhere-%d HTTP/1.1\r\nHost: x\r\nX-%d: y\r\n\r\n" % (
                                left,
                                left,
                            )
                        if kind == 8:
                            data = request(f"some-model-{left}")
                        writer.write(data)
                        await read_answer(reader)
                    writer.close()
                    await writer.wait_closed()

            await asyncio.gather(*(worker() for _ in range(at_a_time)))

        asyncio.run(drive(4_000))
        time.sleep(1)
        early = memory(gateway)
        asyncio.run(drive(26_000))
        time.sleep(1)
        late = memory(gateway)
        assert early.keys() == late.keys()
        grown = {pid: late[pid] - early[pid] for pid in early}
        print({pid: f"{early[pid] / MIB:.0f} + {grown[pid] / MIB:.1f} MiB" for pid in early})
        assert all(more < 20 * MIB for more in grown.values())
    gc.collect()


async def read_answer(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    lower = head.lower()
    if b"content-length:" in lower:
        length = int(lower.partition(b"content-length:")[2].split(b"\r\n")[0])
        await reader.readexactly(length)
        return
    while True:
        size = int(await reader.readline(), 16)
        await reader.readexactly(size + 2)
        if size == 0:
            return
