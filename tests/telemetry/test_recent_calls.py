"""The ring of recent calls: its bounds, and frames that are torn."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from app.state.worker_slots import RING, WorkerRows
from app.telemetry.recent_calls import CallHistory, calls_of, calls_since, last_errors, time_of
from tests.telemetry.records import record


def test_a_call_is_remembered_until_the_ring_has_gone_round():
    rows = WorkerRows()
    history = CallHistory(rows.claim())
    lines = 3 * RING // 150
    for n in range(lines):
        failed = record(request_id=f"r{n}", time=f"{n:08d}", code="x", outcome="upstream_error")
        history.keep(msgspec.json.encode(failed))
    assert calls_of(rows.used(), "r0") == []
    assert [call["request_id"] for call in calls_of(rows.used(), f"r{lines - 1}")] == [
        f"r{lines - 1}"
    ]
    newest = [call["request_id"] for call in last_errors(rows.used(), 3)]
    assert newest == [f"r{lines - 1}", f"r{lines - 2}", f"r{lines - 3}"]
    assert calls_of(rows.used(), "r") == []  # an id, not the beginning of one


def test_calls_since_are_those_of_all_workers_in_their_order():
    rows = WorkerRows(workers=2)
    workers = [CallHistory(rows.claim()), CallHistory(None), CallHistory(rows.claim())]
    for n in range(6):
        route = "/admin/*" if n == 4 else "/c"
        call = record(request_id=f"r{n}", route=route, time=f"2026-01-31T12:00:00.00{n}Z")
        workers[2 * (n % 2)].keep(msgspec.json.encode(call))

    def ids(since: bytes, count: int = 10, without: str = "") -> list[str]:
        lines = calls_since(rows.used(), since, count, without)
        return [msgspec.json.decode(line)["request_id"] for line in lines]

    assert ids(b"") == ["r0", "r1", "r2", "r3", "r4", "r5"]
    assert ids(b"", 2) == ["r4", "r5"]
    assert ids(b"", without="/admin/*") == ["r0", "r1", "r2", "r3", "r5"]
    first = calls_since(rows.used(), b"", 3)[0]
    assert time_of(first) == b"2026-01-31T12:00:00.003Z"
    assert ids(time_of(first)) == ["r4", "r5"]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 60_000), min_size=1, max_size=60), st.integers(0, RING - 1))
def test_whatever_is_torn_in_the_ring_no_false_call_is_told(sizes, torn):
    rows = WorkerRows()
    row = rows.claim()
    history = CallHistory(row)
    kept = []
    for n, size in enumerate(sizes):
        line = b'{"request_id":"r%d","pad":"%s"}' % (n, b"x" * size)
        history.keep(line)
        kept.append(line)
    row.ring[torn] ^= 0xFF  # a writer was killed, or writes just now
    for n, line in enumerate(kept):
        assert calls_of(rows.used(), f"r{n}") in ([], [msgspec.json.decode(line)])
