"""Callers who leave while a website is asked for them: it is let go at once, and nothing is left.

Through the whole gateway, in every phase of a call: while the site's guard thinks, while a proof is
worked out, in the answer as a stream or on a websocket, and the same with Claude's site.
"""

import asyncio
import json
import os
import time
from pathlib import Path

import pytest

from tests.server.running import Running, children, running

CHAT = "/c/v1/chat/completions"
AT_A_TIME = 20
OPENAI = {"provider": "openai-chat-web"}
CLAUDE = {"provider": "claude", "claude": {"type": "web"}}
# phase: the session's token, the body, whether the caller sees something of the answer
PHASES = {
    "guard": ("leaver-hanging", {**OPENAI, "model": "gpt-4o"}, False),
    "proof": ("leaver-hardest", {**OPENAI, "model": "gpt-4o"}, False),
    "stream": ("leaver", {**OPENAI, "model": "gpt/sim-hang-after-8"}, True),
    "snapshots": ("leaver", {**OPENAI, "model": "gpt-snapshots/sim-hang-after-6"}, True),
    "websocket": ("leaver", {**OPENAI, "model": "gpt-wss/sim-hang-after-6"}, True),
    "claude": ("leaver", {**CLAUDE, "model": "claude-sim-hang-after-6"}, True),
    "claude first": ("leaver-hanging", {**CLAUDE, "model": "claude"}, False),
}


@pytest.fixture(scope="module")
def gateway(simulator, tmp_path_factory):
    """One worker of its own, so that what it holds can be counted."""
    config = {
        "openai": {"chat_web_url": f"{simulator.url}/chatgpt"},
        "claude": {"web_url": f"{simulator.url}/claude-web"},
        "ledger": "off",  # it opens its file a second after a call
    }
    with running(tmp_path_factory.mktemp("leavers"), config) as own:
        yield own


def held(gateway: Running) -> dict[str, int]:
    """What the worker holds on to, but for the one small process that works out proofs."""
    (pid,) = gateway.workers()
    links = []
    for file in Path(f"/proc/{pid}/fd").iterdir():
        try:
            links.append(os.readlink(file))
        except OSError:  # closed while we looked
            continue
    beside = len(children(pid))
    assert beside <= 1
    return {
        "files": len(links) - beside,
        "sockets": sum(link.startswith("socket:") for link in links) - beside,
        "threads": len(os.listdir(f"/proc/{pid}/task")),
    }


async def until(condition, seconds: float) -> float:
    """How long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "it did not happen in time"
        await asyncio.sleep(0.01)
    return time.monotonic() - began


async def come(gateway: Running, phase: str) -> list[asyncio.StreamWriter]:
    """As many callers as there shall be at a time, each as far as it gets."""
    token, body, sees_text = PHASES[phase]
    raw = json.dumps(
        {**body, "stream": True, "messages": [{"role": "user", "content": "a b c d e f g h i"}]}
    ).encode()
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Length: {len(raw)}\r\n\r\n"
    )

    async def one() -> asyncio.StreamWriter:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(head.encode() + raw)
        await writer.drain()
        if sees_text:
            async with asyncio.timeout(10):
                await reader.readuntil(b'"content":"You')
        return writer

    return list(await asyncio.gather(*(one() for _ in range(AT_A_TIME))))


def guarded(simulator) -> int:
    paths = simulator.stats()["requests"]["by_path"]
    return sum(count for path, count in paths.items() if path.endswith("/chat-requirements"))


async def one_crowd(gateway: Running, simulator, phase: str) -> float:
    """Comes, waits until each is in the phase, leaves; seconds until the upstream knew it."""
    asked = guarded(simulator)
    writers = await come(gateway, phase)

    def is_there() -> bool:
        if phase == "proof":  # the guard has answered all of them, and none has gone on
            open_now = simulator.stats()["open"]["requests"]
            return guarded(simulator) == asked + AT_A_TIME and open_now == 0
        return simulator.stats()["open"]["requests"] == AT_A_TIME

    try:
        await until(is_there, 10)
    except AssertionError:
        for writer in writers:
            writer.transport.abort()
        raise
    gone_before = len(gateway.log(outcome="client_gone"))
    for number, writer in enumerate(writers):
        if number % 2:
            writer.transport.abort()
        else:
            writer.close()
    took = await until(lambda: simulator.stats()["open"]["requests"] == 0, 5)
    await until(lambda: len(gateway.log(outcome="client_gone")) == gone_before + AT_A_TIME, 5)
    return took


async def storm(gateway: Running, simulator, phase: str, crowds: int) -> None:
    await until(lambda: simulator.stats()["open"]["requests"] == 0, 5)
    await one_crowd(gateway, simulator, phase)  # what is made once is made now
    (pid,) = gateway.workers()
    await until(lambda: len(children(pid)) <= 1, 5)
    before, since = held(gateway), time.monotonic()
    while time.monotonic() - since < 1.0:  # files are opened a moment after the first call
        await asyncio.sleep(0.05)
        if (now := held(gateway)) != before:
            before, since = now, time.monotonic()
    slowest = 0.0
    for _ in range(crowds):
        slowest = max(slowest, await one_crowd(gateway, simulator, phase))
    assert slowest < 1.0

    end = time.monotonic() + 5
    while (now := held(gateway)) != before:
        assert time.monotonic() < end, f"before {before}, now {now}"
        await asyncio.sleep(0.02)
    print(f"{phase}: {crowds * AT_A_TIME} left, the slowest {slowest:.3f} s; {now}")


@pytest.mark.parametrize("phase", PHASES)
def test_a_caller_who_leaves_is_let_go_upstream_within_a_second(gateway, simulator, phase) -> None:
    asyncio.run(storm(gateway, simulator, phase, 1))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("phase", PHASES)
def test_nothing_is_left_of_five_hundred_who_left(gateway, simulator, phase) -> None:
    asyncio.run(storm(gateway, simulator, phase, 500 // AT_A_TIME))
