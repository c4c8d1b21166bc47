"""The OpenAI API as a provider, for OpenAI bodies and for those of any other front.

An OpenAI body goes on as it came but for the gateway's own members; the answer is passed on byte
for byte. Any other is translated by `request`, and the answer by `decode`. Shapes and errors:
OpenAI's published API document and its official client.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET

from app.config.schema import Config
from app.wire.asked import Asked
from app.wire.chat import read_members
from app.wire.errors import GatewayError, bad_response
from app.wire.provider import Call, ForwardRule, Key, Native, Provider
from app.wire.refusals import Refusal, read_refusal
from app.wire.retry_after import retry_after_header
from app.wire.surrogates import mend
from app.wire.upstream import Headers, UpstreamReply, UpstreamRequest, join_url
from providers.openai.schema import KeyChoice, ModelList
from providers.openai.translated import translated

POOL = "openai.api_keys"
_USAGE = b'"stream_options":{"include_usage":true},'
# Upstreams that refused the above -> until when it is left out (Unix s).
_refuse_usage: dict[str, int] = {}
_REFUSED_SECONDS = 3600
# Request headers of the caller that are passed on.
_PASSED_UP = (
    "openai-organization",
    "openai-project",
    "openai-beta",
    "idempotency-key",
    "x-client-request-id",
    "user-agent",
)
# They name the operator's account, not the caller's.
_PRIVATE = ("openai-organization", "openai-project")


def read(asked: Asked) -> bytes:
    """The caller's bytes without the gateway's members; the very same bytes when there are none."""
    if not asked.own_names:
        return asked.body
    members = read_members(asked.body)
    kept = {name: value for name, value in members.items() if name not in asked.own_names}
    return msgspec.json.encode(kept)


def adds_usage(call: Call) -> bool:
    """Whether usage is asked for on behalf of a caller who streams and says nothing about it."""
    if not call.stream or call.asked.options.stream_options is not UNSET:
        return False
    return _refuse_usage.get(call.config.openai.api_url, 0) <= call.now


def retry(call: Call, reply: UpstreamReply) -> UpstreamRequest | None:
    """The same again without asking for usage, where a compatible upstream does not know that."""
    if reply.status not in (400, 422) or b"stream_options" not in reply.body:
        return None
    if not adds_usage(call):
        return None
    _refuse_usage[call.config.openai.api_url] = call.now + _REFUSED_SECONDS
    return native_request(call)


def native_request(call: Call) -> UpstreamRequest:
    """A chat body as it came, but for the gateway's members and the model's prefix."""
    body: bytes = call.chat
    if call.model != call.asked.model:
        # The caller wrote openai/gpt-...: the prefix was for us.
        members = read_members(body)
        members["model"] = msgspec.Raw(msgspec.json.encode(call.model))
        body = msgspec.json.encode(members)
    if adds_usage(call):
        at = body.index(b"{") + 1
        body = b"".join((body[:at], _USAGE, body[at:]))
    return _post(call, body)


def _post(call: Call, body: bytes) -> UpstreamRequest:
    headers: Headers = [
        ("Authorization", f"Bearer {call.key.val}"),
        ("Content-Type", "application/json"),
        ("Accept", "text/event-stream" if call.stream else "application/json"),
        ("Accept-Encoding", "identity"),  # a compressor would hold events back
    ]
    lookup = call.headers
    for name in _PASSED_UP:
        value = lookup.get(name)
        if value is not None:
            headers.append((name, value))
    return UpstreamRequest(
        method="POST",
        url=join_url(call.config.openai.api_url, "/v1/chat/completions"),
        headers=headers,
        body=body,
        proxy=call.config.openai.proxy_url or call.config.proxy_url or None,
    )


_BAD_KEY = re.compile(
    r"Incorrect API key provided|API key (not valid|not found|expired)", re.IGNORECASE
)


def _is_bad_key(found: Refusal) -> bool:
    """xAI and Google's OpenAI layer refuse a key with 400."""
    return found.code == "invalid_api_key" or _BAD_KEY.match(found.message) is not None


def read_error(reply: UpstreamReply) -> GatewayError:
    """The upstream's own error, untouched where it has OpenAI's shape; edge pages summed up."""
    status = reply.status
    headers = reply.headers
    retry_after = retry_after_header(headers)
    if 300 <= status < 400:
        return GatewayError(
            502,
            "The upstream redirects; set the address it really has in openai.api_url.",
            code="upstream_redirect",
        )
    told = status if status <= 511 else 503 if status == 529 else 502
    found = read_refusal(reply.body)
    if status == 400 and reply.body.lstrip()[:1] in (b"{", b"[") and _is_bad_key(found):
        refused = found.message or "The upstream does not accept this API key."
        return GatewayError(401, refused, code="invalid_api_key")
    if not found.message and not found.code:
        what = "Too many requests" if status == 429 else "The upstream failed"
        what = "The request is too large for the upstream" if status == 413 else what
        return GatewayError(
            told, f"{what} (HTTP {status}, no JSON error).", code=None, retry_after=retry_after
        )
    error = GatewayError(
        told,
        found.message or f"The upstream answered HTTP {status} without a message.",
        type=found.type,
        code=found.code,
        param=found.param,
        retry_after=retry_after,
    )
    error.raw = mend(reply.body) if found.is_strict else found.body(error.message, error.type)
    return error


def index(asked: Asked) -> str | None:
    """`openai: {index}` or the older `{conversation: {index}}` name a key by id."""
    choice = asked.member("openai", KeyChoice)
    if choice is None:
        return None
    return choice.index or (choice.conversation.index if choice.conversation else None)


def _credential(key: Key, headers: Mapping[str, str], config: Config) -> Headers:
    return [("Authorization", f"Bearer {key.val}")]


def _proxy(config: Config) -> str:
    return config.openai.proxy_url


def _base(config: Config) -> str:
    return config.openai.api_url


def _base_of(call: Call) -> str:
    return call.config.openai.api_url


def models_request(config: Config, key: Key) -> UpstreamRequest:
    """Asks for the list of models."""
    return UpstreamRequest(
        method="GET",
        url=join_url(config.openai.api_url, "/v1/models"),
        headers=[("Authorization", f"Bearer {key.val}"), ("Accept-Encoding", "gzip")],
        proxy=config.openai.proxy_url or config.proxy_url or None,
    )


def read_models(reply: UpstreamReply) -> list[dict[str, Any]]:
    """The models of the reply, unknown members included. Raises GatewayError 502 for no list."""
    try:
        models = msgspec.json.decode(reply.body, type=ModelList).data
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise bad_response("OpenAI's list of models is not readable.") from None
    return [model for model in models if isinstance(model.get("id"), str)]


PROVIDER = Provider(
    name="openai-api",
    family="openai",
    pool=POOL,
    **translated(_base_of, _post),
    read_error=read_error,
    native=Native(
        wire="openai-chat",
        read=read,
        request=native_request,
        retry=retry,
        adds_usage=adds_usage,
    ),
    index=index,
    models_request=models_request,
    read_models=read_models,
)

FORWARDS = tuple(
    ForwardRule(
        prefix=prefix,
        upstream_prefix=prefix,
        provider="openai-api",
        family="openai",
        pool=POOL,
        base=_base,
        proxy=_proxy,
        credential=_credential,
        private_headers=_PRIVATE,
        read_error=read_error,
    )
    for prefix in ("/v1/", "/dashboard/")
)
