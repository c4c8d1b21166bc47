"""The ring of recent calls: its bounds, and frames that are torn."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from app.state.worker_slots import RING, WorkerRows
from app.telemetry.recent_calls import CallHistory, calls_of, last_errors
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
