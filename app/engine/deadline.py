"""The deadline of one call: every timeout of it, on one timer however many chunks pass.

What ends a call (`why`), by cancelling the task that carries it:

    first_event   `limit` seconds without a byte of the upstream, before the first event
    idle          the same after the first event
    total         timeouts.total since the call began
    write         timeouts.write during one send: the caller does not read
    budget        an open websocket has spent its caller's budget
    shutdown      the worker stops (any other reason may be given to `expire`)

The task then calls `cancelled()`, which returns the error for the caller, and either ends with it
or calls `resume()` to go on with another key. Between two events of a stream, a comment is sent
after each timeouts.keep_alive_comment seconds of silence.
"""

import asyncio
from collections.abc import Callable, Coroutine

from app.config.schema import Timeouts
from app.wire.errors import GatewayError

NOT_READING = "caller_not_reading"  # nothing more can be said to this caller


class Deadline:
    """The deadline of the task that makes it; `stop()` ends it with the call.

    The task keeps these attributes up to date, without a call per chunk:

    `seen`       loop time of the upstream's last byte, or of the last `expect`
    `told`       loop time at which the caller last got something
    `sending`    a send to the caller is under way: the write timeout runs, the upstream's does not
    `first`      no event has come yet
    `committed`  an event has been sent: another key can no longer answer

    `limit` is how many seconds the upstream may be silent (None: until the total), set by `expect`.
    `why` is the reason for which the call was ended, None while it runs. `total` replaces
    timeouts.total; `comment` sends one keep-alive comment.
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
        self.limit: float | None = None
        self.seen = began
        self.told = began
        self.first = True
        self.committed = False
        self.sending = False
        self.why: str | None = None
        self._next = began + self._pause(began)
        self._timer = loop.call_at(self._next, self._tick)

    def expect(self, limit: float | None) -> None:
        """Allows the upstream `limit` seconds of silence from now on; None: until the total."""
        self.limit = limit
        self.seen = now = self._loop.time()
        if limit is not None and self._next > now + limit:
            self._wake_at(now + limit)

    def stalled(self, is_stalled: bool) -> None:
        """The caller stops to read, or goes on: the write timeout runs in between."""
        self.sending = is_stalled
        self.told = self.seen = now = self._loop.time()
        if is_stalled and self._next > now + self._write_limit:
            self._wake_at(now + self._write_limit)

    def expire(self, why: str) -> None:
        """Ends the call: cancels its task, for the reason `why`. The first reason counts."""
        if self.why is None:
            self.why = why
            self._task.cancel()

    def resume(self) -> None:
        """Starts the deadline anew after `cancelled()`: the call goes on with another key."""
        self.why, self.first, self.sending = None, True, False
        now = self._loop.time()
        self._wake_at(now + self._pause(now))

    def hand_over(self) -> None:
        """Leaves comments and the upstream's silence to another deadline; keeps the rest.

        Used when a hedged request wins, which has a deadline of its own.
        """
        self._comment = self.limit = None

    def stop(self) -> None:
        """Stops the timer: the call is over, or its last bytes are being sent."""
        self._timer.cancel()
        if self._commenting is not None:
            self._commenting.cancel()  # a comment that waits for its reader is never written

    def cancelled(self) -> GatewayError | None:
        """The error of a CancelledError that this deadline caused; None: the caller left."""
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
    """The error 503 for calls that a stopping worker refuses or ends."""
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
        408, "The caller stopped reading.", code=NOT_READING, outcome="client_gone"
    ),
    "budget": lambda: GatewayError(
        429, "Your access token has spent its budget.", code="budget_exceeded"
    ),
    "shutdown": shutting_down,
}
