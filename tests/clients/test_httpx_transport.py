"""httpx's API over our transport: the same answers, timeouts and exceptions."""

import asyncio

import httpx
import pytest

from app.clients.httpx_transport import HttpxTransport
from app.clients.transport import Limits, Transport
from tests.clients.raw_upstreams import (
    LOOPS,
    HttpProxy,
    Server,
    answer,
    read_head,
    read_request,
    run,
    serving,
)

both_loops = pytest.mark.parametrize("loop", LOOPS)


def client(limits: Limits | None = None, proxy: str | None = None, **more) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=HttpxTransport(Transport(5, limits), proxy), **more)


def echo(asked):
    return answer(
        f"{asked.method} {asked.target} {asked.header('x-a')} ".encode() + asked.body,
        "201 Made",
        "Set-Cookie: a=b",
        "Set-Cookie: c=d",
        "X-B: \xe9",
    )


@both_loops
def test_a_request_and_its_response_look_as_httpx_makes_them(loop):
    async def main():
        async with serving(echo) as server, client() as http:
            for _ in range(3):
                url = server.url.replace("://", "://user:password@") + "/é?q=ü"
                got = await http.post(url, json={"a": 1}, headers={"X-A": "y"})
                assert (got.status_code, got.reason_phrase) == (201, "Made")
                assert got.content == b'POST /%C3%A9?q=%C3%BC y {"a":1}'
                assert got.headers.get_list("set-cookie") == ["a=b", "c=d"]
                assert got.headers["x-b"] == "é"
                assert got.http_version == "HTTP/1.1"
            assert server.connections == 1

    run(main, loop)


@both_loops
def test_streams_travel_both_ways(loop):
    async def main():
        async def upload():
            yield b"one "
            await asyncio.sleep(0.01)
            yield b"two"

        async with serving(echo) as server, client() as http:
            async with http.stream("PUT", server.url + "/x", content=upload()) as response:
                pieces = [piece async for piece in response.aiter_raw()]
            assert b"".join(pieces) == b"PUT /x None one two"
            async with http.stream("GET", server.url + "/y"):
                pass  # never read
            assert (await http.get(server.url + "/z")).content == b"GET /z None "

    run(main, loop)


@both_loops
def test_redirects_cookies_and_head_are_httpxs_own(loop):
    async def main():
        def reply(asked):
            if asked.target == "/from":
                return answer(b"", "302 Found", "Location: /to", "Set-Cookie: k=v")
            body = f"{asked.target} {asked.header('cookie')}".encode()
            whole = answer(body)
            return whole[: -len(body)] if asked.method == "HEAD" else whole

        async with serving(reply) as server, client(follow_redirects=True) as http:
            assert (await http.get(server.url + "/from")).text == "/to k=v"
            got = await http.head(server.url + "/x")
            assert (got.status_code, got.content) == (200, b"")
            assert got.headers["content-length"] == "6"
            assert server.connections == 1

    run(main, loop)


@both_loops
def test_timeouts_raise_what_httpx_raises(loop):
    async def main():
        async def silent(reader, writer):
            reader._transport.pause_reading()
            await asyncio.sleep(10)

        async def half(reader, writer):
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")
            await asyncio.sleep(10)

        def timeout(**more):
            return httpx.Timeout(None, **more)

        async with Server(silent) as mute, Server(half) as slow:
            async with client() as http:
                with pytest.raises(httpx.ReadTimeout):
                    await http.get(mute.url, timeout=timeout(read=0.05))
                with pytest.raises(httpx.WriteTimeout):
                    big = b"x" * (32 << 20)
                    await http.post(mute.url, content=big, timeout=timeout(write=0.1))
                with pytest.raises(httpx.ReadTimeout):
                    await http.get(slow.url, timeout=timeout(read=0.1))
                with pytest.raises(httpx.ConnectTimeout):
                    url = f"https://127.0.0.1:{mute.port}/"
                    await http.get(url, timeout=timeout(connect=0.1))
            async with client(Limits(max_connections=1)) as http, http.stream("GET", slow.url):
                with pytest.raises(httpx.PoolTimeout):
                    await http.get(slow.url, timeout=timeout(pool=0.05))

    run(main, loop)


@both_loops
def test_a_long_upload_is_not_a_slow_answer(loop):
    async def main():
        async def upload():
            for _ in range(10):
                await asyncio.sleep(0.03)
                yield b"x"

        async with serving(lambda asked: answer(asked.body)) as server, client() as http:
            got = await http.post(server.url, content=upload(), timeout=httpx.Timeout(0.15))
            assert got.content == b"x" * 10

    run(main, loop)


@both_loops
def test_failures_raise_what_httpx_raises(loop):
    async def main():
        async def cut(reader, writer):
            asked = await read_head(reader)
            replies = {
                "/cut": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",
                "/bad": b"HTTP/1.1 200 OK\nContent-Length: 5\n\nab",
                "/none": b"",
            }
            writer.write(replies[asked.target])
            await writer.drain()

        async with Server(cut) as server, client() as http:
            with pytest.raises(httpx.ReadError):
                await http.get(server.url + "/cut")
            with pytest.raises(httpx.RemoteProtocolError):
                await http.get(server.url + "/bad")
            with pytest.raises(httpx.ConnectError):
                await http.get(server.url + "/none")
            with pytest.raises(httpx.LocalProtocolError):
                await http.get(server.url, headers={"A": "b\r\nC: d"})
        async with client() as http:
            with pytest.raises(httpx.ConnectError):
                await http.get(server.url)

    run(main, loop)


def test_a_proxy_is_given_with_the_transport():
    async def main():
        async with (
            HttpProxy("me:pw") as proxy,
            client(proxy=proxy.url.replace("://", "://me:pw@")) as http,
        ):
            assert (await http.get("http://up.invalid/x")).text == "up.invalid /x "

    run(main)
