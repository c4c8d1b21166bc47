"""One gateway on the simulator for all tests that need nothing special of it."""

import pytest

from tests.server.running import Running


def config_for(simulator_url: str, **more) -> dict:
    """Every upstream is the simulator; two keys per pool."""
    return {
        "openai": {
            "api_url": f"{simulator_url}/openai",
            "api_keys": [{"id": "k1", "val": "sk-one-1111"}, {"id": "k2", "val": "sk-two-2222"}],
        },
    } | more


@pytest.fixture(scope="session")
def gateway(simulator, tmp_path_factory):
    running = Running(tmp_path_factory.mktemp("gateway"), config_for(simulator.url))
    yield running.wait()
    assert running.stop() == 0


CLAUDE_KEYS = {"a1": "sk-ant-api03-one-1111", "a2": "sk-ant-api03-two-2222"}
GEMINI_KEYS = {"g1": "AIza-operators-one", "g2": "AIza-operators-two"}


@pytest.fixture(scope="session")
def doors(simulator, tmp_path_factory):
    """One gateway with OpenAI, Claude and Gemini behind it, two keys each."""
    more = {
        "claude": {
            "api_url": f"{simulator.url}/claude",
            "api_keys": [{"id": i, "val": v} for i, v in CLAUDE_KEYS.items()],
        },
        "google_gemini": {
            "api_url": f"{simulator.url}/gemini",
            "model": "gemini-2.5-flash-lite",
            "api_keys": [
                {"id": "g1", "val": GEMINI_KEYS["g1"]},
                {"id": "g2", "val": GEMINI_KEYS["g2"], "version": "v1alpha"},
            ],
        },
    }
    running = Running(tmp_path_factory.mktemp("doors"), config_for(simulator.url) | more)
    yield running.wait()
    assert running.stop() == 0
