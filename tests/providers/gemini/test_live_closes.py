"""What the live API says when it closes a websocket, and what that means for the key."""

import pytest

from app.pool.outcomes import Outcome, of_told
from providers.gemini.errors import read_close


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        ("API key not valid. Please pass a valid API key.", Outcome.AUTH),
        ("API key expired. Please renew the API key.", Outcome.AUTH),
        ("You exceeded your current quota, please check your plan and billing", Outcome.LIMITED),
        ("Request contains an invalid argument.", Outcome.CUT),  # the caller's
        ("models/x is not found for API version v1beta, or is not supported", Outcome.CUT),
    ],
)
def test_a_reason_concerns_the_key_or_not(reason, outcome):
    assert of_told(read_close(reason)) is outcome
