"""What one worker does for all: saves cooldowns and what was spent for the next start, and syncs
them with Redis.

The worker that holds the leader lock leads. When it dies, the kernel releases the lock and another
worker takes it. A leader whose work fails, or that leaves after a reload, releases it by itself.
"""

import asyncio
import errno
import logging
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from app.auth import token_limits
from app.config.schema import AccessToken, Config
from app.offload.background import repeat
from app.pool import cooldown_store
from app.pool.key_pool import KeyPool
from app.state.shared_table import SharedState
from app.state.spending import Spending

logger = logging.getLogger("any_proxy.leader")

_PAUSE_SECONDS = 0.5
_SAVE_SECONDS = 1.0


class Sync(Protocol):
    """What shares the cooldowns with other hosts: RedisSync."""

    async def sync(self) -> bool:
        """Pulls, then pushes once; False if the other side is unreachable."""

    async def close(self) -> None:
        """Closes its connections."""


class LeaderTasks:
    """The background work of the leader. Every worker has one; only the leader's does anything."""

    def __init__(
        self,
        config: Config,
        state: SharedState,
        pool: KeyPool,
        sync: Sync | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._state, self._clock = state, clock
        self._spending = Spending(state)
        self._path = Path(config.state_path)
        self._saved_at = clock()
        self._has_warned = False
        self.leads = False  # as of the last round; only `run` tries for the lock
        self._sync = sync
        if sync is None and config.redis_url:
            # Imported late: a single host does not need the redis package.
            from app.pool.redis_sync import RedisSync

            self._sync = RedisSync(
                config.redis_url, state, lambda: pool.limited() | self._limited_tokens
            )
        self._limited_tokens: dict[str, int] = {}
        self.set_tokens(config.access.tokens)

    def set_tokens(self, tokens: Iterable[AccessToken]) -> None:
        """Sets the access tokens whose limits hosts share."""
        self._limited_tokens = token_limits.limited(tokens, self._state)

    async def run(self) -> None:
        """Works until it is cancelled."""
        try:
            await repeat("saving and sharing cooldowns", self.work, _PAUSE_SECONDS)
        finally:
            self._release()

    async def work(self) -> None:
        """Does one round, if this worker leads: one sync, and a save if something has changed.

        Raises what failed, after the leader lock is released: another worker may be able to.
        """
        self.leads = self._state.acquire_leadership()
        if not self.leads:
            return
        try:
            try:
                if self._sync is not None:
                    await self._sync.sync()
            finally:
                if self._clock() - self._saved_at >= _SAVE_SECONDS and self._has_changes():
                    await asyncio.to_thread(self.save)
        except Exception:
            self._release()
            raise

    def _release(self) -> None:
        self.leads = False
        self._state.release_leadership()

    def _has_changes(self) -> bool:
        if next(self._state.changed(self._saved_at), None) is not None:
            return True
        return self._spending.changed(self._saved_at)

    def save(self) -> None:
        """Writes the file of cooldowns. Raises OSError only for a lack of descriptors or memory."""
        now = self._clock()
        try:
            cooldown_store.save(self._state, self._path, now)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENOMEM):
                raise  # the trouble of this worker: another may not have it
            if not self._has_warned:
                logger.warning(
                    "%s cannot be written (%s): cooldowns and budgets do not outlive this process; "
                    "set state_path to a place that can",
                    self._path,
                    error.strerror,
                )
            self._has_warned = True
        self._saved_at = now

    async def close(self) -> None:
        """Saves the last changes before the process ends, and closes the sync."""
        if self._state.acquire_leadership() and self._has_changes():
            with suppress(OSError):
                self.save()
        if self._sync is not None:
            with suppress(asyncio.CancelledError):
                await self._sync.close()
