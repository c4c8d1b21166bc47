"""Calls as the engine would make them, with a clock and ids that never change."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest

from app.config.schema import Claude, Config
from app.wire.chat import read_envelope
from app.wire.provider import Call, Key, Provider
from providers.claude.api import POOL, PROVIDER

MakeCall = Callable[..., Call]


@pytest.fixture
def make_call() -> MakeCall:
    def make(
        body: bytes | dict[str, Any],
        *,
        provider: Provider = PROVIDER,
        model: str | None = None,
        key: Key | None = None,
        headers: Mapping[str, str] | None = None,
        claude: Claude | None = None,
        **config: Any,
    ) -> Call:
        if isinstance(body, dict):
            body = msgspec.json.encode(body)
        envelope = read_envelope(body)
        ids = itertools.count(1)
        return Call(
            config=Config(claude=claude or Claude(), **config),
            envelope=envelope,
            body=body,
            chat=provider.read(body),
            key=key or Key(POOL, "10001", "sk-ant-api03-secret"),
            model=envelope.model or "" if model is None else model,
            stream=envelope.stream is True,
            headers=headers or {},
            now=1_780_000_000,
            new_id=lambda: f"{next(ids):032x}",
        )

    return make
