"""SQLite and PostgreSQL hold the same ledger in the same way."""

import sqlite3
import time

import psycopg
import pytest

from app.accounting import migrations
from app.accounting.migrations import VERSIONS, TooNew, missing
from app.accounting.sqlite_store import SqliteStore
from app.accounting.store import (
    COLUMNS,
    DAY,
    FIGURES,
    GROUP,
    HOUR,
    KIND,
    OWN,
    Batch,
    Unwritten,
    store_of,
)
from app.telemetry.call_log import CallRecord
from tests.accounting.batches import batch_of, call_of

NOW = 1_800_000_000


def a_record(**more) -> CallRecord:
    told = {"request_id": "r1", "route": "/c", "provider": "openai-api", "model": "m"}
    return CallRecord(**told | more)


def a_call(**more) -> tuple:
    return call_of(NOW * 1000, a_record(**more))


def a_sum(start=NOW, seconds=HOUR, token="alice", **figures) -> tuple:
    counts = {"calls": 1} | figures
    return (seconds, start, token, "openai-api", "m", "k1", *(counts.get(n, 0) for n in FIGURES))


def batch(number=1, rows=(), sums=(), writer="w1", time=NOW) -> Batch:
    return batch_of(rows, sums, number, writer, time)


def test_a_row_comes_back_as_it_was_written(store):
    whole = a_call(
        token="alice", address="10.0.0.1", front="openai-chat", model_asked="openai/m", key_id="k1",
        stream=True, status=200, outcome="complete", attempts=2, first_event_ms=12.5,
        total_ms=99.25, prompt_tokens=7, cached_tokens=3, cache_write_tokens=1,
        completion_tokens=5, reasoning_tokens=2, counted="told", cost=2**40,
    )  # fmt: skip
    bare = a_call(request_id="r2")
    store.write(batch(rows=[whole, bare]))
    got = store.read(f"SELECT {', '.join(COLUMNS)} FROM ledger_calls ORDER BY id")
    told, untold = (dict(zip(COLUMNS, row, strict=True)) for row in got)
    for (kind, row), read in ((whole, told), (bare, untold)):
        assert tuple(read[name] for name in KIND) == kind[1:]
        assert [read[name] for name in OWN if name != "kind"] == [*row[:2], *row[3:]]
    assert (told["cost"], told["stream"], told["address"]) == (2**40, 1, "10.0.0.1")
    assert untold["cost"] is None, "unknown is not zero"


def test_sums_add_up_over_batches_and_writers(store, place):
    store.write(batch(sums=[a_sum(prompt_tokens=5, cost=7)]))
    other = store_of(place)
    other.write(batch(writer="w2", sums=[a_sum(prompt_tokens=6, cost=8), a_sum(token="bob")]))
    other.close()
    got = store.read(f"SELECT {', '.join(GROUP + FIGURES)} FROM ledger_sums ORDER BY token")
    assert got == [a_sum(calls=2, prompt_tokens=11, cost=15), a_sum(token="bob")]


def test_a_batch_whose_success_was_not_heard_is_not_written_twice(store, place):
    one = batch(rows=[a_call()], sums=[a_sum()])
    store.write(one)
    again = store_of(place)  # as after a lost connection
    again.write(one)
    again.write(batch(2, rows=[a_call(request_id="r2")], sums=[a_sum()]))
    again.close()
    assert store.read("SELECT request_id FROM ledger_calls ORDER BY id") == [("r1",), ("r2",)]
    assert store.read("SELECT calls FROM ledger_sums") == [(2,)]


def test_what_it_cannot_hold_is_told_from_what_it_cannot_reach(store):
    kind, row = a_call()
    with pytest.raises(Unwritten) as caught:
        store.write(batch(rows=[a_call(), (kind, (None, *row[1:]))]))
    assert caught.value.is_final
    assert store.read("SELECT COUNT(*) FROM ledger_calls") == [(0,)], "all of a batch or nothing"
    store.write(batch(2, rows=[a_call()]))
    assert store.read("SELECT COUNT(*) FROM ledger_calls") == [(1,)]


def test_texts_that_callers_make_up_are_written(store):
    evil = "m\x00\x1b[2J\ud800" + "x" * 100
    store.write(batch(rows=[a_call(model=evil, model_asked=evil, code="\x00")]))
    ((model,),) = store.read("SELECT model FROM ledger_calls")
    assert model == "m\ufffd\ufffd[2J\ufffd" + "x" * 100


def test_figures_beyond_reason_are_cut_off(store):
    row = a_call(prompt_tokens=2**53, completion_tokens=1, counted="told", cost=2**80)
    store.write(batch(rows=[row]))
    assert store.read("SELECT prompt_tokens, cost FROM ledger_calls") == [(10**9, 10**14)]


def test_old_rows_go_and_daily_sums_stay(store):
    rows = [
        call_of((NOW + n) * 1000, CallRecord(request_id=f"r{n}", route="/c")) for n in range(10)
    ]
    sums = [a_sum(NOW - HOUR), a_sum(NOW), a_sum(NOW - HOUR, DAY)]
    store.write(batch(rows=rows, sums=sums, time=NOW - 5))
    assert store.prune((NOW + 8) * 1000, NOW, NOW, 6) == 6
    assert store.prune((NOW + 8) * 1000, NOW, NOW, 6) == 2
    assert store.read("SELECT request_id FROM ledger_calls ORDER BY id") == [("r8",), ("r9",)]
    left = store.read("SELECT seconds, start FROM ledger_sums ORDER BY seconds")
    assert left == [(HOUR, NOW), (DAY, NOW - HOUR)]
    assert store.read("SELECT COUNT(*) FROM ledger_writers") == [(0,)]


def test_what_calls_have_in_common_is_written_once_whoever_writes_it(store, place):
    store.write(batch(rows=[a_call(), a_call(request_id="r2"), a_call(token="bob")]))
    other = store_of(place)
    other.write(batch(writer="w2", rows=[a_call(request_id="r3", total_ms=5.0)], time=NOW + DAY))
    other.close()
    told = store.read("SELECT request_id, token FROM ledger_calls ORDER BY id")
    assert told == [("r1", ""), ("r2", ""), ("r1", "bob"), ("r3", "")]
    used = store.read("SELECT token, used FROM ledger_call_kinds ORDER BY token")
    assert used == [("", NOW // DAY * DAY + DAY), ("bob", NOW // DAY * DAY)]


def test_what_no_kept_call_has_goes_with_the_calls(store):
    store.write(batch(rows=[a_call(token="gone")]))
    store.write(batch(2, rows=[call_of((NOW + DAY) * 1000, a_record())], time=NOW + DAY))
    store.prune((NOW + 1) * 1000, NOW, NOW, 10)
    assert store.read("SELECT token FROM ledger_calls") == [("",)]
    assert len(store.read("SELECT id FROM ledger_call_kinds")) == 2, "calls of that day may be left"
    store.prune((NOW + DAY) * 1000, NOW, NOW, 10)
    assert store.read("SELECT token FROM ledger_call_kinds") == [("",)]


def test_the_calls_of_an_older_ledger_are_still_there(place, monkeypatch):
    """Until version 2 each row had all its texts."""
    monkeypatch.setattr(migrations, "VERSIONS", VERSIONS[:2])
    names = ", ".join(COLUMNS)
    rows = [
        [n, f"r{n}", f"token{n % 2}", "", "/c", "", "openai-api", "m", "m", "k1", 0, 200,
         "complete", "", 1, None, 9.5, None, 0, 0, 3, 0, "told", n or None]
        for n in range(5)
    ]  # fmt: skip
    older = store_of(place)
    add = f"INSERT INTO ledger_calls ({names}) VALUES ({', '.join('?' * len(COLUMNS))})"
    older.change([(add, row) for row in rows])
    older.close()
    monkeypatch.undo()
    newer = store_of(place)
    newer.write(batch(rows=[a_call(request_id="new")]))
    got = newer.read(f"SELECT {names} FROM ledger_calls ORDER BY id")
    newer.close()
    assert [list(row) for row in got[:5]] == rows
    assert got[5][1] == "new" and len(got) == 6


def test_a_second_version_is_added_to_the_tables_of_the_first(store, place, monkeypatch):
    store.write(batch(rows=[a_call()]))
    more = (*VERSIONS, ("ALTER TABLE ledger_writers ADD COLUMN later TEXT",))
    monkeypatch.setattr(migrations, "VERSIONS", more)
    newer = store_of(place)
    newer.write(batch(2, rows=[a_call(request_id="r2")]))
    assert newer.read("SELECT request_id FROM ledger_calls ORDER BY id") == [("r1",), ("r2",)]
    assert newer.read("SELECT batch, later FROM ledger_writers") == [(2, None)]
    newer.close()
    monkeypatch.undo()
    older = store_of(place)
    with pytest.raises(
        Unwritten, match=f"version {len(more)}, and this release knows {len(more) - 1}"
    ):
        older.write(batch(3))
    older.close()


def test_versions_are_counted_from_one():
    assert [number for number, _ in missing(0)] == list(range(1, len(VERSIONS) + 1))
    assert missing(len(VERSIONS)) == []
    with pytest.raises(TooNew):
        missing(len(VERSIONS) + 1)


def test_off_is_no_store():
    assert store_of("off") is None


def test_to_read_makes_no_file(tmp_path):
    assert store_of(str(tmp_path / "usage.db")).read("SELECT 1") == []
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_its_owners(tmp_path):
    store = store_of(str(tmp_path / "usage.db"))
    store.write(batch())
    store.close()
    assert (tmp_path / "usage.db").stat().st_mode & 0o077 == 0


def test_a_locked_file_is_to_be_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr("app.state.sqlite_file.BUSY_SECONDS", 0)
    store = store_of(str(tmp_path / "usage.db"))
    store.write(batch(rows=[a_call()]))
    holder = sqlite3.connect(tmp_path / "usage.db")
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unwritten, match="locked") as caught:
        store.write(batch(2, rows=[a_call()]))
    assert not caught.value.is_final
    holder.rollback()
    holder.close()
    store.write(batch(2, rows=[a_call()]))
    assert store.read("SELECT COUNT(*) FROM ledger_calls") == [(2,)]
    store.close()


def test_a_full_disk_is_to_be_tried_again(tmp_path):
    store = SqliteStore(tmp_path / "usage.db")
    store.write(batch(rows=[a_call()]))
    database = store._file.open()  # private: the nearest to a full disk that every machine has
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count = {pages}")
    many = [a_call(request_id="x" * 100) for _ in range(1000)]
    with pytest.raises(Unwritten, match="full") as caught:
        store.write(batch(2, rows=many))
    assert not caught.value.is_final
    store.write(batch(2, rows=many))  # on a new connection, without that limit
    assert store.read("SELECT COUNT(*) FROM ledger_calls") == [(1001,)]
    store.close()


def test_a_server_that_is_not_there_is_told_without_delay():
    pytest.importorskip("psycopg")
    store = store_of("postgresql://gateway:hidden-word@127.0.0.1:9/postgres")
    began = time.monotonic()
    with pytest.raises(Unwritten) as caught:
        store.write(batch())
    assert not caught.value.is_final and "hidden-word" not in str(caught.value)
    assert time.monotonic() - began < 3


def test_text_of_a_database_without_an_encoding_is_text(postgres):
    """PostgreSQL set up in the C locale has SQL_ASCII: its text comes as bytes unless asked for."""
    with psycopg.connect(postgres.address, autocommit=True) as connection:
        connection.execute(
            "CREATE DATABASE plain TEMPLATE template0 ENCODING 'SQL_ASCII'"
            " LC_COLLATE 'C' LC_CTYPE 'C'"
        )
    store = store_of(postgres.address.replace("/postgres", "/plain"))
    try:
        store.write(batch(sums=[a_sum(token="élise")]))
        assert store.read("SELECT token FROM ledger_sums") == [("élise",)]
    finally:
        store.close()
