"""The transport on real sockets: keeping, dropping, waiting and leaving connections."""

import asyncio
import gc
import random
import socket
import time

import pytest

from app.clients import Clients, read_whole
from app.clients import transport as transport_module
from app.clients.connection_pool import Limits
from app.clients.transport import Transport
from app.wire.errors import GatewayError
from app.wire.upstream import UpstreamRequest
from tests.clients.raw_upstreams import (
    LOOPS,
    Asked,
    Server,
    answer,
    idle_count,
    open_count,
    open_sockets,
    read_head,
    read_request,
    run,
    sending,
    serving,
)

both_loops = pytest.mark.parametrize("loop", LOOPS)
OK = b"HTTP/1.1 200 OK\r\n"


def get(url: str, **more) -> UpstreamRequest:
    return UpstreamRequest(method=more.pop("method", "GET"), url=url, headers=[], **more)


def post(url: str, body=b"{}", *headers: tuple[str, str], **more) -> UpstreamRequest:
    return UpstreamRequest(method="POST", url=url, headers=list(headers), body=body, **more)


async def body_of(transport: Transport, request: UpstreamRequest) -> bytes:
    return (await read_whole(await transport.open(request), 1 << 30)).body


async def code_of(transport: Transport, request: UpstreamRequest) -> str:
    with pytest.raises(GatewayError) as caught:
        await body_of(transport, request)
    return caught.value.code


def echo(asked: Asked) -> bytes:
    return answer(f"{asked.method} {asked.target} ".encode() + asked.body)


@both_loops
def test_a_kept_connection_serves_the_next_request(loop):
    async def main():
        async with serving(echo) as server:
            transport = Transport(5)
            for i in range(50):
                path = f"{server.url}/{i}?q=a%20b"
                assert await body_of(transport, post(path, b"b")) == f"POST /{i}?q=a%20b b".encode()
            assert server.connections == 1
            assert open_count(transport) == 1
            assert idle_count(transport) == 1
            await transport.close()
            assert open_count(transport) == 0

    run(main, loop)


@pytest.mark.parametrize(
    "path,target",
    [
        ("", "/"),
        ("?a=b", "/?a=b"),
        ("/x#part", "/x"),
        ("#part", "/"),
        ("/é", "/%C3%A9"),
        ("//x", "//x"),
        ("/a?b=/c//d", "/a?b=/c//d"),
    ],
)
def test_a_url_becomes_its_request_target(path, target):
    async def main():
        async with serving(echo) as server:
            transport = Transport(5)
            for _ in range(2):
                got = await body_of(transport, get(server.url + path))
                assert got == f"GET {target} ".encode()
            await transport.close()

    run(main)


@pytest.mark.parametrize(
    "url",
    [
        *("", "/x", "ftp://x/", "ws://x/", "http://", "http:///x", "http://a b/"),
        *("http://x:99999/", "http://x:0/", "http://x:y/", "https://[::1/"),
        *("http://user:pw@x/", "http://x\r\ny/"),
    ],
)
def test_an_address_that_is_none_is_a_clear_400(url):
    async def main():
        with pytest.raises(GatewayError) as caught:
            await Transport(1).open(get(url))
        assert (caught.value.status, caught.value.code) == (400, "bad_path")
        assert "pw" not in caught.value.message

    run(main)


@both_loops
def test_parallel_requests_get_connections_of_their_own_and_the_last_used_is_used_first(loop):
    async def handler(reader, writer):
        _, port = writer.get_extra_info("peername")
        while asked := await read_request(reader):
            writer.write(answer(asked.body, "200 OK", f"Port: {port}"))

    async def main():
        async with Server(handler) as server:
            transport = Transport(5)
            bodies = [b"%d" % i for i in range(20)]
            got = await asyncio.gather(*[body_of(transport, post(server.url, b)) for b in bodies])
            assert got == bodies
            assert idle_count(transport) == server.connections == 20
            ports = set()
            for _ in range(5):
                response = await transport.open(get(server.url))
                ports.add(dict(response.headers)["port"])
                await read_whole(response, 1000)
            assert len(ports) == 1
            await transport.close()

    run(main, loop)


KINDS = {
    "length": OK + b"Content-Length: 26\r\n\r\nabcdefghijklmnopqrstuvwxyz",
    "chunked": OK + b"Transfer-Encoding: chunked\r\n\r\na\r\nabcdefghij\r\n3\r\nklm\r\n0\r\n\r\n",
    "interim": b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 3\r\n\r\nabc",
    "trailers": OK + b"Transfer-Encoding: chunked\r\n\r\n1;x=y\r\na\r\n0\r\nA: b\r\n\r\n",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("then", ["close", "eof", "reset"])
def test_an_answer_cut_at_any_byte_is_an_error_and_never_a_short_success(kind, then):
    data = KINDS[kind]

    async def main():
        cut = 0

        async def handler(reader, writer):
            await read_request(reader)
            writer.write(data[:cut])
            await writer.drain()
            if then == "eof":
                writer.write_eof()
                await reader.read()
            elif then == "close":
                writer.close()

        async with Server(handler) as server:
            transport = Transport(5)
            for cut in range(len(data)):
                async with asyncio.timeout(5):
                    code = await code_of(transport, get(server.url))
                assert code in ("upstream_unreachable",) if cut == 0 else "upstream_cut"
            assert open_count(transport) == 0
            await transport.close()

    run(main)


@both_loops
@pytest.mark.parametrize("pieces", [None, 1])
def test_a_body_without_length_ends_with_the_connection(loop, pieces):
    async def main():
        async with sending(OK + b"\r\nall of it", pieces=pieces) as server:
            transport = Transport(5)
            assert await body_of(transport, get(server.url)) == b"all of it"
            assert open_count(transport) == 0

    run(main, loop)


@both_loops
def test_a_body_without_length_is_cut_by_a_reset(loop):
    async def main():
        async def handler(reader, writer):
            await read_request(reader)
            writer.write(OK + b"\r\npart")
            await writer.drain()
            linger = b"\1\0\0\0\0\0\0\0"
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            await asyncio.sleep(0.05)
            writer.transport.abort()

        async with Server(handler) as server:
            transport = Transport(5)
            response = await transport.open(get(server.url))
            assert await response.read() == b"part"
            with pytest.raises(GatewayError, match="closed the connection"):
                await response.read()
            await response.close()
            assert open_count(transport) == 0

    run(main, loop)


@both_loops
def test_what_came_before_the_cut_is_delivered_first(loop):
    async def main():
        async with sending(OK + b"Content-Length: 100\r\n\r\nfirst half") as server:
            transport = Transport(5)
            response = await transport.open(get(server.url))
            await asyncio.sleep(0.05)
            assert await response.read() == b"first half"
            for _ in range(2):
                with pytest.raises(GatewayError) as caught:
                    await response.read()
                assert caught.value.code == "upstream_cut"
            await response.close()

    run(main, loop)


@pytest.mark.parametrize(
    "data",
    [
        OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        OK + b"Content-Length: 2\nA: b\r\n\r\nok",
        OK + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"SSH-2.0-x\r\n",
        OK + b"A: " + b"b" * 100_000,
    ],
)
def test_a_malformed_answer_is_a_502_and_its_connection_is_dropped(data):
    async def main():
        async with sending(data, then="hang") as server:
            transport = Transport(5)
            assert await code_of(transport, get(server.url)) == "upstream_bad_response"
            await asyncio.sleep(0.01)
            assert open_count(transport) == 0

    run(main)


@pytest.mark.parametrize(
    "reply",
    [
        answer(b"ok") + b"x",
        answer(b"ok") * 2,
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n",
        answer(b"ok", "200 OK", "Connection: close"),
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        answer(b"ok", "200 OK", "Keep-Alive: timeout=1"),
    ],
)
def test_the_answer_is_good_but_its_connection_is_not_used_again(reply):
    async def main():
        async with serving(lambda asked: reply) as server:
            transport = Transport(5)
            for _ in range(3):
                assert await body_of(transport, get(server.url)) == b"ok"
                await asyncio.sleep(0.01)
                assert open_count(transport) == 0
            assert server.connections == 3

    run(main)


@both_loops
@pytest.mark.parametrize("late", [b"x", b"\r\n", answer(b"poison"), b""])
def test_bytes_or_an_end_on_an_idle_connection_remove_it(loop, late):
    async def main():
        async with serving(lambda asked: answer(b"fine")) as server:
            transport = Transport(5)
            assert await body_of(transport, get(server.url)) == b"fine"
            if late:
                server.writers[0].write(late)
            else:
                server.writers[0].close()
            await asyncio.sleep(0.05)
            assert open_count(transport) == 0 and not idle_count(transport)
            assert await body_of(transport, get(server.url)) == b"fine"
            assert server.connections == 2
            await transport.close()

    run(main, loop)


@both_loops
@pytest.mark.parametrize("body", [None, b"pay once", b"x" * 300_000])
def test_a_kept_connection_found_dead_is_replaced_once_unseen(loop, body):
    async def main():
        seen: list[bytes] = []

        async def handler(reader, writer):
            # Each connection serves one request, and dies when it gets a second one.
            asked = await read_request(reader)
            seen.append(asked.body)
            writer.write(answer(b"fine"))
            await read_head(reader)

        async with Server(handler) as server:
            transport = Transport(5)
            for i in range(4):
                request = post(server.url, body) if body else get(server.url)
                assert await body_of(transport, request) == b"fine"
                assert server.connections == i + 1
            assert seen == [body or b""] * 4
            await transport.close()
            assert open_count(transport) == 0

    run(main, loop)


def test_a_replacement_that_dies_too_is_the_callers_error():
    async def main():
        async def handler(reader, writer):
            await read_request(reader)
            if server.connections == 1:
                writer.write(answer(b"fine"))
                await read_head(reader)

        async with Server(handler) as server:
            transport = Transport(5)
            assert await body_of(transport, get(server.url)) == b"fine"
            assert await code_of(transport, get(server.url)) == "upstream_unreachable"
            assert server.connections == 2
            assert open_count(transport) == 0

    run(main)


@both_loops
@pytest.mark.parametrize("when", ["at once", "late"])
def test_what_a_kept_connection_lost_is_sent_again_only_if_it_was_lost_at_once(
    loop, when, monkeypatch
):
    """An upstream that took its time may have done the work: then it is not asked unseen."""
    monkeypatch.setattr(transport_module, "RESEND_SECONDS", 5.0 if when == "at once" else 0.02)

    async def main():
        asked = 0

        async def handler(reader, writer):
            nonlocal asked
            await read_request(reader)
            asked += 1
            writer.write(answer(b"fine"))
            if server.connections == 1:
                await read_request(reader)
                asked += 1
                await asyncio.sleep(0.05 if when == "at once" else 0.2)
            else:
                await read_head(reader)

        async with Server(handler) as server:
            transport = Transport(5)
            first, second = post(server.url), post(server.url)
            assert await body_of(transport, first) == b"fine"
            if when == "at once":
                assert await body_of(transport, second) == b"fine"
                assert (asked, first.resent, second.resent) == (3, 0, 1)
            else:
                assert await code_of(transport, second) == "upstream_unreachable"
                assert (asked, second.resent, server.connections) == (2, 0, 1)
            await transport.close()

    run(main, loop)


@pytest.mark.parametrize("started", [b"H", OK, b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_nothing_is_sent_twice_once_an_answer_began(started):
    async def main():
        asked = []

        async def handler(reader, writer):
            while request := await read_request(reader):
                asked.append(request)
                writer.write(answer(b"fine") if len(asked) == 1 else started)
                if len(asked) > 1:
                    await writer.drain()
                    return

        async with Server(handler) as server:
            transport = Transport(5)
            assert await body_of(transport, post(server.url)) == b"fine"
            assert await code_of(transport, post(server.url)) == "upstream_cut"
            assert len(asked) == 2

    run(main)


def test_an_idle_connection_is_closed_after_its_time(monkeypatch):
    monkeypatch.setattr(transport_module, "SWEEP_SECONDS", 0.15)

    async def main():
        async with serving(lambda asked: answer()) as server:
            transport = Transport(5, Limits(idle_seconds=0.05))
            assert await body_of(transport, get(server.url)) == b"ok"
            await asyncio.sleep(0.1)
            assert await body_of(transport, get(server.url)) == b"ok"
            assert server.connections == 2
            await asyncio.sleep(0.3)
            assert open_count(transport) == 0
            assert idle_count(transport) == 0

    run(main)


def test_no_more_than_max_idle_connections_are_kept():
    async def main():
        async with serving(lambda asked: answer()) as server:
            transport = Transport(5, Limits(max_idle=3))
            await asyncio.gather(*[body_of(transport, get(server.url)) for _ in range(10)])
            await asyncio.sleep(0.01)
            assert open_count(transport) == 3
            await transport.close()

    run(main)


@both_loops
def test_a_large_body_that_nobody_reads_is_given_up(loop):
    async def main():
        async def handler(reader, writer):
            writer.transport.pause_reading()
            await asyncio.sleep(10)

        async with Server(handler) as server:
            transport = Transport(5, Limits(write_seconds=0.1))
            began = time.monotonic()
            with pytest.raises(GatewayError) as caught:
                await transport.open(post(server.url, b"x" * (32 << 20)))
            assert (caught.value.status, caught.value.code) == (504, "upstream_stalled")
            assert time.monotonic() - began < 3
            await asyncio.sleep(0.01)
            assert open_count(transport) == 0

    run(main, loop)


@both_loops
def test_connecting_has_its_own_limit_of_time_and_leaves_nothing(loop):
    async def main():
        before = open_sockets()
        # A listener whose backlog is full neither accepts nor refuses.
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            stuffed = []
            for _ in range(4):
                s = socket.socket()
                s.setblocking(False)
                s.connect_ex(full.getsockname())
                stuffed.append(s)
            transport = Transport(0.2)
            with pytest.raises(GatewayError) as caught:
                await transport.open(get(f"http://127.0.0.1:{full.getsockname()[1]}/"))
            assert (caught.value.status, caught.value.code) == (504, "upstream_timeout")
            assert open_count(transport) == 0
            for s in stuffed:
                s.close()
        await asyncio.sleep(0.01)
        assert open_sockets() == before

    run(main, loop)


@both_loops
def test_a_refused_connection_and_an_unknown_name_are_unreachable(loop):
    async def main():
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
            with pytest.raises(GatewayError, match="connection refused") as caught:
                await Transport(5).open(get(url))
            assert (caught.value.status, caught.value.code) == (502, "upstream_unreachable")
        with pytest.raises(GatewayError, match="no address") as caught:
            await Transport(5).open(get("http://no-such-host.invalid/"))
        assert (caught.value.status, caught.value.code) == (502, "upstream_unreachable")

    run(main, loop)


@both_loops
def test_closing_early_drops_the_connection_and_closing_twice_is_fine(loop):
    async def main():
        async with sending(OK + b"Content-Length: 10\r\n\r\n01", then="hang") as server:
            transport = Transport(5)
            response = await transport.open(get(server.url))
            await response.close()
            await response.close()
            with pytest.raises(GatewayError):
                while await response.read():
                    pass
            await asyncio.sleep(0.01)
            assert open_count(transport) == 0

    run(main, loop)


def test_a_response_that_is_forgotten_gives_its_socket_back_with_a_warning():
    async def main():
        async with sending(OK + b"Content-Length: 10\r\n\r\n01", then="hang") as server:
            transport = Transport(5)
            response = await transport.open(get(server.url))
            with pytest.warns(ResourceWarning, match="never closed"):
                del response
                gc.collect()
            await asyncio.sleep(0.01)
            assert open_count(transport) == 0

    run(main)


def test_closing_the_transport_ends_streams_with_an_error():
    async def main():
        async with sending(OK + b"Content-Length: 10\r\n\r\n01", then="hang") as server:
            transport = Transport(5)
            response = await transport.open(get(server.url))
            assert await response.read() == b"01"
            reading = asyncio.create_task(response.read())
            await asyncio.sleep(0)
            await transport.close()
            with pytest.raises(GatewayError):
                await reading
            assert open_count(transport) == 0
            with pytest.raises(GatewayError, match="shutting down"):
                await transport.open(get(server.url))

    run(main)


async def storm(loop_count: int, then_requests: int) -> None:
    """Requests of all kinds, each left at a random moment; then ordinary ones must be right."""

    async def handler(reader, writer):
        while asked := await read_request(reader):
            await asyncio.sleep(dice.random() * 0.003)
            kind = dice.randrange(4)
            body = asked.target.encode() + asked.body
            if kind == 0:
                writer.write(answer(body))
            elif kind == 1:
                writer.write(OK + b"Transfer-Encoding: chunked\r\n\r\n")
                for i in range(0, len(body), 5):
                    piece = body[i : i + 5]
                    writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                    await asyncio.sleep(0.0002)
                writer.write(b"0\r\n\r\n")
            elif kind == 2:
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                await asyncio.sleep(0.0005)
                writer.write(answer(body, "200 OK", "Connection: close"))
                return
            else:
                writer.write(answer(body)[:-1])
                await asyncio.sleep(0.0005)
                writer.write(body[-1:])

    dice = random.Random(7)

    async def upload(body: bytes):
        for i in range(0, len(body), 7):
            await asyncio.sleep(0.0002)
            yield body[i : i + 7]

    async def one(i: int) -> None:
        body = b"<%d>" % i * dice.randrange(1, 9)
        streamed = dice.randrange(4) == 0
        request = post(f"{server.url}/{i}", upload(body) if streamed else body)
        # Some may take their time: on a machine with much else to do the others all leave.
        async with asyncio.timeout(dice.random() * 0.05 if dice.randrange(4) else 30):
            got = await body_of(transport, request)
        assert got == b"/%d" % i + body

    before = open_sockets()
    async with Server(handler) as server:
        transport = Transport(5)
        pending: set[asyncio.Task[None]] = set()
        outcomes = {"done": 0, "left": 0}

        def account(task: asyncio.Task[None]) -> None:
            error = task.exception()
            assert error is None or isinstance(error, TimeoutError), error
            outcomes["left" if error else "done"] += 1

        for i in range(loop_count):
            pending.add(asyncio.create_task(one(i)))
            if len(pending) >= 50:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    account(task)
        for task in (await asyncio.wait(pending))[0]:
            account(task)
        await asyncio.sleep(0.05)
        idle = idle_count(transport)
        assert open_count(transport) == idle, "a connection is neither idle nor anybody's"
        assert outcomes["left"] > loop_count / 10 and outcomes["done"] > loop_count / 10, outcomes
        for i in range(then_requests):
            assert await body_of(transport, post(f"{server.url}/after", b"%d" % i)) == (
                b"/after%d" % i
            )
        await transport.close()
        assert open_count(transport) == 0
    await asyncio.sleep(0.1)
    assert open_sockets() == before
    assert len(asyncio.all_tasks()) == 1


@both_loops
def test_random_cancellations_leave_no_socket_and_no_wrong_answer(loop):
    run(lambda: storm(500, 100), loop)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_twenty_thousand_cancellations_leave_no_socket_and_no_wrong_answer():
    run(lambda: storm(20_000, 1_000))


@pytest.mark.parametrize("transport", ["own", "httpx"])
def test_one_switch_chooses_the_transport(transport):
    async def main():
        async with serving(echo) as server:
            clients = Clients(5, transport)
            response = await clients.open(post(server.url + "/x", b"y", ("A", "b")))
            assert type(response).__module__.endswith(".httpx_client") == (transport == "httpx")
            assert (await read_whole(response, 1000)).body == b"POST /x y"
            await clients.close()

    run(main)
