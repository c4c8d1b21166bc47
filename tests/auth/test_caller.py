"""What a caller's token covers."""

import pytest

from app.auth.caller import Caller
from app.config.schema import AccessToken
from app.wire.errors import GatewayError


def token(**more):
    return Caller(token=AccessToken(id="a", val="alice-0123456789-token", **more))


@pytest.mark.parametrize(
    ("restricted", "family", "model", "allowed"),
    [
        ({}, "openai", "gpt-4o", True),
        ({"providers": ["openai"]}, "openai", "gpt-4o", True),
        ({"providers": ["openai"]}, "openai-eu", "x", False),  # an upstream of that name
        ({"providers": ["openai-eu"]}, "openai", "x", False),
        ({"providers": ["openai"]}, "claude", "x", False),
        ({"providers": ["bing"]}, "bing", "", True),
        ({"models": ["gpt-4o*"]}, "openai", "gpt-4o-mini", True),
        ({"models": ["gpt-4o*"]}, "openai", "gpt-5", False),
        ({"models": ["gpt-4o*"]}, "openai", "GPT-4o", False),
        ({"models": ["claude/*"]}, "claude", "claude-sonnet-4-5", True),
        ({"models": ["claude/*"]}, "openai", "claude-x", False),
        ({"models": ["gemini-*"]}, "gemini", "models/gemini-2.5-flash", True),
        ({"models": ["gpt-4o"]}, "openai", "", False),
        ({"models": ["*"]}, "openai", None, False),
        ({"providers": ["claude"], "models": ["*"]}, "openai", "x", False),
    ],
)
def test_a_token_may_be_for_some_providers_and_models_only(restricted, family, model, allowed):
    caller = token(**restricted)
    assert caller.may(family, model) is allowed
    if not allowed:
        with pytest.raises(GatewayError) as caught:
            caller.allow(family, model)
        assert (caught.value.status, caught.value.code) == (403, "not_allowed")
