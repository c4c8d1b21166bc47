"""A Bing call as the engine would hand it over, with its conversation already made."""

from collections.abc import Callable
from itertools import count
from typing import Any

import msgspec
import pytest
from msgspec import structs

from app.config.schema import Config
from app.wire.chat import read_envelope
from app.wire.provider import Call, Key
from providers.bing import schema, web
from providers.bing.question import Learned

CONVERSATION = schema.Conversation("51D|BingProd|00", "c1", "s+/=", "t1")


@pytest.fixture
def make_call() -> Callable[..., Call]:
    def make(
        body: dict[str, Any] | None = None,
        *,
        bing: dict[str, Any] | None = None,
        model: str = "gpt-4",
        conversation: schema.Conversation | None = CONVERSATION,
        is_start: bool = True,
    ) -> Call:
        raw = msgspec.json.encode({"messages": [{"role": "user", "content": "Hi"}]} | (body or {}))
        ids = count(1)
        return Call(
            config=msgspec.convert({"bing": bing or {}}, Config),
            envelope=read_envelope(raw),
            body=raw,
            chat=web.read(raw),
            key=Key("bing", "", ""),
            model=model,
            stream=True,
            headers={},
            now=1_700_000_000,
            new_id=lambda: f"{next(ids):032x}",
            learned=conversation and Learned(structs.replace(conversation), is_start),
        )

    return make
