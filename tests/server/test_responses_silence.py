"""A silent upstream, and callers of Responses whose idle timers count events: scaled from minutes.

Comments come each 0.1 s in place of 15; a "minute" is 0.4 s.
"""

import time
from pathlib import Path

import httpx
import pytest

from tests import responses_types
from tests.server.conftest import GEMINI_KEYS, config_for
from tests.server.running import Running

INTERVAL, MINUTE = 0.1, 0.4
SILENCE = 1.5  # before each event of the upstream's


def config(simulator) -> dict:
    return config_for(simulator.url) | {
        "timeouts": {"keep_alive_comment": INTERVAL},
        "google_gemini": {
            "api_url": f"{simulator.url}/gemini",
            "api_keys": [{"id": "g1", "val": GEMINI_KEYS["g1"]}],
        },
    }


@pytest.fixture(scope="module")
def hasty(simulator, tmp_path_factory):
    running = Running(
        tmp_path_factory.mktemp("hasty"),
        config(simulator),
        env={"MINUTE": str(MINUTE)},
        program=Path(__file__).parent / "hasty.py",
    )
    yield running.wait()
    assert running.stop() == 0


def test_an_event_comes_before_a_minute_of_silence_is_over(hasty):
    body = {
        "model": f"gemini/sim-drip-{int(SILENCE * 1000)}",
        "input": "blue moon",
        "stream": True,
    }
    received, pauses, last = b"", [], None
    with httpx.stream("POST", f"{hasty.url}/c/v1/responses", json=body, timeout=30) as answer:
        for piece in answer.iter_raw():
            received += piece
            if b"data: " in piece:  # to Codex a comment is silence
                now = time.monotonic()
                pauses.append(now - last if last is not None else 0.0)
                last = now
    events = responses_types.events_of(received)  # numbers without gaps, one end
    assert events[-1]["type"] == "response.completed"
    woken = [event for event in events[2:] if event["type"] == "response.in_progress"]
    assert len(woken) >= 4
    assert all(event["response"]["output"] == [] for event in woken)
    assert received.count(b": ping") > len(woken)
    assert max(pauses) < 0.95 * SILENCE, pauses
