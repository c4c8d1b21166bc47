"""Tokens that are added while the gateway runs: kept as hashes, known to all workers at once."""

import asyncio
import hashlib
import logging

import pytest

from app.accounting import stored_tokens as room
from app.accounting.store import Unwritten, store_of
from app.accounting.stored_tokens import StoredTokens
from app.config.schema import Budget, TokenRights
from app.state.shared_table import ROWS, SharedState
from app.wire.errors import GatewayError

ALL = TokenRights(
    rpm=60, tpm=1000, max_concurrent=2, providers=["claude"], models=["claude/*"], store=False,
    budget=Budget(usd=0.5, tokens=9, per="day", unpriced="refuse"),
)  # fmt: skip


class Worker(StoredTokens):
    """One worker's view, with what it was told."""

    def __init__(self, place, state, **more):
        self.told: list[str] = []
        super().__init__(store_of(place), state, apply=self._hear, **more)

    def _hear(self, tokens):
        self.told = [each.token.id for each in tokens]

    async def asked(self):
        """What a request does before it is authenticated."""
        if self.seen != self.version:
            await self.refresh()
        return self.known


def play(scene):
    """Runs a scene with workers that are closed at its end."""
    made = []

    async def run():
        try:
            await scene(lambda *args, **more: made.append(Worker(*args, **more)) or made[-1])
        finally:
            for worker in made:
                await worker.close()

    asyncio.run(run())


def refusal(error) -> tuple[int, str]:
    return error.value.status, error.value.code


def test_an_added_token_is_known_to_other_workers_and_after_a_restart(place):
    async def scene(worker):
        state = SharedState()
        one, two = worker(place, state), worker(place, state)
        for each in (one, two):
            await each.refresh()
        assert await two.asked() == []
        value = await one.add("alice", ALL, 2**40)
        assert len(value) > 43 and one.told == ["alice"]
        assert two.told == []
        (known,) = await two.asked()
        assert known.digest == hashlib.sha256(value.encode()).hexdigest()
        assert (known.expires, known.is_enabled, known.token.val) == (
            2**40, True, f"sha256:{known.digest}"
        )  # fmt: skip
        told = {name: getattr(known.token, name) for name in TokenRights.__struct_fields__}
        assert TokenRights(**told) == ALL
        restarted = worker(place, SharedState())
        assert not restarted.is_complete
        await restarted.refresh()
        assert restarted.is_complete and restarted.known == [known]

    play(scene)


def test_the_value_of_a_token_is_in_no_column(place):
    async def scene(worker):
        one = worker(place, SharedState())
        value = await one.add("alice", TokenRights(), None)
        store = store_of(place)
        rows = store.read("SELECT * FROM ledger_tokens")
        store.close()
        secret = value.removeprefix("anyproxy-")
        assert len(rows) == 1 and secret not in str(rows)

    play(scene)


def test_a_token_is_disabled_enabled_and_removed_in_all_workers(place):
    async def scene(worker):
        state = SharedState()
        one, two = worker(place, state), worker(place, state)
        await one.add("alice", TokenRights(), None)
        await one.add("bob", TokenRights(), None)
        await two.change("disable", "alice")
        assert [each.state(0) for each in await one.asked()] == ["disabled", "enabled"]
        bob = one.known[1]
        await two.change("enable", "alice")
        assert [each.state(0) for each in await one.asked()] == ["enabled", "enabled"]
        assert one.known[1] is bob, "limits of a token that did not change are found by identity"
        await one.change("remove", "alice")
        assert [each.token.id for each in await two.asked()] == ["bob"] == two.told

    play(scene)


def test_another_host_hears_of_a_change(place):
    async def scene(worker):
        here, there = worker(place, SharedState()), worker(place, SharedState())
        await there.refresh()
        await here.add("alice", TokenRights(), None)
        assert await there.asked() == []
        await there.look()
        assert there.told == ["alice"]
        version = there.version
        await there.look()
        assert there.version == version, "nothing has changed, so nobody reads it again"

    play(scene)


def test_what_cannot_be_is_told(place, monkeypatch):
    async def scene(worker):
        one = worker(place, SharedState(), configured=["ops"])
        await one.add("alice", TokenRights(), None)
        for id in ("alice", "ops"):
            with pytest.raises(GatewayError) as error:
                await one.add(id, TokenRights(), None)
            assert refusal(error) == (409, "token_exists")
        for action in ("disable", "enable", "remove"):
            with pytest.raises(GatewayError) as error:
                await one.change(action, "nobody")
            assert refusal(error) == (404, "unknown_token")
        with pytest.raises(GatewayError) as error:
            await one.change("remove", "ops")
        assert refusal(error) == (409, "token_in_config")
        monkeypatch.setattr(room, "MOST_TOKENS", 1)
        with pytest.raises(GatewayError) as error:
            await one.add("bob", TokenRights(), None)
        assert refusal(error) == (409, "too_many_tokens")
        assert one.told == ["alice"]

    play(scene)


def test_a_full_table_of_limits_takes_no_further_token(tmp_path):
    async def scene(worker):
        state = SharedState()
        for mark in range(1, ROWS + 1):
            state.row_of(mark)
        one = worker(str(tmp_path / "usage.db"), state)
        with pytest.raises(GatewayError) as error:
            await one.add("alice", TokenRights(), None)
        assert refusal(error) == (409, "too_many_tokens")

    play(scene)


def test_without_a_ledger_there_is_no_token_and_none_is_added():
    async def scene(worker):
        one = worker("off", SharedState())
        await one.refresh()
        assert one.is_complete and one.known == [] and one.seen == one.version
        for change in (one.add("alice", TokenRights(), None), one.change("remove", "alice")):
            with pytest.raises(GatewayError) as error:
                await change
            assert refusal(error) == (404, "no_ledger")

    play(scene)


def test_a_token_that_the_config_takes_over_is_ignored(place, caplog):
    async def scene(worker):
        await worker(place, SharedState()).add("alice", TokenRights(), None)
        reloaded = worker(place, SharedState(), configured=["alice"])
        await reloaded.refresh()
        assert reloaded.told == [] and reloaded.is_complete

    play(scene)
    assert "ignored: alice" in caplog.text


class Broken:
    """A database that is away."""

    def read(self, *_):
        raise Unwritten("no route to host")

    change = read

    def close(self):
        pass


def test_while_the_database_is_away_what_is_known_stays(tmp_path, caplog):
    place = str(tmp_path / "usage.db")

    async def scene(worker):
        state = SharedState()
        one, other = worker(place, state), worker(place, state)
        await one.add("alice", TokenRights(), None)
        good, one._store = one._store, Broken()  # private: to take it away between two looks
        await other.change("disable", "alice")
        assert [each.is_enabled for each in await one.asked()] == [True]
        assert one.seen == one.version, "requests do not wait for it again"
        await one.look()
        with pytest.raises(GatewayError) as error:
            await one.change("remove", "alice")
        assert refusal(error) == (503, "ledger_unavailable")
        one._store = good  # private: as above
        await one.look()
        assert [each.is_enabled for each in one.known] == [False]

    caplog.set_level(logging.WARNING)
    play(scene)
    told = [line for line in caplog.messages if "read" in line]
    assert len(told) == 2 and "no route to host" in told[0], "told once, and once when it is back"


def test_a_slow_database_holds_requests_up_for_a_moment_only(tmp_path, monkeypatch):
    import threading

    let_go = threading.Event()

    class Slow(Broken):
        def read(self, *_):
            let_go.wait(10)
            return []

    async def scene(worker):
        monkeypatch.setattr(room, "WAIT_SECONDS", 0.05)
        one = worker(str(tmp_path / "usage.db"), SharedState())
        one._store = Slow()  # private: a database that does not answer
        await one.refresh()
        assert not one.is_complete
        let_go.set()
        await asyncio.sleep(0.05)
        await one.refresh()
        assert one.is_complete

    play(scene)
