"""Counting calls, rows of dead workers, the text format."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from app.state.worker_slots import WorkerRows
from app.telemetry.call_log import Attempt
from app.telemetry.metrics import BUCKETS, FAMILIES, Metrics, add_up, as_text
from app.telemetry.recent_calls import CallHistory
from tests.server.running import ROOT
from tests.telemetry.records import CALLS, figures, record


def test_a_call_is_counted_with_its_attempts_tokens_and_times():
    rows = WorkerRows()
    metrics = Metrics(rows.claim())
    told = {"stream": True, "first_event_ms": 70.0, "prompt_tokens": 5, "completion_tokens": 7}
    metrics.call(record(attempts=2, unknown_events=3, **told))
    found = figures(rows)
    label = '{provider="openai-api"}'
    assert found[CALLS] == 1
    assert found["gateway_attempts_total" + label] == 2
    assert found["gateway_unknown_events_total" + label] == 3
    assert found['gateway_tokens_total{provider="openai-api",kind="completion"}'] == 7
    assert found["gateway_first_event_seconds_count" + label] == 1
    assert found["gateway_first_event_seconds_sum" + label] == 0.07
    bucket = 'gateway_first_event_seconds_bucket{provider="openai-api",le="%s"}'
    assert [found[bucket % bound] for bound in ("0.05", "0.1", "+Inf")] == [0, 1, 1]


def test_upstream_errors_are_counted_once_each():
    rows = WorkerRows()
    metrics = Metrics(rows.claim())
    tried = [
        Attempt("openai-api", "m", "k1", 429, "rate limited", "", 3.0, "another key"),
        Attempt("openai-api", "m", "k2", 0, "upstream failed", "upstream_cut", 3.0, "told"),
    ]
    metrics.call(record(tried=tried, attempts=3))
    metrics.call(record(outcome="upstream_cut", status=200, first_event_ms=3.0))
    metrics.call(record(outcome="upstream_error", status=502))
    metrics.call(record(outcome="client_gone", status=499))
    found = figures(rows)
    name = 'gateway_upstream_errors_total{provider="openai-api",code="%s"}'
    assert [found[name % code] for code in ("429", "cut", "502")] == [1, 2, 1]
    assert sum(v for n, v in found.items() if n.startswith("gateway_upstream_errors")) == 4


def test_an_attempt_that_the_gateway_itself_had_no_means_for_is_no_upstreams_error():
    rows = WorkerRows()
    tried = [Attempt("openai-api", "m", "k1", 503, "gateway failed", "x", 3.0, "told")]
    Metrics(rows.claim()).call(record(tried=tried, outcome="gateway_error", status=503))
    assert not [n for n in figures(rows) if n.startswith("gateway_upstream_errors_total{")]


def test_rows_are_added_up_and_what_is_open_in_a_dead_worker_is_not():
    rows = WorkerRows()
    ours = rows.claim()
    Metrics(ours).call(record())
    metrics = Metrics(ours)
    metrics.open(3, 2)
    assert figures(rows)["gateway_open_streams"] == 2
    ours.cells[1] += 1  # as if our number had been another process's
    found = figures(rows)
    assert found[CALLS] == 1 and "gateway_open_streams" not in found
    adopted = rows.claim()
    assert adopted is ours
    later = Metrics(adopted)
    later.call(record())
    assert figures(rows)[CALLS] == 2 and figures(rows)["gateway_open_streams"] == 0


_WORKER = """
import multiprocessing, os, sys
from app.telemetry.metrics import Metrics
from app.state.worker_slots import WorkerRows
from tests.telemetry.records import record

def work(handles, begun):
    metrics = Metrics(WorkerRows(handles).claim())
    while True:
        metrics.call(record(route="/r/%d" % os.getpid()))
        begun.set()

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    rows = WorkerRows()
    last = {}
    for _ in range(6):
        begun = context.Event()
        process = context.Process(target=work, args=(rows.handles, begun), daemon=True)
        process.start()
        begun.wait(20)
        process.kill()
        process.join()
        from app.telemetry.metrics import add_up
        now = add_up(rows.used())
        assert all(now[name] >= values for name, values in last.items()), (last, now)
        last = now
    counted = [v for n, v in now.items() if n.startswith("gateway_requests")]
    print(len(rows.used()), len(counted))
"""


def test_killed_workers_leave_their_row_whole_to_the_next(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(_WORKER)
    done = subprocess.run(
        [sys.executable, str(program)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == ["1", "6"], done.stderr


def test_more_series_than_there_is_room_for_harm_nobody():
    rows = WorkerRows()
    metrics = Metrics(rows.claim())
    metrics.call(record())
    for n in range(6000):
        metrics.call(record(route=f"/r/{n}", provider=f"p{n}"))
    assert figures(rows)[CALLS] == 1


def test_a_worker_without_a_row_counts_for_itself():
    Metrics(None).call(record())
    CallHistory(None).keep(b"{}")


def test_counting_a_call_costs_less_than_ten_microseconds():
    rows = WorkerRows()
    row = rows.claim()
    metrics, history = Metrics(row), CallHistory(row)
    one = record(stream=True, first_event_ms=7.0, prompt_tokens=1, completion_tokens=1)
    line = msgspec.json.encode(one)
    best = float("inf")
    for _ in range(5):
        began = time.process_time()
        for _ in range(2000):
            metrics.open(1, 1)
            metrics.call(one)
            history.keep(line)
            metrics.open(0, 0)
        best = min(best, (time.process_time() - began) / 2000)
    assert best < 10e-6


def test_the_text_is_prometheus_own():
    rows = WorkerRows()
    metrics = Metrics(rows.claim())
    metrics.call(record(stream=True, first_event_ms=1.5))
    text = as_text(add_up(rows.used()))
    sample = re.compile(
        r'[a-z_]+(\{([a-z_]+="[^"\\\n]*")(,[a-z_]+="[^"\\\n]*")*\})? (\d+(\.\d+)?|\+Inf)'
    )
    for line in text.splitlines():
        assert line.startswith(("# HELP gateway_", "# TYPE gateway_")) or sample.fullmatch(line)
    assert text.count("# TYPE") == len(FAMILIES) and text.endswith("\n")
    assert list(BUCKETS) == sorted(BUCKETS)


def test_every_metric_is_in_the_operators_guide():
    guide = Path(ROOT / "docs" / "operations.md").read_text()
    assert [family.name for family in FAMILIES if f"`{family.name}" not in guide] == []
