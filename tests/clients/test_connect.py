"""TCP: which of a host's addresses is taken, and that no socket is left behind."""

import asyncio
import errno
import socket
import time

import pytest

from app.clients.connect import connect_first
from app.clients.errors import describe
from tests.clients.raw_upstreams import (
    LOOPS,
    answer,
    open_sockets,
    run,
    serving,
)

both_loops = pytest.mark.parametrize("loop", LOOPS)


def info(host: str, port: int):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return (family, socket.SOCK_STREAM, 0, "", (host, port))


@both_loops
def test_of_several_addresses_the_first_that_answers_is_taken(loop):
    async def main():
        before = open_sockets()
        async with serving(lambda asked: answer()) as server:
            good = info("127.0.0.1", server.port)
            refusing = [
                info("::1", server.port),
                info("127.0.0.2", server.port),
            ]
            began = time.monotonic()
            sock = await connect_first([*refusing * 10, good, good])
            assert sock.getpeername() == good[-1]
            assert time.monotonic() - began < 4  # a refusal starts the next one at once
            sock.close()
            with pytest.raises(OSError):
                await connect_first(refusing)
        await asyncio.sleep(0.05)
        assert open_sockets() == before

    run(main, loop)


@both_loops
@pytest.mark.parametrize("leave", [False, True])
def test_an_address_that_is_silent_is_overtaken_after_a_quarter_second(loop, leave):
    async def main():
        before = open_sockets()
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            stuffed = [socket.socket() for _ in range(4)]
            for s in stuffed:
                s.setblocking(False)
                s.connect_ex(full.getsockname())
            async with serving(lambda asked: answer()) as server:
                silent = info(*full.getsockname())
                good = info("127.0.0.1", server.port)
                began = time.monotonic()
                if leave:
                    with pytest.raises(TimeoutError):
                        async with asyncio.timeout(0.1):
                            await connect_first([silent, good])
                else:
                    sock = await connect_first([silent, good])
                    assert sock.getpeername() == good[-1]
                    assert 0.2 < time.monotonic() - began < 5
                    sock.close()
            for s in stuffed:
                s.close()
        await asyncio.sleep(0.05)
        assert open_sockets() == before

    run(main, loop)


def test_a_cancellation_while_the_losers_are_cleared_away_is_not_lost(monkeypatch):
    async def main():
        before = open_sockets()
        async with serving(lambda asked: answer()) as server:
            loop = asyncio.get_running_loop()
            connects = loop.sock_connect

            async def sock_connect(sock, place):
                if place[1] != server.port:
                    try:
                        await asyncio.sleep(10)
                    finally:
                        calling.cancel()  # the loser is being cancelled: the race is won
                await connects(sock, place)

            monkeypatch.setattr(loop, "sock_connect", sock_connect)
            infos = [info("127.0.0.1", 1), info("127.0.0.1", server.port)]
            calling = asyncio.create_task(connect_first(infos))
            with pytest.raises(asyncio.CancelledError):
                await calling
        await asyncio.sleep(0.05)
        assert open_sockets() == before

    run(main, "asyncio")  # uvloop's loop has no attribute to replace


@pytest.mark.parametrize(
    ("codes", "words"),
    [
        ((errno.ECONNREFUSED, errno.ECONNREFUSED), "connection refused"),
        ((errno.ENETUNREACH, errno.ECONNREFUSED), "none of its addresses accepts a connection"),
    ],
)
def test_addresses_that_all_fail_are_one_error(monkeypatch, codes, words):
    async def main():
        failures = iter(codes)

        async def sock_connect(sock, place):
            code = next(failures)
            raise OSError(code, f"Connect call failed {place}")

        monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", sock_connect)
        with pytest.raises(OSError) as caught:
            await connect_first([info("::1", 1), info("127.0.0.1", 1)])
        assert describe(caught.value) == words

    run(main, "asyncio")
