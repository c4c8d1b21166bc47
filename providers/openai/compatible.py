"""An entry of `upstreams` as a provider: a host of OpenAI's chat wire and its dialect.

Source: protocol sheet openai-compatible.
"""

import re
from urllib.parse import quote

from app.config.presets import endpoints_of
from app.config.schema import Upstream
from app.wire.dialect import Dialect
from app.wire.provider import ForwardRule, Provider
from providers.openai import host, responses_only
from providers.openai.endpoints import with_endpoints
from providers.openai.errors import error_reader

# The part of an address that names one model's deployment.
_DEPLOYMENT = re.compile(r"(?:/deployments)?/[^/]*\{model\}.*")
_JWT = "eyJ"  # how a token of Entra ID begins, which is sent as Bearer


def provider(upstream: Upstream, dialect: Dialect) -> Provider:
    """The upstream as a provider, called by its name."""
    anonymous, at = needs_no_key(upstream), _host(upstream, dialect)
    chat = host.provider(
        at,
        takes_own_key=not anonymous,
        anonymous=anonymous,
        idle_seconds=upstream.timeouts.idle or None,
        first_event_seconds=upstream.timeouts.first_event or None,
    )
    if dialect.wire == "responses":
        return with_endpoints(responses_only.instead_of(chat, at), at)
    whole = with_endpoints(chat, at)
    return responses_only.beside(whole, at) if at.responses_path else whole


def forward(upstream: Upstream, dialect: Dialect) -> ForwardRule:
    """The raw route `/upstreams/NAME/*`, which forwards to the same base address.

    Of an address with a {model} what stands before the deployment is the base: Azure's .../openai,
    and the caller's path goes on with deployments/NAME/....
    """
    is_anonymous = needs_no_key(upstream)
    version = upstream.api_version
    own_header = "api-key" if dialect.auth == "api-key" else "authorization"
    return ForwardRule(
        prefix=f"/upstreams/{upstream.name}/",
        upstream_prefix="/",
        provider=upstream.name,
        family=upstream.name,
        pool=pool_of(upstream),
        base=lambda config: _DEPLOYMENT.sub("", upstream.api_url),
        proxy=lambda config: upstream.proxy_url,
        credential=lambda key, headers, config: host.credential(dialect, key),
        credential_headers=("authorization", "api-key"),
        moves=lambda header, token: header != own_header and not token.startswith(_JWT),
        own=(lambda headers: "") if is_anonymous else None,  # whatever the caller sends stays here
        query=(("api-version", version),) if version else (),
        read_error=error_reader(setting_of(upstream)),
        defaults=lambda config: list(upstream.headers.items()),
        anonymous=is_anonymous,
        websockets=True,
        asks_usage=dialect.usage == "ask",
    )


def _host(upstream: Upstream, dialect: Dialect) -> host.Host:
    speaks_responses = upstream.responses == "native" or dialect.wire == "responses"
    return host.Host(
        name=upstream.name,
        family=upstream.name,
        pool=pool_of(upstream),
        dialect=dialect,
        setting=setting_of(upstream),
        address=lambda config, path, model: address(upstream, path, model),
        proxy=lambda config: upstream.proxy_url,
        headers=tuple(upstream.headers.items()),
        drop=tuple(upstream.drop),
        responses_path="/responses" if speaks_responses else "",
        endpoints=endpoints_of(upstream.name),
        checked_model=next((model for model in upstream.models if "*" not in model), ""),
    )


def pool_of(upstream: Upstream) -> str:
    """The name of the pool with its keys."""
    return f"upstreams.{upstream.name}"


def setting_of(upstream: Upstream) -> str:
    """What the config calls its address."""
    return f"upstreams[].api_url ({upstream.name})"


def needs_no_key(upstream: Upstream) -> bool:
    """Whether calls go out without a credential: its list of keys is written, and empty."""
    return upstream.api_keys is not None and not upstream.api_keys


def address(upstream: Upstream, path: str, model: str) -> str:
    """The URL of `path` below the upstream's base address."""
    url = upstream.api_url.replace("{model}", quote(model, safe="")) + path
    return f"{url}?api-version={quote(upstream.api_version)}" if upstream.api_version else url
