"""Tool ids of other houses, made legal and given back."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.wire.tool_ids import legal, original

LEGAL = re.compile(r"[A-Za-z0-9_-]{0,64}")
SHORT = st.text(max_size=30).filter(lambda text: len(text.encode("utf-8", "surrogatepass")) <= 30)


@given(st.text(max_size=200))
def test_every_id_becomes_legal_and_stays_so(call_id):
    made = legal(call_id)
    assert LEGAL.fullmatch(made)
    assert bool(made) == bool(call_id)


@given(SHORT)
def test_an_id_up_to_thirty_bytes_comes_back_as_it_was(call_id):
    assert original(legal(call_id)) == call_id


@given(st.lists(st.text(max_size=100), unique=True, max_size=6))
def test_different_ids_stay_different(ids):
    assert len({legal(one) for one in ids}) == len(ids)


@pytest.mark.parametrize(
    "call_id", ["toolu_01A", "call_abc-DEF_9", "hx_", "hx_0", "hx_XY", "x" * 64]
)
def test_a_legal_id_is_left_alone(call_id):
    assert legal(call_id) == call_id
    assert original(call_id) == call_id


def test_an_id_that_looks_like_a_changed_one_is_changed_too():
    assert original("hx_6162") == "ab"
    assert original(legal("hx_6162")) == "hx_6162"


def test_a_long_id_becomes_a_hash_that_is_not_undone():
    made = legal("functions.read_a_file_with_a_long_name:0")
    assert len(made) <= 64
    assert original(made) == made
