"""The recent calls of every worker, as JSON log lines in shared memory, for GET /admin/requests.

Each worker's row has a ring buffer of frames. A reader copies the ring and accepts only frames with
a correct checksum, so it needs no lock and never waits for the writer.

    frame = magic · length · crc32 · JSON
"""

import re
import struct
from collections.abc import Iterable, Iterator
from typing import Any
from zlib import crc32

import msgspec

from app.state.worker_slots import RING, RING_HEAD, Row

_MAGIC = b"\x00\xffcall"  # occurs in no JSON
_HEAD = struct.Struct("<6sII")
_MAX_LINE = 64 * 1024
_ERROR = re.compile(rb'"code":"')
_TIME = slice(len('{"time":"'), len('{"time":"2026-01-31T12:00:00.000Z'))


class CallHistory:
    """Writes one worker's ring. Without a row, nothing is kept."""

    def __init__(self, row: Row | None) -> None:
        self._row = row

    def keep(self, line: bytes) -> None:
        """Adds the JSON of a call over the oldest ones. Lines over 64 KiB are left out."""
        row = self._row
        if row is None or len(line) > _MAX_LINE:
            return
        frame = _HEAD.pack(_MAGIC, len(line), crc32(line)) + line
        head = row.cells[RING_HEAD]
        if head + len(frame) > RING:
            row.ring[head:RING] = bytes(RING - head)  # no old frame after the newest one
            head = 0
        row.ring[head : head + len(frame)] = frame
        row.cells[RING_HEAD] = head + len(frame)


def calls_of(rows: Iterable[Row], request_id: str) -> list[dict[str, Any]]:
    """The recent calls with this request id, the oldest first."""
    wanted = b'"request_id":' + msgspec.json.encode(request_id)
    found = [msgspec.json.decode(line) for line in _lines(rows) if wanted in line]
    return sorted(found, key=lambda call: str(call.get("time", "")))


def last_errors(rows: Iterable[Row], count: int, without_route: str = "") -> list[dict[str, Any]]:
    """The last `count` calls that failed, the newest first, except those of one route."""
    # The code may also be that of a failed attempt whose call was completed by another.
    calls = (msgspec.json.decode(line) for line in _lines(rows) if _ERROR.search(line))
    found = [
        call
        for call in calls
        if call.get("outcome") != "complete" and call["route"] != without_route
    ]
    return sorted(found, key=lambda call: str(call.get("time", "")), reverse=True)[:count]


def calls_since(
    rows: Iterable[Row], since: bytes, count: int, without_route: str = ""
) -> list[bytes]:
    """The last `count` calls that ended after `since` (the `time` of a call, b"" for all) as JSON,
    the oldest first, except those of one route."""
    other = b'"route":' + msgspec.json.encode(without_route)
    found = sorted(line for line in _lines(rows) if line[_TIME] > since and other not in line)
    return found[-count:]


def time_of(line: bytes) -> bytes:
    """The `time` of a call, which its JSON begins with: times compare as their bytes do."""
    return line[_TIME]


def _lines(rows: Iterable[Row]) -> Iterator[bytes]:
    for row in rows:
        ring = bytes(row.ring)
        at = ring.find(_MAGIC)
        while at >= 0:
            if at + _HEAD.size > RING:
                break
            _, length, checksum = _HEAD.unpack_from(ring, at)
            line = ring[at + _HEAD.size : at + _HEAD.size + length]
            if length <= _MAX_LINE and crc32(line) == checksum:
                yield line
            at = ring.find(_MAGIC, at + 1)
