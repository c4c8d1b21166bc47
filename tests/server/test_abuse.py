"""What hostile callers and upstreams send, as raw bytes: nothing breaks, nothing leaks, nothing
hangs, and the gateway serves the next caller as if nothing had been."""

import gzip
import json
import re
import socket
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.server.conftest import config_for
from tests.server.running import running

CHAT = "/c/v1/chat/completions"
ASK = b'{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}'
DONE = b"Connection: close\r\n\r\n"


@pytest.fixture(scope="module")
def strict(simulator, tmp_path_factory):
    """Short clocks and small limits."""
    config = config_for(
        simulator.url,
        timeouts={"request": 1, "write": 1, "idle": 5},
        limits={"request_bytes": 4_000_000, "in_flight": 50},
    )
    with running(tmp_path_factory.mktemp("strict"), config) as gateway:
        yield gateway


def talk(gateway, *pieces, pause=0.05, timeout=20):
    """Sends the pieces and reads until the gateway closes; b"" for a reset without an answer."""
    answer = b""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=timeout) as sock:
        try:
            for number, piece in enumerate(pieces):
                if number:
                    time.sleep(pause)
                sock.sendall(piece)
            while piece := sock.recv(65536):
                answer += piece
        except ConnectionError:
            pass
    return answer


def statuses(answer):
    return [int(status) for status in re.findall(rb"HTTP/1\.1 ([2-5]\d\d) ", answer)]


def is_well(gateway):
    answer = httpx.post(gateway.url + CHAT, content=ASK, timeout=20)
    assert answer.status_code == 200


HIDDEN = b"GET /v1/_echo/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 5\r\nContent-Length: 5",
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: 5, 5",
        b"Content-Length: +5",
        b"Content-Length: 5 5",
        b"Content-Length: 0x5",
        b"Content-Length: -1",
        b"Content-Length: 99999999999999999999",
        b"Content-Length: \xd9\xa5",
        b"Content-Length:",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding : chunked",
        b"Transfer-Encoding\t: chunked",
        b"Transfer-Encoding:\x0bchunked",
        b"X: a\nTransfer-Encoding: chunked",
        b"X: a\rTransfer-Encoding: chunked",
        b"X: a\r\n Transfer-Encoding: chunked",
        b"X: a\x00b",
        b"Host: y",
        b": nameless",
        b"no colon at all",
        b"X\xc3\xa9: y",
    ],
)
def test_two_ways_to_read_a_request_are_one_too_many(strict, simulator, head):
    request = b"POST /v1/_echo/x HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n"
    answer = talk(strict, request + b"0\r\n\r\n" + HIDDEN)
    assert statuses(answer) in ([400], []), answer
    assert b"smuggled" not in answer
    assert not [seen for seen in simulator.last(50) if "smuggled" in json.dumps(seen)]


@pytest.mark.parametrize(
    "body",
    [
        b"5\r\nhelloXX0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b" 5\r\nhello\r\n0\r\n\r\n",
        b"5_0\r\nhello\r\n0\r\n\r\n",
        b"5;a\nb\r\nhello\r\n0\r\n\r\n",
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX: y\r\n\r\n",
        b"5\r\nhello\r\n0\r\n" + HIDDEN,
        b"5;" + b"a" * 3000 + b"\r\nhello\r\n0\r\n\r\n",
        b"fffffffffffffffff\r\nhello",
        b"\r\n5\r\nhello\r\n0\r\n\r\n",
    ],
)
@pytest.mark.parametrize("path", [b"/v1/_echo/x", CHAT.encode()])
def test_chunks_are_read_in_one_way_only(strict, simulator, path, body):
    head = b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = talk(strict, head + body + HIDDEN)
    assert len(statuses(answer)) <= 1 and all(status >= 400 for status in statuses(answer)), answer
    assert not [seen for seen in simulator.last(50) if "smuggled" in json.dumps(seen)]


@pytest.mark.parametrize(
    "line",
    [
        b"GET http://evil.example/v1/_echo/x HTTP/1.1",
        b"GET http://169.254.169.254/latest/meta-data HTTP/1.1",
        b"GET https://127.0.0.1/ping HTTP/1.1",
        b"CONNECT 127.0.0.1:22 HTTP/1.1",
        b"GET //evil.example/v1/_echo/x HTTP/1.1",
        b"GET /v1/_echo/\xc3\xa9 HTTP/1.1",
        b"GET /v1/_echo/a b HTTP/1.1",
        b"GET /v1/_echo/x HTTP/1.2",
        b"GET /v1/_echo/x HTTP/2",
        b"GET /v1/_echo/x",
        b"PRI * HTTP/2.0",
        b"get /v1/_echo/x HTTP/1.1",
        b"G" * 5000 + b" / HTTP/1.1",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1",
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"",
    ],
)
def test_odd_request_lines_are_refused(strict, line):
    answer = talk(strict, line + b"\r\nHost: x\r\n" + DONE)
    (status,) = statuses(answer)
    assert 400 <= status < 500, answer
    assert b"evil.example" not in answer.partition(b"\r\n\r\n")[0]


@pytest.mark.parametrize(
    "path",
    [
        b"/v1/../admin/state", b"/v1/%2e%2e/x", b"/v1/..%2fx", b"/v1/..%5cx", b"/v1/%252e%252e/x",
        b"/v1/.%2e/x", b"/v1/a/..;/x", b"/v1/%c0%ae%c0%ae/x", b"/v1/%00", b"/v1/x%0d%0aHost:%20y",
        b"/v1/\\..\\x", b"/v1/x#y",
    ],
)  # fmt: skip
def test_no_path_climbs(strict, path):
    answer = talk(strict, b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n" + DONE)
    assert statuses(answer) in ([400], [404]), answer


@pytest.mark.parametrize("host", [b"a/b", b"a@b", b"a b", b"x\r\nHost: y", b"a:b:c", b"<script>"])
def test_a_host_is_a_host(strict, host):
    answer = talk(strict, b"GET /ping HTTP/1.1\r\nHost: " + host + b"\r\n" + DONE)
    assert statuses(answer) == [400], answer
    assert statuses(talk(strict, b"GET /ping HTTP/1.1\r\n" + DONE)) == [400]
    assert statuses(talk(strict, b"GET /ping HTTP/1.0\r\n\r\n")) == [200]


@pytest.mark.parametrize(
    "name",
    [
        "x-request-id", "x-auth-id", "access-control-request-headers", "x-forwarded-host",
        "x-forwarded-proto", "origin", "authorization", "content-encoding", "host",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "value", [b"a\nX-Evil: 1", b"a\rX-Evil: 1", b"\xff\xfe", b"%0d%0aX-Evil: 1"]
)
def test_no_header_of_the_caller_becomes_one_of_the_answer(strict, name, value):
    for line in (b"OPTIONS /v1/x", b"GET /v1/_echo/x", b"GET /c/v1/models/%0d%0aX-Evil:1"):
        head = b"" if name == "host" else b"Host: x\r\n"
        head = line + b" HTTP/1.1\r\n" + head + name.encode() + b": " + value + b"\r\n" + DONE
        answer = talk(strict, head)
        assert statuses(answer) and statuses(answer)[0] < 500, answer
        lines = answer.partition(b"\r\n\r\n")[0].lower().splitlines()
        assert not [line for line in lines if line.startswith(b"x-evil")]


def test_headers_are_limited_in_number_and_size(strict):
    many = b"".join(b"X-%d: y\r\n" % n for n in range(200))
    assert statuses(talk(strict, b"GET /ping HTTP/1.1\r\nHost: x\r\n" + many + DONE)) == [400]
    large = b"X: " + b"y" * 40_000 + b"\r\n"
    answer = talk(strict, b"GET /ping HTTP/1.1\r\nHost: x\r\n" + large + DONE)
    assert statuses(answer) in ([431], []), answer
    endless = talk(strict, *[b"GET /ping HTTP/1.1\r\nX: ", *[b"y" * 30_000] * 30], pause=0)
    assert statuses(endless) in ([431], []), endless


def deep(depth):
    return b'{"a":' * depth + b"1" + b"}" * depth


NUMBERS = [b"9" * 100_000, b"1e999999", b"-1e-999999", b"0." + b"1" * 100_000, b"1" + b"0" * 5000]
BOMBS = [
    b"[" * 1_000_000,
    b'{"model":' + deep(100_000) + b"}",
    b'{"model":"m","messages":[' + b"[" * 50_000 + b"]" * 50_000 + b"]}",
    b'{"model":"m","messages":[],"tools":[{"type":"function","function":{"name":"f","parameters":'
    + deep(2000)
    + b"}}]}",
    *(
        b'{"model":"m","messages":[],"tools":[{"type":"function","function":{"name":"f",'
        b'"parameters":' + deep(depth) + b"}}]}"
        for depth in (100, 300, 500, 900, 980, 995)
    ),
    *(b'{"model":"m","messages":[],"seed":' + number + b"}" for number in NUMBERS),
    *(b'{"model":"m","messages":[],"response_format":{"x":' + n + b"}}" for n in NUMBERS),
    b'{"model":"' + b"m" * 1_000_000 + b'","messages":[]}',
    b'{"model":"m","messages":[' + b"{}," * 900_000 + b"{}]}",
    b'{"model":"m","messages":[],"tools":[' + b"[]," * 900_000 + b"[]]}",
    b'{"model":"m","messages":[{"role":"user","content":"\\ud800"}]}',
    b'{"model":"m","messages":[{"role":"user","content":"' + b"\\u0000" * 100 + b'"}]}',
    b'{"\xff":1}',
    b"\xef\xbb\xbf{}",
    b'{"model":"m","provider":"claude","messages":"' + b"\\" * 99_999 + b'"}',
]


@pytest.mark.parametrize("bomb", range(len(BOMBS)))
def test_no_json_breaks_a_worker(doors, bomb):
    pids = doors.workers()
    for path in (CHAT, "/claude/api/openai", "/gemini/openai"):
        for provider in ("openai", "claude", "gemini") if path == CHAT else ("",):
            body = BOMBS[bomb]
            if provider and body.startswith(b'{"model":"m"'):
                body = body.replace(b'"m"', b'"%b/gpt-4o"' % provider.encode(), 1)
            began = time.monotonic()
            answer = httpx.post(doors.url + path, content=body, timeout=20)
            assert answer.status_code < 500 or answer.status_code in (502, 503), answer.text[:300]
            assert answer.json().get("error", {}).get("code") != "gateway_error"
            assert time.monotonic() - began < 5
    assert doors.workers() == pids


def gzip_members(count):
    return gzip.compress(b"") * count


@pytest.mark.parametrize(
    ("packed", "encoding"),
    [
        (gzip.compress(b" " * 60_000_000), "gzip"),
        (zlib.compress(b" " * 60_000_000), "deflate"),
        (gzip.compress(gzip.compress(b" " * 60_000_000)), "gzip"),
        (gzip_members(150_000), "gzip"),
        (gzip.compress(ASK) + b"\0" * 1_000_000, "gzip"),
        (gzip.compress(ASK), "gzip, gzip"),
        (gzip.compress(ASK), "gzip" + ", gzip" * 1000),
    ],
    ids=["gzip", "deflate", "gzip in gzip", "many members", "junk behind", "two", "a thousand"],
)
def test_no_compressed_body_becomes_a_bomb(strict, packed, encoding):
    began = time.monotonic()
    headers = {"content-encoding": encoding}
    answer = httpx.post(strict.url + CHAT, content=packed, headers=headers, timeout=20)
    assert 400 <= answer.status_code < 500, answer.text
    assert time.monotonic() - began < 5
    is_well(strict)


class Upstream:
    """Answers every request with the same bytes, again and again if `endless` has any."""

    def __init__(self):
        self.answer = self.endless = b""
        self.requests = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.one, args=(connection,), daemon=True).start()

    def one(self, connection):
        with connection:
            try:
                connection.recv(65536)
                self.requests += 1
                endless = self.endless
                connection.sendall(self.answer)
                while endless:
                    connection.sendall(endless)
            except OSError:
                pass


@pytest.fixture(scope="module")
def bombed(tmp_path_factory):
    """A gateway, the upstream behind it, and the memory of its workers before the first answer."""
    upstream = Upstream()
    config = config_for("http://unused.example", limits={"response_bytes": 20_000_000})
    config["openai"]["api_url"] = upstream.url
    with running(tmp_path_factory.mktemp("bombed"), config) as gateway:
        yield gateway, upstream, memory(gateway)
    upstream.listener.close()


OK = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n%b\r\n"
EVENTS, JSON = b"text/event-stream", b"application/json"
BOMB = gzip.compress(b" " * 300_000_000)


@pytest.mark.parametrize(
    ("answer", "endless", "stream"),
    [
        (OK % (JSON, b"Content-Encoding: gzip\r\n") + BOMB, b"", False),
        (OK % (EVENTS, b"Content-Encoding: gzip\r\n") + BOMB, b"", True),
        (OK % (JSON, b"Content-Encoding: gzip\r\n") + gzip_members(150_000), b"", False),
        (b"HTTP/1.1 500 No\r\nContent-Encoding: gzip\r\n\r\n" + BOMB, b"", False),
        (OK % (JSON, b""), b"x" * 65536, False),
        (OK % (EVENTS, b""), b"data: " + b"x" * 65536, True),
        (b"HTTP/1.1 500 No\r\n\r\n", b"x" * 65536, False),
        (b"HTTP/1.1 200 OK\r\n", b"X-Filler: " + b"y" * 60_000 + b"\r\n", False),
        (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n" * 500, False),
        (OK % (JSON, b"Content-Length: 5\r\nContent-Length: 6\r\n") + b"{}", b"", False),
        (OK % (JSON, b"X: a\nX-Evil: 1\r\n") + b"{}", b"", False),
    ],
)
def test_no_answer_of_an_upstream_becomes_a_bomb(bombed, answer, endless, stream):
    gateway, upstream, before = bombed
    upstream.answer, upstream.endless, seen = answer, endless, upstream.requests
    began = time.monotonic()
    body = json.loads(ASK) | {"stream": stream}
    # The caller's own key: the configured ones would cool down after the first of these answers.
    headers = {"authorization": "Bearer sk-of-the-caller"}
    told = httpx.post(gateway.url + CHAT, json=body, headers=headers, timeout=30)
    assert upstream.requests > seen
    assert told.status_code >= 500 or b'"error"' in told.content, told.content[:300]
    assert b"x-evil" not in told.content and "x-evil" not in told.headers
    assert time.monotonic() - began < 15
    assert memory(gateway) - before < 150_000_000


def memory(gateway):
    total = 0
    for pid in gateway.workers():
        with open(f"/proc/{pid}/statm") as file:
            total += int(file.read().split()[1]) * 4096
    return total


# --- time -----------------------------------------------------------------------------------------


def drip(gateway, start, drop, every, most):
    """Seconds until the gateway loses its patience, and what it said."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=most) as sock:
        began = time.monotonic()
        answer = b""
        sock.sendall(start)
        sock.settimeout(every)
        while time.monotonic() - began < most:
            try:
                piece = sock.recv(65536)
                answer += piece
                if not piece:
                    break
            except TimeoutError:
                try:
                    sock.sendall(drop)
                except ConnectionError:
                    break
            except ConnectionError:
                break
        return time.monotonic() - began, answer


@pytest.mark.parametrize(
    ("start", "drop"),
    [
        (b"G", b""),
        (b"GET /ping HTTP/1.1\r\nX: ", b"y"),
        (b"GET /ping HTTP/1.1\r\n", b"X: y\r\n"),
        (b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\nGET", b"x"),
        (b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n" % CHAT.encode(), b" "),
        (b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n" % CHAT.encode(), b""),
        (b"POST %b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" % CHAT.encode(),
         b"1\r\n \r\n"),
        (b"POST /v1/_echo/x HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n", b" "),
        (b"POST /v1/_echo/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b"1;a"),
        (b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n", b" "),
    ],
)  # fmt: skip
def test_slow_senders_are_shown_the_door(strict, start, drop):
    seconds, answer = drip(strict, start, drop, 0.15, 12)
    assert seconds < 8, answer
    assert statuses(answer)[-1:] in ([408], [404], [400], [])


def test_a_steady_sender_may_take_longer_than_the_pause(strict):
    body = b" " * 40_000 + ASK
    head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n" % (CHAT.encode(), len(body))
    pieces = [body[at : at + 4000] for at in range(0, len(body), 4000)]
    answer = talk(strict, head + DONE, *pieces, pause=0.3)
    assert statuses(answer) == [200], answer


@pytest.mark.parametrize("stream", [True, False])
def test_slow_readers_are_shown_the_door(simulator, tmp_path, stream):
    """Who asks and asks, and reads nothing: neither memory nor places are theirs to keep."""
    config = config_for(
        simulator.url, timeouts={"request": 1, "write": 1}, limits={"in_flight": 4, "queue": 0}
    )
    flood = "true" if stream else "false"
    ask = b'{"model":"sim-long-20000","stream":%b,"messages":[]}' % flood.encode()
    head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (CHAT.encode(), len(ask))
    with running(tmp_path, config) as gateway:
        held = []
        for _ in range(4):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(("127.0.0.1", gateway.port))
            sock.sendall((head + ask) * 20)
            held.append(sock)
        time.sleep(0.5)
        end = time.monotonic() + 20
        while httpx.post(gateway.url + CHAT, content=ASK).status_code != 200:
            assert time.monotonic() < end
            time.sleep(0.2)
        for sock in held:
            sock.close()


def test_places_are_limited_and_health_is_told_all_the_same(simulator, tmp_path):
    limits = {"in_flight": 10, "queue": 5, "queue_seconds": 0.5}
    with running(tmp_path, config_for(simulator.url, limits=limits)) as gateway:
        slow = json.loads(ASK) | {"model": "sim-slow-first-3000", "stream": True}
        # One client for all: each `httpx.post` would load the certificates, and come too late.
        with httpx.Client(timeout=20) as client, ThreadPoolExecutor(40) as callers:
            tasks = [callers.submit(client.post, gateway.url + CHAT, json=slow) for _ in range(40)]
            time.sleep(1.2)
            for path in ("/ping", "/healthz", "/readyz"):
                assert httpx.get(gateway.url + path, timeout=2).status_code == 200
            answers = [task.result() for task in tasks]
        told = [answer.status_code for answer in answers]
        assert told.count(200) == 10 and told.count(503) == 30
        refused = next(answer for answer in answers if answer.status_code == 503)
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["code"] == "overloaded"
        is_well(gateway)


def test_after_all_this_nothing_is_left(strict):
    is_well(strict)
    assert "Traceback" not in strict.err.read_text()
