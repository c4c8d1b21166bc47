"""Waiting for a lease while every key of the pool is busy."""

import asyncio
from time import monotonic
from typing import Any

from app.pool.key_pool import KeyPool
from app.pool.lease import KeysBusy, Lease
from app.pool.web_sessions import Sessions

_POLL_SECONDS = 0.05  # another process may be the one that releases a key, so nothing can notify


async def next_turn(
    pool: KeyPool, sessions: Sessions | None, seconds: float, name: str, **choice: Any
) -> Lease:
    """Returns `pool.pick(name, **choice)`, waiting up to `seconds` for an open call to end.

    Raises what `pick` raises; KeysBusy only after the wait.
    """
    end = 0.0
    while True:
        try:
            lease = pool.pick(name, **choice)
        except KeysBusy:
            end = end or monotonic() + seconds
            if monotonic() >= end:
                raise
        else:
            if sessions is not None:
                lease.key = sessions.current(lease.key)
            return lease
        await asyncio.sleep(_POLL_SECONDS)
