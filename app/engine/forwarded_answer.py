"""The answer that comes back: refusals, the held start of a stream, delivery to the caller.

Bytes are delivered as they came, compressed ones included. Two kinds of bodies are not: one that
the rule rewrites, and a refusal of one of the pool's keys, in which secrets are redacted. The
upstream's cookies are removed, and the headers that concern its own edge.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from time import perf_counter

import msgspec

from app.clients import Response, read_whole
from app.clients.decompress import decode_body
from app.config.schema import Config
from app.engine.answer_observer import AnswerObserver
from app.engine.forward_call import ForwardCall, ForwardState
from app.engine.forwarded_request import (
    HOP_BY_HOP,
    body_rewrite,
    header_names,
    is_chat,
    named_by_connection,
)
from app.pool.outcomes import OTHER_KEY_MAY_DO, Outcome, of_error, of_refusal, of_status
from app.state.rate_windows import guess_answered, guess_tokens
from app.telemetry.redaction import redact
from app.wire.errors import GatewayError, bad_response, upstream_cut
from app.wire.provider import Key
from app.wire.refusals import as_error
from app.wire.stream_start import MAX_HELD_BYTES, Stage, look
from app.wire.upstream import Headers, UpstreamReply
from app.wire.usage_chunk import UsageCutter

REFUSAL_BYTES = 256 * 1024  # of a refusal's body: more is not read
HOLD_SECONDS = 5.0  # how long the start of a stream is held until it carries a piece of an answer

# About the upstream's edge and its hold on a browser: not the caller's business.
_NOT_DELIVERED = HOP_BY_HOP | header_names(
    """set-cookie set-cookie2 alt-svc strict-transport-security server nel report-to expect-ct
    access-control-allow-origin access-control-allow-methods access-control-allow-headers
    access-control-allow-credentials access-control-expose-headers access-control-max-age
    content-security-policy x-request-id sec-websocket-accept sec-websocket-extensions
    sec-websocket-protocol"""
)
# Answer headers that may hold an address of the upstream.
_ADDRESSES = ("location", "content-location", "x-goog-upload-url", "x-goog-upload-control-url")
# Paths of which each POST is an answer of a model, with tokens that somebody pays for.
# Whether a path is one that a model answers.
is_answer = re.compile(
    r"(?:^|/)(?:completions|responses|messages|models/[^/]+:(?:streamG|g)enerateContent)/?$"
).search


class Refusal:
    """An answer that was read here and refuses the key, or fails before it says anything.

    It has the members of a Response, so that it can be delivered if no other key does better.
    `outcome`, `error_status` and `words` are what it means for the key.
    """

    def __init__(
        self, response: Response, key: Key, body: bytes, error: GatewayError | None = None
    ) -> None:
        self.status, self.headers, self.key = response.status, response.headers, key
        self.named = dict(response.headers)
        self._response = response
        self._read: bytes = body
        self.plain = b""  # the body without its content encoding; empty if that cannot be undone
        with suppress(GatewayError):
            self.plain = decode_body(body, self.named, REFUSAL_BYTES)
        self.outcome = of_status(self.status) if error is None else of_error(error)
        self.error_status = self.status if error is None else error.status
        self.words = "" if error is None else error.message

    def judge(self, read_error: Callable[[UpstreamReply], GatewayError]) -> None:
        """Sets `outcome` and `words` from what the provider reads in the refusal."""
        error = read_error(UpstreamReply(self.status, self.named, self.plain))
        self.outcome, self.words = of_refusal(error, self.named), error.message

    def hide_secrets(self) -> None:
        """Redacts secrets in the body: an upstream may quote the key it refuses."""
        text = self.plain.decode("utf-8", "surrogateescape")
        if (clean := redact(text)) != text:
            self._replace(clean.encode("utf-8", "surrogateescape"))

    def add(self, advice: str) -> None:
        """Appends `advice` to the upstream's message where the body has OpenAI's error shape."""
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            body = msgspec.json.decode(self.plain)
            error = body.get("error") if isinstance(body, dict) else None
            if isinstance(error, dict) and isinstance(message := error.get("message"), str):
                error["message"] = message + advice
                self._replace(msgspec.json.encode(body))

    def _replace(self, plain: bytes) -> None:
        self.plain = self._read = plain
        kept = [h for h in self.headers if h[0] not in ("content-encoding", "content-length")]
        self.headers = [*kept, ("content-length", str(len(plain)))]

    async def read(self) -> bytes:
        """The whole body at the first call, b"" at the second."""
        body, self._read = self._read, b""
        return body

    async def close(self) -> None:
        """Closes the response that the refusal was read from."""
        await self._response.close()


def may_concern_key(response: Response, outcome: Outcome) -> bool:
    """Whether the body must be read to judge the key.

    Google and xAI refuse a key with status 400, Anthropic an account.
    """
    return outcome in OTHER_KEY_MAY_DO or (response.status == 400 and not _is_large(response))


def _is_large(response: Response) -> bool:
    """Whether its Content-Length says that it is too much to read here."""
    length = dict(response.headers).get("content-length", "0")
    return not length.isdecimal() or int(length) > REFUSAL_BYTES


async def read_refusal(response: Response, key: Key) -> Refusal:
    """Reads a refusal to its end and closes it. Raises GatewayError if it is cut or too long."""
    pieces: list[bytes] = []
    left = REFUSAL_BYTES
    try:
        while left > 0 and (piece := await response.read()):
            pieces.append(piece)
            left -= len(piece)
    finally:
        await response.close()
    if left <= 0:
        raise bad_response(f"The upstream's refusal (HTTP {response.status}) has no end.")
    return Refusal(response, key, b"".join(pieces))


def can_hold(response: Response, config: Config) -> bool:
    """Whether its start may be read before it is delivered: a plain stream of events."""
    # httpx loses what a read had that is cancelled.
    if response.status != 200 or config.transport != "own":
        return False
    headers = dict(response.headers)
    return (
        headers.get("content-type", "").lower().startswith("text/event-stream")
        and headers.get("content-encoding", "identity") == "identity"
    )


async def hold_start(response: Response, key: Key) -> tuple[Refusal | None, bytes]:
    """Reads a stream until it carries a piece of an answer, for HOLD_SECONDS at the most.

    Returns what was read, to be delivered first; or a Refusal, if the stream tells an error that
    another key may not meet. Raises GatewayError if the stream breaks off before that.
    """
    held = bytearray()
    stage, failure = Stage.WAITING, None
    try:
        async with asyncio.timeout(HOLD_SECONDS):
            while failure is None and stage is not Stage.SAID and len(held) < MAX_HELD_BYTES:
                data = await response.read()
                if not data:
                    if stage is Stage.BEGUN:
                        raise upstream_cut("The upstream's stream ended before it said anything")
                    break
                held += data
                end = max(held.rfind(b"\n\n") + 2, held.rfind(b"\r\n\r\n") + 4)
                if end >= 4:
                    stage, failure = look(bytes(held[:end]))
    except TimeoutError:
        pass
    except BaseException:
        await response.close()
        raise
    if failure is not None and of_error(error := as_error(failure)) in OTHER_KEY_MAY_DO:
        await response.close()
        return Refusal(response, key, bytes(held), error), b""
    return None, bytes(held)


async def deliver(
    state: ForwardState, response: Response, key: Key, config: Config, held: bytes = b""
) -> GatewayError | None:
    """Sends an answer to the caller as it comes; `held` was read of it before.

    Returns the error that the answer tells inside its stream, if any. Raises GatewayError if the
    upstream breaks off.
    """
    call, sink, deadline, record = state.call, state.sink, state.deadline, state.call.record
    if key.id and response.status >= 400 and call.method != "HEAD" and not _is_large(response):
        response = await _redacted(state, response, key)
    observer: AnswerObserver | None = None
    is_read = False
    try:
        status = record.status = response.status
        record.first_event_ms = round((perf_counter() - state.began) * 1000, 3)
        deadline.first, deadline.seen = False, deadline.time()
        named = dict(response.headers)
        headers = answer_headers(call, response, named, key, config) + state.notes
        has_body = call.method != "HEAD" and status not in (204, 304)
        if status == 200 and has_body and (rewrite := body_rewrite(call)) is not None:
            await _deliver_rewritten(state, response, headers, rewrite, config)
            return None
        await sink.start(status, headers, has_body)
        if not has_body:
            return None
        if call.method == "POST" and status == 200:
            observer = AnswerObserver(
                named,
                is_chat=is_chat(call.path) is not None,
                max_bytes=config.limits.response_bytes,
            )
        cutter = None
        if state.unasked is not None and observer is not None and observer.is_stream:
            cutter = UsageCutter() if "content-length" not in named else None
        # Here, not in a coroutine of its own: each one that is waited through costs at every piece.
        read, send, time = response.read, sink.send, deadline.time
        data = held or await read()
        while data:
            deadline.seen = deadline.told = time()
            if observer is not None:
                observer.add(data)
            if cutter is not None:
                data = cutter.feed(data)
            if data:
                record.bytes_out += len(data)
                deadline.sending = True
                await send(data)
                deadline.sending = False
            data = await read()
        is_read = True
        if cutter is not None and (data := cutter.finish()):
            record.bytes_out += len(data)
            await send(data)
    except asyncio.CancelledError:
        is_left = deadline.why is None and not deadline.sending
        if is_left and observer is not None and observer.is_stream and observer.counts_all():
            record.outcome = "complete"  # OpenAI's SDKs close the connection at [DONE]
        raise
    finally:
        if observer is not None:
            _record_tokens(observer, call, is_read)
        await response.close()
    deadline.stop()
    await sink.end()
    return None if observer is None else _record_ending(observer, call)


async def _redacted(state: ForwardState, response: Response, key: Key) -> Refusal:
    """A refusal of one of the pool's keys, without the operator's secrets."""
    call = state.call
    refusal = response if isinstance(response, Refusal) else await read_refusal(response, key)
    refusal.hide_secrets()
    if refusal.status in (400, 404) and call.rule.lives_elsewhere(state.model):
        chat = f"{call.public}/c/v1"
        refusal.add(f" The gateway's own chat, which has this model, is at {chat}.")
    return refusal


async def _deliver_rewritten(
    state: ForwardState,
    response: Response,
    headers: Headers,
    rewrite: Callable[[bytes], bytes],
    config: Config,
) -> None:
    """Sends a body that holds the upstream's own addresses with the gateway's in their place."""
    reply = await read_whole(response, config.limits.response_bytes)
    body = rewrite(reply.body)
    headers = [h for h in headers if h[0] not in ("content-encoding", "content-length")]
    headers.append(("content-length", str(len(body))))
    state.call.record.bytes_out = len(body)
    await state.sink.start(200, headers, True)
    await state.sink.send(body)
    state.deadline.stop()
    await state.sink.end()


def answer_headers(
    call: ForwardCall, response: Response, named: Mapping[str, str], key: Key, config: Config
) -> Headers:
    """The headers of the answer as the caller gets them. `named` are the upstream's by name."""
    rule, record = call.rule, call.record
    dropped = _NOT_DELIVERED
    if "connection" in named:
        dropped |= named_by_connection(named)
    if key.id and rule.private_headers:
        dropped |= frozenset(rule.private_headers)
    base = rule.base(config).rstrip("/") + rule.upstream_prefix
    headers = []
    for name, value in response.headers:
        if name in ("x-request-id", "request-id") and not record.upstream_request_id:
            record.upstream_request_id = value
            headers.append(("x-upstream-request-id", value))
        if name in dropped or name.startswith("cf-"):
            continue
        if name in _ADDRESSES and value.startswith(base):
            # An address of the upstream would lead the caller past the gateway.
            headers.append((name, call.public + rule.prefix + value[len(base) :]))
        else:
            headers.append((name, value))
    if key.id:
        headers.append(("x-auth-id", key.id))
        if response.status >= 400:
            headers = [(name, redact(value)) for name, value in headers]
    headers.append(("x-attempts", str(record.attempts)))
    return headers


def _record_tokens(observer: AnswerObserver, call: ForwardCall, is_read: bool) -> None:
    """Writes the tokens of an answer into the record, guessed where it does not count them; and
    its model, where the request was not looked at."""
    record, usage = call.record, observer.usage()
    record.model = record.model or observer.model()
    answered = guess_answered(record.bytes_out, is_stream=observer.is_stream)
    if usage is not None and (usage.prompt_tokens or usage.completion_tokens):
        if observer.is_stream and not is_read and not observer.counts_all():
            record.count_broken_off(usage, answered)
        else:
            record.count(usage)
    elif record.bytes_out and is_answer(call.path):
        record.estimate(guess_tokens(record.bytes_in), answered)


def _record_ending(observer: AnswerObserver, call: ForwardCall) -> GatewayError | None:
    """Writes into the record how a delivered stream ended; returns the error that it told."""
    record = call.record
    failure, is_whole = observer.ending()
    if failure:
        error = as_error(failure)
        record.outcome, record.code = "upstream_error", error.code or ""
        return error
    if not is_whole:
        record.outcome, record.code = "upstream_cut", "upstream_cut"
    return None
