"""The writer's thread: an unread pipe blocks nobody, and lost lines are counted."""

import os
import threading
import time

from app.state.worker_slots import WorkerRows
from app.telemetry import log_writer
from app.telemetry.metrics import Metrics, add_up, as_text

LINE = b"x" * 99 + b"\n"


def test_lines_come_whole_and_in_order(pipe):
    log = pipe.log()
    lines = [b"%d\n" % n for n in range(2000)]
    for n in range(0, 2000, 20):
        log.put(lines[n : n + 20])
    log.flush()
    assert pipe.read(len(b"".join(lines))) == b"".join(lines)
    assert log.dropped == 0


def test_who_does_not_read_holds_up_nobody_and_the_queue_is_bounded(pipe):
    losses = []
    log = pipe.log(lambda: losses.append(log.dropped))
    lines = 2 * log_writer.MAX_QUEUED // len(LINE)
    for _ in range(lines):
        log.put([LINE])  # the pipe takes 64 KiB
    assert log.waiting <= log_writer.MAX_QUEUED
    assert losses[-1] == log.dropped > lines / 3
    kept = lines - log.dropped
    assert pipe.read(kept * len(LINE)) == LINE * kept  # and the rest comes when it is read
    log.put([b"again\n"])
    assert pipe.read(6) == b"again\n"


def test_the_wait_for_a_pipe_that_nobody_reads_is_bounded(pipe):
    log = pipe.log()
    log.put([b"x" * 1_000_000 + b"\n"])
    began = time.monotonic()
    log.flush(0.05)
    assert time.monotonic() - began < 5
    assert log.waiting == 1_000_001


def test_a_pipe_that_somebody_made_non_blocking_is_written_whole(pipe):
    os.set_blocking(pipe.writer, False)
    log = pipe.log()
    log.put([LINE * 5000])
    assert pipe.read(5000 * len(LINE)) == LINE * 5000
    assert log.dropped == 0


def test_a_log_without_a_reader_is_dropped_and_counted(pipe):
    os.close(pipe.reader)
    log = pipe.log()
    log.put([LINE, LINE * 2])
    log.flush()
    assert log.dropped == 3


def test_without_a_thread_lines_are_dropped_and_the_next_one_tries_again(pipe, monkeypatch):
    def start(self):
        raise RuntimeError("can't start new thread")

    log = pipe.log()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        log.put([LINE])
    assert log.dropped == 1
    log.put([b"well\n"])
    assert pipe.read(5) == b"well\n"


def test_dropped_lines_are_a_metric_that_outlives_the_worker():
    rows = WorkerRows()
    for _ in range(2):  # the second takes over the row of the first
        row = rows.claim()
        Metrics(row).log_dropped(7)
        row.cells[1] = 0  # its owner is dead
    assert "\ngateway_log_lines_dropped_total 14\n" in as_text(add_up(rows.used()))


def test_a_descriptor_that_is_closed_loses_its_lines_and_counts_them():
    reader, closed = os.pipe()
    os.close(reader)
    os.close(closed)
    log = log_writer.LogWriter(closed)
    log.put([LINE, LINE])
    log.flush(5)
    assert (log.waiting, log.dropped) == (0, 2)
