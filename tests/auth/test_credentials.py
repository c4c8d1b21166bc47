"""Which header values are a credential of the caller's own."""

import pytest

from app.auth.credentials import bare_token, callers_own, subprotocols


@pytest.mark.parametrize(
    ("value", "token"),
    [
        ("Bearer sk-1", "sk-1"),
        ("bearer   sk-1 ", "sk-1"),
        ("sk-1", "sk-1"),
        ("", ""),
        ("Bearer ", ""),
        ("Bearer", ""),
        ("pool", ""),
        ("Bearer none", ""),
        ("Bearer EMPTY", ""),
        ("Bearer empty-looking", "empty-looking"),
    ],
)
def test_what_counts_as_a_credential(value, token):
    assert bare_token(value) == token


def test_the_first_header_with_a_real_credential_wins():
    headers = {"authorization": "Bearer pool", "x-api-key": "k"}
    assert callers_own(headers, ("authorization", "x-api-key")) == "k"
    assert callers_own(headers, ("authorization",)) == ""


@pytest.mark.parametrize(
    ("header", "names", "keys"),
    [
        ("", [], []),
        ("realtime", ["realtime"], []),
        ("realtime, openai-insecure-api-key.sk-1", ["realtime"], ["sk-1"]),
        ("openai-insecure-api-key.sk-1,,a , b", ["a", "b"], ["sk-1"]),
    ],
)
def test_keys_among_subprotocols(header, names, keys):
    assert subprotocols(header) == (names, keys)
