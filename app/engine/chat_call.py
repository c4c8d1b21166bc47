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
from functools import partial
from time import perf_counter, time
from typing import Any

from msgspec import structs

from app.auth.credentials import callers_own
from app.clients import Clients, Response, read_whole
from app.clients.decompress import Inflate
from app.config.schema import Config
from app.engine.answer_headers import (
    IGNORED,
    PASSED_FAMILY,
    PASSED_ON,
    REQUEST_ID,
    TYPE,
    is_answer,
    kind_of,
    kinds,
    request_id,
)
from app.engine.call import ANY, CallState, ChatCall, KeyChoice, Target
from app.engine.deadline import Deadline
from app.engine.holdback import Held
from app.engine.open_calls import OpenCalls
from app.engine.race import Lane, Race
from app.engine.sink import Sink
from app.engine.upstream_access import Network
from app.fronts.openai_chat.completion import Completion
from app.fronts.openai_chat.passthrough import Passthrough, Whole
from app.fronts.openai_chat.stream import Chunks
from app.fronts.raw_stream import Untranslated
from app.offload.cpu_work import CpuWorker
from app.pool.conversation_owners import Conversations
from app.pool.key_pool import INSIST_SECONDS, KeyPool
from app.pool.key_wait import next_turn
from app.pool.lease import KeysTried, Lease
from app.pool.outcomes import (
    OTHER_KEY_MAY_DO,
    SILENCE,
    TELLING,
    Outcome,
    is_challenge,
    is_too_long,
    of_error,
    of_told,
)
from app.pool.web_sessions import Sessions
from app.state.rate_windows import guess_answered, guess_tokens
from app.telemetry.call_log import OVERTAKEN, Attempt, CallLog, CallRecord, sent_again, unanswered
from app.telemetry.redaction import redact
from app.wire.errors import GatewayError
from app.wire.events import Follow
from app.wire.provider import Call, Decoder, Key, Provider
from app.wire.renderer import JSON, KEEP_ALIVE, Renderer
from app.wire.retry_after import retry_after
from app.wire.stream_start import MAX_HELD_BYTES, Stage
from app.wire.upstream import Headers, UpstreamReply, UpstreamRequest

_MAX_ERROR_BYTES = 256 * 1024
_FAREWELL_SECONDS = 10.0


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
    ) -> None:
        self.config, self.clients, self.pool, self.log = config, clients, pool, log
        self.sessions, self.conversations = sessions, conversations
        self.slow_work = CpuWorker()
        self.calls = OpenCalls()
        self._farewells: set[asyncio.Task[None]] = set()

    async def run(self, ask: ChatCall, sink: Sink) -> None:
        """Carries one call from body to last byte and writes its log line, whatever happens.

        Raises GatewayError only while nothing has been sent; later errors are told in the stream.
        """
        record = ask.record
        began = perf_counter()
        stream = ask.envelope.stream is True

        watch = Deadline(self.config.timeouts, partial(_comment, sink) if stream else None)
        self.calls.add(watch, stream)
        record.stream = stream
        record.bytes_in = len(ask.body)
        record.status = 200
        try:
            self.calls.check()
            trip = CallState(ask, sink, watch, began, random.random(), len(sink.headers))
            asked = Target(ask.provider, ask.model, ask.envelope.model or "")
            if ask.fallbacks and self.config.fallback_after:
                error = await self._ask_beside(trip, asked)
            else:
                error = await self._ask_keys(trip, asked)
            if error is not None and not await self._fall_back(trip):
                raise error
            record.outcome = record.outcome or "complete"
        except GatewayError as error:
            await self._tell(error, sink, watch, record)
        except asyncio.CancelledError:
            ending = watch.cancelled()
            if ending is None:
                record.outcome, record.status = "client_gone", 499
                raise
            await self._tell(ending, sink, watch, record)
        except Exception:
            record.outcome, record.status, record.code = "gateway_error", 500, "gateway_error"
            raise
        finally:
            self.calls.discard(watch)
            watch.stop()
            record.total_ms = round((perf_counter() - began) * 1000, 3)
            if record.prompt_tokens is None and record.bytes_out:
                record.prompt_tokens = guess_tokens(record.bytes_in)
                record.completion_tokens = guess_answered(record.bytes_out, is_stream=stream)
            self.log.write(record)

    async def _tell(
        self, error: GatewayError, sink: Sink, watch: Deadline, record: CallRecord
    ) -> None:
        redact.clean(error)
        record.outcome = error.ending(record.attempts > 0)
        record.code = error.code or ""
        if not sink.started:
            record.status = error.status
            error.headers = (*error.headers, ("x-attempts", str(record.attempts)))
            raise error
        watch.stop()
        with suppress(Exception):
            await sink.send(error.said + error.event())
            await sink.end()

    async def _ask_beside(self, trip: CallState, asked: Target) -> GatewayError | None:
        """`_ask_keys`; the fallbacks are asked beside it when nothing has come for a while."""
        if await self._is_bound(trip.ask):
            return await self._ask_keys(trip, asked)
        race = Race(trip.sink, trip.ask.record, trip.watch)
        trip.found = trip.pictures  # the same for all who are asked
        error: GatewayError | None = None
        try:
            first = self._enter(race, trip, lambda own: self._ask_keys(own, asked))
            await asyncio.wait({first}, timeout=self.config.fallback_after)
            if first.done() or race.winner is not None:
                error = await first
                return error
            second = self._enter(race, trip, self._fall_back)
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
        self, race: Race, trip: CallState, ask: Callable[[CallState], Coroutine[Any, Any, Any]]
    ) -> asyncio.Task[Any]:
        """Begins to ask beside others, in a task with a clock of its own."""
        lane = race.enter()

        async def comment() -> None:
            if lane.has_won:
                await _comment(trip.sink)

        async def run() -> Any:
            watch = Deadline(
                self.config.timeouts,
                comment if lane.record.stream else None,
                total=float("inf"),  # the call's own clock knows better
            )
            own = structs.replace(
                trip,
                ask=structs.replace(trip.ask, record=lane.record),
                sink=lane,
                watch=watch,
            )
            try:
                return await ask(own)
            except asyncio.CancelledError:
                ending = watch.cancelled()
                if ending is None:
                    raise
                raise ending from None
            finally:
                watch.stop()

        lane.task = asyncio.create_task(run(), name="one way of several")
        return lane.task

    async def _is_bound(self, ask: ChatCall) -> bool:
        provider = ask.provider
        choice = self._choice(ask, provider)
        if choice is None:
            choice = await self._conversation_choice(provider, provider.read(ask.body))
        return choice.is_bound

    async def _fall_back(self, trip: CallState) -> bool:
        """Whether another model has answered where the asked one has no key left."""
        for way in trip.ask.fallbacks:
            if way.model in trip.too_long:
                continue
            try:
                error = await self._ask_keys(trip, way)
            except GatewayError:
                if trip.watch.committed:
                    raise
                continue  # this fallback cannot say what was asked; perhaps the next one can
            if error is None:
                return True
        return False

    async def _ask_keys(self, trip: CallState, way: Target) -> GatewayError | None:
        """Tries one key after another, each once. None: one has answered. An error: none can, but
        another model might. Raises what is final."""
        ask, provider, record = trip.ask, way.provider, trip.ask.record
        chat = provider.read(ask.body)
        record.provider, record.model = provider.name, way.model[:128]
        choice = self._choice(ask, provider)
        if choice is None:
            choice = await self._conversation_choice(provider, chat)
        errors: list[tuple[Outcome, GatewayError]] = []
        tried: set[str] = set()
        insist = is_silent = False
        while True:
            try:
                turn = self._quick_turn(trip, way, choice, tried)
                if turn is None:
                    turn = await self._turn(trip, way, choice, tried, insist)
            except KeysTried:
                return self._told_last(way, choice, errors)
            except GatewayError as resting:
                if choice.is_bound:
                    raise
                return self._told_last(way, choice, [*errors, (of_error(resting), resting)])
            call = Call(
                config=self.config,
                envelope=ask.envelope,
                body=ask.body,
                chat=chat,
                key=turn.key,
                model=way.model,
                stream=ask.envelope.stream is True,
                headers=ask.headers,
                now=int(time()),
                new_id=_new_id,
            )
            was_probe = turn.probes_upstream
            error = await self._try(trip, way, call, turn)
            if error is None:
                return None
            outcome = of_error(error)
            attempt = record.tried[-1]
            may_go_on = not choice.is_bound and not trip.watch.committed
            if may_go_on and ask.fallbacks and is_too_long(error):
                attempt.next = "next"
                trip.too_long.add(way.model)
                return error
            if outcome not in OTHER_KEY_MAY_DO or not may_go_on:
                attempt.next = "told"
                self._say_when(error, way, choice)
                raise error
            attempt.next = "next"
            errors.append((outcome, error))
            tried.add(turn.key.id)
            if choice.fixed is not None:
                return error
            if is_silent:  # the next one would most likely cost as long again
                return _most_telling(errors)
            is_silent = error.outcome in SILENCE
            elapsed = perf_counter() - trip.first_try
            insist = not was_probe and elapsed < INSIST_SECONDS

    def _told_last(
        self, way: Target, choice: KeyChoice, errors: list[tuple[Outcome, GatewayError]]
    ) -> GatewayError:
        error = _most_telling(errors)
        self._say_when(error, way, choice)
        return error

    def _say_when(self, error: GatewayError, way: Target, choice: KeyChoice) -> None:
        if choice.fixed is None:
            pool = way.provider.pool
            self.pool.say_when(error, pool, way.model, choice.wanted, choice.among)

    async def _try(
        self, trip: CallState, way: Target, call: Call, turn: Lease
    ) -> GatewayError | None:
        """One attempt, reported to the pool; its error if the call may go on."""
        record, watch, headers = trip.ask.record, trip.watch, trip.sink.headers
        began = perf_counter()
        trip.first_try = trip.first_try or began
        record.attempts += 1
        record.key_id = turn.key.id
        if not trip.sink.started:
            del headers[trip.plain_headers :]
            if turn.key.id:
                headers.append(("x-auth-id", turn.key.id))
            headers.append(("x-attempts", str(record.attempts)))
            if trip.ask.fallbacks:
                headers.append(("x-gateway-model", way.name))
        record.first_event_ms, record.bytes_out, record.upstream_request_id = None, 0, ""
        try:
            await self._attempt(trip, call, way.provider, turn)
            return None
        except GatewayError as error:
            outcome = Outcome.CUT if watch.committed else of_error(error)
            # A captcha's token is wanted of the caller: nothing to rest a session for.
            if error.type != "captcha_required" and (outcome is not Outcome.REQUEST or turn.asked):
                words = redact.words(error.words or error.message)
                self.pool.report(turn, outcome, error.status, error.retry_after, words)
            self._note(trip, way, turn, error, outcome, began)
            watch.first = True
            return error
        except asyncio.CancelledError:
            if watch.committed or watch.why not in ("first_event", "idle", "total"):
                if isinstance(trip.sink, Lane) and trip.sink.has_lost:
                    provider = way.provider.name
                    record.tried.append(
                        unanswered(provider, way.model, turn.key.id, began, OVERTAKEN, "let go")
                    )
                raise
            if turn.asked:
                self.pool.report(turn, Outcome.UPSTREAM, 504)
            if watch.why == "total" or (late := watch.cancelled()) is None:
                raise
            self._note(trip, way, turn, late, Outcome.UPSTREAM, began)
            watch.resume()
            return late
        finally:
            self.pool.release(turn, _cost(record, call))

    def _note(
        self,
        trip: CallState,
        way: Target,
        turn: Lease,
        error: GatewayError,
        outcome: Outcome,
        began: float,
    ) -> None:
        redact.clean(error)
        trip.ask.record.tried.append(
            Attempt(
                provider=way.provider.name,
                model=way.model[:128],
                key_id=turn.key.id,
                status=error.status,
                outcome=outcome.word,
                code=(error.code or "")[:64],
                ms=round((perf_counter() - began) * 1000, 3),
            )
        )

    def _choice(self, ask: ChatCall, provider: Provider) -> KeyChoice | None:
        """The caller's own credential, else the pool's: by header, by body, at random. None: which
        conversation it is decides."""
        own = callers_own(ask.headers, provider.accepts)
        if not own:
            ask.caller.need_keys()
        named = ask.headers.get("x-auth-id")
        if provider.candidates is not None:
            keys = provider.candidates(
                self.pool.keys(provider.pool), own, ask.headers, ask.envelope
            )
            if not keys[0].id:
                return KeyChoice(random.choice(keys), is_bound=bool(own))
            among = frozenset(key.id for key in keys)
            return KeyChoice(among=among, is_bound=bool(named))
        if own:
            return KeyChoice(Key(provider.pool, "", own), is_bound=True)
        wanted = named or provider.index(ask.envelope)
        if wanted:
            return KeyChoice(wanted=wanted, is_bound=True)
        return ANY if provider.conversation is None and not provider.anonymous else None

    async def _conversation_choice(self, provider: Provider, chat: Any) -> KeyChoice:
        """The session that a continued conversation belongs to; for a new one, any."""
        conversation = provider.conversation(chat) if provider.conversation is not None else None
        wanted = await self._owner(provider, conversation)
        if not wanted and provider.anonymous and not self.pool.size(provider.pool):
            return KeyChoice(Key(provider.pool, "", ""))
        return KeyChoice(wanted=wanted, is_bound=bool(wanted or conversation))

    def _quick_turn(
        self, trip: CallState, way: Target, choice: KeyChoice, tried: set[str]
    ) -> Lease | None:
        """A turn that needs no waiting, in nearly every case; None: ask again, at leisure."""
        if choice.fixed is not None:
            return Lease(choice.fixed)
        if choice is not ANY or tried:
            return None
        turn = self.pool.quick(way.provider.pool, way.model, trip.id, len(trip.ask.body))
        if turn is not None and self.sessions is not None:
            turn.key = self.sessions.current(turn.key)
        return turn

    async def _turn(
        self, trip: CallState, way: Target, choice: KeyChoice, tried: set[str], insist: bool
    ) -> Lease:
        """The next key. Waits a while where all that could answer have their hands full."""
        trip.watch.limit = None
        return await next_turn(
            self.pool,
            self.sessions,
            self.config.timeouts.first_event,
            way.provider.pool,
            wanted=choice.wanted,
            model=way.model,
            among=choice.among,
            tried=tried,
            call=trip.id,
            body_bytes=len(trip.ask.body),
            insist=insist,
        )

    async def _owner(self, provider: Provider, conversation_id: str | None) -> str | None:
        """The session a continued conversation belongs to, where the caller did not say."""
        if not conversation_id or self.pool.size(provider.pool) < 2:
            return None
        found = None
        if self.conversations is not None:
            found = await self.conversations.owner(provider.pool, conversation_id)
        if found is None:
            raise GatewayError(
                400,
                "Which of the configured sessions this conversation belongs to is not known here; "
                "send back `index` as it was handed out, or name the session by x-auth-id.",
                code="conversation_owner_unknown",
                param="index",
            )
        return found

    def _remember(self, provider: Provider, call: Call, renderer: Renderer) -> None:
        own = getattr(renderer, "stamp", None)
        if self.conversations is None or provider.told is None or not call.key.id or not own:
            return
        conversation_id = provider.told(own)
        if conversation_id:
            self.conversations.remember(provider.pool, conversation_id, call.key.id)

    async def _attempt(self, trip: CallState, call: Call, provider: Provider, turn: Lease) -> None:
        loop = asyncio.get_running_loop()
        sink, watch, record = trip.sink, trip.watch, trip.ask.record
        watch.expect(self.config.timeouts.first_event if call.stream else None)
        if provider.prepare is not None:
            network = Network(self, trip, turn)
            try:
                call = await provider.prepare(call, network)
            except GatewayError as error:
                if network.refusal is None:
                    raise
                raise _told(error, network.refusal, call.key) from None
        request = provider.request(call)
        turn.asked = True
        began = perf_counter()
        try:
            response = await self.clients.open(request)
        finally:
            if request.resent:
                _note_resent(trip, call, provider, began)
        decoder: Decoder | None = None
        renderer: Renderer | None = None
        try:
            if provider.renewed is not None and call.key.id:
                await self._renew_if_told(provider.renewed, call, response)
            if not is_answer(response.status):
                response = await self._refused(call, provider, response, record)
            if call.dropped:
                sink.headers.append(("x-gateway-dropped-params", ", ".join(call.dropped)))
            renderer = self._renderer(call, provider)
            decoder = getattr(renderer, "decoder", None)
            plain = self._read_headers(response.headers, sink, record, renderer, provider)
            opened: list[bytes] | None = []  # the stream so far, as long as it says nothing
            held = self._holdback(call)
            can_pump = held is None and plain is None and hasattr(response, "pump")
            while data := await (
                response.read() if held is None else held.read(response, sink, watch)
            ):
                watch.seen = loop.time()
                if plain is not None:
                    data = plain.feed(data)
                out = renderer.feed(data)
                if renderer.asks:
                    response = await self._obey(renderer, response)
                if out and opened is not None:
                    stage = renderer.opening(out)
                    if stage and watch.first:
                        self._begun(trip, provider)
                    opened.append(out)
                    out = b""
                    if stage is Stage.SAID or sum(map(len, opened)) > MAX_HELD_BYTES:
                        out, opened = b"".join(opened), None
                        self._said(trip, provider, turn, response.status)
                if out:
                    record.bytes_out += len(out)
                    if held is not None:
                        out = held.add(out, watch.seen)
                    if out:
                        watch.committed = watch.sending = True
                        watch.told = watch.seen
                        await sink.send(out)
                        watch.sending = False
                if renderer.ended:
                    break
                if can_pump and watch.committed:
                    await self._pump(response, renderer, sink, watch, record)
                    if renderer.asks:
                        response = await self._obey(renderer, response)
                        can_pump = hasattr(response, "pump")
                    if renderer.ended:
                        break
            out = renderer.finish()
        except GatewayError as error:
            if renderer is None or error.code != "upstream_cut":
                raise
            out = _said_all(renderer, error)
        finally:
            self._say_cancelled(decoder)
            if renderer is not None:
                record.unknown_events += len(getattr(renderer, "unknown", ()))
                self._remember(provider, call, renderer)
            await response.close()
        if opened is not None:
            out = b"".join(opened) + out
            self._said(trip, provider, turn, response.status)
        watch.stop()
        record.bytes_out += len(out)
        usage = renderer.usage
        if usage is not None:
            record.prompt_tokens = usage.prompt_tokens
            record.completion_tokens = usage.completion_tokens
        if renderer.refused:
            record.outcome = "upstream_error"
            if (told := renderer.error) is not None:
                record.code = told.code or ""
                self.pool.report(turn, of_told(told), told.status)
        watch.committed = True
        if renderer.content_type == JSON:
            await sink.answer(out)
        else:
            if held is not None:
                out = held.take() + out
            if out:
                await sink.send(out)
            await sink.end()

    async def _pump(
        self, response: Any, renderer: Renderer, sink: Sink, watch: Deadline, record: CallRecord
    ) -> None:
        """The rest of a stream that has begun: each read goes to the caller as it comes.

        Returns at the end of the body, or when the renderer has said what is to be done next.
        """
        time, feed, write = watch.time, renderer.feed, sink.write

        def take(data: bytes) -> bool:
            watch.seen = now = time()
            out = feed(data)
            if out:
                record.bytes_out += len(out)
                watch.told = now
                if not write(out):
                    return False
            return not (renderer.ended or renderer.asks)

        while await response.pump(take):
            if renderer.ended or renderer.asks:
                return
            watch.sending = True
            await sink.drain()
            watch.sending = False

    def _begun(self, trip: CallState, provider: Provider) -> None:
        """The first event came, though it may say nothing yet."""
        trip.watch.first = False
        if trip.ask.record.stream:
            trip.watch.expect(provider.idle_seconds or self.config.timeouts.idle)

    def _said(self, trip: CallState, provider: Provider, turn: Lease, status: int) -> None:
        """The upstream has begun to answer: its key is well."""
        record = trip.ask.record
        if trip.watch.first:
            self._begun(trip, provider)
        record.first_event_ms = round((perf_counter() - trip.began) * 1000, 3)
        self.pool.report(turn, Outcome.OK, status)

    def _holdback(self, call: Call) -> "Held | None":
        asked = self.config.stream_holdback
        if not call.stream or not (asked.tokens or asked.seconds):
            return None
        return Held(asked.tokens, asked.seconds)

    def _say_cancelled(self, decoder: Decoder | None) -> None:
        """Tells an upstream that goes on by itself; nobody waits for its answer."""
        # Not isinstance(..., Cancellable): asking a Protocol took a fifteenth of a whole request.
        cancel = getattr(decoder, "cancel_request", None)
        request: UpstreamRequest | None = cancel() if cancel is not None else None
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

    async def _renew_if_told(
        self,
        renewed: Callable[[Key, list[str], int], Key | None],
        call: Call,
        response: Response,
    ) -> None:
        lines = [value for name, value in response.headers if name == "set-cookie"]
        key = renewed(call.key, lines, call.now) if lines else None
        if key is not None:
            await self.renew(key)

    async def renew(self, key: Key) -> None:
        """A configured key changed: from now on it is this one, in every worker."""
        if self.sessions is not None:
            await self.sessions.renew(key)

    async def _obey(self, renderer: Renderer, response: Response) -> Response:
        """Does what the decoder asked for: answer on the websocket, or read on elsewhere."""
        asks, renderer.asks = renderer.asks, []
        for ask in asks:
            if isinstance(ask, Follow):
                await response.close()
                response = await self.clients.open(ask.request)
                if not is_answer(response.status):
                    await response.close()
                    raise GatewayError(
                        502,
                        "The upstream gives its answer at another place, and that place refused it "
                        f"(HTTP {response.status}); ask again.",
                        code="upstream_error",
                        outcome="upstream_error",
                    )
            else:
                await response.send(ask.data)  # type: ignore[attr-defined]
        return response

    async def _refused(
        self, call: Call, provider: Provider, response: Response, record: CallRecord
    ) -> Response:
        """A refusal as an error; or, where the provider knows a way around it, another answer."""
        reply = await read_whole(response, _MAX_ERROR_BYTES)
        record.upstream_request_id = request_id(reply.headers)
        again = provider.retry(call, reply) if provider.retry is not None else None
        if again is not None:
            response = await self.clients.open(again)
            if is_answer(response.status):
                return response
            reply = await read_whole(response, _MAX_ERROR_BYTES)
        error = provider.explain(call, reply) if provider.explain else provider.read_error(reply)
        raise _told(error, reply, call.key)

    def _renderer(self, call: Call, provider: Provider) -> Renderer:
        limit = self.config.limits.response_bytes
        if provider.decoder is None:
            if not call.stream:
                return Whole(limit)
            asked = call.envelope.n
            return Passthrough(
                limit,
                choices=asked if isinstance(asked, int) else 1,
                adds_usage=provider.adds_usage is not None and provider.adds_usage(call),
                label="no content type",
            )
        decoder = provider.decoder(call)
        if provider.untranslated:
            return Untranslated(decoder, provider.stamp(call))
        told: dict[str, Any] = {
            "model": call.model,
            "created": call.now,
            "new_id": call.new_id(),
            "stamp": provider.stamp(call),
        }
        if call.stream:
            return Chunks(decoder, include_usage=call.envelope.include_usage, **told)
        return Completion(decoder, max_bytes=limit, **told)

    def _read_headers(
        self,
        headers: Headers,
        sink: Sink,
        record: CallRecord,
        renderer: Renderer,
        provider: Provider,
    ) -> Inflate | None:
        """What the answer's headers say: some of it to the caller, some to us.

        An encoding that came although none was asked for is undone piece by piece.
        """
        plain = None
        for name, value in headers:
            kind = kinds.get(name)
            if kind is None:
                kind = kind_of(name)
            if kind == IGNORED:
                continue
            if kind == PASSED_ON:
                sink.headers.append((name, value))
            elif kind == REQUEST_ID:
                record.upstream_request_id = value
                sink.headers.append(("x-upstream-request-id", value))
                if name == "request-id":  # Anthropic's SDKs read it under its own name
                    sink.headers.append((name, value))
            elif kind == TYPE:
                if isinstance(renderer, Passthrough | Whole):
                    wanted = "json" if renderer.content_type == JSON else "text/event-stream"
                    renderer.label = None if wanted in value.lower() else value
            elif value.strip().lower() not in ("", "identity"):
                encoding = value.strip().lower()
                plain = plain or Inflate(encoding, self.config.limits.response_bytes)
        return plain


async def _comment(sink: Sink) -> None:
    with suppress(Exception):  # the main send will meet the same trouble and tell it
        await sink.send(KEEP_ALIVE)


def _said_all(renderer: Renderer, error: GatewayError) -> bytes:
    """What is left to send where a connection broke off after all was said; else raises."""
    if isinstance(renderer, Passthrough):
        renderer.is_cut = True
    try:
        return renderer.finish()
    except GatewayError as missing:
        if missing.code not in ("upstream_cut", "upstream_bad_response"):
            raise  # the upstream's own word of what went wrong
        error.said = error.said or missing.said
        raise error from None


def _told(error: GatewayError, reply: UpstreamReply, key: Key) -> GatewayError:
    """The error that a refusal stands for, with what its headers say besides."""
    if error.retry_after is None:
        error.retry_after = retry_after(reply.headers, reply.body, time())
    if error.status == 403 and is_challenge(reply.headers):
        error.outcome = "upstream_challenge"
    passed = [
        (n, v) for n, v in reply.headers.items() if n.startswith(PASSED_FAMILY) or n == "request-id"
    ]
    error.headers = (*error.headers, *passed)
    if error.status != 401 or not key.id:
        return error
    # The upstream's text may quote the operator's key: the caller is told its id instead.
    said = f" (HTTP {reply.status}: {redact.words(error.message)})"
    refused = GatewayError(
        401,
        f"The upstream refused the gateway's key {key.id} of {key.pool}{said}; "
        "its operator has to replace it. You can name another by x-auth-id.",
        type="invalid_request_error",
        code=error.code or "invalid_api_key",
        headers=error.headers,
        outcome=error.outcome,
    )
    refused.words = error.message
    return refused


def _most_telling(errors: list[tuple[Outcome, GatewayError]]) -> GatewayError:
    """Of equals the one that is soonest over."""

    def rank(one: tuple[Outcome, GatewayError]) -> tuple[int, float]:
        outcome, error = one
        return TELLING.index(outcome), error.retry_after or float("inf")

    return min(errors, key=rank)[1]


def _note_resent(trip: CallState, call: Call, provider: Provider, began: float) -> None:
    """The client had to send the request again: the caller and the log are told that, too."""
    record, headers = trip.ask.record, trip.sink.headers
    record.attempts += 1
    record.tried.append(sent_again(provider.name, call.model, call.key.id, began))
    headers[:] = [
        (name, str(record.attempts) if name == "x-attempts" else value) for name, value in headers
    ]


def _cost(record: CallRecord, call: Call) -> int | None:
    """Tokens of an attempt; guessed from the bytes where the upstream does not count them."""
    if record.prompt_tokens is not None:
        return record.prompt_tokens + (record.completion_tokens or 0)
    if not record.bytes_out:
        return None
    answered = guess_answered(record.bytes_out, is_stream=call.stream)
    return guess_tokens(len(call.body)) + answered


def _new_id() -> str:
    return os.urandom(16).hex()
