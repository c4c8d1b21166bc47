"""Limits of access tokens: requests per minute and concurrent requests, over all workers."""

import time
from collections.abc import Callable, Iterable

from app.config.schema import AccessToken
from app.state.rate_windows import Limits, RateWindows
from app.state.shared_table import ROWS, SharedState, fingerprint

_CLEANUP_SECONDS = 0.25  # between two checks for workers that died with open requests
_RETRY_SECONDS = 1.0  # told to a caller who has too many concurrent requests


def row_name(token: AccessToken) -> str:
    """The name by which the row of a token in the shared table is found."""
    return f"access.tokens/{token.id}"


def limited(tokens: Iterable[AccessToken], state: SharedState) -> dict[str, int]:
    """Returns fingerprint (hexadecimal) -> row, of the tokens that have limits."""
    return {
        f"{fingerprint(row_name(token)):x}": row
        for token in tokens
        if token.rpm or token.tpm or token.max_concurrent
        if (row := state.row(row_name(token))) >= 0
    }


class TokenLimits:
    """The limits of one worker's callers; the counts are rows of the shared table, as the key
    pool's are."""

    def __init__(self, state: SharedState, clock: Callable[[], float] = time.time) -> None:
        self._state, self._quotas, self._clock = state, RateWindows(state), clock
        self._rows: dict[str, tuple[AccessToken, int, Limits]] = {}
        self._cleaned_at = 0.0

    def enter(self, token: AccessToken) -> float:
        """Counts one request. Returns 0.0, or the seconds until a retry makes sense.

        After 0.0 the request is open until `leave(token)`.
        """
        row, limits = self._row(token)
        now = self._clock()
        with self._state.guard:
            wait = self._quotas.wait(row, limits, now)
            if wait < 0 and now - self._cleaned_at > _CLEANUP_SECONDS:
                self._cleaned_at = now
                if self._state.forget_dead():
                    wait = self._quotas.wait(row, limits, now)
            if wait == 0:
                self._quotas.take(row, limits, 0, now)
        return wait if wait >= 0 else _RETRY_SECONDS

    def leave(self, token: AccessToken) -> None:
        """Ends one request that `enter` counted."""
        row, limits = self._row(token)
        with self._state.guard:
            self._quotas.give_back(row, limits)

    def _row(self, token: AccessToken) -> tuple[int, Limits]:
        found = self._rows.get(token.id)
        if found is None or found[0] is not token:
            row = self._state.row(row_name(token))
            limits = Limits(token.max_concurrent, token.rpm)
            # In a full table all further tokens share the last row: a limit that is too low is
            # better than none.
            found = self._rows[token.id] = token, row if row >= 0 else ROWS, limits
        return found[1:]
