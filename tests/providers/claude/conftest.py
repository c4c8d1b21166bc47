"""Calls as the engine would make them, with a clock and ids that never change."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from app.config.schema import Claude, Config
from app.wire.provider import Call, Key, Provider
from providers.claude.api import POOL, PROVIDER
from tests.calls import call_of

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
        native: bool | None = None,
        **config: Any,
    ) -> Call:
        return call_of(
            provider,
            body,
            native=native,
            config=Config(claude=claude or Claude(), **config),
            key=key or Key(POOL, "10001", "sk-ant-api03-secret"),
            model=model,
            headers=headers,
        )

    return make
