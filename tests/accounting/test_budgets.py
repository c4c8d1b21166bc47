"""Budgets of access tokens: what they let in, what they refuse until when, and how they count over
workers, hosts and restarts."""

import asyncio
import logging
import multiprocessing
import os
import signal
import time
from calendar import timegm
from datetime import UTC, datetime

import pytest

from app.accounting import budgets as room
from app.accounting.budgets import NANO, Budgets, answer_tokens
from app.accounting.prices import Prices
from app.config.schema import Access, AccessToken, Budget, Config, ModelPrice
from app.pool import cooldown_store
from app.state import periods
from app.state.shared_table import SharedState, fingerprint
from app.state.spending import Spending, Spent
from app.telemetry.call_log import CallRecord
from app.wire.errors import GatewayError
from app.wire.events import Usage

NOW = float(timegm((2027, 1, 15, 22, 0, 0)))  # a Friday
VAL = "alice-0123456789abcdef"


def token(id="alice", tpm=0, **budget) -> AccessToken:
    return AccessToken(id=id, val=VAL, tpm=tpm, budget=Budget(**budget))


def settle(budgets: Budgets, *records: CallRecord) -> None:
    async def on_the_loop():
        for record in records:
            budgets.settle(record)
        budgets.book()

    asyncio.run(on_the_loop())


def asking(tokens: int) -> bytes | None:
    """A body that asks for an answer of so many tokens."""
    return b'{"max_tokens":%d}' % tokens if tokens else None


class Bench:
    """One worker's budgets of one token, with a clock to be set."""

    def __init__(self, of: AccessToken, state: SharedState | None = None) -> None:
        prices = {"openai": {"m": ModelPrice(input=1, output=2)}}
        config = Config(access=Access(tokens=[of]), prices=prices)
        self.token, self.state, self.now = of, state or SharedState(), NOW
        self.refused = []
        self.budgets = Budgets(
            config, self.state, Prices(config), lambda: self.now, self.refused.append
        )

    def begin(self, prompt=10, answer=10, model="m"):
        record = CallRecord(request_id="r", route="/", provider="openai-api", model=model)
        return record, self.budgets.reserve(record, self.token, prompt, asking(answer))

    def end(self, record, prompt=10, answer=10, cost=None):
        record.count(Usage(prompt, answer, cost=cost))
        settle(self.budgets, record)

    def call(self, *spent, **more):
        record, told = self.begin()
        self.end(record, *spent, **more)
        return told

    def refusal(self, *estimate, **more) -> GatewayError:
        with pytest.raises(GatewayError) as caught:
            self.begin(*estimate, **more)
        return caught.value

    def left(self, row="access.tokens/alice"):
        return self.state.standing(self.state.row(row))[:2]


def test_a_token_may_spend_its_budget_and_no_more_until_the_period_ends():
    bench = Bench(token(tokens=100, per="day"))
    for _ in range(5):
        bench.call()
    error = bench.refusal()
    assert (error.status, error.code, error.type) == (429, "budget_exceeded", "rate_limit_error")
    assert error.retry_after == 2 * 3600
    assert ("x-should-retry", "false") in error.headers
    assert "100 tokens per day" in error.message and "2027-01-16T00:00:00Z" in error.message
    assert bench.refused == ["budget"]
    bench.now += 2 * 3600
    assert bench.call() is None


@pytest.mark.parametrize(
    ("per", "end"),
    [("day", (2027, 1, 16)), ("week", (2027, 1, 18)), ("month", (2027, 2, 1))],
)
def test_each_period_ends_with_the_calendars(per, end):
    bench = Bench(token(tokens=10, per=per))
    bench.call()
    assert bench.refusal().retry_after == timegm((*end, 0, 0, 0)) - NOW
    bench.now = timegm((*end, 0, 0, 0)) - 1
    bench.refusal()
    bench.now += 1
    bench.call()


def test_periods_begin_and_end_as_the_calendar_says():
    for day in range(0, 3000, 3):
        now = NOW + day * 86_400 + 0.5
        at = datetime.fromtimestamp(now, UTC)
        midnight = datetime(at.year, at.month, at.day, tzinfo=UTC).timestamp()
        first, monday = midnight - (at.day - 1) * 86_400, midnight - at.weekday() * 86_400
        assert periods.starts(now) == (midnight, monday, first)
        year, month = (at.year, at.month + 1) if at.month < 12 else (at.year + 1, 1)
        assert periods.end("month", now) == datetime(year, month, 1, tzinfo=UTC).timestamp()
        assert periods.end("week", now) == monday + 7 * 86_400
        assert periods.end("day", now) == midnight + 86_400


def test_what_calls_under_way_have_reserved_is_not_given_twice():
    bench = Bench(token(tokens=100))
    open_calls = [bench.begin(10, 10)[0] for _ in range(5)]
    error = bench.refusal()
    assert (error.code, error.retry_after) == ("budget_exceeded", 1.0)
    assert "calls under way" in error.message and ("x-should-retry", "false") not in error.headers
    bench.end(open_calls[0], 1, 1)
    assert bench.left() == (80, 0)
    bench.end(bench.begin(9, 9)[0], 0, 0)
    for record in open_calls[1:]:
        bench.end(record, 1, 1)
    assert bench.left() == (0, 0)
    assert bench.budgets._held == {}  # private: nothing else tells what is held


def test_a_call_alone_is_let_in_while_anything_is_left():
    bench = Bench(token(tokens=100))
    record, _ = bench.begin(5000, 4000)
    bench.refusal(1, 0)
    bench.end(record, 90, 9)
    bench.call(50, 50)
    bench.refusal(0, 0)


def test_calls_that_have_ended_count_at_once_and_are_booked_a_moment_later():
    bench = Bench(token(tokens=100))

    async def run():
        records = [bench.begin(10, 10)[0] for _ in range(5)]
        for record in records:
            record.count(Usage(10, 10))
            bench.budgets.settle(record)
        assert bench.left() == (0, 0) and list(Spending(bench.state).own()) == []
        assert bench.refusal().retry_after > 1
        await asyncio.sleep(room._BOOK_SECONDS + 0.1)  # private: the loop's clock is real
        (booked,) = Spending(bench.state).own()
        assert [tokens for _, tokens, _ in booked.periods] == [100] * 3
        assert bench.refusal().retry_after > 1

    asyncio.run(run())


def test_a_call_that_fails_gives_its_reservation_back():
    bench = Bench(token(tokens=100))
    record, _ = bench.begin(100, 100)
    settle(bench.budgets, record, record)  # without a count; a second time is nothing
    assert bench.left() == (0, 0)
    bench.call()


def test_money_is_counted_by_what_it_cost_not_by_what_was_reserved():
    bench = Bench(token(usd=0.0001))  # 100,000 nano-USD
    record, _ = bench.begin(40_000, 10_000)  # 60 million are reserved
    bench.refusal(0, 1)
    bench.end(record, cost=99_999)
    assert bench.left() == (0, 0)
    bench.call(cost=2)
    error = bench.refusal()
    assert "0.0001 USD per month" in error.message


def test_models_without_a_price_pass_a_money_budget_or_are_refused():
    lenient, strict = Bench(token(usd=1)), Bench(token(usd=1, unpriced="refuse"))

    async def run():
        assert lenient.begin(model="unknown")[1] is None
        assert strict.begin(model="m")[1] is None  # from now on there is a lease
        return strict.refusal(model="unknown")

    error = asyncio.run(run())
    assert (error.status, error.code) == (403, "unpriced_model") and "unknown" in error.message


def test_who_has_used_80_percent_is_told_so_and_the_log_once(caplog):
    bench = Bench(token(usd=1, tokens=1000, per="week"))
    with caplog.at_level(logging.WARNING):
        assert bench.call(500, 299) is None
        assert bench.call(1, 0) is None and len(caplog.records) == 1
        assert bench.call(1, 0) == "80% of 1 USD and 1000 tokens per week used"
        assert bench.call(1, 0, cost=round(0.95 * NANO)) is not None
        assert bench.call(0, 0) == "95% of 1 USD and 1000 tokens per week used"
        assert len(caplog.records) == 1
        assert list(bench.budgets.used()) == [("alice", "tokens", 0.802), ("alice", "usd", 0.95)]
        bench.call(0, 0, cost=NANO)
        assert len(caplog.records) == 2 and "alice has used 195%" in caplog.text
        bench.now += 7 * 86_400
        bench.call(900, 0)
        assert len(caplog.records) == 3


def test_tokens_per_minute_are_guessed_before_and_corrected_after():
    bench = Bench(token(tpm=100))
    first, _ = bench.begin(50, 49)
    second, _ = bench.begin(1, 0)
    error = bench.refusal()
    assert (error.status, error.code, bench.refused) == (429, "token_limit", ["tpm"])
    assert 55 <= error.retry_after <= 65 and "100 tokens per minute" in error.message
    bench.end(first, 10, 10)
    bench.end(second, 1, 0)
    bench.end(bench.begin(70, 10)[0], 70, 10)
    bench.refusal()
    bench.now += 66
    bench.call()


def test_tokens_without_limits_are_not_looked_at():
    bench = Bench(token())
    record, told = bench.begin()
    bench.end(record)
    assert told is None and list(bench.budgets.used()) == []
    assert bench.budgets.reserve(record, None, 10, None) is None


def test_limits_may_change_while_the_gateway_runs():
    bench = Bench(token())
    bench.call()
    bench.token = token(tokens=20)
    bench.call()
    bench.refusal()
    assert list(bench.budgets.used()) == [("alice", "tokens", 1.0)]
    bench.token = token(tokens=40)
    bench.call()


def test_a_longer_period_knows_what_was_spent_before_the_config_changed():
    state = SharedState()
    Bench(token(tokens=100, per="day"), state).call(60, 0)
    bench = Bench(token(tokens=50, per="month"), state)
    bench.refusal()


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        (b'{"max_tokens":7}', 7),
        (b'{"max_completion_tokens":8,"max_tokens":7}', 8),
        (b'{"max_output_tokens":9}', 9),
        (b'{"generationConfig":{"maxOutputTokens":10}}', 10),
        (b'{"max_tokens":7,"n":3}', 21),
        (b'{"max_tokens":32000}', 4096),
        (b'{"max_tokens":-1}', 1000),
        (b'{"max_tokens":"7"}', 1000),
        (b'{"max_tokens":null}', 1000),
        (b"{}", 1000),
        (b"\xff no JSON", 1000),
        (b"[" * 5000, 1000),
        (b'{"max_tokens":7,"messages":"%b"}' % (b"x" * 300_000), 1000),  # too long to be searched
    ],
)
def test_the_answer_is_reserved_by_what_the_body_allows(body, tokens):
    assert answer_tokens(body) == tokens


def test_what_was_spent_outlives_a_restart(tmp_path):
    path = tmp_path / "rests.json"
    bench = Bench(token(tokens=100, usd=1))
    bench.call(30, 20, cost=7)
    host = bench.state.host
    cooldown_store.save(bench.state, path, NOW)
    again = Bench(bench.token, SharedState())
    cooldown_store.load(again.state, path, NOW)
    assert again.state.host == host
    assert list(Spending(again.state).own()) == list(Spending(bench.state).own())
    again.call(50, 0)
    again.refusal()


def test_a_state_file_with_nonsense_of_budgets_is_harmless(tmp_path):
    path, mark = tmp_path / "rests.json", fingerprint("access.tokens/alice")
    for spent in (
        f"[[{mark}, [[1e300, 1, 1], [0, 0, 0], [0, 0, 0]]]]",
        f"[[{mark}, [[0, -1, 1], [0, 0, 0], [0, 0, 0]]]]",
        f"[[{mark}, [[0, 1, 1]]]]",
        f"[[{2**60}, [[0, 1, 1], [0, 0, 0], [0, 0, 0]]]]",
        "7",
    ):
        path.write_text(f'{{"version": 1, "rests": [], "host": -3, "spent": {spent}}}')
        bench = Bench(token(tokens=100))
        cooldown_store.load(bench.state, path, NOW)
        assert list(Spending(bench.state).own()) == []
        bench.call()


def test_what_other_hosts_have_spent_counts_and_only_of_the_same_period():
    bench = Bench(token(tokens=100, per="day"))
    day, week, month = periods.starts(NOW)
    row, spending = bench.state.row("access.tokens/alice"), Spending(bench.state)
    mark = fingerprint("access.tokens/alice")
    today = Spent(mark, [(day, 40, 0), (week, 40, 0), (month, 40, 0)])
    yesterday = Spent(mark, [(day - 86_400, 500, 0), (week, 500, 0), (month, 500, 0)])
    spending.set_others(row, [today, yesterday, today], NOW)
    bench.call(10, 9)
    bench.call(1, 0)
    bench.refusal()
    spending.set_others(row, [today, yesterday], NOW)  # sums, not increments
    bench.call(0, 0)


def test_a_host_that_comes_back_takes_what_it_had_told_before():
    bench = Bench(token(tokens=100))
    bench.call(10, 0)
    (told,) = Spending(bench.state).own()
    bench.call(10, 0)
    (later,) = Spending(bench.state).own()
    Spending(bench.state).restore(told, NOW)
    assert list(Spending(bench.state).own()) == [later]
    fresh = SharedState()
    Spending(fresh).restore(later, NOW)
    assert list(Spending(fresh).own()) == [later]


# --- several workers ------------------------------------------------------------------------

CALLS, EACH = 60, 10  # calls of each worker, tokens of each call


def _spend(*asked):
    asyncio.run(_call_often(*asked))


async def _call_often(handles, results, barrier, limit, calls, each, hold):
    """Calls one after another as fast as they are let in; holds the last one open."""
    bench = Bench(limit, SharedState(handles))
    budgets = Budgets(Config(access=Access(tokens=[limit])), bench.state, Prices(Config()))
    passed = refused = 0
    barrier.wait(40)
    for number in range(calls):
        record = CallRecord(request_id="r", route="/", provider="openai-api", model="m")
        try:
            budgets.reserve(record, limit, 0, asking(each))
        except GatewayError:
            refused += 1
            continue
        passed += 1
        if hold and number == calls - 1:
            break
        record.count(Usage(0, each))
        budgets.settle(record)
        await asyncio.sleep(0)
    budgets.book()
    results.put((passed, refused))
    time.sleep(60 if hold else 0)


def spenders(state, limit, calls, each=EACH, hold=False):
    context = multiprocessing.get_context("spawn")
    results, barrier = context.Queue(), context.Barrier(3)
    workers = [
        context.Process(
            target=_spend,
            args=(state.handles, results, barrier, limit, calls, each, hold),
            daemon=True,
        )
        for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    return workers, [results.get(timeout=40) for _ in workers]


def test_workers_together_spend_the_budget_to_its_last_token_and_not_one_more():
    limit = token(tokens=1000)
    workers, told = spenders(state := SharedState(workers=3), limit, CALLS)
    for worker in workers:
        worker.join()
    assert sum(passed for passed, _ in told) * EACH == 1000
    assert Bench(limit, state).left() == (0, 0)


def test_workers_with_leases_spend_a_large_budget_to_its_end_and_no_further():
    limit = token(tokens=3_000_000)
    workers, told = spenders(state := SharedState(workers=3), limit, 3000, each=1000)
    for worker in workers:
        worker.join()
    assert sum(passed for passed, _ in told) == 3000
    assert all(refused for _, refused in told)
    assert Bench(limit, state).left() == (0, 0)


def test_the_reservations_of_a_killed_worker_are_freed():
    limit = token(tokens=40)
    workers, told = spenders(state := SharedState(workers=3), limit, 1, hold=True)
    try:
        assert told == [(1, 0)] * 3
        bench = Bench(limit, state)
        bench.refusal(10, 1)
        assert bench.left() == (30, 0)
        for worker in workers:
            os.kill(worker.pid, signal.SIGKILL)
            worker.join()
        bench.now += room._CLEANUP_SECONDS + 1  # private: how often the dead are looked for
        record, _ = bench.begin(10, 1)
        assert bench.left() == (11, 0)
        bench.end(record)
    finally:
        for worker in workers:
            worker.kill()
            worker.join()


def test_while_much_is_left_a_worker_lets_calls_in_from_a_lease():
    """The first call looks at what is left; the others see the lease as reserved, until it ends."""
    bench = Bench(token(tokens=1_000_000, usd=1))

    async def run():
        records = [bench.begin(10, 10)[0]]
        told = (20 + (1_000_000 - 20) // 8, 30_000 + (NANO - 30_000) // 8)
        assert bench.left() == told
        records += [bench.begin(10, 10)[0] for _ in range(5)]
        assert bench.left() == told
        await asyncio.sleep(room._BOOK_SECONDS + 0.1)  # private: the loop's clock is real
        assert bench.left() == (20 + 5 * 1010, 30_000 + 5 * 2_010_000)
        records.append(bench.begin(10, 10)[0])  # a new lease
        told = bench.left()
        for record in records:
            record.count(Usage(10, 10, cost=30))
            bench.budgets.settle(record)
        assert bench.left() == told
        bench.budgets.book()
        assert bench.left() == (0, 0)
        assert {used for *_, used in bench.budgets.used()} == {140 / 1_000_000, 210 / NANO}

    asyncio.run(run())


def test_a_lease_that_is_given_away_or_old_is_followed_by_another():
    bench = Bench(token(tokens=80_000))

    async def run():
        bench.begin()
        told = bench.left()
        for _ in range(9):  # of an eighth of the rest, 1010 tokens each
            bench.begin()
        assert bench.left() == told
        bench.begin()
        assert bench.left() != told
        told = bench.left()
        bench.begin()
        assert bench.left() == told
        await asyncio.sleep(room._BOOK_SECONDS + 0.1)  # private: the loop's clock is real
        assert bench.left() == (2 * 20 + 10 * 1010, 0)  # nothing beyond the calls
        bench.begin()
        assert bench.left() != (3 * 20 + 10 * 1010, 0)

    asyncio.run(run())


def test_a_call_that_has_spent_more_than_the_lease_is_told_at_once():
    bench = Bench(token(tokens=1_000_000))

    async def run():
        record, other = bench.begin()[0], bench.begin()[0]
        for each in (record, other):
            each.count(Usage(100_000, 0))
        bench.budgets.settle(record)
        assert bench.left()[0] > 125_000
        bench.budgets.settle(other)
        assert bench.left() == (0, 0)

    asyncio.run(run())


def test_the_last_quarter_of_a_budget_is_given_away_call_by_call():
    bench = Bench(token(tokens=1_000_000))

    async def run():
        record, _ = bench.begin()
        record.count(Usage(750_000, 0))
        bench.budgets.settle(record)
        for number in range(3):
            bench.begin(10, 10)
            assert bench.left() == (20 * (number + 1), 0)

    asyncio.run(run())


def test_a_websocket_books_each_answer_as_it_ends():
    """Others see at once what it has spent, its own reservation stays, and the end adds nothing."""
    bench = Bench(token(tokens=100, per="day", tpm=1000))

    async def talk():
        record, _ = bench.begin(0, 30)
        record.add(Usage(20, 20))
        assert bench.budgets.advance(record)
        bench.budgets.book()
        assert bench.refusal(0, 40).code == "budget_exceeded"  # 40 spent, 30 reserved
        record.add(Usage(20, 40))
        assert not bench.budgets.advance(record)
        bench.budgets.settle(record)
        bench.budgets.book()

    asyncio.run(talk())
    told = bench.refusal(0, 1)
    assert told.code == "budget_exceeded" and told.retry_after > 60
    ((_, _, used),) = bench.budgets.used()
    assert used == 1


def test_the_sounds_of_all_answers_of_a_websocket_are_counted():
    record = CallRecord(request_id="r", route="/")
    for _ in range(2):
        record.add(Usage(30, 20, audio_tokens=10, completion_audio_tokens=15))
    usage = record.usage()
    assert (usage.audio_tokens, usage.completion_audio_tokens) == (20, 30)
    assert record.tokens == 100
