"""Waiting for a turn with a key of the pool, where every key has its hands full."""

import asyncio
from time import monotonic
from typing import Any

from app.pool.key_pool import KeyPool
from app.pool.lease import KeysBusy, Lease
from app.pool.web_sessions import Sessions

_POLL_SECONDS = 0.05  # who gives a key back may be another process


async def next_turn(
    pool: KeyPool, sessions: Sessions | None, seconds: float, name: str, **asked: Any
) -> Lease:
    """`pool.pick(name, ...)`, waiting up to `seconds` for one of the calls under way to end."""
    end = 0.0
    while True:
        try:
            turn = pool.pick(name, **asked)
        except KeysBusy:
            end = end or monotonic() + seconds
            if monotonic() >= end:
                raise
        else:
            if sessions is not None:
                turn.key = sessions.current(turn.key)
            return turn
        await asyncio.sleep(_POLL_SECONDS)
