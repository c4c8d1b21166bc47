"""No secret of the config is to be seen anywhere, whatever is asked and whatever fails."""

import json
import os
import re
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import islice
from pathlib import Path

import httpx
import pytest

from app.config.load import load
from tests.conftest import Simulator
from tests.server.canaries import (
    Echo,
    Markers,
    command_lines,
    config_of,
    files_below,
    settle,
    unset_secrets,
    without_proxies,
)
from tests.server.running import ROOT, Running, children, free_port

pytestmark = pytest.mark.timeout(600)

FAULTS = (
    "401", "402", "403", "404", "429", "quota", "500", "529", "html", "redirect", "reset",
    "cut-after-2", "close-after-1", "end-after-1", "error-event", "bad-json", "hang",
)  # fmt: skip
FEW_FAULTS = ("401", "cut-after-2", "error-event")
QUOTES = (
    (400, "openai"), (400, "text"), (401, "odd"), (401, "text"), (403, "google"), (404, "openai"),
    (429, "odd"), (500, "text"),
)  # fmt: skip
MESSAGES = [{"role": "user", "content": "hi"}]
CHATS = [
    {"model": "gpt-4o"},
    {"provider": "openai-chat-web", "model": "gpt-4o"},
    {"provider": "claude", "model": "claude-sonnet-4-5"},
    {"provider": "claude", "model": "claude-sonnet-4-5", "claude": {"type": "web"}},
    {"provider": "gemini", "model": "gemini-2.5-flash"},
    {"provider": "bing", "model": "Balanced"},
    {"provider": "coze", "model": "coze-api"},
    {"provider": "coze", "model": "coze-discord"},
]
PROVIDERS = {
    "openai-api", "openai-chat-web", "claude-api", "claude-web", "gemini-api", "bing", "coze-api",
    "coze-discord",
}  # fmt: skip


_TELL_ROUTES = """
import json
from app.process.server import create_app
from app.config.schema import Config
routes = create_app(Config()).router.routes
print(json.dumps([[method, "/" + route.path] for route in routes for method in route.methods]))
"""


@cache
def routes() -> list[tuple[str, str]]:
    """Method and path of everything the gateway offers, the paths' free parts filled in."""
    told = subprocess.check_output([sys.executable, "-c", _TELL_ROUTES], cwd=ROOT, timeout=60)
    found = [(method, re.sub(r"<[^>]*>", "models", path)) for method, path in json.loads(told)]
    assert len(found) > 60
    # The first would end the drive, the second never ends.
    return sorted(set(found) - {("POST", "/admin/reload"), ("GET", "/admin/events")})


@contextmanager
def driving(gateway: Running, config: dict):
    driver = Driver(gateway, config)
    try:
        gateway.wait()
        yield driver
    finally:
        driver.close()
        gateway.stop()


class Driver:
    """Asks everything there is, as every kind of caller, and keeps all that was answered."""

    def __init__(self, gateway: Running, config: dict) -> None:
        self.gateway = gateway
        self.admin = {"authorization": f"Bearer {config['admin']['token']}"}
        token = config["access"]["tokens"][0]["val"]
        self.callers = [
            {"authorization": f"Bearer {token}"},
            {"x-access-token": token, "authorization": "Bearer own-credential-of-the-caller"},
        ]
        self.stranger = {"authorization": "Bearer nobody-knows-this-token"}
        self.answers: list[tuple[str, bytes]] = []
        self._http = httpx.Client(base_url=gateway.url, timeout=30)

    def ask(self, method: str, path: str, headers: dict, body: object = None) -> httpx.Response:
        place = f"the answer to {method} {path} {body}"
        try:
            answer = self._http.request(method, path, headers=headers, json=body)
        except httpx.TransportError as error:  # a cut that is meant to look cut
            self.answers.append((place, str(error).encode()))
            return httpx.Response(0)
        told = f"{answer.status_code} {answer.headers.raw}".encode() + answer.content
        # Where the simulated sites have no page they tell back all they got: their own good answer.
        if answer.status_code != 200 or b'"headers":[[' not in answer.content:
            self.answers.append((place, told))
        return answer

    def everything(self, callers: int = 2, one_by_one: bool = False, few: bool = False) -> None:
        """Every route and every provider, streamed or not; keys that rest are woken before, or
        before each single request. `few`: of each route's methods only GET and POST."""
        self.wake()
        todo = []
        for headers in self.callers[:callers]:
            for method, path in routes():
                if few and method not in ("GET", "POST"):
                    continue
                body = None if method in ("GET", "HEAD", "DELETE") else {"messages": MESSAGES}
                is_inside = path.startswith(("/admin", "/metrics"))
                todo.append((method, path, self.admin if is_inside else headers, body))
            for chat in CHATS:
                for stream in (False, True):
                    body = chat | {"messages": MESSAGES, "stream": stream}
                    todo.append(("POST", "/c/v1/chat/completions", headers, body))
        # Whoever shows too many wrong tokens is not looked at any more.
        todo = [*todo, *(("GET", path, self.stranger, None) for path in ("/v1/models", "/admin"))]
        if one_by_one:
            for each in todo:
                self.ask(*each)
                self.wake()
            return
        with ThreadPoolExecutor(8) as threads:
            for _ in threads.map(lambda each: self.ask(*each), todo):
                pass

    def wake(self) -> None:
        listed = self.ask("GET", "/admin/keys", self.admin)
        assert listed.status_code == 200, listed.text
        for key in listed.json()["keys"]:
            if key["state"] != "awake":
                order = {"action": "reset", "id": key["id"], "pool": key["pool"]}
                self.ask("POST", "/admin/keys", self.admin, order)

    def wait_discord(self) -> None:
        """The session with Discord comes up beside the workers."""
        end = time.monotonic() + 15
        path, body = "/c/v1/chat/completions", CHATS[-1] | {"messages": MESSAGES}
        while self.ask("POST", path, self.callers[0], body).status_code != 200:
            assert time.monotonic() < end, self.answers[-1]

    def look_inside(self) -> None:
        """What only operators see."""
        for path in ("/metrics", "/admin/", "/admin/state", "/admin/keys", "/admin/config"):
            assert self.ask("GET", path, self.admin).status_code == 200, self.answers[-1]
        with self._http.stream("GET", "/admin/events", headers=self.admin) as stream:
            for line in islice(stream.iter_lines(), 9):  # figures, keys, calls
                self.answers.append(("the live figures", line.encode()))
        for line in self.gateway.log()[-200:]:
            self.ask("GET", f"/admin/requests/{line['request_id']}", self.admin)

    def close(self) -> None:
        self._http.close()

    def places(self):
        """Everything that anybody could look at."""
        settle()
        yield from self.answers
        yield "the log", self.gateway.out.read_bytes()
        yield "the errors", self.gateway.err.read_bytes()
        pids = [self.gateway.process.pid, *children(self.gateway.process.pid)]
        yield from command_lines(pids)
        data = self.gateway.file.parent / "data"
        for place, content in files_below(data):
            # Renewed sessions have to be kept somewhere: here, for their owner's eyes only.
            if Path(place).parent == data / "sessions" and place.endswith(".json"):
                assert stat.S_IMODE(os.stat(place).st_mode) == 0o600
                continue
            yield place, content


@pytest.fixture(scope="module")
def upstream():
    simulator = Simulator()
    yield simulator
    simulator.stop()


def drive_all(upstream, folder: Path, faults, few: bool) -> list[str]:
    mark = Markers()
    config = without_proxies(config_of(mark, upstream.url, folder, free_port(), free_port()))
    gateway = Running(folder, config)
    try:
        with driving(gateway, config) as driver:
            driver.wait_discord()
            driver.everything(few=few)
            answered = {line["provider"] for line in gateway.log(outcome="complete")}
            assert answered >= PROVIDERS, PROVIDERS - answered
            for fault in faults:
                upstream.fault(fault, times=100_000)
                driver.everything(callers=1 if few or fault == "hang" else 2, few=few)
                upstream.reset()
            keys = [key["val"] for key in config["openai"]["api_keys"]]
            for bad in ({"openai": {"api_keyz": keys}}, {"openai": {"api_keys": keys}, keys[0]: 1}):
                gateway.file.write_text(json.dumps(config | bad))
                assert driver.ask("POST", "/admin/reload", driver.admin).status_code == 400
            driver.look_inside()
            leaks = mark.leaks(driver.places())
            outcomes = {line["outcome"] for line in gateway.log()}
            assert {"complete", "upstream_error", "refused"} <= outcomes, outcomes
    finally:
        upstream.reset()
    return leaks + mark.leaks([("the last errors", gateway.err.read_bytes())])


def test_markers_stand_in_every_secret_field(tmp_path):
    config = config_of(Markers(), "http://127.0.0.1:1", tmp_path, 2, 3)
    file = tmp_path / "c.yaml"
    file.write_text(json.dumps(config))
    assert unset_secrets(load(str(file), {}).config) == []


def test_no_secret_is_seen_when_upstreams_fail(upstream, tmp_path):
    assert drive_all(upstream, tmp_path, FEW_FAULTS, few=True) == []


@pytest.mark.slow
def test_no_secret_is_seen_in_any_failure(upstream, tmp_path):
    assert drive_all(upstream, tmp_path, FAULTS, few=False) == []


@pytest.mark.slow
def test_no_secret_is_seen_when_the_proxies_are_dead(upstream, tmp_path):
    mark = Markers()
    config = config_of(mark, upstream.url, tmp_path, free_port(), free_port())
    with driving(Running(tmp_path, config), config) as driver:
        driver.everything(callers=1)
        driver.look_inside()
        assert mark.leaks(driver.places()) == []


@pytest.mark.parametrize(
    "quotes", [QUOTES[2:3], pytest.param(QUOTES, marks=pytest.mark.slow)], ids=["one", "all"]
)
def test_no_secret_comes_back_from_an_upstream_that_quotes_it(tmp_path, quotes):
    mark, echo = Markers(), Echo()
    config = without_proxies(config_of(mark, echo.url, tmp_path, free_port(), free_port()))
    config["coze"]["discord"]["enable"] = False
    config["workers"] = 1
    with driving(Running(tmp_path, config), config) as driver:
        for echo.status, echo.shape in quotes:
            driver.everything(callers=1, one_by_one=True, few=len(quotes) == 1)
        driver.look_inside()
        assert mark.leaks(driver.places()) == []
    echo.stop()
    # The gateway's own tokens are nobody else's business; the keys did go there.
    tokens = [config["admin"]["token"], *(one["val"] for one in config["access"]["tokens"])]
    seen = "\n".join(echo.seen)
    assert not [token for token in tokens if token in seen]
    assert config["openai"]["api_keys"][0]["val"] in seen
    for family in ("openai", "claude", "claude-web", "chatgpt", "gemini", "bing", "coze"):
        assert f" /{family}/" in seen


def test_no_secret_is_seen_by_those_who_ask_on_the_command_line(upstream, tmp_path):
    mark = Markers()
    config = without_proxies(config_of(mark, upstream.url, tmp_path, free_port(), free_port()))
    file = tmp_path / "c.yaml"
    told = []
    check, live, json_too = ("check",), ("check", "--live"), ("check", "--live", "--json")
    for content, asked in (
        (config, (check, live, json_too, ("keys",))),
        (config | {"port": mark.all[3]}, (check, ("keys",))),
        (config | {"openai": mark.all[4]}, (check,)),
    ):
        file.write_text(json.dumps(content))
        for words in asked:
            done = subprocess.run(
                [sys.executable, "run.py", *words, "-c", str(file)],
                cwd=ROOT, capture_output=True, timeout=60,
            )  # fmt: skip
            told.append((f"run.py {words}", done.stdout + done.stderr))
    assert len(told) == 7 and mark.leaks(told) == []


LEAKS = {
    "log": "plain in the errors",
    "address": "URL-encoded in the log",
    "base64": "in base64 in the errors",
    "header": "by its beginning in the answer",
    "metrics": "plain in the answer to GET /metrics",
    "file": "plain in ",
    "process": "plain in the command line",
}


@pytest.mark.parametrize(
    "kind",
    [kind if kind == "base64" else pytest.param(kind, marks=pytest.mark.slow) for kind in LEAKS],
)
def test_a_build_that_leaks_is_found_out(upstream, tmp_path, kind):
    mark = Markers()
    config = without_proxies(config_of(mark, upstream.url, tmp_path, free_port(), free_port()))
    config["coze"]["discord"]["enable"] = False
    config["workers"] = 1
    env = {"LEAK": kind, "LEAK_FOLDER": str(tmp_path / "data")}
    leaky = ROOT / "tests" / "server" / "leaky.py"
    with driving(Running(tmp_path, config, env=env, program=leaky), config) as driver:
        chat = {"model": "gpt-4o", "messages": MESSAGES}
        driver.ask("POST", "/c/v1/chat/completions", driver.callers[0], chat)
        driver.look_inside()
        found = mark.leaks(driver.places())
    assert any(LEAKS[kind] in leak for leak in found), (kind, found)
