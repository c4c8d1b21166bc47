"""The browser client on real sockets: streaming, backpressure, leaving early, and no mixing."""

import asyncio
import gc
import os
import random
import threading
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvloop

from app.clients import read_whole
from app.clients.browser import PAUSE_ABOVE, BrowserClient
from app.wire.errors import GatewayError
from app.wire.upstream import UpstreamRequest
from tests.clients.browser_upstreams import (
    Asked,
    Upstream,
    answer,
    http_proxy,
    silent_server,
    socks5_proxy,
    until_peer_left,
)

PHASES = ["connecting", "headers", "body", "unread body", "upload"]
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def run(main: Callable[[], Awaitable[Any]], loop: str = "uvloop") -> None:
    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())  # type: ignore[arg-type]


def get(url: str, *headers: tuple[str, str], **more: Any) -> UpstreamRequest:
    return UpstreamRequest(method="GET", url=url, headers=list(headers), via="browser", **more)


def post(url: str, body: Any, *headers: tuple[str, str], **more: Any) -> UpstreamRequest:
    return UpstreamRequest(
        method="POST", url=url, headers=list(headers), body=body, via="browser", **more
    )


async def echo(asked: Asked, writer: asyncio.StreamWriter) -> None:
    answer(writer, asked.body or asked.target.encode())


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_an_answer_keeps_its_status_repeated_headers_and_body(loop: str) -> None:
    async def handler(asked: Asked, writer: asyncio.StreamWriter) -> None:
        answer(
            writer,
            b"no",
            "404 Not Found",
            (("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-Odd", " spaced ")),
        )

    async def main() -> None:
        async with Upstream(handler) as upstream:
            client = BrowserClient(5)
            response = await client.open(get(upstream.url + "/x"))
            assert response.status == 404
            assert [v for n, v in response.headers if n == "set-cookie"] == ["a=1", "b=2"]
            assert ("x-odd", "spaced") in response.headers
            assert await response.read() == b"no"
            assert await response.read() == b""
            await response.close()
            await response.close()
            await client.close()

    run(main, loop)


def test_it_looks_like_a_script_in_a_browser_and_the_requests_own_headers_win() -> None:
    async def main() -> None:
        async with Upstream(echo) as upstream:
            client = BrowserClient(5)
            for headers in ((), (("User-Agent", "mine/1"), ("accept", "text/event-stream"))):
                response = await client.open(get(upstream.url, *headers))
                await response.close()
            await client.close()
            plain, own = upstream.asked
            assert "Chrome/" in (plain.header("user-agent") or "")
            assert "Chromium" in (plain.header("sec-ch-ua") or "")
            assert plain.header("sec-fetch-mode") == "cors"
            assert plain.header("upgrade-insecure-requests") is None
            assert plain.header("sec-fetch-user") is None
            assert plain.header("cookie") is None
            assert own.header("user-agent") == "mine/1"
            assert own.header("accept") == "text/event-stream"

    run(main)


def test_methods_bodies_and_paths_arrive_as_they_were_given() -> None:
    big = random.Random(1).randbytes(3_000_000)

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(big), 100_000):
            yield big[at : at + 100_000]
            await asyncio.sleep(0)

    async def main() -> None:
        async with Upstream(echo) as upstream:
            client = BrowserClient(5)
            raw = "/a/../b/%2E%2E/c%20d?sig=a%2fb+c&x=%e4%E4"
            assert (await read_whole(await client.open(get(upstream.url + raw)), 100)).body == (
                raw.encode()
            )
            for request in (
                post(upstream.url, big, ("content-type", "x/y")),
                post(upstream.url, pieces()),
                post(upstream.url, pieces(), ("Content-Length", str(len(big)))),
            ):
                assert (await read_whole(await client.open(request), 1 << 22)).body == big
            for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
                request = UpstreamRequest(method=method, url=upstream.url, headers=[])
                await (await client.open(request)).close()
                assert upstream.asked[-1].method == method
            await (await client.open(post(upstream.url, b""))).close()
            assert upstream.asked[-1].header("content-length") == "0"
            await (await client.open(post(upstream.url, None))).close()
            assert upstream.asked[-1].header("content-length") == "0"
            assert upstream.asked[1].header("content-type") == "x/y"
            assert upstream.asked[2].header("content-type") is None
            assert upstream.asked[2].header("expect") is None
            assert upstream.asked[2].header("transfer-encoding") == "chunked"
            assert upstream.asked[3].header("transfer-encoding") is None
            await client.close()

    run(main)


def test_head_has_headers_and_no_body() -> None:
    async def handler(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")

    async def main() -> None:
        async with Upstream(handler) as upstream:
            client = BrowserClient(5)
            request = UpstreamRequest(method="HEAD", url=upstream.url, headers=[])
            response = await client.open(request)
            assert ("content-length", "5000") in response.headers
            assert await response.read() == b""
            await response.close()
            await client.close()

    run(main)


def test_an_interim_answer_is_not_the_answer() -> None:
    async def handler(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
        await asyncio.sleep(0.05)
        answer(writer, b"late")

    async def main() -> None:
        async with Upstream(handler) as upstream:
            client = BrowserClient(5)
            response = await client.open(get(upstream.url))
            assert (response.status, dict(response.headers).get("link")) == (200, None)
            assert await response.read() == b"late"
            await client.close()

    run(main)


def test_a_compressed_body_arrives_plain_and_the_headers_say_so() -> None:
    async def handler(asked: Asked, writer: asyncio.StreamWriter) -> None:
        z = zlib.compressobj(wbits=31)
        body = z.compress(b"a" * 10_000) + z.flush()
        answer(writer, body, headers=(("Content-Encoding", "gzip"),))

    async def main() -> None:
        async with Upstream(handler) as upstream:
            client = BrowserClient(5)
            response = await client.open(get(upstream.url, ("accept-encoding", "identity")))
            assert {"content-encoding", "content-length"}.isdisjoint(dict(response.headers))
            assert (await read_whole(response, 20_000)).body == b"a" * 10_000
            assert "br" in (upstream.asked[0].header("accept-encoding") or "")
            await client.close()

    run(main)


def test_redirects_are_answers() -> None:
    async def handler(asked: Asked, writer: asyncio.StreamWriter) -> None:
        answer(writer, b"", "302 Found", (("Location", "/elsewhere"),))

    async def main() -> None:
        async with Upstream(handler) as upstream:
            client = BrowserClient(5)
            assert (await client.open(post(upstream.url, b"x"))).status == 302
            await client.close()
            assert len(upstream.asked) == 1

    run(main)


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_reader_that_does_not_read_stops_the_upstream(loop: str) -> None:
    sent = 0

    async def handler(asked: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.transport.set_write_buffer_limits(high=65536)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 64000000\r\n\r\n")
        for _ in range(1000):
            writer.write(b"x" * 64000)
            await writer.drain()
            sent += 64000

    async def main() -> None:
        async with Upstream(handler) as upstream:
            client = BrowserClient(5)
            response = await client.open(get(upstream.url))
            await asyncio.sleep(0.4)
            assert sent < 16_000_000  # what the kernel's buffers hold
            # Private: how much a response holds is no part of its interface.
            assert response._buffered <= PAUSE_ABOVE + 16384
            got = 0
            while piece := await response.read():
                got += len(piece)
            assert got == 64_000_000
            await client.close()

    run(main, loop)


def test_a_broken_body_is_told_as_cut() -> None:
    async def handler(asked: Asked, writer: asyncio.StreamWriter) -> bool:
        if asked.target == "/chunked":
            writer.write(CHUNKED + b"3\r\nabc\r\n")
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        return True

    async def main() -> None:
        async with Upstream(handler) as upstream:
            client = BrowserClient(5)
            for path in ("/chunked", "/sized"):
                response = await client.open(get(upstream.url + path))
                assert await response.read() == b"abc"
                with pytest.raises(GatewayError) as cut:
                    await response.read()
                assert cut.value.code == "upstream_cut"
                await response.close()
            await client.close()

    run(main)


def test_what_cannot_be_reached_is_502_and_names_no_address() -> None:
    async def main() -> None:
        client = BrowserClient(5)
        for request in (
            get("http://127.0.0.1:1/secret"),
            get("http://127.0.0.1:1/", proxy="http://u:passw0rd@127.0.0.1:1"),
            get("http://127.0.0.1:1/", proxy="socks5://u:passw0rd@127.0.0.1:1"),
        ):
            with pytest.raises(GatewayError) as failed:
                await client.open(request)
            assert (failed.value.status, failed.value.code) == (502, "upstream_unreachable")
            assert "secret" not in str(failed.value) and "passw0rd" not in str(failed.value)
        await client.close()

    run(main)


def test_a_connect_that_takes_too_long_is_504() -> None:
    async def main() -> None:
        server = await silent_server()
        port = server.sockets[0].getsockname()[1]
        client = BrowserClient(0.2)
        with pytest.raises(GatewayError) as failed:
            await client.open(get(f"https://127.0.0.1:{port}/"))  # TLS that never answers
        assert (failed.value.status, failed.value.code) == (504, "upstream_timeout")
        await client.close()
        server.close()
        await asyncio.sleep(0.05)

    run(main)


@pytest.mark.parametrize(
    "request_",
    [
        get("http://127.0.0.1:1/", ("x", "a\r\nHost: evil")),
        get("http://127.0.0.1:1/", ("x\r\nHost", "evil")),
        get("http://127.0.0.1:1/", ("x", "a\0b")),
        get("file:///etc/passwd"),
        get("gopher://127.0.0.1:1/"),
        get("http://127.0.0.1:1/\r\nx"),
        get("http://127.0.0.1:1/\ud800"),
        get("nonsense"),
    ],
)
def test_what_could_smuggle_something_is_refused(request_: UpstreamRequest) -> None:
    async def main() -> None:
        client = BrowserClient(1)
        with pytest.raises(GatewayError) as refused:
            await client.open(request_)
        assert refused.value.status in (400, 502)
        assert refused.value.code in ("bad_header", "bad_path", "upstream_unreachable")
        await client.close()

    run(main)


def test_an_upload_that_fails_ends_the_request_with_its_own_error() -> None:
    async def too_large() -> AsyncIterator[bytes]:
        yield b"x" * 1000
        raise GatewayError(413, "too large", code="too_large")

    async def main() -> None:
        async with Upstream(echo) as upstream:
            client = BrowserClient(5)
            with pytest.raises(GatewayError) as failed:
                await client.open(post(upstream.url, too_large()))
            assert failed.value.code == "too_large"
            await upstream.all_gone(1)
            await client.close()

    run(main)


def test_an_answer_before_the_end_of_the_upload_is_given_at_once() -> None:
    asked_for = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal asked_for
        while True:
            asked_for += 1
            yield b"x" * 1000
            await asyncio.sleep(0.01)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        answer(writer, b"", "413 Too Large", (("Connection", "close"),))
        await writer.drain()
        await reader.read(1000)
        await asyncio.sleep(0.1)
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        client = BrowserClient(5)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with asyncio.timeout(2):
            response = await client.open(post(url, endless()))
        assert response.status == 413
        await response.close()
        before = asked_for
        await asyncio.sleep(0.1)
        assert asked_for == before  # nobody reads the caller any more
        await client.close()
        server.close()

    run(main)


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("phase", PHASES)
def test_leaving_in_any_phase_closes_the_upstream_and_leaves_nothing(phase: str, loop: str) -> None:
    _leaving(phase, loop, rounds=2)


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("phase", PHASES)
def test_500_leaving_callers_leave_nothing(phase: str, loop: str) -> None:
    _leaving(phase, loop, rounds=10)


def _leaving(phase: str, loop: str, rounds: int) -> None:
    """50 callers at a time that leave in the middle."""

    async def handler(asked: Asked, writer: asyncio.StreamWriter) -> bool:
        if phase == "headers":
            await asyncio.sleep(30)
        writer.write(CHUNKED)
        await until_peer_left(writer)
        return True

    async def slow() -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            await asyncio.sleep(0.01)

    async def caller(client: BrowserClient, url: str) -> None:
        request = post(url, slow()) if phase == "upload" else get(url)
        response = await client.open(request)
        try:
            while phase == "body":
                assert await response.read()
            await asyncio.sleep(30)
        finally:
            await response.close()

    async def main() -> None:
        async with Upstream(handler) as upstream:
            tls = await silent_server()
            url = upstream.url
            if phase == "connecting":
                url = f"https://127.0.0.1:{tls.sockets[0].getsockname()[1]}"
            client = BrowserClient(20)
            try:
                gc.collect()
                fds, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
                for _ in range(rounds):
                    callers = [asyncio.create_task(caller(client, url)) for _ in range(50)]
                    await asyncio.sleep(0.15)
                    for task in callers:
                        task.cancel()
                    done, _ = await asyncio.wait(callers, timeout=4)
                    assert len(done) == 50
                    if phase != "headers":  # whose handler sleeps and does not look
                        await upstream.all_gone(4)
                # Private: what curl_cffi still holds shows nowhere else.
                (pool,) = client._pools.values()
                assert not pool.open
                assert not pool.curl._curl2future and not pool.curl._curl2curl
                assert not pool.curl._sockfds - {-1}
                for task in asyncio.all_tasks():
                    if task.get_coro().__qualname__ == "Upstream._serve":  # type: ignore[union-attr]
                        task.cancel()
                gc.collect()
                for _ in range(40):  # a busy machine takes its time
                    await asyncio.sleep(0.1)
                    if len(os.listdir("/proc/self/fd")) <= fds + 2:
                        break
                assert len(os.listdir("/proc/self/fd")) <= fds + 2
                assert threading.active_count() == threads
                assert len(os.listdir("/proc/self/task")) < 20
            finally:  # uvloop would wait for open transfers without end
                await client.close()
                tls.close()

    run(main, loop)


def test_closing_the_client_tells_open_readers() -> None:
    async def handler(asked: Asked, writer: asyncio.StreamWriter) -> bool:
        writer.write(CHUNKED + b"1\r\n.\r\n")
        await writer.drain()
        await asyncio.sleep(0.3)
        return True

    async def main() -> None:
        async with Upstream(handler) as upstream:
            client = BrowserClient(5)
            response = await client.open(get(upstream.url))
            assert await response.read() == b"."
            waiting = asyncio.create_task(response.read())
            await asyncio.sleep(0)
            await client.close()
            with pytest.raises(GatewayError) as cut:
                await waiting
            assert cut.value.code == "upstream_cut"
            await response.close()

    run(main)


async def _interleaved(count: int, at_once: int) -> None:
    """Every caller sees its own key, cookie and proxy, whatever the upstream tries to plant."""

    async def handler(asked: Asked, writer: asyncio.StreamWriter) -> None:
        who = asked.target.rpartition("/")[2]
        seen = "|".join(
            asked.header(name) or "-" for name in ("authorization", "cookie", "x-proxy-user")
        )
        await asyncio.sleep(random.random() * 0.01)
        answer(
            writer,
            f"{who}|{seen}".encode(),
            headers=(
                ("Set-Cookie", f"stolen={who}; Path=/"),
                ("Set-Cookie", f"session={who}; Path=/; Domain=127.0.0.1"),
            ),
        )

    async with Upstream(handler) as upstream, http_proxy() as (proxy_port, _):
        client = BrowserClient(20)
        gate = asyncio.Semaphore(at_once)

        async def caller(number: int) -> None:
            # Ten ways out: nine users of one proxy, and none.
            user = f"user{number % 10}" if number % 10 else "-"
            proxy = f"http://{user}:pw@127.0.0.1:{proxy_port}" if number % 10 else None
            cookie = f"mine={number}" if number % 3 else "-"
            headers = [("authorization", f"Bearer key-{number}")]
            if number % 3:
                headers.append(("cookie", cookie))
            async with gate:
                response = await client.open(
                    get(f"{upstream.url}/who/{number}", *headers, proxy=proxy)
                )
                reply = await read_whole(response, 1000)
            assert reply.body.decode() == f"{number}|Bearer key-{number}|{cookie}|{user}"

        await asyncio.gather(*(caller(number) for number in range(count)))
        await client.close()


def test_500_interleaved_callers_never_see_each_others_key_cookie_or_proxy() -> None:
    run(lambda: _interleaved(500, 50))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_10000_interleaved_callers_never_see_each_others_key_cookie_or_proxy() -> None:
    run(lambda: _interleaved(10_000, 100))


def test_a_tunnel_is_never_shared_between_two_users_of_one_proxy() -> None:
    # An https address is tunnelled; the handshake fails after it, which is enough to see who asked.
    async def main() -> None:
        async with Upstream(echo) as upstream, http_proxy() as (port, seen):
            client = BrowserClient(0.2)
            for user in ("anna", "ben", "anna"):
                with pytest.raises(GatewayError):
                    await client.open(
                        get(
                            f"https://127.0.0.1:{upstream.port}/",
                            proxy=f"http://{user}:pw@127.0.0.1:{port}",
                        )
                    )
            assert [tunnel.user for tunnel in seen] == ["anna", "ben", "anna"]
            assert len(client._pools) == 2  # private: no handshake succeeds to show it
            await client.close()

    run(main)


def test_socks5_asks_the_proxy_to_look_names_up_and_keeps_its_users_apart() -> None:
    async def main() -> None:
        async with Upstream(echo) as upstream, socks5_proxy() as (port, seen):
            client = BrowserClient(5)
            for scheme, user in (("socks5", "anna"), ("socks5h", "ben")):
                request = get(
                    f"http://only-the-proxy-knows.example:{upstream.port}/p",
                    proxy=f"{scheme}://{user}:p%40ss@127.0.0.1:{port}",
                )
                assert (await read_whole(await client.open(request), 100)).body == b"/p"
            name = f"only-the-proxy-knows.example:{upstream.port}"
            assert [(t.user, t.target) for t in seen] == [("anna", name), ("ben", name)]
            await client.close()

    run(main)


def test_an_https_proxy_is_spoken_to_in_tls_and_told_nothing_without_it() -> None:
    async def main() -> None:
        heard: list[bytes] = []

        async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.append(await reader.read(4096))
            writer.close()

        server = await asyncio.start_server(listen, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        client = BrowserClient(5)
        with pytest.raises(GatewayError) as failed:
            await client.open(
                get("http://up.example/", proxy=f"https://u:passw0rd@127.0.0.1:{port}")
            )
        assert (failed.value.status, failed.value.code) == (502, "upstream_unreachable")
        assert heard and all(first[:2] == b"\x16\x03" for first in heard)  # a TLS handshake
        await client.close()
        server.close()
        await server.wait_closed()

    run(main)


def test_the_environments_proxies_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "*")

    async def main() -> None:
        async with Upstream(echo) as upstream, http_proxy() as (port, seen):
            client = BrowserClient(5)
            await (await client.open(get(upstream.url))).close()
            request = get(upstream.url + "/via", proxy=f"http://u:p@127.0.0.1:{port}")
            await (await client.open(request)).close()
            assert [t.user for t in seen] == ["u"]  # no_proxy does not bypass what was asked for
            await client.close()

    run(main)


def test_a_connection_is_used_again_after_a_whole_answer() -> None:
    async def main() -> None:
        async with Upstream(echo) as upstream:
            client = BrowserClient(5)
            for number in range(5):
                response = await client.open(get(f"{upstream.url}/{number}"))
                await read_whole(response, 100)
            assert upstream.connections == 1
            await client.close()

    run(main)


def test_idle_pools_make_room_for_other_proxies() -> None:
    async def main() -> None:
        async with Upstream(echo) as upstream, http_proxy() as (port, _):
            client = BrowserClient(5)
            for number in range(40):
                request = get(upstream.url, proxy=f"http://u{number}:p@127.0.0.1:{port}")
                await read_whole(await client.open(request), 100)
            assert len(client._pools) <= 32  # private: idle pools show nowhere else
            await client.close()

    run(main)
