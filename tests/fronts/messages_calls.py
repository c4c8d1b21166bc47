"""Calls of the Messages front as the engine makes them."""

import json
from typing import Any

from app.config.schema import Config
from app.engine.call import dropped_names, plan
from app.wire.asked import Asked
from app.wire.chat import ChatRequest
from app.wire.front import Incoming
from app.wire.provider import Call, Key, Provider
from tests.calls import FRONTS, counted_ids

MESSAGES = FRONTS["anthropic"]
HI = [{"role": "user", "content": "hi"}]


class _State:
    """As much of an engine's `CallState` as a plan reads."""

    def __init__(self, asked: Asked) -> None:
        self.call = self
        self.asked = asked
        self.chat = chat_of(asked)

    def neutral(self) -> ChatRequest:
        return self.chat


def asked_of(body: dict[str, Any] | bytes, headers: dict[str, str] | None = None) -> Asked:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return MESSAGES.glance(
        Incoming(path="/c/v1/messages", params={}, query="", headers=headers or {}, body=raw)
    )


def chat_of(asked: Asked | dict[str, Any]) -> ChatRequest:
    asked = asked if isinstance(asked, Asked) else asked_of(asked)
    assert MESSAGES.read is not None
    return MESSAGES.read(asked)


def sent(
    provider: Provider, body: dict[str, Any] | bytes, model: str, **more: Any
) -> tuple[dict[str, Any], list[str], Call]:
    """The upstream's body, the names that were dropped, and the call."""
    asked = asked_of(body, more.get("headers"))
    state = _State(asked)
    call = Call(
        config=more.get("config", Config()),
        asked=asked,
        chat=plan(MESSAGES, provider).read(state),
        key=Key(provider.pool, "10001", "s3cret"),
        model=model,
        stream=asked.stream,
        headers=more.get("headers") or {},
        now=1_780_000_000,
        new_id=counted_ids(),
    )
    upstream = json.loads(provider.request(call).body)
    return upstream, dropped_names(state.chat, provider, MESSAGES, call.dropped), call
