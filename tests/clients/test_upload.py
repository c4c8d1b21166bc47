"""Streamed bodies: framing, Expect, answers that come early, and connections found dead."""

import asyncio
import time

import pytest

from app.clients import read_whole, transport
from app.clients.connection_pool import Limits
from app.clients.transport import Transport
from app.clients.upload import KEPT_BODY_BYTES
from app.wire.errors import GatewayError
from app.wire.upstream import UpstreamRequest
from tests.clients.raw_upstreams import (
    LOOPS,
    Server,
    answer,
    idle_count,
    open_count,
    open_sockets,
    read_chunks,
    read_head,
    read_request,
    run,
    serving,
)

both_loops = pytest.mark.parametrize("loop", LOOPS)


def post(url: str, body, *headers: tuple[str, str]) -> UpstreamRequest:
    return UpstreamRequest(method="POST", url=url, headers=list(headers), body=body)


async def body_of(transport: Transport, request: UpstreamRequest) -> bytes:
    return (await read_whole(await transport.open(request), 1 << 30)).body


class Body:
    """An async iterator that says how far it was read and whether it was closed."""

    def __init__(self, pieces, pause=0.0, failure: Exception | None = None) -> None:
        self.pieces, self.pause, self.failure = pieces, pause, failure
        self.taken = 0
        self.closed = False

    async def __aiter__(self):
        try:
            for piece in self.pieces:
                await asyncio.sleep(self.pause)
                self.taken += 1
                yield piece
            if self.failure:
                raise self.failure
        finally:
            self.closed = True


def streamed(*args, **more):
    body = Body(*args, **more)
    return body, body.__aiter__()


def parrot(asked):
    how = asked.header("content-length") or asked.header("transfer-encoding")
    return answer(f"{how}:".encode() + asked.body)


@both_loops
@pytest.mark.parametrize("pause", [0, 0.002])
def test_a_streamed_body_travels_in_chunks_and_the_connection_is_kept(loop, pause):
    async def main():
        async with serving(parrot) as server:
            transport = Transport(5)
            for _ in range(3):
                body, stream = streamed([b"a" * 10, b"", b"b" * 70_000, b"c"], pause=pause)
                got = await body_of(transport, post(server.url, stream))
                assert got == b"chunked:" + b"a" * 10 + b"b" * 70_000 + b"c"
                assert body.closed
            assert server.connections == 1
            await transport.close()

    run(main, loop)


@both_loops
def test_a_length_header_makes_the_body_exact(loop):
    async def main():
        async with serving(parrot) as server:
            transport = Transport(5)
            for _ in range(3):
                _, stream = streamed([b"abc", b"de"], pause=0.001)
                request = post(server.url, stream, ("Content-Length", "5"))
                assert await body_of(transport, request) == b"5:abcde"
            assert server.connections == 1
            await transport.close()

    run(main, loop)


@both_loops
@pytest.mark.parametrize("length,how", [("4", "longer"), ("6", "shorter")])
def test_a_body_that_is_not_as_long_as_it_says_is_a_400(loop, length, how):
    async def main():
        async with serving(parrot) as server:
            transport = Transport(5)
            _, stream = streamed([b"ab", b"", b"cde"], pause=0.001)
            with pytest.raises(GatewayError, match=how) as caught:
                await transport.open(post(server.url, stream, ("Content-Length", length)))
            assert (caught.value.status, caught.value.code) == (400, "bad_length")
            await asyncio.sleep(0.01)
            assert open_count(transport) == 0

    run(main, loop)


@both_loops
def test_a_body_that_fails_is_the_callers_own_error(loop):
    async def main():
        async with serving(parrot) as server:
            transport = Transport(5)
            for failure in (GatewayError(413, "too much"), ValueError("mine")):
                _, stream = streamed([b"ab"], failure=failure)
                with pytest.raises(type(failure)) as caught:
                    await transport.open(post(server.url, stream))
                assert caught.value is failure
            await asyncio.sleep(0.01)
            assert open_count(transport) == 0

    run(main, loop)


@both_loops
def test_an_early_refusal_is_delivered_and_the_upload_stops(loop):
    async def main():
        async def handler(reader, writer):
            await read_head(reader)
            writer.write(answer(b"too large", "413 Content Too Large"))
            await reader.read()

        async with Server(handler) as server:
            transport = Transport(5)
            body, stream = streamed([b"x" * 1000] * 10_000, pause=0.001)
            response = await transport.open(post(server.url, stream))
            assert response.status == 413
            taken = body.taken
            assert (await read_whole(response, 100)).body == b"too large"
            await asyncio.sleep(0.02)
            assert body.taken <= taken + 1 and body.closed
            assert open_count(transport) == 0

    run(main, loop)


@both_loops
def test_an_early_answer_to_a_body_that_hangs_needs_no_more_of_it(loop):
    async def main():
        async def handler(reader, writer):
            await read_head(reader)
            writer.write(answer(b"no", "401 Unauthorized"))
            await reader.read()

        async with Server(handler) as server:
            transport = Transport(5)
            body, stream = streamed([b"x"], pause=30)
            async with asyncio.timeout(2):
                assert await body_of(transport, post(server.url, stream)) == b"no"
            assert body.closed
            assert open_count(transport) == 0

    run(main, loop)


@both_loops
def test_a_success_that_begins_early_does_not_stop_the_upload(loop):
    async def main():
        async def handler(reader, writer):
            await read_head(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
            body = await read_chunks(reader)
            writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
            await read_head(reader)

        async with Server(handler) as server:
            transport = Transport(5)
            _, stream = streamed([b"one", b"two", b"three"], pause=0.02)
            response = await transport.open(post(server.url, stream))
            assert await response.read() == b"hi"
            assert (await read_whole(response, 100)).body == b"onetwothree"
            assert idle_count(transport)
            await transport.close()

    run(main, loop)


@both_loops
@pytest.mark.parametrize("kind", ["bytes", "stream"])
@pytest.mark.parametrize("says", ["100", "nothing"])
def test_expect_waits_for_100_but_not_for_ever(loop, kind, says, monkeypatch):
    monkeypatch.setattr(transport, "CONTINUE_SECONDS", 0.3 if says == "nothing" else 30)

    async def main():
        async def handler(reader, writer):
            asked = await read_head(reader)
            assert asked.header("expect") == "100-continue"
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await reader.readexactly(1)
            if says == "100":
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = await (reader.readexactly(4) if kind == "bytes" else read_chunks(reader))
            writer.write(answer(body))
            await read_head(reader)

        async with Server(handler) as server:
            transport = Transport(5)
            body = b"wait" if kind == "bytes" else streamed([b"wa", b"it"])[1]
            began = time.monotonic()
            request = post(server.url, body, ("Expect", "100-Continue"))
            assert await body_of(transport, request) == b"wait"
            took = time.monotonic() - began
            assert took > 0.25 if says == "nothing" else took < 20
            assert idle_count(transport)
            await transport.close()

    run(main, loop)


@pytest.mark.parametrize("kind", ["bytes", "stream"])
def test_an_expectation_that_fails_sends_no_body_and_keeps_no_connection(kind):
    async def main():
        seen = b""

        async def handler(reader, writer):
            nonlocal seen
            await read_head(reader)
            writer.write(answer(b"no", "417 Expectation Failed"))
            seen = await reader.read()

        async with Server(handler) as server:
            transport = Transport(5)
            body = b"wait" if kind == "bytes" else streamed([b"wa", b"it"])[1]
            assert await body_of(transport, post(server.url, body, ("expect", "100-continue"))) == (
                b"no"
            )
            await asyncio.sleep(0.02)
            assert open_count(transport) == 0 and seen == b""

    run(main)


@both_loops
@pytest.mark.parametrize("big", [False, True])
def test_a_streamed_body_is_sent_again_while_its_beginning_is_remembered(loop, big):
    async def main():
        async def handler(reader, writer):
            if await read_request(reader):
                writer.write(answer(b"fine"))
            asked = await read_head(reader)
            if asked and big:
                await reader.readexactly(KEPT_BODY_BYTES + 1)

        async with Server(handler) as server:
            transport = Transport(5)
            first = b"x" * (KEPT_BODY_BYTES * 2) if big else b"one"
            assert await body_of(transport, post(server.url, b"")) == b"fine"
            _, stream = streamed([first, b"two", b"three"], pause=0.01)
            if big:
                with pytest.raises(GatewayError) as caught:
                    await transport.open(post(server.url, stream))
                assert caught.value.code == "upstream_unreachable"
                assert server.connections == 1
            else:
                assert await body_of(transport, post(server.url, stream)) == b"fine"
                assert server.connections == 2
            await transport.close()

    run(main, loop)


@both_loops
def test_a_resent_body_arrives_whole_however_slowly_it_comes(loop):
    async def main():
        bodies = []

        async def handler(reader, writer):
            number = server.connections
            asked = await read_request(reader)
            bodies.append(asked.body)
            writer.write(answer(b"fine"))
            if number == 1:
                await read_head(reader)  # and leaves, at the head of the second request

        async with Server(handler) as server:
            transport = Transport(5)
            for pause in (0, 0.0005, 0.005):
                server.connections = 0
                assert await body_of(transport, post(server.url, b"first")) == b"fine"
                pieces = [b"%d," % i for i in range(30)]
                _, stream = streamed(pieces, pause=pause)
                assert await body_of(transport, post(server.url, stream)) == b"fine"
                assert bodies[-1] == b"".join(pieces)
                await transport.close()
                transport = Transport(5)

    run(main, loop)


@both_loops
def test_an_upstream_that_does_not_read_slows_the_upload(loop):
    async def main():
        gate = asyncio.Event()

        async def handler(reader, writer):
            await read_head(reader)
            writer.transport.pause_reading()
            await gate.wait()
            writer.transport.resume_reading()
            writer.write(answer(b"%d" % len(await read_chunks(reader))))

        async with Server(handler) as server:
            transport = Transport(5)
            body, stream = streamed([b"x" * 65536] * 512)
            opening = asyncio.create_task(body_of(transport, post(server.url, stream)))
            await asyncio.sleep(0.3)
            assert body.taken < 200  # a few MB in the kernel's buffers, no more
            gate.set()
            assert await opening == b"%d" % (512 * 65536)
            await transport.close()

    run(main, loop)


@both_loops
def test_an_upload_that_is_never_read_is_given_up(loop):
    async def main():
        async def handler(reader, writer):
            await read_head(reader)
            writer.transport.pause_reading()
            await asyncio.sleep(10)

        async with Server(handler) as server:
            transport = Transport(5, Limits(write_seconds=0.1))
            body, stream = streamed([b"x" * 65536] * 512)
            with pytest.raises(GatewayError) as caught:
                async with asyncio.timeout(3):
                    await transport.open(post(server.url, stream))
            assert caught.value.code == "upstream_stalled"
            assert body.closed
            await asyncio.sleep(0.01)
            assert open_count(transport) == 0

    run(main, loop)


@both_loops
def test_leaving_in_the_middle_of_an_upload_leaves_nothing(loop):
    async def main():
        before = open_sockets()

        async def handler(reader, writer):
            await read_request(reader)

        async with Server(handler) as server:
            transport = Transport(5)
            for seconds in (0.0, 0.001, 0.005, 0.02):
                body, stream = streamed([b"x" * 1000] * 1000, pause=0.001)
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await transport.open(post(server.url, stream))
                assert body.closed or not body.taken
            await asyncio.sleep(0.02)
            assert open_count(transport) == 0
            assert len([t for t in asyncio.all_tasks() if "upload" in t.get_name()]) == 0
        await asyncio.sleep(0.02)
        assert open_sockets() == before

    run(main, loop)
