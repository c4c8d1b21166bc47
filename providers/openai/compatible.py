"""A host of OpenAI's chat wire as a provider: made of its entry in `upstreams` and its dialect.

Source: protocol sheet openai-compatible.
"""

from urllib.parse import quote

import msgspec

from app.config.schema import Config, Upstream
from app.wire.asked import Asked
from app.wire.chat import read_members
from app.wire.dialect import Dialect
from app.wire.provider import Call, ForwardRule, Key, Native, Provider
from app.wire.upstream import Headers, UpstreamRequest
from providers.openai import api
from providers.openai.translated import translated

_PASSED_UP = ("idempotency-key", "user-agent")


def provider(upstream: Upstream, dialect: Dialect) -> Provider:
    """The upstream as a provider, called by its name."""

    def post(call: Call, body: bytes) -> UpstreamRequest:
        headers: Headers = [
            *credential(dialect, call.key),
            ("Content-Type", "application/json"),
            ("Accept", "text/event-stream" if call.stream else "application/json"),
            ("Accept-Encoding", "identity"),  # a compressor would hold events back
            *upstream.headers.items(),
        ]
        for name in _PASSED_UP:
            value = call.headers.get(name)
            if value is not None:
                headers.append((name, value))
        return UpstreamRequest(
            method="POST",
            url=address(upstream, "/chat/completions", call.model),
            headers=headers,
            body=body,
            proxy=upstream.proxy_url or call.config.proxy_url or None,
        )

    def read(asked: Asked) -> bytes:
        names = {*asked.own_names, *upstream.drop}
        if not names:
            return asked.body
        members = read_members(asked.body)
        return msgspec.json.encode({n: v for n, v in members.items() if n not in names})

    def native_request(call: Call) -> UpstreamRequest:
        body: bytes = call.chat
        if call.model != call.asked.model:
            members = read_members(body)
            members["model"] = msgspec.Raw(msgspec.json.encode(call.model))
            body = msgspec.json.encode(members)
        return post(call, body)

    def models_request(config: Config, key: Key) -> UpstreamRequest:
        path = dialect.models_path
        return UpstreamRequest(
            method="GET",
            url=path if path.startswith("http") else address(upstream, path, ""),
            headers=[
                *credential(dialect, key),
                ("Accept-Encoding", "gzip"),
                *upstream.headers.items(),
            ],
            proxy=upstream.proxy_url or config.proxy_url or None,
        )

    lists = bool(dialect.models_path)
    return Provider(
        name=upstream.name,
        family=upstream.name,
        pool=pool_of(upstream),
        **translated(lambda call: upstream.api_url, post),
        read_error=api.read_error,
        native=Native(wire="openai-chat", read=read, request=native_request),
        models_request=models_request if lists else None,
        read_models=api.read_models if lists else None,
        takes_own_key=not needs_no_key(upstream),
        anonymous=needs_no_key(upstream),
        idle_seconds=upstream.timeouts.idle or None,
        first_event_seconds=upstream.timeouts.first_event or None,
    )


def forward(upstream: Upstream, dialect: Dialect) -> ForwardRule:
    """The raw route `/upstreams/NAME/*`, which forwards to the same base address."""
    return ForwardRule(
        prefix=f"/upstreams/{upstream.name}/",
        upstream_prefix="/",
        provider=upstream.name,
        family=upstream.name,
        pool=pool_of(upstream),
        base=lambda config: upstream.api_url,
        proxy=lambda config: upstream.proxy_url,
        credential=lambda key, headers, config: credential(dialect, key),
        read_error=api.read_error,
        defaults=lambda config: list(upstream.headers.items()),
        anonymous=needs_no_key(upstream),
    )


def pool_of(upstream: Upstream) -> str:
    """The name of the pool with its keys."""
    return f"upstreams.{upstream.name}"


def needs_no_key(upstream: Upstream) -> bool:
    """Whether calls go out without a credential: its list of keys is written, and empty."""
    return upstream.api_keys is not None and not upstream.api_keys


def credential(dialect: Dialect, key: Key) -> Headers:
    """The header that holds the key; none for an empty key."""
    if not key.val:
        return []
    if dialect.auth == "api-key":
        return [("api-key", key.val)]
    return [("Authorization", f"Bearer {key.val}")]


def address(upstream: Upstream, path: str, model: str) -> str:
    """The URL of `path` below the upstream's base address."""
    url = upstream.api_url.replace("{model}", quote(model, safe="")) + path
    return f"{url}?api-version={upstream.api_version}" if upstream.api_version else url
