"""Which heads are remembered, and what is recognised by them."""

from math import inf
from types import SimpleNamespace

import pytest
from sanic import Request
from sanic.compat import Header

from app.http.head_cache import recognise, remember
from bench.heads import HEADS

CALLER = SimpleNamespace(name="alice", until=inf)
MOST_DIGITS = b"9" * 18


def head(lines, length=b"57", line=b"POST /c/v1/chat/completions HTTP/1.1"):
    whole = [line, *(f"{name}: {value}".encode() for name, value in lines.items())]
    if length is not None:
        whole.append(b"Content-Length: " + length)
    return b"\r\n".join(whole)


def remembered(raw, caller=CALLER):
    """As after Sanic's parser and the checks: names in lower case, every value of each."""
    first, *lines = raw.decode().split("\r\n")
    method, url, version = first.split()
    pairs = [line.split(": ", 1) for line in lines]
    headers = Header([(name.lower(), value) for name, value in pairs])
    request = Request(url.encode(), headers, version[5:], method, None, SimpleNamespace())
    request.head = raw
    return remember(request, set(headers), caller, 1.0)


def test_a_token_that_expires_is_checked_with_each_request():
    assert remembered(head({"Host": "x"}), SimpleNamespace(name="bob", until=2e9)) is None


def next_on_the_line(data):
    """A connection on which these bytes have come."""
    return SimpleNamespace(
        recv_buffer=bytearray(data),
        protocol=SimpleNamespace(transport=None, app=SimpleNamespace()),
        request=None,
    )


@pytest.mark.parametrize("client", HEADS)
def test_the_head_of_a_real_client_is_recognised_with_a_body_of_another_length(client):
    known = remembered(head(HEADS[client]))
    http = next_on_the_line(head(HEADS[client], b"1234") + b"\r\n\r\n{body")
    assert known is not None and recognise(http, known)
    assert bytes(http.recv_buffer) == b"{body"
    assert http.request_bytes == http.request_bytes_left == 1234
    assert http.request_body is True and http.keep_alive
    assert http.request.headers["content-length"] == "1234"
    sent = {name.lower(): value for name, value in HEADS[client].items()}
    assert {name: http.request.headers[name] for name in sent} == sent
    assert known.headers["content-length"] == "57"  # the next one is compared with this


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (head({"Host": "x", "Connection": "close"}), "it ends the connection"),
        (head({"Host": "x", "Connection": "keep-alive, upgrade"}), "more than keep-alive"),
        (head({"Host": "x", "Connection": "keep-alive", "connection": "close"}), "two of them"),
        (head({"Host": "x", "Expect": "100-continue"}), "it waits for an answer"),
        (head({"Host": "x", "Transfer-Encoding": "chunked"}, None), "its length is unknown"),
        (head({"Host": "x", "Upgrade": "h2c"}), "another protocol"),
        (head({"Host": "x"}, line=b"PUT /v1/files HTTP/1.1"), "a rare method"),
        (head({"Host": "x"}, line=b"POST /v1/files HTTP/1.0"), "it closes unless told not to"),
        (head({"Host": "x", "X-Long": "x" * 4096}), "too large to keep"),
    ],
)
def test_a_special_head_is_not_remembered(raw, why):
    assert remembered(raw) is None, why


@pytest.mark.parametrize(
    "raw",
    [
        head({"Host": "x"}, b""),
        head({"Host": "x"}, b"+5"),
        head({"Host": "x"}, b"5 "),
        head({"Host": "x"}, MOST_DIGITS + b"9"),
        head({"Host": "y"}),
        head({"host": "x"}),
        head({"Host": "x", "X-More": "1"}),
        head({"Host": "x"})[:-1] + b"\n",
        head({"Host": "x"})[:-1],
    ],
)
def test_another_head_is_left_for_the_parser(raw):
    known = remembered(head({"Host": "x"}))
    end = b"" if raw == head({"Host": "x"})[:-1] else b"\r\n\r\n"
    http = next_on_the_line(raw + end)
    assert not recognise(http, known)
    assert bytes(http.recv_buffer) == raw + end and http.request is None


def test_a_head_without_a_body_is_recognised_whole():
    raw = head({"Host": "x"}, None, b"GET /c/v1/models HTTP/1.1")
    http = next_on_the_line(raw + b"\r\n\r\n" + raw)
    assert recognise(http, remembered(raw))
    assert bytes(http.recv_buffer) == raw and http.request_body is None
    assert http.request_bytes == 0
