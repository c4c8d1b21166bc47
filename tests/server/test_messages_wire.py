"""POST /c/v1/messages over real sockets: what travels byte for byte, limits that are learned,
counts, and who may ask."""

import hashlib
import json

import httpx
import pytest

from tests.recorded import recorded
from tests.server.conftest import config_for
from tests.server.running import running

VERSION = {"anthropic-version": "2023-06-01"}
# Odd blanks, an escaped letter, a big number, a member nobody knows: none of it may change.
ODD = (
    '{ "max_tokens":50,\n "model":"claude-haiku-4-5" ,"stream":%s,"new_thing":{"a":1e400},'
    '"messages":[{"role":"user","content":"caf\\u00e9 é 你好 md5"}]}\n'
)
RECORDED = recorded("claude")
ALICE, BOB = "alice-0123456789-token", "bob-0123456789-token"


def post(url, body, headers=None, query=""):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.post(
        f"{url}/c/v1/messages{query}",
        content=data,
        headers=VERSION | {"content-type": "application/json"} | (headers or {}),
        timeout=20,
    )


def ask(model, text="hi", **more):
    return {
        "model": model,
        "max_tokens": 50,
        "messages": [{"role": "user", "content": text}],
    } | more


@pytest.mark.parametrize("stream", ["true", "false"])
def test_to_claude_the_body_query_and_headers_travel_unchanged(doors, simulator, stream):
    raw = (ODD % stream).encode()
    beta = {"anthropic-beta": f"some-new-beta-2026-11-01,other-{stream}", "x-app": "cli"}
    query = "?beta=true&x=a%20b&x=a+b&%7E&y=%2f"
    with httpx.Client() as client:  # as a URL's raw bytes: httpx would spell them its own way
        request = client.build_request(
            "POST", f"{doors.url}/c/v1/messages", content=raw, headers=VERSION | beta
        )
        request.extensions = {"target": f"/c/v1/messages{query}".encode(), "timeout": {}}
        assert client.send(request).status_code in (200, 400)
    sent = next(
        call
        for call in reversed(simulator.last(50, path="/claude"))
        if ["anthropic-beta", beta["anthropic-beta"]] in call["headers"]
    )
    assert sent["body_sha256"] == hashlib.sha256(raw).hexdigest()
    assert sent["target"] == f"/claude/v1/messages{query}"
    headers = dict(sent["headers"])
    assert headers["anthropic-version"] == "2023-06-01"


@pytest.mark.parametrize(
    "name", sorted({file.stem for file in RECORDED.glob("api-*") if "error" not in file.name})
)
def test_claudes_answer_travels_unchanged(doors, name):
    for file in (RECORDED / f"{name}.sse", RECORDED / f"{name}.json"):
        if file.exists():
            body = ask(f"claude/replay-{name}", stream=file.suffix == ".sse")
            said = post(doors.url, body).content
            asked_name = json.dumps(body["model"]).encode()
            # The one thing that differs is the name, which is the one that was asked for.
            assert _nameless(said, asked_name) == _nameless(file.read_bytes(), asked_name)


def _nameless(data, asked_name):
    """Without the model's name in a message."""
    for name in (b'"claude-haiku-4-5-20251001"', b'"claude-sonnet-4-5-20250929"', asked_name):
        data = data.replace(name, b"NAME")
    return data


@pytest.mark.parametrize(("model", "path"), [("openai/gpt-4.1-limit", "/openai")])
def test_a_limit_of_the_model_is_learned_from_its_refusal(doors, simulator, model, path):
    body = ask(model, max_tokens=2_000_000)
    statuses = []
    for _ in range(2):
        assert post(doors.url, body).status_code == 200
        calls = simulator.last(50, path=path, model=model.partition("/")[2])
        statuses.append([call["status"] for call in calls])
    assert statuses == [[400, 200], [400, 200, 200]]
    assert calls[-1]["json"]["max_completion_tokens"] == 1_000_000


def test_a_count_that_is_refused_is_estimated_and_rests_no_key(doors, simulator):
    simulator.fault("429", times=1, path="/claude/v1/messages/count_tokens")
    body = {"model": "claude-haiku-4-5", "messages": [{"role": "user", "content": "hi"}]}
    reply = httpx.post(f"{doors.url}/c/v1/messages/count_tokens", json=body, headers=VERSION)
    assert (reply.status_code, reply.headers["x-gateway-estimate"]) == (200, "true")
    used = {post(doors.url, ask("claude-haiku-4-5")).headers["x-auth-id"] for _ in range(30)}
    assert used == {"a1", "a2"}


@pytest.fixture(scope="module")
def guarded(simulator, tmp_path_factory):
    """A gateway that wants tokens: alice's may reach Gemini alone, bob's everything."""
    config = config_for(
        simulator.url,
        google_gemini={
            "api_url": f"{simulator.url}/gemini",
            "api_keys": [{"id": "g", "val": "AIza-guarded"}],
        },
        models={"mine": "openai/gpt-4o", "quick": "gemini/gemini-2.5-flash"},
        access={
            "tokens": [
                {"id": "alice", "val": ALICE, "providers": ["gemini"]},
                {"id": "bob", "val": BOB},
            ]
        },
    )
    with running(tmp_path_factory.mktemp("guarded"), config) as gateway:
        yield gateway


@pytest.mark.parametrize("path", ["/c/api/hello", "/c"])
def test_the_greeting_needs_no_token(guarded, path):
    assert httpx.head(f"{guarded.url}{path}").status_code == 200
    assert post(guarded.url, ask("quick")).status_code == 401


def test_a_token_reaches_no_other_house_through_an_alias(guarded):
    alice = {"authorization": f"Bearer {ALICE}"}
    assert post(guarded.url, ask("quick"), alice).status_code == 200
    refused = post(guarded.url, ask("mine"), alice)
    assert refused.status_code == 403
    assert refused.json()["error"]["type"] == "permission_error"
    bobs = post(guarded.url, ask("mine"), {"authorization": f"Bearer {BOB}"})
    assert (bobs.status_code, bobs.headers["x-gateway-model"]) == (200, "openai/gpt-4o")


def test_the_session_of_claude_code_is_in_the_log(doors):
    session = "6f1d2c3b-0000-4000-8000-1234567890ab"
    reply = post(doors.url, ask("claude-haiku-4-5"), {"x-claude-code-session-id": session})
    line = doors.wait_log(request_id=reply.headers["x-request-id"])[0]
    assert line["session_id"] == session
    odd = {"x-claude-code-session-id": 'a" level=error'}
    reply = post(doors.url, ask("claude-haiku-4-5"), odd)
    assert "session_id" not in doors.wait_log(request_id=reply.headers["x-request-id"])[0]


@pytest.mark.parametrize("model", ["openai/gpt-for-nothing", "gemini/gemini-for-nothing"])
def test_an_answer_of_no_tokens_is_given_without_asking(doors, simulator, model):
    reply = post(doors.url, ask(model, max_tokens=0))
    said = reply.json()
    assert (reply.status_code, said["content"], said["stop_reason"]) == (200, [], "max_tokens")
    assert said["usage"]["input_tokens"] > 0 and said["usage"]["output_tokens"] == 0
    streamed = post(doors.url, ask(model, max_tokens=0, stream=True))
    assert "event: message_stop" in streamed.text and '"max_tokens"' in streamed.text
    assert post(doors.url, ask(model, max_tokens=-1)).status_code == 400
    assert simulator.last(50, model=model.partition("/")[2]) == []
    line = doors.wait_log(2, model=model.partition("/")[2])[0]
    assert (line["status"], line["outcome"], line.get("attempts", 0)) == (200, "complete", 0)
