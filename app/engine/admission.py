"""How many calls a worker carries at a time, and who waits for a place.

A short queue stands before the places; who finds it full, or waits too long, hears 503 at once
instead of nothing for minutes. A free place goes to the caller who has the fewest, and no single
caller gets the last tenth of them, so that one who asks without end cannot keep the others out.
"""

import asyncio
from collections import deque

from msgspec import Struct

from app.wire.errors import GatewayError


class _Line(Struct):
    """One caller: how many calls run, and those that wait."""

    is_sole: bool
    waiting: deque["asyncio.Future[None]"]
    served: int  # the turn in which it last got a place; or it came just before that one
    running: int = 0


class AdmissionControl:
    """One per worker, on its event loop."""

    def __init__(self, places: int, queue: int, seconds: float) -> None:
        self._places, self._queue, self._seconds = places, queue, seconds
        self._most = places - places // 10  # that one caller among others may have
        self._lines: dict[str, _Line] = {}  # only of those who are here: bounded by both numbers
        self._turn = 0
        self.running = 0
        self.waiting = 0

    def enter_now(self, name: str, is_sole: bool = False) -> bool:
        """`enter` where nobody has to wait, else False."""
        line = self._line(name, is_sole)
        if self._may_go(line) and not line.waiting:
            self._take(line)
            return True
        return False

    async def enter(self, name: str, is_sole: bool = False) -> None:
        """Returns with a place, which `leave(name)` gives back. Raises GatewayError 503."""
        if self.enter_now(name, is_sole):
            return
        line = self._line(name, is_sole)
        try:
            if self.waiting >= self._queue:
                self._make_room(line)
            await self._wait(line)
        finally:
            self._drop_if_empty(name, line)

    def leave(self, name: str) -> None:
        line = self._lines[name]
        line.running -= 1
        self.running -= 1
        self._let_in()
        self._drop_if_empty(name, line)

    def _line(self, name: str, is_sole: bool) -> _Line:
        line = self._lines.get(name)
        if line is None:
            line = self._lines[name] = _Line(is_sole, deque(), self._turn - 1)
        return line

    async def _wait(self, line: _Line) -> None:
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        line.waiting.append(turn)
        self.waiting += 1
        timer = loop.call_later(self._seconds, self._refuse, line, turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                # The place came in the very moment in which the caller left.
                line.running -= 1
                self.running -= 1
                self._let_in()
            else:
                self._take_out(line, turn)
            raise
        finally:
            timer.cancel()

    def _may_go(self, line: _Line) -> bool:
        most = self._places if line.is_sole else self._most
        return self.running < self._places and line.running < most

    def _take(self, line: _Line) -> None:
        self._turn += 1
        line.served = self._turn
        line.running += 1
        self.running += 1

    def _let_in(self) -> None:
        while self.waiting and self.running < self._places:
            able = [line for line in self._lines.values() if line.waiting and self._may_go(line)]
            if not able:
                return
            line = min(able, key=_claim)
            turn = line.waiting.popleft()
            self.waiting -= 1
            if not turn.done():
                self._take(line)
                turn.set_result(None)

    def _make_room(self, line: _Line) -> None:
        """The last of who has most in the queue goes, if that is not who has just come."""
        longest = max(self._lines.values(), key=_length)
        if _length(longest) <= _length(line) + 1:
            raise self._busy()
        self._refuse(longest, longest.waiting[-1])

    def _refuse(self, line: _Line, turn: "asyncio.Future[None]") -> None:
        if not turn.done():
            turn.set_exception(self._busy())
            self._take_out(line, turn)

    def _take_out(self, line: _Line, turn: "asyncio.Future[None]") -> None:
        if turn in line.waiting:
            line.waiting.remove(turn)
            self.waiting -= 1

    def _drop_if_empty(self, name: str, line: _Line) -> None:
        if not line.running and not line.waiting and self._lines.get(name) is line:
            del self._lines[name]

    def _busy(self) -> GatewayError:
        return GatewayError(
            503,
            f"The gateway is busy: {self._places} calls run in this worker and {self.waiting} wait "
            "(limits.in_flight, limits.queue); ask again in a moment.",
            code="overloaded",
            retry_after=max(1.0, self._seconds / 2),
        )


def _claim(line: _Line) -> tuple[int, int]:
    return line.running, line.served


def _length(line: _Line) -> int:
    return len(line.waiting)
