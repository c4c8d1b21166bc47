"""One chat call: key, request, upstream, answer. The one place that decides about time.

    pick a key → prepare → request → open → read → render → send → ... → finish
         └──────────── another key, another model ───────────┘ until the first event

One coroutine per call and no queue: a slow caller slows the upstream by itself, and cancelling the
handler frees everything. Nothing is sent before the first event, so until then an upstream's
refusal is still a true HTTP status, and another key can be tried unseen.
"""

import asyncio
import os
import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from time import perf_counter, time
from typing import Any

from msgspec import structs

from app.accounting.budgets import HEADER, Budgets
from app.accounting.call_files import CallFiles
from app.clients import Clients
from app.config.schema import Config
from app.engine.attempt import Attempt
from app.engine.call import (
    ANY,
    CallState,
    ChatCall,
    KeyChoice,
    Plan,
    Target,
    plan,
)
from app.engine.deadline import NOT_READING, Deadline
from app.engine.empty_answer import answer_nothing
from app.engine.keep_alive import keep_alive
from app.engine.key_choice import choose, of_conversation
from app.engine.open_calls import OpenCalls
from app.engine.race import Lane, Race
from app.engine.resumed import resumed
from app.engine.sink import Sink
from app.offload.cpu_work import CpuWorker
from app.pool.conversation_owners import Conversations
from app.pool.kept_answers import KeptAnswers
from app.pool.key_pool import INSIST_SECONDS, KeyPool
from app.pool.key_wait import next_turn
from app.pool.lease import KeysTried, Lease
from app.pool.outcomes import (
    OTHER_KEY_MAY_DO,
    SILENCE,
    Outcome,
    most_telling,
    of_error,
)
from app.pool.web_sessions import Sessions
from app.state.rate_windows import guess_answered, guess_tokens
from app.telemetry.call_log import OVERTAKEN, CallLog, CallRecord, unanswered
from app.telemetry.call_log import Attempt as AttemptRecord
from app.telemetry.redaction import redact
from app.wire.errors import GatewayError
from app.wire.front import Front
from app.wire.kept import Kept
from app.wire.overflow import is_too_long
from app.wire.provider import Call, Key, Provider
from app.wire.upstream import UpstreamRequest

_FAREWELL_SECONDS = 10.0
_MOST_PLANS = 1000
_OF_THE_REQUEST = (400, 413, 422)  # another session would say the same


class Exchange:
    """Everything one worker needs to carry chat calls."""

    def __init__(
        self,
        config: Config,
        clients: Clients,
        pool: KeyPool,
        log: CallLog,
        sessions: Sessions | None = None,
        conversations: Conversations | None = None,
        answers: KeptAnswers | None = None,
    ) -> None:
        self.config, self.clients, self.pool, self.log = config, clients, pool, log
        self.sessions, self.conversations, self.answers = sessions, conversations, answers
        self.slow_work = CpuWorker()
        self.calls = OpenCalls()
        self.call_files: CallFiles | None = None  # where prompts and answers are kept, if anywhere
        self.budgets: Budgets | None = None
        self._farewells: set[asyncio.Task[None]] = set()
        self._plans: dict[tuple[int, int], tuple[Front, Provider, Plan]] = {}

    async def run(self, ask: ChatCall, sink: Sink) -> None:
        """Carries one call from body to last byte and writes its log line, whatever happens.

        Raises GatewayError only while nothing has been sent; later errors are told in the stream.
        """
        record, asked, front = ask.record, ask.asked, ask.front
        began = perf_counter()
        stream = asked.stream
        timeouts, comment = self.config.timeouts, None
        if stream and front.keep_alive:
            comment = keep_alive(sink, ask, timeouts.keep_alive_comment)
        deadline = Deadline(timeouts, comment)
        self.calls.add(deadline, stream)
        if stream:
            sink.content_type = front.stream_type
        record.stream, record.bytes_in, record.status = stream, len(asked.body), 200
        try:
            self.calls.check()
            self._reserve(ask, sink)
            state = CallState(ask, sink, deadline, began, random.random(), len(sink.headers))
            target, error = ask.target, None
            if ask.fallbacks and self.config.fallback_after:
                error = await self._ask_beside(state, target)
            else:
                error = await self._ask_keys(state, target)
            if error is not None and not await self._fall_back(state):
                raise error
            record.outcome = record.outcome or "complete"
        except GatewayError as error:
            await self._tell(error, ask, sink, deadline)
        except asyncio.CancelledError:
            ending = deadline.cancelled()
            if ending is None:
                record.caller_left()
                raise
            await self._tell(ending, ask, sink, deadline)
        except Exception:
            record.outcome, record.status, record.code = "gateway_error", 500, "gateway_error"
            raise
        finally:
            self.calls.discard(deadline)
            deadline.stop()
            record.total_ms = round((perf_counter() - began) * 1000, 3)
            if record.prompt_tokens is None and record.bytes_out and record.attempts:
                answered = guess_answered(record.bytes_out, is_stream=stream)
                record.estimate(guess_tokens(asked.text_bytes), answered)
            self.log.write(record)
            if self.call_files is not None:
                self.call_files.keep(record, asked.body, sink.said)

    def _reserve(self, ask: ChatCall, sink: Sink) -> None:
        """Reserves what the call may cost of its caller's budget. Raises GatewayError 429, 403."""
        asked, token = ask.asked, ask.caller.token
        if self.budgets is None or token is None:
            return
        told = self.budgets.reserve(
            ask.record,
            token,
            guess_tokens(asked.text_bytes),
            asked.body if ask.front.is_text else None,
        )
        if told is not None:
            sink.headers.append((HEADER, told))

    async def _tell(
        self, error: GatewayError, ask: ChatCall, sink: Sink, deadline: Deadline
    ) -> None:
        record = ask.record
        redact.clean(error)
        record.outcome = error.ending(record.attempts > 0)
        record.code = error.code or ""
        if not sink.started:
            record.status = error.status
            error.headers = (*error.headers, ("x-attempts", str(record.attempts)))
            raise error
        deadline.stop()
        if ask.front.error_event is None or error.code == NOT_READING:
            sink.abort()
            return
        with suppress(Exception):
            if (fail := ask.front.fail) is not None:
                last = fail(ask.asked, error, record.request_id)
            else:
                last = ask.front.error_event(error, record.request_id)
            await sink.send(error.said + last)
            await sink.end()

    async def _ask_beside(self, state: CallState, asked: Target) -> GatewayError | None:
        """`_ask_keys`; the fallbacks are asked beside it when nothing has come for a while."""
        if await self._is_bound(state):
            return await self._ask_keys(state, asked)
        race = Race(state.sink, state.call.record, state.deadline)
        state.found = state.pictures  # the same for all who are asked
        error: GatewayError | None = None
        try:
            first = self._enter(race, state, lambda own: self._ask_keys(own, asked))
            await asyncio.wait({first}, timeout=self.config.fallback_after)
            if first.done() or race.winner is not None:
                error = await first
                return error
            second = self._enter(race, state, self._fall_back)
            pending: set[asyncio.Task[Any]] = {first, second}
            while race.winner is None and pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done if race.winner is None else ():
                    result = task.result()
                    error = result if task is first else error
            if race.winner is None:
                assert error is not None
                raise error
            await (race.winner.task or first)
            return None
        finally:
            await race.end()

    def _enter(
        self, race: Race, state: CallState, ask: Callable[[CallState], Coroutine[Any, Any, Any]]
    ) -> asyncio.Task[Any]:
        """Begins to ask beside others, in a task with a clock of its own."""
        lane = race.enter()
        beat = keep_alive(state.sink, state.call, self.config.timeouts.keep_alive_comment)

        async def comment() -> None:
            if lane.has_won:
                await beat()

        async def run() -> Any:
            deadline = Deadline(
                self.config.timeouts,
                comment if lane.record.stream and state.call.front.keep_alive else None,
                total=float("inf"),  # the call's own clock knows better
            )
            own = structs.replace(
                state,
                call=structs.replace(state.call, record=lane.record),
                sink=lane,
                deadline=deadline,
            )
            try:
                return await ask(own)
            except asyncio.CancelledError:
                ending = deadline.cancelled()
                if ending is None:
                    raise
                raise ending from None
            finally:
                deadline.stop()

        lane.task = asyncio.create_task(run(), name="one target of several")
        return lane.task

    def _plan(self, front: Front, provider: Provider) -> Plan:
        """How they meet: thought of once. They are kept with it, so that no other two can have the
        same identities."""
        pair = (id(front), id(provider))
        found = self._plans.get(pair)
        if found is None:
            if len(self._plans) >= _MOST_PLANS:  # some providers are made for one call
                self._plans.clear()
            found = self._plans[pair] = front, provider, plan(front, provider)
        return found[2]

    async def _is_bound(self, state: CallState) -> bool:
        ask, provider = state.call, state.call.target.provider
        how = self._plan(ask.front, provider)
        choice = choose(self, ask, ask.target, how)
        if choice is None:
            choice = await of_conversation(self, state, provider, how, how.read(state))
        return choice.is_bound

    async def _fall_back(self, state: CallState) -> bool:
        """Whether another model has answered where the asked one has no key left."""
        for target in state.call.fallbacks:
            if target.model in state.too_long:
                continue
            try:
                error = await self._ask_keys(state, target)
            except GatewayError:
                if state.deadline.committed:
                    raise
                continue  # this fallback cannot say what was asked; perhaps the next one can
            if error is None:
                return True
        return False

    async def _ask_keys(self, state: CallState, target: Target) -> GatewayError | None:
        """`_ask_each`; a kept conversation of a website goes on there, where it still can."""
        asked = resumed(self.pool, state.call, target)
        if asked is not None:
            state.neutral()  # once for both
            own = structs.replace(state, call=structs.replace(state.call, asked=asked))
            try:
                error = await self._ask_each(own, target)
            except GatewayError as gone:
                if state.deadline.committed or gone.status in _OF_THE_REQUEST:
                    raise
            else:
                if error is None:
                    return None
            for attempt in state.call.record.tried[-1:]:
                attempt.next = "next"
        return await self._ask_each(state, target)

    async def _ask_each(self, state: CallState, target: Target) -> GatewayError | None:
        """Tries one key after another, each once. None: one has answered. An error: none can, but
        another model might. Raises what is final."""
        ask, record = state.call, state.call.record
        spoken, provider = target.provider, target.provider.asked_for(self.config, target.model)
        target = structs.replace(target, provider=provider) if provider is not spoken else target
        how = self._plan(ask.front, provider)
        chat = how.read(state)
        record.provider, record.model = provider.name, target.model[:128]
        if ask.asked.wants_nothing and how.native is None:
            await answer_nothing(state, target, self.config.limits.response_bytes)
            return None
        choice = choose(self, ask, target, how)
        if choice is None:
            choice = await of_conversation(self, state, provider, how, chat)
        errors: list[tuple[Outcome, GatewayError]] = []
        tried: set[str] = set()
        insist = is_silent = False
        while True:
            try:
                lease = self._quick_lease(state, target, choice, tried)
                if lease is None:
                    lease = await self._lease(state, target, choice, tried, insist)
            except KeysTried:
                return self._told_last(target, choice, errors)
            except GatewayError as resting:
                if choice.is_bound:
                    raise
                return self._told_last(target, choice, [*errors, (of_error(resting), resting)])
            call = Call(
                config=self.config,
                asked=ask.asked,
                chat=chat,
                key=lease.key,
                model=target.model,
                stream=ask.asked.stream,
                headers=ask.headers,
                now=int(time()),
                new_id=_new_id,
            )
            was_probe = lease.probes_upstream
            error = await self._try(state, target, how, call, lease)
            if error is None:
                return None
            outcome = of_error(error)
            attempt = record.tried[-1]
            variant, is_open = provider.variant, not state.deadline.committed
            if variant and is_open and variant.learns(self.config, target.model, error):
                attempt.next = "next"
                return await self._ask_each(state, target)  # in the other wire
            may_go_on = not choice.is_bound and not state.deadline.committed
            if may_go_on and ask.fallbacks and is_too_long(error):
                attempt.next = "next"
                state.too_long.add(target.model)
                return error
            if outcome not in OTHER_KEY_MAY_DO or not may_go_on:
                attempt.next = "told"
                if outcome is Outcome.REQUEST and not lease.asked:  # by us: it was not sent
                    record.tried.pop()
                    record.attempts -= 1
                self._say_when(error, target, choice)
                raise error
            attempt.next = "next"
            errors.append((outcome, error))
            tried.add(lease.key.id)
            if choice.fixed is not None:
                return error
            if is_silent:  # the next one would most likely cost as long again
                return most_telling(errors)
            is_silent = error.outcome in SILENCE
            elapsed = perf_counter() - state.first_try
            insist = not was_probe and elapsed < INSIST_SECONDS

    def _told_last(
        self, target: Target, choice: KeyChoice, errors: list[tuple[Outcome, GatewayError]]
    ) -> GatewayError:
        error = most_telling(errors)
        self._say_when(error, target, choice)
        return error

    def _say_when(self, error: GatewayError, target: Target, choice: KeyChoice) -> None:
        if choice.fixed is None:
            pool = target.provider.pool
            self.pool.say_when(error, pool, target.model, choice.wanted, choice.among)

    async def _try(
        self, state: CallState, target: Target, how: Plan, call: Call, lease: Lease
    ) -> GatewayError | None:
        """One attempt, reported to the pool; its error if the call may go on."""
        record, deadline = state.call.record, state.deadline
        began = perf_counter()
        state.first_try = state.first_try or began
        record.attempts += 1
        record.key_id = lease.key.id
        if not state.sink.started:
            state.begin_headers(target, lease.key.id)
        record.first_event_ms, record.bytes_out, record.upstream_request_id = None, 0, ""
        try:
            await Attempt(self, state, target, how, call, lease).run()
            return None
        except GatewayError as error:
            outcome = Outcome.CUT if deadline.committed else of_error(error)
            # A captcha's token is wanted of the caller: nothing to rest a session for.
            if error.type != "captcha_required" and (outcome is not Outcome.REQUEST or lease.asked):
                words = redact.words(error.words or error.message)
                self.pool.report(lease, outcome, error.status, error.retry_after, words)
            self._note(state, target, lease, error, outcome, began)
            deadline.first = True
            return error
        except asyncio.CancelledError:
            if deadline.committed or deadline.why not in ("first_event", "idle", "total"):
                if isinstance(state.sink, Lane) and state.sink.has_lost:
                    provider = target.provider.name
                    record.tried.append(
                        unanswered(provider, target.model, lease.key.id, began, OVERTAKEN, "let go")
                    )
                raise
            if lease.asked:
                self.pool.report(lease, Outcome.UPSTREAM, 504)
            if deadline.why == "total" or (late := deadline.cancelled()) is None:
                raise
            self._note(state, target, lease, late, Outcome.UPSTREAM, began)
            deadline.resume()
            return late
        finally:
            if lease.claims or lease.is_counted:
                self.pool.release(lease, _cost(record, call))

    def _note(
        self,
        state: CallState,
        target: Target,
        lease: Lease,
        error: GatewayError,
        outcome: Outcome,
        began: float,
    ) -> None:
        redact.clean(error)
        state.call.record.tried.append(
            AttemptRecord(
                provider=target.provider.name,
                model=target.model[:128],
                key_id=lease.key.id,
                status=error.status,
                outcome=outcome.word,
                code=(error.code or "")[:64],
                ms=round((perf_counter() - began) * 1000, 3),
            )
        )

    def _quick_lease(
        self, state: CallState, target: Target, choice: KeyChoice, tried: set[str]
    ) -> Lease | None:
        """A lease that needs no waiting, in nearly every case; None: ask again, at leisure."""
        if choice.fixed is not None:
            return Lease(choice.fixed)
        if choice is not ANY or tried:
            return None
        lease = self.pool.quick(
            target.provider.pool, target.model, state.id, state.call.asked.text_bytes
        )
        if lease is not None and self.sessions is not None:
            lease.key = self.sessions.current(lease.key)
        return lease

    async def _lease(
        self, state: CallState, target: Target, choice: KeyChoice, tried: set[str], insist: bool
    ) -> Lease:
        """The next key. Waits a while where all that could answer have their hands full."""
        state.deadline.limit = None
        told: dict[str, Any] = {
            "model": target.model,
            "tried": tried,
            "call": state.id,
            "body_bytes": state.call.asked.text_bytes,
        }
        if choice.preferred and not tried:
            with suppress(GatewayError):  # it rests, is busy, or is no key any more
                return self.pool.pick(target.provider.pool, choice.preferred, **told)
        return await next_turn(
            self.pool,
            self.sessions,
            self.config.timeouts.first_event,
            target.provider.pool,
            wanted=choice.wanted,
            among=choice.among,
            insist=insist,
            **told,
        )

    def remember(self, provider: Provider, key: Key, session: dict[str, Any]) -> None:
        """Notes whose session the conversation in `session` belongs to."""
        if self.conversations is None or provider.conversation_of is None:
            return
        conversation_id = provider.conversation_of(session)
        if conversation_id:
            self.conversations.remember(provider.pool, conversation_id, key.id)

    async def keep(self, kept: Kept, owner: bytes | None, key: Key) -> None:
        """Writes an answer that its caller may go on from."""
        if self.answers is not None and owner is not None:
            await self.answers.keep(owner, kept, key.pool, key.id)

    def say_cancelled(self, request: UpstreamRequest | None) -> None:
        """Tells an upstream that goes on by itself; nobody waits for its answer."""
        if request is None:
            return

        async def tell() -> None:
            with suppress(GatewayError, TimeoutError):
                async with asyncio.timeout(_FAREWELL_SECONDS):
                    response = await self.clients.open(request)
                    await response.close()

        farewell = asyncio.create_task(tell(), name="cancel-upstream")
        self._farewells.add(farewell)
        farewell.add_done_callback(self._farewells.discard)

    async def renew(self, key: Key) -> None:
        """A configured key changed: from now on it is this one, in every worker."""
        if self.sessions is not None:
            await self.sessions.renew(key)


def _cost(record: CallRecord, call: Call) -> int | None:
    """Tokens of an attempt; guessed from the bytes where the upstream does not count them."""
    if record.prompt_tokens is not None:
        return record.prompt_tokens + (record.completion_tokens or 0)
    if not record.bytes_out:
        return None
    answered = guess_answered(record.bytes_out, is_stream=call.stream)
    return guess_tokens(call.asked.text_bytes) + answered


def _new_id() -> str:
    return os.urandom(16).hex()
