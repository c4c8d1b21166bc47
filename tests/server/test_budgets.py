"""Budgets and token rates behind a running gateway of two workers."""

import asyncio
import time
from collections import Counter

import httpx
import pytest

from tests.server.conftest import config_for
from tests.server.running import Running, running, until

TOKENS = {
    "crowd": {"budget": {"tokens": 1000, "per": "month"}},
    "guessed": {"budget": {"tokens": 1000, "per": "month"}},
    "small": {"budget": {"tokens": 1, "per": "day"}},
    "warned": {"budget": {"tokens": 60, "per": "day"}},
    "money": {"budget": {"usd": 0.00001, "per": "week"}},
    "strict": {"budget": {"usd": 1, "unpriced": "refuse"}},
    "minute": {"tpm": 1},
    "left": {"budget": {"tokens": 100_000}},
    "kept": {"budget": {"tokens": 1, "per": "month"}},
}
PATHS = {
    "/c/v1/chat/completions": {"model": "gpt-4o"},
    "/c/v1/messages": {"model": "openai/gpt-4o", "max_tokens": 50},
    "/c/v1/responses": {"model": "gpt-4o", "input": "Hello"},
    "/c/v1beta/models/openai%2Fgpt-4o:generateContent": {
        "contents": [{"role": "user", "parts": [{"text": "Hello"}]}]
    },
    "/v1/chat/completions": {"model": "gpt-4o"},
}


def secret(name: str) -> str:
    return f"{name}-0123456789abcdef"


def config(simulator, **more) -> dict:
    tokens = [{"id": name, "val": secret(name)} | limits for name, limits in TOKENS.items()]
    return config_for(simulator.url) | {
        "workers": 2,
        "access": {"tokens": tokens},
        "admin": {"token": "operator-0123456789abcdef"},
        "prices": {"openai": {"gpt-4o": {"input": 2.5, "output": 10}}},
    }


@pytest.fixture(scope="module")
def gateway(simulator, tmp_path_factory):
    with running(tmp_path_factory.mktemp("budgets"), config(simulator)) as started:
        yield started


def ask(gateway: Running, name: str, path="/c/v1/chat/completions", **more) -> httpx.Response:
    body = dict(PATHS[path])
    if "contents" not in body and "input" not in body:
        body["messages"] = [{"role": "user", "content": "Hello"}]
    headers = {"authorization": f"Bearer {secret(name)}"}
    return httpx.post(gateway.url + path, json=body | more, headers=headers, timeout=30)


def ask_at_once(gateway: Running, name: str, callers: int, **more) -> list[httpx.Response]:
    """Each caller on a connection of its own, so that both workers get some."""
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "word " * 60}]} | more
    headers = {"authorization": f"Bearer {secret(name)}", "connection": "close"}
    limits = httpx.Limits(max_connections=None)

    async def run():
        async with httpx.AsyncClient(limits=limits, timeout=60) as client:
            url = f"{gateway.url}/c/v1/chat/completions"
            calls = (client.post(url, json=body, headers=headers) for _ in range(callers))
            return await asyncio.gather(*calls)

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("name", "more"),
    [("crowd", {"max_tokens": 20}), ("guessed", {})],
    ids=["said length", "unsaid length"],
)
def test_200_callers_at_once_never_pass_a_budget_by_more_than_the_call_under_way(
    gateway, name, more
):
    spent = 0
    most = 0
    statuses: Counter[int] = Counter()
    for _ in range(12):
        answers = ask_at_once(gateway, name, 200, **more)
        told = [a.json()["usage"]["total_tokens"] for a in answers if a.status_code == 200]
        spent, most = spent + sum(told), max([most, *told])
        statuses.update(answer.status_code for answer in answers)
        refused = [answer for answer in answers if answer.status_code != 200]
        assert {a.json()["error"]["code"] for a in refused} <= {"budget_exceeded"}
        if any(int(a.headers["retry-after"]) > 1 for a in refused):
            break
    assert set(statuses) == {200, 429}
    assert 1000 <= spent < 1000 + most, (spent, statuses)


@pytest.mark.parametrize("path", PATHS)
def test_a_spent_budget_is_told_in_the_callers_shape(gateway, path):
    while (answer := ask(gateway, "small", path)).status_code == 200:
        assert answer.headers["content-type"] == "application/json"
    assert answer.status_code == 429
    to_midnight = 86_400 - time.time() % 86_400
    left = (int(answer.headers["retry-after"]) - to_midnight) % 86_400  # midnight may be just over
    assert left < 60
    assert answer.headers["x-gateway-error"] == "budget_exceeded"
    assert answer.headers["x-should-retry"] == "false"
    told = answer.json()["error"]
    assert "1 tokens per day" in told["message"]
    if "messages" in path:
        assert told["type"] == "rate_limit_error"
    elif "v1beta" in path:
        assert told["status"] == "RESOURCE_EXHAUSTED"
    elif "responses" in path:  # at any other word Codex waits for the next period
        assert told["code"] == "insufficient_quota"
    else:
        assert (told["type"], told["code"]) == ("rate_limit_error", "budget_exceeded")


@pytest.mark.parametrize("path", ["/c/v1/chat/completions", "/v1/chat/completions"])
def test_who_has_used_80_percent_is_told_so_in_a_header(gateway, path):
    told = ""
    while (answer := ask(gateway, "warned", path, max_tokens=5)).status_code == 200:
        told = answer.headers.get("x-gateway-budget", told)
    if path == "/c/v1/chat/completions":
        assert told.endswith("% of 60 tokens per day used"), told
    until(lambda: "access token warned has used" in gateway.err.read_text())


def test_money_is_spent_by_the_configs_prices(gateway):
    answer = ask(gateway, "money")
    usage = answer.json()["usage"]
    cost = usage["prompt_tokens"] * 2500 + usage["completion_tokens"] * 10_000
    (line,) = gateway.wait_log(token="money", status=200)
    assert line["cost"] == cost > 10_000
    assert ask(gateway, "money").json()["error"]["code"] == "budget_exceeded"
    assert ask(gateway, "strict", model="of-tomorrow").json()["error"]["code"] == "unpriced_model"
    assert ask(gateway, "strict").status_code == 200


def test_tokens_per_minute_are_limited(gateway):
    assert ask(gateway, "minute").status_code == 200
    answer = ask(gateway, "minute")
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "token_limit")
    assert "1 tokens per minute" in answer.json()["error"]["message"]


def test_a_caller_who_leaves_gives_the_reservation_back(gateway):
    body = {"model": "sim-long-30+drip", "stream": True, "max_tokens": 4000}
    body["messages"] = [{"role": "user", "content": "Hello"}]
    headers = {"authorization": f"Bearer {secret('left')}"}
    for _ in range(3):
        url = f"{gateway.url}/c/v1/chat/completions"
        with httpx.stream("POST", url, json=body, headers=headers, timeout=30) as answer:
            assert answer.status_code == 200
            next(answer.iter_lines())
    gateway.wait_log(3, token="left", outcome="client_gone")
    assert ask(gateway, "left", max_tokens=4000).status_code == 200


def test_the_metrics_show_how_much_of_each_budget_is_used(gateway):
    headers = {"authorization": "Bearer operator-0123456789abcdef"}
    text = httpx.get(f"{gateway.url}/metrics", headers=headers).text
    used = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(used['gateway_budget_used_ratio{token="small",kind="tokens"}']) > 1
    assert float(used['gateway_budget_used_ratio{token="strict",kind="usd"}']) > 0
    assert float(used['gateway_budget_refusals_total{kind="budget"}']) >= 5
    assert float(used['gateway_budget_refusals_total{kind="tpm"}']) == 1
    assert float(used['gateway_cost_usd_total{provider="openai-api"}']) > 0


@pytest.mark.slow
def test_a_budget_is_spent_after_a_restart_and_a_kill_too(simulator, tmp_path):
    with running(tmp_path, config(simulator)) as gateway:
        assert ask(gateway, "kept").status_code == 200
    with running(tmp_path, config(simulator)) as gateway:
        assert ask(gateway, "kept").status_code == 429
        assert ask(gateway, "small").status_code == 200
        state = tmp_path / "rests.json"
        until(lambda: state.read_text().count("[") > 8)  # a row of each token
        gateway.process.kill()
        gateway.wait_gone(10)
    with running(tmp_path, config(simulator)) as gateway:
        assert ask(gateway, "kept").status_code == 429
        assert ask(gateway, "small").status_code == 429
