"""A chat call as the engine would hand it over, with a counting id source."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from app.config.schema import Config
from app.wire.provider import Call, Key
from providers.coze import api
from tests.calls import call_of

BOT = {"bot_id": "7379", "user": "u1"}


@pytest.fixture
def make_call() -> Callable[..., Call]:
    def make(
        body: dict[str, Any] | None = None,
        *,
        coze: dict[str, Any] | None = None,
        key: Key | None = None,
        headers: dict[str, str] | None = None,
    ) -> Call:
        body = {"model": "coze-api", "messages": [{"role": "user", "content": "Hi"}]} | (body or {})
        return call_of(
            api.PROVIDER,
            body,
            config=msgspec.convert({"coze": coze or {}}, Config),
            key=key or Key("coze.bots", "u1/7379", "pat_secret", BOT),
            model="coze-api",
            stream=True,
            headers=headers,
            now=1_700_000_000,
        )

    return make
