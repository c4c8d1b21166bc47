"""Which credential answers."""

from collections import Counter

import pytest

from app.key_pool import KeyPool, bare_token, callers_own
from app.shared_state import REST_UNTIL, SharedState, fingerprint
from app.wire.errors import GatewayError
from app.wire.settings import Config, KeyEntry, OpenAI

POOL = "openai.api_keys"


def pool_of(count, state=None):
    keys = [KeyEntry(id=str(n), val=f"sk-{n}") for n in range(count)]
    return KeyPool(Config(openai=OpenAI(api_keys=keys)), state or SharedState())


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


def test_random_is_uniform():
    pool = pool_of(4)
    counts = Counter(pool.pick(POOL).key.id for _ in range(4000))
    assert set(counts) == {"0", "1", "2", "3"}
    assert all(850 < n < 1150 for n in counts.values())


def test_a_resting_key_is_passed_over():
    state = SharedState()
    pool = pool_of(3, state)
    state.set(state.row(f"{POOL}/1"), REST_UNTIL, 4e9)
    assert {pool.pick(POOL).key.id for _ in range(200)} == {"0", "2"}


def test_a_rest_stays_with_its_key_when_the_list_is_reordered():
    state = SharedState()
    pool_of(3, state)
    state.set(state.row(f"{POOL}/1"), REST_UNTIL, 4e9)
    keys = [KeyEntry(id=n, val=f"sk-{n}") for n in ("new", "2", "1", "0")]
    reordered = KeyPool(Config(openai=OpenAI(api_keys=keys)), SharedState(state.handles))
    assert {reordered.pick(POOL).key.id for _ in range(300)} == {"new", "2", "0"}


def test_an_id_is_never_answered_by_another_key():
    with pytest.raises(GatewayError) as caught:
        pool_of(2).pick(POOL, "9")
    assert caught.value.code == "unknown_auth_id"


def test_no_error_and_no_repr_holds_a_key():
    key = pool_of(1).pick(POOL).key
    assert "sk-0" not in repr(key) and "sk-0" not in f"{key}"


def test_rows_are_found_again_and_never_shared():
    state = SharedState()
    rows = [state.row(f"name-{n}") for n in range(2000)]
    assert len(set(rows)) == 2000
    assert [state.row(f"name-{n}") for n in range(2000)] == rows
    assert fingerprint("a") != fingerprint("b")


def test_a_full_table_says_so_and_overwrites_nothing():
    state = SharedState()
    rows = {state.row(f"name-{n}") for n in range(5000)}
    assert -1 in rows and len(rows) == 4097
