"""Requests and calls as the fronts and the engine make them, for tests that need no server."""

import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec.structs import replace

import providers
from app.config.schema import Config
from app.fronts import registry
from app.wire.asked import Asked
from app.wire.chat import ChatRequest
from app.wire.events import Event, Finish
from app.wire.front import Answering, Front, Incoming
from app.wire.provider import Call, Key, Provider
from app.wire.upstream import UpstreamRequest
from providers.directory import Directory

DIRECTORY = Directory(Config())  # of the built-in providers
FRONTS = {front.name: front for front in registry.fronts(providers.MEMBERS)}
CHAT = FRONTS["openai-chat"]
CLAUDE_DOOR = FRONTS["claude-openai"]
GEMINI_DOOR = FRONTS["gemini-openai"]


def asked_of(body: bytes | Mapping[str, Any], front: Front = CHAT) -> Asked:
    """The request as the front glances at it."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return front.glance(Incoming(path="/", params={}, query="", headers={}, body=raw))


def chat_of(body: bytes | Mapping[str, Any]) -> ChatRequest:
    """The neutral request of an OpenAI body."""
    assert CHAT.read is not None
    return CHAT.read(asked_of(body))


def read_by(provider: Provider, asked: Asked, *, native: bool | None = None) -> Any:
    """What the provider makes of the request; by default as the engine does it for OpenAI chat."""
    is_native = provider.native is not None and provider.native.wire == CHAT.asks
    if is_native if native is None else native:
        assert provider.native is not None
        return provider.native.read(asked)
    assert CHAT.read is not None
    return provider.read(CHAT.read(asked), asked)


def counted_ids() -> Callable[[], str]:
    """Ids that can be foreseen: the same call twice gives the same bytes."""
    numbers = itertools.count(1)
    return lambda: f"{next(numbers):032x}"


def call_of(
    provider: Provider,
    body: bytes | Mapping[str, Any],
    *,
    native: bool | None = None,
    key: Key | None = None,
    config: Config | None = None,
    model: str | None = None,
    stream: bool | None = None,
    headers: Mapping[str, str] | None = None,
    now: int = 1_780_000_000,
    new_id: Callable[[], str] | None = None,
    learned: Any = None,
) -> Call:
    """A call as the engine would hand it to the provider."""
    asked = asked_of(body)
    return Call(
        config=config or Config(),
        asked=asked,
        chat=read_by(provider, asked, native=native),
        key=key if key is not None else Key(provider.pool, "10001", "s3cret"),
        model=asked.model if model is None else model,
        stream=asked.stream if stream is None else stream,
        headers=headers or {},
        now=now,
        new_id=new_id or counted_ids(),
        learned=learned,
    )


def answering(call: Call | None = None, **more: Any) -> Answering:
    """What a renderer is told of this call."""
    asked = call.asked if call is not None else asked_of(more.pop("body", {}))
    told: dict[str, Any] = {
        "asked": asked,
        "chat": call.chat if call is not None and isinstance(call.chat, ChatRequest) else None,
        "model": call.model if call is not None else "m",
        "created": call.now if call is not None else 1,
        "new_id": call.new_id() if call is not None else "i",
        "session": {},
        "max_bytes": 16 << 20,
    }
    return Answering(**(told | more))


def request_of(provider: Provider, call: Call) -> UpstreamRequest:
    """What goes upstream for an OpenAI body."""
    native = provider.native
    if native is not None and native.wire == CHAT.asks:
        return native.request(call)
    return provider.request(call)


def without_native_words(events: Iterable[Event]) -> list[Event]:
    """The events with nothing of the upstream's own word for why it ended."""
    return [replace(e, native="") if isinstance(e, Finish) else e for e in events]
