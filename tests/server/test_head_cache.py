"""A head that a connection has sent before is recognised, and only then: by its very bytes."""

import json
import socket
import time

import pytest

from tests.server.conftest import config_for
from tests.server.running import running

TOKENS = {"alice": "token-of-alice-0123456789", "bob": "token-of-bob-0123456789ab"}


@pytest.fixture(scope="module")
def locked(simulator, tmp_path_factory):
    access = {"tokens": [{"id": id, "val": val} for id, val in TOKENS.items()]}
    config = config_for(simulator.url, access=access, limits={"request_bytes": 100_000})
    with running(tmp_path_factory.mktemp("known"), config) as gateway:
        yield gateway


class Line:
    """One connection, which says several requests."""

    def __init__(self, gateway):
        self._sock = socket.create_connection(("127.0.0.1", gateway.port), timeout=20)
        self._file = self._sock.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()
        self._sock.close()

    def send(self, data):
        self._sock.sendall(data)

    def answer(self):
        """Status, headers and body of the next answer; (0, {}, b"") when there is none."""
        first = self._file.readline()
        if not first:
            return 0, {}, b""
        headers = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode().partition(": ")
            headers[name] = value
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self._file.readline(), 16):
                body += self._file.read(size)
                self._file.readline()
            self._file.readline()
        else:
            body = self._file.read(int(headers.get("content-length", 0)))
        return int(first.split()[1]), headers, body

    def ask(self, data):
        self.send(data)
        return self.answer()


def chat(text="hi", token="alice", more="", length=None, **members):
    body = json.dumps(
        {"model": "gpt-4o", "messages": [{"role": "user", "content": text}], **members}
    ).encode()
    head = (
        "POST /c/v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {TOKENS[token]}\r\n{more}"
        f"Content-Length: {len(body) if length is None else length}\r\nX-Behind: yes\r\n\r\n"
    )
    return head.encode() + body


def test_bodies_of_many_lengths_and_kinds_follow_each_other(locked, simulator):
    with Line(locked) as line:
        for n in (1, 1, 10, 1000, 5, 5, 90_000, 2):
            status, headers, body = line.ask(chat("x" * n, stream=n % 2 == 0))
            assert status == 200 and headers["connection"] == "keep-alive"
            assert body.endswith(b"data: [DONE]\n\n") if n % 2 == 0 else json.loads(body)["choices"]
    seen = json.dumps(simulator.last(8))
    assert "sk-" in seen and TOKENS["alice"] not in seen


def test_a_head_comes_in_two_pieces_and_two_requests_in_one(locked):
    with Line(locked) as line:
        assert line.ask(chat())[0] == 200
        whole = chat("again")
        for cut in (1, 20, 60, whole.index(b"Content-Length") + 16, len(whole) - 3):
            line.send(whole[:cut])
            time.sleep(0.02)
            assert line.ask(whole[cut:])[0] == 200
        line.send(chat("one") + chat("the other") + chat("the third")[:70])
        assert line.answer()[0] == line.answer()[0] == 200
        assert line.ask(chat("the third")[70:])[0] == 200


def test_the_next_request_may_be_another_callers(locked):
    with Line(locked) as line:
        for token in ("alice", "alice", "bob", "alice", "bob", "bob"):
            assert line.ask(chat(token=token))[0] == 200
        stranger = chat().replace(TOKENS["alice"].encode(), b"token-of-a-stranger-1234567")
        for _ in range(2):
            status, _, body = line.ask(stranger)
            assert status == 401 and b"access_denied" in body
        assert line.ask(chat())[0] == 200


def test_the_request_id_is_a_new_one_each_time(locked):
    with Line(locked) as line:
        ids = [line.ask(chat())[1]["x-request-id"] for _ in range(5)]
        assert len(set(ids)) == 5
        given = [line.ask(chat(more="X-Request-Id: mine\r\n"))[1]["x-request-id"] for _ in "ab"]
        assert given == ["mine", "mine"]


def test_a_body_above_the_limit_is_refused_behind_a_known_head(locked):
    with Line(locked) as line:
        assert line.ask(chat())[0] == 200
        assert line.ask(chat("x" * 200_000))[0] == 413


@pytest.mark.parametrize(
    "length", ["+5", "-1", "0x5", "5 5", "5,5", "", " ", "1_0", "\u0665", "9" * 19]
)
def test_a_length_that_is_none_is_refused_behind_a_known_head(locked, length):
    with Line(locked) as line:
        assert line.ask(chat())[0] == 200
        assert line.ask(chat(length=length))[0] == 400


@pytest.mark.parametrize(
    "more",
    [
        "Content-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Bad Name: x\r\n",
        "Host: y\r\n",
        "X-A: b\x00\r\n",
        "X-A: b\n",
    ],
)
def test_what_is_refused_is_refused_behind_a_known_head(locked, more):
    with Line(locked) as line:
        assert line.ask(chat())[0] == 200
        assert line.ask(chat())[0] == 200
        status, _, body = line.ask(chat(more=more))
        assert status == 400 and b"bad_request" in body


def test_a_request_without_a_body_is_recognised_too(locked):
    ask = f"GET /c/v1/models HTTP/1.1\r\nHost: x\r\nX-Api-Key: {TOKENS['bob']}\r\n\r\n".encode()
    with Line(locked) as line:
        bodies = [line.ask(ask)[2] for _ in range(3)]
        assert bodies[0] == bodies[1] == bodies[2] and b'"object":"list"' in bodies[0]
        line.send(ask + ask + b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n" + ask)
        assert [line.answer()[2] == bodies[0] for _ in range(4)] == [True, True, False, True]


def test_expectations_and_closing_are_kept_behind_a_known_head(locked):
    with Line(locked) as line:
        assert line.ask(chat())[0] == 200
        whole = chat(more="Expect: 100-continue\r\n")
        head, _, body = whole.partition(b"\r\n\r\n")
        line.send(head + b"\r\n\r\n")
        time.sleep(0.05)
        line.send(body)
        assert line.answer()[0] == 100
        assert line.answer()[0] == 200
        for _ in range(3):  # as SDKs say it
            assert line.ask(chat(more="Connection: keep-alive\r\n"))[0] == 200
        status, headers, _ = line.ask(chat(more="Connection: close\r\n"))
        assert status == 200 and headers["connection"] == "close"
        assert line.answer()[0] == 0
