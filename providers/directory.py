"""Which provider answers a call: the built-in families, the config's upstreams and its aliases.

Source: protocol sheet openai-compatible, sections 5.3 and 8.
"""

import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from msgspec.structs import replace

from app.config.presets import dialect_of
from app.config.schema import Config, Upstream
from app.wire.asked import Asked
from app.wire.endpoints import Endpoint
from app.wire.errors import GatewayError
from app.wire.provider import ForwardRule, Provider
from providers import FAMILIES, Family
from providers.claude import api as claude_api
from providers.claude import web as claude_web
from providers.openai import api as openai_api
from providers.openai import compatible
from providers.openai.host import as_model

_OPENAI_MODEL = re.compile(r"(?:gpt|chatgpt)-|o[134](?:-|\\Z)")
_SHOWN_AS = "anthropic/"


class Choice(NamedTuple):
    """Who answers a call, and the model's name as that upstream knows it.

    `is_named` says that the caller named the house, by `provider`, by a prefix, or by asking for
    OpenAI's own: only such a one may be shown the caller's own credential.
    """

    provider: Provider
    model: str
    is_named: bool = True


class Directory:
    """Made of the config once per process."""

    def __init__(self, config: Config) -> None:
        families = (*FAMILIES, *map(_family, config.upstreams))
        self._config = config
        self._by_name = {name: each for f in families for name, each in f.named.items()}
        self._by_model = {(f.name, model): p for f in families for model, p in f.by_model.items()}
        # A list of models that was fetched never decides a route.
        self._by_start = tuple((start, f.name) for f in families for start in f.bare_models)
        self._starts = tuple(start for start, _ in self._by_start)
        self._bare = {
            model: upstream.name
            for upstream in reversed(config.upstreams)  # the first in the file wins
            for model in upstream.models
            if "*" not in model
        }
        self._keeps_prefix = frozenset(
            upstream.name
            for upstream in config.upstreams
            if dialect_of(upstream.name, upstream.like).keeps_bare_prefix
        )
        # The longest literal part first.
        self._patterns = sorted(
            (alias for alias in config.models if "*" in alias), key=len, reverse=True
        )
        self.all: tuple[Provider, ...] = tuple(
            provider
            for family in families
            for provider in (*family.named.values(), *family.by_model.values(), *family.others)
        )
        self.forwards: tuple[ForwardRule, ...] = tuple(
            replace(rule, lives_elsewhere=self._lives_elsewhere)
            if rule.provider == openai_api.PROVIDER.name
            else rule
            for family in families
            for rule in family.forwards
        )
        # The models that the config names, which GET /c/v1/models shows without asking.
        self.named: tuple[tuple[Provider, list[dict[str, Any]]], ...] = tuple(
            (self._by_name[upstream.name], entries)
            for upstream in config.upstreams
            if (entries := _entries(upstream))
        )
        # Whose models it asks for besides, under the name that `provider` takes.
        self.listed: dict[str, Provider] = {
            family.name: provider
            for family in families
            if (provider := family.named[family.name]).models_request is not None
            and all(provider is not known for known, _ in self.named)
        }
        self._shown = {each.name: each.models for each in config.upstreams if each.models}
        # The aliases that are names of their own, and the providers they lead to.
        self.aliases: tuple[tuple[dict[str, Any], list[Provider]], ...] = tuple(
            self._alias(name, targets) for name, targets in config.models.items() if "*" not in name
        )
        # What a route of a front may pin.
        self.pinned: dict[str, Provider] = self._by_name | {
            name: each for f in families for name, each in f.pinned.items()
        }

    def shows(self, name: str, model: str) -> bool:
        """Whether the list of models shows this one: an entry of `upstreams` may say which."""
        patterns = self._shown.get(name)
        return patterns is None or any(fnmatchcase(model, pattern) for pattern in patterns)

    def _alias(self, name: str, targets: list[str]) -> tuple[dict[str, Any], list[Provider]]:
        providers = [self.choose(None, each, None, lambda provider: True)[0] for each in targets]
        entry = as_model(name, providers[0].family) | {"provider": "", "aliases": True}
        return entry, providers

    def _lives_elsewhere(self, model: str) -> bool:
        """Whether the chat route would ask somebody else than OpenAI for this model."""
        return model.partition("/")[0] in self._by_name or bool(self.targets(model))

    def listed_id(self, name: str, model: str) -> str:
        """A listed model as it can be asked: without a prefix where that leads to `name`."""
        is_bare = name == "openai" if model not in self._bare else self._bare[model] == name
        return model if is_bare else f"{name}/{model}"

    def targets(self, model: str) -> list[str]:
        """What the alias `model` stands for, in the order to be asked; [] if it is none.

        An exact name wins over patterns, and of these the one with the longest literal part.
        """
        exact = self._config.models.get(model)
        if exact is not None:
            return exact
        for pattern in self._patterns:
            head, _, tail = pattern.partition("*")
            if (
                len(model) >= len(head) + len(tail)
                and model.startswith(head)
                and model.endswith(tail)
            ):
                part = model[len(head) : len(model) - len(tail)]
                return [each.replace("*", part) for each in self._config.models[pattern]]
        return []

    def choose(
        self,
        name: str | None,
        model: str,
        asked: Asked | None = None,
        may_use: Callable[[Provider], bool] = lambda provider: False,
        own_house: str = "openai",
    ) -> Choice:
        """The provider of a call, by `provider`, the model's prefix, or its bare name.

        An explicit `name` wins, and then the model goes on as it is; else one prefix of the model
        (`claude/claude-...`) decides; else a bare name that an upstream's `models` holds, or that
        begins as a well-known family's, if `may_use` says so; else OpenAI. `asked`, where there is
        one, tells which of a family's upstreams is meant. `own_house` is asked in place of OpenAI
        by a front of another family's: it goes by the names alone, for it speaks to no compatible
        server that might have them all. Raises GatewayError 400 for an unknown
        name where `unknown_provider` is `refuse`.
        """
        house = name
        if house is None:
            # As Claude Code must be shown the models of others, or it leaves them out.
            if model.startswith(_SHOWN_AS) and self._has_prefix(model.removeprefix(_SHOWN_AS)):
                model = model.removeprefix(_SHOWN_AS)
            prefix, slash, rest = model.partition("/")
            if slash and prefix in self._by_name:
                house = prefix
                if "/" in rest or prefix not in self._keeps_prefix:
                    model = rest
        if house is not None:
            provider = self._by_name.get(house)
            if provider is None:
                self._refuse_unknown(house)
                provider = openai_api.PROVIDER
            return Choice(self._of_family(provider, house, model, asked), model)
        found = self._bare.get(model)
        if own_house != "openai":
            house = found or self._house_of(model) or own_house
            provider = self._of_family(self._by_name[house], house, model, asked)
            return Choice(provider, model)
        if found is None and model.startswith(self._starts):
            found = next(house for start, house in self._by_start if model.startswith(start))
        if found is not None and may_use(self._by_name[found]):
            provider = self._of_family(self._by_name[found], found, model, asked)
            return Choice(provider, model, is_named=False)
        if "/" in model:
            self._refuse_unknown(model.partition("/")[0])
        return Choice(openai_api.PROVIDER, model)

    def _has_prefix(self, model: str) -> bool:
        prefix, slash, _ = model.partition("/")
        return bool(slash) and prefix in self._by_name

    def _house_of(self, model: str) -> str | None:
        if _OPENAI_MODEL.match(model):
            return "openai"
        return next((house for start, house in self._by_start if model.startswith(start)), None)

    def _of_family(
        self, provider: Provider, house: str, model: str, asked: Asked | None
    ) -> Provider:
        """Which of a family's upstreams the request means."""
        if (
            provider is claude_api.PROVIDER
            and asked is not None
            and not claude_api.is_claude_api(asked)
        ):
            return claude_web.PROVIDER
        return self._by_model.get((house, model), provider)

    def at_endpoint(self, endpoint: Endpoint, provider: Provider) -> Provider:
        """The provider of this endpoint of the same upstream. Raises GatewayError 501, with who has
        one, where it has none."""
        found = provider.endpoints.get(endpoint)
        if found is not None:
            return found
        having = [name for name, each in self._by_name.items() if endpoint in each.endpoints]
        below = next((r.prefix for r in self.forwards if r.provider == provider.name), "")
        said = f"The upstream {provider.family} has no {endpoint}"
        if having:
            said += (
                f"; there are {', '.join(having)}: name one by `provider` or by a prefix of the "
                f"model, as in {having[-1]}/MODEL"
            )
        if below:
            said += f". Whatever else {provider.family} has is below {below}"
        raise GatewayError(
            501,
            f"{said}.",
            type="invalid_request_error",
            code="not_supported",
            headers=(("x-should-retry", "false"),),
            outcome="refused",
        )

    def _refuse_unknown(self, name: str) -> None:
        if self._config.unknown_provider == "refuse":
            raise GatewayError(
                400,
                f"There is no upstream {name[:64]!r}; there are {', '.join(self._by_name)}.",
                code="unknown_provider",
                param="model",
            )


def _entries(upstream: Upstream) -> list[dict[str, Any]]:
    """The models that its entry names, as the list has them."""
    return [
        as_model(model, upstream.name) | {"provider": upstream.name}
        for model in upstream.models
        if "*" not in model
    ]


def _family(upstream: Upstream) -> Family:
    """An entry of `upstreams` as a family of its own."""
    dialect = dialect_of(upstream.name, upstream.like)
    provider = compatible.provider(upstream, dialect)
    return Family(
        name=upstream.name,
        named={upstream.name: provider},
        forwards=(compatible.forward(upstream, dialect),),
    )
