"""The example of CONTRIBUTING.md: the provider it shows works when the additions it lists are made.

The source tree is copied, the files of tests/example/ and the additions of the page are put in, and
a gateway and the simulator are started from there.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from tests.conftest import Simulator
from tests.server.running import Running
from tests.test_contributing import section
from tests.test_floors import violations

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "tests" / "example"
PAGE = section("Add a provider")
QUOTES = re.findall(r"^`([\w/.]+)`:\n\n```python\n(.*?)^```$", PAGE, re.M | re.S)
ADDITION = re.compile(
    r"^In `([\w/.]+)`, (above|below|at the end of) `([^`]+)`[^:`]*(?:`[^`]+`[^:`]*)*:\n\n"
    r"```diff\n((?:\+.*\n)+)```$",
    re.M,
)
ADDITIONS = ADDITION.findall(PAGE)
TOKEN = "a-token-for-parrot-17"
ADVICE = "CONTRIBUTING.md, Add a provider"


def with_addition(text: str, place: str, anchor: str, added: str) -> str:
    """The text with the added lines (of a diff) beside the anchor's line, or at its list's end."""
    lines = text.splitlines(keepends=True)
    at = next((n for n, line in enumerate(lines) if line.startswith(anchor)), None)
    assert at is not None, f"{ADVICE}: no line begins with {anchor!r}"
    if place == "at the end of":
        at = next(n for n in range(at, len(lines)) if lines[n][0] in ")]}")
    at += place == "below"
    return "".join([*lines[:at], re.sub(r"^\+", "", added, flags=re.M), *lines[at:]])


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The source tree with the example in it."""
    copy = tmp_path_factory.mktemp("example") / "tree"
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in ("app", "providers"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignored)
    shutil.copytree(EXAMPLE, copy, ignore=ignored, dirs_exist_ok=True)
    for name in ("run.py", "pyproject.toml"):
        shutil.copy(ROOT / name, copy)
    for name, place, anchor, added in ADDITIONS:
        file = copy / name
        file.write_text(with_addition(file.read_text(), place, anchor, added))
    return copy


@pytest.fixture(scope="module")
def example(tree):
    """A gateway that knows Parrot, before the simulator."""
    simulator = Simulator(root=tree)
    keys = [{"id": f"good-{number}", "val": f"demo-parrot-{number}"} for number in range(40)]
    keys.append({"id": "refused", "val": "demo-bad"})
    config = {
        "parrot": {"api_url": f"{simulator.url}/parrot", "api_keys": keys},
        "access": {"tokens": [{"id": "t", "val": TOKEN, "providers": ["parrot"]}]},
    }
    gateway = Running(tree / "run", config, program=tree / "run.py")
    try:
        gateway.wait()
        # Each request takes a key of its own: a failure puts the key into a cooldown.
        ids = iter([key["id"] for key in keys])
        yield SimpleNamespace(gateway=gateway, simulator=simulator, next_key=ids.__next__)
    finally:
        gateway.stop()
        simulator.stop()


def ask(example, model: str = "parrot/grey", key: str = "", **more) -> httpx.Response:
    messages = [
        {"role": "system", "content": "Repeat."},
        {"role": "user", "content": "Hello, pretty bird"},
    ]
    body = {"model": model, "messages": messages} | more
    url = f"{example.gateway.url}/c/v1/chat/completions"
    headers = {"authorization": f"Bearer {TOKEN}", "x-auth-id": key or example.next_key()}
    return httpx.post(url, json=body, headers=headers, timeout=20)


def test_the_page_shows_the_code_that_is_tested():
    assert [name for name, _ in QUOTES] == ["providers/parrot/api.py"]
    for name, shown in QUOTES:
        assert shown == (EXAMPLE / name).read_text(), f"copy tests/example/{name} into the page"


def test_every_addition_of_the_page_is_understood():
    assert len(ADDITIONS) == PAGE.count("\nIn `") == PAGE.count("```diff")


def test_a_whole_answer(example):
    answer = ask(example, max_tokens=20, temperature=1)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    (choice,) = told["choices"]
    assert choice["message"]["content"] == "Hello, pretty bird"
    assert choice["finish_reason"] == "stop"
    assert (told["usage"]["prompt_tokens"], told["usage"]["completion_tokens"]) == (4, 3)
    assert answer.headers["x-gateway-dropped-params"] == "temperature"
    (asked,) = example.simulator.last(1)
    assert asked["json"] == {
        "voice": "grey",
        "lines": [
            {"who": "owner", "text": "Repeat."},
            {"who": "guest", "text": "Hello, pretty bird"},
        ],
        "most_words": 20,
    }
    assert asked["key"].startswith("demo-parrot-")


@pytest.mark.parametrize("model", ["parrot/grey", "parrot/sim-split-bytes"])
def test_a_streamed_answer(example, model):
    answer = ask(example, model, stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    *events, done = [line[6:] for line in answer.text.splitlines() if line]
    assert done == "[DONE]"
    deltas = [json.loads(event)["choices"][0]["delta"] for event in events]
    assert [d["content"] for d in deltas if d.get("content")] == ["Hello,", " pretty", " bird"]


def test_provider_names_it_too(example):
    assert ask(example, "grey", provider="parrot").status_code == 200


def test_a_token_can_be_for_this_family_alone(example):
    answer = ask(example, "gpt-4o")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_allowed")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fault", "status", "code", "message"),
    [
        ("error-event-0", 503, "asleep", "Parrot fell asleep."),
        ("400", 400, "trouble", "The simulator refuses."),
        ("bad-json-0", 502, "upstream_bad_response", "Parrot sent a line that is not JSON."),
        ("end-after-0", 502, "upstream_cut", "closed the connection"),
    ],
)
def test_an_upstream_that_fails_is_a_clear_error(example, fault, status, code, message, stream):
    ask(example)  # a good answer in between: else the gateway takes the upstream for down
    answer = ask(example, f"parrot/sim-{fault}", stream=stream)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code), error
    assert message in error["message"]


def test_a_refused_key_is_named_by_its_id(example):
    answer = ask(example, key="refused")
    assert answer.status_code == 401
    error = answer.json()["error"]
    assert error["code"] == "bad_key" and "key refused of parrot.api_keys" in error["message"]
    assert "demo-bad" not in answer.text


def test_a_stream_that_breaks_after_its_first_words_ends_in_an_error(example):
    answer = ask(example, "parrot/sim-end-after-3", stream=True)
    assert answer.status_code == 200
    *_, last = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    assert json.loads(last)["error"]["code"] == "upstream_cut"


def test_what_parrot_cannot_be_asked_is_refused_before_it_is_asked(example):
    before = example.simulator.stats()["requests"]["total"]
    image = [{"type": "image_url", "image_url": {"url": "data:,"}}]
    answer = ask(example, messages=[{"role": "user", "content": image}])
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "messages[0].content"
    assert example.simulator.stats()["requests"]["total"] == before


def test_the_import_rules_hold(tree):
    assert violations(tree) == []


@pytest.mark.slow
@pytest.mark.parametrize("command", [["ruff", "format", "--check", "."], ["ruff", "check", "."]])
def test_it_is_formatted_and_linted(tree, command):
    subprocess.run([sys.executable, "-m", *command], cwd=tree, check=True)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_its_types_are_right(tree):
    subprocess.run([sys.executable, "-m", "mypy"], cwd=tree, check=True)
