"""A raw reverse proxy: any method, any body, no parsing, no buffering.

Bytes travel as they are, compressed ones included (only a rule's `rewrite` touches a body: it puts
the gateway's address in place of the upstream's own). What does not travel: hop-by-hop headers, the
caller's cookies and address, the gateway's own headers, the upstream's Set-Cookie.
After the first byte a cut upstream is made to look cut: the caller's connection is aborted.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from time import perf_counter, time
from typing import Protocol
from urllib.parse import parse_qsl, unquote_to_bytes

from msgspec import Struct

from app.access import OPERATOR, Caller
from app.clients import Clients, read_whole
from app.key_pool import KeyPool, bare_token
from app.logs import CallLog, CallRecord
from app.open_calls import OpenCalls
from app.sessions import Sessions
from app.watch import Watch
from app.wire.errors import GatewayError
from app.wire.provider import ForwardRule, Key
from app.wire.settings import Config
from app.wire.upstream import Headers, UpstreamRequest


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
    content-security-policy x-request-id request-id"""
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
    ) -> None:
        self.config, self.clients, self.pool, self.log = config, clients, pool, log
        self.sessions = sessions
        self.calls = OpenCalls()

    async def run(self, ask: ForwardAsk, sink: ForwardSink) -> None:
        """Carries one request through. Raises GatewayError only while nothing has been sent."""
        record = ask.record
        began = perf_counter()
        watch = Watch(self.config.timeouts, total=float("inf"))
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
            record.outcome, record.status = "gateway_error", 500
            if sink.started:
                sink.abort()
            raise
        finally:
            self.calls.discard(watch)
            await watch.stop()
            if error is not None:
                record.outcome = error.outcome if error.outcome != "error" else "upstream_error"
                record.code = error.code or ""
                record.status = record.status or error.status
            record.total_ms = round((perf_counter() - began) * 1000, 3)
            self.log.write(record)
        if error is not None:
            if not sink.started:
                raise error
            sink.abort()

    async def _pipe(self, ask: ForwardAsk, sink: ForwardSink, watch: Watch, began: float) -> None:
        loop, record = asyncio.get_running_loop(), ask.record
        rule = ask.rule
        request, key = self.outgoing(ask, watch)
        record.key_id = key.id
        record.attempts += 1
        response = await self.clients.open(request)
        try:
            self.pool.report(key, response.status)
            if rule.renewed is not None and key.id:
                await self._renew_if_told(rule.renewed, key, response.headers)
            record.status = response.status
            record.first_event_ms = round((perf_counter() - began) * 1000, 3)
            watch.first, watch.seen = False, loop.time()
            headers = self._downward(response.headers, ask, key)
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
                await watch.stop()
                await sink.end()
                return
            await sink.start(response.status, headers, has_body)
            if not has_body:
                return
            while data := await response.read():
                watch.seen = watch.told = loop.time()
                record.bytes_out += len(data)
                watch.sending = True
                await sink.send(data)
                watch.sending = False
        finally:
            await response.close()
        await watch.stop()
        await sink.end()

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

    def outgoing(self, ask: ForwardAsk, watch: Watch | None = None) -> tuple[UpstreamRequest, Key]:
        """The request as the upstream gets it, and the key it travels with."""
        rule = ask.rule
        lookup = {name.lower(): value for name, value in reversed(ask.headers)}
        if lookup.get("upgrade", "").lower() == "websocket":
            raise GatewayError(
                501,
                "Websockets are not forwarded; use the HTTP form of this API.",
                code="websocket_not_supported",
                headers=(("x-should-retry", "false"),),
            )
        path = safe_path(ask.path)
        key, own_header = self._key(rule, lookup, ask)
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
        if ask.length is not None and ask.body is not None:
            headers.append(("Content-Length", str(ask.length)))
        url = rule.base(self.config).rstrip("/") + rule.upstream_prefix + path
        body = ask.body
        if body is not None:
            body = _counted(body, self.config.limits.upload_bytes, ask.record, watch)
        request = UpstreamRequest(
            method=ask.method,
            url=f"{url}?{query}" if query else url,
            headers=headers,
            body=body,
            via=rule.via,
            proxy=rule.proxy(self.config) or self.config.proxy_url or None,
        )
        return request, key

    def _key(
        self, rule: ForwardRule, lookup: Mapping[str, str], ask: ForwardAsk
    ) -> tuple[Key, bool]:
        """The key, and whether the caller's own headers carry it as they are."""
        if rule.own is not None:
            if value := bare_token(rule.own(lookup)):
                return Key(rule.pool, "", value), False
            ask.caller.need_keys()
            if rule.anonymous and not self.pool.size(rule.pool):
                return Key(rule.pool, "", ""), False
            key = self.pool.pick(rule.pool, lookup.get("x-auth-id"))
            return (self.sessions.current(key) if self.sessions is not None else key), False
        for name in rule.credential_headers:
            if token := bare_token(lookup.get(name, "")):
                if rule.moves(name, token):
                    return Key(rule.pool, "", token), False
                return Key(rule.pool, "", "caller"), True
        for name, value in parse_qsl(ask.query) if rule.credential_query else ():
            if name in rule.credential_query and bare_token(value):
                return Key(rule.pool, "", value), False
        ask.caller.need_keys()
        return self.pool.pick(rule.pool, lookup.get("x-auth-id")), False

    def _downward(self, headers: Headers, ask: ForwardAsk, key: Key) -> Headers:
        rule = ask.rule
        dropped = _NOT_DOWN | _named_by_connection(dict(headers))
        if key.id:
            dropped |= frozenset(rule.private_headers)
        base = rule.base(self.config).rstrip("/") + rule.upstream_prefix
        out = []
        for name, value in headers:
            if name in ("x-request-id", "request-id"):
                ask.record.upstream_request_id = value
                out.append(("x-upstream-request-id", value))
            elif name in dropped or name.startswith("cf-"):
                continue
            elif name in _ADDRESSES and value.startswith(base):
                # An address of the upstream would lead the caller past the gateway.
                out.append((name, ask.public + rule.prefix + value[len(base) :]))
            else:
                out.append((name, value))
        if key.id:
            out.append(("x-auth-id", key.id))
        return out


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
    value = lookup.get("connection", "")
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
    body: AsyncIterator[bytes], max_bytes: int, record: CallRecord, watch: Watch | None
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
