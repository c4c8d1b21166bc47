"""The list of models: one provider's trouble is not the others', and nobody asks twice."""

import asyncio
import json
from types import SimpleNamespace

import pytest

from app.auth.caller import Caller
from app.config.schema import (
    Claude,
    Config,
    GeminiKeyEntry,
    GoogleGemini,
    KeyEntry,
    OpenAI,
    Timeouts,
)
from app.engine.gateway import Gateway
from app.http.routes import models
from app.state.shared_table import SharedState
from app.wire.errors import GatewayError, upstream_cut
from providers.directory import Directory
from tests.engine.fakes import FakeClients, FakeResponse

JSON = [("content-type", "application/json")]
KEYS = [KeyEntry(id="1", val="a-key-of-the-pool")]
ANSWERS = {
    "openai.up": {"object": "list", "data": [{"id": "gpt-x", "object": "model", "new": 1}]},
    "claude.up": {"data": [{"id": "claude-x", "created_at": "2026-06-01T00:00:00Z"}]},
    "gemini.up": {
        "models": [
            {"name": "models/gemini-x", "supportedGenerationMethods": ["generateContent"]},
            {"name": "models/embedding-x", "supportedGenerationMethods": ["embedContent"]},
        ]
    },
}
HOSTS = {"openai": "openai.up", "claude": "claude.up", "gemini": "gemini.up"}


def good(host):
    return FakeResponse(headers=JSON, pieces=[json.dumps(ANSWERS[host]).encode()])


class Room:
    """A gateway whose upstreams answer what `instead` says, by host, or their lists."""

    def __init__(self, **instead):
        config = Config(
            openai=OpenAI(api_url="http://openai.up", api_keys=KEYS),
            claude=Claude(api_url="http://claude.up", api_keys=KEYS),
            google_gemini=GoogleGemini(
                api_url="http://gemini.up", api_keys=[GeminiKeyEntry(id="1", val="a-key")]
            ),
            timeouts=Timeouts(first_event=0.05),
        )
        self.instead = {HOSTS[name]: made for name, made in instead.items()}
        self.gateway = Gateway(config, SharedState())
        self.gateway.clients = self.clients = FakeClients(self.answer)

    def answer(self, request):
        host = request.url.split("/")[2]
        made = self.instead.get(host)
        return made() if made else good(host)

    async def list(self, **headers):
        ctx = SimpleNamespace(gateway=self.gateway, directory=Directory(self.gateway.config))
        app = SimpleNamespace(ctx=ctx)
        request = SimpleNamespace(app=app, headers=headers, ctx=SimpleNamespace(caller=Caller()))
        return await models.gather(request)


def test_each_model_says_whose_it_is_and_openais_members_stay():
    found = asyncio.run(Room().list())
    assert [(model["provider"], model["id"]) for model in found] == [
        ("openai", "gpt-x"),
        ("claude", "claude/claude-x"),  # as it can be asked
        ("gemini", "gemini/gemini-x"),
    ]
    assert found[0]["new"] == 1
    assert all(model["object"] == "model" for model in found)


TROUBLES = {
    "refused": lambda: GatewayError(502, "no", code="upstream_unreachable"),
    "401": lambda: FakeResponse(401, JSON, [b'{"error":{"message":"no"}}']),
    "429": lambda: FakeResponse(429, JSON, [b'{"error":{"message":"no"}}']),
    "500": lambda: FakeResponse(500, JSON, [b""]),
    "302": lambda: FakeResponse(302, JSON, [b""]),
    "page": lambda: FakeResponse(200, [("content-type", "text/html")], [b"<html>hello</html>"]),
    "no list": lambda: FakeResponse(200, JSON, [b'{"data":"gpt-x","models":3}']),
    "half": lambda: FakeResponse(200, JSON, [b'{"data":[{"id":']),
    "cut": lambda: FakeResponse(200, JSON, [b'{"data":[', upstream_cut()]),
    "silence": lambda: FakeResponse(200, JSON, [30, b"{}"]),
    "not text": lambda: FakeResponse(200, JSON, [b"\xff\xfe"]),
}


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("down", HOSTS)
def test_a_provider_in_trouble_is_left_out(down, trouble):
    found = asyncio.run(Room(**{down: TROUBLES[trouble]}).list())
    assert {model["provider"] for model in found} == set(HOSTS) - {down}


def test_when_all_are_down_the_caller_is_told_why():
    async def run():
        room = Room(**dict.fromkeys(HOSTS, TROUBLES["401"]))
        for _ in range(2):  # the second time from memory
            with pytest.raises(GatewayError) as caught:
                await room.list()
            assert caught.value.status == 401
        return room

    assert len(asyncio.run(run()).clients.requests) == 3


def test_many_who_ask_at_once_make_one_request_each_and_it_is_kept():
    async def run():
        room = Room()
        lists = await asyncio.gather(*(room.list() for _ in range(20)))
        assert all(each == lists[0] for each in lists)
        await room.list()
        return room

    assert len(asyncio.run(run()).clients.requests) == 3


def test_one_who_leaves_while_asking_does_not_spoil_it_for_the_others():
    async def run():
        room = Room(gemini=lambda: FakeResponse(200, JSON, [0.02, good("gemini.up").pieces[0]]))
        first = asyncio.create_task(room.list())
        second = asyncio.create_task(room.list())
        await asyncio.sleep(0.005)
        first.cancel()
        return await second

    assert len(asyncio.run(run())) == 3


def test_what_was_known_is_told_while_a_provider_is_down():
    async def run():
        room = Room()
        known = await room.list()
        room.instead["claude.up"] = TROUBLES["500"]
        for listing in room.gateway.model_lists.values():
            listing.until = 0  # the five minutes are over
        assert await room.list() == known
        return room

    assert len(asyncio.run(run()).clients.requests) == 6


def test_a_callers_own_key_lists_what_it_may_see_and_that_is_not_kept():
    async def run():
        room = Room()
        for _ in range(2):
            await room.list(authorization="Bearer sk-callers")
        return [
            r for r in room.clients.requests if ("Authorization", "Bearer sk-callers") in r.headers
        ]

    assert len(asyncio.run(run())) == 2


def test_entries_without_a_name_are_left_out():
    body = b'{"data":[{"object":"model"},{"id":5},{"id":"good"}]}'
    room = Room(openai=lambda: FakeResponse(200, JSON, [body]))
    found = asyncio.run(room.list())
    assert [model["id"] for model in found if model["provider"] == "openai"] == ["good"]
