"""`upstreams` and `models`: what the presets know filled in, and what names lead to nothing.

Source: protocol sheet openai-compatible, sections 5 and 8.
"""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from urllib.parse import urlsplit

from msgspec.structs import replace

from app.config.families import PROVIDER_NAMES
from app.config.presets import BY_NAME, DIALECTS, Preset
from app.config.schema import Config, KeyEntry, Upstream

_COMPLETIONS = "/chat/completions"
_FREE = Preset("", "")

Note = tuple[str, str]  # a config key, and what there is to say of it


def fill_in(config: Config, environ: Mapping[str, str]) -> tuple[Config, list[Note], list[Note]]:
    """The config with its upstreams complete; mistakes; warnings.

    An entry that says nothing of keys gets the one of its preset's environment variable. Where that
    is not set, `api_keys` stays None: the upstream wants a key, and the gateway has none.
    """
    mistakes: list[Note] = []
    warnings: list[Note] = []
    if config.openai.api_url.rstrip("/").endswith("/v1"):
        mistakes.append(
            (
                "openai.api_url",
                "ends in /v1, which is added here; write it without, or make it an entry of "
                "upstreams",
            )
        )
    whole: list[Upstream] = []
    seen: dict[str, int] = {}
    for place, upstream in enumerate(config.upstreams):
        at = f"upstreams[{place}]"
        first = seen.setdefault(upstream.name, place)
        found = list(_mistakes(upstream, at))
        if first != place:
            found.append((f"{at}.name", f"the same as in upstreams[{first}]; write another"))
        mistakes += found
        if found:
            continue
        preset = BY_NAME.get(upstream.name, _FREE)
        keys = upstream.api_keys
        if keys is None and not preset.variable:
            keys = []
        elif keys is None and (val := environ.get(preset.variable, "")):
            keys = [KeyEntry(id="env", val=val)]
        elif keys is None:
            warnings.append(
                (
                    at,
                    f"{preset.variable} is not set: only callers with a key of theirs are served",
                )
            )
        whole.append(
            replace(
                upstream,
                api_url=base_address(upstream.api_url, preset),
                api_version=upstream.api_version or preset.api_version,
                api_keys=keys,
            )
        )
    written = {*PROVIDER_NAMES, *seen}
    config = replace(config, upstreams=whole)
    mistakes += _unknown_names(config, written)
    mistakes += _alias_mistakes(config, written)
    return config, mistakes, warnings


def unknown_provider(name: str, config: Config) -> str | None:
    """What is wrong with the name of a provider, None where somebody is called by it."""
    written = {*PROVIDER_NAMES, *(upstream.name for upstream in config.upstreams)}
    return None if name in written else _no_provider(name, written)


def base_address(api_url: str, preset: Preset) -> str:
    """What stands before /chat/completions. An origin alone gets the preset's path; an address with
    all of it is taken literally."""
    if not api_url:
        return preset.api_url
    base = api_url.rstrip("/")
    if base.endswith(_COMPLETIONS):
        return base.removesuffix(_COMPLETIONS).rstrip("/")
    return base if urlsplit(base).path else base + preset.path


def _mistakes(upstream: Upstream, at: str) -> Iterator[Note]:
    name, preset = upstream.name, BY_NAME.get(upstream.name)
    if name in PROVIDER_NAMES:
        yield f"{at}.name", f"{name} is built in and has a section of its own; write another name"
    elif not upstream.api_url and preset is None:
        close = get_close_matches(name, BY_NAME, 1)
        hint = f"did you mean {close[0]}? Else" if close else "no preset is called so:"
        yield at, f"{hint} write api_url: the address before {_COMPLETIONS}"
    elif not upstream.api_url and preset is not None and not preset.api_url:
        yield at, f"its address is an account's own; write api_url: {preset.example}"
    if upstream.like and upstream.like not in DIALECTS:
        yield f"{at}.like", f"no preset is called so; the presets are {', '.join(DIALECTS)}"
    for header in upstream.headers:
        low = header.lower()
        if low in ("authorization", "host", "api-key", "transfer-encoding", "connection") or (
            low.startswith("content-")
        ):
            yield f"{at}.headers", f"{header} is the gateway's own to write; remove it"


def _unknown_names(config: Config, written: set[str]) -> Iterator[Note]:
    """Names of providers that nobody is called by."""
    for place, token in enumerate(config.access.tokens):
        for name in token.providers:
            if name not in written:
                yield f"access.tokens[{place}].providers", _no_provider(name, written)
    for name in config.prices:
        if name not in written:
            yield f"prices.{name}", _no_provider(name, written)


def _no_provider(name: str, written: set[str]) -> str:
    if name in BY_NAME:
        return f"{name} is a preset that is not in use; write it in the list upstreams"
    close = get_close_matches(name, sorted(written), 1)
    known = f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(written))}"
    return f"there is no provider {name}; {known}"


def _alias_mistakes(config: Config, written: set[str]) -> Iterator[Note]:
    """What cannot be in `models`: chains, unknown providers, a * that stands for nothing."""
    for alias, targets in config.models.items():
        at = f"models.{alias}"
        if alias.count("*") > 1:
            yield at, "holds more than one *; write one"
        if not targets:
            yield at, "leads to no model; write one"
        for target in targets:
            name, slash, _ = target.partition("/")
            if target in config.models:
                yield at, f"{target} is an alias too; write the model that it stands for"
            elif "*" in target and "*" not in alias:
                yield at, f"the * of {target} stands for nothing; write a * before the colon too"
            elif slash and name not in written and not _listed(config, target):
                yield at, _no_provider(name, written)


def _listed(config: Config, model: str) -> bool:
    return any(model in upstream.models for upstream in config.upstreams)
