"""The official npm package through the gateway."""

import pytest

from tests.server import rounds


@pytest.mark.parametrize("provider", rounds.PROVIDERS)
def test_the_npm_package_does_all_that_the_python_client_does(doors, node, provider):
    script = (rounds.HERE / "openai_round.js").read_text()
    said = node.run(script, **rounds.wishes(doors.url, provider, prefixed=False))
    rounds.check(said, provider, "7.57.0")
