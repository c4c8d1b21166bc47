"""The stop cutter: the same text out however it came in, and never a piece of a stop sequence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.wire.stop_cutter import StopCutter

FEW = st.text("ab<", max_size=12)
STOPS = st.lists(st.text("ab<", min_size=1, max_size=4), min_size=1, max_size=4)


def cut(stops, pieces):
    """What a caller gets, and the sequence that ended it."""
    cutter = StopCutter(stops)
    out = []
    for piece in pieces:
        out.append(cutter.feed(piece))
        if cutter.matched is not None:
            break
    else:
        out.append(cutter.rest())
    return "".join(out), cutter.matched


def expected(stops, text):
    """By the definition: the sequence that is whole first, of those the longest."""
    ends = [(text.find(stop) + len(stop), text.find(stop), stop) for stop in stops if stop in text]
    if not ends:
        return text, None
    _, at, stop = min(ends)
    return text[:at], stop


@given(STOPS, st.lists(FEW, max_size=8))
def test_pieces_give_what_the_whole_gives(stops, pieces):
    assert cut(stops, pieces) == expected(stops, "".join(pieces))


@given(STOPS, st.lists(FEW, max_size=8))
def test_what_is_held_back_is_the_start_of_a_stop_sequence_and_no_more(stops, pieces):
    cutter = StopCutter(stops)
    fed = told = ""
    for piece in pieces:
        told += cutter.feed(piece)
        if cutter.matched is not None:
            return
        fed += piece
        held = fed[len(told) :]
        assert fed == told + held
        assert not held or any(stop.startswith(held) and stop != held for stop in stops)
        # Nothing of what was told may still become one.
        assert not any(
            stop.startswith(fed[at:])
            for stop in stops
            for at in range(len(told))
            if len(fed) - at < len(stop)
        )


@pytest.mark.parametrize(
    ("stops", "pieces", "wanted"),
    [
        (["</block>"], ["yes</blo", "ck>more"], ("yes", "</block>")),  # across a border
        (["END"], ["END of it"], ("", "END")),  # at the start
        (["ab", "abc"], ["xab", "c"], ("x", "ab")),  # overlapping prefixes: whole first
        (["bc", "abc"], ["xa", "bc"], ("x", "abc")),  # whole at once: the longer
        (["aab"], ["aa", "ab"], ("a", "aab")),  # a false start inside
        (["]", "^", "-", "\\"], ["a-b"], ("a", "-")),  # signs that a pattern would read
        (["", "x"], ["ax"], ("a", "x")),
        ([""], ["ax"], ("ax", None)),
        (["END"], ["no E", "N", "D"], ("no ", "END")),
        (["END"], ["no EN"], ("no EN", None)),
    ],
)
def test_stop_sequences_are_cut(stops, pieces, wanted):
    assert cut(stops, pieces) == wanted
