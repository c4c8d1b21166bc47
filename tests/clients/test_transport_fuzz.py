"""Mutated answers, fed to a connection without a socket and compared with h11's reading.

Whatever comes, the connection says one of our errors or a body. And a connection that goes back to
the pool has to be one that h11, too, holds to be at the exact end of an answer with that body.
"""

import asyncio
import random
import re

import h11
import pytest

from app.clients.address import parse_target
from app.clients.connection import Connection
from app.clients.connection_pool import Limits, Origin
from app.clients.http1_codec import ResponseReader
from app.wire.errors import GatewayError
from tests.clients.raw_upstreams import run
from tests.clients.test_http1_codec import BAD, GOOD

SOUND = [good[1] for good in GOOD]
SEEDS = SOUND + [bad for bad in BAD.values() if len(bad) < 500]
TOKENS = [
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b" ",
        b"\t",
        b":",
        b",",
        b";",
        b"0",
        b"1",
        b"2",
        b"ff",
        b"-",
        b"+",
    ),
    *(b"Content-Length: 2\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n"),
    *(
        b"Connection: close\r\n",
        b"Connection: keep-alive\r\n",
        b"HTTP/1.0 200 OK\r\n",
        b"0\r\n\r\n",
    ),
    *(b"HTTP/1.1 204 No\r\n", b"HTTP/1.1 100 Go\r\n\r\n", b"\r\n\r\n", b"2\r\nok\r\n", b"chunked"),
]


def mutated(dice: random.Random) -> bytes:
    data = bytearray(dice.choice(SOUND if dice.random() < 0.7 else SEEDS))
    for _ in range(dice.randrange(0, 4)):
        at = dice.randrange(len(data) + 1)
        match dice.randrange(7):
            case 0:
                data[at : at + 1] = bytes((dice.randrange(256),))
            case 1:
                del data[at : at + dice.randrange(1, 6)]
            case 2:
                data[at:at] = dice.choice(TOKENS)
            case 3:
                data[at : at + dice.randrange(6)] = dice.choice(TOKENS)
            case 4:
                end = at + dice.randrange(1, 30)
                data[at:at] = data[at:end]
            case 5:
                other = dice.choice(SEEDS)
                data[at:] = other[dice.randrange(len(other)) :]
            case 6:
                del data[at:]
    return bytes(data)


class NoSocket(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.is_open = True

    def abort(self) -> None:
        self.is_open = False

    def is_closing(self) -> bool:
        return not self.is_open

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        assert self.is_open

    def resume_reading(self) -> None:
        assert self.is_open


def h11_reads(data: bytes, method: str) -> tuple[int, bytes] | None:
    """Status and body when h11 finds exactly one answer in `data` and may go on, else None."""
    peer = h11.Connection(h11.CLIENT)
    peer.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    peer.send(h11.EndOfMessage())
    peer.receive_data(data)
    status, body = 0, b""
    try:
        while True:
            match peer.next_event():
                case h11.Response() as response:
                    status = response.status_code
                case h11.Data() as piece:
                    body += bytes(piece.data)
                case h11.EndOfMessage():
                    # h11 never keeps a connection of HTTP/1.0, whatever both sides agreed.
                    ends = h11.MUST_CLOSE if peer.their_http_version == b"1.0" else h11.DONE
                    whole = peer.trailing_data[0] == b"" and peer.their_state is ends
                    return (status, body) if whole else None
                case h11.InformationalResponse():
                    pass
                case _:
                    return None
    except h11.RemoteProtocolError:
        return None


async def fuzz(count: int, seed: int) -> dict[str, int]:
    dice = random.Random(seed)
    loop = asyncio.get_running_loop()
    trailer = re.compile(rb"(?si)\n0[^\n]*\n.*transfer-encoding[ ]?:")
    outcomes = {"kept": 0, "dropped": 0, "cut": 0, "refused": 0}
    for _ in range(count):
        data = mutated(dice)
        method = dice.choice(["GET", "GET", "GET", "HEAD"])
        origin = Origin(parse_target("http://x", None), Limits(), lambda: None)
        connection = Connection(origin, loop)
        transport = NoSocket()
        connection.connection_made(transport)
        origin.connections.add(connection)
        reader = connection.reader = ResponseReader(method == "HEAD")
        body, at = b"", 0
        while at < len(data) and transport.is_open and not connection.is_idle:
            step = dice.choice([1, 3, 10, 1000])
            connection.data_received(data[at : at + step])
            body += reader.take()
            at += step
        if connection.is_idle:
            h11s = h11_reads(data[:at], method)
            # h11 reads a Transfer-Encoding even in a trailer; for us trailers have no meaning.
            if h11s is not None or not trailer.search(data):
                assert h11s == (reader.status, body), data
            assert origin.idle == [connection]
            outcomes["kept"] += 1
            if at < len(data):  # more comes later: it must not wait for the next request
                connection.data_received(data[at:])
                assert not transport.is_open and not origin.idle, data
            continue
        assert not origin.idle
        if transport.is_open:
            connection.eof_received()
        assert not transport.is_open
        connection.connection_lost(None)
        assert not origin.connections and not origin.idle
        if reader.complete:
            assert reader.surplus or not reader.keep_alive, data
            outcomes["dropped"] += 1
        else:
            assert isinstance(reader.error, GatewayError), data
            cut = reader.error.code != "upstream_bad_response"
            outcomes["cut" if cut else "refused"] += 1
    return outcomes


def test_mutated_answers_never_break_a_connection_or_poison_the_pool():
    outcomes = run(lambda: fuzz(4_000, 1))
    assert min(outcomes[kind] for kind in ("kept", "dropped", "cut", "refused")) > 100, outcomes


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_hundred_thousand_mutated_answers_never_poison_the_pool():
    run(lambda: fuzz(100_000, random.randrange(1 << 30)))
