"""The log is written beside the calls: an unread pipe stops nobody, and what is lost is counted."""

import asyncio
import logging
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

from app.state.worker_slots import WorkerRows
from app.telemetry import log_setup, log_writer
from app.telemetry.call_log import CallLog, CallRecord
from app.telemetry.log_writer import LogWriter
from app.telemetry.metrics import Metrics, add_up, as_text
from tests.server.running import ROOT

LINE = b"x" * 99 + b"\n"


class Pipe:
    def __init__(self):
        self.reader, self.writer = os.pipe()
        self._logs = []

    def log(self, on_drop=None):
        self._logs.append(LogWriter(self.writer, on_drop))
        return self._logs[-1]

    def read(self, size):
        found = b""
        while len(found) < size:
            found += os.read(self.reader, 65536)
        return found

    def close(self):
        with suppress(OSError):
            os.close(self.reader)
        # Who still writes fails now; later the number is another pipe's.
        for log in [*self._logs, log_writer.writer_of(self.writer)]:
            log.flush(10)
        del log_writer._writers[self.writer]
        os.close(self.writer)


@pytest.fixture
def pipe():
    made = Pipe()
    yield made
    made.close()


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
    assert log._taken - log._done <= log_writer.MAX_QUEUED
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
    assert log._done == 0


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


def test_call_lines_wait_for_no_reader(pipe):
    async def main():
        log = CallLog(fd=pipe.writer)
        for n in range(2000):  # far more than a pipe holds
            log.write(CallRecord(request_id=f"r{n}", route="/c"))
            if n % 100 == 0:
                log.flush()
                await asyncio.sleep(0)
        log.flush()

    asyncio.run(asyncio.wait_for(main(), 10))
    told = pipe.read(100_000)
    assert told.startswith(b'{"time"') and b'"r1"' in told


class Unprintable:
    def __str__(self):
        raise ValueError("sk-secret-0123456789")


def test_a_message_that_cannot_be_written_fails_nobody_and_tells_no_argument(capfd):
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        log_setup.configure("info", "json", frozenset())
        logging.getLogger("any_proxy.test").error("this %s", Unprintable())
        logging.getLogger("any_proxy.test").error("that")
        log_writer.flush()
    finally:
        root.handlers[:], root.level = before
    told = capfd.readouterr().err
    assert "a message cannot be written (ValueError)" in told and '"that"' in told
    assert "sk-secret" not in told


_LAST_WORDS = """
import logging
from app.telemetry import log_setup
log_setup.configure("info", "text", frozenset())
for n in range(500):
    logging.getLogger("x").error("word %d", n)
"""


def test_the_end_of_the_process_waits_for_what_is_queued():
    done = subprocess.run(
        [sys.executable, "-c", _LAST_WORDS], cwd=ROOT, capture_output=True, timeout=30, check=True
    )
    assert done.stderr.count(b"\n") == 500
