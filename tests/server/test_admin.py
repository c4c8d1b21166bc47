"""What operators see and may do, and that nobody else does."""

import os
import signal
import time

import httpx
import pytest

from tests.server.conftest import config_for
from tests.server.load import CHAT, Load
from tests.server.running import running, until

BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
TOKEN = "operator-token-0123456789"
ADMIN = ("/metrics", "/admin/state", "/admin/keys", "/admin/requests/x", "/admin/")


def counters(gateway) -> dict[str, float]:
    """Everything that must never go down."""
    text = httpx.get(f"{gateway.url}/metrics", timeout=10).text
    kinds, found = {}, {}
    for line in text.splitlines():
        if line.startswith("# TYPE"):
            kinds[line.split()[2]] = line.split()[3]
        elif not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            family = name.partition("{")[0]
            histogram = family.removesuffix("_bucket").removesuffix("_count")
            if kinds.get(family) == "counter" or kinds.get(histogram) == "histogram":
                found[name] = float(value)
    return found


@pytest.fixture(scope="module")
def guarded(simulator, tmp_path_factory):
    config = config_for(simulator.url, workers=2, admin={"token": TOKEN})
    with running(tmp_path_factory.mktemp("guarded"), config) as gateway:
        yield gateway


@pytest.mark.parametrize("path", [p for p in ADMIN if p != "/admin/"])
def test_the_token_is_asked_for_even_on_this_machine(guarded, path):
    refused = httpx.get(guarded.url + path)
    assert refused.status_code == 401
    assert refused.json()["error"]["code"] == "admin_token_needed"
    wrong = httpx.get(guarded.url + path, headers={"authorization": f"Bearer {TOKEN}x"})
    assert wrong.status_code == 401
    right = httpx.get(guarded.url + path, headers={"authorization": f"Bearer {TOKEN}"})
    assert right.status_code in (200, 404)
    assert right.status_code == 404 or "access-control-allow-origin" not in right.headers


def test_wrong_tokens_from_the_same_address_do_not_lock_the_operator_out(simulator, tmp_path):
    right, wrong = ({"authorization": f"Bearer {token}"} for token in (TOKEN, "x" * 20))
    with (
        running(tmp_path, config_for(simulator.url, admin={"token": TOKEN})) as gateway,
        httpx.Client(base_url=gateway.url) as http,
    ):
        assert http.get("/admin/keys", headers=right).status_code == 200
        refused = [http.get("/admin/keys", headers=wrong) for _ in range(25)]
        assert [answer.status_code for answer in refused] == [401] * 20 + [429] * 5
        assert http.get("/admin/keys", headers=right).status_code == 200


def test_what_is_no_failed_call_is_not_among_the_last_errors(simulator, tmp_path):
    """Neither a call that another key answered, nor what the page's own login hears."""
    right = {"authorization": f"Bearer {TOKEN}"}
    keys = [{"id": "bad", "val": "sk-dead-1"}, {"id": "good", "val": "sk-fine-1"}]
    openai = {"api_url": f"{simulator.url}/openai", "api_keys": keys}
    config = {"openai": openai, "admin": {"token": TOKEN}}
    with (
        running(tmp_path, config) as gateway,
        httpx.Client(base_url=gateway.url) as http,
    ):
        while not gateway.log(attempts=2):
            assert http.post(CHAT, json=BODY).status_code == 200
        assert http.get("/admin/state").status_code == 401
        bad = http.post(CHAT, json=BODY | {"model": "sim-400"})
        gateway.wait_log(status=400)
        state = http.get("/admin/state", headers=right).json()
        refused = gateway.log(status=401)
        metrics = http.get("/metrics", headers=right).text
    assert [error["request_id"] for error in state["last_errors"]] == [bad.headers["x-request-id"]]
    assert "refused" not in state["outcomes"] and state["outcomes"]["upstream_error"] == 1
    # It is not hidden: the log and the metrics have it.
    assert [line["route"] for line in refused] == ["/admin/*"]
    assert 'route="/admin/*",outcome="refused"} 1' in metrics


def test_changes_need_the_token_too(guarded):
    for path in ("/admin/reload", "/admin/keys"):
        assert httpx.post(guarded.url + path, json={}).status_code == 401


def test_the_page_holds_nothing_and_may_run_only_its_own_scripts(guarded):
    page = httpx.get(f"{guarded.url}/admin/")
    assert page.status_code == 200 and TOKEN not in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self' 'sha256-" in policy
    assert "unsafe" not in policy
    led = httpx.get(f"{guarded.url}/admin")
    assert led.status_code == 308 and led.headers["location"] == "/admin/"


@pytest.mark.parametrize("path", ADMIN)
@pytest.mark.parametrize(
    "headers",
    [
        {"x-forwarded-for": "127.0.0.1"},
        {"forwarded": "for=127.0.0.1"},
        {"x-real-ip": "127.0.0.1"},
        {"via": "1.1 proxy"},
        {"host": "rebound.example:8999"},
        {"origin": "https://elsewhere.example"},
        {"sec-fetch-site": "cross-site"},
    ],
)
def test_without_a_token_only_this_machine_may_ask(gateway, path, headers):
    answer = httpx.get(gateway.url + path, headers=headers)
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "admin_is_local"
    assert httpx.get(gateway.url + path).status_code in (200, 404)


def test_a_call_is_explained_by_any_worker(guarded):
    headers = {"authorization": f"Bearer {TOKEN}"}
    good = httpx.post(guarded.url + CHAT, json=BODY, headers={"x-auth-id": "k1"})
    body = BODY | {"model": "sim-400"}
    bad = httpx.post(guarded.url + CHAT, json=body, headers={"x-auth-id": "k2"})
    for answer, key, ended in ((good, "k1", "complete"), (bad, "k2", "upstream_error")):
        url = f"{guarded.url}/admin/requests/{answer.headers['x-request-id']}"
        for _ in range(6):  # a connection each, so that both workers are asked
            (call,) = httpx.get(url, headers=headers).json()["calls"]
            assert call["ended"].startswith(ended)
            (attempt,) = call["attempts"]
            assert attempt["key_id"] == key and attempt["status"] == answer.status_code
            assert attempt["ms"] > 0
    state = httpx.get(f"{guarded.url}/admin/state", headers=headers).json()
    told = [error["request_id"] for error in state["last_errors"]]
    assert bad.headers["x-request-id"] in told and good.headers["x-request-id"] not in told
    assert {key["id"] for key in state["keys"]} == {"k1", "k2"}
    assert len(state["workers"]) == 2 and all(worker["pid"] for worker in state["workers"])


def test_a_disabled_key_is_used_by_no_worker_until_it_is_enabled(guarded):
    headers = {"authorization": f"Bearer {TOKEN}"}

    def order(action, id="k1", **more):
        body = {"action": action, "id": id} | more
        return httpx.post(f"{guarded.url}/admin/keys", json=body, headers=headers)

    assert order("disable").json()["keys"][0]["state"] == "disabled"
    used = {httpx.post(guarded.url + CHAT, json=BODY).headers["x-auth-id"] for _ in range(16)}
    assert used == {"k2"}
    assert order("enable", pool="openai.api_keys").json()["keys"][0]["state"] == "awake"
    used = {httpx.post(guarded.url + CHAT, json=BODY).headers["x-auth-id"] for _ in range(24)}
    assert used == {"k1", "k2"}
    assert order("disable", "nobody").status_code == 404
    assert order("explode").status_code == 400


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b'{"action": "reset", "id": "\xff"}',
     b'{"action": "reset", "id": "\xed"}',
     b"[" * 10_000, b'{"action": "reset", "id": "x", "more": ' + b"[" * 10_000],
)  # fmt: skip
def test_an_order_that_cannot_be_read_is_a_400(guarded, content):
    headers = {"authorization": f"Bearer {TOKEN}"}
    answer = httpx.post(f"{guarded.url}/admin/keys", content=content, headers=headers)
    assert answer.status_code == 400 and answer.json()["error"]["message"]


@pytest.mark.timeout(120)
def test_counters_survive_reloads_and_killed_workers(simulator, tmp_path):
    with running(tmp_path, config_for(simulator.url, workers=2)) as gateway:
        kill_and_reload(gateway, per_second=30, streams=5, model="sim-long-10+drip", kills=2)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_killed_worker_under_load_costs_only_its_own_calls(simulator, tmp_path):
    with running(tmp_path, config_for(simulator.url, workers=4)) as gateway:
        kill_and_reload(gateway, per_second=200, streams=100, model="sim-long-60+drip", kills=3)


def kill_and_reload(gateway, *, per_second, streams, model, kills):
    """SIGKILLs workers under load; what they carried is lost, everything else is whole."""
    lost_streams = 0
    with Load(gateway.port, streams=streams, model=model, per_second=per_second) as load:
        until(lambda: load.open >= streams, 30)
        last = counters(gateway)
        for n in range(kills):
            state = httpx.get(f"{gateway.url}/admin/state", timeout=10).json()
            victim = max(state["workers"], key=lambda worker: worker["open_streams"])
            before = sum(load.streamed.values()) - load.streamed["whole"]
            os.kill(victim["pid"], signal.SIGKILL)
            gateway.wait_workers(gateway.count, 5, gone=[victim["pid"]])
            time.sleep(1)
            lost = sum(load.streamed.values()) - load.streamed["whole"] - before
            # Streams that began or ended between the look and the kill.
            assert abs(lost - victim["open_streams"]) <= 3 + streams // 20, (lost, victim)
            lost_streams += lost
            now = counters(gateway)
            assert all(now.get(name, -1) >= value for name, value in last.items()), (last, now)
            assert now["gateway_worker_restarts_total"] == n + 1
            last = now
        assert httpx.post(f"{gateway.url}/admin/reload", timeout=60).status_code == 200
        now = counters(gateway)
        assert all(now.get(name, -1) >= value for name, value in last.items())
    print(f"{dict(load.streamed)} streams, {dict(load.asked)} requests")
    assert sum(load.streamed.values()) - load.streamed["whole"] == lost_streams
    failed = sum(load.asked.values()) - load.asked["whole"]
    assert failed <= kills * (2 + per_second // 20), load.asked  # those the dead had accepted
    assert httpx.post(gateway.url + CHAT, json=BODY, timeout=30).status_code == 200
    state = httpx.get(f"{gateway.url}/admin/state", timeout=10).json()
    assert not any(worker["open_streams"] for worker in state["workers"])
    assert {key["state"] for key in state["keys"]} == {"awake"}
