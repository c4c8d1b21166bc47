"""What one worker does for all of them: keeps the rests for the next start, and mirrors them.

The worker that holds a lock leads; when it dies, the system gives the lock to another. A leader
that cannot do its work, or leaves after a reload, lets the lock go by itself.
"""

import asyncio
import errno
import logging
import time
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from app.config.schema import Config
from app.offload.background import repeat
from app.pool import cooldown_store
from app.pool.key_pool import KeyPool
from app.state.shared_table import SharedState

logger = logging.getLogger("any_proxy.keeper")

_PAUSE_SECONDS = 0.5
_SAVE_SECONDS = 1.0


class _Mirror(Protocol):
    async def sync(self) -> bool: ...

    async def close(self) -> None: ...


class LeaderTasks:
    def __init__(self, config: Config, state: SharedState, pool: KeyPool) -> None:
        self._state = state
        self._path = Path(config.state_path)
        self._saved_at = time.time()
        self._complained = False
        self.leads = False  # as far as is known; others may ask, this alone tries for the lock
        self._mirror: _Mirror | None = None
        if config.redis_url:
            # Imported late: who has one host does not need the package.
            from app.pool.redis_sync import RedisSync

            self._mirror = RedisSync(config.redis_url, state, pool)

    async def run(self) -> None:
        """Until it is cancelled."""
        try:
            await repeat("keeping and sharing what rests", self._turn, _PAUSE_SECONDS)
        finally:
            self._step_down()

    async def _turn(self) -> None:
        self.leads = self._state.lead()
        if not self.leads:
            return
        try:
            try:
                if self._mirror is not None:
                    await self._mirror.sync()
            finally:
                if time.time() - self._saved_at >= _SAVE_SECONDS and self._is_news():
                    await asyncio.to_thread(self.save)
        except Exception:
            self._step_down()  # another worker may be able to
            raise

    def _step_down(self) -> None:
        self.leads = False
        self._state.step_down()

    def _is_news(self) -> bool:
        return next(self._state.changed(self._saved_at), None) is not None

    def save(self) -> None:
        now = time.time()
        try:
            cooldown_store.save(self._state, self._path, now)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENOMEM):
                raise  # this worker's trouble, which another may not have
            if not self._complained:
                logger.warning(
                    "%s cannot be written (%s): rests do not outlive this process; "
                    "set state_path to a place that can",
                    self._path,
                    error.strerror,
                )
            self._complained = True
        self._saved_at = now

    async def close(self) -> None:
        """The last word before the process ends."""
        if self._state.lead() and self._is_news():
            with suppress(OSError):
                self.save()
        if self._mirror is not None:
            with suppress(asyncio.CancelledError):
                await self._mirror.close()
