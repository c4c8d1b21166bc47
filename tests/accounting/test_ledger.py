"""The ledger of one worker: rows, sums, and what becomes of them while nothing can be written."""

import asyncio
import time

import pytest

from app.accounting import ledger as room
from app.accounting.accounting import Accounting
from app.accounting.ledger import Ledger
from app.accounting.store import DAY, FIGURES, GROUP, HOUR, Unwritten, store_of
from app.telemetry.call_log import CallRecord
from app.wire.events import Usage

SUMS = f"SELECT {', '.join(GROUP + FIGURES)} FROM ledger_sums ORDER BY seconds, token, model"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(room, "TOGETHER_SECONDS", 0.01)
    monkeypatch.setattr(room, "RETRY_SECONDS", (0.01,))


def a_record(**more) -> CallRecord:
    told = {"route": "/c", "provider": "openai-api", "model": "m", "attempts": 1, "status": 200}
    return CallRecord(**({"request_id": "r", "outcome": "complete"} | told | more))


def counted(prompt=3, completion=2, **more) -> CallRecord:
    record = a_record(**more)
    record.count(Usage(prompt, completion, cost=more.get("cost")))
    return record


class Held:
    """A store in memory whose `fails` next writes fail, as a database that went away."""

    def __init__(self, fails: int = 0, is_final: bool = False) -> None:
        self.fails, self.is_final, self.batches, self.pruned = fails, is_final, [], []

    def write(self, batch):
        if self.fails:
            self.fails -= 1
            raise Unwritten("the disk is full", is_final=self.is_final)
        self.batches.append(batch)

    def prune(self, *limits):
        self.pruned.append(limits)
        return 0

    def close(self):
        pass

    def ids(self):
        return [row[1] for batch in self.batches for row in batch.rows]


async def kept(ledger, what, seconds=5.0):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)
    await ledger.close()


def test_rows_and_sums_of_hour_and_day_are_in_the_file(tmp_path):
    store = store_of(str(tmp_path / "usage.db"))

    async def run():
        ledger = Ledger(store, 30)
        for n in range(25):  # more than go into one statement, and a rest
            ledger.add(counted(request_id=f"r{n}", token="alice", cost=10))
        ledger.add(a_record(token="bob", status=502, outcome="upstream_error", model="made-up"))
        await ledger.close()

    asyncio.run(run())
    got = [dict(zip(GROUP + FIGURES, row, strict=True)) for row in store.read(SUMS)]
    assert [(s["seconds"], s["token"], s["calls"]) for s in got] == [
        (HOUR, "alice", 25), (HOUR, "bob", 1), (DAY, "alice", 25), (DAY, "bob", 1),
    ]  # fmt: skip
    assert got[0]["prompt_tokens"] == 75 and got[0]["completion_tokens"] == 50
    assert got[0]["cost"] == 250 and got[0]["failed"] == got[0]["unpriced"] == 0
    assert got[1]["failed"] == 1 and got[1]["model"] == "", "a name that nobody answered to"
    assert got[2]["start"] % DAY == 0 and got[0]["start"] % HOUR == 0
    assert store.read("SELECT COUNT(*) FROM ledger_calls") == [(26,)]
    store.close()


def test_calls_of_all_kinds_that_come_at_once_are_added_up_as_one_by_one(tmp_path, monkeypatch):
    noon = 1_800_000_000 // DAY * DAY + DAY // 2
    ends = iter([(noon + n * 40) * 1000 for n in range(250)])  # over three hours
    monkeypatch.setattr(room.time, "time_ns", lambda: next(ends) * 1_000_000)
    records = []
    for n in range(250):
        outcome, status = ("complete", 200) if n % 5 else ("upstream_cut", 502)
        record = a_record(request_id=f"r{n}", key_id=f"k{n % 3}", outcome=outcome, status=status)
        if n % 7:
            record.count(Usage(n, 2 * n, cached_tokens=n // 2, reasoning_tokens=1, cost=n))
        if n % 11 == 0:
            record.count(Usage(10**12, 1, cost=10**20))
        if n % 13 == 0:
            record.estimate(n, n)
            record.cost = None
        records.append(record)
    store = store_of(str(tmp_path / "usage.db"))

    async def run():
        ledger = Ledger(store, 30)
        for record in records:
            ledger.add(record)
        await ledger.close()

    asyncio.run(run())
    expected: dict[tuple, list[int]] = {}
    for n, r in enumerate(records):
        start = (noon + n * 40) // HOUR * HOUR
        figures = expected.setdefault((start, "m" if r.counted else "", r.key_id), [0] * 10)
        figures[0] += 1
        figures[1] += r.outcome != "complete"
        if r.counted:
            told = [
                r.prompt_tokens,
                r.cached_tokens,
                r.cache_write_tokens,
                r.completion_tokens,
                r.reasoning_tokens,
            ]
            for at, count in enumerate(told, 2):
                figures[at] += min(count, 10**9)
            figures[7] += r.counted == "estimated"
            figures[8] += min(r.cost or 0, 10**14)
            figures[9] += r.cost is None
    got = {}
    for _, start, _, _, model, key_id, *figures in store.read(
        SUMS.replace(" ORDER", " WHERE seconds = 3600 ORDER")
    ):
        got[start, model, key_id] = figures
    assert got == expected
    rows = store.read("SELECT request_id, prompt_tokens, counted FROM ledger_calls ORDER BY id")
    assert rows == [
        (r.request_id, None if not r.counted else min(r.prompt_tokens, 10**9), r.counted)
        for r in records
    ]


def test_calls_are_written_together(monkeypatch):
    monkeypatch.setattr(room, "TOGETHER_SECONDS", 0.3)
    monkeypatch.setattr(room, "BATCH_ROWS", 50)
    store = Held()

    async def run():
        ledger = Ledger(store, 30)
        for n in range(room.BATCH_ROWS + 1):
            ledger.add(a_record(request_id=str(n)))
        await ledger.close()

    asyncio.run(run())
    assert [len(batch.rows) for batch in store.batches] == [room.BATCH_ROWS, 1]
    assert store.ids() == [str(n) for n in range(room.BATCH_ROWS + 1)]
    assert [batch.number for batch in store.batches] == [1, 2]


def test_while_it_cannot_write_rows_wait_and_arrive_once():
    store, told = Held(fails=3), []

    async def run():
        ledger = Ledger(store, 30, lambda *standing: told.append(standing))
        ledger.add(counted(request_id="a"))
        while store.fails > 1:
            await asyncio.sleep(0.005)
        ledger.add(counted(request_id="b"))
        await kept(ledger, lambda: len(store.ids()) == 2)

    asyncio.run(run())
    assert store.ids() == ["a", "b"]
    assert sum(row[6] for batch in store.batches for row in batch.sums) == 4, "hour and day of both"
    assert told[0] == (0, 1, 0) and told[-1] == (2, 0, 0)


def test_what_waits_is_bounded_and_the_sums_are_kept(monkeypatch):
    monkeypatch.setattr(room, "MOST_WAITING", 10)
    store, told = Held(fails=1000), []

    async def run():
        ledger = Ledger(store, 30, lambda *standing: told.append(standing))
        for n in range(25):
            ledger.add(counted(request_id=str(n)))
            while not told or told[-1][1] + told[-1][2] <= n:  # it has been taken out of the queue
                await asyncio.sleep(0.002)
        store.fails = 0
        await kept(ledger, lambda: len(store.ids()) == 10)

    asyncio.run(run())
    assert told[-1] == (10, 0, 15)
    assert len(store.ids()) == 10 and store.ids()[-1] == "24"
    assert sum(row[6] for b in store.batches for row in b.sums if row[0] == DAY) == 25


def test_a_queue_that_nobody_empties_is_bounded(monkeypatch):
    monkeypatch.setattr(room, "MOST_WAITING", 10)
    told = []

    async def run():
        ledger = Ledger(store := Held(), 30, lambda *standing: told.append(standing))
        monkeypatch.setattr(room, "TOGETHER_SECONDS", 0.3)
        for n in range(25):
            ledger.add(a_record(request_id=str(n)))
        await ledger.close()
        return store.ids()

    assert asyncio.run(run()) == [str(n) for n in range(10)]
    assert told[-1] == (10, 0, 15)


def test_a_batch_that_can_never_be_written_does_not_stop_the_rest():
    store, told = Held(fails=1, is_final=True), []

    async def run():
        ledger = Ledger(store, 30, lambda *standing: told.append(standing))
        ledger.add(a_record(request_id="bad"))
        while not told:
            await asyncio.sleep(0.005)
        ledger.add(a_record(request_id="good"))
        await ledger.close()

    asyncio.run(run())
    assert store.ids() == ["good"] and told[-1] == (1, 0, 1)


def test_sums_are_bounded_in_models(monkeypatch):
    monkeypatch.setattr(room, "MOST_GROUPS", 3)
    store = Held()

    async def run():
        ledger = Ledger(store, 30)
        for n in range(10):
            ledger.add(counted(model=f"m{n}", token="alice"))
        await ledger.close()

    asyncio.run(run())
    hours = [row for batch in store.batches for row in batch.sums if row[0] == HOUR]
    assert sum(row[6] for row in hours) == 10 and len(hours) == 4
    assert {row[4] for row in hours} == {"m0", "m1", "m2", room.OTHER}


def test_old_rows_are_deleted_by_the_way(monkeypatch):
    monkeypatch.setattr(room, "PRUNE_SECONDS", 0.0)
    store = Held()

    async def run():
        ledger = Ledger(store, 30)
        ledger.add(a_record())
        await kept(ledger, lambda: store.pruned)

    asyncio.run(run())
    calls_before, *_ = store.pruned[0]
    assert abs(calls_before / 1000 - (time.time() - 30 * DAY)) < 60


def test_without_calls_there_is_no_thread_and_no_file(tmp_path):
    async def run():
        await Ledger(store_of(str(tmp_path / "usage.db")), 30).close()

    asyncio.run(run())
    assert list(tmp_path.iterdir()) == []


class Fixed:
    """One nano-USD per token of what it knows."""

    def cost(self, provider, model, usage):
        return usage.prompt_tokens + usage.completion_tokens if model == "m" else None


def test_a_call_is_settled_with_the_cost_that_was_told_or_reckoned():
    accounting = Accounting()
    accounting.prices = Fixed()
    told, reckoned, unknown = counted(cost=0), counted(), counted(model="x")
    for record in (told, reckoned, unknown):
        accounting.settle(record)
    assert (told.cost, reckoned.cost, unknown.cost) == (0, 5, None)


def test_what_strangers_are_refused_is_in_no_ledger():
    taken = []
    accounting = Accounting()
    accounting.ledger = type("L", (), {"add": lambda self, record: taken.append(record.status)})()
    accounting.settle(a_record(attempts=0, status=401, outcome="refused"))
    accounting.settle(a_record(attempts=0, status=404, provider="", outcome="refused"))
    accounting.settle(a_record(attempts=1, status=401, outcome="upstream_error"))
    accounting.settle(a_record(attempts=0, status=429, outcome="refused"))
    assert taken == [401, 429]


def test_a_budget_is_settled_with_the_complete_record():
    told = []
    budgets = type("B", (), {"settle": lambda self, record: told.append(record.cost)})()
    Accounting(prices=Fixed(), budgets=budgets).settle(counted())
    assert told == [5]


def test_pictures_whose_tokens_are_estimated_have_no_cost_but_vectors_have():
    accounting = Accounting(prices=Fixed())
    picture, vector = (
        a_record(front=f"openai-{name}") for name in ("images-generations", "embeddings")
    )
    for record in (picture, vector):
        record.estimate(7, 0)
        accounting.settle(record)
    assert (picture.cost, vector.cost) == (None, 7)
