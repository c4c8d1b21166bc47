"""Heads that two readers could understand differently."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sanic.compat import Header

from app.http.head_check import MAX_HEADERS, is_good_chunk_line, reason_to_refuse


def as_sanic_reads(head: bytes) -> Header:
    lines = head.decode(errors="surrogateescape").split("\r\n")[1:]
    pairs = [line.split(":", 1) for line in lines]
    return Header([(name.lower(), value.lstrip()) for name, value in pairs])


def judge(head: bytes) -> str:
    headers = as_sanic_reads(head)
    return reason_to_refuse(head, set(headers), headers)


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: x",
        b"GET /ping HTTP/1.0",
        b"OPTIONS * HTTP/1.1\r\nHost: x",
        b"POST /a%20b?c=d&e HTTP/1.1\r\nHost: [::1]:8999\r\nContent-Length: 12",
        b"POST / HTTP/1.1\r\nhost:127.0.0.1:1\r\nTransfer-Encoding: chunked\r\nX-\xc3\xa4: no",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: \t caf\xc3\xa9 \t\r\nY:\r\nZ: a:b\r\nZ: c",
        b"GET / HTTP/1.1\r\nHost:\r\nContent-Length:  7 ",
    ],
)
def test_good_heads_pass(head):
    assert judge(head) == "" or b"X-\xc3" in head


@pytest.mark.parametrize(
    ("head", "word"),
    [
        (b"GET http://evil.example/ HTTP/1.1\r\nHost: x", "forward proxy"),
        (b"GET http://127.0.0.1/v1/x HTTP/1.1\r\nHost: x", "forward proxy"),
        (b"CONNECT evil.example:443 HTTP/1.1\r\nHost: x", "forward proxy"),
        (b"GET  / HTTP/1.1\r\nHost: x", "request line"),
        (b"get / HTTP/1.1\r\nHost: x", "request line"),
        (b"GET / HTTP/2.0\r\nHost: x", "request line"),
        (b"GET /\x00 HTTP/1.1\r\nHost: x", "request line"),
        (b"GET / HTTP/1.1\nHost: x", "request line"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: a\nTransfer-Encoding: chunked", "control"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: a\rY: b", "control"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: a\rY: b\nZ: c", "control"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: a\0b", "control"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: a\x7f", "control"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n folded: y", "name"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked", "name"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length\t: 5", "name"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n: no name", "name"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX\xc3\xa4: y", "name"),
        (b"GET / HTTP/1.1", "Host"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nHost: y", "Host"),
        (b"GET / HTTP/1.0\r\nHost: x\r\nHost: x", "Host"),
        (b"GET / HTTP/1.1\r\nHost: a@b", "Host"),
        (b"GET / HTTP/1.1\r\nHost: a/b", "Host"),
        (b"GET / HTTP/1.1\r\nHost: a b", "Host"),
        (b"GET / HTTP/1.1\r\nHost: a:99999999", "Host"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +5", "Content-Length"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 5", "Content-Length"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x5", "Content-Length"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " + "\u0665".encode(), "ASCII"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: \xc2\xa05", "ASCII"),
        (b"POST / HTTP/1.1\r\nHost: x\r\ntransfer-encoding:\xc2\x85chunked", "ASCII"),
        (b"GET / HTTP/1.1\r\nhost:\xc2\xa0x", "ASCII"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length:", "Content-Length"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 5", "Content-Length"),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
            "Content-Length",
        ),
        (b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked", "HTTP/1.1"),
        (b"GET / HTTP/1.1\r\nHost: x" + b"\r\nX: y" * MAX_HEADERS, "more than"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(head, word):
    assert word in judge(head)


@given(st.binary(max_size=60))
def test_no_control_character_gets_through_whatever_surrounds_it(noise):
    noise = noise.replace(b"\r", b"").replace(b"\n", b"")
    head = b"GET / HTTP/1.1\r\nHost: x\r\nX: " + noise
    bad = any((byte < 0x20 and byte != 0x09) or byte == 0x7F for byte in noise)
    assert bool(judge(head)) is bad


@pytest.mark.parametrize(
    "line", [b"\r\n5", b"\r\nFFFF", b"\r\n0", b"\r\n1a;name=value", b'\r\n5 ; a="b"']
)
def test_good_chunk_lines_pass(line):
    assert is_good_chunk_line(line)


@pytest.mark.parametrize(
    "line",
    [
        b"XX5", b"\r\n0x5", b"\r\n-5", b"\r\n+5", b"\r\n 5", b"\r\n5_0", b"\r\n", b"\r\ng",
        b"\r\n5;a\nb", b"\r\n5\n", b"\r\n5;" + b"a" * 5000, b"\r\n" + b"1" * 16, b"\n\n5",
    ],
)  # fmt: skip
def test_bad_chunk_lines_are_refused(line):
    assert not is_good_chunk_line(line)
