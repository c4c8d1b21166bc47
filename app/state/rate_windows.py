"""Rate limits of one key or token, in all workers together: open calls, requests and tokens per
minute.

The last minute is a sliding window of 5-second buckets in shared memory. The oldest bucket counts
whole, so no minute ever holds more than the limit. The tokens of a call are guessed before it (four
bytes of the body are one token) and corrected when the upstream has reported its usage.
"""

from msgspec import Struct

from app.state.shared_table import BUCKETS, OTHERS, SharedState

_BUCKET_SECONDS = 5
_COUNTED = 13  # buckets that count: twelve full ones and the current one
_BYTES_PER_TOKEN = 4
_STREAMED_BYTES_PER_TOKEN = 200  # about one event per token


class Limits(Struct, frozen=True):
    """The limits of one key or token; 0 means no limit."""

    max_concurrent: int = 0
    rpm: int = 0
    tpm: int = 0


class RateWindows:
    """Reads and writes the rate windows of the shared table."""

    def __init__(self, state: SharedState) -> None:
        self._state = state

    def wait(self, row: int, limits: Limits, now: float) -> float:
        """Returns the seconds until the key may serve one more call: 0 for now, -1 when an open
        call must end first.

        Changes nothing; `take` counts the call.
        """
        state, at = self._state, self._state.window(row)
        cells = state.cells
        remote = cells[at + OTHERS + 3] > now
        if limits.max_concurrent:
            busy = state.open_calls(row) + (int(cells[at + OTHERS + 2]) if remote else 0)
            if busy >= limits.max_concurrent:
                return -1.0
        wait = 0.0
        for which, most in ((1, limits.rpm), (2, limits.tpm)):
            if most:
                others = cells[at + OTHERS + which - 1] if remote else 0.0
                wait = max(wait, self._until_below(at, which, most - others, now))
        return wait

    def _until_below(self, at: int, which: int, most: float, now: float) -> float:
        """Seconds until the sum over the last minute is below `most`."""
        counts = self._last(at, which, now)
        used = sum(count for _, count in counts)
        for stamp, count in sorted(counts):
            if used < most:
                break
            used -= count
            left = (stamp + _COUNTED) * _BUCKET_SECONDS - now
            if used < most:
                return max(left, 0.001)
        return 0.0 if used < most else 60.0

    def _last(self, at: int, which: int, now: float) -> list[tuple[int, float]]:
        cells, current = self._state.cells, int(now) // _BUCKET_SECONDS
        return [
            (int(cells[at + n * 3]), cells[at + n * 3 + which])
            for n in range(BUCKETS)
            if current - _COUNTED < cells[at + n * 3] <= current
        ]

    def used(self, row: int, now: float) -> tuple[float, float]:
        """Returns the requests and tokens of the last minute on this host."""
        at = self._state.window(row)
        requests, tokens = (
            sum(count for _, count in self._last(at, which, now)) for which in (1, 2)
        )
        return requests, tokens

    def set_remote_use(self, row: int, use: tuple[float, float, int], until: float) -> None:
        """Stores what other hosts use (requests, tokens, open calls), valid until `until`."""
        cells, at = self._state.cells, self._state.window(row) + OTHERS
        cells[at], cells[at + 1], cells[at + 2], cells[at + 3] = *use, until

    def take(self, row: int, limits: Limits, tokens: int, now: float) -> None:
        """Counts one call that begins. The caller holds the guard, and `wait` returned 0."""
        if limits.max_concurrent:
            self._state.count(row, 1)
        if limits.rpm or limits.tpm:
            self._add(row, 1, tokens, now)

    def give_back(self, row: int, limits: Limits) -> None:
        """Releases one concurrency slot."""
        if limits.max_concurrent:
            self._state.count(row, -1)

    def correct(self, row: int, tokens: int, now: float) -> None:
        """Adds the difference between a call's real and its guessed tokens."""
        with self._state.guard:
            self.add_tokens(row, tokens, now)

    def add_tokens(self, row: int, tokens: int, now: float) -> None:
        """Counts tokens of a call that `take` has counted, or that has no such limit. The caller
        holds the guard."""
        self._add(row, 0, tokens, now)

    def _add(self, row: int, requests: int, tokens: int, now: float) -> None:
        cells, stamp = self._state.cells, int(now) // _BUCKET_SECONDS
        at = self._state.window(row) + stamp % BUCKETS * 3
        if cells[at] != stamp:
            cells[at], cells[at + 1], cells[at + 2] = stamp, 0.0, 0.0
        cells[at + 1] += requests
        cells[at + 2] += tokens


def guess_tokens(body_bytes: int) -> int:
    """Estimates the tokens of a request from the size of its body."""
    return body_bytes // _BYTES_PER_TOKEN


def guess_answered(answer_bytes: int, *, is_stream: bool) -> int:
    """Estimates the tokens of an answer whose upstream does not report them."""
    return answer_bytes // (_STREAMED_BYTES_PER_TOKEN if is_stream else _BYTES_PER_TOKEN)
