"""Web sessions that change while the gateway runs: renewed tokens, rotated cookies, learned ids.

A changed session is used at once by its worker and written to a file of its own, from which the
other workers and the next start read it. The config wins: a file counts only as long as the
configured value is the one that it descends from (its origin).

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

from app.config.schema import Config
from app.pool.key_pool import KeyPool
from app.telemetry.redaction import redact
from app.wire.cookies import jwt_expiry
from app.wire.provider import Key, Refresh, Send
from app.wire.upstream import Headers

logger = logging.getLogger("any_proxy.sessions")

DAY = 86_400
_CONFIGURABLE = ("max_concurrent", "organization_id")  # fields that the config may set


class _Saved(Struct):
    """One file. `origin` is the fingerprint of the configured value that it descends from."""

    pool: str
    id: str
    origin: str
    val: str
    fields: dict[str, str]


class Sessions:
    """The web sessions of one worker. All workers share `folder`."""

    def __init__(self, pool: KeyPool, folder: Path) -> None:
        self._pool, self._folder = pool, folder
        self._origins: dict[tuple[str, str], str] = {}
        self._configured_fields: dict[tuple[str, str], dict[str, str]] = {}
        self._seen: dict[str, tuple[int, int]] = {}  # file name -> mtime and size when read
        self._locks: dict[str, asyncio.Lock] = {}
        self.adopt(pool.web_sessions())

    def adopt(self, keys: Iterable[Key]) -> None:
        """Adds sessions from the config or a HAR file, each in its latest renewed form."""
        for key in keys:
            self._origins[key.pool, key.id] = _mark(key.val)
            self._configured_fields[key.pool, key.id] = {
                name: key.fields[name] for name in _CONFIGURABLE if key.fields.get(name)
            }
            self._seen.pop(self._path(key.pool, key.id).name, None)
            self._put(key)
            self.current(key)

    def given(self, pool: str) -> list[Key]:
        """Returns the pool's sessions that came from the config or a HAR file."""
        found = (self._pool.find(pool, id) for held, id in self._origins if held == pool)
        return [key for key in found if key is not None]

    def forget(self, pool: str, id: str) -> None:
        """Removes a session that its operator has removed. Its file stays."""
        self._origins.pop((pool, id), None)
        self._configured_fields.pop((pool, id), None)
        self._pool.drop(pool, id)

    def current(self, key: Key) -> Key:
        """Returns the latest form of a key, whichever worker renewed it. Costs one `stat`."""
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
            saved, expected = _read(path), (key.pool, key.id, origin)
            if saved is not None and (saved.pool, saved.id, saved.origin) == expected:
                # Fields that the config sets win over those learned from the upstream.
                fields = {**saved.fields, **self._configured_fields.get((key.pool, key.id), {})}
                self._put(Key(key.pool, key.id, saved.val, fields))
        return self._pool.find(key.pool, key.id) or key

    async def renew(self, key: Key) -> None:
        """Replaces a key by its renewed form, in every worker and after a restart."""
        origin = self._origins.get((key.pool, key.id))
        if origin is None:
            return  # its operator has removed it meanwhile
        self._put(key, is_renewed=True)
        path = self._path(key.pool, key.id)
        saved = _Saved(key.pool, key.id, origin, key.val, dict(key.fields))
        lock = self._locks.setdefault(path.name, asyncio.Lock())
        async with lock:  # so that two renewals of one key are written in their order
            try:
                await asyncio.to_thread(_write, path, msgspec.json.encode(saved))
            except OSError as error:
                logger.error(
                    "session %s of %s was renewed but cannot be kept in %s: %s",
                    key.id,
                    key.pool,
                    path.parent,
                    error.strerror,
                )

    async def refreshed(
        self, refresh: Refresh, key: Key, config: Config, send: Send, now: int
    ) -> Key:
        """Returns the key with a token that is good; a new one is kept as by `renew`.

        `refresh` is the provider's. Raises GatewayError for a token that has ended for good.
        """
        fresh = await refresh(key, config, now, send)
        if fresh is not key:
            await self.renew(fresh)
        return fresh

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

    def expiries(self, now: int) -> list[tuple[Key, int]]:
        """Returns (session, seconds until it expires), where the token or cookie says so."""
        found = []
        for pool, id in self._origins:
            key = self._pool.find(pool, id)
            if key is None:
                continue
            expires = jwt_expiry(key.val)
            of_cookie = key.fields.get("expires", "")  # from the cookie that renewed it
            if expires is None and of_cookie.isdecimal():
                expires = int(of_cookie)
            if expires is not None:
                found.append((key, expires - now))
        return found

    def _put(self, key: Key, *, is_renewed: bool = False) -> None:
        cookies = (part.partition("=")[2] for part in key.fields.get("cookies", "").split("; "))
        redact.learn([key.val, *(value for value in cookies if len(value) > 15)])
        self._pool.put(key, is_renewed=is_renewed)

    def _path(self, pool: str, id: str) -> Path:
        return self._folder / (_mark(f"{pool}/{id}") + ".json")


class ExpiryWarner:
    """Warns of a session that expires: seven days before, one day before, after; once each."""

    def __init__(self) -> None:
        self._stages: dict[tuple[str, str], int] = {}

    def new_warnings(self, expiries: Iterable[tuple[Key, int]]) -> list[str]:
        """Returns a line for each session that has reached another stage since the last call."""
        lines = []
        for key, left in expiries:
            stage = 3 if left <= 0 else 2 if left <= DAY else 1 if left <= 7 * DAY else 0
            before = self._stages.get((key.pool, key.id), 0)
            self._stages[key.pool, key.id] = stage
            if stage > before:
                lines.append(f"the session {key.id} of {key.pool} {describe_expiry(left)}")
        return lines


def describe_expiry(left: int) -> str:
    """Returns the end of a sentence about a session with `left` seconds to live."""
    if left <= 0:
        return "has ended: sign in again in a browser and replace it"
    if left <= DAY:
        return f"ends in {max(1, left // 3600)} h"
    return f"ends in {left // DAY} days"


def _mark(text: str) -> str:
    """A fingerprint that does not reveal the text."""
    return blake2b(text.encode(), digest_size=16, person=b"any-proxy").hexdigest()


def _read(path: Path) -> _Saved | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Saved)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        logger.warning("the saved session %s cannot be read; the configured one is used", path)
        return None


def _write(path: Path, body: bytes) -> None:
    """Writes atomically a file that only its owner may read."""
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
