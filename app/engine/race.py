"""Hedged requests: several attempts run side by side for one call; the first to answer wins.

Each attempt runs in a task of its own and writes to a `Lane`, which looks to it like the caller's
connection. The first byte that a lane is to send makes it the winner: the others are cancelled.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from msgspec import structs

from app.engine.deadline import Deadline
from app.telemetry.call_log import CallRecord
from app.wire.upstream import Headers

# Fields of the record that add up over all lanes; the rest is the winner's.
_SUMS = ("attempts", "tried")


class Lane:
    """The sink of one hedged request: passes bytes on to the caller once it has won.

    `record` is a copy of the call's record, `headers` of its answer's headers. `started` says that
    this lane has sent something. `task` is set by whoever starts the request.
    """

    said: Sequence[bytes] = ()  # the caller's own sink remembers it

    def __init__(self, race: "Race", sink: Any, record: CallRecord) -> None:
        self._race, self._sink = race, sink
        self.headers: Headers = list(sink.headers)
        self.content_type: str = sink.content_type
        self.record = structs.replace(record, tried=[])
        self.started = False
        self.has_won = self.has_lost = False
        self.task: asyncio.Task[Any] | None = None

    async def send(self, data: bytes) -> None:
        """Sends a piece of a stream; the first one wins the race."""
        self._claim()
        self.started = True
        await self._sink.send(data)

    def write(self, data: bytes) -> bool:
        """Writes a piece of a stream that has begun; False: await `drain` before the next."""
        return bool(self._sink.write(data))

    async def drain(self) -> None:
        """Waits until the caller has taken most of what was written."""
        await self._sink.drain()

    async def end(self) -> None:
        """Ends a stream properly; wins the race if nothing was sent before."""
        self._claim()
        await self._sink.end()

    async def answer(self, body: bytes) -> None:
        """Sends a whole JSON answer; wins the race."""
        self._claim()
        await self._sink.answer(body)

    def abort(self) -> None:
        """Breaks the caller's connection off."""
        self._sink.abort()

    def _claim(self) -> None:
        if not self.has_won:
            self._race.win(self)


class Race:
    """The hedged requests of one call, which share its sink, its record and its deadline."""

    def __init__(self, sink: Any, record: CallRecord, deadline: Deadline) -> None:
        self._sink, self._record, self._deadline = sink, record, deadline
        self.lanes: list[Lane] = []
        self.winner: Lane | None = None

    def enter(self) -> Lane:
        """Adds a lane for one more hedged request."""
        lane = Lane(self, self._sink, self._record)
        self.lanes.append(lane)
        return lane

    def win(self, lane: Lane) -> None:
        """Makes `lane` the winner and cancels the others at once; none takes another step."""
        self.winner, lane.has_won = lane, True
        for other in self.lanes:
            if other is not lane and other.task is not None:
                other.has_lost = True
                other.task.cancel()
        self._deadline.hand_over()
        self._sink.content_type = lane.content_type
        attempts = sum(each.record.attempts for each in self.lanes)
        self._sink.headers[:] = [
            (name, str(attempts) if name == "x-attempts" else value) for name, value in lane.headers
        ]

    async def end(self) -> None:
        """Ends every lane; the call's record gets the winner's fields and everybody's attempts."""
        tasks = [lane.task for lane in self.lanes if lane.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        record, winners = self._record, (self.winner or self.lanes[0]).record
        for field in record.__struct_fields__:
            if field not in _SUMS:
                setattr(record, field, getattr(winners, field))
        for lane in self.lanes:
            record.attempts += lane.record.attempts
            record.tried += lane.record.tried
