"""A raw reverse proxy: any method, any body, no parsing, no buffering.

Bytes travel as they are, compressed ones included (only a rule's `rewrite` touches a body: it puts
the gateway's address in place of the upstream's own). What does not travel: hop-by-hop headers, the
caller's cookies and address, the gateway's own headers, the upstream's Set-Cookie.
After the first byte a cut upstream is made to look cut: the caller's connection is aborted.
Before it, a request that fails with one of the pool's keys is sent again with another, if it has no
body or a small one of known length: only such a body is kept in memory. A stream of events counts
as begun when it says something: until then, for a few seconds, its start is held back.
"""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from time import perf_counter, time
from typing import Protocol
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec
from msgspec import Struct

from app.auth.caller import OPERATOR, Caller
from app.auth.credentials import bare_token
from app.clients import Clients, Response, read_whole
from app.clients.decompress import decode_body
from app.config.schema import Config
from app.engine.deadline import Deadline
from app.engine.open_calls import OpenCalls
from app.engine.raw_answer import Reading
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
    of_refusal,
    of_status,
    of_told,
)
from app.pool.web_sessions import Sessions
from app.state.rate_windows import guess_answered, guess_tokens
from app.telemetry.call_log import Attempt, CallLog, CallRecord, sent_again
from app.telemetry.redaction import redact
from app.wire.errors import GatewayError, bad_response, upstream_cut
from app.wire.provider import ForwardRule, Key
from app.wire.refusals import as_error
from app.wire.retry_after import retry_after
from app.wire.stream_start import MAX_HELD_BYTES, Stage, look
from app.wire.upstream import Headers, UpstreamReply, UpstreamRequest

_REPEATED_BYTES = 1024 * 1024
_REFUSAL_BYTES = 256 * 1024
_HELD_SECONDS = 5.0  # how long the start of a stream is held back until it says something


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_HOP_BY_HOP = _names(
    """connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer
    transfer-encoding upgrade http2-settings"""
)
# Of the caller, for us only: who and where they are is not the upstream's business.
_NOT_UP = _HOP_BY_HOP | _names(
    """host content-length expect cookie forwarded via x-real-ip true-client-ip cf-connecting-ip
    x-client-ip x-cluster-client-ip x-auth-id x-bot-id x-version x-access-token x-request-id
    origin referer"""
)
# Of the upstream, about its edge and its hold on a browser: not the caller's business.
_NOT_DOWN = _HOP_BY_HOP | _names(
    """set-cookie set-cookie2 alt-svc strict-transport-security server nel report-to expect-ct
    access-control-allow-origin access-control-allow-methods access-control-allow-headers
    access-control-allow-credentials access-control-expose-headers access-control-max-age
    content-security-policy x-request-id"""
)
# Answer headers that may hold an address of the upstream.
_ADDRESSES = ("location", "content-location", "x-goog-upload-url", "x-goog-upload-control-url")


class ForwardSink(Protocol):
    started: bool

    async def start(self, status: int, headers: Headers, has_body: bool) -> None: ...

    async def send(self, data: bytes) -> None: ...

    async def end(self) -> None: ...

    def abort(self) -> None:
        """Makes the break visible: no proper end of body is sent."""


class ForwardAsk(Struct, kw_only=True):
    """One raw request. `path` is what stands behind the rule's prefix, percent-encoded as it came;
    `length` is the caller's Content-Length, None for chunked; `public` our address as they see it.
    """

    rule: ForwardRule
    method: str
    path: str
    query: str
    headers: Headers
    body: AsyncIterator[bytes] | None
    length: int | None
    public: str
    record: CallRecord
    caller: Caller = OPERATOR


class Forwarder:
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

    async def run(self, ask: ForwardAsk, sink: ForwardSink) -> None:
        """Carries one request through. Raises GatewayError only while nothing has been sent."""
        record = ask.record
        began = perf_counter()
        watch = Deadline(self.config.timeouts, total=float("inf"))
        watch.expect(self.config.timeouts.forward_idle)
        self.calls.add(watch)
        error: GatewayError | None = None
        try:
            self.calls.check()
            await self._pipe(ask, sink, watch, began)
            record.outcome = record.outcome or "complete"
        except GatewayError as caught:
            error = caught
        except asyncio.CancelledError:
            error = watch.cancelled()
            if error is None:
                record.outcome, record.status = "client_gone", 499
                raise
        except Exception:
            record.outcome, record.status, record.code = "gateway_error", 500, "gateway_error"
            if sink.started:
                sink.abort()
            raise
        finally:
            self.calls.discard(watch)
            watch.stop()
            if error is not None:
                redact.clean(error)
                error.headers = (*error.headers, ("x-attempts", str(record.attempts)))
                record.outcome = error.ending(record.attempts > 0)
                record.code = error.code or ""
                record.status = record.status or error.status
            record.total_ms = round((perf_counter() - began) * 1000, 3)
            self.log.write(record)
        if error is not None:
            if not sink.started:
                raise error
            sink.abort()

    async def _pipe(
        self, ask: ForwardAsk, sink: ForwardSink, watch: Deadline, began: float
    ) -> None:
        rule, record = ask.rule, ask.record
        lookup = _lookup(ask)
        trip = await self._trip(ask, lookup, watch)
        tried: set[str] = set()
        insist = is_silent = False
        last: tuple[int, _Refusal | GatewayError] | None = (
            None  # what the caller is told if all fail
        )
        while True:
            try:
                turn = await self._turn(trip, ask, lookup, tried, insist)
            except GatewayError as error:
                if not isinstance(error, KeysTried) and (last is None or error.status == 429):
                    raise
                break
            record.key_id = turn.key.id
            record.attempts += 1
            started, was_probe = perf_counter(), turn.probes_upstream
            broken: GatewayError | None = None  # what a stream says in place of an answer
            try:
                request = self.outgoing(ask, turn.key, trip.in_header, trip.body, lookup)
                turn.asked = True
                try:
                    response = await self.clients.open(request)
                finally:
                    if request.resent:
                        record.attempts += 1
                        record.tried.append(
                            sent_again(rule.provider, trip.model, turn.key.id, started)
                        )
                if rule.renewed is not None and turn.key.id:
                    await self._renew_if_told(rule.renewed, turn.key, response.headers)
                status, held, words = response.status, b"", ""
                outcome = of_status(status)
                refusal: _Refusal | None = None
                if turn.entry is not None and _may_mean_the_key(response, outcome):
                    refusal = await _refusal(response, turn.key)
                    said = rule.read_error(refusal.reply())
                    outcome, words = of_refusal(said, refusal.named), said.message
                elif trip.may_repeat and turn.entry is not None and self._can_hold(response):
                    held, broken = await _opening(response)
                    if broken is not None and of_error(broken) in OTHER_KEY_MAY_DO:
                        await response.close()
                        refusal, outcome = _Refusal(response, turn.key, held), of_error(broken)
                        status, words = broken.status, broken.message
                if refusal is None or outcome not in OTHER_KEY_MAY_DO:
                    self.pool.report(turn, outcome, status)
                    answer = refusal or response
                    told = await self._deliver(
                        ask, sink, watch, began, answer, turn.key, trip.model, held
                    )
                    if told is not None:
                        self.pool.report(turn, of_told(told), told.status)
                    return
                asked = retry_after(refusal.named, refusal.plain, time())
                self.pool.report(turn, outcome, status, asked, redact.words(words))
                failed: _Refusal | GatewayError = refusal
            except GatewayError as error:
                outcome = Outcome.CUT if sink.started else of_error(error)
                if turn.asked:
                    words = redact.words(error.message)
                    self.pool.report(turn, outcome, error.status, words=words)
                if sink.started or outcome not in OTHER_KEY_MAY_DO:
                    raise
                redact.clean(error)
                failed = error
            except asyncio.CancelledError:
                if watch.why == "first_event":
                    self.pool.report(turn, Outcome.UPSTREAM, 504)
                raise
            finally:
                self.pool.release(turn)
            code = failed.code or "" if isinstance(failed, GatewayError) else ""
            ms = round((perf_counter() - started) * 1000, 3)
            record.tried.append(
                Attempt(
                    provider=rule.provider,
                    model=trip.model[:128],
                    key_id=turn.key.id,
                    status=failed.status if broken is None else broken.status,
                    outcome=outcome.word,
                    code=code,
                    ms=ms,
                    next="next" if trip.may_repeat else "told",
                )
            )
            tried.add(turn.key.id)
            rank = TELLING.index(outcome)
            if last is None or rank < last[0]:
                last = rank, failed
            if not trip.may_repeat or is_silent:
                break
            is_silent = isinstance(failed, GatewayError) and failed.outcome in SILENCE
            insist = not was_probe and perf_counter() - began < INSIST_SECONDS
        assert last is not None, "the loop ends after a failure only"
        if isinstance(last[1], GatewayError):
            raise last[1]
        if last[1].status == 200:
            record.outcome = "upstream_error"  # told by the upstream's own stream
        await self._deliver(ask, sink, watch, began, last[1], last[1].key, trip.model)

    def _can_hold(self, response: Response) -> bool:
        """Whether its start may be read ahead of the caller: a plain stream of events."""
        # httpx loses what a read had that is cancelled.
        if response.status != 200 or self.config.transport != "own":
            return False
        headers = dict(response.headers)
        return (
            headers.get("content-type", "").lower().startswith("text/event-stream")
            and headers.get("content-encoding", "identity") == "identity"
        )

    async def _trip(self, ask: ForwardAsk, lookup: Mapping[str, str], watch: Deadline) -> "_Trip":
        """Whose key it is, and what of the body can be sent twice."""
        rule = ask.rule
        own, in_header = self.own_key(rule, lookup, ask)
        body: AsyncIterator[bytes] | bytes | None = None
        if ask.body is not None:
            body = _counted(ask.body, self.config.limits.upload_bytes, ask.record, watch)
            if own is None and ask.length is not None and ask.length <= _REPEATED_BYTES:
                body = b"".join([piece async for piece in body])
        # Web sessions are accounts: what is asked of one means nothing to another.
        bound = own is not None or bool(lookup.get("x-auth-id")) or rule.pool in WEB_SESSIONS
        return _Trip(
            own=own,
            wanted=lookup.get("x-auth-id") or (await self._owner(ask) if own is None else None),
            in_header=in_header,
            body=body,
            model=_model(ask.path, body) if own is None else "",
            may_repeat=not bound and (body is None or isinstance(body, bytes)),
            id=random.random(),
        )

    async def _owner(self, ask: ForwardAsk) -> str | None:
        """The session that has the conversation this path is about, as far as that is known."""
        found = ask.rule.conversation(ask.path)
        if found is None or self.conversations is None or self.pool.size(ask.rule.pool) < 2:
            return None
        return await self.conversations.owner(ask.rule.pool, found)

    async def _turn(
        self,
        trip: "_Trip",
        ask: ForwardAsk,
        lookup: Mapping[str, str],
        tried: set[str],
        insist: bool,
    ) -> Lease:
        if trip.own is not None:
            return Lease(trip.own)
        return await next_turn(
            self.pool,
            self.sessions,
            self.config.timeouts.first_event,
            ask.rule.pool,
            wanted=trip.wanted,
            model=trip.model,
            tried=tried,
            call=trip.id,
            body_bytes=len(trip.body) if isinstance(trip.body, bytes) else 0,
            insist=insist,
        )

    async def _deliver(
        self,
        ask: ForwardAsk,
        sink: ForwardSink,
        watch: Deadline,
        began: float,
        response: Response,
        key: Key,
        model: str,
        held: bytes = b"",
    ) -> GatewayError | None:
        """The answer, as it comes; `held` was read of it before. Returns the error that it told
        inside its stream."""
        loop, record = asyncio.get_running_loop(), ask.record
        reading: Reading | None = None
        if key.id and response.status >= 400 and ask.method != "HEAD" and not _is_large(response):
            # An upstream may quote the key it refuses; this one is the operator's.
            if not isinstance(response, _Refusal):
                response = await _refusal(response, key)
            response.hide_secrets()
            if response.status in (400, 404) and ask.rule.lives_elsewhere(model):
                response.add(f" The gateway's own chat, which has this model, is at {_chat(ask)}.")
        try:
            record.status = response.status
            record.first_event_ms = round((perf_counter() - began) * 1000, 3)
            watch.first, watch.seen = False, loop.time()
            headers = self._downward(response.headers, ask, key)
            if key.id and response.status >= 400:
                headers = [(name, redact(value)) for name, value in headers]
            headers.append(("x-attempts", str(record.attempts)))
            has_body = ask.method != "HEAD" and response.status not in (204, 304)
            rewrite = _rewrite(ask)
            if rewrite is not None and has_body and response.status == 200:
                reply = await read_whole(response, self.config.limits.response_bytes)
                body = rewrite(reply.body)
                headers = [h for h in headers if h[0] not in ("content-encoding", "content-length")]
                headers.append(("content-length", str(len(body))))
                record.bytes_out = len(body)
                await sink.start(200, headers, True)
                await sink.send(body)
                watch.stop()
                await sink.end()
                return None
            await sink.start(response.status, headers, has_body)
            if not has_body:
                return None
            if ask.method == "POST" and response.status == 200:
                reading = Reading(
                    dict(response.headers),
                    is_chat=_IS_CHAT(ask.path) is not None,
                    max_bytes=self.config.limits.response_bytes,
                )
            while data := held or await response.read():
                held = b""
                watch.seen = watch.told = loop.time()
                record.bytes_out += len(data)
                if reading is not None:
                    reading.add(data)
                watch.sending = True
                await sink.send(data)
                watch.sending = False
        finally:
            if reading is not None:
                _count(reading, ask)
            await response.close()
        watch.stop()
        await sink.end()
        told, is_whole = reading.ending() if reading is not None else (None, True)
        if told:
            error = as_error(told)
            record.outcome, record.code = "upstream_error", error.code or ""
            return error
        if not is_whole:
            record.outcome, record.code = "upstream_cut", "upstream_cut"
        return None

    async def _renew_if_told(
        self,
        renewed: Callable[[Key, list[str], int], Key | None],
        key: Key,
        headers: Headers,
    ) -> None:
        lines = [value for name, value in headers if name == "set-cookie"]
        changed = renewed(key, lines, int(time())) if lines else None
        if changed is not None and self.sessions is not None:
            await self.sessions.renew(changed)

    def outgoing(
        self,
        ask: ForwardAsk,
        key: Key,
        own_header: bool,
        body: AsyncIterator[bytes] | bytes | None,
        lookup: Mapping[str, str],
    ) -> UpstreamRequest:
        """The request as the upstream gets it with this key. `own_header`: the caller's headers
        carry it as they are."""
        rule = ask.rule
        if _is_websocket(ask, lookup):
            raise GatewayError(
                501,
                "Websockets are not forwarded; use the HTTP form of this API.",
                code="websocket_not_supported",
                headers=(("x-should-retry", "false"),),
            )
        path = safe_path(ask.path)
        headers = upward(ask.headers, lookup)
        query = ask.query
        if rule.credential_query and query:
            query = "&".join(
                part for part in query.split("&") if _name(part) not in rule.credential_query
            )
        if rule.via == "browser":  # what a browser says of itself must fit how it connects
            headers = [(n, v) for n, v in headers if not _is_of_the_browser(n.lower())]
        if own_header:  # a placeholder beside it would be refused as a second, wrong credential
            headers = [
                (n, v)
                for n, v in headers
                if n.lower() not in rule.credential_headers or bare_token(v)
            ]
        else:
            headers = [(n, v) for n, v in headers if n.lower() not in rule.credential_headers]
            headers += rule.credential(key, lookup, self.config)
        if _rewrite(ask) is not None:  # what is to be read here must be readable
            headers = [(n, v) for n, v in headers if n.lower() != "accept-encoding"]
            headers.append(("Accept-Encoding", "identity"))
        headers += [(n, v) for n, v in rule.defaults(self.config) if n not in lookup]
        if ask.length is not None and body is not None and not isinstance(body, bytes):
            headers.append(("Content-Length", str(ask.length)))
        url = rule.base(self.config).rstrip("/") + rule.upstream_prefix + path
        return UpstreamRequest(
            method=ask.method,
            url=f"{url}?{query}" if query else url,
            headers=headers,
            body=body,
            via=rule.via,
            proxy=rule.proxy(self.config) or self.config.proxy_url or None,
        )

    def own_key(
        self, rule: ForwardRule, lookup: Mapping[str, str], ask: ForwardAsk
    ) -> tuple[Key | None, bool]:
        """The caller's own key or None for the pool's; whether their headers carry it as it is."""
        if rule.own is not None:
            if value := bare_token(rule.own(lookup)):
                return Key(rule.pool, "", value), False
            ask.caller.need_keys()
            if rule.anonymous and not self.pool.size(rule.pool):
                return Key(rule.pool, "", ""), False
            return None, False
        for name in rule.credential_headers:
            if token := bare_token(lookup.get(name, "")):
                if rule.moves(name, token):
                    return Key(rule.pool, "", token), False
                return Key(rule.pool, "", "caller"), True
        for name, value in parse_qsl(ask.query) if rule.credential_query else ():
            if name in rule.credential_query and bare_token(value):
                return Key(rule.pool, "", value), False
        ask.caller.need_keys()
        return None, False

    def _downward(self, headers: Headers, ask: ForwardAsk, key: Key) -> Headers:
        rule = ask.rule
        dropped = _NOT_DOWN | _named_by_connection(dict(headers))
        if key.id:
            dropped |= frozenset(rule.private_headers)
        base = rule.base(self.config).rstrip("/") + rule.upstream_prefix
        out = []
        for name, value in headers:
            if name in ("x-request-id", "request-id") and not ask.record.upstream_request_id:
                ask.record.upstream_request_id = value
                out.append(("x-upstream-request-id", value))
            if name in dropped or name.startswith("cf-"):
                continue
            elif name in _ADDRESSES and value.startswith(base):
                # An address of the upstream would lead the caller past the gateway.
                out.append((name, ask.public + rule.prefix + value[len(base) :]))
            else:
                out.append((name, value))
        if key.id:
            out.append(("x-auth-id", key.id))
        return out


class _Trip(Struct):
    """What the attempts of one request share."""

    own: Key | None
    wanted: str | None  # the id of the key that must serve it
    in_header: bool
    body: AsyncIterator[bytes] | bytes | None
    model: str
    may_repeat: bool
    id: float  # tells this request from others


class _Refusal:
    """A refusal that was read, to be passed on as it came should no other key do better."""

    def __init__(self, response: Response, key: Key, body: bytes) -> None:
        self.status, self.headers, self.key = response.status, response.headers, key
        self.named = dict(response.headers)
        self._response = response
        self._read: bytes = body
        self.plain = b""
        with suppress(GatewayError):
            self.plain = decode_body(body, dict(response.headers), _REFUSAL_BYTES)

    def reply(self) -> UpstreamReply:
        return UpstreamReply(self.status, self.named, self.plain)

    def hide_secrets(self) -> None:
        text = self.plain.decode("utf-8", "surrogateescape")
        if (clean := redact(text)) != text:
            self._replace(clean.encode("utf-8", "surrogateescape"))

    def add(self, advice: str) -> None:
        """A sentence of our own behind the upstream's message, where it is in OpenAI's shape."""
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            told = msgspec.json.decode(self.plain)
            error = told.get("error") if isinstance(told, dict) else None
            if isinstance(error, dict) and isinstance(message := error.get("message"), str):
                error["message"] = message + advice
                self._replace(msgspec.json.encode(told))

    def _replace(self, plain: bytes) -> None:
        self.plain = self._read = plain
        told = [h for h in self.headers if h[0] not in ("content-encoding", "content-length")]
        self.headers = [*told, ("content-length", str(len(plain)))]

    async def read(self) -> bytes:
        body, self._read = self._read, b""
        return body

    async def close(self) -> None:
        await self._response.close()


def _may_mean_the_key(response: Response, outcome: Outcome) -> bool:
    """Google and xAI refuse a key with 400, Anthropic an account."""
    return outcome in OTHER_KEY_MAY_DO or (response.status == 400 and not _is_large(response))


def _is_large(response: Response) -> bool:
    """Its length is told, and too much to hold."""
    length = dict(response.headers).get("content-length", "0")
    return not length.isdecimal() or int(length) > _REFUSAL_BYTES


async def _opening(response: Response) -> tuple[bytes, GatewayError | None]:
    """The start of a stream up to its first word, and the error that it may tell instead.

    Raises GatewayError when it breaks off before. A caller is not kept waiting for long.
    """
    held = bytearray()
    stage = Stage.WAITING
    try:
        async with asyncio.timeout(_HELD_SECONDS):
            while stage is not Stage.SAID and len(held) < MAX_HELD_BYTES:
                data = await response.read()
                if not data:
                    if stage is Stage.BEGUN:
                        raise upstream_cut("The upstream's stream ended before it said anything")
                    break
                held += data
                end = max(held.rfind(b"\n\n") + 2, held.rfind(b"\r\n\r\n") + 4)
                if end >= 4:
                    stage, failure = look(bytes(held[:end]))
                    if failure is not None:
                        return bytes(held), as_error(failure)
    except TimeoutError:
        pass
    except BaseException:
        await response.close()
        raise
    return bytes(held), None


async def _refusal(response: Response, key: Key) -> _Refusal:
    pieces: list[bytes] = []
    left = _REFUSAL_BYTES
    try:
        while left > 0 and (piece := await response.read()):
            pieces.append(piece)
            left -= len(piece)
    finally:
        await response.close()
    if left <= 0:
        raise bad_response(f"The upstream's refusal (HTTP {response.status}) has no end.")
    return _Refusal(response, key, b"".join(pieces))


def _chat(ask: ForwardAsk) -> str:
    return f"{ask.public}/c/v1"


# What is asked for as a websocket: OpenAI's and Gemini's live conversations.
_LIVE = re.compile(r"(?:realtime|responses)/?|ws/.*").fullmatch


def _is_websocket(ask: ForwardAsk, lookup: Mapping[str, str]) -> bool:
    """Any other Upgrade is an offer that a server may ignore (RFC 9110, section 7.8)."""
    return (
        "upgrade" in lookup
        and ask.method == "GET"
        and "upgrade" in _named_by_connection(lookup)
        and "websocket" in _listed(lookup["upgrade"])
        and _LIVE(ask.path) is not None
    )


def _lookup(ask: ForwardAsk) -> dict[str, str]:
    return {name.lower(): value for name, value in reversed(ask.headers)}


class _Named(Struct):
    model: str = ""


_named = msgspec.json.Decoder(_Named)
# Paths of which each POST is an answer of a model, with tokens that somebody pays for.
_IS_ANSWER = re.compile(
    r"(?:^|/)(?:completions|responses|messages|models/[^/]+:(?:streamG|g)enerateContent)/?$"
).search
_IS_CHAT = re.compile(r"(?:^|/)chat/completions/?$").search


def _count(reading: Reading, ask: ForwardAsk) -> None:
    """The tokens of an answer, guessed where it does not tell them."""
    record, usage = ask.record, reading.usage()
    if usage is not None:
        record.prompt_tokens, record.completion_tokens = (
            usage.prompt_tokens,
            usage.completion_tokens,
        )
    elif record.bytes_out and _IS_ANSWER(ask.path):
        record.prompt_tokens = guess_tokens(record.bytes_in)
        record.completion_tokens = guess_answered(record.bytes_out, is_stream=reading.is_stream)


_MODEL_IN_PATH = re.compile(r"(?:^|/)models/([^/:?]+)")


def _model(path: str, body: object) -> str:
    """Which model is asked, as far as a glance tells: limits are told per model."""
    if found := _MODEL_IN_PATH.search(path):
        return found[1]
    if isinstance(body, bytes) and body.lstrip()[:1] == b"{":
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return _named.decode(body).model
    return ""


def _rewrite(ask: ForwardAsk) -> Callable[[bytes], bytes] | None:
    rule = ask.rule
    return rule.rewrite(ask.path, ask.public + rule.prefix) if rule.rewrite is not None else None


def upward(headers: Headers, lookup: Mapping[str, str]) -> Headers:
    """The caller's headers without what must not travel on."""
    dropped = _NOT_UP | _named_by_connection(lookup)
    return [
        (name, value)
        for name, value in headers
        if (low := name.lower()) not in dropped and not low.startswith("x-forwarded-")
    ]


def _is_of_the_browser(name: str) -> bool:
    return name in ("user-agent", "accept-encoding") or name.startswith(("sec-ch-", "sec-fetch-"))


def _named_by_connection(lookup: Mapping[str, str]) -> frozenset[str]:
    return _listed(lookup.get("connection", ""))


def _listed(value: str) -> frozenset[str]:
    return frozenset(name.strip().lower() for name in value.split(",") if name.strip())


def _name(part: str) -> str:
    return unquote_to_bytes(part.partition("=")[0].replace("+", " ")).decode("latin-1")


_CONTROL = re.compile(r"[\x00-\x20\x7f\\#]")
_DOTS = re.compile(rb"\xc0[\xae\xaf]|\xe0\x80[\xae\xaf]|\xf0\x80\x80[\xae\xaf]")  # overlong . and /


def safe_path(path: str) -> str:
    """`path` unchanged, or GatewayError 400 when, in any encoding, it climbs out of its prefix."""
    seen, raw = path.encode("latin-1", "replace"), b""
    bad = bool(_CONTROL.search(path)) or not path.isascii()
    for _ in range(8):  # encodings may be nested; what still changes after eight is an attack
        raw, seen = seen, unquote_to_bytes(seen)
        if raw == seen:
            break
    else:
        bad = True
    segments = re.split(rb"[/\\]", seen)
    if any(s.split(b";")[0].strip() in (b".", b"..") for s in segments):
        bad = True
    if bad or _DOTS.search(seen) or b"\x00" in seen or b"\n" in seen or b"\r" in seen:
        raise GatewayError(
            400,
            "This path cannot be forwarded: it has dot segments, backslashes or control characters",
            code="bad_path",
        )
    return path


async def _counted(
    body: AsyncIterator[bytes], max_bytes: int, record: CallRecord, watch: Deadline | None
) -> AsyncIterator[bytes]:
    """The upload, counted: routes that stream have no other limit."""
    loop = asyncio.get_running_loop()
    async for piece in body:
        record.bytes_in += len(piece)
        if record.bytes_in > max_bytes:
            raise GatewayError(
                413,
                f"The upload is larger than limits.upload_bytes ({max_bytes}).",
                code="request_too_large",
            )
        if watch is not None:
            watch.seen = loop.time()
        yield piece
