"""The bytes of HTTP/1.1: what is read, what is refused, what is written."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.clients.http1_codec import MAX_HEAD_BYTES, MAX_HEADERS, ResponseReader, request_head
from app.wire.errors import GatewayError

OK = b"HTTP/1.1 200 OK\r\n"


def read(data: bytes, *, bodiless: bool = False, eof: bool = True, step: int | None = None):
    reader = ResponseReader(bodiless)
    for i in range(0, len(data), step or len(data) or 1):
        reader.feed(data[i : i + (step or len(data))])
    if eof and not reader.complete:
        reader.eof()
    return reader, reader.take()


def code_of(data: bytes, **more) -> str:
    with pytest.raises(GatewayError) as caught:
        read(data, **more)
    assert caught.value.status == 502
    return caught.value.code


# name, bytes, status, body, may the connection be kept, was there a surplus
GOOD = [
    ("length", OK + b"Content-Length: 5\r\n\r\nhello", 200, b"hello", True, False),
    ("no length", OK + b"\r\nhello", 200, b"hello", False, False),
    ("empty", OK + b"Content-Length: 0\r\n\r\n", 200, b"", True, False),
    ("no reason", b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", True, False),
    ("empty reason", b"HTTP/1.1 404 \r\nContent-Length: 2\r\n\r\nno", 404, b"no", True, False),
    ("odd status", b"HTTP/1.1 999 Go away\r\nContent-Length: 0\r\n\r\n", 999, b"", True, False),
    (
        "same twice",
        OK + b"Content-Length: 2\r\ncontent-length: 2\r\n\r\nok",
        200,
        b"ok",
        True,
        False,
    ),
    ("same listed", OK + b"Content-Length: 2, 2\r\n\r\nok", 200, b"ok", True, False),
    ("zeros", OK + b"Content-Length: 0002\r\n\r\nok", 200, b"ok", True, False),
    ("tabs", OK + b"Content-Length:\t2 \t\r\n\r\nok", 200, b"ok", True, False),
    ("no blank", OK + b"Content-Length:2\r\n\r\nok", 200, b"ok", True, False),
    ("latin-1", OK + b"X: \xe9\xff\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", True, False),
    ("close", OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", False, False),
    (
        "close2",
        OK + b"Connection: x, CLOSE\r\nContent-Length: 2\r\n\r\nok",
        200,
        b"ok",
        False,
        False,
    ),
    ("1.0", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", False, False),
    (
        "1.0 kept",
        b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nok",
        200,
        b"ok",
        True,
        False,
    ),
    ("204", b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True, False),
    ("304", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, b"", True, False),
    ("204 body", b"HTTP/1.1 204 No Content\r\n\r\nxx", 204, b"", True, True),
    (
        "100",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok",
        200,
        b"ok",
        True,
        False,
    ),
    (
        "103",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Wait\r\n\r\n"
        + OK
        + b"Content-Length: 2\r\n\r\nok",
        200,
        b"ok",
        True,
        False,
    ),
    ("surplus", OK + b"Content-Length: 2\r\n\r\nokX", 200, b"ok", True, True),
    ("second answer", (OK + b"Content-Length: 2\r\n\r\nok") * 2, 200, b"ok", True, True),
    (
        "chunks",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nA\r\n, world!!!\r\n0\r\n\r\n",
        200,
        b"hello, world!!!",
        True,
        False,
    ),
    (
        "Chunked, extensions, trailers",
        OK
        + b"Transfer-Encoding: Chunked\r\n\r\n"
        + b'5;a=b;c="d e"\r\nhello\r\n0;x\r\nA: b\r\nC: d\r\n\r\n',
        200,
        b"hello",
        True,
        False,
    ),
    ("no chunks", OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 200, b"", True, False),
    (
        "chunk zeros",
        OK + b"Transfer-Encoding: chunked\r\n\r\n0005\r\nhello\r\n000\r\n\r\n",
        200,
        b"hello",
        True,
        False,
    ),
    (
        "chunks, surplus",
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n",
        200,
        b"ok",
        True,
        True,
    ),
    *(
        (
            f"chunks, line end {end!r}",
            OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + end,
            200,
            b"ok",
            True,
            True,
        )
        for end in (b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\r\r\n\r\n")
    ),
    (
        "chunks, garbage",
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n\0\0",
        200,
        b"ok",
        True,
        True,
    ),
]


@pytest.mark.parametrize("name,data,status,body,keeps,surplus", GOOD, ids=[g[0] for g in GOOD])
def test_a_sound_answer_is_read_alike_under_every_split(name, data, status, body, keeps, surplus):
    for cuts in itertools.chain([()], ((i,) for i in range(1, len(data)))):
        edges = [0, *cuts, len(data)]
        reader = ResponseReader()
        got = b""
        for a, b in itertools.pairwise(edges):
            reader.feed(data[a:b])
            got += reader.take()
        if not reader.complete:
            reader.eof()
        assert (reader.status, got) == (status, body), cuts
        assert reader.keep_alive == keeps
        assert reader.surplus == surplus
    reader, got = read(data, step=1)
    assert (reader.status, got, reader.surplus) == (status, body, surplus)


@pytest.mark.parametrize("name,data,status,body,keeps,surplus", GOOD, ids=[g[0] for g in GOOD])
def test_an_answer_cut_at_any_byte_is_cut_unless_it_ends_with_the_connection(
    name, data, status, body, keeps, surplus
):
    whole_at = next(
        (i for i in range(1, len(data) + 1) if read(data[:i], eof=False)[0].complete), None
    )
    for i in range(1, len(data)):
        if whole_at is not None and i >= whole_at:
            assert read(data[:i])[1] == body
        elif name == "no length" and i >= len(OK) + 2:
            assert read(data[:i])[1] == data[len(OK) + 2 : i]
        else:
            assert code_of(data[:i]) == "upstream_cut"


def test_a_head_request_has_no_body_whatever_the_lengths_say():
    for framing in (b"Content-Length: 5\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n", b"\r\n"):
        reader, body = read(OK + framing, bodiless=True, eof=False)
        assert reader.complete and reader.keep_alive and not body


BAD = {
    "not http": b"SSH-2.0-OpenSSH\r\n",
    "http/2": b"HTTP/2.0 200 OK\r\n\r\n",
    "http/2 preface": b"PRI * HTTP/2.0\r\n\r\n",
    "lower case": b"http/1.1 200 OK\r\n\r\n",
    "1.2": b"HTTP/1.2 200 OK\r\n\r\n",
    "leading line": b"\r\n" + OK + b"\r\n",
    "leading blank": b" " + OK + b"\r\n",
    "two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "status 099": b"HTTP/1.1 099 OK\r\n\r\n",
    "signed": b"HTTP/1.1 +20 OK\r\n\r\n",
    "two blanks": b"HTTP/1.1  200 OK\r\n\r\n",
    "tab": b"HTTP/1.1\t200\tOK\r\n\r\n",
    "no status": b"HTTP/1.1\r\n\r\n",
    "other digits": b"HTTP/1.1 \xb2\xb2\xb2 OK\r\n\r\n",
    "101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "endless interim": b"HTTP/1.1 100 Continue\r\n\r\n" * 40,
    "bare lf": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "one bare lf": OK + b"A: b\nContent-Length: 2\r\n\r\nok",
    "bare lf at the end": OK + b"Content-Length: 2\r\n\nok",
    "bare cr": OK + b"A: b\rContent-Length: 2\r\n\r\nok",
    "cr cr lf": OK + b"A: b\r\r\n\r\n",
    "nul": OK + b"A: b\0c\r\n\r\n",
    "nul in reason": b"HTTP/1.1 200 O\0K\r\n\r\n",
    "escape": OK + b"A: \x1b[2J\r\n\r\n",
    "delete": OK + b"A: \x7f\r\n\r\n",
    "folded": OK + b"A: b\r\n c\r\nContent-Length: 2\r\n\r\nok",
    "folded by tab": OK + b"A: b\r\n\tc\r\n\r\n",
    "folded first": OK + b" A: b\r\n\r\n",
    "blank before colon": OK + b"Content-Length : 2\r\n\r\nok",
    "tab before colon": OK + b"Content-Length\t: 2\r\n\r\nok",
    "no colon": OK + b"Content-Length\r\n\r\n",
    "no name": OK + b": 2\r\n\r\n",
    "name with blank": OK + b"Content Length: 2\r\n\r\n",
    "name not ascii": OK + b"Cont\xe9nt: 2\r\n\r\n",
    "name in brackets": OK + b"[a]: 2\r\n\r\n",
    "both": OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "both, other order": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n",
    "differing": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nokk",
    "differing list": OK + b"Content-Length: 2,3\r\n\r\nokk",
    "differing in writing": OK + b"Content-Length: 2, 02\r\n\r\nok",
    "half a list": OK + b"Content-Length: 2,\r\n\r\nok",
    "empty length": OK + b"Content-Length: \r\n\r\n",
    "plus": OK + b"Content-Length: +2\r\n\r\nok",
    "minus": OK + b"Content-Length: -2\r\n\r\nok",
    "hex": OK + b"Content-Length: 0x2\r\n\r\nok",
    "fraction": OK + b"Content-Length: 2.0\r\n\r\nok",
    "underscore": OK + b"Content-Length: 1_0\r\n\r\n0123456789",
    "other numerals": OK + b"Content-Length: \xb2\r\n\r\nok",
    "two numbers": OK + b"Content-Length: 2 2\r\n\r\nok",
    "enormous": OK + b"Content-Length: 99999999999999999999\r\n\r\nok",
    "gzip, chunked": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    "chunked, gzip": OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n",
    "identity": OK + b"Transfer-Encoding: identity\r\n\r\nok",
    "xchunked": OK + b"Transfer-Encoding: xchunked\r\n\r\n",
    "chunked quoted": OK + b'Transfer-Encoding: "chunked"\r\n\r\n',
    "chunked twice": OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n",
    "chunked in two": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    "chunked and identity": OK
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
    "vertical tab": OK + b"Transfer-Encoding: \x0bchunked\r\n\r\n",
    "empty coding": OK + b"Transfer-Encoding: \r\n\r\nok",
    "chunked in 1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "too many headers": OK + b"A: b\r\n" * (MAX_HEADERS + 1) + b"\r\n",
    "too large": OK + b"A: " + b"b" * MAX_HEAD_BYTES + b"\r\n\r\n",
    "too large, no end": OK + b"A: " + b"b" * MAX_HEAD_BYTES,
}
BAD_CHUNKS = {
    "no size": b"\r\nok\r\n",
    "minus": b"-2\r\nok\r\n",
    "plus": b"+2\r\nok\r\n",
    "0x": b"0x2\r\nok\r\n",
    "blank before": b" 2\r\nok\r\n",
    "blank after": b"2 \r\nok\r\n",
    "letters": b"xyz\r\nok\r\n",
    "underscore": b"1_0\r\n0123456789012345\r\n",
    "overflow": b"fffffffffffffffff\r\nok\r\n",
    "bare lf": b"2\nok\r\n",
    "bare cr": b"2\rok\r\n",
    "lf in extension": b"2;a\nok\r\n",
    "cr in extension": b"2;a\rb\r\nok\r\n",
    "nul in extension": b"2;a\0\r\nok\r\n",
    "lf after data": b"2\r\nok\n0\r\n\r\n",
    "nothing after data": b"2\r\nok0\r\n\r\n",
    "data too long": b"2\r\nokk\r\n0\r\n\r\n",
    "lf at the end": b"2\r\nok\r\n0\r\n\n",
    "cr at the end": b"2\r\nok\r\n0\r\n\rX",
    "trailer lf": b"0\r\nA: b\n\r\n",
    "trailer folded": b"0\r\nA: b\r\n c\r\n\r\n",
    "trailer nul": b"0\r\nA: \0\r\n\r\n",
    "trailer blank": b"0\r\nA : b\r\n\r\n",
    "trailer length": b"0\r\nContent-Length: 5\r\n\r\n",
    "endless extension": b"2;a=" + b"b" * 70_000,
    "endless trailer": b"0\r\n" + b"A: b\r\n" * 20_000,
}
BAD |= {
    f"chunk: {name}": OK + b"Transfer-Encoding: chunked\r\n\r\n" + data
    for name, data in BAD_CHUNKS.items()
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("step", [None, 1, 7, 1000])
def test_a_malformed_answer_is_refused_without_waiting_for_more(name, step):
    if step == 1 and len(BAD[name]) > 10_000:
        step = 333
    assert code_of(BAD[name], step=step, eof=False) == "upstream_bad_response"


def test_framing_headers_of_a_head_answer_are_checked_too():
    assert code_of(BAD["both"], bodiless=True) == "upstream_bad_response"


def test_header_names_are_lower_case_and_repeated_ones_keep_their_order():
    reader, _ = read(OK + b"Set-Cookie: a\r\nX-A:  spaced \r\nSET-COOKIE: b\r\nE:\r\n\r\n")
    assert reader.headers == [
        ("set-cookie", "a"),
        ("x-a", "spaced"),
        ("set-cookie", "b"),
        ("e", ""),
    ]


def test_interim_headers_do_not_leak_into_the_answer():
    data = b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + OK + b"A: b\r\nContent-Length: 0\r\n\r\n"
    assert read(data)[0].headers == [("a", "b"), ("content-length", "0")]


@pytest.mark.parametrize(
    "value,seconds",
    [
        ("timeout=5", 4),
        ("timeout=5, max=100", 4),
        ("max=100, Timeout=75", 74),
        ("timeout=0", 0),
        ("timeout=1", 0),
        ("timeout=", None),
        ("timeout=-5", None),
        ("max=3", None),
        ("xtimeout=3", None),
    ],
)
def test_the_keep_alive_hint_is_taken_with_a_second_to_spare(value, seconds):
    reader, _ = read(OK + f"Keep-Alive: {value}\r\nContent-Length: 0\r\n\r\n".encode())
    assert reader.idle_seconds == seconds


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_chunking_under_any_split_gives_the_same_body(data):
    body = data.draw(st.binary(max_size=300))
    wire, rest = b"", body
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        wire += b"%x\r\n%b\r\n" % (size, rest[:size])
        rest = rest[size:]
    wire = OK + b"Transfer-Encoding: chunked\r\n\r\n" + wire + b"0\r\n\r\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    reader, got = ResponseReader(), b""
    for a, b in itertools.pairwise([0, *cuts, len(wire)]):
        if a != b:
            reader.feed(wire[a:b])
            got += reader.take()
    assert got == body and reader.complete and reader.keep_alive and not reader.surplus


# --- requests -------------------------------------------------------------------------------------


async def pieces():
    yield b"x"


def head(method="POST", target="/x", headers=(), body=b"hi", extra=""):
    return request_head(method, target, "host:1", list(headers), body, extra)


def test_a_request_head_is_one_piece_with_its_framing():
    assert head(headers=[("A", "b"), ("x-y", "z\xe9")]).data == (
        b"POST /x HTTP/1.1\r\nHost: host:1\r\nA: b\r\nx-y: z\xe9\r\nContent-Length: 2\r\n\r\n"
    )


@pytest.mark.parametrize(
    "method,body,given_length,line",
    [
        ("GET", None, None, b""),
        ("GET", b"", "5", b""),
        ("POST", None, None, b"Content-Length: 0\r\n"),
        ("POST", b"", "5", b"Content-Length: 0\r\n"),
        ("POST", b"abc", "5", b"Content-Length: 3\r\n"),
        ("DELETE", b"abc", None, b"Content-Length: 3\r\n"),
        ("POST", "stream", None, b"Transfer-Encoding: chunked\r\n"),
        ("POST", "stream", "5", b"Content-Length: 5\r\n"),
    ],
)
def test_the_framing_is_ours_and_a_length_counts_for_streams_only(method, body, given_length, line):
    stream = pieces() if body == "stream" else body
    headers = [("Content-Length", given_length)] if given_length else []
    headers += [("Transfer-Encoding", "gzip, chunked")]
    written = head(method, headers=headers, body=stream).data
    assert written == f"{method} /x HTTP/1.1\r\nHost: host:1\r\n".encode() + line + b"\r\n"


def test_headers_about_the_callers_connection_do_not_travel():
    dropped = ["Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "TE", "Upgrade"]
    written = head(headers=[(name, "secret") for name in dropped] + [("Connection", "upgrade")])
    assert b"secret" not in written.data and b"onnection" not in written.data
    assert b"Connection: close\r\n" in head(headers=[("connection", "Close")]).data


@pytest.mark.parametrize(
    "name,value",
    [
        ("A", "b\r\nC: d"),
        ("A", "b\nC: d"),
        ("A", "b\rC: d"),
        ("A", "b\0"),
        ("A\r\nB", "c"),
        ("A B", "c"),
        ("A:", "c"),
        ("", "c"),
        ("Ä", "c"),
        ("A", "\u20ac"),
        ("Host", "a\r\nB: c"),
        ("Content-Length", "5\r\nA: b"),
        ("Content-Length", "-5"),
        ("Content-Length", "²"),
    ],
)
def test_a_header_that_could_inject_is_refused_without_telling_its_value(name, value):
    with pytest.raises(GatewayError) as caught:
        head(headers=[("Fine", "secret-key"), (name, value)], body=pieces())
    assert (caught.value.status, caught.value.code) == (400, "bad_header")
    assert "secret-key" not in caught.value.message
    assert len(value) < 3 or value not in caught.value.message


@pytest.mark.parametrize("target", ["/a b", "/a\r\nX: y", "/a\n", "/\0", "/\x7f", "/\t", "/\u20ac"])
def test_a_target_with_blanks_or_control_characters_is_refused(target):
    with pytest.raises(GatewayError) as caught:
        head(target=target)
    assert (caught.value.status, caught.value.code) == (400, "bad_path")


@pytest.mark.parametrize("method", ["", "GET /x HTTP/1.1\r\n", "G ET", "CONNECT", "GET\n"])
def test_a_method_that_is_no_token_or_would_open_a_tunnel_is_refused(method):
    with pytest.raises(GatewayError) as caught:
        head(method)
    assert (caught.value.status, caught.value.code) == (400, "bad_method")
