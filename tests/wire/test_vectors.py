"""Embedding vectors as text, and at length 1."""

import math
from array import array
from base64 import b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.wire.vectors import as_base64, unit

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
