"""Many websockets at a time: what each costs, and that nothing of them is left.

python -m tests.server.test_websocket_soak [SOCKETS] [SECONDS]     by hand: 1000 sockets, 600 s
"""

import asyncio
import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

from tests.server.running import Running, until

PAUSE = 5.0  # seconds between two messages of a socket


def resident_kb(pid: int) -> int:
    """Resident memory of the process, without what its files take."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1])


async def echo(end) -> None:
    with contextlib.suppress(Exception):
        async for message in end:
            await end.send(message)


async def soak(folder: Path, sockets: int, seconds: float) -> dict:
    """Holds so many websockets open, which all talk now and then. Returns what was measured."""
    plain = {"compression": None, "ping_interval": None}
    async with serve(echo, "127.0.0.1", 0, **plain) as server:
        port = server.sockets[0].getsockname()[1]
        openai = {"api_url": f"http://127.0.0.1:{port}", "api_keys": [{"id": "k", "val": "sk-k"}]}
        # The ledger opens its files a second after a call.
        gateway = Running(folder, {"openai": openai, "ledger": "off"})
        await asyncio.to_thread(gateway.wait)
        try:
            url = f"ws://127.0.0.1:{gateway.port}/v1/realtime?model=m"
            [worker] = gateway.workers()

            async def talk(until_time: float, opened: asyncio.Event) -> int:
                rounds = 0
                async with connect(url, **plain, open_timeout=60) as caller:
                    while True:
                        await caller.send(f"{rounds}" * 200)
                        assert await caller.recv() == f"{rounds}" * 200
                        rounds += 1
                        opened.set()
                        if time.monotonic() + PAUSE > until_time:
                            await asyncio.sleep(max(0, until_time - time.monotonic()))
                            return rounds
                        await asyncio.sleep(PAUSE)

            async def many(count: int, end: float) -> list:
                tasks, events = [], []
                for number in range(count):
                    events.append(asyncio.Event())
                    tasks.append(asyncio.create_task(talk(end, events[-1])))
                    if number % 20 == 19:  # not all handshakes at once
                        await events[-1].wait()
                for event in events:
                    await event.wait()
                return tasks

            warm = await many(20, time.monotonic())
            await asyncio.gather(*warm)
            await asyncio.sleep(1)
            files, before = gateway.open_files(), resident_kb(worker)
            peaks, rests, rounds = [], [], 0
            for _ in range(2):  # what the first wave leaves to the allocator, the second one uses
                tasks = await many(sockets, time.monotonic() + seconds / 2 + sockets / 50)
                during = resident_kb(worker)
                rounds += sum(await asyncio.gather(*tasks))
                peaks.append(max(during, resident_kb(worker)))
                await asyncio.to_thread(until, lambda: gateway.open_files() <= files, 20)
                rests.append(resident_kb(worker))
            await asyncio.to_thread(gateway.wait_log, 2 * sockets + 20, 20)
            outcomes = [line["outcome"] for line in gateway.log()]
            return {
                "sockets": sockets,
                "rounds": rounds,
                "kb_per_socket": (peaks[0] - before) / sockets,
                "kb_more_of_the_second_wave": (peaks[1] - peaks[0]) / sockets,
                "complete": outcomes.count("complete"),
                "others": len(outcomes) - outcomes.count("complete"),
            }
        finally:
            assert await asyncio.to_thread(gateway.stop) == 0


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_many_websockets_leave_nothing_behind(tmp_path):
    told = asyncio.run(soak(tmp_path, 300, 4))
    assert told["others"] == 0 and told["complete"] == 620
    assert told["kb_per_socket"] < 80, told
    assert told["kb_more_of_the_second_wave"] < 5, told


if __name__ == "__main__":
    asked = [float(word) for word in sys.argv[1:]]
    count, seconds = [*asked, *(1000, 600)[len(asked) :]]
    with tempfile.TemporaryDirectory() as name:
        print(json.dumps(asyncio.run(soak(Path(name), int(count), seconds)), indent=1))
