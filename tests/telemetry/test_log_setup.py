"""Python's logging: messages that cannot be formatted, the end of the process."""

import logging
import subprocess
import sys

from app.telemetry import log_setup, log_writer
from tests.server.running import ROOT


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
