"""The call log: one line per call on stdout, in JSON or text.

Lines are collected for 50 ms and written together, on a thread of their own: a system call per
request would cost more than the line itself, and can block on the reader. Records contain no
prompts, no answers and no secrets.
"""

import asyncio
import os
import time
from collections.abc import Callable

import msgspec
from msgspec import Struct

from app.telemetry.call_line import call_line
from app.telemetry.log_writer import writer_of
from app.wire.events import Usage

_FLUSH_SECONDS = 0.05
_MAX_WRITE = 4096  # PIPE_BUF: writes up to this size are atomic when workers share a pipe


def _now() -> float:
    return round(time.time(), 3)


class Attempt(Struct, omit_defaults=True):
    """An upstream request that failed or was abandoned.

    `status` is the upstream's HTTP status, 0 without one. `outcome` is the text of an Outcome or a
    constant below. `next` is what followed: another key, another model, or an error to the caller.
    `ms` is the duration in milliseconds. It is made when the attempt has ended, at the Unix time
    `ended`.
    """

    provider: str
    model: str
    key_id: str
    status: int
    outcome: str
    code: str
    ms: float
    next: str = ""
    ended: float = msgspec.field(default_factory=_now)


OVERTAKEN = "overtaken"
GATEWAY_FAILED = "gateway failed"
LOST = "connection lost"

TOLD = "told"
ESTIMATED = "estimated"


def unanswered(
    provider: str, model: str, key_id: str, began: float, outcome: str, then: str
) -> Attempt:
    """The record of an attempt that got no answer; `began` is from time.perf_counter()."""
    ms = round((time.perf_counter() - began) * 1000, 3)
    return Attempt(provider, model[:128], key_id, 0, outcome, "", ms, then)


def sent_again(provider: str, model: str, key_id: str, began: float) -> Attempt:
    """The record of an attempt on a kept connection that was lost before any answer, so that the
    client repeated it on another connection."""
    return unanswered(provider, model, key_id, began, LOST, "again")


class CallRecord(Struct, kw_only=True, omit_defaults=True):
    """One call, as the log records it. Durations are in milliseconds, from the request's arrival.

    `attempts` counts the upstream requests; `tried` lists those that failed, in order. `provider`,
    `model`, `key_id` and `status` are those of the attempt that answered. `token` is the id of the
    caller's access token, `address` the caller's where `ledger_addresses` allows it.

    `counted` says where the token counts are from: TOLD by the upstream, ESTIMATED from the bytes,
    or "" for none. `cost` is in nano-USD (1e-9 USD), None where no price is known. `trace_id` and
    `span_id` are there if the call is traced, `parent_span_id` if its caller told one.
    """

    time: str = ""
    request_id: str
    route: str
    front: str = ""  # of a chat call
    token: str = ""
    address: str = ""
    provider: str = ""
    model_asked: str = ""  # as the caller wrote it
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
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    audio_tokens: int = 0
    completion_audio_tokens: int = 0
    counted: str = ""
    cost: int | None = None
    upstream_request_id: str = ""
    session_id: str = ""  # of the client's conversation, as the client names it
    code: str = ""
    outcome: str = ""
    tried: list[Attempt] = []
    unknown_events: int = 0
    trace_id: str = ""
    span_id: str = ""
    parent_span_id: str = ""

    def count(self, usage: Usage) -> None:
        """Takes the token counts, and the cost, that came with the answer."""
        self.prompt_tokens, self.completion_tokens = usage.prompt_tokens, usage.completion_tokens
        self.cached_tokens, self.reasoning_tokens = usage.cached_tokens, usage.reasoning_tokens
        self.cache_write_tokens = usage.cache_write_tokens or 0
        self.cache_write_1h_tokens = usage.cache_write_1h_tokens
        self.audio_tokens = usage.audio_tokens
        self.completion_audio_tokens = usage.completion_audio_tokens
        self.counted = ESTIMATED if usage.is_estimated else TOLD
        self.cost = usage.cost

    def count_broken_off(self, usage: Usage, said_tokens: int) -> None:
        """Takes what an answer that breaks off has counted, for its upstream charges for that: of
        the answer what was told or, if that is more, the estimate of what was said."""
        self.count(usage)
        self.estimate(usage.prompt_tokens, max(usage.completion_tokens, said_tokens))

    def add(self, usage: Usage) -> None:
        """Adds the token counts of one more answer, of a call that has several: a websocket."""
        before, cost = self.usage(), self.cost
        self.count(usage)
        self.prompt_tokens = before.prompt_tokens + usage.prompt_tokens
        self.completion_tokens = before.completion_tokens + usage.completion_tokens
        self.cached_tokens += before.cached_tokens
        self.cache_write_tokens += before.cache_write_tokens or 0
        self.cache_write_1h_tokens += before.cache_write_1h_tokens
        self.reasoning_tokens += before.reasoning_tokens
        self.audio_tokens += before.audio_tokens
        self.completion_audio_tokens += before.completion_audio_tokens
        if cost is not None:
            self.cost = cost + (self.cost or 0)

    def estimate(self, prompt_tokens: int, completion_tokens: int) -> None:
        """Takes estimated token counts, for an answer that tells none."""
        self.prompt_tokens, self.completion_tokens = prompt_tokens, completion_tokens
        self.counted = ESTIMATED

    def caller_left(self) -> None:
        """Notes that the caller has left; one who had all of the answer could."""
        if self.outcome != "complete":
            self.outcome, self.status = "client_gone", 499

    @property
    def tokens(self) -> int:
        """Those of the prompt and the answer together; 0 where none are known."""
        return (self.prompt_tokens or 0) + (self.completion_tokens or 0)

    def usage(self) -> Usage:
        """The token counts as the wire has them; zeros where there are none."""
        return Usage(
            prompt_tokens=self.prompt_tokens or 0,
            completion_tokens=self.completion_tokens or 0,
            cached_tokens=self.cached_tokens,
            cache_write_tokens=self.cache_write_tokens or None,
            reasoning_tokens=self.reasoning_tokens,
            cache_write_1h_tokens=self.cache_write_1h_tokens,
            audio_tokens=self.audio_tokens,
            completion_audio_tokens=self.completion_audio_tokens,
            cost=self.cost,
        )


class CallLog:
    """Writes the call log of one worker.

    `form` is "json" or "text". `settle` is called with the record of each call before it is written
    and may complete it, `count` with the complete record, `keep` with its JSON, `trace` with the
    record again. While `enabled` is False no lines are written; all are called all the same.
    """

    def __init__(
        self,
        form: str = "json",
        fd: int = 1,
        *,
        settle: Callable[[CallRecord], None] | None = None,
        count: Callable[[CallRecord], None] | None = None,
        keep: Callable[[bytes], None] | None = None,
        trace: Callable[[CallRecord], None] | None = None,
    ) -> None:
        self._json = form == "json"
        self._colour = os.isatty(fd) and not os.environ.get("NO_COLOR")
        self._writer = writer_of(fd)
        self._settle, self._count, self._keep, self._trace = settle, count, keep, trace
        self._lines: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._second = (0, "")
        self.enabled = True

    def write(self, record: CallRecord) -> None:
        """Logs a call that has ended; sets `record.time`. To be called on the event loop."""
        record.time = self._now()
        if self._settle is not None:
            self._settle(record)
        if self._count is not None:
            self._count(record)
        line = msgspec.json.encode(record)
        if self._keep is not None:
            self._keep(line)
        if self._trace is not None:
            self._trace(record)
        if not self.enabled:
            return
        if self._json:
            self._lines.append(line + b"\n")
        else:
            self._lines.append(f"{call_line(record, colour=self._colour)}\n".encode())
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_FLUSH_SECONDS, self.flush)

    def flush(self) -> None:
        """Hands the collected lines to the writer's thread."""
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
