"""The last 1.x of the official Python client, on which many programs stay, through the gateway."""

import pytest

from tests.server import rounds


@pytest.mark.parametrize("provider", rounds.PROVIDERS)
def test_openai_1x_does_all_that_the_newest_does(doors, openai_1x, provider):
    script = (rounds.HERE / "openai_round.py").read_text()
    said = openai_1x.run(script, **rounds.wishes(doors.url, provider, prefixed=True))
    rounds.check(said, provider, "1.109.1")
