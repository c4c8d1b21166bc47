"""Through http, https and socks5 proxies, with and without a password."""

import asyncio

import pytest

from app.clients import read_whole
from app.clients.address import parse_proxy
from app.clients.tls import tls_context
from app.clients.transport import Transport
from app.wire.errors import GatewayError
from app.wire.upstream import UpstreamRequest
from tests.clients.raw_upstreams import (
    LOOPS,
    Authority,
    HttpProxy,
    Server,
    SocksProxy,
    answer,
    idle_count,
    open_count,
    open_sockets,
    run,
    serving,
)

both_loops = pytest.mark.parametrize("loop", LOOPS)
SECRET = "p%40ss"  # "p@ss"


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def trust(authority, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    return tls_context()


def post(url: str, proxy: str) -> UpstreamRequest:
    return UpstreamRequest(method="POST", url=url, headers=[], body=b"body", proxy=proxy)


async def body_of(transport: Transport, request: UpstreamRequest) -> bytes:
    return (await read_whole(await transport.open(request), 1 << 30)).body


def echo(asked):
    assert asked.header("proxy-authorization") is None, "the proxy's password went to the upstream"
    return answer(asked.target.encode() + b" " + asked.body)


@both_loops
@pytest.mark.parametrize("password", [False, True])
@pytest.mark.parametrize("over_tls", [False, True])
def test_an_http_proxy_is_asked_with_the_whole_address(loop, authority, trust, password, over_tls):
    async def main():
        tls = authority.server() if over_tls else None
        async with HttpProxy("me:p@ss" if password else "", tls) as proxy:
            transport = Transport(5, tls=trust)
            url = proxy.url.replace("://", f"://me:{SECRET}@") if password else proxy.url
            for _ in range(3):
                got = await body_of(transport, post("http://up.invalid:81/x?y", url))
                assert got == b"up.invalid:81 /x?y body"
            assert proxy.connections == 1
            assert proxy.asked[0].target == "http://up.invalid:81/x?y"
            await transport.close()

    run(main, loop)


@both_loops
@pytest.mark.parametrize("password", [False, True])
@pytest.mark.parametrize("over_tls", [False, True])
def test_https_goes_through_a_tunnel(loop, authority, trust, password, over_tls):
    async def main():
        before = open_sockets()
        tls = authority.server() if over_tls else None
        async with (
            serving(echo, authority.server()) as server,
            HttpProxy("me:p@ss" if password else "", tls) as proxy,
        ):
            transport = Transport(5, tls=trust)
            url = proxy.url.replace("://", f"://me:{SECRET}@") if password else proxy.url
            for _ in range(3):
                assert await body_of(transport, post(server.url + "/x", url)) == b"/x body"
            assert (server.connections, proxy.connections) == (1, 1)
            assert proxy.asked[0].target == f"localhost:{server.port}"
            await transport.close()
        await asyncio.sleep(0.1)
        assert open_sockets() == before

    run(main, loop)


@both_loops
@pytest.mark.parametrize(
    ("scheme", "password"), [("socks5", False), ("socks5", True), ("socks5h", False)]
)
@pytest.mark.parametrize("tls", [False, True])
def test_a_socks5_proxy_gets_the_name_and_carries_both_kinds(
    loop, authority, trust, scheme, password, tls
):
    async def main():
        before = open_sockets()
        async with (
            serving(echo, authority.server() if tls else None) as server,
            SocksProxy("me", "p@ss") if password else SocksProxy() as proxy,
        ):
            transport = Transport(5, tls=trust)
            url = f"{scheme}://{f'me:{SECRET}@' if password else ''}127.0.0.1:{proxy.port}"
            origin = server.url.replace("127.0.0.1", "localhost")
            for _ in range(3):
                assert await body_of(transport, post(origin + "/x", url)) == b"/x body"
            assert proxy.asked == [("localhost", server.port)]
            assert server.connections == 1
            if not tls:
                assert await body_of(transport, post(server.url + "/y", url)) == b"/y body"
                assert proxy.asked[1] == ("127.0.0.1", server.port)
            await transport.close()
        await asyncio.sleep(0.1)
        assert open_sockets() == before

    run(main, loop)


@both_loops
@pytest.mark.parametrize("scheme", ["http", "https", "socks5"])
def test_a_wrong_password_is_unreachable_and_told_to_nobody(loop, authority, trust, scheme):
    async def main():
        before = open_sockets()
        if scheme == "socks5":
            proxy = SocksProxy("me", "right")
        else:
            proxy = HttpProxy("me:right", authority.server() if scheme == "https" else None)
        async with proxy:
            transport = Transport(5, tls=trust)
            host = (
                "127.0.0.1" if scheme == "socks5" else proxy.url.partition("://")[2].split(":")[0]
            )
            url = f"{scheme}://me:wrong-secret@{host}:{proxy.port}"
            with pytest.raises(GatewayError, match="proxy") as caught:
                await transport.open(post("https://localhost:1/", url))
            assert (caught.value.status, caught.value.code) == (502, "upstream_unreachable")
            told = repr(caught.value) + repr(caught.value.__cause__) + caught.value.message
            assert "secret" not in told
            assert open_count(transport) == 0
            if scheme != "socks5":
                response = await transport.open(post("http://up.invalid/", url))
                assert response.status == 407
                await response.close()
                await transport.close()
        await asyncio.sleep(0.05)
        assert open_sockets() == before

    run(main, loop)


@both_loops
@pytest.mark.parametrize("code", [1, 2, 5, 99])
def test_a_socks5_refusal_says_why(loop, code):
    async def main():
        async with SocksProxy(refuse=code) as proxy:
            with pytest.raises(GatewayError, match="proxy") as caught:
                await Transport(5).open(
                    post("http://x.invalid/", f"socks5h://127.0.0.1:{proxy.port}")
                )
            assert caught.value.code == "upstream_unreachable"

    run(main, loop)


@both_loops
@pytest.mark.parametrize("over_tls", [False, True])
@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 200 OK\r\n\r\nextra",
        b"HTTP/1.1 502 No\r\nContent-Length: 5\r\n\r\nsorry",
        b"HTTP/1.1 200 OK\nA: b\n\n",
        b"\x05\x00",
    ],
)
def test_a_proxy_that_misbehaves_is_refused(loop, authority, trust, over_tls, reply):
    async def main():
        before = open_sockets()

        async def handler(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(reply)
            await writer.drain()

        async with Server(handler, authority.server() if over_tls else None) as server:
            transport = Transport(5, tls=trust)
            with pytest.raises(GatewayError) as caught:
                await transport.open(post("https://localhost:1/", server.url))
            assert caught.value.code in ("upstream_unreachable", "upstream_bad_response")
            assert open_count(transport) == 0
        await asyncio.sleep(0.05)
        assert open_sockets() == before

    run(main, loop)


@both_loops
@pytest.mark.parametrize("scheme", ["http", "socks5", "https"])
def test_a_proxy_that_hangs_falls_under_the_connect_timeout(loop, trust, scheme):
    async def main():
        before = open_sockets()

        async def handler(reader, writer):
            await reader.read()

        async with Server(handler) as server:
            transport = Transport(0.1, tls=trust)
            with pytest.raises(GatewayError) as caught:
                await transport.open(
                    post("https://localhost:1/", f"{scheme}://127.0.0.1:{server.port}")
                )
            assert caught.value.code == "upstream_timeout"
            assert open_count(transport) == 0
        await asyncio.sleep(0.05)
        assert open_sockets() == before

    run(main, loop)


@both_loops
def test_a_proxy_that_is_not_there_is_named_as_the_cause(loop):
    async def main():
        async with serving(echo) as gone:
            pass
        with pytest.raises(GatewayError, match="proxy: connection refused"):
            await Transport(5).open(post("http://x/", f"http://127.0.0.1:{gone.port}"))

    run(main, loop)


@both_loops
def test_leaving_while_the_proxy_is_at_work_leaves_nothing(loop, authority, trust):
    async def main():
        before = open_sockets()
        async with (
            serving(echo, authority.server()) as server,
            HttpProxy() as plain,
            HttpProxy(tls=authority.server()) as encrypted,
            SocksProxy() as socks,
        ):
            transport = Transport(5, tls=trust)
            proxies = [plain.url, encrypted.url, f"socks5://127.0.0.1:{socks.port}"]

            async def one(i: int) -> bool:
                try:
                    async with asyncio.timeout(i / 500):
                        request = post(server.url + "/x", proxies[i % 3])
                        return await body_of(transport, request) == b"/x body"
                except TimeoutError:
                    return False

            await asyncio.gather(*[one(i) for i in range(90)])
            await asyncio.sleep(0.1)
            assert open_count(transport) == idle_count(transport)
            for i in range(3):
                assert await one(3000 + i)
            await transport.close()
        await asyncio.sleep(0.1)
        assert open_sockets() == before

    run(main, loop)


@pytest.mark.parametrize("url", ["", "x", "ftp://x:1", "http://", "socks4://x:1", "http://x:y"])
def test_a_proxy_address_that_is_none_is_a_clear_error(url):
    with pytest.raises(GatewayError, match="must be http://") as caught:
        parse_proxy(url)
    assert caught.value.code == "bad_proxy"


def test_a_proxy_never_shows_its_password():
    assert "pw" not in repr(parse_proxy("http://user:pw@host:1"))


def test_an_idle_connection_serves_nobody_with_another_way_out(authority, trust):
    # The Go original set a proxy on a client out of a pool, and put it back as it was.
    async def main():
        async with HttpProxy("") as one, HttpProxy("") as two, serving(echo) as upstream:
            transport = Transport(5, tls=trust)
            for _ in range(3):
                for proxy in (one.url, two.url, None):
                    request = UpstreamRequest(
                        method="POST", url=upstream.url + "/x", headers=[], body=b"b", proxy=proxy
                    )
                    await body_of(transport, request)
            assert (len(one.asked), len(two.asked)) == (3, 3)
            assert (one.connections, two.connections, upstream.connections) == (1, 1, 1)
            await transport.close()

    run(main)
