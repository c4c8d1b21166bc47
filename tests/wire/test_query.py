"""Queries keep their spelling."""

import pytest

from app.wire.query import first_value, without


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("", ""),
        ("beta=true&x=a%20b&x=a+b&%7E&&y=%2f", "beta=true&x=a%20b&x=a+b&%7E&&y=%2f"),
        ("key=AIza&alt=sse", "alt=sse"),
        ("alt=sse&k%65y=AIza&key", "alt=sse"),
        ("monkey=1&key=", "monkey=1"),
        ("key=1", ""),
    ],
)
def test_only_the_named_parameters_go(query, kept):
    assert without(query, ("key",)) == kept


@pytest.mark.parametrize(
    ("query", "value"),
    [("alt=sse", "sse"), ("x=1&%61lt=s%73e&alt=json", "sse"), ("alt", ""), ("malt=sse", "")],
)
def test_a_value_is_the_first_one_of_its_name(query, value):
    assert first_value(query, "alt") == value
