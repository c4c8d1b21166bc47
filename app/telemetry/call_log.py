"""One line per call, and everything else that is logged, in JSON or text; secrets never.

Lines are collected for a moment and written together, on a thread of their own: a system call per
request would cost more than the line itself, and may wait for a reader. Prompts are never here, and
what the config knows as a secret is replaced wherever a message, an exception or a traceback holds
it.
"""

import asyncio
import re
import time
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from app.telemetry.log_writer import writer_of

_FLUSH_SECONDS = 0.05
_MAX_WRITE = 4096  # a pipe keeps writes up to this size whole when several workers share it


class Attempt(Struct, omit_defaults=True):
    """One try at an upstream that did not become the answer.

    `outcome` is the word of an Outcome; `next` says what followed: another key, another model, or
    that the caller was told. `ms` is how long it took.
    """

    provider: str
    model: str
    key_id: str
    status: int
    outcome: str
    code: str
    ms: float
    next: str = ""


OVERTAKEN = "overtaken"
GATEWAY_FAILED = "gateway failed"
LOST = "connection lost"


def unanswered(
    provider: str, model: str, key_id: str, began: float, outcome: str, then: str
) -> Attempt:
    """A try that nobody waits for any more; `began` as perf_counter() told it."""
    ms = round((time.perf_counter() - began) * 1000, 3)
    return Attempt(provider, model[:128], key_id, 0, outcome, "", ms, then)


def sent_again(provider: str, model: str, key_id: str, began: float) -> Attempt:
    """A try whose kept connection was lost at once, so that the client made it once more."""
    return unanswered(provider, model, key_id, began, LOST, "again")


class CallRecord(Struct, kw_only=True, omit_defaults=True):
    """What the log says of one call. Times in milliseconds.

    `attempts` counts the upstream calls; `tried` has those that failed, in order. The one that
    answered is described by the record itself.
    """

    time: str = ""
    request_id: str
    route: str
    front: str = ""  # of a chat call
    provider: str = ""
    model: str = ""
    key_id: str = ""
    stream: bool = False
    attempts: int = 0
    status: int = 0
    first_event_ms: float | None = None
    total_ms: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    upstream_request_id: str = ""
    code: str = ""
    outcome: str = ""
    tried: list[Attempt] = []
    unknown_events: int = 0


class CallLog:
    """The writer of call lines of one worker. `count` and `keep` are told of every call as well."""

    def __init__(
        self,
        form: str = "json",
        fd: int = 1,
        *,
        count: Callable[[CallRecord], None] | None = None,
        keep: Callable[[bytes], None] | None = None,
    ) -> None:
        self._json = form == "json"
        self._writer = writer_of(fd)
        self._count, self._keep = count, keep
        self._lines: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._second = (0, "")
        self.enabled = True

    def write(self, record: CallRecord) -> None:
        record.time = self._now()
        if self._count is not None:
            self._count(record)
        line = msgspec.json.encode(record)
        if self._keep is not None:
            self._keep(line)
        if not self.enabled:
            return
        if self._json:
            self._lines.append(line + b"\n")
        else:
            self._lines.append(_as_text(record))
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_FLUSH_SECONDS, self.flush)

    def flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        pieces = []
        batch = b""
        for line in lines:
            if len(batch) + len(line) > _MAX_WRITE and batch:
                pieces.append(batch)
                batch = b""
            batch += line
        if batch:
            pieces.append(batch)
        self._writer.put(pieces)

    def _now(self) -> str:
        now = time.time()
        second = int(now)
        if second != self._second[0]:
            self._second = (second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)))
        return f"{self._second[1]}.{int((now - second) * 1000):03d}Z"


def _as_text(record: CallRecord) -> bytes:
    fields: dict[str, Any] = msgspec.to_builtins(record)
    when = fields.pop("time", "")
    words = " ".join(f"{name}={_word(value)}" for name, value in fields.items())
    return f"{when} call {words}\n".encode()


def _word(value: Any) -> str:
    text = str(value)
    if text and not re.search(r'[\s"=]', text):
        return text
    return msgspec.json.encode(text).decode()
