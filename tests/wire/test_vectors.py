"""Embedding vectors as text, and at length 1."""

import math
from array import array
from base64 import b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.wire.errors import GatewayError
from app.wire.vectors import VectorFinder, as_base64, unit

numbers = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=50)


@given(numbers)
def test_base64_holds_little_endian_float32(values):
    packed = b64decode(as_base64(values))
    assert array("f", packed).tolist() == values
    assert as_base64([1.0]) == "AACAPw=="


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=50))
def test_a_vector_gets_length_1_and_keeps_its_direction(values):
    found = unit(values)
    length = math.hypot(*values)
    if length > 1e-6:
        assert math.hypot(*found) == pytest.approx(1, abs=2e-6)
        assert [v * length for v in found] == pytest.approx(values, rel=1e-5, abs=1e-6)


def test_what_has_length_1_or_none_stays_as_it_is():
    for values in ([0.6, 0.8], [0.0, 0.0]):
        assert unit(values) is values


JSON_TEXT = (
    b'{"data":[{"e":[0.5, -1e-3],"i":0,"t":"[1]]"},{"e":[\n1\n],"n":[[1],[2]]}],"x":[{}],"y":[]}'
)
LISTS = [b"[0.5, -1e-3]", b"[1]", b"[\n1\n]", b"[1]", b"[2]", b"[]"]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_lists_of_numbers_are_found_in_every_split(size):
    finder = VectorFinder(1000)
    pieces = [JSON_TEXT[at : at + size] for at in range(0, len(JSON_TEXT), size)]
    found = [pair for piece in pieces for pair in finder.feed(piece)]
    assert [vector for _, vector in found] == LISTS
    assert b"".join(part for pair in found for part in pair) + finder.rest() == JSON_TEXT


@given(st.text(alphabet='[]"1, {', max_size=60), st.integers(1, 60))
def test_nothing_is_lost_or_moved(text, at):
    data = text.encode()
    finder = VectorFinder(1000)
    found = [*finder.feed(data[:at]), *finder.feed(data[at:])]
    assert b"".join(part for pair in found for part in pair) + finder.rest() == data


def test_more_than_the_limit_is_an_error():
    finder = VectorFinder(3)
    finder.feed(b"[1]")
    with pytest.raises(GatewayError):
        finder.feed(b"x")
