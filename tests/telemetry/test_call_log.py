"""Lines of calls, and what else gets their records."""

import asyncio

from app.state.worker_slots import WorkerRows
from app.telemetry.call_log import CallLog, CallRecord
from app.telemetry.metrics import Metrics
from app.telemetry.recent_calls import CallHistory, calls_of
from app.wire.events import Usage
from tests.telemetry.records import CALLS, figures, record


def test_the_answers_of_one_websocket_are_added_up():
    record = CallRecord(request_id="r", route="/v1/*")
    record.add(Usage(10, 5, cached_tokens=4, reasoning_tokens=1))
    assert (record.prompt_tokens, record.completion_tokens, record.cost) == (10, 5, None)
    record.add(Usage(20, 7, cached_tokens=6, cost=100))
    record.add(Usage(1, 1, cost=11))
    counted = (record.prompt_tokens, record.completion_tokens, record.cached_tokens)
    assert counted == (31, 13, 10)
    assert (record.reasoning_tokens, record.cost, record.counted) == (1, 111, "told")


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


def test_the_log_tells_every_call_to_counter_and_memory(capfd):
    rows = WorkerRows()
    row = rows.claim()
    log = CallLog("text", count=Metrics(row).call, keep=CallHistory(row).keep)
    log.enabled = False
    log.write(record(request_id="one"))
    assert figures(rows)[CALLS] == 1
    (call,) = calls_of(rows.used(), "one")
    assert call["outcome"] == "complete" and call["time"]
    assert capfd.readouterr().out == ""
