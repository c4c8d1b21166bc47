"""What one access token may ask: requests per minute and at a time, in all workers together."""

import time
from collections.abc import Callable

from app.config.schema import AccessToken
from app.state.rate_windows import Limits, RateWindows
from app.state.shared_table import ROWS, SharedState

_LOOK_SECONDS = 0.25  # between two looks for workers that died with requests under way
_AGAIN_SECONDS = 1.0


class TokenLimits:
    """One per worker, beside the key pool in the same shared rows."""

    def __init__(self, state: SharedState, clock: Callable[[], float] = time.time) -> None:
        self._state, self._quotas, self._clock = state, RateWindows(state), clock
        self._rows: dict[str, tuple[int, Limits]] = {}
        self._looked = 0.0

    def enter(self, token: AccessToken) -> float:
        """Counts one request: 0.0, or the seconds after which to come again.

        After 0.0, `leave(token)` ends it.
        """
        row, limits = self._row(token)
        now = self._clock()
        with self._state.guard:
            wait = self._quotas.wait(row, limits, now)
            if wait < 0 and now - self._looked > _LOOK_SECONDS:
                self._looked = now
                if self._state.forget_dead():
                    wait = self._quotas.wait(row, limits, now)
            if wait == 0:
                self._quotas.take(row, limits, 0, now)
        return wait if wait >= 0 else _AGAIN_SECONDS

    def leave(self, token: AccessToken) -> None:
        row, limits = self._row(token)
        with self._state.guard:
            self._quotas.give_back(row, limits)

    def _row(self, token: AccessToken) -> tuple[int, Limits]:
        found = self._rows.get(token.id)
        if found is None:
            row = self._state.row(f"access.tokens/{token.id}")
            limits = Limits(token.max_concurrent, token.rpm)
            # In a full table the last row is everybody's: too little is better than no limit.
            found = self._rows[token.id] = (row if row >= 0 else ROWS, limits)
        return found
