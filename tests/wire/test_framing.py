"""The parsers give the same records whatever pieces their input comes in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.wire.errors import GatewayError
from app.wire.framing import JsonArrayParser, RecordParser, SSEParser

STREAM = (
    b": ping\n\n"
    b'event: a\ndata: {"x":1}\n\n'
    b"data: one\ndata: two\n\n"
    b"data:no space\n\n"
    b"id: 7\nretry: 5\nevent:b\ndata: \xe4\xbd\xa0\xe5\xa5\xbd\n\n"
    b"data\n\n"
    b"event: nothing\n\n"
    b"data: [DONE]\n\n"
)
RECORDS = [
    (b"a", b'{"x":1}'),
    (b"", b"one\ntwo"),
    (b"", b"no space"),
    (b"b", "你好".encode()),
    (b"", b""),
    (b"", b"[DONE]"),
]


def read(pieces):
    parser = SSEParser()
    return [r for piece in pieces for r in parser.feed(piece)] + parser.finish()


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"], ids=["lf", "crlf", "cr"])
def test_every_two_way_split_of_a_stream_gives_the_same_records(newline):
    stream = STREAM.replace(b"\n", newline)
    for at in range(len(stream) + 1):
        assert read([stream[:at], stream[at:]]) == RECORDS, at


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"], ids=["lf", "crlf", "cr"])
def test_a_stream_byte_by_byte_gives_the_same_records(newline):
    stream = STREAM.replace(b"\n", newline)
    assert read([stream[i : i + 1] for i in range(len(stream))]) == RECORDS


def test_a_byte_order_mark_is_not_part_of_the_first_field():
    for at in range(4):
        marked = b"\xef\xbb\xbfdata: x\n\n"
        assert read([marked[:at], marked[at:]]) == [(b"", b"x")]


def test_an_event_without_its_blank_line_is_told_at_the_end():
    assert read([b"data: x\n\ndata: last"]) == [(b"", b"x"), (b"", b"last")]


def test_lines_that_are_no_field_are_kept_as_stray():
    parser = SSEParser()
    parser.feed(b'data: x\n\n{\n  "error": {"code": 503}\n}\n\n')
    assert bytes(parser.stray) == b'{\n  "error": {"code": 503}\n}\n'


def test_an_endless_event_is_refused():
    parser = SSEParser(max_bytes=1000)
    with pytest.raises(GatewayError) as caught:
        for _ in range(100):
            parser.feed(b"data: " + b"x" * 50)
    assert caught.value.code == "upstream_bad_response"


@given(st.lists(st.binary(max_size=20)))
def test_any_bytes_in_any_pieces_give_what_they_give_at_once(pieces):
    assert read(pieces) == read([b"".join(pieces)])


@given(
    st.lists(
        st.sampled_from([b"data: a", b"event: e", b":c", b"\n", b"\r\n", b"\r", b"\n\n", b"x"])
    ),
    st.integers(1, 7),
)
def test_field_like_lines_in_any_pieces_give_what_they_give_at_once(lines, size):
    whole = b"".join(lines)
    assert read([whole[i : i + size] for i in range(0, len(whole), size)]) == read([whole])


@given(st.lists(st.binary(max_size=12)))
def test_separated_records_do_not_depend_on_the_pieces(pieces):
    whole = b"".join(pieces)
    parser, at_once = RecordParser(), RecordParser()
    got = [r for piece in pieces for r in parser.feed(piece)]
    assert got == at_once.feed(whole)
    assert parser.finish() == at_once.finish()


@given(st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=8), max_size=3)), st.data())
def test_an_array_gives_its_objects_under_any_pieces(objects, data):
    import json

    indent = data.draw(st.sampled_from([None, 2]))
    text = json.dumps(objects, indent=indent, ensure_ascii=data.draw(st.booleans())).encode()
    size = data.draw(st.integers(1, 30))
    parser = JsonArrayParser()
    got = [o for i in range(0, len(text), size) for o in parser.feed(text[i : i + size])]
    assert [json.loads(o) for o in got] == objects
    assert parser.ended and not parser.open


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_an_object_above_the_limit_is_passed_over_whatever_is_in_it(size):
    large = b'{"a": "}]\\"{' + b'\\\\"' + b', "b": {"c": [{"d": "' + b"x" * 200 + b'\\""}]}}'
    text = b'[{"n": 1}, ' + large + b', {"n": 2}, ' + large + b"]"
    parser = JsonArrayParser(100, skip_large=True)
    got = [o for i in range(0, len(text), size) for o in parser.feed(text[i : i + size])]
    assert (got, parser.skipped) == ([b'{"n": 1}', b'{"n": 2}'], 2)
    assert parser.ended and not parser.open
    with pytest.raises(GatewayError):
        JsonArrayParser(100).feed(text[:200])
