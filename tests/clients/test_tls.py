"""TLS: whom the transport trusts, what it offers, and how a cut line is told from an end."""

import asyncio
import ssl

import pytest

from app.clients import read_whole
from app.clients.connection_pool import Limits
from app.clients.tls import TLSContext, tls_context
from app.clients.transport import Transport
from app.wire.errors import GatewayError
from app.wire.upstream import UpstreamRequest
from tests.clients.raw_upstreams import (
    LOOPS,
    Authority,
    Server,
    answer,
    idle_count,
    open_count,
    open_sockets,
    read_request,
    run,
    serving,
)

both_loops = pytest.mark.parametrize("loop", LOOPS)


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def trust(authority, monkeypatch) -> TLSContext:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    return tls_context()


def get(url: str, **more) -> UpstreamRequest:
    return UpstreamRequest(method="GET", url=url, headers=[], **more)


async def body_of(transport: Transport, request: UpstreamRequest) -> bytes:
    return (await read_whole(await transport.open(request), 1 << 30)).body


@both_loops
def test_an_answer_comes_over_tls_and_the_connection_is_kept(loop, authority, trust):
    async def main():
        async with serving(lambda a: answer(b"x" * 300_000), authority.server()) as server:
            transport = Transport(5, tls=trust)
            for _ in range(5):
                assert await body_of(transport, get(server.url)) == b"x" * 300_000
            assert server.connections == 1
            tls = server.writers[0].get_extra_info("ssl_object")
            assert tls.selected_alpn_protocol() == "http/1.1"
            await transport.close()

    run(main, loop)


@both_loops
@pytest.mark.parametrize(
    "name,days,trusted,why",
    [
        ("localhost", 2, False, "unable to get local issuer|self.signed"),
        ("other.example", 2, True, "Hostname mismatch"),
        ("localhost", -1, True, "expired"),
    ],
)
def test_a_certificate_that_does_not_hold_is_an_error(
    loop, authority, trust, name, days, trusted, why
):
    async def main():
        before = open_sockets()
        async with serving(lambda a: answer(), authority.server(name, days)) as server:
            transport = Transport(5, tls=trust if trusted else None)
            with pytest.raises(GatewayError, match=why) as caught:
                await transport.open(get(server.url))
            assert (caught.value.status, caught.value.code) == (502, "upstream_unreachable")
            assert open_count(transport) == 0
        await asyncio.sleep(0.05)
        assert open_sockets() == before

    if not trusted:
        # The ordinary collection of authorities, whatever the environment of this run says.
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("SSL_CERT_FILE", raising=False)
            run(main, loop)
    else:
        run(main, loop)


@both_loops
def test_the_host_is_told_before_the_handshake(loop, authority, trust):
    async def main():
        names = []
        context = authority.server()
        context.sni_callback = lambda tls, name, _: names.append(name)
        async with serving(lambda a: answer(), context) as server:
            transport = Transport(5, tls=trust)
            await body_of(transport, get(server.url))
            assert names == ["localhost"]
            await transport.close()

    run(main, loop)


@both_loops
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_second_connection_resumes_the_session_of_the_first(loop, authority, trust, version):
    async def main():
        context = authority.server()
        context.maximum_version = version
        async with serving(lambda a: answer(), context) as server:
            transport = Transport(5, Limits(idle_seconds=0.01), tls=trust)
            for _ in range(3):
                assert await body_of(transport, get(server.url)) == b"ok"
                await asyncio.sleep(0.02)
            reused = [w.get_extra_info("ssl_object").session_reused for w in server.writers]
            assert reused == [False, True, True]
            await transport.close()

    run(main, loop)


@both_loops
def test_something_else_than_tls_is_unreachable(loop, trust):
    async def main():
        before = open_sockets()

        async def handler(reader, writer):
            await reader.read(100)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await writer.drain()

        async with Server(handler) as server:
            transport = Transport(5, tls=trust)
            with pytest.raises(GatewayError, match="TLS") as caught:
                await transport.open(get(f"https://localhost:{server.port}/"))
            assert caught.value.code == "upstream_unreachable"
        await asyncio.sleep(0.05)
        assert open_sockets() == before

    run(main, loop)


@both_loops
def test_a_handshake_that_hangs_falls_under_the_connect_timeout(loop, trust):
    async def main():
        before = open_sockets()

        async def handler(reader, writer):
            await reader.read()

        async with Server(handler) as server:
            transport = Transport(0.1, tls=trust)
            for _ in range(5):
                with pytest.raises(GatewayError) as caught:
                    await transport.open(get(f"https://localhost:{server.port}/"))
                assert (caught.value.status, caught.value.code) == (504, "upstream_timeout")
            assert open_count(transport) == 0
        await asyncio.sleep(0.05)
        assert open_sockets() == before

    run(main, loop)


@both_loops
@pytest.mark.parametrize("goodbye", [True, False])
def test_a_body_without_length_needs_tls_to_say_goodbye(loop, authority, trust, goodbye):
    async def main():
        async def handler(reader, writer):
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\n\r\nall?")
            await writer.drain()
            if goodbye:
                writer.close()
                await writer.wait_closed()
            else:
                await asyncio.sleep(0.05)
                writer.transport.abort()  # TCP ends, TLS does not

        async with Server(handler, authority.server()) as server:
            transport = Transport(5, tls=trust)
            if goodbye:
                assert await body_of(transport, get(server.url)) == b"all?"
            else:
                with pytest.raises(GatewayError) as caught:
                    await body_of(transport, get(server.url))
                assert caught.value.code == "upstream_cut"
            await asyncio.sleep(0.01)
            assert open_count(transport) == 0

    # The server's side on plain asyncio: how it closes is what is tested, not how uvloop does.
    run(main, loop)


@both_loops
def test_leaving_during_the_handshake_or_after_leaves_nothing(loop, authority, trust):
    async def main():
        before = open_sockets()
        async with serving(lambda a: answer(b"x" * 10_000), authority.server()) as server:
            transport = Transport(5, tls=trust)

            async def one(seconds: float) -> bool:
                try:
                    async with asyncio.timeout(seconds):
                        return await body_of(transport, get(server.url)) == b"x" * 10_000
                except TimeoutError:
                    return False

            done = await asyncio.gather(*[one(i / 1000) for i in range(100)])
            assert not all(done)
            await asyncio.sleep(0.05)
            assert open_count(transport) == idle_count(transport)
            assert await one(5)
            await transport.close()
        await asyncio.sleep(0.1)
        assert open_sockets() == before

    run(main, loop)
