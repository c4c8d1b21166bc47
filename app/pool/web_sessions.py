"""Web sessions that change while the gateway runs: renewed tokens, rotated cookies, learned ids.

A changed key is used at once by its worker, written to a file of its own, and picked up by the
other workers and by the next start. What the operator writes into the config wins: a file speaks
only as long as the configured value is the one it descends from.

    config or HAR --origin--> renewed --> renewed --> ...      (data/sessions/<fingerprint>.json)
"""

import asyncio
import logging
import os
from collections.abc import Callable, Iterable
from hashlib import blake2b
from pathlib import Path

import msgspec
from msgspec import Struct

from app.pool.key_pool import KeyPool
from app.telemetry.redaction import redact
from app.wire.cookies import jwt_expiry
from app.wire.provider import Key
from app.wire.upstream import Headers

logger = logging.getLogger("any_proxy.sessions")

DAY = 86_400
_THE_OPERATORS = ("max_concurrent", "organization_id")  # fields that the config may set


class _Kept(Struct):
    """One file. `origin` is the fingerprint of the configured value it descends from."""

    pool: str
    id: str
    origin: str
    val: str
    fields: dict[str, str]


class Sessions:
    """One per worker. `folder` is shared by all of them."""

    def __init__(self, pool: KeyPool, folder: Path) -> None:
        self._pool, self._folder = pool, folder
        self._origins: dict[tuple[str, str], str] = {}
        self._given: dict[tuple[str, str], dict[str, str]] = {}
        self._seen: dict[str, tuple[int, int]] = {}  # file name -> its time and size when read
        self._locks: dict[str, asyncio.Lock] = {}
        self.adopt(pool.web_sessions())

    def adopt(self, keys: Iterable[Key]) -> None:
        """Sessions as their operator gave them, each replaced by what became of it since."""
        for key in keys:
            self._origins[key.pool, key.id] = _mark(key.val)
            self._given[key.pool, key.id] = {
                name: key.fields[name] for name in _THE_OPERATORS if key.fields.get(name)
            }
            self._seen.pop(self._path(key.pool, key.id).name, None)
            self._put(key)
            self.current(key)

    def given(self, pool: str) -> list[Key]:
        """The pool's sessions that an operator gave."""
        found = (self._pool.find(pool, id) for held, id in self._origins if held == pool)
        return [key for key in found if key is not None]

    def forget(self, pool: str, id: str) -> None:
        """The operator took a session away."""
        self._origins.pop((pool, id), None)
        self._given.pop((pool, id), None)
        self._pool.drop(pool, id)

    def current(self, key: Key) -> Key:
        """The key as it is now, whichever worker renewed it; costs a look at one file's time."""
        origin = self._origins.get((key.pool, key.id))
        if origin is None:
            return key
        path = self._path(key.pool, key.id)
        try:
            stat = path.stat()
        except OSError:
            return key
        seen = (stat.st_mtime_ns, stat.st_size)
        if self._seen.get(path.name) != seen:
            self._seen[path.name] = seen
            kept = _read(path)
            if kept is not None and (kept.pool, kept.id, kept.origin) == (key.pool, key.id, origin):
                # What the operator says of the session holds, what it learned is added.
                fields = {**kept.fields, **self._given.get((key.pool, key.id), {})}
                self._put(Key(key.pool, key.id, kept.val, fields))
        return self._pool.find(key.pool, key.id) or key

    async def renew(self, key: Key) -> None:
        """From now on the key is this one, in every worker and after a restart."""
        origin = self._origins.get((key.pool, key.id))
        if origin is None:
            return  # it was taken away meanwhile
        self._put(key, is_renewed=True)
        path = self._path(key.pool, key.id)
        kept = _Kept(key.pool, key.id, origin, key.val, dict(key.fields))
        lock = self._locks.setdefault(path.name, asyncio.Lock())
        async with lock:  # two renewals of one key are written in their order
            try:
                await asyncio.to_thread(_write, path, msgspec.json.encode(kept))
            except OSError as error:
                logger.error(
                    "session %s of %s was renewed but cannot be kept in %s: %s",
                    key.id,
                    key.pool,
                    path.parent,
                    error.strerror,
                )

    async def renew_from(
        self,
        renewed: Callable[[Key, list[str], int], Key | None],
        key: Key,
        headers: Headers,
        now: int,
    ) -> None:
        """Renews a session from the Set-Cookie lines of an answer, if they change it.

        `renewed` is the provider's function that makes a key of such lines; `now` is Unix time, s.
        """
        lines = [value for name, value in headers if name == "set-cookie"]
        changed = renewed(key, lines, now) if lines else None
        if changed is not None:
            await self.renew(changed)

    def endings(self, now: int) -> list[tuple[Key, int]]:
        """Sessions whose token says when it ends, and the seconds that are left (or negative)."""
        found = []
        for pool, id in self._origins:
            key = self._pool.find(pool, id)
            if key is None:
                continue
            ends = jwt_expiry(key.val)
            told = key.fields.get("expires", "")  # by the cookie that renewed it
            if ends is None and told.isdecimal():
                ends = int(told)
            if ends is not None:
                found.append((key, ends - now))
        return found

    def _put(self, key: Key, *, is_renewed: bool = False) -> None:
        cookies = (part.partition("=")[2] for part in key.fields.get("cookies", "").split("; "))
        redact.learn([key.val, *(value for value in cookies if len(value) > 15)])
        self._pool.put(key, is_renewed=is_renewed)

    def _path(self, pool: str, id: str) -> Path:
        return self._folder / (_mark(f"{pool}/{id}") + ".json")


class Warner:
    """Says once per stage that a session ends: seven days before, one day before, after."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], int] = {}

    def tell(self, endings: Iterable[tuple[Key, int]]) -> list[str]:
        lines = []
        for key, left in endings:
            stage = 3 if left <= 0 else 2 if left <= DAY else 1 if left <= 7 * DAY else 0
            told = self._told.get((key.pool, key.id), 0)
            self._told[key.pool, key.id] = stage
            if stage > told:
                lines.append(f"the session {key.id} of {key.pool} {ending(left)}")
        return lines


def ending(left: int) -> str:
    """How much life a session has, in words."""
    if left <= 0:
        return "has ended: sign in again in a browser and replace it"
    if left <= DAY:
        return f"ends in {max(1, left // 3600)} h"
    return f"ends in {left // DAY} days"


def _mark(text: str) -> str:
    """A name that tells nothing of what it stands for."""
    return blake2b(text.encode(), digest_size=16, person=b"any-proxy").hexdigest()


def _read(path: Path) -> _Kept | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Kept)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        logger.warning("the kept session %s cannot be read; the configured one is used", path)
        return None


def _write(path: Path, body: bytes) -> None:
    """Whole or not at all, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
