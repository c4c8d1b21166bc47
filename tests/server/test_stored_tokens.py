"""`run.py tokens ...` and /admin/tokens on a running gateway of two workers."""

import json
import os
import subprocess
import sys
import time

import httpx
import pytest

from tests.server.running import ROOT, Running, running

OPERATOR = "operator-0123456789-word"
ASK = {"authorization": f"Bearer {OPERATOR}"}
OWN = "/c/v1/usage"  # any route that needs a token


def config_of(simulator, **more) -> dict:
    return {
        "workers": 2,
        "admin": {"token": OPERATOR},
        "openai": {
            "api_url": f"{simulator.url}/openai",
            "api_keys": [{"id": "k", "val": "sk-tokens-0001"}],
        },
        "access": {"tokens": [{"id": "ops", "val": "ops-0123456789-token", "rpm": 1000}]},
    } | more


@pytest.fixture(scope="module")
def gateway(simulator, tmp_path_factory):
    one = Running(tmp_path_factory.mktemp("tokens"), config_of(simulator))
    yield one.wait()
    one.stop()


def order(gateway, status=200, **body) -> dict:
    answer = httpx.post(f"{gateway.url}/admin/tokens", json=body, headers=ASK)
    assert answer.status_code == status, answer.text
    return answer.json()


def listed(gateway) -> dict[str, dict]:
    answer = httpx.get(f"{gateway.url}/admin/tokens", headers=ASK)
    assert answer.status_code == 200
    return {one["id"]: one for one in answer.json()["tokens"]}


def command(gateway, *words, status=0) -> str:
    done = subprocess.run(
        [sys.executable, "run.py", "tokens", *words, "-c", str(gateway.file)],
        cwd=ROOT, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout if status == 0 else done.stderr


class Doors:
    """Connections that stay open, some to each worker."""

    def __init__(self, gateway, count=12):
        before = {pid: len(os.listdir(f"/proc/{pid}/fd")) for pid in gateway.workers()}
        self._clients = []
        while len(self._clients) < count or not self._reach_all(before):
            assert len(self._clients) < 200
            self._clients.append(httpx.Client(base_url=gateway.url, timeout=10))
            self._clients[-1].get("/ping")

    def _reach_all(self, before) -> bool:
        return all(len(os.listdir(f"/proc/{pid}/fd")) > count for pid, count in before.items())

    def ask(self, token) -> set[tuple[int, str]]:
        """The statuses and codes that all of them are answered with."""
        found = set()
        for client in self._clients:
            answer = client.get(OWN, headers={"authorization": f"Bearer {token}"})
            told = answer.json()
            found.add((answer.status_code, told["error"]["code"] if "error" in told else ""))
        return found

    def close(self):
        for client in self._clients:
            client.close()


def test_each_change_holds_in_every_worker_once_it_is_answered(gateway):
    doors = Doors(gateway)
    try:
        value = order(gateway, action="add", id="alice", rpm=500)["value"]
        assert doors.ask(value) == {(200, "")}
        assert doors.ask(value) == {(200, "")}, "by now each connection knows the head"
        for _ in range(2):
            order(gateway, action="disable", id="alice")
            assert doors.ask(value) == {(401, "access_token_disabled")}
            order(gateway, action="enable", id="alice")
            assert doors.ask(value) == {(200, "")}
        order(gateway, action="remove", id="alice")
        assert doors.ask(value) == {(401, "access_denied")}
    finally:
        doors.close()
    told = gateway.out.read_text() + gateway.err.read_text()
    assert "access token alice was added" in told
    assert value not in told and value.removeprefix("anyproxy-") not in told


def test_what_an_added_token_may_do_is_what_was_ordered(gateway):
    rights = {"providers": ["openai"], "models": ["gpt-4o*"], "max_concurrent": 3, "store": False,
              "budget": {"tokens": 5, "per": "day"}}  # fmt: skip
    value = order(gateway, action="add", id="bound", **rights)["value"]
    one = listed(gateway)["bound"]
    assert value not in json.dumps(one)
    assert (one["source"], one["state"], one["expires"]) == ("ledger", "enabled", None)
    assert one["budget"] == {"usd": 0.0, "tokens": 5, "per": "day", "unpriced": "pass"}
    with httpx.Client(
        base_url=gateway.url, headers={"authorization": f"Bearer {value}"}, timeout=20
    ) as http:

        def chat(model):
            body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
            return http.post("/c/v1/chat/completions", json=body)

        assert chat("gpt-5").json()["error"]["code"] == "not_allowed"
        assert chat("gpt-4o").status_code == 200
        deadline = time.monotonic() + 3
        while listed(gateway)["bound"]["used"].get("tokens", 0) < 1:
            assert time.monotonic() < deadline
        refused = chat("gpt-4o")
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "budget_exceeded")
    metrics = httpx.get(f"{gateway.url}/metrics", headers=ASK).text
    assert 'gateway_budget_used_ratio{token="bound",kind="tokens"}' in metrics
    assert value not in metrics
    order(gateway, action="remove", id="bound")


def test_a_token_expires_while_its_connection_is_open(gateway):
    doors = Doors(gateway, 4)
    end = time.time() + 1.5
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(end + 0.5)) + "Z"
    try:
        value = order(gateway, action="add", id="brief", expires=at)["value"]
        assert doors.ask(value) == {(200, "")}
        time.sleep(max(listed(gateway)["brief"]["expires"] - time.time(), 0) + 0.01)
        assert doors.ask(value) == {(401, "access_token_expired")}
        assert listed(gateway)["brief"]["state"] == "expired"
    finally:
        doors.close()
        order(gateway, action="remove", id="brief")


@pytest.mark.parametrize(
    "body, status, said",
    [
        ({"action": "add", "id": "ops"}, 409, "the config has a token of this id"),
        ({"action": "disable", "id": "ops"}, 409, "change it there"),
        ({"action": "remove", "id": "nobody"}, 404, "No token with id 'nobody'"),
        ({"action": "explode", "id": "x"}, 400, "explode"),
        ({"action": "add"}, 400, "id"),
        ({"action": "add", "id": "a b\n"}, 400, "id"),
        ({"action": "add", "id": "(console)"}, 400, "id"),
        ({"action": "add", "id": "张三"}, 400, "id: expected up to 128 visible ASCII characters"),
        (
            {"action": "add", "id": "x", "models": ["模型"]},
            400,
            "models[0]: expected a model's name",
        ),
        ({"action": "add", "id": "x", "rpm": -1}, 400, "rpm"),
        ({"action": "add", "id": "x", "val": "my-own-0123456789"}, 400, "val"),
        ({"action": "add", "id": "x", "budget": {"per": "year"}}, 400, "year"),
        ({"action": "add", "id": "x", "providers": ["claud"]}, 400, "did you mean claude?"),
        ({"action": "add", "id": "x", "expires": "soon"}, 400, "is no time"),
        ({"action": "add", "id": "x", "expires": "2020-01-01"}, 400, "over already"),
        ({"action": "add", "id": "x", "expires": "9999-12-31T23:00:00-05:00"}, 400, "is no time"),
        ({"action": "disable", "id": "x", "rpm": 5}, 400, "rpm"),
    ],
)
def test_a_wrong_order_is_told(gateway, body, status, said):
    assert said in order(gateway, status, **body)["error"]["message"]
    assert set(listed(gateway)) == {"ops"}


def test_only_operators_read_and_change_tokens(gateway):
    for method in ("GET", "POST"):
        for headers in ({}, {"authorization": "Bearer ops-0123456789-token"}):
            answer = httpx.request(method, f"{gateway.url}/admin/tokens", headers=headers)
            assert answer.status_code == 401 and "tokens" not in answer.json()


def test_the_commands_do_the_same(gateway):
    value = command(
        gateway, "add", "carol", "--rpm", "60", "--usd", "5", "--per", "week", "--models",
        "gpt-4o*,claude/*", "--no-store", "--expires", "30d",
    ).strip()  # fmt: skip
    answer = httpx.get(f"{gateway.url}{OWN}", headers={"authorization": f"Bearer {value}"})
    assert answer.json()["token"] == "carol"
    table = command(gateway)
    assert "rpm 60; 5 USD per week; models gpt-4o*,claude/*; no store" in table
    assert value not in table and "ops" in table and "config" in table
    assert command(gateway, "disable", "carol") == "carol: disabled\n"
    (told,) = (o for o in json.loads(command(gateway, "list", "--json")) if o["id"] == "carol")
    assert told["state"] == "disabled"
    assert "no calls" in command(gateway, "usage", "carol")
    assert "there is one of this id already" in command(gateway, "add", "carol", status=1)
    assert "an id is needed" in command(gateway, "remove", status=2)
    assert "takes no --rpm" in command(gateway, "enable", "carol", "--rpm", "5", status=2)
    assert command(gateway, "remove", "carol") == "carol: removed\n"


@pytest.mark.slow  # four starts
def test_added_tokens_outlast_a_reload_and_a_restart(simulator, tmp_path):
    config = config_of(simulator, workers=1)
    with running(tmp_path, config) as gateway:
        value = order(gateway, action="add", id="alice")["value"]
        gone = order(gateway, action="add", id="gone")["value"]
        order(gateway, action="remove", id="gone")
        assert httpx.post(f"{gateway.url}/admin/reload", headers=ASK, timeout=30).json()["ok"]
        _expect(gateway, value, gone)
    with running(tmp_path, config) as gateway:
        _expect(gateway, value, gone)
    with running(tmp_path, config | {"ledger": "off"}) as gateway:
        told = order(gateway, 404, action="add", id="bob")["error"]
        assert told["code"] == "no_ledger" and "ledger: off" in told["message"]
        assert set(listed(gateway)) == {"ops"}


def _expect(gateway, value: str, gone: str) -> None:
    for token, status in ((value, 200), (gone, 401)):
        headers = {"authorization": f"Bearer {token}"}
        assert httpx.get(f"{gateway.url}/c/v1/models", headers=headers).status_code == status
