"""An upstream that breaks off at any byte: a whole answer with its end, or one error and no end.

Each provider is asked once for real, of the simulator; what it got is then served again, cut at
every place, as a reset connection and as one that ends as if all was well.
"""

import asyncio
import json
import re
from collections import Counter

import pytest

from app.clients import Clients
from app.config.schema import (
    Bing,
    Claude,
    Config,
    Coze,
    CozeApiChat,
    CozeBot,
    CozeDiscord,
    GoogleGemini,
    OpenAI,
)
from app.engine.call import ChatCall, Target
from app.engine.chat_call import Exchange
from app.pool.key_pool import KeyPool
from app.state.shared_table import SharedState
from app.telemetry.call_log import CallRecord
from app.wire.errors import GatewayError, upstream_cut
from tests.calls import CHAT, DIRECTORY, asked_of
from tests.engine.fakes import FakeClients, FakeResponse, FakeSink, ListLog

DISCORD = b"""event: asked\ndata: {"bot_id":"B"}\n
event: reply\ndata: {"id":"R","text":"Hel"}\n
event: reply\ndata: {"id":"R","text":"Hello, world","is_done":true}\n
"""


def config_for(url: str) -> Config:
    return Config(
        openai=OpenAI(api_url=f"{url}/openai", chat_web_url=f"{url}/chatgpt"),
        claude=Claude(api_url=f"{url}/claude", web_url=f"{url}/claude-web"),
        google_gemini=GoogleGemini(api_url=f"{url}/gemini"),
        bing=Bing(web_url=f"{url}/bing", ws_url=f"{url.replace('http', 'ws', 1)}/bing"),
        coze=Coze(
            api_url=f"{url}/coze",
            api_chat=CozeApiChat(bots=[CozeBot(bot_id="73790001", user="u1", access_token="pat")]),
            discord=CozeDiscord(enable=True, chat_bot_token="t", coze_bot=["B"], auth=["a"]),
        ),
    )


class Kept:
    """One answer as it comes, which keeps its pieces."""

    def __init__(self, response, is_websocket):
        self.status, self.headers = response.status, response.headers
        self.is_websocket = is_websocket
        self.pieces: list[bytes] = []
        self._response = response

    async def read(self):
        data = await self._response.read()
        if data:
            self.pieces.append(data)
        return data

    async def send(self, data):
        await self._response.send(data)

    async def close(self):
        await self._response.close()


class Recorder(Clients):
    """Goes out for real and keeps what came back, in the order in which it was asked for."""

    def __init__(self):
        super().__init__(5)
        self.kept: list[Kept] = []

    async def open(self, request):
        self.kept.append(Kept(await super().open(request), request.via == "websocket"))
        return self.kept[-1]


class Player(FakeResponse):
    async def send(self, data):
        pass


# What to ask, with the caller's own key: then there is no other, and none rests.
OWN = {
    "openai": ({"model": "replay-chat-stream-usage"}, {"authorization": "Bearer sk-mine"}),
    "claude": ({"model": "claude/replay-api-text"}, {"authorization": "Bearer sk-ant-api03-me"}),
    "claude-tools": (
        {"model": "claude/replay-api-tool-use"},
        {"authorization": "Bearer sk-ant-api03-me"},
    ),
    "gemini": ({"model": "gemini/replay-sse-text"}, {"x-goog-api-key": "AIza-mine"}),
    "coze": (
        {"model": "coze-api", "provider": "coze"},
        {"authorization": "Bearer pat_mine", "x-bot-id": "73790001", "x-auth-id": "u1"},
    ),
    "chatgpt-web": (
        {"model": "gpt-4o", "provider": "openai-chat-web"},
        {"authorization": "Bearer web-mine"},
    ),
    "chatgpt-web-elsewhere": (
        {"model": "gpt-wss", "provider": "openai-chat-web"},
        {"authorization": "Bearer web-mine"},
    ),
    "claude-web": (
        {"model": "claude-sonnet-4-5", "provider": "claude", "claude": {"type": "web"}},
        {"authorization": "Bearer mine"},
    ),
    "bing": ({"model": "Balanced", "provider": "bing"}, {}),
    "coze-discord": ({"model": "coze-discord", "provider": "coze"}, {}),
}


async def ask(exchange, what, stream):
    """Runs the call to its end. The sink is handed back even when the call raises: it is empty."""
    members, headers = OWN[what]
    body = {"messages": [{"role": "user", "content": "hi"}], "stream": stream} | members
    if not stream:  # of answers that are not streamed the simulator has its own
        body["model"] = re.sub(r"replay-.*", "m", body["model"])
    raw = json.dumps(body).encode()
    asked = asked_of(raw)
    provider, model, _ = DIRECTORY.choose(asked.provider, asked.model, asked)
    sink = FakeSink()
    ask = ChatCall(
        target=Target(provider, model, asked.model),
        front=CHAT,
        asked=asked,
        headers=headers,
        record=CallRecord(request_id="r", route="t"),
    )
    await exchange.run(ask, sink)
    return sink


async def record(what, url, stream):
    """The answers that a whole call gets, in order."""
    if what == "coze-discord":
        kept = Kept(FakeResponse(), False)
        kept.pieces.append(DISCORD)
        return [kept]
    config, clients = config_for(url), Recorder()
    exchange = Exchange(config, clients, KeyPool(config, SharedState()), ListLog())
    try:
        await ask(exchange, what, stream)
    finally:
        await clients.close()
    return clients.kept


def cut_points(pieces, is_websocket):
    """Every place to break off at: between any two bytes, or between two messages."""
    if is_websocket:
        return [pieces[:n] for n in range(len(pieces))]
    whole = b"".join(pieces)
    return [[whole[:n]] for n in range(len(whole))]


def text_of(sink):
    """All that was said, tool calls with their arguments."""
    if sink.whole is not None:
        message = json.loads(sink.whole)["choices"][0]["message"]
        calls = message.get("tool_calls") or []
        return (message["content"] or "") + "".join(each["function"]["arguments"] for each in calls)
    said = ""
    for line in sink.body.splitlines():
        if line.startswith(b"data: {"):
            for choice in json.loads(line[6:])["choices"]:
                said += choice["delta"].get("content") or ""
                for each in choice["delta"].get("tool_calls") or ():
                    said += each["function"].get("arguments") or ""
    return said


def judge(sink, error, counts):
    """Exactly one of three endings."""
    body = sink.body
    done = body.count(b"data: [DONE]")
    errors = len(re.findall(rb'^data: \{"error":', body, re.MULTILINE))
    if error is not None:
        assert not sink.started and sink.whole is None and error.status >= 400
        counts["refused"] += 1
    elif sink.whole is not None:
        assert json.loads(sink.whole)["choices"][0]["finish_reason"]
        counts["whole"] += 1
    elif done:
        assert done == 1 and errors == 0 and body.endswith(b"data: [DONE]\n\n") and sink.ended
        assert b'"finish_reason":"' in body.replace(b": ", b":")
        counts["whole"] += 1
    else:
        assert errors == 1 and sink.ended, body[-300:]
        last = body.rstrip().rpartition(b"\n\n")[2]
        assert last.startswith(b'data: {"error":'), body[-300:]
        counts["broken"] += 1


async def play(what, url, stream, step):
    """Serves the answer again for every place to break off at; how often, and what came of it."""
    kept = await record(what, url, stream)
    config, log, counts = config_for(url), ListLog(), Counter()
    texts = set()
    script: list[Player] = []
    clients = FakeClients(lambda _: script.pop(0) if script else Player(500))
    pool = KeyPool(config, SharedState())
    exchange = Exchange(config, clients, pool, log)
    broken = max(range(len(kept)), key=lambda n: (kept[n].is_websocket, n))
    answer = kept[broken]  # those before it are about the way to it
    places = cut_points(answer.pieces, answer.is_websocket)
    for place in (*places[:: 1 if answer.is_websocket else step], answer.pieces):
        for ending in ([upstream_cut()], []):  # a reset; a proper end
            script[:] = [Player(each.status, each.headers, each.pieces) for each in kept]
            script[broken] = Player(answer.status, answer.headers, [*place, *ending])
            for id in ("discord", ""):
                pool.reset("coze.discord", id)
            error, whole = None, counts["whole"]
            try:
                sink = await ask(exchange, what, stream)
            except GatewayError as caught:
                error, sink = caught, FakeSink()
            judge(sink, error, counts)
            assert place is not answer.pieces or counts["whole"] > whole, "all was said"
            if counts["whole"] > whole:
                texts.add(text_of(sink))
            said = log.records[-1].outcome
            assert (said == "complete") == (counts["whole"] > whole), (said, place)
            await asyncio.sleep(0)  # farewells to the upstream
    await exchange.slow_work.close()
    assert len(texts) == 1 and texts.pop(), "what is whole is always the same"
    return log, counts


@pytest.mark.parametrize(
    "step", [17, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(300)])]
)
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("what", OWN)
def test_a_break_at_any_byte_is_told_as_one(simulator, what, stream, step):
    log, counts = asyncio.run(play(what, simulator.url, stream, step))
    print(what, dict(counts))
    assert len(log.records) == counts.total()
    assert counts["whole"] and counts["refused"] + counts["broken"]
    assert counts["broken"] or not stream
