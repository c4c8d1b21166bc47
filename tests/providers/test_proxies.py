"""Each provider has its own way out: the Go original took clients from one pool, whatever proxy
their last user had set."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from app.config.schema import Claude, Config, GeminiKeyEntry, GoogleGemini, KeyEntry, OpenAI
from app.engine.forward_call import ForwardCall
from app.engine.reverse_proxy import ReverseProxy
from app.pool.key_pool import KeyPool
from app.state.shared_table import SharedState
from app.telemetry.call_log import CallRecord
from app.wire.provider import Key
from tests.calls import DIRECTORY, asked_of, call_of, request_of
from tests.engine.fakes import FakeClients, FakeResponse, ListLog

KEYS = [KeyEntry(id="1", val="a-key")]
GEMINI_KEYS = [GeminiKeyEntry(id="1", val="a-key")]
PROXIES = {
    "openai": "http://openai.proxy:1",
    "claude": "http://claude.proxy:2",
    "gemini": "http://gemini.proxy:3",
}


def config(common: str = "", **own: str) -> Config:
    return Config(
        proxy_url=common,
        openai=OpenAI(api_keys=KEYS, proxy_url=own.get("openai", "")),
        claude=Claude(api_keys=KEYS, proxy_url=own.get("claude", "")),
        google_gemini=GoogleGemini(api_keys=GEMINI_KEYS, proxy_url=own.get("gemini", "")),
    )


def chat_proxy(name: str, settings: Config) -> str | None:
    body = json.dumps(
        {"provider": name, "model": "m", "messages": [{"role": "user", "content": "x"}]}
    )
    read = asked_of(body.encode())
    provider, model, _ = DIRECTORY.choose(read.provider, read.model, read)
    headers: Mapping[str, str] = {}
    call = call_of(
        provider,
        read.body,
        config=settings,
        key=Key(provider.pool, "1", "a-key"),
        model=model,
        headers=headers,
        now=1,
    )
    assert provider.models_request is not None
    listing = provider.models_request(settings, call.key).proxy
    request = request_of(provider, call)
    assert request.proxy == listing
    return request.proxy


class Nobody:
    """A caller who does not listen."""

    started = False

    async def start(self, status: int, headers: Any, has_body: bool) -> None: ...

    async def send(self, data: bytes) -> None: ...

    async def end(self) -> None: ...

    def abort(self) -> None: ...


def forward_proxy(prefix: str, settings: Config) -> str | None:
    clients = FakeClients(lambda request: FakeResponse())
    pool = KeyPool(settings, SharedState())
    call = ForwardCall(
        rule=next(rule for rule in DIRECTORY.forwards if rule.prefix == prefix),
        method="GET",
        path="x",
        query="",
        headers=[],
        body=None,
        length=None,
        public="http://gw",
        record=CallRecord(request_id="r", route="t"),
    )
    asyncio.run(ReverseProxy(settings, clients, pool, ListLog()).run(call, Nobody()))
    return clients.requests[0].proxy


@pytest.mark.parametrize(
    ("common", "own"),
    [
        ("", {}),
        ("", PROXIES),
        ("", {"claude": PROXIES["claude"]}),
        ("http://common.proxy:9", {"gemini": PROXIES["gemini"]}),
    ],
)
def test_every_call_goes_out_by_its_own_providers_proxy(common, own):
    settings = config(common, **own)
    prefixes = {"openai": "/v1/", "claude": "/claude/api/", "gemini": "/gemini/"}
    for name in ("openai", "claude", "gemini", "openai", "gemini", "claude"):
        wanted = own.get(name) or common or None
        assert chat_proxy(name, settings) == wanted
        assert forward_proxy(prefixes[name], settings) == wanted
