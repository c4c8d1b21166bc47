"""What callers asked and were answered, a file per call: only where `record_calls` says so.

Written from a thread, in a folder of bounded size, readable by its owner only. The secrets of the
config are taken out; what callers write themselves is not known to be one.
"""

import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from app.telemetry.call_log import CallRecord
from app.telemetry.redaction import redact

logger = logging.getLogger("any_proxy.calls")

MOST_OF_ONE = 4 * 1024 * 1024  # bytes of a request, and of an answer
_MOST_WAITING = 64 * 1024 * 1024  # bytes of calls that are not written yet
SWEEP_SECONDS = 10.0


class CallFiles:
    """Keeps the calls of one worker in `folder`, of `most_bytes` over all workers.

    `only_errors`: calls that were answered well are left out. What goes wrong with the folder is
    logged, and never fails a call.
    """

    def __init__(self, folder: Path, most_bytes: int, *, only_errors: bool) -> None:
        self._folder, self._most_bytes, self._only_errors = folder, most_bytes, only_errors
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="calls")
        # Bytes so far; the loop writes the first, the thread the second: no lock is needed.
        self._queued, self._written = 0, 0
        self._left_out, self._told = 0, 0  # calls, in the same way
        self._swept = 0.0

    def keep(self, record: CallRecord, request: bytes, answer: Sequence[bytes]) -> None:
        """Takes a call that has ended; `answer` is what was sent, in its pieces. Never blocks."""
        is_good = record.outcome == "complete" and record.status < 400
        if is_good and self._only_errors:
            return
        size = min(len(request), MOST_OF_ONE) + sum(map(len, answer))
        if self._queued - self._written + size > _MOST_WAITING:
            self._left_out += 1
            return
        self._queued += size
        line = msgspec.json.encode(record)
        name = f"{time.time_ns()}-{os.getpid()}-{record.request_id}.json"
        self._thread.submit(self._write, name, line, request[:MOST_OF_ONE], answer, size)

    def close(self) -> None:
        """Waits until everything is written."""
        self._thread.shutdown()

    # --- on the thread ------------------------------------------------------------------------

    def _write(
        self, name: str, line: bytes, request: bytes, answer: Sequence[bytes], size: int
    ) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            whole = {"call": msgspec.Raw(line), "request": _text(request)}
            whole["answer"] = _text(b"".join(answer))
            out = os.open(self._folder / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            with open(out, "wb") as file:
                file.write(msgspec.json.encode(whole) + b"\n")
            if time.monotonic() - self._swept > SWEEP_SECONDS:
                self._sweep()
        except OSError as error:
            logger.error("a call cannot be kept in %s: %s", self._folder, error.strerror)
        finally:
            self._written += size
        if (left_out := self._left_out) > self._told:
            logger.warning("%d calls were not kept: the disk is too slow", left_out - self._told)
            self._told = left_out

    def _sweep(self) -> None:
        """Deletes the oldest calls until the rest has room."""
        self._swept = time.monotonic()
        # The names of one length begin with the time.
        found = sorted(
            (entry.name, entry.stat().st_size)
            for entry in os.scandir(self._folder)
            if entry.name.endswith(".json")
        )
        size = sum(each for _, each in found)
        for name, each in found:
            if size <= self._most_bytes:
                break
            (self._folder / name).unlink(missing_ok=True)
            size -= each


def _text(data: bytes) -> str:
    return redact(data.decode("utf-8", "backslashreplace"))
