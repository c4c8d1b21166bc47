"""The memory of whose session a conversation is: kept, shared, bounded, and never in the way."""

import asyncio
import logging

from app.pool.conversation_owners import Conversations

POOL = "openai.web_sessions"


def test_what_was_remembered_is_found_at_once_by_others_and_after_a_restart(tmp_path) -> None:
    async def main() -> None:
        one, other = (Conversations(tmp_path / "deep" / "c.db") for _ in range(2))
        for n in range(300):
            one.remember(POOL, f"c{n}", f"s{n % 3}")
        one.remember(POOL, "c0", "s9")  # the newest counts
        assert await one.owner(POOL, "c299") == "s2"
        assert await one.owner(POOL, "c0") == "s9"
        assert await other.owner(POOL, "c299") == "s2"
        assert await other.owner("another.pool", "c299") is None
        assert await other.owner(POOL, "never") is None
        one.remember(POOL, "last", "s1")
        await one.close()
        await other.close()
        again = Conversations(tmp_path / "deep" / "c.db")
        assert await again.owner(POOL, "last") == "s1"
        await again.close()

    asyncio.run(main())


def test_two_that_write_at_the_same_time_lose_nothing(tmp_path) -> None:
    async def main() -> None:
        both = [Conversations(tmp_path / "c.db") for _ in range(2)]
        for n in range(200):
            for who, memory in enumerate(both):
                memory.remember(POOL, f"{who}-{n}", "s")
            if n % 20 == 0:
                await asyncio.sleep(0.001)
        for memory in both:
            await memory.owner(POOL, "wait")  # until its own writes are done
        for n in range(200):
            assert await both[0].owner(POOL, f"1-{n}") == "s"
            assert await both[1].owner(POOL, f"0-{n}") == "s"
        for memory in both:
            await memory.close()

    asyncio.run(main())


def test_a_file_that_is_taken_away_or_broken_is_begun_anew_or_told(tmp_path, caplog) -> None:
    async def main() -> None:
        memory = Conversations(tmp_path / "c.db")
        memory.remember(POOL, "a", "s")
        assert await memory.owner(POOL, "a") == "s"
        for file in tmp_path.glob("c.db*"):
            file.unlink()
        assert await memory.owner(POOL, "a") is None
        memory.remember(POOL, "b", "s")
        assert await memory.owner(POOL, "b") == "s"
        await memory.close()
        (tmp_path / "c.db").write_bytes(b"nothing of a database" * 100)
        memory = Conversations(tmp_path / "c.db")
        memory.remember(POOL, "b", "s")
        assert await memory.owner(POOL, "b") is None
        await memory.close()

    with caplog.at_level(logging.ERROR):
        asyncio.run(main())
    assert "cannot be read" in caplog.text and "cannot be written" in caplog.text


def test_no_more_are_kept_than_are_wanted(tmp_path) -> None:
    async def main() -> None:
        memory = Conversations(tmp_path / "c.db", most=10)
        for n in range(40):
            memory.remember(POOL, f"c{n}", "s")
        left = [n for n in range(40) if await memory.owner(POOL, f"c{n}")]
        assert len(left) == 10
        await memory.close()

    asyncio.run(main())
