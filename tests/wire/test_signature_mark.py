"""The gateway's own signatures, which carry what an upstream wants back through any client."""

from base64 import b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.wire.signature_mark import START, mark, read_mark

KINDS = st.sampled_from(["g", "t", "c"])


@given(KINDS, st.text())
def test_what_was_marked_comes_back(kind, payload):
    assert read_mark(mark(kind, payload)) == (kind, payload)


@given(KINDS, st.text())
def test_every_mark_begins_alike_and_is_base64(kind, payload):
    marked = mark(kind, payload)
    assert marked.startswith(START)
    assert b64decode(marked, validate=True).startswith(b"anyproxy1")


@given(KINDS, st.text())
def test_the_other_alphabet_and_a_lost_padding_change_nothing(kind, payload):
    marked = mark(kind, payload)
    other = marked.replace("+", "-").replace("/", "_").rstrip("=")
    assert read_mark(other) == (kind, payload)


@pytest.mark.parametrize(
    "foreign",
    ["", "ErUBCkYIBxgCIkD", START, START + "!!", START + "Z", START + "ZzrDKA", " " + START],
)
def test_foreign_and_broken_signatures_hold_nothing(foreign):
    assert read_mark(foreign) is None


@given(st.text())
def test_no_text_makes_it_raise(text):
    read_mark(text)
    read_mark(START + text)
