"""The pools that the config fills: one row per pool, with its address, keys and limits.

Most are made of the lists in `app/config/families.py` and of `upstreams`; Coze's two have entries
of another kind.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from app.config.families import FAMILIES, KeyList
from app.config.schema import Config, CozeBot, Upstream
from app.state.rate_windows import Limits
from app.wire.provider import Key

NO_LIMITS = Limits()


class ConfiguredKey(NamedTuple):
    """One entry of the config: a key and its limits."""

    id: str
    val: str
    fields: dict[str, str] = {}
    limits: Limits = NO_LIMITS


class PoolRow(NamedTuple):
    """How one pool is read from the config."""

    name: str
    address: Callable[[Config], str]  # the upstream's URL
    entries: Callable[[Config], Iterable[ConfiguredKey]]
    is_web_sessions: bool = False  # its keys expire and are renewed
    is_many_accounts: bool = False  # its one key stands for accounts that cool down elsewhere


def _listed(entries: Iterable[Any], *fields: str) -> Iterable[ConfiguredKey]:
    """Entries of a list in the config; `fields` are the attributes that its provider needs."""
    for entry in entries:
        yield ConfiguredKey(
            entry.id,
            entry.val,
            {name: getattr(entry, name) for name in fields},
            Limits(entry.max_concurrent, entry.rpm, entry.tpm),
        )


def _bot(bot: CozeBot, config: Config) -> ConfiguredKey:
    token = bot.access_token or config.coze.api_chat.access_token
    return ConfiguredKey(
        f"{bot.user}/{bot.bot_id}", token, {"user": bot.user, "bot_id": bot.bot_id}
    )


def _discord(config: Config) -> Iterable[ConfiguredKey]:
    # The bridge owns the accounts that post; its own bot stands for all of them in the pool.
    if config.coze.discord.enable:
        yield ConfiguredKey("discord", config.coze.discord.chat_bot_token)


def _of_list(section: str, keys: KeyList) -> PoolRow:
    """The pool of a list whose entries have `id` and `val`."""
    return PoolRow(
        f"{section}.{keys.path}",
        lambda config: str(getattr(getattr(config, section), keys.address)),
        lambda config: _listed(getattr(getattr(config, section), keys.path), *keys.fields),
        keys.is_web_sessions,
    )


def _of_upstream(upstream: Upstream) -> PoolRow:
    """The pool of an entry of `upstreams`."""
    return PoolRow(
        f"upstreams.{upstream.name}",
        lambda config: upstream.api_url,
        lambda config: _listed(upstream.api_keys or ()),
    )


_BUILT_IN = (
    *(_of_list(each.section, keys) for each in FAMILIES for keys in each.pools if keys.address),
    PoolRow(
        "coze.bots",
        lambda config: config.coze.api_url,
        lambda config: (_bot(bot, config) for bot in config.coze.api_chat.bots),
    ),
    PoolRow(
        "coze.discord",
        lambda config: config.coze.discord.api_url,
        _discord,
        is_many_accounts=True,
    ),
)
WEB_SESSIONS = tuple(row.name for row in _BUILT_IN if row.is_web_sessions)
MANY_ACCOUNTS = frozenset(row.name for row in _BUILT_IN if row.is_many_accounts)


def pools(config: Config) -> list[PoolRow]:
    """Every pool of this config."""
    return [*_BUILT_IN, *map(_of_upstream, config.upstreams)]


def addresses(config: Config) -> dict[str, str]:
    """Returns the address of each pool's upstream."""
    return {row.name: row.address(config) for row in pools(config)}


def configured(config: Config) -> dict[str, list[Key]]:
    """Returns the keys of each pool, in the order of the config. A key without a value counts as
    not configured."""
    return {
        row.name: [
            Key(row.name, entry.id, entry.val, entry.fields)
            for entry in row.entries(config)
            if entry.val
        ]
        for row in pools(config)
    }


def limits_of(config: Config) -> dict[tuple[str, str], Limits]:
    """Returns (pool, key id) -> limits, for the keys that have any."""
    return {
        (row.name, entry.id): entry.limits
        for row in pools(config)
        for entry in row.entries(config)
        if entry.limits != NO_LIMITS
    }
