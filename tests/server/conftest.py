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
