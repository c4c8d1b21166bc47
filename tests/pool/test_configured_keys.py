"""Pools are bound to their upstream's address: another one inherits no cooldown."""

import pytest

from app.config.schema import (
    Claude,
    ClaudeSessionEntry,
    Config,
    Coze,
    CozeApiChat,
    CozeBot,
    CozeDiscord,
    GeminiKeyEntry,
    GoogleGemini,
    KeyEntry,
    OpenAI,
    SessionEntry,
)
from app.pool import cooldown_store
from app.pool.configured_keys import MANY_ACCOUNTS, configured
from app.pool.key_pool import KeyPool
from app.pool.outcomes import Outcome
from app.state.shared_table import SharedState
from app.wire.errors import GatewayError
from tests.pool.pool_bench import is_down

NOW = 1_800_000_000.0
HOUSE, MIRROR = "https://house.example/v", "https://mirror.example"
KEYS = [KeyEntry(id=id, val=f"sk-{id}") for id in "ab"]
SESSIONS = [SessionEntry(id=id, val=f"tok-{id}") for id in "ab"]
BOTS = CozeApiChat(bots=[CozeBot(bot_id=id, user="u", access_token="t") for id in "ab"])

POOLS = {
    "openai.api_keys": lambda url: Config(openai=OpenAI(api_url=url, api_keys=KEYS)),
    "openai.web_sessions": lambda url: Config(
        openai=OpenAI(chat_web_url=url, web_sessions=SESSIONS)
    ),
    "claude.api_keys": lambda url: Config(claude=Claude(api_url=url, api_keys=KEYS)),
    "claude.web_sessions": lambda url: Config(
        claude=Claude(
            web_url=url,
            web_sessions=[
                ClaudeSessionEntry(id=id, val=f"sess-{id}", max_concurrent=0) for id in "ab"
            ],
        )
    ),
    "google_gemini.api_keys": lambda url: Config(
        google_gemini=GoogleGemini(
            api_url=url, api_keys=[GeminiKeyEntry(id=id, val=f"AI-{id}") for id in "ab"]
        )
    ),
    "coze.bots": lambda url: Config(coze=Coze(api_url=url, api_chat=BOTS)),
    "coze.discord": lambda url: Config(
        coze=Coze(discord=CozeDiscord(enable=True, api_url=url, chat_bot_token="t"))
    ),
}


def at(pool, url, state):
    return KeyPool(POOLS[pool](url), state, lambda: NOW)


def fail(keys, pool, outcome, model="m"):
    """The first key fails with this outcome."""
    lease = keys.pick(pool, keys.keys(pool)[0].id, model=model, call=1.0)
    keys.report(lease, outcome, retry_after=60)
    keys.release(lease)


def cools(keys, pool, model="m"):
    try:
        keys.release(keys.pick(pool, keys.keys(pool)[0].id, model=model))
    except GatewayError:
        return True
    return False


@pytest.mark.parametrize("outcome", [Outcome.SPENT, Outcome.LIMITED])
@pytest.mark.parametrize("pool", POOLS)
def test_another_address_does_not_inherit_a_cooldown(pool, outcome, tmp_path):
    state = SharedState()
    house = at(pool, HOUSE, state)
    # The bridge keeps its accounts' limits itself; what cools down is its own bot's token.
    fail(house, pool, Outcome.AUTH if pool in MANY_ACCOUNTS else outcome)
    assert cools(house, pool)
    # Now, in the same memory, as after a reload.
    assert cools(at(pool, HOUSE, state), pool) and not cools(at(pool, MIRROR, state), pool)
    assert cools(at(pool, HOUSE + "/", state), pool)  # it says the same address
    # After a restart, from the file.
    cooldown_store.save(state, tmp_path / "f", NOW)
    again = SharedState()
    cooldown_store.load(again, tmp_path / "f", NOW)
    assert cools(at(pool, HOUSE, again), pool) and not cools(at(pool, MIRROR, again), pool)
    # From other hosts: those with the same address alone.
    there, elsewhere = SharedState(), SharedState()
    near, far = at(pool, HOUSE, there), at(pool, MIRROR, elsewhere)
    for cooldown in cooldown_store.export(state):
        cooldown_store.merge(there, cooldown, NOW)
        cooldown_store.merge(elsewhere, cooldown, NOW)
    assert cools(near, pool) and not cools(far, pool)


@pytest.mark.parametrize("pool", ["openai.api_keys", "claude.api_keys", "google_gemini.api_keys"])
def test_another_address_does_not_inherit_an_open_breaker(pool, tmp_path):
    state = SharedState()
    house = at(pool, HOUSE, state)
    for call, id in enumerate("ab"):
        lease = house.pick(pool, id, model="m", call=float(call))
        house.report(lease, Outcome.UPSTREAM)
        house.release(lease)
    assert is_down(house, pool)
    assert not is_down(at(pool, MIRROR, state), pool)
    cooldown_store.save(state, tmp_path / "f", NOW)
    again = SharedState()
    cooldown_store.load(again, tmp_path / "f", NOW)
    assert is_down(at(pool, HOUSE, again), pool)
    assert not is_down(at(pool, MIRROR, again), pool)


def test_an_old_worker_that_still_fails_does_not_cool_the_key_of_the_new_address():
    state, pool = SharedState(), "openai.api_keys"
    old, new = at(pool, HOUSE, state), at(pool, MIRROR, state)
    fail(old, pool, Outcome.SPENT)
    assert not cools(new, pool)


def test_every_pool_has_an_address_to_be_bound_to():
    assert set(POOLS) == set(configured(POOLS["coze.discord"](HOUSE)))


def test_hosts_that_ask_other_addresses_do_not_share_a_keys_limits():
    keys = [KeyEntry(id="a", val="sk-a", rpm=5)]
    marks = [
        set(KeyPool(Config(openai=OpenAI(api_url=url, api_keys=keys)), SharedState()).limited())
        for url in (HOUSE, HOUSE, MIRROR)
    ]
    assert marks[0] == marks[1] != marks[2]
