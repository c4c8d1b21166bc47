"""Admission control: limits how many calls a worker runs at a time, and queues the next ones.

`slots` calls run, `queue` more wait. A call that finds the queue full, or waits longer than
`seconds`, is refused with 503. A free slot goes to the caller who holds the fewest. No caller gets
the last tenth of the slots, unless no other caller is expected, so that one who sends calls without
end cannot keep the others out.
"""

import asyncio
from collections import deque

from msgspec import Struct

from app.wire.errors import GatewayError


class _Caller(Struct):
    """One caller who has calls here: how many run, and those that wait."""

    is_sole: bool  # no other caller is expected
    waiting: deque["asyncio.Future[None]"]
    last_admitted: int  # number of the admission in which it last got a slot
    running: int = 0


class AdmissionControl:
    """One per worker, on its event loop."""

    def __init__(self, slots: int, queue: int, seconds: float) -> None:
        self._slots, self._queue, self._seconds = slots, queue, seconds
        self._slots_per_caller = slots - slots // 10
        self._callers: dict[str, _Caller] = {}  # who has calls here: bounded by slots and queue
        self._admissions = 0
        self.running = 0
        self.waiting = 0

    def enter_now(self, name: str, is_sole: bool = False) -> bool:
        """Takes a slot for the caller `name` if one is free; False: await `enter`."""
        caller = self._caller(name, is_sole)
        if self._may_run(caller) and not caller.waiting:
            self._admit(caller)
            return True
        return False

    async def enter(self, name: str, is_sole: bool = False) -> None:
        """Waits for a slot, which `leave(name)` gives back. Raises GatewayError 503."""
        if self.enter_now(name, is_sole):
            return
        caller = self._caller(name, is_sole)
        try:
            if self.waiting >= self._queue:
                self._make_room(caller)
            await self._wait(caller)
        finally:
            self._drop_if_empty(name, caller)

    def leave(self, name: str) -> None:
        """Gives a slot back, to the next call that waits."""
        caller = self._callers[name]
        caller.running -= 1
        self.running -= 1
        if self.waiting:
            self._admit_waiting()
        self._drop_if_empty(name, caller)

    def _caller(self, name: str, is_sole: bool) -> _Caller:
        caller = self._callers.get(name)
        if caller is None:
            # A new caller comes before whoever was admitted last.
            caller = self._callers[name] = _Caller(is_sole, deque(), self._admissions - 1)
        return caller

    async def _wait(self, caller: _Caller) -> None:
        loop = asyncio.get_running_loop()
        slot: asyncio.Future[None] = loop.create_future()
        caller.waiting.append(slot)
        self.waiting += 1
        timer = loop.call_later(self._seconds, self._refuse, caller, slot)
        try:
            await slot
        except asyncio.CancelledError:
            if slot.done() and not slot.cancelled() and slot.exception() is None:
                # The slot came in the very moment in which the caller left.
                caller.running -= 1
                self.running -= 1
                self._admit_waiting()
            else:
                self._remove(caller, slot)
            raise
        finally:
            timer.cancel()

    def _may_run(self, caller: _Caller) -> bool:
        most = self._slots if caller.is_sole else self._slots_per_caller
        return self.running < self._slots and caller.running < most

    def _admit(self, caller: _Caller) -> None:
        self._admissions += 1
        caller.last_admitted = self._admissions
        caller.running += 1
        self.running += 1

    def _admit_waiting(self) -> None:
        """Gives free slots away: to the fewest running calls, then to the longest not admitted."""
        while self.waiting and self.running < self._slots:
            able = [one for one in self._callers.values() if one.waiting and self._may_run(one)]
            if not able:
                return
            caller = min(able, key=_precedence)
            slot = caller.waiting.popleft()
            self.waiting -= 1
            if not slot.done():
                self._admit(caller)
                slot.set_result(None)

    def _make_room(self, caller: _Caller) -> None:
        """Refuses the last call of who has most in the queue, or raises if that is `caller`."""
        longest = max(self._callers.values(), key=_queue_length)
        if _queue_length(longest) <= _queue_length(caller) + 1:
            raise self._overloaded()
        self._refuse(longest, longest.waiting[-1])

    def _refuse(self, caller: _Caller, slot: "asyncio.Future[None]") -> None:
        if not slot.done():
            slot.set_exception(self._overloaded())
            self._remove(caller, slot)

    def _remove(self, caller: _Caller, slot: "asyncio.Future[None]") -> None:
        if slot in caller.waiting:
            caller.waiting.remove(slot)
            self.waiting -= 1

    def _drop_if_empty(self, name: str, caller: _Caller) -> None:
        if not caller.running and not caller.waiting and self._callers.get(name) is caller:
            del self._callers[name]

    def _overloaded(self) -> GatewayError:
        return GatewayError(
            503,
            f"The gateway is busy: {self._slots} calls run in this worker and {self.waiting} wait "
            "(limits.in_flight, limits.queue); ask again in a moment.",
            code="overloaded",
            retry_after=max(1.0, self._seconds / 2),
        )


def _precedence(caller: _Caller) -> tuple[int, int]:
    return caller.running, caller.last_admitted


def _queue_length(caller: _Caller) -> int:
    return len(caller.waiting)
