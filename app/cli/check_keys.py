"""`run.py check --live`: checks each configured key and session at its upstream.

One request per key, the cheapest of its upstream: a list of models, the name of an account. Needs
no running gateway. Prints ids and findings, never a key.
"""

import asyncio
from collections.abc import Iterable
from pathlib import Path

from app.cli.table import as_table as aligned
from app.clients import Clients
from app.config.load import secrets
from app.config.schema import Config
from app.engine.key_check import Finding, check_key
from app.pool.configured_keys import configured
from app.pool.key_pool import KeyPool
from app.pool.web_sessions import Sessions
from app.process import har_folder
from app.state.shared_table import SharedState
from app.telemetry.redaction import Redactor
from app.wire.provider import Key, Provider
from providers.directory import Directory

_CONCURRENCY = 8


async def examine(config: Config) -> list[Finding]:
    """Checks every key, eight at a time: a finding for each, in the order of the config."""
    clients = Clients(config.timeouts.connect)
    pool = KeyPool(config, SharedState())
    sessions = Sessions(pool, Path(config.openai.sessions_path))
    places = asyncio.Semaphore(_CONCURRENCY)
    redact = Redactor(secrets(config))

    async def one(key: Key, provider: Provider) -> Finding:
        async with places:
            current = sessions.current(key)
            return await check_key(config, clients, sessions, current, provider, redact)

    try:
        return await asyncio.gather(*(one(key, provider) for key, provider in _keys(config)))
    finally:
        await clients.close()


def _keys(config: Config) -> Iterable[tuple[Key, Provider]]:
    by_pool = {provider.pool: provider for provider in Directory(config).all}
    for name, keys in configured(config).items():
        for key in keys:
            yield key, by_pool[name]
    for provider in by_pool.values():  # asked without a key
        if provider.anonymous and provider.pool.startswith("upstreams."):
            yield Key(provider.pool, "", ""), provider
    if config.coze.discord.enable:
        discord = by_pool["coze.discord"]
        for place, token in enumerate(config.coze.discord.auth):
            yield Key("coze.discord", f"auth[{place}]", token), discord
    for path in har_folder.list_files(Path(config.hars_path)) if config.hars_path else ():
        found = har_folder.read(path)
        key = Key(har_folder.POOL, path.name, found.val, found.fields)
        if not found.problem and not found.is_to_be_renewed:
            yield key, by_pool[har_folder.POOL]


def as_table(findings: list[Finding]) -> str:
    """The findings as aligned columns."""
    rows = [("pool", "id", "state", "ends in", "")]
    rows += [
        (one.pool, one.id or "-", one.state, _span(one.expires_in), one.told) for one in findings
    ]
    return aligned(rows)


def _span(seconds: int | None) -> str:
    if seconds is None:
        return "-"
    if seconds <= 0:
        return "over"
    return f"{seconds // 86_400} d" if seconds >= 172_800 else f"{max(seconds // 3600, 1)} h"
