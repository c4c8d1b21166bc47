"""One attempt of a chat call: prepare, ask, copy or translate the answer, finish."""

import asyncio
from contextlib import suppress
from time import perf_counter, time
from typing import TYPE_CHECKING, Any

from app.clients import Response, read_whole
from app.clients.decompress import Inflate
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
from app.engine.call import CallState, Plan, Target, dropped_names
from app.engine.holdback import Held
from app.engine.upstream_access import UpstreamAccess
from app.pool.lease import Lease
from app.pool.outcomes import Outcome, is_challenge, of_told
from app.state.rate_windows import guess_answered, guess_tokens
from app.telemetry.call_log import sent_again
from app.telemetry.redaction import redact
from app.telemetry.trace_context import TRACEPARENT, traceparent
from app.wire.chat import ChatRequest
from app.wire.errors import GatewayError
from app.wire.events import Follow
from app.wire.front import Answering
from app.wire.kept import Kept, family_of
from app.wire.provider import Call, CountingDecoder, Decoder, Key
from app.wire.renderer import Renderer
from app.wire.retry_after import retry_after
from app.wire.stream_start import MAX_HELD_BYTES, Stage
from app.wire.upstream import Headers, UpstreamReply, UpstreamRequest

if TYPE_CHECKING:
    from app.engine.chat_call import Exchange

_MAX_ERROR_BYTES = 256 * 1024


class Attempt:
    """Asks one upstream with one key and hands its answer to the caller.

    Raises GatewayError: until `deadline.committed` another key may answer in its place.
    """

    __slots__ = (
        "call",
        "engine",
        "held",
        "kept",
        "lease",
        "opened",
        "plan",
        "renderer",
        "response",
        "session",
        "state",
        "target",
    )

    def __init__(
        self,
        engine: "Exchange",
        state: CallState,
        target: Target,
        plan: Plan,
        call: Call,
        lease: Lease,
    ) -> None:
        self.engine, self.state, self.target = engine, state, target
        self.plan, self.call, self.lease = plan, call, lease
        self.response: Response
        self.renderer: Renderer | None = None
        self.session: dict[str, Any] = {}
        self.held: Held | None = None
        self.kept: Kept | None = None  # to be written before the last bytes are sent
        self.opened: list[bytes] | None = []  # the stream so far, as long as it says nothing

    async def run(self) -> None:
        """From `prepare` to the last byte."""
        self.response = await self._ask()
        decoder: Decoder | None = None
        out: bytes | None = None
        is_left = False
        try:
            await self._accept()
            decoder = self._decoder()
            self.renderer = renderer = self._renderer(decoder)
            plain = self._read_headers(self.response.headers, renderer)
            self.state.sink.content_type = renderer.content_type
            await self._copy(renderer, plain)
            out = renderer.finish()
        except GatewayError as error:
            if self.renderer is None or error.code != "upstream_cut":
                raise
            renderer = self.renderer
            out = _rest_of_cut(renderer, error)
        except asyncio.CancelledError:
            is_left = self.state.deadline.why is None
            raise
        finally:
            if out is None and self.renderer is not None:
                self._count_unfinished(self.renderer, decoder, is_left)
            self._leave(decoder)
            await self.response.close()
        await self._finish(renderer, out)

    def _leave(self, decoder: Decoder | None) -> None:
        """What the end of an attempt leaves behind, however it came."""
        provider = self.target.provider
        if provider.cancel is not None and decoder is not None:
            self.engine.say_cancelled(provider.cancel(decoder))
        if self.renderer is not None:
            self.state.call.record.unknown_events += len(self.renderer.unknown)
        if provider.conversation_of is not None and self.session and self.call.key.id:
            self.engine.remember(provider, self.call.key, self.session)

    # --- asking -----------------------------------------------------------------------------

    async def _ask(self) -> Response:
        """Prepares and sends the request; the response's head has come when this returns."""
        engine, provider = self.engine, self.target.provider
        native = self.plan.native
        prepare = provider.prepare if native is None else native.prepare
        timeouts = engine.config.timeouts
        first_event = provider.first_event_seconds or timeouts.first_event
        self.state.deadline.expect(first_event if self.call.stream else None)
        if prepare is not None:
            access = UpstreamAccess(engine, self.state, self.lease)
            try:
                self.call = await prepare(self.call, access)
            except GatewayError as error:
                if access.refusal is None:
                    raise
                raise explained(error, access.refusal, self.call.key) from None
        request = (provider.request if native is None else native.request)(self.call)
        self._name_trace(request)
        self.lease.asked = True
        began = perf_counter()
        try:
            return await engine.clients.open(request)
        finally:
            if request.resent:
                self._note_resent(began)

    def _name_trace(self, request: UpstreamRequest) -> None:
        """Tells the upstream which trace the call belongs to, if the config says so. A website sees
        what its own page would send."""
        record = self.state.call.record
        if record.trace_id and request.via == "api" and self.engine.config.traces.propagate:
            request.headers.append((TRACEPARENT, traceparent(record)))

    def _note_resent(self, began: float) -> None:
        """The client had to send the request again: the caller and the log are told that, too."""
        record, headers = self.state.call.record, self.state.sink.headers
        record.attempts += 1
        name, key_id = self.target.provider.name, self.call.key.id
        record.tried.append(sent_again(name, self.call.model, key_id, began))
        headers[:] = [
            (name, str(record.attempts) if name == "x-attempts" else value)
            for name, value in headers
        ]

    async def _accept(self) -> None:
        """Raises what a refusal says, unless the provider knows a way around it."""
        provider, call = self.target.provider, self.call
        sessions = self.engine.sessions
        if provider.renewed is not None and call.key.id and sessions is not None:
            await sessions.renew_from(provider.renewed, call.key, self.response.headers, call.now)
        if not is_answer(self.response.status):
            await self._refused()
        dropped, chat = call.dropped, self.state.chat
        if chat is not None and self.plan.native is None:
            dropped = dropped_names(chat, provider, self.state.call.front, dropped)
        if dropped:
            self.state.sink.headers.append(("x-gateway-dropped-params", ", ".join(dropped)))

    async def _refused(self) -> None:
        """Has the request repaired and asks again, a few times at most; else raises the refusal."""
        provider, call = self.target.provider, self.call
        native = self.plan.native
        retry, keep = (native or provider).retry, (native or provider).keep
        for left in range(provider.most_retries, -1, -1):
            reply = await read_whole(self.response, _MAX_ERROR_BYTES)
            self.state.call.record.upstream_request_id = request_id(reply.headers)
            again: UpstreamRequest | None = None
            if retry is not None and left:
                again = retry(call, reply)
            if again is None:
                break
            self._name_trace(again)
            self.response = await self.engine.clients.open(again)
            if is_answer(self.response.status):
                if keep is not None:
                    keep(call)
                return
        if native is not None and native.read_error is not None:
            error = native.read_error(reply)
        else:
            error = (
                provider.explain(call, reply) if provider.explain else provider.read_error(reply)
            )
        raise explained(error, reply, call.key)

    # --- the answer -------------------------------------------------------------------------

    def _decoder(self) -> Decoder | None:
        """The decoder of this answer; None where it is copied without one."""
        provider = self.target.provider
        native = self.plan.native
        if native is None:
            return provider.decoder(self.call)
        if self.plan.copies:
            return native.untouched(self.call) if native.untouched is not None else None
        return (native.decoder or provider.decoder)(self.call)

    def _renderer(self, decoder: Decoder | None) -> Renderer:
        call, front = self.call, self.state.call.front
        provider = self.target.provider
        self.session = provider.session(call)
        native = self.plan.native
        adds_usage = native.adds_usage if native is not None else None
        answering = Answering(
            asked=call.asked,
            chat=self.state.chat,
            model=call.model,
            alias=self.target.alias,
            created=call.now,
            new_id="" if self.plan.copies else call.new_id(),
            session=self.session,
            max_bytes=self.engine.config.limits.response_bytes,
            adds_usage=adds_usage is not None and adds_usage(call),
            cuts=() if self.state.chat is None else self._cuts(self.state.chat),
            keep=self._keep if self.state.call.owner is not None else None,
            remember=self._remember if call.key.id else None,
        )
        if self.plan.copies:
            renderer = front.copy(answering, decoder)
        else:
            assert decoder is not None
            renderer = (front.stream if call.stream else front.whole)(answering, decoder)
        return renderer

    def _keep(self, kept: Kept) -> None:
        self.kept = kept

    def _remember(self, answer_id: str) -> None:
        """Notes whose key has made this answer, for the turn that goes on from it."""
        if self.engine.conversations is not None:
            key = self.call.key
            self.engine.conversations.remember(key.pool, family_of(answer_id), key.id)

    def _cuts(self, chat: ChatRequest) -> tuple[str, ...]:
        """The stop sequences at which the front has to end the answer."""
        if not chat.cuts_stops or self.plan.native is not None:
            return ()
        return () if self.target.provider.stops(self.call) else tuple(chat.stops())

    def _read_headers(self, headers: Headers, renderer: Renderer) -> Inflate | None:
        """What the answer's headers say: some of it to the caller, some to the gateway.

        An encoding that came although none was asked for is undone piece by piece.
        """
        sink, record = self.state.sink, self.state.call.record
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
                renderer.labelled(value)
            elif value.strip().lower() not in ("", "identity"):
                encoding = value.strip().lower()
                plain = plain or Inflate(encoding, self.engine.config.limits.response_bytes)
        return plain

    async def _copy(self, renderer: Renderer, plain: Inflate | None) -> None:
        """Reads until the answer is whole or the body ends, and sends what the renderer gives."""
        deadline, sink = self.state.deadline, self.state.sink
        held = self.held = self._holdback()
        can_pump = held is None and plain is None and hasattr(self.response, "pump")
        while data := await (
            self.response.read() if held is None else held.read(self.response, sink, deadline)
        ):
            deadline.seen = deadline.time()
            if plain is not None:
                data = plain.feed(data)
            out = renderer.feed(data)
            if renderer.commands:
                await self._obey(renderer)
            if out and self.opened is not None:
                out = self._opening(renderer, out)
            if out:
                await self._send(out)
            if renderer.ended:
                return
            if can_pump and deadline.committed:
                await self._pump(renderer)
                if renderer.commands:
                    await self._obey(renderer)
                    can_pump = hasattr(self.response, "pump")
                if renderer.ended:
                    return

    def _opening(self, renderer: Renderer, out: bytes) -> bytes:
        """Holds the start of a stream until it says something; then all of it is returned."""
        opened = self.opened
        assert opened is not None
        stage = renderer.opening(out)
        if stage and self.state.deadline.first:
            self._begun()
        opened.append(out)
        if stage is not Stage.SAID and sum(map(len, opened)) <= MAX_HELD_BYTES:
            return b""
        self.opened = None
        self._said()
        return b"".join(opened)

    async def _send(self, out: bytes) -> None:
        deadline = self.state.deadline
        self.state.call.record.bytes_out += len(out)
        if self.held is not None:
            out = self.held.add(out, deadline.seen)
        if out:
            deadline.committed = deadline.sending = True
            deadline.told = deadline.seen
            await self.state.sink.send(out)
            deadline.sending = False

    async def _pump(self, renderer: Renderer) -> None:
        """The rest of a stream that has begun: each read goes to the caller as it comes.

        Returns at the end of the body, or when the renderer has said what is to be done next.
        """
        deadline, record, sink = self.state.deadline, self.state.call.record, self.state.sink
        response: Any = self.response  # one that can pump
        now, feed, write = deadline.time, renderer.feed, sink.write

        def take(data: bytes) -> bool:
            deadline.seen = at = now()
            out = feed(data)
            if out:
                record.bytes_out += len(out)
                deadline.told = at
                if not write(out):
                    return False
            return not (renderer.ended or renderer.commands)

        while await response.pump(take):
            if renderer.ended or renderer.commands:
                return
            deadline.sending = True
            await sink.drain()
            deadline.sending = False

    async def _obey(self, renderer: Renderer) -> None:
        """Does what the decoder asked for: answer on the websocket, or read on elsewhere."""
        commands, renderer.commands = renderer.commands, []
        for command in commands:
            if isinstance(command, Follow):
                await self.response.close()
                self.response = await self.engine.clients.open(command.request)
                if not is_answer(self.response.status):
                    raise GatewayError(
                        502,
                        "The upstream gives its answer at another place, and that place refused it "
                        f"(HTTP {self.response.status}); ask again.",
                        code="upstream_error",
                        outcome="upstream_error",
                    )
            else:
                await self.response.send(command.data)  # type: ignore[attr-defined]

    def _begun(self) -> None:
        """The first event came, though it may say nothing yet."""
        deadline = self.state.deadline
        deadline.first = False
        if self.state.call.record.stream:
            idle = self.engine.config.timeouts.idle
            deadline.expect(self.target.provider.idle_seconds or idle)

    def _said(self) -> None:
        """The upstream has begun to answer: its key is well."""
        if self.state.deadline.first:
            self._begun()
        record = self.state.call.record
        record.first_event_ms = round((perf_counter() - self.state.began) * 1000, 3)
        self.engine.pool.report(self.lease, Outcome.OK, self.response.status)

    def _holdback(self) -> Held | None:
        asked, is_text = self.engine.config.stream_holdback, self.state.call.front.is_text
        if not (self.call.stream and is_text) or not (asked.tokens or asked.seconds):
            return None
        return Held(asked.tokens, asked.seconds)

    def _count_unfinished(self, renderer: Renderer, decoder: Decoder | None, is_left: bool) -> None:
        """Notes what an answer that breaks off has counted.

        A caller who leaves (`is_left`) behind the last event of a stream has got all of it, as
        OpenAI's SDKs do, which close the connection at [DONE].
        """
        record, deadline = self.state.call.record, self.state.deadline
        if not (is_left or deadline.committed):
            return  # another key may answer, and counts then
        rest = _rest(renderer) if is_left else None
        if rest == b"" and deadline.committed and not deadline.sending:
            record.outcome = "complete"
        usage = renderer.usage
        if usage is None and isinstance(decoder, CountingDecoder):
            usage = decoder.counted()
        if usage is None or not usage.prompt_tokens:
            return
        if rest is None:
            said = guess_answered(record.bytes_out, is_stream=self.call.stream)
            record.count_broken_off(usage, said)
        else:
            record.count(usage)

    async def _finish(self, renderer: Renderer, out: bytes) -> None:
        """Sends the last bytes, once the record tells what the answer counted."""
        record, sink, deadline = self.state.call.record, self.state.sink, self.state.deadline
        if self.opened is not None:
            out = b"".join(self.opened) + out
            self._said()
        deadline.stop()
        if self.kept is not None:
            await self.engine.keep(self.kept, self.state.call.owner, self.call.key)
        record.bytes_out += len(out)
        usage = renderer.usage
        if usage is not None and (usage.prompt_tokens or usage.completion_tokens):
            record.count(usage)
        elif not self.state.call.front.is_text:  # vectors, pictures and sounds
            record.estimate(guess_tokens(self.call.asked.text_bytes), 0)
        if renderer.refused:
            record.outcome = "upstream_error"
            if (told := renderer.error) is not None:
                record.code = told.code or ""
                self.engine.pool.report(self.lease, of_told(told), told.status)
        deadline.committed = True
        if not self.call.stream:
            await sink.answer(out)
        else:
            if self.held is not None:
                out = self.held.take() + out
            if out:
                await sink.send(out)
            await sink.end()
        record.outcome = record.outcome or "complete"  # though its caller leaves at this moment


def _rest(renderer: Renderer) -> bytes | None:
    """What is left to send of an answer whose end was not awaited; None if it is not whole."""
    with suppress(GatewayError):
        return renderer.finish(is_cut=True)
    return None


def _rest_of_cut(renderer: Renderer, error: GatewayError) -> bytes:
    """What is left to send where a connection broke off after all was said; else raises."""
    try:
        return renderer.finish(is_cut=True)
    except GatewayError as missing:
        if missing.code not in ("upstream_cut", "upstream_bad_response"):
            raise  # the upstream's own word of what went wrong
        error.said = error.said or missing.said
        raise error from None


def explained(error: GatewayError, reply: UpstreamReply, key: Key) -> GatewayError:
    """The error that a refusal stands for, with what its headers say besides."""
    if error.retry_after is None:
        error.retry_after = retry_after(reply.headers, reply.body, time())
    if error.status == 403 and is_challenge(reply.headers):
        error.outcome = "upstream_challenge"
    told = {name for name, _ in error.headers}
    passed = [
        (n, v)
        for n, v in reply.headers.items()
        if (n.startswith(PASSED_FAMILY) or n == "request-id") and n not in told
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
        code=error.code or "invalid_api_key",
        retry_after=error.retry_after,
        headers=error.headers,
        outcome=error.outcome,
    )
    refused.words = error.message
    return refused
