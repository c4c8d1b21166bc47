"""Authentication over real sockets, and that no token ever travels upstream."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection

import httpx
import openai
import pytest

from tests.server.conftest import CLAUDE_KEYS, GEMINI_KEYS, config_for
from tests.server.running import running

CHAT = "/c/v1/chat/completions"
ALICE, BOB = "alice-0123456789-token", "bob-9876543210-token"
NARROW, SLOW, MANY = "narrow-0123456789-token", "slow-0123456789-token", "many-0123456789-token"
FORWARDED = {"x-forwarded-for": "198.51.100.7"}


def body(**members):
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]} | members


def families(simulator):
    return config_for(simulator.url) | {
        "claude": {
            "api_url": f"{simulator.url}/claude",
            "api_keys": [{"id": i, "val": v} for i, v in CLAUDE_KEYS.items()],
        },
        "google_gemini": {
            "api_url": f"{simulator.url}/gemini",
            "api_keys": [{"id": i, "val": v} for i, v in GEMINI_KEYS.items()],
        },
    }


@pytest.fixture(scope="module")
def locked(simulator, tmp_path_factory):
    tokens = [
        {"id": "alice", "val": ALICE},
        {"id": "bob", "val": BOB},
        {"id": "narrow", "val": NARROW, "providers": ["openai", "gemini"], "models": ["gpt-4o*"]},
        {"id": "slow", "val": SLOW, "rpm": 5},
        {"id": "many", "val": MANY, "max_concurrent": 3},
    ]
    config = families(simulator) | {"workers": 2, "access": {"tokens": tokens}}
    with running(tmp_path_factory.mktemp("locked"), config) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def http(locked):
    with httpx.Client(base_url=locked.url, timeout=20) as client:
        yield client


def seen_upstream(http, path="/v1/_echo/x", **options):
    answer = http.get(path, **options)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", CHAT),
        ("GET", "/c/v1/models"),
        ("GET", "/v1/models"),
        ("POST", "/v1/chat/completions"),
        ("GET", "/dashboard/billing/usage"),
        ("POST", "/claude/api/v1/messages"),
        ("POST", "/claude/api/openai"),
        ("GET", "/gemini/v1beta/models"),
        ("POST", "/gemini/openai"),
        ("POST", "/bing/message"),
        ("GET", "/bing/conversation"),
        ("GET", "/nowhere"),
        ("POST", "/%63/v1/chat/completions"),
    ],
)
@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer sk-own"}, {"x-api-key": "pool"}])
def test_without_a_token_nothing_is_served(http, method, path, headers):
    answer = http.request(method, path, headers=headers, json=body() if method == "POST" else None)
    assert answer.status_code in (401, 429)
    assert answer.headers["x-gateway-error"] in ("access_denied", "too_many_failures")


def test_what_load_balancers_and_browsers_ask_stays_open(http):
    for path in ("/ping", "/healthz", "/readyz"):
        assert http.get(path).status_code == 200
    preflight = {"origin": "http://page", "access-control-request-method": "POST"}
    assert http.options(CHAT, headers=preflight).status_code == 204


def test_the_official_client_needs_nothing_but_the_token_as_its_key(locked):
    with openai.OpenAI(base_url=f"{locked.url}/c/v1", api_key=ALICE, max_retries=0) as client:
        answer = client.chat.completions.create(**body())
        assert answer.choices[0].message.content
        assert {"gpt-4o"} & {model.id for model in client.models.list()}


@pytest.mark.parametrize(
    ("path", "headers", "query"),
    [
        ("/v1/_echo/x", {"authorization": f"Bearer {ALICE}"}, ""),
        ("/v1/_echo/x", {"x-api-key": ALICE}, ""),
        ("/v1/_echo/x", {"x-goog-api-key": ALICE}, ""),
        ("/v1/_echo/x", {"x-access-token": ALICE}, ""),
        ("/v1/_echo/x", {"x-access-token": ALICE, "authorization": f"Bearer {BOB}"}, ""),
        ("/v1/_echo/x", {"authorization": ALICE, "x-note": f"my {ALICE}"}, f"?a={ALICE}&b=1"),
        ("/v1/_echo/x", {"authorization": ALICE}, f"?key={ALICE.replace('-', '%2d')}&b=1"),
        ("/v1/_echo/x", {"authorization": ALICE, "openai-beta": ALICE, "user-agent": ALICE}, ""),
    ],
)
def test_no_token_travels_upstream(http, path, headers, query):
    seen = json.dumps(seen_upstream(http, path + query, headers=headers))
    for token in (ALICE, BOB):
        assert token not in seen and token.replace("-", "%2d") not in seen
    assert "sk-one-1111" in seen or "sk-two-2222" in seen


def test_beside_our_own_header_the_callers_credential_goes_upstream(http):
    headers = {"x-access-token": ALICE, "authorization": "Bearer sk-own-3333"}
    seen = seen_upstream(http, headers=headers)
    sent = {name.lower(): value for name, value in seen["headers"]}
    assert sent["authorization"] == "Bearer sk-own-3333" and "x-access-token" not in sent


def test_the_query_key_opens_gemini(http, simulator):
    path = "/gemini/v1beta/models/gemini-2.5-flash:generateContent"
    asked = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
    answer = http.post(f"{path}?key={BOB}", json=asked)
    assert answer.status_code == 200, answer.text
    assert BOB not in json.dumps(simulator.last(20, path="/gemini"))


@pytest.mark.parametrize(
    ("path", "asked", "status"),
    [
        (CHAT, body(model="gpt-4o-mini"), 200),
        (CHAT, body(model="gpt-5"), 403),
        (CHAT, body(model="openai/gpt-4o"), 200),
        (CHAT, body(model="claude/gpt-4o"), 403),
        (CHAT, body(provider="claude"), 403),
        (CHAT, {"messages": []}, 403),
        ("/v1/chat/completions", body(), 200),
        ("/v1/chat/completions", body(model="gpt-5"), 403),
        ("/v1/embeddings", {"input": "x"}, 403),
        ("/claude/api/v1/messages", body(), 403),
        ("/gemini/v1beta/models/gemini-2.5-flash:generateContent", {"contents": []}, 403),
        ("/bing/message", body(), 403),
    ],
)
def test_a_token_may_be_for_some_providers_and_models_only(http, path, asked, status):
    answer = http.post(path, json=asked, headers={"authorization": NARROW})
    assert answer.status_code == status, answer.text
    if status == 403:
        assert answer.headers["x-gateway-error"] == "not_allowed"


@pytest.mark.parametrize("path", [CHAT, "/v1/chat/completions"])
def test_no_body_says_one_model_to_us_and_another_to_the_upstream(http, path):
    rest = b'"messages":[{"role":"user","content":"hi"}]}'
    for start in (
        b'{"model":"gpt-5","model":"gpt-4o",',
        b'{"model":"gpt-4o","mod\\u0065l":"gpt-5",',
    ):
        answer = http.post(path, content=start + rest, headers={"authorization": NARROW})
        assert answer.status_code in (400, 403)


def test_a_narrow_token_lists_its_models_only(http):
    headers = {"authorization": NARROW}
    found = {model["id"] for model in http.get("/c/v1/models", headers=headers).json()["data"]}
    assert "gpt-4o" in found and all(name.startswith("gpt-4o") for name in found)
    assert http.get("/v1/models", headers=headers).status_code == 200
    assert http.get("/v1/files", headers=headers).status_code == 403


def on_its_own_connection(gateway, model="gpt-4o", token=SLOW, stream=False):
    """So that both workers get their share."""
    connection = HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    headers = {"authorization": f"Bearer {token}"}
    connection.request("POST", CHAT, json.dumps(body(model=model, stream=stream)), headers)
    with connection.getresponse() as answer:
        answer.read()
    connection.close()
    return answer


def test_requests_per_minute_hold_across_workers(locked):
    answers = [on_its_own_connection(locked) for _ in range(12)]
    assert [answer.status for answer in answers].count(200) == 5
    refused = answers[-1]
    assert refused.status == 429 and refused.headers["x-gateway-error"] == "token_limit"
    assert 1 <= int(refused.headers["retry-after"]) <= 120


def test_requests_at_a_time_hold_across_workers_and_are_given_back(locked):
    for _ in range(2):
        with ThreadPoolExecutor(12) as callers:
            answers = list(
                callers.map(
                    lambda _: on_its_own_connection(locked, "sim-slow-first-700", MANY, True),
                    range(12),
                )
            )
        statuses = [answer.status for answer in answers]
        assert statuses.count(200) == 3 and statuses.count(429) == 9


def test_guessing_is_slowed_down(simulator, tmp_path):
    config = config_for(simulator.url, access={"tokens": [{"id": "alice", "val": ALICE}]})
    with running(tmp_path, config) as gateway:
        url = f"{gateway.url}/v1/models"
        answers = [httpx.get(url, headers={"authorization": f"guess-{n}"}) for n in range(30)]
        assert [a.status_code for a in answers].count(401) == 20
        assert answers[-1].status_code == 429 and int(answers[-1].headers["retry-after"]) <= 60
        # Neither is a token looked at from there now, nor does another address suffer.
        assert httpx.get(url, headers={"authorization": ALICE}).status_code == 429
        assert httpx.get(f"{gateway.url}/ping").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        FORWARDED,
        {"forwarded": "for=127.0.0.1"},
        {"x-real-ip": "127.0.0.1"},
        {"via": "1.1 proxy"},
        {"host": "evil.example"},
        {"origin": "https://evil.example"},
    ],
)
def test_without_tokens_the_keys_are_for_this_machine(doors, headers):
    for method, path in (("POST", CHAT), ("GET", "/v1/models"), ("GET", "/bing/conversation"),
                         ("POST", "/claude/api/v1/messages"), ("GET", "/c/v1/models"),
                         ("POST", "/gemini/openai"), ("POST", "/bing/message")):  # fmt: skip
        asked = body() if method == "POST" else None
        answer = httpx.request(method, doors.url + path, headers=headers, json=asked)
        assert answer.status_code == 401, (path, answer.text)
        error = answer.json()["error"]
        assert (
            answer.headers["x-gateway-error"] == "access_denied"
            and "access.tokens" in error["message"]
        )
        named = httpx.request(
            method, doors.url + path, headers=headers | {"x-auth-id": "no-such-id"}, json=asked
        )
        assert (
            named.headers["x-gateway-error"] == "access_denied"
        )  # nothing is told of which there are


def test_without_tokens_anybody_may_bring_a_credential_of_their_own(doors):
    own = FORWARDED | {"authorization": "Bearer sk-own-4444"}
    assert httpx.post(doors.url + CHAT, headers=own, json=body()).status_code == 200
    assert httpx.get(f"{doors.url}/v1/models", headers=own).status_code == 200
    listed = httpx.get(f"{doors.url}/c/v1/models", headers=own).json()["data"]
    assert {model["provider"] for model in listed} == {"openai"}
    claude = FORWARDED | {"x-api-key": "sk-ant-api03-own"}
    asked = {"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": body()["messages"]}
    answer = httpx.post(f"{doors.url}/claude/api/v1/messages", headers=claude, json=asked)
    assert answer.status_code == 200


def test_without_protection_every_start_warns(simulator, tmp_path):
    with running(tmp_path, config_for(simulator.url, access={"protected": False})) as gateway:
        answer = httpx.post(gateway.url + CHAT, headers=FORWARDED, json=body())
        assert answer.status_code == 200
        assert "access.protected: false" in gateway.err.read_text()


def test_one_greedy_caller_does_not_starve_the_others(simulator, tmp_path):
    tokens = [{"id": "greedy", "val": ALICE}, {"id": "modest", "val": BOB}]
    limits = {"in_flight": 20, "queue": 20, "queue_seconds": 20}
    config = config_for(simulator.url, access={"tokens": tokens}, limits=limits)
    with running(tmp_path, config) as gateway, ThreadPoolExecutor(80) as callers:
        greedy = [
            callers.submit(on_its_own_connection, gateway, "sim-slow-first-3000", ALICE, True)
            for _ in range(70)
        ]
        time.sleep(0.7)
        began = time.monotonic()
        answers = [on_its_own_connection(gateway, "gpt-4o", BOB) for _ in range(10)]
        assert [answer.status for answer in answers] == [200] * 10
        assert time.monotonic() - began < 3  # the greedy ones of the first round are not over yet
        assert {task.result().status for task in greedy} == {200, 503}
