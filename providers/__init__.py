"""Every upstream the gateway knows, and which of them answers a call.

Adding a provider is one line here.
"""

from app.wire.chat import Envelope
from app.wire.provider import ForwardRule, Provider
from providers.claude import api as claude_api
from providers.gemini import api as gemini_api
from providers.openai import api as openai_api

# What `provider` (or a model's prefix) may say. Anything else goes to OpenAI's API, as ever.
_BY_NAME: dict[str, Provider] = {
    "openai": openai_api.PROVIDER,
    "claude": claude_api.PROVIDER,
    "gemini": gemini_api.PROVIDER,
}

# Whose models GET /c/v1/models lists, under the name that `provider` takes.
LISTED: dict[str, Provider] = {
    "openai": openai_api.PROVIDER,
    "claude": claude_api.PROVIDER,
    "gemini": gemini_api.PROVIDER,
}

# Bodies in an upstream's own shape, answers in OpenAI's: path -> provider.
NATIVE: dict[str, Provider] = {
    "/claude/api/openai": claude_api.NATIVE,
    "/gemini/openai": gemini_api.NATIVE,
}

ALL: tuple[Provider, ...] = (openai_api.PROVIDER, claude_api.PROVIDER, gemini_api.PROVIDER)
FORWARDS: tuple[ForwardRule, ...] = (
    *openai_api.FORWARDS,
    *claude_api.FORWARDS,
    *gemini_api.FORWARDS,
)


def choose(envelope: Envelope) -> tuple[Provider, str]:
    """The provider of a call and the model's name without its prefix.

    An explicit `provider` wins; else a prefix of the model (`claude/claude-...`) decides.
    """
    model = envelope.model or ""
    if envelope.provider is not None:
        return _BY_NAME.get(envelope.provider, openai_api.PROVIDER), model
    prefix, slash, rest = model.partition("/")
    named = _BY_NAME.get(prefix) if slash else None
    return (named, rest) if named is not None else (openai_api.PROVIDER, model)
