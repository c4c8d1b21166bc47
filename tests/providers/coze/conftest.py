"""A chat call as the engine would hand it over, with a counting id source."""

from collections.abc import Callable
from itertools import count
from typing import Any

import msgspec
import pytest

from app.config.schema import Config
from app.wire.chat import read_chat, read_envelope
from app.wire.provider import Call, Key

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
        raw = msgspec.json.encode(body)
        ids = count(1)
        return Call(
            config=msgspec.convert({"coze": coze or {}}, Config),
            envelope=read_envelope(raw),
            body=raw,
            chat=read_chat(raw),
            key=key or Key("coze.bots", "u1/7379", "pat_secret", BOT),
            model="coze-api",
            stream=True,
            headers=headers or {},
            now=1_700_000_000,
            new_id=lambda: f"{next(ids):032x}",
        )

    return make
