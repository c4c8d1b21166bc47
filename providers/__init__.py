"""Every upstream the gateway knows, and which of them answers a call.

Adding a provider is one line here.
"""

from collections.abc import Callable

from msgspec.structs import replace

from app.wire.asked import Asked
from app.wire.provider import ForwardRule, Provider
from providers.bing import web as bing_web
from providers.claude import api as claude_api
from providers.claude import web as claude_web
from providers.coze import api as coze_api
from providers.coze import discord as coze_discord
from providers.gemini import api as gemini_api
from providers.openai import api as openai_api
from providers.openai import web as openai_web

# What `provider` (or a model's prefix) may say. Anything else goes to OpenAI's API, as ever.
_BY_NAME: dict[str, Provider] = {
    "openai": openai_api.PROVIDER,
    "openai-chat-web": openai_web.PROVIDER,
    "claude": claude_api.PROVIDER,
    "gemini": gemini_api.PROVIDER,
    "bing": bing_web.PROVIDER,
    "coze": coze_discord.PROVIDER,
}
# Where a model's name decides between a family's upstreams.
_BY_MODEL: dict[tuple[str, str], Provider] = {
    ("coze", coze_api.MODEL): coze_api.PROVIDER,
}

# Families whose bare names are nobody else's; a list that was fetched never decides a route.
_BY_FAMILY = (("claude-", "claude"), ("gemini-", "gemini"), ("gemma-", "gemini"))
_FAMILIES = tuple(start for start, _ in _BY_FAMILY)

# Whose models GET /c/v1/models lists, under the name that `provider` takes.
LISTED: dict[str, Provider] = {
    "openai": openai_api.PROVIDER,
    "claude": claude_api.PROVIDER,
    "gemini": gemini_api.PROVIDER,
}


def listed_id(name: str, model: str) -> str:
    """A model of that list as it can be asked: without a prefix OpenAI is asked."""
    return model if name == "openai" else f"{name}/{model}"


# The gateway's own members of a body, by family.
MEMBERS = ("openai", "gemini", "bing", "coze", "claude")

# What a route of a front may pin.
PINNED: dict[str, Provider] = {
    "claude": claude_api.PROVIDER,
    "gemini": gemini_api.PROVIDER,
    "bing": bing_web.PROVIDER,
    "openai-chat-web": openai_web.PROVIDER,
    "openai-chat-web/anonymous": openai_web.ANONYMOUS,
}

ALL: tuple[Provider, ...] = (
    openai_api.PROVIDER,
    openai_web.PROVIDER,
    claude_api.PROVIDER,
    claude_web.PROVIDER,
    gemini_api.PROVIDER,
    bing_web.PROVIDER,
    coze_api.PROVIDER,
    coze_discord.PROVIDER,
)


def _lives_elsewhere(model: str) -> bool:
    """Whether /c/v1/chat/completions would ask somebody else for this model."""
    return model.partition("/")[0] in _BY_NAME


FORWARDS: tuple[ForwardRule, ...] = (
    *(replace(rule, lives_elsewhere=_lives_elsewhere) for rule in openai_api.FORWARDS),
    *openai_web.FORWARDS,
    *claude_api.FORWARDS,
    *claude_web.FORWARDS,
    *gemini_api.FORWARDS,
)


def choose(
    name: str | None,
    model: str,
    asked: Asked | None = None,
    has_key: Callable[[str], bool] = lambda pool: False,
) -> tuple[Provider, str]:
    """The provider of a call and the model's name without its prefix.

    An explicit `name` wins; else a prefix of the model (`claude/claude-...`) decides; else a bare
    name of a well-known family goes to its house, if `has_key` says so of that house's pool.
    `asked`, where there is one, tells which of a family's upstreams is meant.
    """
    is_bare = False
    if name is None:
        prefix, slash, rest = model.partition("/")
        if slash and prefix in _BY_NAME:
            name, model = prefix, rest
        elif model.startswith(_FAMILIES):
            name = next(house for start, house in _BY_FAMILY if model.startswith(start))
            is_bare = True
    provider = _BY_NAME.get(name or "", openai_api.PROVIDER)
    if (
        provider is claude_api.PROVIDER
        and asked is not None
        and not claude_api.is_claude_api(asked)
    ):
        provider = claude_web.PROVIDER
    if is_bare and not has_key(provider.pool):
        return openai_api.PROVIDER, model
    return _BY_MODEL.get((name or "", model), provider), model
