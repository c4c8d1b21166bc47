"""Every upstream the gateway knows, and which of them answers a call.

Adding a family is one row of `FAMILIES`.
"""

from collections.abc import Callable

from msgspec import Struct
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


class Family(Struct, frozen=True, kw_only=True):
    """One family: its upstreams, and how a call gets to each of them.

    `name` is the gateway's own member of a body, and what comes before the first `-` in the name of
    each of its providers. `named` are the providers that `provider` or a model's prefix can name.
    The one called like the family lists its models in GET /c/v1/models, if it has `models_request`.
    """

    name: str
    named: dict[str, Provider]
    by_model: dict[
        str, Provider
    ] = {}  # for these models in place of the one called like the family
    others: tuple[Provider, ...] = ()  # nobody can name them
    pinned: dict[str, Provider] = {}  # further ones that a route of a front may pin
    bare_models: tuple[str, ...] = ()  # how the names of its models begin, and nobody else's
    forwards: tuple[ForwardRule, ...] = ()  # reverse proxy routes


def _lives_elsewhere(model: str) -> bool:
    """Whether /c/v1/chat/completions would ask somebody else for this model."""
    return model.partition("/")[0] in _BY_NAME


# A call that names none of them goes to OpenAI's API.
FAMILIES = (
    Family(
        name="openai",
        named={"openai": openai_api.PROVIDER, "openai-chat-web": openai_web.PROVIDER},
        pinned={"openai-chat-web/anonymous": openai_web.ANONYMOUS},
        forwards=(
            *(replace(rule, lives_elsewhere=_lives_elsewhere) for rule in openai_api.FORWARDS),
            *openai_web.FORWARDS,
        ),
    ),
    Family(
        name="claude",
        named={"claude": claude_api.PROVIDER},
        others=(claude_web.PROVIDER,),  # see `choose`
        bare_models=("claude-",),
        forwards=(*claude_api.FORWARDS, *claude_web.FORWARDS),
    ),
    Family(
        name="gemini",
        named={"gemini": gemini_api.PROVIDER},
        bare_models=("gemini-", "gemma-"),
        forwards=gemini_api.FORWARDS,
    ),
    Family(name="bing", named={"bing": bing_web.PROVIDER}),
    Family(
        name="coze",
        named={"coze": coze_discord.PROVIDER},
        by_model={coze_api.MODEL: coze_api.PROVIDER},
    ),
)

# All that follows is made from these rows.
MEMBERS = tuple(family.name for family in FAMILIES)
ALL: tuple[Provider, ...] = tuple(
    provider
    for family in FAMILIES
    for provider in (*family.named.values(), *family.by_model.values(), *family.others)
)
FORWARDS: tuple[ForwardRule, ...] = tuple(rule for f in FAMILIES for rule in f.forwards)
# Whose models GET /c/v1/models lists, under the name that `provider` takes.
LISTED: dict[str, Provider] = {
    family.name: family.named[family.name]
    for family in FAMILIES
    if family.named[family.name].models_request is not None
}
_BY_NAME = {name: provider for f in FAMILIES for name, provider in f.named.items()}
_BY_MODEL = {(f.name, model): provider for f in FAMILIES for model, provider in f.by_model.items()}
# A list of models that was fetched never decides a route.
_BY_START = tuple((start, family.name) for family in FAMILIES for start in family.bare_models)
_STARTS = tuple(start for start, _ in _BY_START)
# What a route of a front may pin.
PINNED: dict[str, Provider] = _BY_NAME | {
    name: provider for f in FAMILIES for name, provider in f.pinned.items()
}


def listed_id(name: str, model: str) -> str:
    """A model of that list as it can be asked: without a prefix OpenAI is asked."""
    return model if name == "openai" else f"{name}/{model}"


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
        elif model.startswith(_STARTS):
            name = next(house for start, house in _BY_START if model.startswith(start))
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
