"""A worker's whole service: what must not be lost at its end."""

import asyncio
import json
import os

import pytest

from app.config.schema import Config
from app.engine.gateway import Gateway
from app.state.shared_table import SharedState
from app.telemetry import log_writer
from app.telemetry.call_log import CallLog, CallRecord


def test_the_last_lines_of_the_log_are_written_though_something_cannot_be_closed(tmp_path):
    """They wait in memory for some milliseconds, which are not over yet."""
    file = tmp_path / "calls.log"
    fd = os.open(file, os.O_WRONLY | os.O_CREAT)

    async def main():
        gateway = Gateway(Config(ledger="off"), SharedState())
        gateway.log = CallLog(fd=fd)

        async def fail():
            raise RuntimeError("can't start new thread")

        gateway.leader_tasks.close = fail
        gateway.log.write(CallRecord(request_id="r-1", route="/"))
        with pytest.raises(RuntimeError, match="new thread"):
            await gateway.close()

    asyncio.run(main())
    log_writer.flush()
    os.close(fd)
    assert [json.loads(line)["request_id"] for line in file.read_text().splitlines()] == ["r-1"]
