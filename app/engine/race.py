"""Several ways asked beside each other for one call: who speaks first has the caller, alone."""

import asyncio
from typing import Any

from msgspec import structs

from app.engine.deadline import Deadline
from app.telemetry.call_log import CallRecord
from app.wire.upstream import Headers

# Said of the call as a whole, whoever wins.
_SUMS = ("attempts", "tried")


class Lane:
    """The caller's connection as one runner sees it. Its first word wins, or never leaves."""

    def __init__(self, race: "Race", sink: Any, record: CallRecord) -> None:
        self._race, self._sink = race, sink
        self.headers: Headers = list(sink.headers)
        self.content_type: str = sink.content_type
        self.record = structs.replace(record, tried=[])
        self.started = False
        self.has_won = self.has_lost = False
        self.task: asyncio.Task[Any] | None = None

    async def send(self, data: bytes) -> None:
        self._claim()
        self.started = True
        await self._sink.send(data)

    def write(self, data: bytes) -> bool:
        return bool(self._sink.write(data))

    async def drain(self) -> None:
        await self._sink.drain()

    async def end(self) -> None:
        self._claim()
        await self._sink.end()

    async def answer(self, body: bytes) -> None:
        self._claim()
        await self._sink.answer(body)

    def _claim(self) -> None:
        if not self.has_won:
            self._race.win(self)


class Race:
    def __init__(self, sink: Any, record: CallRecord, watch: Deadline) -> None:
        self._sink, self._record, self._watch = sink, record, watch
        self.lanes: list[Lane] = []
        self.winner: Lane | None = None

    def enter(self) -> Lane:
        lane = Lane(self, self._sink, self._record)
        self.lanes.append(lane)
        return lane

    def win(self, lane: Lane) -> None:
        """The others are let go at once: none of them takes another step."""
        self.winner, lane.has_won = lane, True
        for other in self.lanes:
            if other is not lane and other.task is not None:
                other.has_lost = True
                other.task.cancel()
        self._watch.hand_over()
        self._sink.content_type = lane.content_type
        asked = sum(each.record.attempts for each in self.lanes)
        self._sink.headers[:] = [
            (name, str(asked) if name == "x-attempts" else value) for name, value in lane.headers
        ]

    async def end(self) -> None:
        """Nobody runs on; the call's record tells what the winner did, and what all tried."""
        tasks = [lane.task for lane in self.lanes if lane.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        record, told = self._record, (self.winner or self.lanes[0]).record
        for field in record.__struct_fields__:
            if field not in _SUMS:
                setattr(record, field, getattr(told, field))
        for lane in self.lanes:
            record.attempts += lane.record.attempts
            record.tried += lane.record.tried
