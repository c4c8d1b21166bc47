"""The ledger behind a running gateway: every call has its row."""

import sqlite3

import httpx
import pytest

from tests.server.conftest import config_for
from tests.server.running import running, until

TOKENS = {"alice": "alice-0123456789abcdef", "bob": "bob-0123456789abcdef"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ledger")


@pytest.fixture(scope="module")
def gateway(simulator, folder):
    tokens = [{"id": name, "val": value} for name, value in TOKENS.items()]
    config = config_for(simulator.url) | {"access": {"tokens": tokens}}
    with running(folder, config) as started:
        yield started


def rows(folder, **having) -> list[dict]:
    """The rows of the ledger's calls that have these values."""
    with sqlite3.connect(f"file:{folder / 'usage.db'}?mode=ro", uri=True) as database:
        database.row_factory = sqlite3.Row
        found = [dict(row) for row in database.execute("SELECT * FROM ledger_calls ORDER BY id")]
    database.close()
    return [row for row in found if all(row[name] == value for name, value in having.items())]


def ask(gateway, path="/c/v1/chat/completions", token="alice", id="", **more):
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]} | more
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


STREAMED = {"stream": True}


@pytest.mark.parametrize(
    "model", ["gpt-4o-mini", "claude/claude-sonnet-4-5", "gemini/gemini-2.5-pro"]
)
def test_a_stream_that_asks_for_no_usage_is_counted_all_the_same(doors_with_ledger, model):
    pass
