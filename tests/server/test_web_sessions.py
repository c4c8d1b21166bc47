"""Web sessions through the whole gateway: OpenAI's SDK in front, the simulated sites behind."""

import asyncio
import base64
import json
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from http.client import HTTPConnection
from pathlib import Path

import httpx
import openai
import pytest
from openai import OpenAI

from bench.loop_lag import write_har
from tests.server.running import ROOT, Running, children, until
from tests.wire.test_cookies import jwt

CHAT = "/c/v1/chat/completions"
PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5Erk"
    "Jggg=="
)
HELLO = [{"role": "user", "content": "Hello there"}]


def config_for(simulator, folder: Path, **more) -> dict:
    openai_section = {
        "api_url": f"{simulator.url}/openai",
        "chat_web_url": f"{simulator.url}/chatgpt",
        "auth_url": f"{simulator.url}/chatgpt",
        "image_path": str(folder / "images"),
        "cookie_path": str(folder / "sessions"),
        "web_sessions": [{"id": "w1", "val": "web-token-1"}, {"id": "w2", "val": "web-token-2"}],
    }
    claude_section = {
        "web_url": f"{simulator.url}/claude-web",
        "web_sessions": [
            {"id": "c1", "val": "claude-session-1"},
            {"id": "c2", "val": "claude-session-2"},
        ],
    }
    return {
        "workers": 2,
        "openai": openai_section | more.pop("openai", {}),
        "claude": claude_section | more.pop("claude", {}),
    } | more


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("web")


@pytest.fixture(scope="module")
def web(simulator, folder):
    running = Running(folder, config_for(simulator, folder))
    yield running.wait()
    assert running.stop() == 0


@pytest.fixture
def start():
    """Starts gateways that end with the test, however it ends."""
    started: list[Running] = []

    def one(folder: Path, config: dict) -> Running:
        started.append(Running(folder, config))
        return started[-1].wait()

    yield one
    for running in started:
        if running.process.poll() is None:
            running.stop()


def client(gateway, key: str = "none") -> OpenAI:
    return OpenAI(base_url=f"{gateway.url}/c/v1", api_key=key, max_retries=0, timeout=20)


def ask(gateway, body: dict, stream: bool, key: str = "none", messages=None, headers=None):
    """Text, finish reason, reasoning, and the provider's own object, either way."""
    sdk = client(gateway, key)
    model = body.pop("model", "auto")
    done = sdk.chat.completions.create(
        model=model,
        messages=messages or HELLO,
        stream=stream,
        extra_body=body,
        extra_headers=headers or {},
    )
    if not stream:
        choice = done.choices[0]
        own = done.model_extra
        return choice.message.content, choice.finish_reason, own, done.model
    text, reason, own, names = "", None, {}, set()
    for chunk in done:
        names.add(chunk.model)
        own = chunk.model_extra or own
        if chunk.choices:
            text += chunk.choices[0].delta.content or ""
            reason = chunk.choices[0].finish_reason or reason
    assert len(names) == 1
    return text, reason, own, names.pop()


WEB = {"provider": "openai-chat-web"}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "model", ["gpt-4o", "gpt-snapshots", "gpt-wss", "gpt-wssbare", "gpt-crlf", "gpt-tools-echo"]
)
def test_every_framing_reads_the_same_through_openais_sdk(web, model, stream) -> None:
    text, reason, own, named = ask(web, {**WEB, "model": model}, stream)
    assert (text, reason, named) == ("You said: Hello there", "stop", model)
    session = own["openai"]
    assert session["index"] in ("w1", "w2")
    assert session["conversation_id"] and session["last_message_id"]


def test_the_websocket_of_a_long_answer_is_acknowledged(web) -> None:
    text, reason, _, _ = ask(web, {**WEB, "model": "gpt-wss/sim-long-1200"}, True)
    assert reason == "stop"
    assert text.startswith("word0 ") and text.endswith("word1199 ")


@pytest.mark.parametrize("stream", [True, False])
def test_three_turns_stay_with_their_account(web, stream) -> None:
    messages = [{"role": "user", "content": "one"}]
    state: dict = {}
    sessions = set()
    for turn in (1, 2, 3):
        body = {**WEB, "model": "gpt-4o-echo", **({"openai": state} if state else {})}
        text, _, own, _ = ask(web, body, stream, messages=messages)
        said = f"You said: {messages[-1]['content']}"
        assert text == said + (f" (turn {turn})" if turn > 1 else "")
        state = own["openai"] if turn == 1 else {"conversation": own["openai"]}
        sessions.add(own["openai"]["index"])
        messages.append({"role": "assistant", "content": text})
        messages.append({"role": "user", "content": f"t{turn}"})
    assert len(sessions) == 1


def test_a_conversation_finds_its_account_without_an_index(web, folder) -> None:
    for _ in range(4):
        _, _, own, _ = ask(web, {**WEB, "model": "gpt-4o"}, True)
        state = {n: v for n, v in own["openai"].items() if n != "index"}
        until(lambda state=state: _remembered(folder, state["conversation_id"]))
        text, _, again, _ = ask(web, {**WEB, "model": "gpt-4o", "openai": state}, True)
        assert text.endswith("(turn 2)")
        assert again["openai"]["index"] == own["openai"]["index"]


def _remembered(folder, conversation_id, pool="openai.web_sessions") -> bool:
    from app.pool.conversation_owners import Conversations

    async def owner() -> str | None:
        memory = Conversations(folder / "sessions" / "conversations.db")
        try:
            return await memory.owner(pool, conversation_id)
        finally:
            await memory.close()

    return asyncio.run(owner()) is not None


def test_a_forged_index_or_a_strangers_conversation_is_an_error(web) -> None:
    _, _, own, _ = ask(web, {**WEB, "model": "gpt-4o"}, False)
    other = "w2" if own["openai"]["index"] == "w1" else "w1"
    for state, status, code in (
        ({**own["openai"], "index": other}, 404, "conversation_not_found"),
        ({**own["openai"], "index": "forged"}, 401, "unknown_auth_id"),
        ({"conversation_id": "never", "last_message_id": "x"}, 400, "conversation_owner_unknown"),
    ):
        with pytest.raises(openai.APIStatusError) as refused:
            ask(web, {**WEB, "openai": state}, False)
        assert (refused.value.status_code, refused.value.code) == (status, code)


def test_the_callers_own_token_is_used_and_gets_no_index(web, simulator) -> None:
    _, _, own, _ = ask(web, {**WEB, "model": "gpt-own"}, False, key="callers-own-token")
    assert "index" not in own["openai"]
    seen = simulator.last(key="callers-own-token", path="/chatgpt/backend-api/conversation")
    assert seen and seen[-1]["status"] == 200


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("key", "model", "status", "code"),
    [
        ("t-expired", "gpt-4o", 401, "token_expired"),
        ("t-challenge", "gpt-4o", 403, "cloudflare_challenge"),
        ("t-unusual", "gpt-4o", 403, "unusual_activity"),
        ("t-noauth", "gpt-4o", 401, "token_not_accepted"),
        ("t-arkose", "gpt-4o", 403, "arkose_token_required"),
        ("t-turnstile-strict", "gpt-4o", 403, "turnstile_required"),
        ("t", "gpt-capped", 429, "model_cap_exceeded"),
        ("t", "gpt-error", 502, "upstream_error"),
        ("t", "gpt-handoff", 502, "upstream_handoff_unsupported"),
        ("t", "sim-429", 429, "rate_limit_exceeded"),
        ("t", "sim-500", 502, "upstream_error"),
    ],
)
def test_refusals_reach_the_sdk_as_what_they_are(web, key, model, status, code, stream) -> None:
    if code in ("upstream_error", "upstream_handoff_unsupported") and stream and "sim" not in model:
        with pytest.raises(openai.APIError) as broken:  # told inside the stream that has begun
            ask(web, {**WEB, "model": model}, True, key=key)
        assert broken.value.code == code
        return
    with pytest.raises(openai.APIStatusError) as refused:
        ask(web, {**WEB, "model": model}, stream, key=key)
    assert (refused.value.status_code, refused.value.code) == (status, code)


def test_what_the_guard_asks_for_is_given(web) -> None:
    body = {**WEB, "openai": {"arkose_token": f"ark|{time.time()}"}}
    assert ask(web, body, True, key="t-arkose-given")[1] == "stop"
    assert ask(web, {**WEB}, True, key="t-turnstile")[1] == "stop"
    assert ask(web, {**WEB}, True, key="t-hard")[1] == "stop"


def test_thoughts_citations_moderation_and_several_answers(web) -> None:
    sdk = client(web)
    made = sdk.chat.completions.create(
        model="gpt-thoughts-two-cite", messages=HELLO, extra_body=WEB
    )
    message = made.choices[0].message
    assert message.model_extra["reasoning_content"] == "Thinking\nabout it"
    assert message.content.startswith("Let me see.\n\nYou said: Hello there")
    assert "[A page](https://page.example/)" in message.content
    assert ask(web, {**WEB, "model": "gpt-moderated"}, True)[1] == "content_filter"


@pytest.mark.parametrize("model", ["gpt-image", "gpt-sediment"])
def test_a_drawn_picture_is_a_link_that_works_and_goes_on_working(web, folder, model) -> None:
    text, _, _, _ = ask(web, {**WEB, "model": model}, True)
    address = text.partition("![image](")[2].partition(")")[0]
    assert address.startswith(f"{web.url}/gptimage/file")
    forged = address[:-1] + ("0" if address[-1] != "0" else "1")
    assert httpx.get(forged).status_code == 404
    for _ in range(2):
        picture = httpx.get(address)
        assert picture.status_code == 200
        assert picture.headers["content-type"] == "image/png"
        assert picture.headers["x-content-type-options"] == "nosniff"
        assert picture.content == base64.b64decode(PNG)
    name = address.partition("/gptimage/")[2].partition("?")[0].removeprefix("file-")
    assert (folder / "images" / name).read_bytes() == picture.content


def test_a_drawn_picture_of_the_callers_own_account_opens_with_their_token(web) -> None:
    text, _, _, _ = ask(web, {**WEB, "model": "gpt-image"}, False, key="own-artist")
    address = text.partition("![image](")[2].partition(")")[0]
    assert "sig=" not in address and "own-artist" not in address
    assert httpx.get(address).status_code == 404
    assert httpx.get(address, headers={"authorization": "Bearer other"}).status_code == 404
    own = {"authorization": "Bearer own-artist"}
    assert httpx.get(address, headers=own).status_code == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/gptimage/file-../../x", 400),
        ("/gptimage/file-a%2f..%2fb", 400),
        ("/gptimage/file-a/b", 400),
        ("/gptimage/..%2f..%2fetc%2fpasswd", 400),
        ("/gptimage/other", 400),
        ("/gptimage/file-" + "a" * 200, 400),
        ("/gptimage/file-unknown", 404),
        ("/gptimage/file-unknown?index=w1&sig=00", 404),
    ],
)
def test_no_picture_leaves_its_folder(web, path, status) -> None:
    # httpx would tidy the path: a bare connection does not.
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=10)
    connection.putrequest("GET", path)
    connection.endheaders()
    assert connection.getresponse().status == status
    connection.close()


def test_a_picture_in_the_question_is_uploaded(web) -> None:
    content = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
        {"type": "text", "text": "what?"},
    ]
    messages = [{"role": "user", "content": content}]
    assert ask(web, {**WEB}, True, messages=messages)[0] == "You said: what? (with 1 picture)"
    claude = {"provider": "claude", "claude": {"type": "web"}}
    assert ask(web, claude, True, messages=messages)[0] == "You said: what? (with 1 picture)"


def test_a_pdf_and_a_text_file_reach_claude(web) -> None:
    def part(name: str, kind: str, data: bytes) -> dict:
        url = f"data:{kind};base64,{base64.b64encode(data).decode()}"
        return {"type": "file", "file": {"filename": name, "file_data": url}}

    pdf, note = part("a.pdf", "application/pdf", b"%PDF-1"), part("n.txt", "text/plain", b"12345")
    content = [pdf, note, {"type": "text", "text": "what?"}]
    text = ask(web, {**CLAUDE}, True, messages=[{"role": "user", "content": content}])[0]
    assert text == "You said: what? (with 1 picture) (with 5 bytes)"


NATIVE = {
    "action": "next",
    "messages": [
        {
            "id": "11111111-0000-4000-8000-000000000001",
            "author": {"role": "user"},
            "content": {"content_type": "text", "parts": ["Hello"]},
        }
    ],
    "parent_message_id": "11111111-0000-4000-8000-000000000002",
    "model": "gpt-4o",
}


@pytest.mark.parametrize("side", ["backend-api", "backend-anon"])
def test_the_sites_own_body_is_answered_in_openais_shape(web, side) -> None:
    url = f"{web.url}/{side}/web2api"
    whole = httpx.post(url, json=NATIVE).raise_for_status().json()
    assert whole["choices"][0]["message"]["content"] == "You said: Hello"
    lines = httpx.post(url, json=NATIVE | {"stream": True}).raise_for_status().text
    assert lines.startswith("data: {") and lines.endswith("data: [DONE]\n\n")
    assert httpx.post(url, json={"messages": []}).status_code == 400


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-snapshots", "gpt-wss"])
@pytest.mark.parametrize("side", ["backend-api", "backend-anon"])
def test_the_sites_own_stream_is_passed_on(web, side, model) -> None:
    answer = httpx.post(f"{web.url}/{side}/conversation", json=NATIVE | {"model": model})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert b'"message"' in answer.content and b"You" in answer.content
    assert answer.content.rstrip().endswith(b"data: [DONE]")


def test_the_sites_own_refusal_is_passed_on(web) -> None:
    # Once: from then on the session rests for this model, and the gateway itself says so.
    refused = httpx.post(
        f"{web.url}/backend-api/conversation",
        json=NATIVE | {"model": "gpt-capped"},
    )
    assert (refused.status_code, refused.json()["detail"]["clears_in"]) == (429, 252)


def test_raw_paths_go_out_as_the_sessions_browser(web) -> None:
    own = {"authorization": "Bearer me", "cookie": "mine=1", "x-mine": "2", "user-agent": "py"}
    for headers, bearer in ((own, "Bearer me"), ({"x-auth-id": "w2"}, "Bearer web-token-2")):
        answer = httpx.post(
            f"{web.url}/backend-api/settings/x%20y?a=%2Fb", headers=headers, content=b"body"
        )
        said = answer.json()
        seen: dict[str, list[str]] = {}
        for name, value in said["headers"]:
            seen.setdefault(name.lower(), []).append(value)
        assert (said["query"], said["body"]) == ("a=%2Fb", "body")
        assert seen["authorization"] == [bearer]
        assert "Chrome" in seen["user-agent"][0] and len(seen["user-agent"]) == 1
        assert seen["cookie"] == [f"oai-did={seen['oai-device-id'][0]}"]
        assert "set-cookie" not in answer.headers
    assert httpx.get(f"{web.url}/public-api/x").status_code == 200


def test_logins_are_refused_with_the_two_ways_that_work(web) -> None:
    told = httpx.post(f"{web.url}/auth/token/web", json={"email": "a", "password": "b"})
    assert (told.status_code, told.json()["error"]["code"]) == (501, "not_supported")
    assert "web_sessions" in told.text and "hars_path" in told.text
    assert httpx.post(f"{web.url}/arkose/token/x").status_code == 501
    assert httpx.post(f"{web.url}/arkose/solve/x").status_code == 501


def test_platform_tokens_are_renewed_and_revoked_with_the_callers_own(web) -> None:
    def post(path: str, body, **headers):
        return httpx.post(web.url + path, json=body, headers=headers)

    fresh = post("/auth/token/platform/refresh", {"refresh_token": "good-1"})
    assert (fresh.status_code, fresh.json()["access_token"]) == (200, "fresh")
    assert post("/auth/token/platform/refresh", {"refresh_token": "bad"}).status_code == 403
    assert post("/auth/token/platform/revoke", {"refresh_token": "x"}).status_code == 200
    assert post("/auth/token/platform/refresh", {}).json()["error"]["param"] is None
    assert post("/auth/token/platform/refresh", {}).status_code == 400
    assert post("/auth/session/platform", {}).status_code == 401


# Claude


CLAUDE = {"provider": "claude", "claude": {"type": "web"}}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "model", ["claude-sonnet-5", "claude-raw", "claude-raw2023", "claude-thinks-search"]
)
def test_both_of_claudes_formats_read_the_same_through_openais_sdk(web, model, stream) -> None:
    text, reason, own, named = ask(web, {**CLAUDE, "model": model}, stream)
    assert (text, reason, named) == ("You said: Hello there", "stop", model)
    assert own["claude"]["type"] == "web"
    assert own["claude"]["index"] in ("c1", "c2")
    assert own["claude"]["conversation"]["uuid"]


@pytest.mark.parametrize("stream", [True, False])
def test_three_turns_with_claude_stay_with_their_account(web, stream) -> None:
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": "one"}]
    own: dict = CLAUDE
    indexes = set()
    for turn in (1, 2, 3):
        body = {"provider": "claude", "claude": own["claude"], "model": "claude-sonnet-5"}
        text, _, own, _ = ask(web, body, stream, messages=messages)
        sent = "S\n\none" if turn == 1 else messages[-1]["content"]
        assert text == f"You said: {sent}" + (f" (turn {turn})" if turn > 1 else "")
        indexes.add(own["claude"]["index"])
        messages.append({"role": "assistant", "content": text})
        messages.append({"role": "user", "content": f"t{turn}"})
    assert len(indexes) == 1


@pytest.mark.parametrize(
    ("model", "member"),
    [("claude/claude-sonnet-5", {"claude": {"type": "web"}}), ("openai-chat-web/gpt-4o", {})],
)
def test_a_kept_answer_goes_on_in_its_conversation(web, model, member) -> None:
    """Of POST /responses: the turn's id is enough, and the site is sent what is new."""
    previous = None
    for turn, text in enumerate(("one", "two", "three"), 1):
        answer = client(web, "pool").responses.create(
            model=model,
            input=text,
            instructions="S",
            previous_response_id=previous,
            extra_body=member,
        )
        said = "S\n\none" if turn == 1 else text
        wanted = f"You said: {said}" + (f" (turn {turn})" if turn > 1 else "")
        assert answer.output_text == wanted
        previous = answer.id


@pytest.mark.parametrize("stream", [True, False])
def test_claudes_conversation_of_another_account_is_an_error(web, stream) -> None:
    _, _, own, _ = ask(web, {**CLAUDE}, False)
    other = "c2" if own["claude"]["index"] == "c1" else "c1"
    nobodys = {"type": "web", "conversation": {"uuid": str(uuid.uuid4())}}
    for member, status, code in (
        ({**own["claude"], "index": other}, 404, "conversation_not_found"),
        ({**own["claude"], "index": "forged"}, 401, "unknown_auth_id"),
        (nobodys, 400, "conversation_owner_unknown"),
    ):
        with pytest.raises(openai.APIStatusError) as refused:
            ask(web, {"provider": "claude", "claude": member}, stream)
        assert (refused.value.status_code, refused.value.code) == (status, code)


def test_claudes_raw_answers_come_as_they_are_written(web) -> None:
    """A stream is not held back until it ends, whichever path it came by."""
    headers = {"authorization": "Bearer sk-raw-stream"}
    base = f"{web.url}/claude/web/api/organizations"
    (org,) = (o["uuid"] for o in httpx.get(base, headers=headers).json() if "chat" in str(o))
    chats = f"{base}/{org}/chat_conversations"
    made = httpx.post(chats, headers=headers, json={"uuid": str(uuid.uuid4()), "name": ""}).json()
    body = {"prompt": "x", "model": "claude-sim-long-20+drip-50", "rendering_mode": "messages"}
    began, times = time.monotonic(), []
    with httpx.stream(
        "POST", f"{chats}/{made['uuid']}/completion", headers=headers, json=body
    ) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for piece in answer.iter_raw():
            times.append((time.monotonic() - began, piece))
    # Held back, all would have come together: it is written over a second.
    assert times[-1][0] - times[0][0] > 0.5
    assert len(times) > 10


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("key", "model", "status", "code"),
    [
        ("s-gone", "claude-x", 401, "invalid_api_key"),
        ("s-challenge", "claude-x", 502, "upstream_challenge"),
        ("s-exhausted", "claude-x", 429, "usage_limit_reached"),
        ("s-apionly", "claude-x", 403, "no_chat_organization"),
        ("s-free", "claude-x", 403, "permission_error"),
        ("s", "claude-sim-529", 503, "overloaded_error"),
    ],
)
def test_claudes_refusals_reach_the_sdk_as_what_they_are(
    web, key, model, status, code, stream
) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        ask(web, {**CLAUDE, "model": model}, stream, key=key)
    assert (refused.value.status_code, refused.value.code) == (status, code)
    if code == "usage_limit_reached":
        assert float(refused.value.response.headers["retry-after"]) == 1800


def test_claudes_raw_paths_carry_the_session(web) -> None:
    url = f"{web.url}/claude/web/api/bootstrap?x=1"
    for headers, session in (
        ({"cookie": "a=b; sessionKey=sk-own; c=d", "authorization": "Bearer no"}, "sk-own"),
        ({"authorization": "Bearer sk-header"}, "sk-header"),
        ({"x-auth-id": "c2"}, "claude-session-2"),
    ):
        answer = httpx.get(url, headers=headers)
        seen = dict(answer.json()["headers"])
        assert seen["cookie"] == f"sessionKey={session}"
        assert "authorization" not in seen
        assert answer.json()["path"] == "/claude-web/api/bootstrap"
        assert "set-cookie" not in answer.headers


# Sessions with a life


@pytest.mark.slow
def test_a_rotated_cookie_is_used_by_every_worker_and_after_a_restart(
    simulator, tmp_path, start
) -> None:
    config = config_for(
        simulator,
        tmp_path,
        claude={"web_sessions": [{"id": "r", "val": f"rotating-{tmp_path.name}"}]},
    )
    paths = "/claude-web/api/organizations"

    def newest() -> int:
        seen = [r["key"] for r in simulator.last(200, path=paths) if tmp_path.name in r["key"]]
        return int(seen[-1].rpartition("-r")[2]) if "-r" in seen[-1] else 0

    running = start(tmp_path, config)
    for _ in range(6):
        ask(running, {**CLAUDE}, True)
    before = newest()
    assert before >= 6
    assert running.stop() == 0
    running = start(tmp_path, config)
    ask(running, {**CLAUDE}, True)
    assert newest() > before
    assert running.stop() == 0
    # What the operator writes wins: another value in the config starts anew.
    config["claude"]["web_sessions"][0]["val"] = f"rotating-new-{tmp_path.name}"
    running = start(tmp_path, config)
    ask(running, {**CLAUDE}, True)
    assert running.stop() == 0
    seen = simulator.last(200, path=paths)
    assert f"rotating-new-{tmp_path.name}" in {record["key"] for record in seen}
    assert not [p for p in (tmp_path / "sessions").glob("*.json") if p.stat().st_mode & 0o077]


@pytest.mark.slow
def test_a_session_serves_one_at_a_time_across_all_workers(simulator, tmp_path, start) -> None:
    config = config_for(
        simulator,
        tmp_path,
        claude={"web_sessions": [{"id": "one", "val": "single-file"}]},
    )
    running = start(tmp_path, config)
    began = time.monotonic()
    with ThreadPoolExecutor(6) as callers:
        done = [
            callers.submit(ask, running, {**CLAUDE, "model": "claude-sim-long-10+drip-30"}, True)
            for _ in range(6)
        ]
        for each in done:
            assert each.result()[1] == "stop"
    # Ten pieces, 30 ms each, six calls: one after the other.
    assert time.monotonic() - began > 6 * 0.3
    assert running.stop() == 0


def test_raw_requests_count_against_a_sessions_limit_like_questions(
    simulator, tmp_path, start
) -> None:
    config = config_for(
        simulator,
        tmp_path,
        claude={"web_sessions": [{"id": "one", "val": f"{tmp_path.name}-hanging"}]},
        timeouts={"first_event": 1},
    )
    running = start(tmp_path, config)
    raw = f"{running.url}/claude/web/api/account"

    def open_now() -> int:
        return simulator.stats()["open"]["requests"]

    until(lambda: open_now() == 0)
    with closing(HTTPConnection("127.0.0.1", running.port)) as first:
        first.request("GET", "/claude/web/api/account")
        until(lambda: open_now() == 1)
        assert httpx.get(raw).json()["error"]["code"] == "all_keys_busy"
        with pytest.raises(openai.RateLimitError) as busy:
            ask(running, {**CLAUDE}, True)
        assert busy.value.code == "all_keys_busy"
        assert open_now() == 1  # nobody else was let through
    until(lambda: open_now() == 0)
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(raw, timeout=0.8)  # it hangs, but it is asked
    assert running.stop() == 0


def test_raw_requests_about_a_conversation_go_to_its_account(web, folder) -> None:
    for _ in range(3):
        _, _, own, _ = ask(web, {**WEB, "model": "gpt-4o"}, True)
        state = own["openai"]
        id = state["conversation_id"]
        until(lambda id=id: _remembered(folder, id))
        for _ in range(4):
            found = httpx.get(f"{web.url}/backend-api/conversation/{id}?x=1")
            assert (found.status_code, found.headers["x-auth-id"]) == (200, state["index"])
        other = {"x-auth-id": "w2" if state["index"] == "w1" else "w1"}
        assert httpx.get(f"{web.url}/backend-api/conversation/{id}", headers=other).status_code in (
            404,
            429,
        )
    _, _, own, _ = ask(web, {**CLAUDE}, True)
    id, index = own["claude"]["conversation"]["uuid"], own["claude"]["index"]
    until(lambda: _remembered(folder, id, "claude.web_sessions"))
    for _ in range(4):
        path = f"api/organizations/{uuid.uuid4()}/chat_conversations/{id}"
        found = httpx.get(f"{web.url}/claude/web/{path}")
        assert found.headers["x-auth-id"] == index


@pytest.mark.slow
def test_conversations_go_on_after_all_workers_restart(simulator, tmp_path, start) -> None:
    config = config_for(simulator, tmp_path)
    running = start(tmp_path, config)
    _, _, gpt, _ = ask(running, {**WEB}, True)
    _, _, claude, _ = ask(running, {**CLAUDE}, True)
    assert running.stop() == 0
    running = start(tmp_path, config)
    assert ask(running, {**WEB, "openai": gpt["openai"]}, True)[0].endswith("(turn 2)")
    assert ask(running, {"provider": "claude", **claude}, True)[0].endswith("(turn 2)")
    gpt["openai"].pop("index")
    assert ask(running, {**WEB, "openai": gpt["openai"]}, False)[0].endswith("(turn 3)")
    assert running.stop() == 0


def test_without_any_session_the_question_is_asked_as_nobody(simulator, tmp_path, start) -> None:
    config = config_for(simulator, tmp_path, openai={"web_sessions": []})
    running = start(tmp_path, config)
    text, _, own, _ = ask(running, {**WEB, "model": "gpt-nobody"}, True)
    assert text == "You said: Hello there"
    assert set(own["openai"]) >= {"device_id", "conversation_id", "last_message_id"}
    again, _, _, _ = ask(running, {**WEB, "model": "gpt-nobody", "openai": own["openai"]}, True)
    assert again.endswith("(turn 2)")
    assert running.stop() == 0


@pytest.mark.slow  # measures time: wants a machine with a core to spare
def test_the_loop_stays_free_while_a_proof_is_worked_out(simulator, tmp_path, start) -> None:
    """Another call's round trip while ten hard proofs are searched, in one worker."""
    config = config_for(simulator, tmp_path, workers=1)
    running = start(tmp_path, config)
    worst = 0.0
    with ThreadPoolExecutor(4) as callers, httpx.Client() as fast:
        done = [callers.submit(ask, running, {**WEB}, True, key=f"t-hard-{n}") for n in range(12)]
        while not all(each.done() for each in done):
            began = time.monotonic()
            fast.get(f"{running.url}/ping")
            worst = max(worst, time.monotonic() - began)
    for each in done:
        assert each.result()[1] == "stop"
    assert worst < 0.2  # a busy test machine; the measured figure is far lower
    assert running.stop() == 0


# HAR files


def har(token: str = "", cookies: dict | None = None) -> bytes:
    headers = [{"name": "user-agent", "value": "har agent"}]
    if token:
        headers.append({"name": "authorization", "value": f"Bearer {token}"})
    held = {"oai-did": "har-device"} | (cookies or {})
    pairs = [{"name": name, "value": value} for name, value in held.items()]
    request = {"url": "https://chatgpt.com/backend-api/me", "headers": headers, "cookies": pairs}
    at = "2026-01-02T03:04:05.678Z"
    entry = {"startedDateTime": at, "request": request, "response": {"content": {"size": 0}}}
    return json.dumps({"log": {"entries": [entry]}}).encode()


def test_a_har_becomes_a_session_is_followed_and_goes_with_its_file(
    simulator, tmp_path, start
) -> None:
    hars = tmp_path / "hars"
    hars.mkdir()

    def put(name: str, data: bytes) -> None:
        (hars / name).write_bytes(data)
        (hars / name).chmod(0o600)

    put("me.har", har(jwt({"exp": int(time.time()) + 3600, "sub": "one"})))
    put("clean.har", b'{"log":{"entries":[{"request":{"url":"https://chatgpt.com/"}}]}}')
    put("broken.har", b"nothing")
    cookies = {
        "__Secure-next-auth.session-token.0": tmp_path.name,
        "__Secure-next-auth.session-token.1": "-second-half",
    }
    put("cookie.har", har(cookies=cookies))
    none: dict = {"web_sessions": []}
    config = config_for(simulator, tmp_path, workers=1, hars_path=str(hars), openai=none)
    running = start(tmp_path, config)

    def asked(name: str) -> dict | int:
        try:
            return ask(running, {**WEB}, True, headers={"x-auth-id": name})[2]["openai"]
        except openai.APIStatusError as error:
            return error.status_code

    until(lambda: not isinstance(asked("me.har"), int), 15)
    assert asked("me.har")["index"] == "me.har"
    until(lambda: not isinstance(asked("cookie.har"), int), 15)
    seen = simulator.last(50, path="/chatgpt/backend-api/conversation")[-1]
    headers = {name.lower(): value for name, value in seen["headers"]}
    assert headers["user-agent"] == "har agent"
    assert headers["oai-device-id"] == "har-device"
    renewals = simulator.last(200, path="/chatgpt/api/auth/session")
    mine = [r for r in renewals if tmp_path.name in str(r["headers"])]
    assert len(mine) == 1
    for name in ("clean.har", "broken.har"):
        assert asked(name) == 401
    put("clean.har", har("opaque-token"))
    until(lambda: not isinstance(asked("clean.har"), int), 15)
    (hars / "me.har").unlink()
    until(lambda: asked("me.har") == 401, 15)
    log = running.out.read_text() + running.err.read_text()
    assert "sanitized" in log and "broken.har" in log
    assert "me.har of openai.web_sessions ends in 1 h" in log or "ends in 0 h" not in log
    assert "opaque-token" not in log and "second-half" not in log
    assert running.stop() == 0


def test_a_session_of_a_cookie_alone_gets_its_token_on_raw_paths_too(
    simulator, tmp_path, start
) -> None:
    """Its place in the pool holds no token yet: what stands there must not be sent."""
    hars = tmp_path / "hars"
    hars.mkdir()
    cookie = {"__Secure-next-auth.session-token": tmp_path.name}
    old = jwt({"exp": int(time.time()) - 60, "sub": "old"})
    for name, data in (("raw.har", har(cookies=cookie)), ("old.har", har(old, cookies=cookie))):
        (hars / name).write_bytes(data)
        (hars / name).chmod(0o600)
    config = config_for(
        simulator, tmp_path, workers=1, hars_path=str(hars), openai={"web_sessions": []}
    )
    running = start(tmp_path, config)
    url = f"{running.url}/backend-api/me"
    for name in ("raw.har", "old.har"):
        until(lambda name=name: httpx.get(url, headers={"x-auth-id": name}).status_code == 200, 15)
        seen = dict(httpx.get(url, headers={"x-auth-id": name}).json()["headers"])
        assert seen["authorization"].startswith("Bearer eyJ")
        assert old not in seen["authorization"]
        assert seen["cookie"].count(f"again-{tmp_path.name}") == 1
    sent = simulator.last(500, path="/chatgpt/backend-api/me")
    assert "renew-by-cookie" not in str(sent) and old not in str(sent)
    assert running.stop() == 0


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_har_of_200_mb_leaves_the_workers_small_and_awake(simulator, tmp_path, start) -> None:
    hars = tmp_path / "hars"
    hars.mkdir()
    config = config_for(simulator, tmp_path, hars_path=str(hars), workers=2)
    running = start(tmp_path, config)
    with httpx.Client() as fast:

        def pings(until) -> list[float]:
            """Round trips in milliseconds, one after another."""
            took: list[float] = []
            end = time.monotonic() + 90
            while not until(len(took)):
                assert time.monotonic() < end
                began = time.perf_counter()
                fast.get(f"{running.url}/ping")
                took.append((time.perf_counter() - began) * 1000)
                time.sleep(0.002)
            return sorted(took)

        quiet = pings(lambda count: count > 500)
        before = [resident_kb(pid) for pid in running.workers()]
        write_har(hars / "large.har", 200)
        assert (hars / "large.har").stat().st_size > 200_000_000
        reading: list[int] = []

        def both_have_it(count: int) -> bool:
            readers = set(children(running.process.pid)) - set(running.workers())
            reading.extend(resident_kb(pid) for pid in readers)
            return count % 20 == 19 and all(has_session(running) for _ in range(8))

        busy = pings(both_have_it)
    after = [resident_kb(pid) for pid in running.workers()]
    print(
        f"ping ms p50/p99/most: quiet {quiet[len(quiet) // 2]:.1f}/{quiet[-6]:.1f}/{quiet[-1]:.1f},"
        f" reading {busy[len(busy) // 2]:.1f}/{busy[len(busy) * 99 // 100]:.1f}/{busy[-1]:.1f};"
        f" workers kB before {before}, after {after}; its reader at most {max(reading)} kB"
    )
    assert busy[len(busy) // 2] < 20 and busy[-1] < 500  # on a machine that others use too
    assert max(new - old for new, old in zip(after, before, strict=True)) < 10_000
    assert max(reading) < 150_000
    assert running.stop() == 0


def has_session(running: Running) -> bool:
    """Asked on a new connection each time: whichever worker takes it."""
    headers = {"x-auth-id": "large.har"}
    return httpx.get(f"{running.url}/backend-api/models", headers=headers).status_code == 200


def resident_kb(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1])
    return 0


def test_check_tells_how_long_sessions_live_and_what_hars_give(tmp_path) -> None:
    (tmp_path / "a.har").write_bytes(har("x"))
    (tmp_path / "a.har").chmod(0o600)
    (tmp_path / "b.har").write_bytes(b"[]")
    soon = jwt({"exp": int(time.time()) + 5 * 86400 + 60})
    over = jwt({"exp": 1})
    config = {
        "hars_path": str(tmp_path),
        "openai": {"web_sessions": [{"id": "soon", "val": soon}, {"id": "over", "val": over}]},
    }
    file = tmp_path / "c.yaml"
    file.write_text(json.dumps(config))
    file.chmod(0o600)
    told = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), "check", "-c", str(file)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    ).stdout
    assert "session soon of openai.web_sessions ends in 5 days" in told
    assert "session over of openai.web_sessions has ended" in told
    assert "a.har: a web session" in told
    assert "b.har: it is no HAR file" in told
    assert soon not in told
