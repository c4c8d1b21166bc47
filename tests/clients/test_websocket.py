"""The websocket client on real sockets."""

import asyncio
import gc
import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from app.clients.websocket import WebSocketClient
from app.wire.errors import GatewayError
from app.wire.upstream import UpstreamRequest
from tests.clients.browser_upstreams import http_proxy, silent_server, socks5_proxy


def run(main: Callable[[], Awaitable[Any]], loop: str = "uvloop") -> None:
    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())  # type: ignore[arg-type]


def ask(port: int, *headers: tuple[str, str], host: str = "127.0.0.1", **more: Any) -> Any:
    return UpstreamRequest(
        method="GET",
        url=f"ws://{host}:{port}/chat?token=s3cret",
        headers=list(headers),
        via="websocket",
        **more,
    )


def port_of(server: Any) -> int:
    return int(next(iter(server.sockets)).getsockname()[1])


def test_messages_arrive_whole_and_what_is_said_first_is_said_first() -> None:
    async def upstream(socket: ServerConnection) -> None:
        assert socket.request is not None
        await socket.send(socket.request.headers["X-Mine"])
        for _ in range(2):
            await socket.send(await socket.recv())
        await socket.send("")  # means nothing, and must not look like the end
        await socket.send("é" * 100_000)
        await socket.send(await socket.recv())

    async def main() -> None:
        async with serve(upstream, "127.0.0.1", 0) as server:
            client = WebSocketClient(5)
            response = await client.open(
                ask(port_of(server), ("X-Mine", "yes"), messages=["first", b"\x00second"])
            )
            assert response.status == 101
            assert [await response.read() for _ in range(3)] == [b"yes", b"first", b"\x00second"]
            assert await response.read() == ("é" * 100_000).encode()
            await response.send("back")
            assert await response.read() == b"back"
            assert await response.read() == b""
            assert await response.read() == b""
            await response.close()
            await response.close()
            await client.close()

    run(main)


@pytest.mark.parametrize("code", [1001, 1011, 4000, None])
def test_any_other_ending_is_a_cut(code: int | None) -> None:
    async def upstream(socket: ServerConnection) -> None:
        await socket.send("a")
        if code is None:
            socket.transport.abort()
        else:
            await socket.close(code)

    async def main() -> None:
        async with serve(upstream, "127.0.0.1", 0) as server:
            client = WebSocketClient(5)
            response = await client.open(ask(port_of(server)))
            assert await response.read() == b"a"
            with pytest.raises(GatewayError) as cut:
                await response.read()
            assert cut.value.code == "upstream_cut"
            await response.close()
            await client.close()

    run(main)


def test_a_message_above_the_cap_is_refused() -> None:
    async def upstream(socket: ServerConnection) -> None:
        await socket.send(b"x" * (16 * 1024 * 1024 + 1))
        await socket.wait_closed()

    async def main() -> None:
        async with serve(upstream, "127.0.0.1", 0, compression=None) as server:
            client = WebSocketClient(5)
            response = await client.open(ask(port_of(server)))
            with pytest.raises(GatewayError):
                await response.read()
            await response.close()
            await client.close()

    run(main)


def test_a_refused_handshake_is_an_ordinary_answer_and_no_redirect_is_followed() -> None:
    async def upstream(socket: ServerConnection) -> None: ...

    def refuse(socket: ServerConnection, request: Request) -> Response:
        if request.headers.get("X-Go"):
            answer = socket.respond(302, "moved")  # type: ignore[arg-type]
            answer.headers["Location"] = "ws://127.0.0.1:1/"
            return answer
        return socket.respond(403, '{"detail":"no"}')  # type: ignore[arg-type]

    async def main() -> None:
        async with serve(upstream, "127.0.0.1", 0, process_request=refuse) as server:
            client = WebSocketClient(5)
            response = await client.open(ask(port_of(server)))
            assert (response.status, await response.read()) == (403, b'{"detail":"no"}')
            assert await response.read() == b""
            await response.close()
            moved = await client.open(ask(port_of(server), ("X-Go", "1")))
            assert moved.status == 302
            await client.close()

    run(main)


def test_a_subprotocol_is_offered_and_negotiated() -> None:
    async def upstream(socket: ServerConnection) -> None:
        await socket.send(socket.subprotocol or "none")

    async def main() -> None:
        async with serve(upstream, "127.0.0.1", 0, subprotocols=["b.v1"]) as server:  # type: ignore[list-item]
            client = WebSocketClient(5)
            response = await client.open(
                ask(port_of(server), ("Sec-WebSocket-Protocol", "a.v1, b.v1"))
            )
            assert await response.read() == b"b.v1"
            await response.close()
            await client.close()

    run(main)


def test_a_reader_that_does_not_read_stops_the_upstream() -> None:
    sent = 0

    async def upstream(socket: ServerConnection) -> None:
        nonlocal sent
        for _ in range(1000):
            await socket.send(b"x" * 64_000)
            sent += 64_000

    async def main() -> None:
        async with serve(upstream, "127.0.0.1", 0, compression=None) as server:
            client = WebSocketClient(5)
            response = await client.open(ask(port_of(server)))
            await asyncio.sleep(0.3)
            assert sent < 20_000_000
            got = 0
            while piece := await response.read():
                got += len(piece)
            assert got == 64_000_000
            await response.close()
            await client.close()

    run(main)


def test_proxies_carry_it_and_names_are_looked_up_there() -> None:
    async def upstream(socket: ServerConnection) -> None:
        await socket.send("hi")

    async def main() -> None:
        async with (
            serve(upstream, "127.0.0.1", 0) as server,
            http_proxy() as (http_port, http_seen),
            socks5_proxy() as (socks_port, socks_seen),
        ):
            client = WebSocketClient(5)
            port = port_of(server)
            for request in (
                ask(port, proxy=f"http://anna:pw@127.0.0.1:{http_port}"),
                ask(port, host="there.example", proxy=f"socks5://ben:pw@127.0.0.1:{socks_port}"),
                ask(port, host="there.example", proxy=f"socks5h://ida:pw@127.0.0.1:{socks_port}"),
            ):
                response = await client.open(request)
                assert await response.read() == b"hi"
                await response.close()
            assert [t.user for t in http_seen] == ["anna"]
            assert [(t.user, t.target) for t in socks_seen] == [
                (user, f"there.example:{port}") for user in ("ben", "ida")
            ]
            await client.close()

    run(main)


def test_failures_name_no_address() -> None:
    async def main() -> None:
        client = WebSocketClient(0.3)
        server = await silent_server()
        for request, status, code in (
            (ask(1), 502, "upstream_unreachable"),
            (ask(1, proxy="http://u:passw0rd@127.0.0.1:1"), 502, "upstream_unreachable"),
            (ask(1, proxy="socks5://u:passw0rd@127.0.0.1:1"), 502, "upstream_unreachable"),
            (ask(1, ("x", "a\r\nb: c")), 400, "bad_header"),
            (ask(port_of(server)), 504, "upstream_timeout"),
            (UpstreamRequest(method="GET", url="wat://s3cret", headers=[]), 400, "bad_path"),
        ):
            with pytest.raises(GatewayError) as failed:
                await client.open(request)
            assert (failed.value.status, failed.value.code) == (status, code)
            assert "s3cret" not in str(failed.value) and "passw0rd" not in str(failed.value)
            assert failed.value.__suppress_context__ or failed.value.__context__ is None
        await client.close()
        server.close()
        await asyncio.sleep(0.05)

    run(main)


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("phase", ["handshake", "silence", "messages"])
def test_leaving_in_any_phase_leaves_nothing(phase: str, loop: str) -> None:
    _leaving(phase, loop, rounds=2)


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("phase", ["handshake", "silence", "messages"])
def test_500_leaving_callers_leave_nothing(phase: str, loop: str) -> None:
    _leaving(phase, loop, rounds=10)


def _leaving(phase: str, loop: str, rounds: int) -> None:
    open_upstream = 0

    async def upstream(socket: ServerConnection) -> None:
        nonlocal open_upstream
        open_upstream += 1
        try:
            while phase == "messages":
                await socket.send("x" * 1000)
                await asyncio.sleep(0.002)
            await socket.wait_closed()
        finally:
            open_upstream -= 1

    async def caller(client: WebSocketClient, port: int) -> None:
        response = await client.open(ask(port))
        try:
            while await response.read():
                pass
        finally:
            await response.close()

    async def main() -> None:
        async with serve(upstream, "127.0.0.1", 0) as server:
            silent = await silent_server()
            port = port_of(silent if phase == "handshake" else server)
            client = WebSocketClient(10)
            gc.collect()
            fds = len(os.listdir("/proc/self/fd"))
            for _ in range(rounds):
                callers = [asyncio.create_task(caller(client, port)) for _ in range(50)]
                await asyncio.sleep(0.25)
                for task in callers:
                    task.cancel()
                done, _ = await asyncio.wait(callers, timeout=20)
                assert len(done) == 50
                async with asyncio.timeout(20):
                    while open_upstream:
                        await asyncio.sleep(0.01)
            assert not client._open  # private: one that nobody closed shows nowhere else
            await asyncio.sleep(0.1)
            gc.collect()
            assert len(os.listdir("/proc/self/fd")) <= fds + 2
            await client.close()
            silent.close()

    run(main, loop)
