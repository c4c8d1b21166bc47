"""Reverse proxy: any method, any body, streamed both ways without parsing.

    credential → acquire a key → request → open → judge → deliver, or relay a websocket
                      └────── another key ───────┘ until the answer begins

A call whose attempt fails with one of the pool's keys is sent again with another one, if it has no
body or a small one of known length: only such a body is kept in memory. A stream of events begins
with its first piece of an answer: until then, for a few seconds, its start is held back. An answer
that breaks off after its first byte is not repeated: the caller's connection is aborted.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from time import perf_counter, time

from msgspec import Struct

from app.accounting.budgets import HEADER, Budgets
from app.clients import Clients, Response, read_whole
from app.clients.websocket import UpstreamFrames
from app.config.schema import Config
from app.engine.deadline import Deadline
from app.engine.forward_call import ForwardCall, ForwardSink, ForwardState
from app.engine.forwarded_answer import (
    Refusal,
    can_hold,
    deliver,
    hold_start,
    is_answer,
    may_concern_key,
    read_refusal,
)
from app.engine.forwarded_request import (
    asks_for_usage,
    callers_key,
    counted_upload,
    header_lookup,
    requested_model,
    upstream_request,
)
from app.engine.open_calls import OpenCalls
from app.engine.websocket_relay import relay
from app.pool.configured_keys import WEB_SESSIONS
from app.pool.conversation_owners import Conversations
from app.pool.key_pool import INSIST_SECONDS, KeyPool
from app.pool.key_wait import next_turn
from app.pool.lease import KeysTried, Lease
from app.pool.outcomes import (
    OTHER_KEY_MAY_DO,
    SILENCE,
    TELLING,
    Outcome,
    of_error,
    of_status,
    of_told,
)
from app.pool.web_sessions import Sessions
from app.state.rate_windows import guess_tokens
from app.telemetry.call_log import Attempt, CallLog, CallRecord, sent_again
from app.telemetry.redaction import redact
from app.wire.errors import GatewayError
from app.wire.retry_after import retry_after
from app.wire.upstream import UpstreamReply, UpstreamRequest
from app.wire.usage_chunk import asking

_REPEATED_BYTES = 1024 * 1024  # of a body that is kept, so that another key can be tried


class _Failure(Struct):
    """An attempt that failed in a way in which an attempt with another key may not."""

    outcome: Outcome
    status: int
    cause: Refusal | GatewayError

    @property
    def rank(self) -> int:
        """The lower, the more it tells the caller."""
        return TELLING.index(self.outcome)

    @property
    def is_silence(self) -> bool:
        return isinstance(self.cause, GatewayError) and self.cause.outcome in SILENCE


class ReverseProxy:
    """Carries the forwarded calls of one worker."""

    def __init__(
        self,
        config: Config,
        clients: Clients,
        pool: KeyPool,
        log: CallLog,
        sessions: Sessions | None = None,
        conversations: Conversations | None = None,
    ) -> None:
        self.config, self.clients, self.pool, self.log = config, clients, pool, log
        self.sessions, self.conversations = sessions, conversations
        self.calls = OpenCalls()
        self.budgets: Budgets | None = None

    async def run(self, call: ForwardCall, sink: ForwardSink) -> None:
        """Carries one call to its last byte and writes its log line, whatever happens.

        Raises GatewayError only while nothing has been sent; later the connection is aborted.
        """
        record = call.record
        began = perf_counter()
        timeouts = self.config.timeouts
        total = timeouts.websocket_total if call.is_websocket else float("inf")
        deadline = Deadline(timeouts, total=total)
        deadline.expect(timeouts.forward_idle)
        self.calls.add(deadline, is_stream=call.is_websocket)
        error: GatewayError | None = None
        try:
            self.calls.check()
            state = await self._begin(call, sink, deadline, began)
            self._reserve(state)
            await self._forward(state)
            record.outcome = record.outcome or "complete"
        except GatewayError as caught:
            error = caught
        except asyncio.CancelledError:
            error = deadline.cancelled()
            if error is None:
                record.caller_left()
                raise
        except Exception:
            record.outcome, record.status, record.code = "gateway_error", 500, "gateway_error"
            if sink.started:
                sink.abort()
            raise
        finally:
            self.calls.discard(deadline)
            deadline.stop()
            if error is not None:
                _record_error(record, error)
            record.total_ms = round((perf_counter() - began) * 1000, 3)
            self.log.write(record)
        if error is not None:
            if not sink.started:
                raise error
            sink.abort()

    async def _begin(
        self, call: ForwardCall, sink: ForwardSink, deadline: Deadline, began: float
    ) -> ForwardState:
        """Decides whose key serves the call, and whether its body can be sent twice."""
        rule, lookup = call.rule, header_lookup(call.headers)
        own_key, in_header = callers_key(call, lookup, self.pool)
        body: AsyncIterator[bytes] | bytes | None = None
        if call.body is not None:
            max_bytes = self.config.limits.upload_bytes
            body = counted_upload(call.body, max_bytes, call.record, deadline)
            if own_key is None and call.length is not None and call.length <= _REPEATED_BYTES:
                body = b"".join([piece async for piece in body])
        asked = call.query if call.is_websocket else ""
        model = requested_model(call.path, body, asked)
        call.record.model = call.record.model_asked = model[:128]
        named = lookup.get("x-auth-id")
        # Web sessions are accounts: what is asked of one means nothing to another.
        bound = own_key is not None or bool(named) or rule.pool in WEB_SESSIONS
        unasked = None
        if own_key is None and isinstance(body, bytes) and asks_for_usage(call, body):
            unasked, body = body, asking(body)
        return ForwardState(
            call=call,
            sink=sink,
            deadline=deadline,
            began=began,
            lookup=lookup,
            own_key=own_key,
            in_header=in_header,
            wanted=named or (await self._owner(call) if own_key is None else None),
            body=body,
            model=model if own_key is None else "",
            may_repeat=not bound and (body is None or isinstance(body, bytes)),
            id=random.random(),
            unasked=unasked,
        )

    def _reserve(self, state: ForwardState) -> None:
        """Reserves what the call may cost of its caller's budget. Raises GatewayError 429, 403.

        Of a body that is not read here its size is all that is known.
        """
        call, body = state.call, state.body
        if self.budgets is None or not (call.is_websocket or call.method == "POST"):
            return
        prompt, says_length = 0, None
        if call.is_websocket:
            says_length = b""  # the first answer; each is booked as it ends
        elif is_answer(call.path):
            prompt = guess_tokens(len(body) if isinstance(body, bytes) else call.length or 0)
            says_length = body if isinstance(body, bytes) else b""
        told = self.budgets.reserve(call.record, call.caller.token, prompt, says_length)
        if told is not None:
            state.notes.append((HEADER, told))

    async def _owner(self, call: ForwardCall) -> str | None:
        """The web session that has the conversation in this path, None if that is unknown."""
        found = call.rule.conversation(call.path)
        if found is None or self.conversations is None or self.pool.size(call.rule.pool) < 2:
            return None
        return await self.conversations.owner(call.rule.pool, found)

    async def _forward(self, state: ForwardState) -> None:
        """Tries one key after another until an answer has been delivered.

        If all fail, delivers the refusal that tells most, or raises the GatewayError that does.
        """
        most_telling: _Failure | None = None
        tried: set[str] = set()
        ignore_breaker = was_silent = False
        while True:
            try:
                lease = await self._acquire(state, tried, ignore_breaker)
            except GatewayError as error:
                if not isinstance(error, KeysTried) and (
                    most_telling is None or error.status == 429
                ):
                    raise
                break
            was_probe = lease.probes_upstream
            failure = await self._attempt(state, lease)
            if failure is None:
                return
            tried.add(lease.key.id)
            if most_telling is None or failure.rank < most_telling.rank:
                most_telling = failure
            if not state.may_repeat or was_silent:  # the next one would likely cost as long again
                break
            was_silent = failure.is_silence
            ignore_breaker = not was_probe and perf_counter() - state.began < INSIST_SECONDS
        assert most_telling is not None, "the loop ends after a failure only"
        cause = most_telling.cause
        if isinstance(cause, GatewayError):
            raise cause
        if cause.status == 200:
            state.call.record.outcome = "upstream_error"  # told by the upstream's own stream
        await deliver(state, cause, cause.key, self.config)

    async def _acquire(self, state: ForwardState, tried: set[str], ignore_breaker: bool) -> Lease:
        """A lease of the caller's own key, or of the pool's next one."""
        if state.own_key is not None:
            return Lease(state.own_key)
        return await next_turn(
            self.pool,
            self.sessions,
            self.config.timeouts.first_event,
            state.call.rule.pool,
            wanted=state.wanted,
            model=state.model,
            tried=tried,
            call=state.id,
            body_bytes=len(state.body) if isinstance(state.body, bytes) else 0,
            insist=ignore_breaker,
        )

    async def _attempt(self, state: ForwardState, lease: Lease) -> _Failure | None:
        """One attempt with one key, reported to the pool.

        None: an answer was delivered. Raises GatewayError for what no other key can help with.
        """
        sink, record = state.sink, state.call.record
        record.key_id = lease.key.id
        started = perf_counter()
        try:
            response = await self._open(state, lease, started)
            refusal, held = await self._judge(state, lease, response)
            if isinstance(response, UpstreamFrames):
                await relay(state, response, lease, self.pool, self.config, self.budgets)
                return None
            if refusal is not None and _is_of_usage(state, refusal):
                state.body, state.unasked = state.unasked, None
                response = await self._open(state, lease, started)
                refusal, held = await self._judge(state, lease, response)
            if refusal is None or refusal.outcome not in OTHER_KEY_MAY_DO:
                outcome = of_status(response.status) if refusal is None else refusal.outcome
                self.pool.report(lease, outcome, response.status)
                answer = refusal or response
                stream_error = await deliver(state, answer, lease.key, self.config, held)
                if stream_error is not None:
                    self.pool.report(lease, of_told(stream_error), stream_error.status)
                return None
            wait = retry_after(refusal.named, refusal.plain, time())
            words = redact.words(refusal.words)
            self.pool.report(lease, refusal.outcome, refusal.error_status, wait, words)
            failure = _Failure(refusal.outcome, refusal.error_status, refusal)
        except GatewayError as error:
            outcome = Outcome.CUT if sink.started else of_error(error)
            if lease.asked:
                words = redact.words(error.message)
                self.pool.report(lease, outcome, error.status, words=words)
            if sink.started or outcome not in OTHER_KEY_MAY_DO:
                raise
            redact.clean(error)
            failure = _Failure(outcome, error.status, error)
        except asyncio.CancelledError:
            if state.deadline.why == "first_event":
                self.pool.report(lease, Outcome.UPSTREAM, 504)
            raise
        finally:
            self.pool.release(lease)
        _record_attempt(state, lease, failure, started)
        return failure

    async def _open(self, state: ForwardState, lease: Lease, started: float) -> Response:
        """Sends the request and waits for the head of the answer."""
        rule, record = state.call.rule, state.call.record
        key = lease.key
        if rule.refresh is not None and key.id and self.sessions is not None:
            key = await self.sessions.refreshed(
                rule.refresh, key, self.config, self._send, int(time())
            )
        request = upstream_request(state, key, self.config)
        lease.asked = True
        record.attempts += 1
        try:
            if state.call.is_websocket:
                limit = self.config.limits.websocket_message_bytes
                response = await self.clients.open_frames(request, limit)
            else:
                response = await self.clients.open(request)
        finally:
            if request.resent:
                record.attempts += 1
                record.tried.append(sent_again(rule.provider, state.model, lease.key.id, started))
        if rule.renewed is not None and lease.key.id and self.sessions is not None:
            await self.sessions.renew_from(rule.renewed, key, response.headers, int(time()))
        return response

    async def _send(self, request: UpstreamRequest) -> UpstreamReply:
        """Sends a whole request and returns the whole reply."""
        response = await self.clients.open(request)
        return await read_whole(response, self.config.limits.response_bytes)

    async def _judge(
        self, state: ForwardState, lease: Lease, response: Response
    ) -> tuple[Refusal | None, bytes]:
        """What the answer means for the key: a refusal, read whole; or the held start of a stream.

        (None, b"") for an answer of which nothing need be read.
        """
        if lease.entry is None:
            return None, b""
        if may_concern_key(response, of_status(response.status)):
            refusal = await read_refusal(response, lease.key)
            refusal.judge(state.call.rule.read_error)
            return refusal, b""
        if state.may_repeat and can_hold(response, self.config):
            return await hold_start(response, lease.key)
        return None, b""


def _is_of_usage(state: ForwardState, refusal: Refusal) -> bool:
    """Whether the upstream refuses to be asked for usage, which was not the caller's wish."""
    return (
        state.unasked is not None and refusal.status == 400 and b"stream_options" in refusal.plain
    )


def _record_attempt(state: ForwardState, lease: Lease, failure: _Failure, started: float) -> None:
    """Adds a failed attempt to the call's record."""
    cause = failure.cause
    state.call.record.tried.append(
        Attempt(
            provider=state.call.rule.provider,
            model=state.model[:128],
            key_id=lease.key.id,
            status=failure.status,
            outcome=failure.outcome.word,
            code=cause.code or "" if isinstance(cause, GatewayError) else "",
            ms=round((perf_counter() - started) * 1000, 3),
            next="next" if state.may_repeat else "told",
        )
    )


def _record_error(record: CallRecord, error: GatewayError) -> None:
    """Writes into the record the error that ends the call, which is cleaned of secrets."""
    redact.clean(error)
    error.headers = (*error.headers, ("x-attempts", str(record.attempts)))
    record.outcome = error.ending(record.attempts > 0)
    record.code = error.code or ""
    record.status = record.status or error.status
