"""The gateway's own mark, which carries what an upstream wants back through any client."""

from base64 import b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.wire import signatures
from app.wire.signatures import CLAUDE, GEMINI, MARK, UNSIGNED, decode, encode, is_marked

KINDS = st.sampled_from([GEMINI, CLAUDE, UNSIGNED])


@given(KINDS, st.text())
def test_what_was_marked_comes_back(kind, payload):
    assert decode(encode(kind, payload)) == (kind, payload)


@given(KINDS, st.text())
def test_every_mark_begins_alike_and_is_base64(kind, payload):
    marked = encode(kind, payload)
    assert marked.startswith(MARK)
    assert is_marked(marked)
    assert b64decode(marked, validate=True).startswith(b"anyproxy1")


@given(KINDS, st.text())
def test_the_other_alphabet_and_a_lost_padding_change_nothing(kind, payload):
    marked = encode(kind, payload)
    assert decode(marked.replace("+", "-").replace("/", "_").rstrip("=")) == (kind, payload)


@pytest.mark.parametrize(
    "foreign",
    ["", "ErUBCkYIBxgCIkD", MARK, MARK + "!!", MARK + "Z", MARK + "ZzrDKA", MARK[:-1], " " + MARK],
)
def test_foreign_and_broken_signatures_hold_nothing(foreign):
    assert signatures.decode(foreign) is None


@given(st.text())
def test_no_text_makes_it_raise(text):
    decode(text)
    decode(MARK + text)
