"""A kept conversation goes on: with its key where that serves, at the website where it lives."""

import asyncio
import json
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from app.config.schema import Config, KeyEntry, Upstream
from app.engine.call import ChatCall, Target
from app.engine.chat_call import Exchange
from app.pool.key_pool import KeyPool
from app.pool.outcomes import Outcome
from app.state.shared_table import SharedState
from app.telemetry.call_log import CallRecord
from app.wire.asked import Asked
from app.wire.errors import GatewayError
from app.wire.front import Incoming
from app.wire.kept import Kept, Maker
from providers.directory import Directory
from providers.openai import web
from tests.calls import FRONTS
from tests.engine.fakes import FakeClients, FakeResponse, FakeSink, ListLog
from tests.engine.test_web_chat_call import POOL, Site, bad
from tests.providers.openai.web_framings import deltas

FRONT = FRONTS["openai-responses"]
CHAIN = "resp_gw" + "1" * 32
DIGITS = "1" * 32


def item(role: str, text: str) -> Raw:
    return Raw(msgspec.json.encode({"type": "message", "role": role, "content": text}))


def asked_of(maker: Maker, **members: Any) -> Asked:
    """The second turn of a conversation whose first one this maker has answered."""
    body = {"model": "m", "input": "And now?", "previous_response_id": CHAIN, **members}
    raw = json.dumps(body).encode()
    asked = FRONT.glance(Incoming("/c/v1/responses", {}, {}, {}, raw))
    first = Kept(CHAIN, None, [item("user", "I am Ada.")], [item("assistant", "Hi.")], Raw(b"{}"))
    asked.kept, asked.maker = {CHAIN: first}, maker
    return asked


# --- any pool's key ------------------------------------------------------------------------------


class Host:
    """A host of the chat wire with three keys; `used` are those it was asked with."""

    def __init__(self) -> None:
        keys = [KeyEntry(id=name, val=f"sk-{name}") for name in "abc"]
        entry = Upstream(name="host", api_url="http://host/v1", api_keys=keys)
        config = Config(upstreams=[entry])
        self.provider = Directory(config).choose("host", "m").provider
        self.refused: set[str] = set()
        self.used: list[str] = []
        self.pool = KeyPool(config, SharedState())
        self.exchange = Exchange(config, FakeClients(self.answer), self.pool, ListLog())

    def answer(self, request: Any) -> FakeResponse:
        key = dict(request.headers)["Authorization"].removeprefix("Bearer sk-")
        self.used.append(key)
        json_type = [("content-type", "application/json")]
        if key in self.refused:
            return FakeResponse(429, json_type, [b'{"error":{"message":"slow"}}'])
        choice = {"index": 0, "message": {"content": "Ada."}, "finish_reason": "stop"}
        return FakeResponse(200, json_type, [json.dumps({"choices": [choice]}).encode()])

    def ask(self, asked: Asked, **headers: str) -> None:
        call = ChatCall(
            front=FRONT,
            target=Target(self.provider, "m", "host/m"),
            asked=asked,
            headers=headers,
            record=CallRecord(request_id="r", route="t"),
        )
        asyncio.run(self.exchange.run(call, FakeSink()))


def test_the_key_that_has_answered_before_is_asked_again():
    host = Host()
    for _ in range(12):
        host.ask(asked_of(Maker("upstreams.host", "b")))
    assert host.used == ["b"] * 12


def test_another_one_answers_while_it_rests():
    host = Host()
    host.refused = {"b"}
    for _ in range(6):
        host.ask(asked_of(Maker("upstreams.host", "b")))
    assert host.used.count("b") == 1 and len(host.used) == 7


@pytest.mark.parametrize("maker", [Maker("upstreams.host", "gone"), Maker("other", "b")])
def test_a_key_that_is_none_any_more_is_not_missed(maker):
    host = Host()
    host.ask(asked_of(maker))
    assert len(host.used) == 1


def test_a_key_that_the_caller_names_wins():
    host = Host()
    for _ in range(6):
        host.ask(asked_of(Maker("upstreams.host", "b")), **{"x-auth-id": "c"})
    assert host.used == ["c"] * 6


# --- a website -----------------------------------------------------------------------------------

LIVES = {"openai": {"index": "w1", "conversation_id": "c1", "last_message_id": "m1"}}


def at(site: Site, asked: Asked, **headers: str) -> None:
    call = ChatCall(
        front=FRONT,
        target=Target(web.PROVIDER, "m", "openai-chat-web/m"),
        asked=asked,
        headers=headers,
        record=CallRecord(request_id="r", route="t"),
    )
    asyncio.run(site.exchange.run(call, FakeSink()))


def questions(site: Site) -> list[tuple[str | None, str]]:
    """The conversation and the text of each question that the site was asked."""
    sent = [json.loads(r.body) for r in site.clients.requests if r.url.endswith("/conversation")]
    return [
        (each.get("conversation_id"), each["messages"][-1]["content"]["parts"][0]) for each in sent
    ]


def test_a_conversation_goes_on_where_it_lives_with_what_is_new():
    site = Site()
    for _ in range(8):
        at(site, asked_of(Maker(POOL, "w1", LIVES)))
    assert questions(site) == [("c1", "And now?")] * 8
    assert set(site.asked()) == {"w1"}


@pytest.mark.parametrize("status", [401, 403, 429, 500])
def test_another_session_gets_the_whole_history_where_the_first_one_is_gone(status):
    site = Site(refusals={"w1": bad(status)})
    at(site, asked_of(Maker(POOL, "w1", LIVES)))
    [(conversation, text)] = questions(site)
    assert conversation is None
    assert "I am Ada." in text and "And now?" in text
    assert site.asked()[0] == "w1" and site.asked()[-1] == "w2"


def test_a_conversation_that_was_deleted_there_begins_anew():
    answers = [bad(404, "conversation not found"), lambda: FakeResponse(200, None, [deltas()])]
    site = Site(ask=lambda: answers.pop(0)())
    at(site, asked_of(Maker(POOL, "w1", LIVES)))
    [(first, _), (second, text)] = questions(site)
    assert (first, second) == ("c1", None) and "I am Ada." in text


def test_a_session_that_rests_is_not_waited_for():
    site = Site(ids=["w1", "w2"])
    lease = site.pool.pick(POOL, "w1", model="m")
    site.pool.report(lease, Outcome.LIMITED, 429, 60.0)
    site.pool.release(lease)
    at(site, asked_of(Maker(POOL, "w1", LIVES)))
    assert site.asked() == ["w2"] and "I am Ada." in questions(site)[0][1]


def test_a_session_that_is_not_configured_any_more_is_not_missed():
    site = Site(ids=["w2"])
    at(site, asked_of(Maker(POOL, "w1", LIVES)))
    assert questions(site)[0][0] is None and "I am Ada." in questions(site)[0][1]


def test_what_the_caller_says_of_the_conversation_wins():
    site = Site()
    at(site, asked_of(Maker(POOL, "w1", LIVES), openai={"index": "w2"}))
    assert site.asked() == ["w2"] and questions(site)[0][0] is None


def test_a_refusal_of_the_question_itself_is_told():
    site = Site(ask=lambda: bad(400, "no such thing")())
    with pytest.raises(GatewayError) as caught:
        at(site, asked_of(Maker(POOL, "w1", LIVES)))
    assert caught.value.status == 400 and len(questions(site)) == 1
