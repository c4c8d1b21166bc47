"""The memory that answers take: none for a slow reader, none that requests leave behind."""

import json
from pathlib import Path

import pytest

from tests.simulator.wire import connect, read, request_bytes

CHAT = "/openai/v1/chat/completions"


def test_a_slow_reader_slows_the_simulator_instead_of_its_memory(simulator):
    status = Path(f"/proc/{simulator.process.pid}/status")
    before = resident_kilobytes(status)
    body = json.dumps(
        {"model": "sim-big-200000", "stream": True, "messages": [{"role": "user", "content": "x"}]}
    )
    with connect(simulator.url) as peer:
        peer.sendall(
            request_bytes("POST", CHAT, [("Authorization", "Bearer sk-slow")], body.encode())
        )
        peer.recv(1000)
        simulator.wait_for(lambda s: s["by_key"]["sk-slow"]["open"] == 1)
        assert resident_kilobytes(status) - before < 20_000
    simulator.wait_for(lambda s: s["by_key"]["sk-slow"]["open"] == 0)


def resident_kilobytes(status: Path) -> int:
    lines = status.read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


@pytest.mark.slow
def test_ten_thousand_requests_leave_nothing_behind(simulator):
    status = Path(f"/proc/{simulator.process.pid}/status")
    with connect(simulator.url, 10) as peer:
        for number in range(10_000):
            headers = [("Authorization", f"Bearer sk-load-{number}")]
            body = b'{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}'
            peer.sendall(request_bytes("POST", CHAT, headers, body))
            assert read(peer).status == 200
            if number == 2_000:
                early = resident_kilobytes(status)
    assert resident_kilobytes(status) - early < 20_000
    assert simulator.stats()["open"]["requests"] == 0
