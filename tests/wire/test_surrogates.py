"""Halves of surrogate pairs, as upstreams that count in UTF-16 send them."""

import msgspec
import pytest

from app.wire.errors import GatewayError
from app.wire.framing import JsonArrayParser, RecordParser, SSEParser
from app.wire.surrogates import mend
from tests.calls import asked_of

HIGH, LOW = rb"\ud83d", rb"\uDE00"


@pytest.mark.parametrize(
    "text, told",
    [
        (rb'"a\ud83d"', "a\ufffd"),
        (rb'"\ude00b"', "\ufffdb"),
        (rb'"\ud83d\ude00"', "\U0001f600"),
        (rb'"\uD83D\uD83D\uDE00\uDE00"', "\ufffd\U0001f600\ufffd"),
        (rb'"\ud83d\u0041"', "\ufffdA"),
        (rb'"\ud83d\n"', "\ufffd\n"),
        (rb'"\\ud83d"', "\\ud83d"),
        (rb'"\\\ud83d"', "\\\ufffd"),
        (rb'"\\ud83d\ude00"', "\\ud83d\ufffd"),
        (rb'"\\\\\ud83d\\"', "\\\\\ufffd\\"),
        (rb'"plain \u00e9"', "plain \xe9"),
    ],
)
def test_a_half_alone_becomes_a_replacement_character(text, told):
    assert msgspec.json.decode(mend(text)) == told
    assert mend(mend(text)) == mend(text)


def test_what_has_no_halves_is_the_very_same():
    for text in (b'"x"', rb'"\\ud83d"', rb'"\ud83d\ude00"'):
        assert mend(text) is text


def sse(*texts):
    return b"".join(b'event: e\ndata: {"t": "%b"}\n\n' % text for text in texts)


def texts(records):
    return [msgspec.json.decode(record)["t"] for record in records]


PARTED = [
    ((b"a" + HIGH, LOW + b"b"), ["a", "\U0001f600b"]),
    ((b"a" + HIGH, b"b"), ["a\ufffd", "b"]),
    ((b"a", LOW + b"b"), ["a", "\ufffdb"]),
    ((HIGH, LOW, HIGH, LOW), ["", "\U0001f600", "", "\U0001f600"]),
    ((HIGH, HIGH, LOW), ["\ufffd", "", "\U0001f600"]),
    ((b"a" + HIGH,), ["a\ufffd"]),
]


@pytest.mark.parametrize("said, told", PARTED)
@pytest.mark.parametrize("size", [1, 5, 37, 1000])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_halves_are_joined_across_events(said, told, size, end):
    stream = sse(*said).replace(b"\n", end)
    parser, records = SSEParser(), []
    for at in range(0, len(stream), size):
        records += parser.feed(stream[at : at + size])
    records += parser.finish()
    assert [name for name, _ in records] == [b"e"] * len(said)
    assert texts(data for _, data in records) == told


def test_an_event_with_several_data_lines_waits_whole():
    parser = SSEParser()
    assert parser.feed(b'data: {"t":\ndata: "\\ud83d"}\n\n') == []
    assert parser.feed(b": ping\n\n") == []
    assert texts(data for _, data in parser.feed(sse(LOW))) == ["", "\U0001f600"]


@pytest.mark.parametrize("said, told", PARTED)
@pytest.mark.parametrize("size", [1, 5, 1000])
def test_halves_are_joined_across_the_objects_of_an_array(said, told, size):
    array = b"[" + b",".join(b'{"t": "%b"}' % text for text in said) + b"]"
    parser, objects = JsonArrayParser(), []
    for at in range(0, len(array), size):
        objects += parser.feed(array[at : at + size])
    assert texts(objects) == told
    assert parser.finish() == []


def test_a_bare_object_with_half_a_pair_comes_at_the_end():
    parser = JsonArrayParser()
    assert parser.feed(b'{"t": "\\ud83d"}') == []
    assert texts(parser.finish()) == ["\ufffd"]


def test_records_are_readable_with_a_half():
    assert texts(RecordParser().feed(b'{"t": "a\\ud83d"}\x1e')) == ["a\ufffd"]


def test_a_callers_half_is_replaced_and_broken_json_still_refused():
    body = rb'{"model":"m","messages":[{"role":"user","content":"cut \ud83d"}]}'
    asked = asked_of(body)
    assert asked.model == "m"
    assert asked.body == body.replace(HIGH, rb"\ufffd")
    whole = b'{"model":"m"}'
    assert asked_of(whole).body is whole
    for broken in (b'{"a":"\\ud83d"', b'{"a":"\\ud83d"} x', b"{", b'{"model":1,"a":"\\ud83d"}'):
        with pytest.raises(GatewayError) as caught:
            asked_of(broken)
        assert caught.value.status == 400
