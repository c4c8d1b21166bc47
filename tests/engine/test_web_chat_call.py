"""Calls of several steps: what goes wrong on the way counts like a refused question."""

import asyncio
import json
from email.utils import formatdate
from time import time

import pytest

from app.config.schema import Config, OpenAI, SessionEntry
from app.engine.call import ChatCall, Target
from app.engine.chat_call import Exchange
from app.pool.conversation_owners import Conversations
from app.pool.key_pool import KeyPool
from app.state.shared_table import SharedState
from app.telemetry.call_log import CallRecord
from app.wire.errors import GatewayError
from providers.openai import web
from tests.calls import CHAT, FRONTS, asked_of
from tests.engine.fakes import FakeClients, FakeResponse, FakeSink, ListLog
from tests.providers.openai.web_framings import C1, deltas, snapshots

JSON = [("content-type", "application/json")]
REQUIREMENTS = {"token": "gAAAAABx", "persona": "chatgpt-paid"}
POOL = "openai.web_sessions"
ELSEWHERE = {"wss_url": "wss://elsewhere/?access_token=x", "conversation_id": "c1"}


def said(body, status=200, headers=()):
    return FakeResponse(status, [*JSON, *headers], [json.dumps(body).encode()])


class Site:
    """chatgpt.com in a few answers; `refusals` are for the guard's step, by token."""

    def __init__(self, ids=("w1", "w2"), refusals=None, ask=None, more=None, folder=None):
        sessions = [SessionEntry(id=id, val=f"token-{id}") for id in ids]
        self.config = Config(openai=OpenAI(chat_web_url="http://site", web_sessions=sessions))
        self.refusals, self.ask_answer = refusals or {}, ask
        self.more = more
        self.clients = FakeClients(self.answer)
        self.log = ListLog()
        self.pool = KeyPool(self.config, SharedState())
        self.conversations = Conversations(folder / "c.db") if folder else None
        self.exchange = Exchange(
            self.config, self.clients, self.pool, self.log, None, self.conversations
        )

    def answer(self, request):
        token = dict(request.headers).get("Authorization", "").removeprefix("Bearer ")
        if request.url.endswith("/chat-requirements"):
            refusal = self.refusals.get(token.removeprefix("token-"))
            return refusal() if refusal else said(REQUIREMENTS)
        if request.url.endswith("/conversation"):
            return self.ask_answer() if self.ask_answer else FakeResponse(200, None, [deltas()])
        return self.more()

    async def ask(self, front=CHAT, headers=None, **members):
        sink = FakeSink()
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}], **members}
        asked = asked_of(body, front)
        await self.exchange.run(
            ChatCall(
                front=front,
                target=Target(web.PROVIDER, "m", asked.model),
                asked=asked,
                headers=headers or {},
                record=CallRecord(request_id="r", route="t"),
            ),
            sink,
        )
        return sink

    def asked(self):
        """The ids of the sessions whose guard was asked, in order."""
        return [
            dict(request.headers)["Authorization"].removeprefix("Bearer token-")
            for request in self.clients.requests
            if request.url.endswith("/chat-requirements")
        ]

    def standing(self, id):
        return next(each for each in self.pool.key_statuses() if each.id == id)


def bad(status, detail="no", headers=()):
    return lambda: said({"detail": detail}, status, headers)


@pytest.mark.parametrize("status", [401, 403, 429, 500])
def test_a_session_refused_on_the_way_is_reported_and_another_one_answers(status):
    site = Site(refusals={"w1": bad(status)})
    for _ in range(40):
        sink = asyncio.run(site.ask(stream=True))
        assert sink.body.endswith(b"data: [DONE]\n\n")
        assert dict(sink.headers)["x-auth-id"] == "w2"
    # 403 and 500: one alone is forgiven, and the guard that said 403 is asked once more.
    assert site.asked().count("w1") <= (4 if status == 403 else 2)
    refused = site.standing("w1")
    assert refused.last_status == (502 if status == 500 else status)
    assert refused.state == "resting" or refused.models == 1
    tried = [record.tried for record in site.log.records if record.tried]
    assert {attempt.key_id for each in tried for attempt in each} == {"w1"}


@pytest.mark.parametrize("is_date", [False, True])
def test_how_long_to_stay_away_is_heard_on_the_way_too(is_date):
    value = formatdate(time() + 120, usegmt=True) if is_date else "120"
    site = Site(ids=["w1"], refusals={"w1": bad(429, headers=[("retry-after", value)])})
    for attempt in (1, 2):
        with pytest.raises(GatewayError) as refused:
            asyncio.run(site.ask())
        assert refused.value.status == 429
        assert 100 < refused.value.retry_after < 121
        assert len(site.asked()) == 1, attempt


def test_a_session_refused_on_the_way_is_told_by_its_id():
    site = Site(ids=["w1"], refusals={"w1": bad(401, {"code": "token_revoked", "message": "w"})})
    with pytest.raises(GatewayError) as refused:
        asyncio.run(site.ask())
    assert refused.value.code == "token_revoked"
    assert "w1" in refused.value.message


def test_a_challenge_on_the_way_is_nothing_a_session_rests_for():
    def page():
        headers = [("content-type", "text/html"), ("cf-mitigated", "challenge")]
        return FakeResponse(403, headers, [b"<title>Just a moment...</title>"])

    site = Site(ids=["w1"], refusals={"w1": page})
    with pytest.raises(GatewayError) as refused:
        asyncio.run(site.ask())
    assert (refused.value.code, refused.value.outcome) == (
        "cloudflare_challenge",
        "upstream_challenge",
    )
    assert site.standing("w1").why != "forbidden"


def test_what_the_site_wants_of_the_caller_is_not_the_sessions_fault():
    wants = {**REQUIREMENTS, "arkose": {"required": True}}
    site = Site(ids=["w1"], refusals={"w1": lambda: said(wants)})
    for _ in range(4):
        with pytest.raises(GatewayError) as refused:
            asyncio.run(site.ask())
        assert refused.value.code == "arkose_token_required"
    assert site.standing("w1").state == "awake"
    sink = asyncio.run(site.ask(openai={"arkose_token": "given"}))
    assert sink.whole is not None


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
def test_a_refusal_at_the_place_where_the_answer_goes_on_is_an_error(status, stream):
    later = FakeResponse(status, JSON, [snapshots()])
    site = Site(ids=["w1"], ask=lambda: said(ELSEWHERE), more=lambda: later)
    with pytest.raises(GatewayError) as refused:
        asyncio.run(site.ask(stream=stream))
    assert (refused.value.status, refused.value.code) == (502, "upstream_error")
    assert str(status) in refused.value.message
    assert "access_token" not in refused.value.message
    assert later.closed
    assert site.standing("w1").state == "awake"


NATIVE = {
    "messages": [
        {
            "id": "m1",
            "author": {"role": "user"},
            "content": {"content_type": "text", "parts": ["x"]},
        }
    ],
    "parent_message_id": "p1",
    "stream": True,
}


@pytest.mark.parametrize(
    "front", [CHAT, FRONTS["chatgpt-web-api"], FRONTS["chatgpt-web-api-openai"]]
)
def test_whose_conversation_it_is_is_remembered_whatever_language_was_spoken(front, tmp_path):
    async def main():
        site = Site(ids=[f"w{n}" for n in range(6)], folder=tmp_path)
        members = {} if front is CHAT else NATIVE
        first = await site.ask(front, **members)
        owner = dict(first.headers)["x-auth-id"]
        conversation_id = C1
        assert await site.conversations.owner(POOL, conversation_id) == owner
        if front is CHAT:
            told = {"conversation_id": conversation_id, "last_message_id": "p1"}
            members = {"openai": {"conversation": told}}
        else:
            members = {**NATIVE, "conversation_id": conversation_id}
        for _ in range(6):
            again = await site.ask(front, **members)
            assert dict(again.headers)["x-auth-id"] == owner
        if front is not CHAT:
            with pytest.raises(GatewayError) as stranger:
                await site.ask(front, **{**members, "conversation_id": "nobody-knows"})
            assert stranger.value.code == "conversation_owner_unknown"
        await site.conversations.close()

    asyncio.run(main())


@pytest.mark.parametrize("stream", [False, True])
def test_what_a_web_site_does_not_count_is_estimated_and_marked_so(stream):
    site = Site()
    asyncio.run(site.ask(stream=stream, messages=[{"role": "user", "content": "word " * 40}]))
    (record,) = site.log.records
    assert record.counted == "estimated"
    assert record.prompt_tokens > 40 and record.completion_tokens > 0
