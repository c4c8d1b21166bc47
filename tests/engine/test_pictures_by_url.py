"""Pictures by URL in a whole call: for whom they are fetched, and how often."""

import asyncio

import pytest

from app.auth.caller import Caller
from app.clients import public_fetch as room
from app.wire.errors import GatewayError
from tests.engine.fakes import FakeResponse
from tests.engine.test_failover import DONE, Bench, refusal

PICTURES = [
    {"type": "image_url", "image_url": {"url": f"https://pictures.example/{name}.png"}}
    for name in "ab"
]
ASKED = {
    "model": "gemini/gemini-2.0-flash",
    "messages": [{"role": "user", "content": PICTURES}],
}
GEMINI = (
    b'data: {"candidates":[{"content":{"parts":[{"text":"hi"}],"role":"model"},'
    b'"finishReason":"STOP","index":0}],"modelVersion":"g"}\n\n'
)


def answer():
    return FakeResponse(pieces=[GEMINI])


@pytest.fixture
def fetched(monkeypatch):
    urls = []

    async def fetch(url, *, max_bytes):
        urls.append(url)
        await asyncio.sleep(0.1)
        return "image/png", b"png"

    monkeypatch.setattr(room, "fetch", fetch)
    return urls


def bench_of(answers, **more):
    return Bench(answers, ["a"], gemini_keys=("g1", "g2", "g3"), **more)


def test_pictures_are_fetched_once_a_call_and_not_once_a_key(fetched):
    order = [refusal(500), refusal(429), answer()]
    bench = bench_of(dict.fromkeys(("g1", "g2", "g3"), order))
    assert bench.run(**ASKED).endswith(DONE) and len(set(bench.used)) == 3
    assert fetched == [part["image_url"]["url"] for part in PICTURES]


def test_pictures_are_fetched_once_for_models_asked_beside_each_other(fetched):
    bench = bench_of(
        {"g1": FakeResponse(pieces=[5]), "g2": answer},
        fallbacks=["gemini/gemini-1.5-pro"],
        fallback_after=0.3,
    )
    bench.answers["g1"] = bench.answers["g3"] = bench.answers["g2"] = lambda: (
        answer() if bench.used[1:] else FakeResponse(pieces=[5])
    )
    assert bench.run(**ASKED).endswith(DONE) and len(bench.used) == 2
    assert len(fetched) == 2


def test_the_time_that_fetching_takes_is_not_the_keys(fetched):
    bench = bench_of(dict.fromkeys(("g1", "g2", "g3"), answer), first_event=0.05)
    assert bench.run(**ASKED).endswith(DONE) and bench.record.attempts == 1


def test_a_picture_that_cannot_be_had_is_the_callers_and_no_keys_fault(monkeypatch):
    urls = []

    async def fetch(url, *, max_bytes):
        urls.append(url)
        raise GatewayError(400, "none", code="image_not_fetched")

    monkeypatch.setattr(room, "fetch", fetch)
    bench = bench_of({}, fallbacks=["gemini/gemini-1.5-pro"])
    bench.answers["a"] = answer
    assert bench.fail(**ASKED).code == "image_not_fetched"
    assert len(urls) == 1 and not bench.used
    assert all(row.state == "awake" for row in bench.pool.key_statuses())


@pytest.mark.parametrize("may_use_keys", [True, False])
def test_nothing_is_fetched_for_who_may_not_use_the_keys(fetched, may_use_keys):
    """Their own key may be made up: nobody has accepted it yet."""
    bench = bench_of({"mine": answer})
    bench.caller = Caller(may_use_keys=may_use_keys)
    headers = {"x-goog-api-key": "mine"}
    if may_use_keys:
        assert bench.run(headers=headers, **ASKED).endswith(DONE) and len(fetched) == 2
        return
    error = bench.fail(headers=headers, **ASKED)
    assert (error.status, error.code) == (400, "image_not_fetched")
    assert "data: URL" in error.message and not fetched and not bench.used
