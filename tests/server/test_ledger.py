"""The ledger behind a running gateway: every call has its row."""

import csv
import json
import re
import sqlite3
import subprocess
import sys
from contextlib import suppress

import httpx
import pytest

from tests.server.conftest import CLAUDE_KEYS, GEMINI_KEYS, config_for
from tests.server.running import ROOT, running, until

HELLO = [{"role": "user", "content": "Hello"}]
TOKENS = {"alice": "alice-0123456789abcdef", "bob": "bob-0123456789abcdef"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ledger")


@pytest.fixture(scope="module")
def gateway(simulator, folder):
    keys = {"claude": CLAUDE_KEYS, "google_gemini": GEMINI_KEYS}
    config = config_for(simulator.url) | {
        name: {
            "api_url": f"{simulator.url}/{'gemini' if 'gemini' in name else name}",
            "api_keys": [{"id": i, "val": v} for i, v in held.items()],
        }
        for name, held in keys.items()
    }
    tokens = [{"id": name, "val": value} for name, value in TOKENS.items()]
    with running(folder, config | {"access": {"tokens": tokens}}) as started:
        yield started


def rows(folder, **having) -> list[dict]:
    """The rows of the ledger's calls that have these values."""
    with sqlite3.connect(f"file:{folder / 'usage.db'}?mode=ro", uri=True) as database:
        database.row_factory = sqlite3.Row
        found = []
        with suppress(sqlite3.OperationalError):  # its tables are not there yet
            found = list(map(dict, database.execute("SELECT * FROM ledger_calls ORDER BY id")))
    database.close()
    return [row for row in found if all(row[name] == value for name, value in having.items())]


def ask(gateway, path="/c/v1/chat/completions", token="alice", id="", **more):
    body = {"model": "gpt-4o-mini", "messages": HELLO} | more
    return httpx.post(
        gateway.url + path,
        json=body,
        headers={"authorization": f"Bearer {TOKENS[token]}", "x-request-id": id},
        timeout=20,
    )


def row_of(folder, id) -> dict:
    def found():
        return (folder / "usage.db").exists() and rows(folder, request_id=id)

    (row,) = until(found)
    return row


def test_a_call_has_a_row_with_the_tokens_that_the_upstream_told(gateway, folder):
    told = ask(gateway, id="whole-1", model="openai/gpt-4o-mini").json()["usage"]
    row = row_of(folder, "whole-1")
    assert row["token"] == "alice" and row["front"] == "openai-chat"
    assert row["provider"] == "openai-api" and row["key_id"] in ("k1", "k2")
    assert row["model_asked"] == "openai/gpt-4o-mini" and row["model"] == "gpt-4o-mini"
    assert (row["prompt_tokens"], row["completion_tokens"], row["counted"]) == (
        told["prompt_tokens"],
        told["completion_tokens"],
        "told",
    )
    assert row["status"] == 200 and row["outcome"] == "complete" and row["attempts"] == 1
    assert row["first_event_ms"] is not None and row["total_ms"] > 0
    assert row["address"] == "", "only where the config allows it"


def in_messages(model, stream):
    body = {"model": model, "max_tokens": 50, "stream": stream}
    return "/c/v1/messages", body | {"messages": [{"role": "user", "content": "Hello"}]}


def in_chat(model, stream):
    messages = [{"role": "user", "content": "Hello"}]
    return "/c/v1/chat/completions", {"model": model, "messages": messages, "stream": stream}


def in_responses(model, stream):
    return "/c/v1/responses", {"model": model, "input": "Hello", "stream": stream}


def in_gemini(model, stream):
    method = "streamGenerateContent?alt=sse" if stream else "generateContent"
    body = {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}
    return f"/c/v1beta/models/{model}:{method}", body


MODELS = {
    "openai-api": "openai/gpt-4o-mini",
    "claude-api": "claude/claude-sonnet-4-5",
    "gemini-api": "gemini/gemini-2.5-flash",
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("provider", MODELS)
@pytest.mark.parametrize("front", [in_chat, in_messages, in_responses, in_gemini])
def test_every_front_counts_what_every_provider_tells(gateway, folder, front, provider, stream):
    path, body = front(MODELS[provider], stream)
    id = f"{front.__name__}-{provider}-{stream}"
    headers = {"authorization": f"Bearer {TOKENS['bob']}", "x-request-id": id}
    httpx.post(gateway.url + path, json=body, headers=headers, timeout=20).raise_for_status()
    row = row_of(folder, id)
    assert row["provider"] == provider and row["stream"] == stream
    assert row["counted"] == "told"
    assert row["prompt_tokens"] > 0 and row["completion_tokens"] > 0


def raw(gateway, id, **more):
    return ask(gateway, "/v1/chat/completions", id=id, **more)


def without_ids(text: str) -> str:
    return re.sub(r'"(id|created|system_fingerprint|obfuscation)":("[^"]*"|\d+)', "", text)


def test_a_raw_stream_is_counted_and_the_caller_does_not_notice(gateway, folder, simulator):
    plain = raw(gateway, "raw-plain", stream=True, model="raw-model")
    (heard,) = simulator.last(1, model="raw-model")
    assert heard["json"]["stream_options"] == {"include_usage": True}
    straight = httpx.post(
        f"{simulator.url}/openai/v1/chat/completions",
        json={"model": "raw-model", "stream": True, "messages": HELLO},
        headers={"authorization": "Bearer sk-one-1111"},
    )
    assert without_ids(plain.text) == without_ids(straight.text) and "usage" not in plain.text
    row = row_of(folder, "raw-plain")
    assert row["counted"] == "told" and row["model"] == "raw-model"
    whole = raw(gateway, "raw-whole", model="raw-model").json()["usage"]
    assert (row["prompt_tokens"], row["completion_tokens"]) == (
        whole["prompt_tokens"],
        whole["completion_tokens"],
    )


def test_a_raw_stream_that_asks_for_usage_gets_it(gateway, folder):
    asked = raw(gateway, "raw-asked", stream=True, stream_options={"include_usage": True})
    assert '"completion_tokens"' in asked.text
    assert row_of(folder, "raw-asked")["counted"] == "told"


def test_a_call_that_fails_has_a_row_without_tokens(gateway, folder, simulator):
    simulator.fault("400", 1, model="refused-model")
    ask(gateway, id="refused-1", model="refused-model")
    row = row_of(folder, "refused-1")
    assert (row["status"], row["counted"], row["prompt_tokens"]) == (400, "", None)
    assert row["cost"] is None


# --- reading --------------------------------------------------------------------------------


def read(gateway, path, caller=None, **query):
    headers = {"authorization": f"Bearer {TOKENS[caller]}"} if caller else {}
    return httpx.get(gateway.url + path, params=query, headers=headers)


def test_operators_read_sums_and_calls(gateway, folder):
    for n in range(3):
        ask(gateway, id=f"read-{n}", model="read-model")
    row_of(folder, "read-2")
    told = read(gateway, "/admin/usage", by="model", model="read-model").json()
    (sums,) = told["data"]
    assert told["by"] == "model" and sums["calls"] == 3 and sums["provider"] == "openai-api"
    listed = rows(folder, model="read-model")
    assert sums["prompt_tokens"] == sum(row["prompt_tokens"] for row in listed)
    assert sums["cost_usd"] is None or sums["cost_usd"] > 0, "never zero where it is unknown"
    first = read(gateway, "/admin/calls", model="read-model", limit=2).json()
    assert [call["request_id"] for call in first["data"]] == ["read-2", "read-1"]
    second = read(gateway, "/admin/calls", model="read-model", limit=2, before=first["next"]).json()
    assert [call["request_id"] for call in second["data"]] == ["read-0"] and second["next"] is None
    answer = read(gateway, "/admin/calls", request_id="read-1", format="csv")
    (line,) = csv.DictReader(answer.text.splitlines())
    assert line["token"] == "alice" and answer.headers["content-type"].startswith("text/csv")
    assert "access-control-allow-origin" not in answer.headers


def test_an_empty_value_is_a_filter_too(gateway, folder, simulator):
    simulator.fault("400", 1, model="failing-model")
    ask(gateway, id="empty-1", model="failing-model")
    row_of(folder, "empty-1")
    listed = read(gateway, "/admin/calls", counted="").json()["data"]
    assert listed and {call["counted"] for call in listed} == {""}
    (failed,) = read(gateway, "/admin/usage", by="all", model="").json()["data"]
    assert failed["calls"] == failed["failed"] > 0
    assert read(gateway, "/admin/usage", token="").json()["data"] == []


def test_a_token_reads_its_own_sums_only(gateway, folder):
    ask(gateway, id="own-1", model="own-model", token="alice")
    ask(gateway, id="own-2", model="bobs-model", token="bob")
    row_of(folder, "own-1"), row_of(folder, "own-2")
    told = read(gateway, "/c/v1/usage", "alice").json()
    models = {each["model"] for each in told["data"]}
    assert told["token"] == "alice" and "own-model" in models and "bobs-model" not in models
    assert read(gateway, "/c/v1/usage").status_code == 401
    refused = read(gateway, "/c/v1/usage", "alice", by="key")
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "by"
    assert read(gateway, "/c/v1/usage", "alice", token="bob").status_code == 400


@pytest.mark.parametrize(
    ("path", "query", "param"),
    [
        ("/admin/usage", {"by": "moon"}, "by"),
        ("/admin/usage", {"since": "soon"}, "since"),
        ("/admin/usage", {"until": ""}, "since"),
        ("/admin/usage", {"format": "xml"}, "format"),
        ("/admin/calls", {"limit": "0"}, "limit"),
        ("/admin/calls", {"limit": "many"}, "limit"),
        ("/admin/calls", {"before": "-1"}, "before"),
        ("/admin/calls", {"status": "ok"}, "status"),
        ("/admin/calls", {"colour": "red"}, "colour"),
    ],
)
def test_what_is_asked_wrongly_is_told(gateway, path, query, param):
    answer = read(gateway, path, **query)
    assert answer.status_code == 400 and answer.json()["error"]["param"] == param


def test_the_command_reads_without_the_gateway(gateway, folder):
    ask(gateway, id="command-1", model="command-model")
    row_of(folder, "command-1")

    def run(*flags):
        command = [sys.executable, str(ROOT / "run.py"), "usage", "-c", str(gateway.file), *flags]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert any(line.startswith("alice ") for line in run().stdout.splitlines())
    told = json.loads(run("--by", "model", "--json").stdout)
    assert "command-model" in {each["model"] for each in told["data"]}
    lines = list(csv.DictReader(run("--by", "day", "--csv").stdout.splitlines()))
    assert int(lines[0]["calls"]) >= 1
    wrong = run("--by", "moon")
    assert wrong.returncode == 2 and "--by: expected one of token" in wrong.stderr
    wrong = run("--since", "soon")
    assert wrong.returncode == 2 and "'soon' is no time" in wrong.stderr


# --- while the file cannot be written ------------------------------------------------------


def metric(gateway, name) -> float:
    text = read(gateway, "/metrics").text
    return float(re.search(rf"^{name} (\S+)$", text, re.M)[1])


def test_calls_go_on_while_the_file_is_lost_and_its_rows_arrive(simulator, tmp_path):
    calls = tmp_path / "calls"
    more = {"record_calls": "all", "record_calls_path": str(calls)}
    with running(tmp_path, config_for(simulator.url) | more) as gateway:
        file, away = tmp_path / "usage.db", tmp_path / "away"
        file.mkdir()  # nothing can be written there
        chat = {"model": "lost", "messages": HELLO}
        for n in range(5):
            headers = {"x-request-id": f"lost-{n}"}
            url = f"{gateway.url}/c/v1/chat/completions"
            assert httpx.post(url, json=chat, headers=headers).status_code == 200
        until(lambda: metric(gateway, "gateway_ledger_rows_waiting") == 5)
        assert "the ledger cannot be written" in gateway.err.read_text()
        assert read(gateway, "/admin/usage").status_code == 503
        file.rename(away)
        until(lambda: metric(gateway, "gateway_ledger_rows_total") == 5)
        assert metric(gateway, "gateway_ledger_rows_waiting") == 0
        assert [row["request_id"] for row in rows(tmp_path)] == [f"lost-{n}" for n in range(5)]
        assert "prompts and answers of all chat calls are written to" in gateway.err.read_text()
    kept = sorted(calls.glob("*-lost-*.json"))
    assert len(kept) == 5
    whole = json.loads(kept[0].read_text())
    assert json.loads(whole["request"]) == chat and '"choices"' in whole["answer"]
    assert whole["call"]["request_id"] == "lost-0" and whole["call"]["counted"] == "told"


def test_without_a_ledger_no_file_is_made(simulator, tmp_path):
    with running(tmp_path, config_for(simulator.url) | {"ledger": "off"}) as gateway:
        body = {"model": "gpt-4o-mini", "messages": HELLO}
        assert httpx.post(f"{gateway.url}/c/v1/chat/completions", json=body).status_code == 200
        assert read(gateway, "/admin/usage").json()["error"]["code"] == "no_ledger"
    assert not list(tmp_path.glob("usage*"))
