"""What a caller's token covers."""

import pytest

from app.auth.caller import Caller
from app.config.schema import AccessToken
from app.wire.errors import GatewayError


def token(**more):
    return Caller(token=AccessToken(id="a", val="alice-0123456789-token", **more))


@pytest.mark.parametrize(
    ("restricted", "provider", "model", "allowed"),
    [
        ({}, "openai-api", "gpt-4o", True),
        ({"providers": ["openai"]}, "openai-api", "gpt-4o", True),
        ({"providers": ["openai"]}, "openai-chat-web", "x", True),
        ({"providers": ["openai"]}, "claude-api", "x", False),
        ({"providers": ["bing"]}, "bing", "", True),
        ({"models": ["gpt-4o*"]}, "openai-api", "gpt-4o-mini", True),
        ({"models": ["gpt-4o*"]}, "openai-api", "gpt-5", False),
        ({"models": ["gpt-4o*"]}, "openai-api", "GPT-4o", False),
        ({"models": ["claude/*"]}, "claude-api", "claude-sonnet-4-5", True),
        ({"models": ["claude/*"]}, "openai-api", "claude-x", False),
        ({"models": ["gemini-*"]}, "gemini-api", "models/gemini-2.5-flash", True),
        ({"models": ["gpt-4o"]}, "openai-api", "", False),
        ({"models": ["*"]}, "openai-api", None, False),
        ({"providers": ["claude"], "models": ["*"]}, "openai-api", "x", False),
    ],
)
def test_a_token_may_be_for_some_providers_and_models_only(restricted, provider, model, allowed):
    caller = token(**restricted)
    assert caller.may(provider, model) is allowed
    if not allowed:
        with pytest.raises(GatewayError) as caught:
            caller.allow(provider, model)
        assert (caught.value.status, caught.value.code) == (403, "not_allowed")
