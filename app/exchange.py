"""One chat call: key, request, upstream, answer. The one place that decides about time.

    pick a key → prepare → request → open → read → render → send → ... → finish

One coroutine per call and no queue: a slow caller slows the upstream by itself, and cancelling the
handler frees everything. Nothing is sent before the first event, so until then an upstream's
refusal is still a true HTTP status.
"""

import asyncio
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from time import perf_counter, time
from typing import Any, Protocol

from msgspec import Struct

from app.access import OPERATOR, Caller
from app.clients import Clients, Response, read_whole
from app.clients.encoding import Inflate
from app.clients.fetch import fetch
from app.conversations import Conversations
from app.key_pool import KeyPool, callers_own
from app.leases import Lease, Leases
from app.logs import CallLog, CallRecord
from app.open_calls import OpenCalls
from app.render import (
    JSON,
    KEEP_ALIVE,
    Chunks,
    Completion,
    Passthrough,
    Renderer,
    Untranslated,
    Whole,
)
from app.sessions import Sessions
from app.slow_work import SlowWork
from app.watch import Watch
from app.wire.chat import Envelope
from app.wire.errors import GatewayError, bad_response
from app.wire.events import Follow
from app.wire.provider import Call, Cancellable, Decoder, Key, Provider
from app.wire.settings import Config
from app.wire.upstream import Headers, UpstreamReply, UpstreamRequest

_MAX_ERROR_BYTES = 256 * 1024
_FAREWELL_SECONDS = 10.0
_LEASE_POLL_SECONDS = 0.05

# Answer headers that tell the caller something about this request and nothing about our account.
_PASSED = ("openai-processing-ms", "openai-version", "retry-after", "retry-after-ms")
_PASSED_FAMILY = ("x-ratelimit-", "anthropic-ratelimit-", "x-should-retry")


class Sink(Protocol):
    """Where an answer goes: the caller's connection, behind the web framework."""

    started: bool

    async def send(self, data: bytes) -> None:
        """The next piece of a stream; the first one sends status 200 and `headers` before it."""

    async def end(self) -> None:
        """The proper end of a stream."""

    async def answer(self, body: bytes, content_type: str) -> None:
        """A whole answer at once."""

    headers: Headers  # of the answer; may be added to until the first byte is sent


class Ask(Struct, kw_only=True):
    """A chat call as a route hands it over."""

    provider: Provider
    envelope: Envelope
    body: bytes
    headers: Mapping[str, str]  # the caller's, looked up without regard to case
    model: str
    record: CallRecord
    caller: Caller = OPERATOR


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
        leases: Leases | None = None,
    ) -> None:
        self.config, self.clients, self.pool, self.log = config, clients, pool, log
        self.sessions, self.conversations, self.leases = sessions, conversations, leases
        self.slow_work = SlowWork()
        self.calls = OpenCalls()
        self._farewells: set[asyncio.Task[None]] = set()

    async def run(self, ask: Ask, sink: Sink) -> None:
        """Carries one call from body to last byte and writes its log line, whatever happens.

        Raises GatewayError only while nothing has been sent; later errors are told in the stream.
        """
        record = ask.record
        began = perf_counter()
        stream = ask.envelope.stream is True

        async def comment() -> None:
            with suppress(Exception):  # the main send will meet the same trouble and tell it
                await sink.send(KEEP_ALIVE)

        watch = Watch(self.config.timeouts, comment if stream else None)
        self.calls.add(watch, stream)
        record.stream = stream
        record.bytes_in = len(ask.body)
        record.status = 200
        try:
            self.calls.check()
            await self._attempts(ask, sink, watch, began)
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
            record.outcome, record.status = "gateway_error", 500
            raise
        finally:
            self.calls.discard(watch)
            await watch.stop()
            record.total_ms = round((perf_counter() - began) * 1000, 3)
            self.log.write(record)

    async def _tell(
        self, error: GatewayError, sink: Sink, watch: Watch, record: CallRecord
    ) -> None:
        record.outcome = error.outcome if error.outcome != "error" else "upstream_error"
        record.code = error.code or ""
        if not sink.started:
            record.status = error.status
            raise error
        await watch.stop()
        with suppress(Exception):
            await sink.send(error.said + error.event())
            await sink.end()

    async def _attempts(self, ask: Ask, sink: Sink, watch: Watch, began: float) -> None:
        provider, record = ask.provider, ask.record
        chat = provider.read(ask.body)
        key = await self._key(ask, chat)
        record.key_id = key.id
        if key.id:
            sink.headers.append(("x-auth-id", key.id))
        call = Call(
            config=self.config,
            envelope=ask.envelope,
            body=ask.body,
            chat=chat,
            key=key,
            model=ask.model,
            stream=ask.envelope.stream is True,
            headers=ask.headers,
            now=int(time()),
            new_id=_new_id,
        )
        record.attempts += 1
        watch.expect(self.config.timeouts.first_event if call.stream else None)
        lease = await self._leased(key)
        try:
            await self._attempt(call, provider, sink, watch, record, began)
        finally:
            lease.release()

    async def _key(self, ask: Ask, chat: Any) -> Key:
        """The caller's own credential, else the pool's: by header, by body, at random."""
        provider = ask.provider
        own = callers_own(ask.headers, provider.accepts)
        if not own:
            ask.caller.need_keys()
        if provider.candidates is not None:
            keys = self.pool.keys(provider.pool)
            return self.pool.one_of(provider.candidates(keys, own, ask.headers, ask.envelope))
        if own:
            return Key(provider.pool, "", own)
        wanted = ask.headers.get("x-auth-id") or provider.index(ask.envelope)
        if not wanted and provider.conversation is not None:
            wanted = await self._owner(provider, provider.conversation(chat))
        if not wanted and provider.anonymous and not self.pool.size(provider.pool):
            return Key(provider.pool, "", "")
        key = self.pool.pick(provider.pool, wanted)
        return self.sessions.current(key) if self.sessions is not None else key

    async def _owner(self, provider: Provider, conversation_id: str | None) -> str | None:
        """The session a continued conversation belongs to, where the caller did not say."""
        if not conversation_id or self.pool.size(provider.pool) < 2:
            return None
        found = None
        if self.conversations is not None:
            found = await asyncio.to_thread(
                self.conversations.owner, provider.pool, conversation_id
            )
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
        """Runs on its own: the call does not wait for the memory of its conversation."""
        own = getattr(renderer, "stamp", None)
        if self.conversations is None or provider.told is None or not call.key.id or not own:
            return
        conversation_id = provider.told(own)
        if conversation_id:
            asyncio.get_running_loop().run_in_executor(
                None, self.conversations.remember, provider.pool, conversation_id, call.key.id
            )

    async def _leased(self, key: Key) -> Lease:
        """Waits its turn at a session that serves only so many at a time."""
        if self.leases is None:
            return Lease()
        while (lease := self.leases.take(key)) is None:  # noqa: ASYNC110, the others are processes
            await asyncio.sleep(_LEASE_POLL_SECONDS)
        return lease

    async def _attempt(
        self,
        call: Call,
        provider: Provider,
        sink: Sink,
        watch: Watch,
        record: CallRecord,
        began: float,
    ) -> None:
        loop = asyncio.get_running_loop()
        watch.expect(self.config.timeouts.first_event if call.stream else None)
        if provider.prepare is not None:
            call = await provider.prepare(call, _Network(self))
        response = await self._open(provider.request(call))
        decoder: Decoder | None = None
        renderer: Renderer | None = None
        try:
            if provider.renewed is not None and call.key.id:
                await self._renew_if_told(provider.renewed, call, response)
            if not _is_answer(response.status):
                response = await self._refused(call, provider, response, record)
            self.pool.report(call.key, response.status)
            if call.dropped:
                sink.headers.append(("x-gateway-dropped-params", ", ".join(call.dropped)))
            renderer = self._renderer(call, provider)
            decoder = getattr(renderer, "decoder", None)
            self._pass_headers(call, response, sink, record)
            plain = _plain(response, self.config.limits.response_bytes)
            if provider.decoder is None:
                _check_type(response, renderer)
            while data := await response.read():
                watch.seen = loop.time()
                if plain is not None:
                    data = plain.feed(data)
                out = renderer.feed(data)
                if renderer.asks:
                    response = await self._obey(renderer, response)
                if out:
                    if watch.first:
                        self._first(watch, provider, record, began)
                    record.bytes_out += len(out)
                    watch.sending, watch.told = True, watch.seen
                    await sink.send(out)
                    watch.sending = False
                if renderer.ended:
                    break
            out = renderer.finish()
        finally:
            self._say_cancelled(decoder)
            if renderer is not None:
                record.unknown_events += len(getattr(renderer, "unknown", ()))
                self._remember(provider, call, renderer)
            await response.close()
        if watch.first:
            self._first(watch, provider, record, began)
        await watch.stop()
        record.bytes_out += len(out)
        usage = renderer.usage
        if usage is not None:
            record.prompt_tokens = usage.prompt_tokens
            record.completion_tokens = usage.completion_tokens
        if renderer.refused:
            record.outcome = "upstream_error"
        if renderer.content_type == JSON:
            await sink.answer(out, JSON)
        else:
            if out:
                await sink.send(out)
            await sink.end()

    def _first(self, watch: Watch, provider: Provider, record: CallRecord, began: float) -> None:
        watch.first = False
        watch.expect(provider.idle_seconds or self.config.timeouts.idle)
        record.first_event_ms = round((perf_counter() - began) * 1000, 3)

    def _say_cancelled(self, decoder: Decoder | None) -> None:
        """Tells an upstream that goes on by itself; nobody waits for its answer."""
        request = decoder.cancel_request() if isinstance(decoder, Cancellable) else None
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

    async def _open(self, request: UpstreamRequest) -> Response:
        return await self.clients.open(request)

    async def _obey(self, renderer: Renderer, response: Response) -> Response:
        """Does what the decoder asked for: answer on the websocket, or read on elsewhere."""
        asks, renderer.asks = renderer.asks, []
        for ask in asks:
            if isinstance(ask, Follow):
                await response.close()
                response = await self._open(ask.request)
            else:
                await response.send(ask.data)  # type: ignore[attr-defined]
        return response

    async def _refused(
        self, call: Call, provider: Provider, response: Response, record: CallRecord
    ) -> Response:
        """A refusal as an error; or, where the provider knows a way around it, another answer."""
        reply = await read_whole(response, _MAX_ERROR_BYTES)
        record.upstream_request_id = _request_id(reply.headers)
        again = provider.retry(call, reply) if provider.retry is not None else None
        if again is not None:
            response = await self._open(again)
            if _is_answer(response.status):
                return response
            reply = await read_whole(response, _MAX_ERROR_BYTES)
        error = provider.explain(call, reply) if provider.explain else provider.read_error(reply)
        self.pool.report(call.key, error.status)
        passed = [(n, v) for n, v in reply.headers.items() if n.startswith(_PASSED_FAMILY)]
        error.headers = (*error.headers, *passed)
        if error.status == 401 and call.key.id:
            # The upstream's text may quote the operator's key: the caller is told its id instead.
            error = GatewayError(
                401,
                f"The upstream refused the gateway's key {call.key.id} of {call.key.pool}; "
                "its operator has to replace it. You can name another by x-auth-id.",
                type="invalid_request_error",
                code=error.code or "invalid_api_key",
                headers=error.headers,
            )
        raise error

    def _renderer(self, call: Call, provider: Provider) -> Renderer:
        limit = self.config.limits.response_bytes
        if provider.decoder is None:
            return Passthrough() if call.stream else Whole(limit)
        decoder = provider.decoder(call)
        if provider.untranslated:
            return Untranslated(decoder)
        told: dict[str, Any] = {
            "model": call.model,
            "created": call.now,
            "new_id": call.new_id(),
            "stamp": provider.stamp(call),
        }
        if call.stream:
            return Chunks(decoder, include_usage=call.envelope.include_usage, **told)
        return Completion(decoder, max_bytes=limit, **told)

    def _pass_headers(self, call: Call, response: Response, sink: Sink, record: CallRecord) -> None:
        for name, value in response.headers:
            if name in _PASSED or name.startswith(_PASSED_FAMILY):
                sink.headers.append((name, value))
            elif name in ("x-request-id", "request-id"):
                record.upstream_request_id = value
                sink.headers.append(("x-upstream-request-id", value))


class _Network:
    """What `prepare` may use: whole requests and a place for slow work."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def send(self, request: UpstreamRequest) -> UpstreamReply:
        exchange = self._exchange
        response = await exchange.clients.open(request)
        return await read_whole(response, exchange.config.limits.response_bytes)

    async def offload(self, function: Callable[..., Any], *args: Any) -> Any:
        return await self._exchange.slow_work.run(function, *args)

    async def renew(self, key: Key) -> None:
        await self._exchange.renew(key)

    async def fetch(self, url: str) -> tuple[str, bytes]:
        return await fetch(url)


def _is_answer(status: int) -> bool:
    return 200 <= status < 300 or status == 101  # 101: a websocket that was opened


def _new_id() -> str:
    return uuid.uuid4().hex


def _request_id(headers: Mapping[str, str]) -> str:
    return headers.get("x-request-id") or headers.get("request-id") or ""


def _plain(response: Response, max_bytes: int) -> Inflate | None:
    """An encoding that came although none was asked for is undone piece by piece."""
    for name, value in response.headers:
        if name == "content-encoding" and value.strip().lower() not in ("", "identity"):
            return Inflate(value.strip().lower(), max_bytes)
    return None


def _check_type(response: Response, renderer: Renderer) -> None:
    """A 200 of the wrong kind (a captive portal's page, JSON for a stream) is no answer."""
    wanted = "text/event-stream" if renderer.content_type != JSON else "json"
    for name, value in response.headers:
        if name == "content-type" and wanted not in value.lower():
            raise bad_response(
                f"The upstream answered 200 with {value.split(';')[0]!r} instead of {wanted}; "
                "check the upstream address in the config."
            )
