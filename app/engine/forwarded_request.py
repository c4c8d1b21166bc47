"""The request that leaves: its address, its headers, its credential, its body.

Hop-by-hop headers, the caller's cookies and address and the gateway's own headers are removed. The
rest of the headers, the path, the query and the body are sent as they came.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from urllib.parse import parse_qsl, quote, unquote_to_bytes

import msgspec
from msgspec import Struct

from app.auth.credentials import FOREIGN_HEADERS, PROTOCOLS, bare_token, subprotocols
from app.config.schema import Config
from app.engine.deadline import Deadline
from app.engine.forward_call import ForwardCall, ForwardState
from app.pool.key_pool import KeyPool
from app.telemetry.call_log import CallRecord
from app.telemetry.trace_context import TRACEPARENT, traceparent
from app.wire.errors import GatewayError
from app.wire.provider import ForwardRule, Key
from app.wire.query import parameter_name, without
from app.wire.upstream import Headers, UpstreamRequest


def header_names(text: str) -> frozenset[str]:
    """A set of lower-case header names, written with spaces between them."""
    return frozenset(text.split())


HOP_BY_HOP = header_names(
    """connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer
    transfer-encoding upgrade http2-settings"""
)
# Who and where the caller is, and what they say to the gateway: not the upstream's business.
_NOT_SENT = HOP_BY_HOP | header_names(
    """host content-length expect cookie forwarded via x-real-ip true-client-ip cf-connecting-ip
    x-client-ip x-cluster-client-ip x-auth-id x-bot-id x-version x-access-token x-request-id
    origin referer"""
)


def upstream_request(state: ForwardState, key: Key, config: Config) -> UpstreamRequest:
    """Builds the upstream request for one key.

    Raises GatewayError 400 for a path that leaves its prefix.
    """
    call, rule, body = state.call, state.call.rule, state.body
    path = safe_path(call.path)
    query = _query(rule, call.query)
    headers = _headers(state, key, config)
    record = call.record
    if record.trace_id and rule.via == "api" and config.traces.propagate:
        headers = [pair for pair in headers if pair[0].lower() != TRACEPARENT]
        headers.append((TRACEPARENT, traceparent(record)))
    if call.length is not None and body is not None and not isinstance(body, bytes):
        headers.append(("Content-Length", str(call.length)))
    url = rule.base(config).rstrip("/") + rule.upstream_prefix + path
    if call.is_websocket:
        url = "ws" + url.removeprefix("http")
    return UpstreamRequest(
        method=call.method,
        url=f"{url}?{query}" if query else url,
        headers=headers,
        body=body,
        via="websocket" if call.is_websocket else rule.via,
        proxy=rule.proxy(config) or config.proxy_url or None,
    )


def _query(rule: ForwardRule, query: str) -> str:
    """The caller's query without credentials, and with what the rule adds."""
    kept = without(query, rule.credential_query) if rule.credential_query else query
    if not rule.query:
        return kept
    said = {parameter_name(part) for part in kept.split("&")}
    added = [f"{name}={quote(value)}" for name, value in rule.query if name not in said]
    return "&".join([kept, *added] if kept else added)


def _headers(state: ForwardState, key: Key, config: Config) -> Headers:
    """The caller's headers that travel on, the credential and the rule's defaults."""
    call, rule, lookup = state.call, state.call.rule, state.lookup
    foreign = FOREIGN_HEADERS.get(rule.family, frozenset())
    dropped = _NOT_SENT | foreign | named_by_connection(lookup)
    headers = [
        (name, value)
        for name, value in call.headers
        if (low := name.lower()) not in dropped and not low.startswith("x-forwarded-")
    ]
    if call.is_websocket:
        headers = [pair for header in headers for pair in _without_keys(*header)]
    if rule.via == "browser":  # what a browser says of itself must fit how it connects
        headers = [(n, v) for n, v in headers if not _is_of_the_browser(n.lower())]
    if state.in_header:
        # A placeholder beside the credential would be refused as a second, wrong one.
        headers = [
            (n, v) for n, v in headers if n.lower() not in rule.credential_headers or bare_token(v)
        ]
    else:
        headers = [(n, v) for n, v in headers if n.lower() not in rule.credential_headers]
        headers += rule.credential(key, lookup, config)
    # What is to be read here must be readable.
    if body_rewrite(call) is not None or state.unasked is not None:
        headers = [(n, v) for n, v in headers if n.lower() != "accept-encoding"]
        headers.append(("Accept-Encoding", "identity"))
    headers += [(n, v) for n, v in rule.defaults(config) if n not in lookup]
    return headers


def callers_key(
    call: ForwardCall, lookup: Mapping[str, str], pool: KeyPool
) -> tuple[Key | None, bool]:
    """The caller's own key, and whether their headers carry it in the form the upstream takes.

    (None, False): a key of the pool is to serve the call. Raises GatewayError 401 when the caller
    may not use those.
    """
    rule = call.rule
    if rule.own is not None:
        if value := bare_token(rule.own(lookup)):
            return Key(rule.pool, "", value), False
        return _pools_key(call, pool), False
    for name in rule.credential_headers:
        if token := bare_token(lookup.get(name, "")):
            if rule.moves(name, token):
                return Key(rule.pool, "", token), False
            return Key(rule.pool, "", "caller"), True
    if call.is_websocket:
        for value in subprotocols(lookup.get(PROTOCOLS, ""))[1]:
            if token := bare_token(value):
                return Key(rule.pool, "", token), False
    query = parse_qsl(call.query) if rule.credential_query or rule.own_query else ()
    if any(name in rule.own_query and bare_token(value) for name, value in query):
        return Key(rule.pool, "", "caller"), True
    for name, value in query:
        if name in rule.credential_query and bare_token(value):
            return Key(rule.pool, "", value), False
    return _pools_key(call, pool), False


def _pools_key(call: ForwardCall, pool: KeyPool) -> Key | None:
    """None: any key of the pool; an empty key where the upstream wants none and none is there."""
    call.caller.need_keys()
    if call.rule.anonymous and not pool.size(call.rule.pool):
        return Key(call.rule.pool, "", "")
    return None


def header_lookup(headers: Headers) -> dict[str, str]:
    """Headers by lower-case name; of a repeated one the first."""
    return {name.lower(): value for name, value in reversed(headers)}


def named_by_connection(lookup: Mapping[str, str]) -> frozenset[str]:
    """Lower-case names of the headers that `Connection` declares to be hop-by-hop."""
    return _listed(lookup.get("connection", ""))


def _listed(value: str) -> frozenset[str]:
    return frozenset(name.strip().lower() for name in value.split(",") if name.strip())


def _is_of_the_browser(name: str) -> bool:
    return name in ("user-agent", "accept-encoding") or name.startswith(("sec-ch-", "sec-fetch-"))


def _without_keys(name: str, value: str) -> Headers:
    """The header, if it is the one of subprotocols without the keys among these."""
    if name.lower() != PROTOCOLS:
        return [(name, value)]
    names = subprotocols(value)[0]
    return [(name, ", ".join(names))] if names else []


def body_rewrite(call: ForwardCall) -> Callable[[bytes], bytes] | None:
    """The rule's function that rewrites the body of the answer; None: it stays as it is."""
    rule: ForwardRule = call.rule
    if rule.rewrite is None:
        return None
    return rule.rewrite(call.path, call.public + rule.prefix)


_CONTROL = re.compile(r"[\x00-\x20\x7f\\#]")
_DOTS = re.compile(rb"\xc0[\xae\xaf]|\xe0\x80[\xae\xaf]|\xf0\x80\x80[\xae\xaf]")  # overlong . and /


def safe_path(path: str) -> str:
    """Returns `path` unchanged. Raises GatewayError 400 if it leaves its prefix in any encoding."""
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


class _ModelOnly(Struct):
    model: str = ""


_model_only = msgspec.json.Decoder(_ModelOnly)
_MODEL_IN_PATH = re.compile(r"(?:^|/)models/([^/:?]+)")


def requested_model(path: str, body: object, query: str = "") -> str:
    """The model that the path, the query or a JSON body names; "" if none does.

    Upstreams limit a key per model, and so does the pool.
    """
    if found := _MODEL_IN_PATH.search(path):
        return found[1]
    for name, value in parse_qsl(query) if "model=" in query else ():
        if name == "model":
            return value
    if isinstance(body, bytes) and body.lstrip()[:1] == b"{":
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return _model_only.decode(body).model
    return ""


class _Streamed(Struct):
    stream: bool = False


_streamed = msgspec.json.Decoder(_Streamed)
is_chat = re.compile(r"(?:^|/)chat/completions/?$").search


def asks_for_usage(call: ForwardCall, body: object) -> bool:
    """Whether this is a stream whose upstream counts its tokens only if it is asked to, and whose
    caller does not ask."""
    if not (call.rule.asks_usage and isinstance(body, bytes) and b'"stream"' in body):
        return False
    if call.method != "POST" or is_chat(call.path) is None or body.lstrip()[:1] != b"{":
        return False
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = _streamed.decode(body)
        return found.stream and b'"stream_options"' not in body
    return False


async def counted_upload(
    body: AsyncIterator[bytes], max_bytes: int, record: CallRecord, deadline: Deadline
) -> AsyncIterator[bytes]:
    """Counts an upload while it passes: routes that stream have no other limit.

    Raises GatewayError 413 beyond `max_bytes`.
    """
    loop = asyncio.get_running_loop()
    async for piece in body:
        record.bytes_in += len(piece)
        if record.bytes_in > max_bytes:
            raise GatewayError(
                413,
                f"The upload is larger than limits.upload_bytes ({max_bytes}).",
                code="request_too_large",
                outcome="refused",
            )
        deadline.seen = loop.time()
        yield piece
