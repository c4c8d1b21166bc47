"""A Bing call as the engine would hand it over, with its conversation already made."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from msgspec import structs

from app.config.schema import Config
from app.wire.provider import Call, Key
from providers.bing import schema, web
from providers.bing.question import Learned
from tests.calls import call_of

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
        given = {"messages": [{"role": "user", "content": "Hi"}]} | (body or {})
        return call_of(
            web.PROVIDER,
            given,
            config=msgspec.convert({"bing": bing or {}}, Config),
            key=Key("bing", "", ""),
            model=model,
            stream=True,
            now=1_700_000_000,
            learned=conversation and Learned(structs.replace(conversation), is_start),
        )

    return make
