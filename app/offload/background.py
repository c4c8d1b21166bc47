"""Periodic background work that survives its own failures."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

logger = logging.getLogger("any_proxy.background")

_MAX_PAUSE = 60.0


async def repeat(
    what: str,
    work: Callable[[], Awaitable[object]],
    every: float,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> None:
    """Awaits `work` every `every` seconds until cancelled.

    The first of several failures in a row is logged, and so is the recovery. Each failure doubles
    the pause, up to a minute. `what` names the work in the log.
    """
    failures = 0
    while True:
        try:
            await work()
        except Exception:
            if not failures:
                logger.exception("%s failed; it is tried again", what)
            failures += 1
        else:
            if failures:
                logger.warning("%s works again", what)
            failures = 0
        await sleep(min(every * 2.0 ** min(failures, 16), max(_MAX_PAUSE, every)))
