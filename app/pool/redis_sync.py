"""Several hosts share what rests, and what limited keys use, through Redis.

A mirror and no second home: keys are picked by shared memory alone, and this copies between it and
Redis in the background. Without Redis a host goes on with what it knows by itself. Of two words
about one row the newer counts, so the hosts' clocks should agree.

    any-proxy:rests        hash: fingerprint -> Rest
    any-proxy:use          hash: host -> when, and per limited key its requests, tokens, open calls
"""

import asyncio
import logging
import time
import uuid
from typing import Any

import msgspec
import redis.asyncio
from msgspec import Struct
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from app.pool.cooldown_store import MODEL_MEMORY, Rest, take_over, told
from app.pool.key_pool import KeyPool
from app.state.shared_table import SharedState

logger = logging.getLogger("any_proxy.mirror")

_RESTS, _USE = "any-proxy:rests", "any-proxy:use"
_SECONDS = 2.0  # for one exchange with Redis
_USE_SECONDS = 5.0  # a host that was silent so long uses nothing
_KEPT_SECONDS = 3600.0  # a rest that ended so long ago is nobody's business any more


class _Use(Struct):
    at: float
    keys: dict[str, tuple[float, float, int]]


_rest = msgspec.json.Decoder(Rest).decode
_use = msgspec.json.Decoder(_Use).decode


class RedisSync:
    def __init__(self, url: str, state: SharedState, pool: KeyPool) -> None:
        self._state, self._pool = state, pool
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
        """One look each way; False when Redis could not be reached."""
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
            logger.warning("Redis is back: hosts share their rests again")
        return True

    async def _sync(self) -> None:
        now = time.time()
        async with self._redis.pipeline(transaction=False) as asking:
            asking.hgetall(_RESTS)
            asking.hgetall(_USE)
            rests, uses = await asking.execute()
        changed, gone = self._exchange_rests(rests, now)
        idle = self._read_uses(uses, now)
        limited = self._pool.limited()
        async with self._redis.pipeline(transaction=False) as telling:
            if changed:
                telling.hset(_RESTS, mapping=changed)
            if gone:
                telling.hdel(_RESTS, *gone)
            if limited:
                telling.hset(_USE, self._host, self._own_use(limited, now))
            if idle:
                telling.hdel(_USE, *idle)
            if len(telling):
                await telling.execute()

    def _exchange_rests(
        self, theirs: dict[bytes, bytes], now: float
    ) -> tuple[dict[Any, Any], list[bytes]]:
        """Takes over what is newer there; returns what is newer here, and what is out of date."""
        known: dict[int, float] = {}
        gone = []
        for name, text in theirs.items():
            try:
                rest = _rest(text)
            except (msgspec.DecodeError, UnicodeDecodeError):
                gone.append(name)
                continue
            known[rest.mark] = rest.changed
            if max(rest.until + MODEL_MEMORY, rest.changed) < now - _KEPT_SECONDS:
                gone.append(name)
            else:
                take_over(self._state, rest, now)
        changed: dict[Any, Any] = {}
        for rest in told(self._state, now - _KEPT_SECONDS):
            if rest.changed > known.get(rest.mark, 0.0):
                changed[f"{rest.mark:x}"] = msgspec.json.encode(rest)
        return changed, gone

    def _own_use(self, limited: dict[str, int], now: float) -> bytes:
        quotas = self._pool.quotas
        keys = {}
        for mark, row in limited.items():
            requests, tokens = quotas.used(row, now)
            keys[mark] = (requests, tokens, self._state.open_calls(row))
        return msgspec.json.encode(_Use(now, keys))

    def _read_uses(self, uses: dict[bytes, bytes], now: float) -> list[bytes]:
        """Adds up what the others use; returns the hosts that are silent."""
        sums: dict[str, tuple[float, float, int]] = {}
        idle = []
        for host, text in uses.items():
            if host == self._host.encode():
                continue
            try:
                use = _use(text)
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
        for mark, row in self._pool.limited().items():
            self._pool.quotas.others_use(row, sums.get(mark, (0.0, 0.0, 0)), now + _USE_SECONDS)
        return idle

    async def close(self) -> None:
        try:
            async with asyncio.timeout(_SECONDS):
                await self._redis.aclose()
        except (RedisError, OSError, TimeoutError):
            pass
