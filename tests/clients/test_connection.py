"""Reading a response: piece by piece, by a pump, slowly, and not at all."""

import asyncio

import pytest

from app.clients import read_whole
from app.clients.connection import HIGH_WATER_BYTES
from app.clients.transport import Transport
from app.wire.errors import GatewayError
from app.wire.upstream import UpstreamRequest
from tests.clients.raw_upstreams import (
    LOOPS,
    Server,
    answer,
    idle_count,
    open_count,
    read_request,
    run,
    serving,
)

both_loops = pytest.mark.parametrize("loop", LOOPS)
OK = b"HTTP/1.1 200 OK\r\n"


def get(url: str) -> UpstreamRequest:
    return UpstreamRequest(method="GET", url=url, headers=[])


@both_loops
def test_an_answer_in_many_reads_comes_joined_when_the_reader_was_away(loop):
    async def main():
        async def handler(reader, writer):
            await read_request(reader)
            writer.write(OK + b"Transfer-Encoding: chunked\r\n\r\n")
            for i in range(10):
                writer.write(b"2\r\n%02d\r\n" % i)
                await writer.drain()
                await asyncio.sleep(0.002)
            writer.write(b"0\r\n\r\n")

        async with Server(handler) as server:
            transport = Transport(5)
            response = await transport.open(get(server.url))
            await asyncio.sleep(0.2)
            assert await response.read() == b"".join(b"%02d" % i for i in range(10))
            assert await response.read() == b""
            assert await response.read() == b""
            await response.close()
            await transport.close()

    run(main, loop)


@both_loops
def test_a_finished_answer_can_be_read_after_its_connection_went_to_another(loop):
    async def main():
        async with serving(lambda asked: answer(asked.target.encode() * 5000)) as server:
            transport = Transport(5)
            first = await transport.open(get(server.url + "/1"))
            while server.connections and not idle_count(transport):
                await asyncio.sleep(0.001)
            second = await transport.open(get(server.url + "/2"))
            assert server.connections == 1
            assert (await read_whole(first, 1 << 20)).body == b"/1" * 5000
            await first.close()
            assert (await read_whole(second, 1 << 20)).body == b"/2" * 5000
            await transport.close()

    run(main, loop)


@both_loops
def test_a_reader_that_sleeps_stops_the_upstream(loop):
    total = 64 << 20

    async def main():
        sent = 0

        async def handler(reader, writer):
            nonlocal sent
            await read_request(reader)
            writer.write(OK + b"Content-Length: %d\r\n\r\n" % total)
            for _ in range(total >> 16):
                writer.write(b"x" * 65536)
                await writer.drain()
                sent += 65536
            writer.close()  # what drain() left in the buffer is still to go out
            await writer.wait_closed()

        async with Server(handler) as server:
            transport = Transport(5)
            response = await transport.open(get(server.url))
            await asyncio.sleep(0.3)
            # Private: how much a response holds is no part of its interface.
            unread = response._reader.unread
            assert HIGH_WATER_BYTES < unread < HIGH_WATER_BYTES + (300 << 10)
            assert sent < total / 2
            got = 0
            while data := await response.read():
                got += len(data)
                assert len(data) < 512 << 10
            assert got == total
            await response.close()
            await transport.close()

    run(main, loop)


@both_loops
def test_a_cancelled_read_loses_nothing(loop):
    async def main():
        async def handler(reader, writer):
            await read_request(reader)
            writer.write(OK + b"Content-Length: 10\r\n\r\n")
            await asyncio.sleep(0.1)
            writer.write(b"0123456789")

        async with Server(handler) as server:
            transport = Transport(5)
            response = await transport.open(get(server.url))
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await response.read()
            assert await response.read() == b"0123456789"
            await response.close()
            assert idle_count(transport)
            await transport.close()

    run(main, loop)


# --- pump: an answer handed over as it comes ------------------------------------------------------


def trickling(pieces, *, pause=0.002, whole=True):
    async def handler(reader, writer):
        await read_request(reader)
        writer.write(OK + b"Transfer-Encoding: chunked\r\n\r\n")
        for piece in pieces:
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
            await asyncio.sleep(pause)
        if whole:
            writer.write(b"0\r\n\r\n")
            await asyncio.sleep(1)
        writer.transport.abort()

    return handler


@both_loops
@pytest.mark.parametrize("read_first", [True, False])
def test_a_pump_hands_over_everything_in_order(loop, read_first):
    pieces = [b"%03d" % n for n in range(50)]

    async def main():
        async with Server(trickling(pieces)) as server:
            transport = Transport(5)
            response = await transport.open(get(server.url))
            got = [await response.read()] if read_first else []
            assert await response.pump(lambda data: got.append(data) is None) is False
            assert b"".join(got) == b"".join(pieces) and len(got) > 5
            assert await response.pump(got.append) is False
            assert await response.read() == b""
            await response.close()
            assert idle_count(transport)
            await transport.close()

    run(main, loop)


@both_loops
def test_a_pump_stops_when_it_is_told_and_goes_on_when_it_is_called_again(loop):
    async def main():
        async with Server(trickling([b"%03d" % n for n in range(20)])) as server:
            transport = Transport(5)
            response = await transport.open(get(server.url))
            got = []
            stops = 0
            while await response.pump(lambda data: got.append(data) is not None):
                stops += 1
                await asyncio.sleep(0.005 if stops % 3 else 0)
            assert b"".join(got) == b"".join(b"%03d" % n for n in range(20)) and stops > 3
            await response.close()
            await transport.close()

    run(main, loop)


@both_loops
def test_what_the_taker_raises_comes_out_of_the_pump(loop):
    class WrongError(Exception):
        pass

    async def main():
        async with Server(trickling([b"a", b"b", b"c", b"d"], pause=0.02)) as server:
            transport = Transport(5)
            for wrong in (WrongError, asyncio.CancelledError):
                response = await transport.open(get(server.url))
                got = []

                def take(data, got=got, wrong=wrong):
                    got.append(data)
                    if len(got) == 2:
                        raise wrong
                    return True

                with pytest.raises(wrong):
                    await response.pump(take)
                await response.close()
                assert len(got) == 2
            await asyncio.sleep(0.01)
            assert open_count(transport) == 0
            await transport.close()

    run(main, loop)


@both_loops
def test_a_pump_tells_a_cut(loop):
    async def main():
        async with Server(trickling([b"a", b"b"], whole=False)) as server:
            transport = Transport(5)
            response = await transport.open(get(server.url))
            got = []
            with pytest.raises(GatewayError) as caught:
                await response.pump(lambda data: got.append(data) is None)
            assert caught.value.code == "upstream_cut" and b"".join(got) == b"ab"
            await response.close()
            await transport.close()

    run(main, loop)


@both_loops
def test_a_cancelled_pump_loses_nothing_and_calls_nobody(loop):
    async def main():
        async with Server(trickling([b"%03d" % n for n in range(40)])) as server:
            transport = Transport(5)
            response = await transport.open(get(server.url))
            got = []
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await response.pump(lambda data: got.append(data) is None)
            before = len(got)
            await asyncio.sleep(0.02)
            assert len(got) == before
            while data := await response.read():
                got.append(data)
            assert b"".join(got) == b"".join(b"%03d" % n for n in range(40))
            await response.close()
            await transport.close()

    run(main, loop)


@both_loops
def test_a_taker_that_wants_no_more_stops_the_upstream(loop):
    total = 64 << 20

    async def main():
        async def handler(reader, writer):
            await read_request(reader)
            writer.write(OK + b"Content-Length: %d\r\n\r\n" % total)
            for _ in range(total >> 16):
                writer.write(b"x" * 65536)
                await writer.drain()
            writer.close()
            await writer.wait_closed()

        async with Server(handler) as server:
            transport = Transport(5)
            response = await transport.open(get(server.url))
            got = 0

            def take(data):
                nonlocal got
                got += len(data)
                return got > 8 << 20  # at first one read at a time

            assert await response.pump(take)
            await asyncio.sleep(0.2)
            # Private: how much a response holds is no part of its interface.
            assert response._reader.unread < HIGH_WATER_BYTES + (300 << 10)
            while await response.pump(take):
                assert response._reader.unread < HIGH_WATER_BYTES + (300 << 10)
            assert got == total
            await response.close()
            await transport.close()

    run(main, loop)
