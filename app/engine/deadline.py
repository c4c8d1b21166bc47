"""The clock of one call: one timer, however many chunks go by.

While the upstream is waited for, `limit` seconds without a byte end the call; so does the total;
so does a caller that does not read. In between, a silent stream is bridged by comments. Ending
means cancelling the task that carries the call; `cancelled()` then tells why.
"""

import asyncio
from collections.abc import Callable, Coroutine

from app.config.schema import Timeouts
from app.wire.errors import GatewayError


class Deadline:
    """Made in the task it watches; `stop()` when the call is over.

    The caller of this class sets `seen` at each sign of life of the upstream, `told` and `sending`
    around each send, and calls `expect` as the call goes from waiting to streaming.
    """

    def __init__(
        self,
        limits: Timeouts,
        comment: Callable[[], Coroutine[None, None, None]] | None = None,
        total: float | None = None,
    ) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self.time = loop.time
        task = asyncio.current_task(loop)
        assert task is not None
        self._task = task
        began = loop.time()
        self._write_limit = limits.write
        self._interval = limits.keep_alive_comment
        self._total_at = began + (limits.total if total is None else total)
        self._comment = comment
        self._commenting: asyncio.Task[None] | None = None
        self.limit: float | None = None  # seconds without an upstream byte; None: only the total
        self.seen = began  # when the upstream, or before that the call, last did something
        self.told = began  # when the caller last got something
        self.first = True  # no event has come yet
        self.committed = False  # an event has been sent: no other key may answer any more
        self.sending = False
        self.why: str | None = None
        self._next = began + self._pause(began)
        self._timer = loop.call_at(self._next, self._tick)

    def expect(self, limit: float | None) -> None:
        """From now on the upstream may be silent for `limit` seconds; None: up to the total."""
        self.limit = limit
        self.seen = now = self._loop.time()
        if limit is not None and self._next > now + limit:
            self._wake_at(now + limit)

    def expire(self, why: str) -> None:
        """Ends the call for a reason other than the clock's."""
        if self.why is None:
            self.why = why
            self._task.cancel()

    def resume(self) -> None:
        """After `cancelled()`: the call goes on, with another key."""
        self.why, self.first, self.sending = None, True, False
        now = self._loop.time()
        self._wake_at(now + self._pause(now))

    def hand_over(self) -> None:
        """Another watch looks after caller and upstream from now on; this one ends the call."""
        self._comment = self.limit = None

    def stop(self) -> None:
        self._timer.cancel()
        if self._commenting is not None:
            self._commenting.cancel()  # a comment that waits for its reader is never written

    def cancelled(self) -> GatewayError | None:
        """After a CancelledError: the error if this watch caused it, None if the caller left."""
        if self.why is None:
            return None
        # Only our own cancel is taken back; if the caller left as well, the call is over.
        if self._task.uncancel() > 0:
            return None
        return _ENDINGS[self.why]()

    def _pause(self, now: float) -> float:
        pause = min(self._interval, self._write_limit / 2, self._total_at - now)
        if self.limit is not None and self.limit < pause:
            pause = self.limit
        return pause if pause > 0.001 else 0.001

    def _wake_at(self, when: float) -> None:
        self._timer.cancel()
        self._next = when
        self._timer = self._loop.call_at(when, self._tick)

    def _tick(self) -> None:
        now = self._loop.time()
        if now >= self._total_at:
            return self.expire("total")
        if self.sending:
            if now - self.told >= self._write_limit:
                return self.expire("write")
            due = self.told + self._write_limit
        else:
            due = now + self._interval
            if self.limit is not None:
                due = self.seen + self.limit
                if now >= due:
                    return self.expire("first_event" if self.first else "idle")
            if self._comment is not None:
                if now - self.told >= self._interval - 0.01:
                    self.told = now
                    self._commenting = self._loop.create_task(self._comment())
                due = min(due, self.told + self._interval)
        self._next = max(min(due, self._total_at), now + 0.001)
        self._timer = self._loop.call_at(self._next, self._tick)


def _timeout(message: str) -> GatewayError:
    return GatewayError(504, message, code="upstream_timeout", outcome="upstream_idle")


def shutting_down() -> GatewayError:
    return GatewayError(
        503,
        "The gateway is shutting down; ask again.",
        code="shutting_down",
        retry_after=1,
        outcome="shutdown",
    )


_ENDINGS: dict[str, Callable[[], GatewayError]] = {
    "first_event": lambda: _timeout(
        "The upstream accepted the request but did not begin to answer in time "
        "(timeouts.first_event)."
    ),
    "idle": lambda: _timeout("The upstream stopped in the middle of its answer (timeouts.idle)."),
    "total": lambda: _timeout("The call took longer than timeouts.total allows."),
    "write": lambda: GatewayError(
        408, "The caller stopped reading.", code="caller_not_reading", outcome="client_gone"
    ),
    "shutdown": shutting_down,
}
