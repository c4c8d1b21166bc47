"""The OpenAI API as an upstream: the caller's own wire, so nothing is translated.

The body goes on as it came but for the gateway's own members; the answer is passed on byte for
byte. Shapes and errors: OpenAI's published API document and its official client.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from app.wire.chat import GATEWAY_FIELDS, Envelope, read_member, read_members
from app.wire.errors import GatewayError, bad_response
from app.wire.provider import Call, ForwardRule, Key, Provider
from app.wire.retry_after import asked
from app.wire.settings import Config
from app.wire.upstream import Headers, UpstreamReply, UpstreamRequest, join_url
from providers.openai.schema import ErrorEnvelope, KeyChoice, ModelList

POOL = "openai.api_keys"
_OWN_MEMBERS = tuple(f'"{name}"'.encode() for name in GATEWAY_FIELDS)
# What a caller's SDK says that the API wants to hear.
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


def read(body: bytes) -> bytes:
    """The caller's bytes without the gateway's members; the very same bytes when there are none."""
    for member in _OWN_MEMBERS:  # any() would cost more than all the looking
        if member in body:
            break
    else:
        return body
    members = read_members(body)
    if not any(name in members for name in GATEWAY_FIELDS):
        return body
    return msgspec.json.encode({n: v for n, v in members.items() if n not in GATEWAY_FIELDS})


def request(call: Call) -> UpstreamRequest:
    body: bytes = call.chat
    if call.envelope.model is not None and call.model != call.envelope.model:
        # The caller wrote openai/gpt-...: the prefix was for us.
        members = read_members(body)
        members["model"] = msgspec.Raw(msgspec.json.encode(call.model))
        body = msgspec.json.encode(members)
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


def read_error(reply: UpstreamReply) -> GatewayError:
    """The upstream's own error, untouched where it has OpenAI's shape; edge pages summed up."""
    status = reply.status
    headers = reply.headers
    retry_after = asked(headers)
    if 300 <= status < 400:
        return GatewayError(
            502,
            "The upstream redirects; set the address it really has in openai.api_url.",
            code="upstream_redirect",
        )
    told = status if status <= 511 else 503 if status == 529 else 502
    try:
        detail = msgspec.json.decode(reply.body, type=ErrorEnvelope).error
    except (msgspec.DecodeError, ValueError):
        what = "Too many requests" if status == 429 else "The upstream failed"
        what = "The request is too large for the upstream" if status == 413 else what
        return GatewayError(
            told, f"{what} (HTTP {status}, no JSON error).", code=None, retry_after=retry_after
        )
    error = GatewayError(
        told,
        detail.message or f"The upstream answered HTTP {status} without a message.",
        type=detail.type or "",
        code=None if detail.code is None else str(detail.code),
        param=detail.param,
        retry_after=retry_after,
    )
    error.raw = reply.body
    return error


def index(envelope: Envelope) -> str | None:
    """`openai: {index}` or the older `{conversation: {index}}` name a key by id."""
    choice = read_member(envelope.openai, KeyChoice, "openai")
    if choice is None:
        return None
    return choice.index or (choice.conversation.index if choice.conversation else None)


def _credential(key: Key, headers: Mapping[str, str], config: Config) -> Headers:
    return [("Authorization", f"Bearer {key.val}")]


def _proxy(config: Config) -> str:
    return config.openai.proxy_url


def _base(config: Config) -> str:
    return config.openai.api_url


def models_request(config: Config, key: Key) -> UpstreamRequest:
    return UpstreamRequest(
        method="GET",
        url=join_url(config.openai.api_url, "/v1/models"),
        headers=[("Authorization", f"Bearer {key.val}"), ("Accept-Encoding", "gzip")],
        proxy=config.openai.proxy_url or config.proxy_url or None,
    )


def read_models(reply: UpstreamReply) -> list[dict[str, Any]]:
    """The list as the API gives it, unknown members included."""
    try:
        models = msgspec.json.decode(reply.body, type=ModelList).data
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise bad_response("OpenAI's list of models is not readable.") from None
    return [model for model in models if isinstance(model.get("id"), str)]


PROVIDER = Provider(
    name="openai-api",
    pool=POOL,
    read=read,
    request=request,
    read_error=read_error,
    index=index,
    models_request=models_request,
    read_models=read_models,
)

FORWARDS = tuple(
    ForwardRule(
        prefix=prefix,
        upstream_prefix=prefix,
        provider="openai-api",
        pool=POOL,
        base=_base,
        proxy=_proxy,
        credential=_credential,
        private_headers=_PRIVATE,
    )
    for prefix in ("/v1/", "/dashboard/")
)
