"""Cooldowns outlive a restart, and what is read back may be anything."""

import json
import stat

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.config.schema import Config, KeyEntry, OpenAI
from app.pool import cooldown_store
from app.pool.key_pool import KeyPool, row_name
from app.pool.outcomes import Outcome
from app.state.shared_table import FIELDS, SharedState
from app.wire.errors import GatewayError

POOL = "openai.api_keys"
NOW = 1_800_000_000.0


def pool_of(state, now=NOW, **values):
    values = values or {"a": "sk-a", "b": "sk-b"}
    keys = [KeyEntry(id=id, val=val) for id, val in values.items()]
    return KeyPool(Config(openai=OpenAI(api_keys=keys)), state, lambda: now)


def wait_of(pool, id, model="m"):
    try:
        pool.release(pool.pick(POOL, id, model=model))
    except GatewayError as error:
        return round(error.retry_after)
    return 0


def fail(pool, id, outcome, model="m"):
    lease = pool.pick(POOL, id, model=model)
    pool.report(lease, outcome)
    pool.release(lease)


def test_cooldowns_survive_a_restart_with_their_back_off_step(tmp_path):
    state = SharedState()
    pool = pool_of(state)
    fail(pool, "a", Outcome.AUTH)
    fail(pool, "b", Outcome.LIMITED, "gpt-4o")
    cooldown_store.save(state, tmp_path / "deep" / "rests.json", NOW)
    again = SharedState()
    assert cooldown_store.load(again, tmp_path / "deep" / "rests.json", NOW + 4) == 2
    later = pool_of(again, NOW + 4)
    assert wait_of(later, "a") == 6
    assert wait_of(later, "b", "gpt-4o") == 6 and wait_of(later, "b", "other") == 0
    due = pool_of(again, NOW + 10.5)
    fail(due, "a", Outcome.AUTH)
    assert wait_of(due, "a") == 20


def test_the_file_holds_no_name_and_no_secret(tmp_path):
    state = SharedState()
    pool = pool_of(state, **{"account-of-bob": "sk-secret"})
    fail(pool, "account-of-bob", Outcome.AUTH)
    path = tmp_path / "rests.json"
    cooldown_store.save(state, path, NOW)
    text = path.read_text()
    assert json.loads(text)["rests"] and not any(
        word in text for word in ("bob", "secret", "sk-", "openai")
    )
    assert [file.name for file in tmp_path.iterdir()] == ["rests.json"]
    assert stat.S_ISREG(path.stat().st_mode)


def test_a_secret_replaced_before_the_start_is_available(tmp_path):
    state = SharedState()
    fail(pool_of(state), "a", Outcome.AUTH)
    cooldown_store.save(state, tmp_path / "f", NOW)
    again = SharedState()
    cooldown_store.load(again, tmp_path / "f", NOW)
    assert wait_of(pool_of(again, a="sk-new", b="sk-b"), "a") == 0


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"version":2,"rests":[]}', b'{"version":1,"rests":[[1]]}', b"\xff\xfe",
     b'{"version":1,"rests":[[1,0,0,1e300,0,1,1,1]]}',
     b'{"version":1,"rests":[[-1,0,0,1,0,1,1,1]]}'],
)  # fmt: skip
def test_a_file_that_makes_no_sense_is_no_file(tmp_path, content):
    path = tmp_path / "f"
    path.write_bytes(content)
    assert cooldown_store.load(SharedState(), path, NOW) == 0


def test_no_file_is_no_cooldown(tmp_path):
    assert cooldown_store.load(SharedState(), tmp_path / "none", NOW) == 0


def test_the_later_change_counts(tmp_path):
    one, other = SharedState(), SharedState()
    here, there = pool_of(one), pool_of(other, NOW + 3)
    fail(here, "a", Outcome.AUTH)
    fail(there, "a", Outcome.SPENT)
    (old,) = cooldown_store.export(one)
    (new,) = cooldown_store.export(other)
    assert not cooldown_store.merge(other, old, NOW + 3) and cooldown_store.merge(one, new, NOW + 3)
    assert wait_of(pool_of(one, NOW + 3), "a") == 1800
    there.reset(POOL, "a")
    (lifted,) = cooldown_store.export(other)
    assert not cooldown_store.merge(one, lifted, NOW + 3)  # of the same moment
    assert cooldown_store.merge(one, msgspec.structs.replace(lifted, changed=NOW + 4), NOW + 4)
    assert wait_of(pool_of(one, NOW + 4), "a") == 0


def test_other_hosts_keys_and_other_secrets_are_not_ours():
    one, other = SharedState(), SharedState()
    pool_of(one, a="sk-a")
    fail(pool_of(other, x="sk-x"), "x", Outcome.AUTH)
    fail(pool_of(other, a="sk-another"), "a", Outcome.AUTH)
    for cooldown in cooldown_store.export(other):
        assert not cooldown_store.merge(one, cooldown, NOW)


numbers = st.floats() | st.sampled_from([0.0, 1.0, 50.0, 100.0, NOW, NOW + 60, 1e11, -1.0])


@settings(max_examples=200, deadline=None)
@given(st.integers(-2, 2**49), st.integers(-2, 2**49), numbers, numbers, numbers, numbers, numbers)
def test_whatever_is_merged_the_pool_still_works(mark, owner, until, began, changed, why, n):
    state = SharedState()
    pool = pool_of(state)
    marks = [
        int(state.cells[state.row(row_name(POOL, id, "https://api.openai.com")) * FIELDS])
        for id in "ab"
    ]
    for m, o in ((mark, owner), (marks[0], 0), (mark, marks[1])):
        cooldown_store.merge(
            state, cooldown_store.Cooldown(m, o, 0, until, began, changed, why, n), NOW
        )
    pool.key_statuses()
    for model in ("m", ""):
        try:
            lease = pool.pick(POOL, model=model)
        except GatewayError as error:
            assert error.retry_after is None or 0 <= error.retry_after <= 86_400
        else:
            pool.report(lease, Outcome.AUTH)
            pool.release(lease)
