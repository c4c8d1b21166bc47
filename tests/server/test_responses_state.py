"""Whose answers are whose, and which key made them, over several workers and a restart."""

import re

import httpx
import pytest

from tests.server.conftest import CLAUDE_KEYS, config_for
from tests.server.running import Running

TOKENS = {"ada": "token-of-ada-000001", "bob": "token-of-bob-000001", "eve": "token-of-eve-000001"}
MODEL = "claude/claude-sonnet-4-5"


def config(simulator, **more):
    return config_for(simulator.url) | {
        "workers": 2,
        "claude": {
            "api_url": f"{simulator.url}/claude",
            "api_keys": [{"id": i, "val": v} for i, v in CLAUDE_KEYS.items()],
        },
        "access": {
            "tokens": [
                {"id": i, "val": v} | ({"store": False} if i == "eve" else {})
                for i, v in TOKENS.items()
            ]
        },
        **more,
    }


@pytest.fixture(scope="module")
def http():
    with httpx.Client(timeout=20) as client:
        yield client


def ask(http, running, token, body=None, path="", method="POST"):
    return http.request(
        method,
        f"{running.url}/c/v1/responses{path}",
        json=body,
        headers={"authorization": f"Bearer {TOKENS[token]}"},
    )


def test_answers_are_their_callers_own_and_outlive_a_restart(simulator, tmp_path, http):
    first = Running(tmp_path / "one", config(simulator)).wait()
    answer = ask(http, first, "ada", {"model": MODEL, "input": "I am Ada."}).json()
    assert answer["store"] is True
    id = answer["id"]
    for _ in range(4):  # whichever worker is asked
        assert (
            ask(http, first, "ada", path=f"/{id}", method="GET").json()["output"]
            == answer["output"]
        )
    for path, method in ((f"/{id}", "GET"), (f"/{id}", "DELETE"), (f"/{id}/input_items", "GET")):
        assert ask(http, first, "bob", path=path, method=method).status_code == 404
    refused = ask(http, first, "bob", {"model": MODEL, "input": "Hm?", "previous_response_id": id})
    assert refused.json()["error"]["code"] == "previous_response_not_found"
    cancelled = ask(http, first, "ada", path=f"/{id}/cancel")
    assert cancelled.status_code == 400 and "synchronous" in cancelled.text
    # A token that keeps nothing, and a body that wants nothing kept.
    assert ask(http, first, "eve", {"model": MODEL, "input": "I am Eve."}).json()["store"] is False
    secret = {"model": MODEL, "input": "a very secret word", "store": False}
    assert ask(http, first, "ada", secret).json()["store"] is False
    assert first.stop() == 0
    kept = tmp_path / "one" / "responses.db"
    assert kept.stat().st_mode & 0o777 == 0o600

    more = {"responses": {"path": str(kept)}}
    second = Running(tmp_path / "two", config(simulator, **more)).wait()
    body = {"model": MODEL, "input": "And?", "previous_response_id": id}
    assert ask(http, second, "ada", body).json()["previous_response_id"] == id
    assert second.stop() == 0


def test_nothing_is_kept_where_that_is_off(simulator, tmp_path, http):
    kept = tmp_path / "responses.db"
    more = {"responses": {"path": str(kept), "keep_hours": 0}}
    running = Running(tmp_path, config(simulator, **more)).wait()
    answer = ask(http, running, "ada", {"model": MODEL, "input": "Hi"}).json()
    assert answer["store"] is False
    assert ask(http, running, "ada", path=f"/{answer['id']}", method="GET").status_code == 404
    body = {"model": MODEL, "input": "Hm?", "previous_response_id": answer["id"]}
    assert ask(http, running, "ada", body).status_code == 400
    assert running.stop() == 0
    assert not kept.exists()


@pytest.mark.parametrize("stream", [False, True])
def test_openais_answers_lead_back_to_the_key_that_made_them(simulator, tmp_path, http, stream):
    running = Running(tmp_path, config(simulator)).wait()
    for _ in range(3):
        made = ask(http, running, "ada", {"model": "gpt-5", "input": "Hi", "stream": stream})
        key = made.headers["x-auth-id"]
        found = re.search(r'"id": ?"(resp_[^"]+)"', made.text)
        assert found is not None, made.text
        id = found[1]
        body = {"model": "gpt-5", "input": "And?", "previous_response_id": id}
        for _ in range(3):
            assert ask(http, running, "ada", body).headers["x-auth-id"] == key
        at_openai = ask(http, running, "ada", path=f"/{id}", method="GET")
        assert at_openai.status_code == 404  # the simulated API keeps nothing
    line, *_ = running.wait_log(1)
    assert line["front"] == "openai-responses"
    assert running.stop() == 0
