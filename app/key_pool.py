"""The key pool: which credential answers this call.

The caller's own first, then the one named by id, else one at random among the configured keys that
are not resting. Random needs no agreement between workers; only rests are shared.
Never talks to an upstream.
"""

import random
import time
from collections.abc import Mapping, Sequence

from msgspec import Struct

from app import shared_state
from app.shared_state import SharedState
from app.wire.errors import GatewayError
from app.wire.provider import Key
from app.wire.settings import Config

# What SDK users type where a key is required though the gateway has one: no credential.
PLACEHOLDERS = frozenset({"", "pool", "none", "empty"})


WEB_SESSIONS = ("openai.web_sessions", "claude.web_sessions")


def bare_token(value: str) -> str:
    """A header's credential without `Bearer `, "" for a placeholder."""
    value = value.strip()
    if value[:7].lower() == "bearer ":
        value = value[7:].strip()
    elif value.lower() == "bearer":
        return ""
    return "" if value.lower() in PLACEHOLDERS else value


def callers_own(headers: Mapping[str, str], accepts: Sequence[str]) -> str:
    """The caller's own credential from the first of the `accepts` headers that has one, else ""."""
    for name in accepts:
        value = headers.get(name)
        if value is not None and (token := bare_token(value)):
            return token
    return ""


def configured(config: Config) -> dict[str, list[Key]]:
    """Every pool of the config: pool name -> its keys, in the file's order."""
    pools: dict[str, list[Key]] = {
        "openai.api_keys": [Key("openai.api_keys", k.id, k.val) for k in config.openai.api_keys],
        "openai.web_sessions": [
            Key("openai.web_sessions", s.id, s.val, {"max_concurrent": str(s.max_concurrent)})
            for s in config.openai.web_sessions
        ],
        "claude.api_keys": [Key("claude.api_keys", k.id, k.val) for k in config.claude.api_keys],
        "claude.web_sessions": [
            Key(
                "claude.web_sessions",
                s.id,
                s.val,
                {"organization_id": s.organization_id, "max_concurrent": str(s.max_concurrent)},
            )
            for s in config.claude.web_sessions
        ],
        "google_gemini.api_keys": [
            Key("google_gemini.api_keys", k.id, k.val, {"version": k.version})
            for k in config.google_gemini.api_keys
        ],
        "coze.bots": [
            Key(
                "coze.bots",
                f"{bot.user}/{bot.bot_id}",
                bot.access_token or config.coze.api_chat.access_token,
                {"user": bot.user, "bot_id": bot.bot_id},
            )
            for bot in config.coze.api_chat.bots
        ],
    }
    if config.coze.discord.enable:
        # The accounts that post are the bridge's; its own bot stands for all of them here.
        token = config.coze.discord.chat_bot_token
        pools["coze.discord"] = [Key("coze.discord", "discord", token)]
    return {name: [key for key in keys if key.val] for name, keys in pools.items()}


_DISABLED_UNTIL = 1e11


class Standing(Struct):
    """One key as its operator sees it. `state`: awake, resting, due, probing or disabled."""

    pool: str
    id: str
    state: str
    why: str
    until: float
    models: int  # 1 when some model of this key may be resting
    last_status: int
    uses: int


class KeyPool:
    def __init__(self, config: Config, state: SharedState) -> None:
        self._pools = configured(config)
        self._state = state
        self._by_id = {name: {key.id: key for key in keys} for name, keys in self._pools.items()}
        self._rows = {
            (key.pool, key.id): state.row(f"{key.pool}/{key.id}")
            for keys in self._pools.values()
            for key in keys
        }

    def web_sessions(self) -> list[Key]:
        """The keys that live, end and are renewed."""
        return [key for name in WEB_SESSIONS for key in self._pools.get(name, ())]

    def find(self, pool: str, id: str) -> Key | None:
        return self._by_id.get(pool, {}).get(id)

    def put(self, key: Key) -> None:
        """A key that is new, or has become another value under its old id."""
        keys = self._pools.setdefault(key.pool, [])
        by_id = self._by_id.setdefault(key.pool, {})
        if key.id in by_id:
            keys[keys.index(by_id[key.id])] = key
        else:
            keys.append(key)
            self._rows[key.pool, key.id] = self._state.row(f"{key.pool}/{key.id}")
        by_id[key.id] = key

    def drop(self, pool: str, id: str) -> None:
        """A key that is no more; its row stays, for it may come back."""
        key = self._by_id.get(pool, {}).pop(id, None)
        if key is not None:
            self._pools[pool].remove(key)

    def size(self, pool: str) -> int:
        return len(self._pools.get(pool, ()))

    def keys(self, pool: str) -> list[Key]:
        return self._pools.get(pool, [])

    def one_of(self, keys: Sequence[Key]) -> Key:
        """A random one of these that is not resting; of all when all are."""
        if len(keys) == 1:
            return keys[0]
        now = time.time()
        awake = [key for key in keys if self._until(key) <= now]
        return random.choice(awake or keys)

    def pick(self, pool: str, wanted: str | None = None) -> Key:
        """The key named `wanted`, else a random one that is not resting.

        Raises GatewayError 401: `unknown_auth_id` for an id that is not configured, `no_api_key`
        for an empty pool. An unknown id is never answered by another key.
        """
        if wanted:
            key = self._by_id.get(pool, {}).get(wanted)
            if key is None:
                raise GatewayError(
                    401,
                    f"No key with id {wanted[:64]!r} in {pool} ({self.size(pool)} configured); "
                    "leave out x-auth-id and index to let the gateway choose.",
                    type="invalid_request_error",
                    code="unknown_auth_id",
                    headers=(("x-should-retry", "false"),),
                )
            return key
        keys = self._pools.get(pool)
        if not keys:
            raise GatewayError(
                401,
                f"No key to use: send your own in the Authorization header, or configure {pool}.",
                type="invalid_request_error",
                code="no_api_key",
                headers=(("x-should-retry", "false"),),
            )
        return self.one_of(keys)

    def report(self, key: Key, status: int) -> None:
        """What an upstream said to a key: its HTTP status, 0 when it said nothing at all."""
        row = self._rows.get((key.pool, key.id), -1)
        if row < 0:
            return
        state = self._state
        state.add(row, shared_state.USES)
        state.set(row, shared_state.LAST_STATUS, float(status))
        state.set(row, shared_state.LAST_AT, time.time())
        if 200 <= status < 300:
            state.set(row, shared_state.FAILURES, 0.0)
        else:
            state.add(row, shared_state.FAILURES)

    def _until(self, key: Key) -> float:
        row = self._rows.get((key.pool, key.id), -1)  # the caller's own has none
        return self._state.get(row, shared_state.REST_UNTIL) if row >= 0 else 0.0

    # --- for operators ----------------------------------------------------------------------

    def standings(self) -> list[Standing]:
        now, state = time.time(), self._state
        found = []
        for (pool, id), row in self._rows.items():
            if row < 0:
                continue
            until = state.get(row, shared_state.REST_UNTIL)
            word = "awake" if until <= now else "resting"
            word, until = ("disabled", 0.0) if until == _DISABLED_UNTIL else (word, until)
            last = int(state.get(row, shared_state.LAST_STATUS))
            uses = int(state.get(row, shared_state.USES))
            found.append(Standing(pool, id, word, "", until, 0, last, uses))
        return found

    def reset(self, pool: str, id: str) -> bool:
        """Wakes a key, whatever it rests for. False if there is none."""
        row = self._rows.get((pool, id), -1)
        if row >= 0:
            self._state.set(row, shared_state.REST_UNTIL, 0.0)
        return row >= 0

    def disable(self, pool: str, id: str) -> bool:
        """No call goes to this key until `reset`."""
        row = self._rows.get((pool, id), -1)
        if row >= 0:
            self._state.set(row, shared_state.REST_UNTIL, _DISABLED_UNTIL)
        return row >= 0
