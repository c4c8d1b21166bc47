"""The OpenAI API as a provider: a host of its own chat wire, at the address the config gives it.

Shapes and errors: OpenAI's published API document and its official client.
"""

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from app.config.schema import Config
from app.wire.asked import Asked
from app.wire.dialect import OPENAI
from app.wire.endpoints import OPENAI_ENDPOINTS
from app.wire.kept import family_of
from app.wire.provider import ForwardRule
from app.wire.upstream import join_url
from providers.openai import responses_only
from providers.openai.endpoints import with_endpoints
from providers.openai.errors import error_reader
from providers.openai.host import Host, credential, provider
from providers.openai.schema import KeyChoice

POOL = "openai.api_keys"
RESPONSES_MODELS = ("*-pro", "*-pro-*", "*codex*")


def index(asked: Asked) -> str | None:
    """`openai: {index}` or the older `{conversation: {index}}` name a key by id."""
    choice = asked.member("openai", KeyChoice)
    if choice is None:
        return None
    return choice.index or (choice.conversation.index if choice.conversation else None)


# What Codex tells of itself, besides its x-codex-*.
_OF_CODEX = frozenset(
    ("originator", "session-id", "thread-id", "version", "x-openai-internal-codex-responses-lite")
)
_ANSWER = re.compile(r"responses/(resp_[A-Za-z0-9_-]{8,120})")


def _answer_in(path: str) -> str | None:
    """What leads to the key that has made the answer of this path."""
    found = _ANSWER.match(path)
    return family_of(found[1]) if found else None


HOST = Host(
    name="openai-api",
    family="openai",
    pool=POOL,
    dialect=OPENAI,
    endpoints=OPENAI_ENDPOINTS,
    setting="openai.api_url",
    address=lambda config, path, model: join_url(config.openai.api_url, f"/v1{path}"),
    proxy=lambda config: config.openai.proxy_url,
    passed_up=(
        "openai-organization",
        "openai-project",
        "openai-beta",
        "idempotency-key",
        "x-client-request-id",
        "user-agent",
    ),
    responses_path="/responses",
    passed_to_responses=lambda name: name.startswith("x-codex-") or name in _OF_CODEX,
)


def _responses_models(config: Config) -> Sequence[str]:
    """The names of models that OpenAI has in Responses alone; by default those it has today."""
    named = config.openai.responses_models
    if named is not None:
        return named
    is_openai = urlsplit(config.openai.api_url).hostname == "api.openai.com"
    return RESPONSES_MODELS if is_openai else ()


PROVIDER = responses_only.beside(
    with_endpoints(provider(HOST, index=index), HOST), HOST, _responses_models
)

FORWARDS = tuple(
    ForwardRule(
        prefix=prefix,
        upstream_prefix=prefix,
        provider=HOST.name,
        family=HOST.family,
        pool=POOL,
        base=lambda config: config.openai.api_url,
        proxy=HOST.proxy,
        credential=lambda key, headers, config: credential(OPENAI, key),
        # They name the operator's account, not the caller's.
        private_headers=("openai-organization", "openai-project"),
        read_error=error_reader(HOST.setting),
        conversation=_answer_in,
        websockets=prefix == "/v1/",
        asks_usage=True,
    )
    for prefix in ("/v1/", "/dashboard/")
)
