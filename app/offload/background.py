"""Work that a worker does again and again beside its calls, whatever goes wrong in it."""

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
    """Until cancelled. A failure is told once until `work` does well again, and each further one
    in a row doubles the pause before the next try."""
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
