"""Sessions with a life: renewed for every worker and the next start, and their end told in time."""

import asyncio
import time

import pytest

from app.config.schema import Claude, ClaudeSessionEntry, Config, OpenAI, SessionEntry
from app.pool.key_pool import KeyPool
from app.pool.web_sessions import DAY, ExpiryWarner, Sessions, describe_expiry
from app.state.shared_table import SharedState
from app.wire.provider import Key
from tests.wire.test_cookies import jwt

POOL = "claude.web_sessions"


class Worker:
    def __init__(self, folder, val="first", organization_id="") -> None:
        entry = ClaudeSessionEntry(id="s", val=val, organization_id=organization_id)
        self.pool = KeyPool(Config(claude=Claude(web_sessions=[entry])), SharedState())
        self.sessions = Sessions(self.pool, folder)

    def key(self) -> Key:
        found = self.pool.find(POOL, "s")
        assert found is not None
        return self.sessions.current(found)

    def renew(self, val: str, **fields: str) -> None:
        asyncio.run(self.sessions.renew(Key(POOL, "s", val, fields)))


def test_a_renewed_session_is_used_by_every_worker_and_after_a_restart(tmp_path) -> None:
    one, other = Worker(tmp_path), Worker(tmp_path)
    assert (one.key().val, other.key().val) == ("first", "first")
    for n in (1, 2, 3):
        (one if n % 2 else other).renew(f"renewed-{n}", cookies=f"c={n}")
        assert one.key().val == other.key().val == f"renewed-{n}"
        assert one.key().fields["cookies"] == other.key().fields["cookies"] == f"c={n}"
    assert Worker(tmp_path).key().val == "renewed-3"


def test_the_cookies_of_an_answer_renew_a_session_if_they_change_it(tmp_path) -> None:
    worker, seen = Worker(tmp_path), []

    def renewed(key: Key, set_cookies: list[str], now: int) -> Key | None:
        seen.append((key.val, set_cookies, now))
        return Key(key.pool, key.id, "second", {}) if key.val == "first" else None

    def answer(*headers: tuple[str, str]) -> None:
        asyncio.run(worker.sessions.renew_from(renewed, worker.key(), list(headers), 7))

    answer(("content-type", "text/plain"))
    assert not seen and worker.key().val == "first"
    answer(("set-cookie", "a=1"), ("etag", "x"), ("set-cookie", "b=2"))
    answer(("set-cookie", "a=1"))
    assert seen == [("first", ["a=1", "b=2"], 7), ("second", ["a=1"], 7)]
    assert worker.key().val == "second"


def test_what_the_operator_writes_wins_over_what_was_kept(tmp_path) -> None:
    Worker(tmp_path).renew("renewed", organization_id="learned")
    assert Worker(tmp_path).key().fields["organization_id"] == "learned"
    assert Worker(tmp_path, organization_id="set").key().fields["organization_id"] == "set"
    assert Worker(tmp_path, val="another").key().val == "another"
    assert Worker(tmp_path).key().val == "renewed"


def test_a_kept_file_is_its_owners_and_a_broken_one_is_passed_over(tmp_path) -> None:
    Worker(tmp_path).renew("renewed-secret")
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o077 == 0
    assert "first" not in file.read_text()  # of what it descends from only a fingerprint
    file.write_bytes(file.read_bytes()[:20])
    assert Worker(tmp_path).key().val == "first"


def test_a_folder_that_cannot_be_written_loses_nothing_but_the_memory(tmp_path, caplog) -> None:
    (tmp_path / "file").write_text("in the way of the folder")
    worker = Worker(tmp_path / "file")
    worker.renew("the-new-cookie")
    assert worker.key().val == "the-new-cookie"
    assert "cannot be kept" in caplog.text and "new-cookie" not in caplog.text


def test_many_renewals_at_once_leave_the_last_one(tmp_path) -> None:
    worker = Worker(tmp_path)

    async def main() -> None:
        await asyncio.gather(
            *(worker.sessions.renew(Key(POOL, "s", f"r{n}", {})) for n in range(30))
        )

    asyncio.run(main())
    assert worker.key().val == Worker(tmp_path).key().val == "r29"


def test_a_session_that_was_taken_away_is_not_renewed(tmp_path) -> None:
    worker = Worker(tmp_path)
    worker.sessions.forget(POOL, "s")
    worker.renew("renewed")
    assert worker.pool.find(POOL, "s") is None
    assert not list(tmp_path.iterdir())


def test_the_end_is_read_from_the_token_or_from_the_cookie_that_renewed_it(tmp_path) -> None:
    now = int(time.time())
    token = jwt({"exp": now + 500})
    config = Config(
        openai=OpenAI(web_sessions=[SessionEntry(id="t", val=token)]),
        claude=Claude(web_sessions=[ClaudeSessionEntry(id="c", val="opaque")]),
    )
    sessions = Sessions(KeyPool(config, SharedState()), tmp_path)
    assert {key.id: left for key, left in sessions.expiries(now)} == {"t": 500}
    asyncio.run(sessions.renew(Key(POOL, "c", "renewed", {"expires": str(now + 900)})))
    assert {key.id: left for key, left in sessions.expiries(now)} == {"t": 500, "c": 900}


def test_each_stage_of_an_end_is_told_once() -> None:
    warner = ExpiryWarner()
    key = Key(POOL, "s", "secret-value")

    def told(left: int) -> list[str]:
        return warner.new_warnings([(key, left)])

    assert told(8 * DAY) == []
    assert told(7 * DAY) == ["the session s of claude.web_sessions ends in 7 days"]
    assert told(3 * DAY) == []
    assert told(DAY) == ["the session s of claude.web_sessions ends in 24 h"]
    assert told(100) == []
    (line,) = told(0)
    assert "has ended: sign in again" in line and "secret" not in line
    assert told(-5) == []
    assert told(90 * DAY) == []  # it was renewed
    assert len(told(6 * DAY)) == 1  # and ends again


@pytest.mark.parametrize(
    ("left", "words"),
    [(-1, "has ended"), (1, "in 1 h"), (DAY, "in 24 h"), (DAY + 1, "in 1 days"), (9 * DAY, "in 9")],
)
def test_how_long_is_said_in_words(left, words) -> None:
    assert words in describe_expiry(left)
