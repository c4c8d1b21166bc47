"""Shares cooldowns, the use of limited keys and tokens, and what tokens have spent, between hosts
through Redis.

Redis is only a copy: keys are picked by shared memory alone, and this copies between the two in the
background. Without Redis each host goes on with what it knows. The later change of a row counts, so
the hosts' clocks should agree.

    any-proxy:rests        hash: fingerprint -> Cooldown (JSON)
    any-proxy:use          hash: host -> time, and requests, tokens, open calls per limited key
    any-proxy:spent        hash: host -> time, and what was spent there of each budget

A host is known by another name in each worker that leads, but in `spent` by one number for good:
sums stay when their host is gone.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import redis.asyncio
from msgspec import Struct
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from app.pool.cooldown_store import Cooldown, export, merge
from app.pool.cooldowns import MODEL_MEMORY
from app.state.rate_windows import RateWindows
from app.state.shared_table import SharedState
from app.state.spending import Spending, Spent

logger = logging.getLogger("any_proxy.redis_sync")

_COOLDOWNS, _USE, _SPENT = "any-proxy:rests", "any-proxy:use", "any-proxy:spent"
_SECONDS = 2.0  # for one sync
_USE_SECONDS = 5.0  # a host that was silent that long counts as using nothing
_SPENT_SECONDS = 40 * 86_400.0  # longer than any period
_KEPT_SECONDS = 3600.0  # cooldowns that ended that long ago are deleted


class _Use(Struct):
    at: float
    keys: dict[str, tuple[float, float, int]]


class _SpentThere(Struct):
    at: float
    rows: list[Spent]


_decode_spent = msgspec.json.Decoder(_SpentThere).decode
_decode_cooldown = msgspec.json.Decoder(Cooldown).decode
_decode_use = msgspec.json.Decoder(_Use).decode


class RedisSync:
    """Copies between shared memory and Redis. Only the leader's runs."""

    def __init__(
        self, url: str, state: SharedState, limited: Callable[[], Mapping[str, int]]
    ) -> None:
        self._state, self._limited = state, limited
        self._windows, self._spending = RateWindows(state), Spending(state)
        self._host = uuid.uuid4().hex
        self._is_well = True
        self._redis: redis.asyncio.Redis = redis.asyncio.Redis.from_url(
            url,
            socket_timeout=_SECONDS,
            socket_connect_timeout=_SECONDS,
            retry=Retry(NoBackoff(), 0),
            max_connections=2,
        )

    async def sync(self) -> bool:
        """Pulls, then pushes once; False if Redis is unreachable."""
        try:
            async with asyncio.timeout(_SECONDS):
                await self._sync()
        except (RedisError, OSError, TimeoutError) as error:
            if self._is_well:
                self._is_well = False
                logger.warning(
                    "Redis cannot be used (%s): this host goes on with what it knows by itself",
                    type(error).__name__,
                )
            return False
        if not self._is_well:
            self._is_well = True
            logger.warning("Redis is back: hosts share their cooldowns again")
        return True

    async def _sync(self) -> None:
        now = time.time()
        async with self._redis.pipeline(transaction=False) as pull:
            pull.hgetall(_COOLDOWNS)
            pull.hgetall(_USE)
            pull.hgetall(_SPENT)
            cooldowns, uses, spent = await pull.execute()
        changed, gone = self._exchange_cooldowns(cooldowns, now)
        idle = self._read_uses(uses, now)
        limited = self._limited()
        told, forgotten = self._exchange_spent(spent, now)
        async with self._redis.pipeline(transaction=False) as push:
            if changed:
                push.hset(_COOLDOWNS, mapping=changed)
            if gone:
                push.hdel(_COOLDOWNS, *gone)
            if limited:
                push.hset(_USE, self._host, self._own_use(limited, now))
            if idle:
                push.hdel(_USE, *idle)
            if told:
                push.hset(_SPENT, f"{self._state.host:x}", told)
            if forgotten:
                push.hdel(_SPENT, *forgotten)
            if len(push):
                await push.execute()

    def _exchange_cooldowns(
        self, theirs: dict[bytes, bytes], now: float
    ) -> tuple[dict[Any, Any], list[bytes]]:
        """Merges what is newer there. Returns what is newer here, and the names of old rows."""
        known: dict[int, float] = {}
        gone = []
        for name, text in theirs.items():
            try:
                cooldown = _decode_cooldown(text)
            except (msgspec.DecodeError, UnicodeDecodeError):
                gone.append(name)
                continue
            known[cooldown.mark] = cooldown.changed
            if max(cooldown.until + MODEL_MEMORY, cooldown.changed) < now - _KEPT_SECONDS:
                gone.append(name)
            else:
                merge(self._state, cooldown, now)
        changed: dict[Any, Any] = {}
        for cooldown in export(self._state, now - _KEPT_SECONDS):
            if cooldown.changed > known.get(cooldown.mark, 0.0):
                changed[f"{cooldown.mark:x}"] = msgspec.json.encode(cooldown)
        return changed, gone

    def _exchange_spent(
        self, theirs: dict[bytes, bytes], now: float
    ) -> tuple[bytes | None, list[bytes]]:
        """Adds up what other hosts have spent. Returns what was spent here, if that is news, and
        the hosts that have spent nothing for long."""
        here = f"{self._state.host:x}".encode()
        forgotten, of_others = [], dict[int, list[Spent]]()
        own_there: list[Spent] = []
        for host, text in theirs.items():
            try:
                told = _decode_spent(text)
            except (msgspec.DecodeError, UnicodeDecodeError):
                forgotten.append(host)
                continue
            if host == here:
                own_there = told.rows
            elif now - told.at > _SPENT_SECONDS:
                forgotten.append(host)
            else:
                for spent in told.rows:
                    if spent.is_sane(now):
                        of_others.setdefault(spent.mark, []).append(spent)
        for spent in own_there:
            self._spending.restore(spent, now)  # it may be from before a crash of this host
        for mark, rows in of_others.items():
            if (row := self._state.find_row(mark)) >= 0:
                self._spending.set_others(row, rows, now)
        own = list(self._spending.own())
        news = own != own_there
        return msgspec.json.encode(_SpentThere(now, own)) if news else None, forgotten

    def _own_use(self, limited: Mapping[str, int], now: float) -> bytes:
        keys = {}
        for mark, row in limited.items():
            requests, tokens = self._windows.used(row, now)
            keys[mark] = (requests, tokens, self._state.open_calls(row))
        return msgspec.json.encode(_Use(now, keys))

    def _read_uses(self, uses: dict[bytes, bytes], now: float) -> list[bytes]:
        """Adds up what other hosts use, and returns the hosts that were silent for long."""
        sums: dict[str, tuple[float, float, int]] = {}
        idle = []
        for host, text in uses.items():
            if host == self._host.encode():
                continue
            try:
                use = _decode_use(text)
            except (msgspec.DecodeError, UnicodeDecodeError):
                idle.append(host)
                continue
            if abs(now - use.at) > _USE_SECONDS:
                if now - use.at > _KEPT_SECONDS:
                    idle.append(host)
                continue
            for mark, (requests, tokens, calls) in use.keys.items():
                before = sums.get(mark, (0.0, 0.0, 0))
                sums[mark] = (before[0] + requests, before[1] + tokens, before[2] + calls)
        for mark, row in self._limited().items():
            self._windows.set_remote_use(row, sums.get(mark, (0.0, 0.0, 0)), now + _USE_SECONDS)
        return idle

    async def close(self) -> None:
        """Closes the connections to Redis."""
        try:
            async with asyncio.timeout(_SECONDS):
                await self._redis.aclose()
        except (RedisError, OSError, TimeoutError):
            pass
