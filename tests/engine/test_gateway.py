"""A worker's whole service: what must not be lost at its end."""

import asyncio
import json
import os
import sqlite3

import pytest

from app.config.schema import Config
from app.engine.gateway import Gateway
from app.state.shared_table import SharedState
from app.telemetry import log_writer
from app.telemetry.call_log import CallLog, CallRecord


def test_the_log_and_the_ledger_are_written_though_something_else_cannot_be_closed(tmp_path):
    """They wait in memory for some milliseconds, and the ledger's rows for a second."""
    file = tmp_path / "calls.log"
    fd = os.open(file, os.O_WRONLY | os.O_CREAT)

    async def main():
        gateway = Gateway(Config(ledger=str(tmp_path / "usage.db")), SharedState())
        gateway.log = CallLog(fd=fd)

        async def fail():
            raise RuntimeError("can't start new thread")

        gateway.leader_tasks.close = fail
        record = CallRecord(request_id="r-1", route="/", provider="openai-api", attempts=1)
        gateway.accounting.settle(record)
        gateway.log.write(record)
        with pytest.raises(RuntimeError, match="new thread"):
            await gateway.close()

    asyncio.run(main())
    log_writer.flush()
    os.close(fd)
    with sqlite3.connect(tmp_path / "usage.db") as ledger:
        assert ledger.execute("SELECT request_id FROM ledger_call_rows").fetchall() == [("r-1",)]
    assert [json.loads(line)["request_id"] for line in file.read_text().splitlines()] == ["r-1"]
