"""A pipe with log writers on one end."""

import os
from contextlib import suppress

import pytest

from app.telemetry import log_writer
from app.telemetry.log_writer import LogWriter


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
        del log_writer._writers[self.writer]  # private: a process never closes what it logs to
        os.close(self.writer)


@pytest.fixture
def pipe():
    made = Pipe()
    yield made
    made.close()
