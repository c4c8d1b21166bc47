"""Answers that are kept for the next turn: in one file, for their owner, for a while."""

import asyncio
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

from msgspec import Raw

from app.pool.kept_answers import MOST_TURNS, KeptAnswers, owner_of
from app.wire.kept import Kept

ADA, BOB = owner_of("token ada"), owner_of("token bob")


def turn(name: str, parent: str | None = None, size: int = 0) -> Kept:
    said = Raw(b'"%b%b"' % (name.encode(), b"x" * size))
    return Kept(name, parent, [said], [said], Raw(b"{}"))


def run(path: Path, work, hours: float = 24, **bounds):
    """What `work` gives, done with the answers of one worker."""

    async def all_of_it():
        answers = KeptAnswers(path, hours, **bounds)
        try:
            return await work(answers)
        finally:
            await answers.close()

    return asyncio.run(all_of_it())


def age(path: Path, name: str, seconds: int) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE turn SET used = used - ? WHERE root = ?", (seconds, name))


def count(path: Path) -> int:
    with closing(sqlite3.connect(path)) as database:
        return int(database.execute("SELECT COUNT(*) FROM turn").fetchone()[0])


def test_a_turn_is_found_by_another_worker_and_after_a_restart(tmp_path):
    path = tmp_path / "data" / "r.db"

    async def both(one):
        two = KeptAnswers(path, 24)
        await one.keep(ADA, turn("a"), "openai.api_keys", "k1")
        found = await two.find(ADA, "a", ())
        await two.close()
        return found

    found = run(path, both)
    assert found.turns == {"a": turn("a")} and (found.pool, found.key_id) == (
        "openai.api_keys",
        "k1",
    )
    assert run(path, lambda answers: answers.find(ADA, None, ("a",))).turns == {"a": turn("a")}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_another_owner_finds_nothing(tmp_path):
    async def work(answers):
        await answers.keep(ADA, turn("a"), "p", "k")
        assert not await answers.delete(BOB, "a")
        assert (await answers.find(BOB, "a", ("a",))).turns == {}
        return await answers.find(ADA, "a", ())

    assert run(tmp_path / "r.db", work).turns


def test_a_chain_is_followed_to_its_root_and_a_hole_breaks_it(tmp_path):
    async def work(answers):
        await answers.keep(ADA, turn("a"), "p", "k")
        await answers.keep(ADA, turn("b", "a"), "p", "k")
        await answers.keep(ADA, turn("c", "b"), "p", "k")
        assert list((await answers.find(ADA, "c", ())).turns) == ["c", "b", "a"]
        assert await answers.delete(ADA, "a")
        assert (await answers.find(ADA, "c", ())).turns == {}
        assert list((await answers.find(ADA, None, ("c",))).turns) == ["c"]

    run(tmp_path / "r.db", work)


def test_a_chain_may_not_be_endless(tmp_path):
    async def work(answers):
        for n in range(MOST_TURNS + 1):
            await answers.keep(ADA, turn(f"t{n}", f"t{n - 1}" if n else None), "p", "k")
        assert not (await answers.find(ADA, f"t{MOST_TURNS - 1}", ())).is_too_long
        assert (await answers.find(ADA, f"t{MOST_TURNS}", ())).is_too_long

    run(tmp_path / "r.db", work)


def test_what_nobody_used_for_long_is_gone(tmp_path):
    path = tmp_path / "r.db"

    async def make(answers):
        await answers.keep(ADA, turn("old"), "p", "k")
        await answers.keep(ADA, turn("used"), "p", "k")

    run(path, make)
    age(path, "old", 7200)
    age(path, "used", 1800)

    async def use(answers):
        assert (await answers.find(ADA, "old", ())).turns == {}
        assert (await answers.find(ADA, "used", ())).turns

    run(path, use, hours=1)
    assert count(path) == 1  # swept when the file was opened
    age(path, "used", 1900)  # was used a moment ago

    async def again(answers):
        return (await answers.find(ADA, "used", ())).turns

    assert run(path, again, hours=1)


def test_the_oldest_chain_goes_first_and_whole(tmp_path):
    path = tmp_path / "r.db"

    async def make(answers):
        await answers.keep(ADA, turn("a"), "p", "k")
        await answers.keep(ADA, turn("a2", "a"), "p", "k")
        await answers.keep(ADA, turn("b"), "p", "k")

    run(path, make)
    age(path, "a", 60)

    async def look(answers):
        return [name for name in ("a", "a2", "b") if (await answers.find(ADA, name, ())).turns]

    assert run(path, look, most_rows=2) == ["b"]
    assert run(path, look, most_bytes=10) == []


def test_nothing_is_kept_where_that_is_off(tmp_path):
    path = tmp_path / "r.db"

    async def work(answers):
        assert not answers.is_on
        return (await answers.find(ADA, "a", ("a",))).turns, await answers.delete(ADA, "a")

    assert run(path, work, hours=0) == ({}, False)
    assert not path.exists()


def test_a_broken_file_fails_no_call(tmp_path, caplog):
    path = tmp_path / "r.db"
    path.write_bytes(b"no database" * 1000)

    async def work(answers):
        await answers.keep(ADA, turn("a"), "p", "k")
        return (await answers.find(ADA, "a", ())).turns

    assert run(path, work) == {}
    assert "cannot be used" in caplog.text


def test_a_file_that_is_deleted_is_made_anew(tmp_path):
    path = tmp_path / "r.db"

    async def work(answers):
        await answers.keep(ADA, turn("a"), "p", "k")
        path.unlink()
        await answers.keep(ADA, turn("b"), "p", "k")
        return (await answers.find(ADA, "b", ())).turns

    assert run(path, work)
