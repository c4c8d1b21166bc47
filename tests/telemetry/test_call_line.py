"""The text form of the call log: short, for people, and safe to look at in a terminal."""

import pytest

from app.telemetry.call_line import call_line
from app.telemetry.call_log import Attempt
from tests.telemetry.records import record

WHEN = "2026-11-27T17:04:49.457Z"


def attempt(key_id: str, status: int, outcome: str) -> Attempt:
    return Attempt("claude-api", "m", key_id, status, outcome, "", 1.0, "next")


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (
            {"model_asked": "claude/haiku", "model": "haiku", "provider": "claude-api",
             "key_id": "k2", "token": "alice", "total_ms": 1240.4, "first_event_ms": 311.0,
             "prompt_tokens": 12, "completion_tokens": 345, "counted": "told", "cost": 1_200_000},
            "200 claude/haiku -> claude-api/haiku 1.24 s (first 0.31 s) 12+345 tokens $0.0012"
            " key=k2 token=alice id=r1",
        ),
        (
            {"model_asked": "gpt-4o", "status": 429, "outcome": "all_keys_cooling",
             "code": "rate_limited", "tried": [attempt("k1", 429, "rate limited")]},
            "429 gpt-4o 0.12 s all_keys_cooling (rate_limited); tried k1: rate limited 429; id=r1",
        ),
        ({}, "200 /v1/* 0.12 s id=r1"),
        (
            {"model_asked": "a b\x1b[2J\x9b\n", "prompt_tokens": 3, "counted": "estimated"},
            r'200 "a b\u001b[2J\u009b\n" 0.12 s about 3+0 tokens id=r1',
        ),
    ],
)  # fmt: skip
def test_a_call_is_one_short_line(more, line):
    assert call_line(record(time=WHEN, **more)) == f"17:04:49.457 {line}"


@pytest.mark.parametrize(
    ("more", "colour"),
    [
        ({}, "32"),
        ({"tried": [attempt("k1", 429, "rate limited")]}, "33"),
        ({"status": 400, "outcome": "refused"}, "33"),
        ({"status": 502, "outcome": "upstream_error"}, "31"),
    ],
)
def test_a_terminal_shows_how_it_went_in_colour(more, colour):
    status = more.get("status", 200)
    assert f" \x1b[{colour}m{status}\x1b[0m " in call_line(record(time=WHEN, **more), colour=True)
