"""What this machine has run out of is no key's fault, and no upstream's."""

import asyncio
import errno
import os
import resource
import socket

import pytest

from app.clients.address import parse_target
from app.clients.browser import BrowserClient
from app.clients.proxies import dial
from app.clients.shortage import shortage
from app.clients.transport import Transport
from app.clients.websocket import WebSocketClient
from app.pool.outcomes import Outcome, of_error
from app.wire.errors import GatewayError
from app.wire.upstream import UpstreamRequest
from tests.engine.test_failover import Bench, good, refusal
from tests.engine.test_reverse_proxy import ForwardBench
from tests.pool.pool_bench import POOL, is_down


@pytest.fixture
def no_descriptor_left():
    """None can be opened while it lasts; the loop must run already."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    class Shortage:
        def __enter__(self):
            taken = max(int(name) for name in os.listdir("/proc/self/fd"))
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(taken, soft), hard))
            self.taken = []
            while True:
                try:
                    self.taken.append(os.open(os.devnull, os.O_RDONLY))
                except OSError:
                    return

        def __exit__(self, *_):
            for one in self.taken:
                os.close(one)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    yield Shortage()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def request(url):
    return UpstreamRequest(method="GET", url=url, headers=[])


async def by_transport(url):
    transport = Transport(2.0)
    try:
        await transport.open(request(url))
    finally:
        await transport.close()


async def by_browser(url, client):
    await client.open(request(url))


async def by_websocket(url):
    await WebSocketClient(2.0).open(request(url.replace("http", "ws", 1)))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("proxy", [None, "http://127.0.0.1:9", "socks5://127.0.0.1:9"])
def test_dialing_without_a_descriptor_is_our_own_failure(no_descriptor_left, host, proxy):
    async def run():
        await asyncio.get_running_loop().getaddrinfo("localhost", 1)  # its thread is there now
        with no_descriptor_left:
            await dial(parse_target(f"http://{host}:9", proxy), asyncio.Protocol, None)

    check(run)


@pytest.mark.parametrize("by", [by_transport, by_websocket])
def test_every_client_says_so(no_descriptor_left, by):
    async def run():
        with no_descriptor_left:
            await by("http://127.0.0.1:9/x")

    check(run)


def test_the_browser_says_so_too(no_descriptor_left):
    async def run():
        client = BrowserClient(2.0)
        try:
            with pytest.raises(GatewayError):  # its own sockets are there from now on
                await by_browser("http://127.0.0.1:9/x", client)
            with no_descriptor_left:
                await by_browser("http://127.0.0.1:9/x", client)
        finally:
            await client.close()

    check(run)


def check(run):
    with pytest.raises(GatewayError) as caught:
        asyncio.run(run())
    error = caught.value
    assert (error.status, error.code, error.outcome) == (
        503,
        "gateway_out_of_resources",
        "gateway_error",
    )
    assert error.retry_after and of_error(error) is Outcome.OURS


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS])
def test_each_of_these_numbers_is_ours_however_deep_it_lies(number):
    try:
        try:
            raise OSError(number, "x")
        except OSError as deep:
            raise ValueError("a library's own") from deep
    except ValueError as error:
        found = shortage(error)
        assert found is not None and of_error(found) is Outcome.OURS


@pytest.mark.parametrize(
    "error",
    [ConnectionRefusedError(errno.ECONNREFUSED, "x"), socket.gaierror(-2, "x"), EOFError(),
     OSError(errno.EADDRNOTAVAIL, "x")],
)  # fmt: skip
def test_what_is_not_ours_is_the_upstreams(error):
    assert shortage(error) is None


def ours():
    found = shortage(OSError(errno.EMFILE, "x"))
    assert found is not None
    return found


@pytest.mark.parametrize("bench_of", [Bench, ForwardBench])
def test_no_key_rests_for_it_and_no_breaker_opens(bench_of):
    bench = bench_of({"a": ours, "b": ours, "c": ours})
    for _ in range(9):
        error = bench.fail()
        assert error.code == "gateway_out_of_resources" and bench.record.attempts == 1
        assert bench.record.outcome == "gateway_error"
    assert {one.state for one in bench.pool.key_statuses() if one.pool == POOL} == {"awake"}
    assert not is_down(bench.pool)


def test_a_probe_that_met_it_leaves_its_place_to_the_next():
    bench = Bench({"a": lambda: refusal(401)})
    assert bench.fail().status == 401
    bench.answers["a"] = ours
    assert bench.fail().code == "keys_refused"
    bench.move_to_another_worker(later=60)
    assert bench.fail().code == "gateway_out_of_resources"
    bench.answers["a"] = good
    assert bench.run()
