"""A websocket between a caller and an upstream, from the accepted handshake to its end.

Frames pass unchanged in both directions. Read along are the tokens that the upstream counts, and
the caller's messages, where the route has a check for them. When one side ends, the other is told
by a close code:

    closed by one side               the same code and reason
    the caller is gone               1001 to the upstream
    the upstream is gone             1011 to the caller
    a message above the limit        1009 to its sender; and to the caller, if it was the upstream's
    a message that the check refuses 1008 to the caller, 1001 to the upstream
    idle or open for too long        1001
    the caller's budget is spent     1008 to the caller, 1001 to the upstream
    the gateway stops                1012 to the caller, 1001 to the upstream
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter
from typing import cast

from app.accounting.budgets import Budgets
from app.auth.model_scope import models_in_message
from app.clients.frame_socket import (
    GOING_AWAY,
    INTERNAL,
    NO_STATUS,
    NORMAL,
    POLICY,
    RESTART,
    TOO_BIG,
    Closing,
    Content,
    FrameSocket,
)
from app.clients.websocket import UpstreamFrames
from app.config.schema import Config
from app.engine.forward_call import ForwardCall, ForwardState, WebSocketSink
from app.engine.forwarded_answer import answer_headers
from app.pool.key_pool import KeyPool
from app.pool.lease import Lease
from app.pool.outcomes import Outcome, of_told
from app.telemetry.call_log import CallRecord
from app.telemetry.redaction import redact
from app.wire.errors import GatewayError
from app.wire.stream_end import usage_in_message

_CLOSE_SECONDS = 0.8  # for both closing handshakes
_READ_FOR_MODEL = 4  # messages in which a model is looked for, if the address names none
_PROPER = (NORMAL, GOING_AWAY, NO_STATUS)
# Why a deadline ended it: the caller's close code and reason, and the log's outcome and code.
_ENDINGS = {
    "idle": (GOING_AWAY, "Silent for timeouts.websocket_idle.", "complete", "websocket_idle"),
    "total": (GOING_AWAY, "Open for timeouts.websocket_total.", "complete", "websocket_total"),
    "write": (POLICY, "The caller stopped reading.", "client_gone", "caller_not_reading"),
    "budget": (POLICY, "Your access token has spent its budget.", "refused", "budget_exceeded"),
    "shutdown": (RESTART, "The gateway stops; connect again.", "shutdown", "shutting_down"),
}


async def relay(
    state: ForwardState,
    answer: UpstreamFrames,
    lease: Lease,
    pool: KeyPool,
    config: Config,
    budgets: Budgets | None = None,
) -> None:
    """Accepts the caller's handshake and passes frames until one side ends.

    An accepted handshake says nothing of the key yet: Gemini closes when it does not like it.
    """
    call, deadline, record = state.call, state.deadline, state.call.record
    sink = cast(WebSocketSink, state.sink)
    record.status = 101
    record.first_event_ms = round((perf_counter() - state.began) * 1000, 3)
    upstream = answer.socket
    caller: FrameSocket | None = None
    try:
        headers = answer_headers(call, answer, dict(answer.headers), lease.key, config)
        caller = sink.accept(answer.protocol, headers)
        deadline.first = False
        deadline.expect(config.timeouts.websocket_idle)
        time = deadline.time

        def heard() -> None:
            deadline.seen = time()

        caller.heard = upstream.heard = heard
        caller.stalled = deadline.stalled
        caller.watch = _from_caller(call)

        def counted() -> None:
            if budgets is not None and not budgets.advance(record):
                deadline.expire("budget")

        upstream.watch = _from_upstream(record, lease, pool, counted)
        caller.join(upstream)
        await asyncio.wait((caller.ended, upstream.ended), return_when=asyncio.FIRST_COMPLETED)
        if caller.ended.done():
            _after_caller(caller.ended.result(), upstream, record)
            return
        closing = upstream.ended.result()
        reason = redact(closing.reason) if lease.key.id else closing.reason
        _after_upstream(closing, reason, caller, record)
        if closing.how == "closed" and closing.code not in _PROPER and reason:
            told = call.rule.read_close(reason)
            words = redact.words(reason)
            pool.report(lease, of_told(told), told.status, told.retry_after, words)
    except asyncio.CancelledError:
        why, error = deadline.why, deadline.cancelled()
        if error is None or why not in _ENDINGS or caller is None:
            raise
        code, said, record.outcome, record.code = _ENDINGS[why]
        caller.close(code, said)
        upstream.close(GOING_AWAY)
    finally:
        deadline.stop()
        await _hang_up(upstream, caller)


def _after_caller(closing: Closing, upstream: FrameSocket, record: CallRecord) -> None:
    """Tells the upstream that the caller's side has ended."""
    if closing.how == "closed":
        record.outcome = "complete"
        upstream.close(closing.code, closing.reason)
        return
    upstream.close(GOING_AWAY)
    if closing.how == "lost":
        record.outcome, record.status = "client_gone", 499
    else:
        record.outcome, record.code = "refused", f"close_{closing.code}"


def _after_upstream(closing: Closing, reason: str, caller: FrameSocket, record: CallRecord) -> None:
    """Tells the caller that the upstream's side has ended."""
    if closing.how == "closed":
        caller.close(closing.code, reason)
        record.outcome = "complete"
        if closing.code not in _PROPER:
            record.outcome, record.code = "upstream_error", f"close_{closing.code}"
    elif closing.how == "lost":
        caller.close(INTERNAL, "The connection to the upstream was lost.")
        record.outcome, record.code = "upstream_cut", "upstream_cut"
    else:
        code = closing.code if closing.code == TOO_BIG else INTERNAL
        caller.close(code, f"The upstream sent what cannot be passed on: {reason}")
        record.outcome, record.code = "upstream_error", f"close_{closing.code}"


async def _hang_up(upstream: FrameSocket, caller: FrameSocket | None) -> None:
    """Waits for the closing handshakes, then closes what is still open."""
    sides = [upstream] if caller is None else [upstream, caller]
    try:
        if caller is not None:
            await asyncio.wait([side.lost for side in sides], timeout=_CLOSE_SECONDS)
    finally:
        for side in sides:
            side.abort()


def _from_caller(call: ForwardCall) -> Callable[[Content, bool], None]:
    """Counts the caller's bytes, and has its messages read that are to be."""
    record, check = call.record, call.check_message
    unread = 0 if record.model else _READ_FOR_MODEL

    def read(message: Content) -> None:
        nonlocal unread
        if check is not None:
            check(bytes(message))
        if unread:
            unread -= 1
            with suppress(GatewayError):
                for model in models_in_message(bytes(message)):
                    record.model_asked, unread = model[:128], 0
                    record.model = model.removeprefix("models/")[:128]

    add = _Messages(read).add

    def count_and_read(data: Content, is_last: bool) -> None:
        record.bytes_in += len(data)
        if unread or check is not None:
            add(data, is_last)

    return count_and_read


def _from_upstream(
    record: CallRecord, lease: Lease, pool: KeyPool, counted: Callable[[], None]
) -> Callable[[Content, bool], None]:
    """Counts the upstream's bytes, and the tokens that its messages tell: `counted` is called."""

    def read(message: Content) -> None:
        usage = usage_in_message(message)
        if usage is not None:
            record.add(usage)
            pool.spend(lease, usage.prompt_tokens + usage.completion_tokens)
            counted()

    add = _Messages(read).add

    def count_and_read(data: Content, is_last: bool) -> None:
        if not record.bytes_out:
            pool.report(lease, Outcome.OK, 101)
        record.bytes_out += len(data)
        add(data, is_last)

    return count_and_read


class _Messages:
    """Gives whole messages to `take`, of frames of which all but a few are one each."""

    def __init__(self, take: Callable[[Content], None]) -> None:
        self._take = take
        self._pieces: list[bytes] = []

    def add(self, data: Content, is_last: bool) -> None:
        """Takes the content of the next frame."""
        if is_last and not self._pieces:
            self._take(data)
            return
        self._pieces.append(bytes(data))
        if is_last:
            pieces, self._pieces = self._pieces, []
            self._take(b"".join(pieces))
