"""A key refused in another status than 401, and a quota of one model: on chat and raw paths."""

import asyncio
import json

import pytest

from app.config.schema import Config, GeminiKeyEntry, GoogleGemini, KeyEntry, OpenAI
from app.engine.call import ChatCall, Target
from app.engine.chat_call import Exchange
from app.engine.forward_call import ForwardCall
from app.engine.reverse_proxy import ReverseProxy
from app.pool.key_pool import KeyPool
from app.state.shared_table import SharedState
from app.telemetry.call_log import CallRecord
from app.wire.errors import GatewayError
from tests.calls import CHAT, DIRECTORY, asked_of
from tests.engine.fakes import FakeClients, FakeResponse, FakeSink, ListLog
from tests.engine.test_reverse_proxy import ForwardSink

JSON = [("content-type", "application/json")]
GEMINI = {
    "candidates": [{"content": {"parts": [{"text": "ok"}]}, "finishReason": "STOP"}],
    "modelVersion": "gemini-2.5-flash",
    "responseId": "r",
}
OPENAI = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "grok-4",
    "choices": [{"index": 0, "message": {"role": "assistant"}, "finish_reason": "stop"}],
}


def google(code, message, status="INVALID_ARGUMENT", *details):
    error = {"code": code, "message": message, "status": status, "details": list(details)}
    return {"error": error}


def info(reason):
    return {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}


def quota(quota_id, **dimensions):
    failure = {
        "@type": "type.googleapis.com/google.rpc.QuotaFailure",
        "violations": [{"quotaId": quota_id, "quotaDimensions": dimensions}],
    }
    return google(429, "You exceeded your current quota.", "RESOURCE_EXHAUSTED", failure)


BAD_GOOGLE_KEYS = [
    google(400, "API Key not found. Please pass a valid API key.", "x", info("API_KEY_INVALID")),
    google(400, "API key expired. Please renew the API key."),
    [google(400, "API key not valid. Please pass a valid API key.")],
]
XAI = "Incorrect API key provided: xa***wo. You can obtain an API key from https://console.x.ai."
BAD_XAI_KEYS = [
    {"code": "Client specified an invalid argument", "error": XAI},
    {"code": "invalid-argument", "error": XAI},
    {"error": {"message": XAI, "type": "invalid_request_error", "code": None}},
    [google(400, "API key not valid. Please pass a valid API key.")],  # Gemini's OpenAI layer
    {"error": {"message": "No.", "code": "invalid_api_key"}},
]


class Bench:
    """Two keys of each pool; `answers` are what the first calls get, all later ones are good."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.config = Config(
            openai=OpenAI(
                api_url="http://up",
                api_keys=[KeyEntry(id="bad", val="bad"), KeyEntry(id="good", val="good")],
            ),
            google_gemini=GoogleGemini(
                api_url="http://up",
                api_keys=[
                    GeminiKeyEntry(id="bad", val="bad"),
                    GeminiKeyEntry(id="good", val="good"),
                ],
            ),
        )
        self.clients = FakeClients(self.answer)
        self.pool = KeyPool(self.config, SharedState())
        self.used = []
        self.log = ListLog()

    def answer(self, request):
        headers = {name.lower(): value for name, value in request.headers}
        key = headers.get("x-goog-api-key") or headers["authorization"].removeprefix("Bearer ")
        self.used.append(key)
        if self.answers:
            status, body = self.answers.pop(0)
            return FakeResponse(status, JSON, [json.dumps(body).encode()])
        if "alt=sse" in request.url:
            head = [("content-type", "text/event-stream")]
            return FakeResponse(200, head, [f"data: {json.dumps(GEMINI)}\r\n\r\n".encode()])
        body = OPENAI if "completions" in request.url else GEMINI
        return FakeResponse(200, JSON, [json.dumps(body).encode()])

    def chat(self, model, stream=False):
        raw = json.dumps(
            {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": stream}
        ).encode()
        asked = asked_of(raw)
        provider, name, _ = DIRECTORY.choose(asked.provider, asked.model, asked)
        sink = FakeSink()
        ask = ChatCall(
            target=Target(provider, name, asked.model),
            front=CHAT,
            asked=asked,
            headers={},
            record=CallRecord(request_id="r", route="t"),
        )
        exchange = Exchange(self.config, self.clients, self.pool, self.log)
        asyncio.run(exchange.run(ask, sink))
        return sink.whole or sink.body

    def forward(self, path):
        rule = next(rule for rule in DIRECTORY.forwards if path.startswith(rule.prefix))
        sent = b'{"model":"grok-4"}'

        async def body():
            yield sent

        sink = ForwardSink()
        call = ForwardCall(
            rule=rule,
            method="POST",
            path=path.removeprefix(rule.prefix),
            query="",
            headers=[],
            body=body(),
            length=len(sent),
            public="http://gw",
            record=CallRecord(request_id="r", route="t"),
        )
        proxy = ReverseProxy(self.config, self.clients, self.pool, self.log)
        asyncio.run(proxy.run(call, sink))
        return sink

    def why(self, pool):
        (bad,) = (one for one in self.pool.key_statuses() if (one.pool, one.id) == (pool, "bad"))
        return bad.why


@pytest.fixture(autouse=True)
def bad_key_first(monkeypatch):
    """Nothing is left to chance: the first key of a pool is asked first."""
    monkeypatch.setattr("app.pool.lease.Group.draw", lambda group: group.entries[0])
    monkeypatch.setattr("app.pool.key_pool.random.shuffle", lambda entries: None)


FLASH = "/gemini/v1beta/models/gemini-2.5-flash:"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("body", BAD_GOOGLE_KEYS)
def test_a_google_key_refused_with_400_is_told_by_chat_calls(body, stream):
    bench = Bench((400, body))
    assert b"ok" in bench.chat("gemini/gemini-2.5-flash", stream)
    assert bench.used == ["bad", "good"]
    assert bench.why("google_gemini.api_keys") == "refused"


@pytest.mark.parametrize(
    "path",
    [
        FLASH + "generateContent",
        FLASH + "streamGenerateContent",
        FLASH + "countTokens",
        "/gemini/v1/models/gemini-2.5-flash:embedContent",
        "/gemini/v1beta/openai/chat/completions",
    ],
)
@pytest.mark.parametrize("body", BAD_GOOGLE_KEYS)
def test_a_google_key_refused_with_400_is_told_by_raw_calls(body, path):
    bench = Bench((400, body))
    assert bench.forward(path).status == 200
    assert bench.used == ["bad", "good"]
    assert bench.why("google_gemini.api_keys") == "refused"


@pytest.mark.parametrize("body", BAD_XAI_KEYS)
def test_an_xai_key_refused_with_400_is_told_on_both_ways(body):
    bench = Bench((400, body))
    assert json.loads(bench.chat("openai/grok-4")) == OPENAI
    assert (bench.used, bench.why("openai.api_keys")) == (["bad", "good"], "refused")
    bench = Bench((400, body))
    assert bench.forward("/v1/chat/completions").status == 200
    assert (bench.used, bench.why("openai.api_keys")) == (["bad", "good"], "refused")


MISTAKES = [
    google(400, "Invalid value at 'contents[0].role': API key not valid."),
    google(400, "Please use a valid role: user, model."),
    {"code": "invalid-argument", "error": "Model not found: Incorrect API key provided"},
    {"error": {"message": "Unknown name API_KEY_INVALID", "code": "invalid_value"}},
    "Incorrect API key provided",
    [],
]


@pytest.mark.parametrize("body", MISTAKES)
def test_a_callers_mistake_is_told_as_it_is_and_rests_no_key(body):
    for path in (FLASH + "generateContent", "/v1/chat/completions"):
        bench = Bench((400, body))
        sink = bench.forward(path)
        assert (sink.status, json.loads(sink.body)) == (400, body)
        assert bench.used == ["bad"] and sink.ended
    for model in ("gemini/gemini-2.5-flash", "openai/grok-4"):
        bench = Bench((400, body))
        with pytest.raises(GatewayError):
            bench.chat(model)
        assert bench.used == ["bad"]
        assert not bench.why("google_gemini.api_keys") and not bench.why("openai.api_keys")


def test_a_raw_caller_hears_googles_own_words_when_every_key_is_bad():
    bench = Bench((400, BAD_GOOGLE_KEYS[0]), (400, BAD_GOOGLE_KEYS[0]))
    sink = bench.forward(FLASH + "generateContent")
    assert (sink.status, json.loads(sink.body)) == (400, BAD_GOOGLE_KEYS[0])


PER_MODEL = quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier", model="gemini-2.5-pro")
PER_KEY = quota("GenerateRequestsPerDayPerProject-FreeTier", location="global")


@pytest.mark.parametrize(
    "body", [PER_MODEL, quota("GenerateRequestsPerDay", model="gemini-2.5-pro"), [PER_MODEL]]
)
def test_a_models_used_up_day_leaves_the_key_to_other_models(body):
    for first in ("chat", "raw"):
        bench = Bench((429, body))
        if first == "chat":
            assert b"ok" in bench.chat("gemini/gemini-2.5-pro")
        else:
            bench.forward("/gemini/v1beta/models/gemini-2.5-pro:generateContent")
        bench.chat("gemini/gemini-2.5-pro")
        bench.chat("gemini/gemini-2.5-flash")
        bench.forward(FLASH + "generateContent")
        assert bench.used == ["bad", "good", "good", "bad", "bad"]


def test_a_projects_used_up_day_rests_the_key_for_all_models():
    for first in ("chat", "raw"):
        bench = Bench((429, PER_KEY))
        if first == "chat":
            bench.chat("gemini/gemini-2.5-pro")
        else:
            bench.forward("/gemini/v1beta/models/gemini-2.5-pro:generateContent")
        bench.chat("gemini/gemini-2.5-flash")
        assert bench.used == ["bad", "good", "good"]
        assert bench.why("google_gemini.api_keys") == "spent"
