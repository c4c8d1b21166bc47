"""Every upstream that is built in. Adding a family is one row of `FAMILIES`.

`providers/directory.py` adds what the config brings, and tells which of them answers a call.
"""

from msgspec import Struct

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

    `name` is the gateway's own member of a body, and what access.tokens[].providers calls it.
    `named` are the providers that `provider` or a model's prefix can name. The one called like the
    family lists its models in GET /c/v1/models, if it has `models_request`.
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


# A call that names none of them goes to OpenAI's API.
FAMILIES = (
    Family(
        name="openai",
        named={"openai": openai_api.PROVIDER, "openai-chat-web": openai_web.PROVIDER},
        pinned={"openai-chat-web/anonymous": openai_web.ANONYMOUS},
        forwards=(*openai_api.FORWARDS, *openai_web.FORWARDS),
    ),
    Family(
        name="claude",
        named={"claude": claude_api.PROVIDER},
        others=(claude_web.PROVIDER,),  # see Directory.choose
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
# The gateway's own members of a body.
MEMBERS = tuple(family.name for family in FAMILIES)
