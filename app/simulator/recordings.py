"""Recorded answers to replay: `model: "replay-<file name without its ending>"`.

The body goes out as it was recorded, event by event where it is a stream, with the status and the
headers that `responses.json` kept.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from sanic import HTTPResponse, Request

from app.simulator.delivery import Dialect, send_body, send_events
from app.simulator.faults import Fault

DEFAULT = Path(__file__).parents[2] / "tests" / "recorded"
INDEXES = {"README", "requests", "responses"}
TYPES = {".sse": "text/event-stream; charset=utf-8", ".json": "application/json"}
_EVENT_END = re.compile(rb"(?:\r\n\r\n|\n\n|\r\r)")


class Recording(Struct, frozen=True):
    """A recorded answer."""

    body: bytes
    status: int
    headers: list[tuple[str, str]]
    content_type: str
    is_stream: bool

    def events(self) -> list[bytes]:
        """The body cut after every blank line; nothing is lost."""
        ends = [match.end() for match in _EVENT_END.finditer(self.body)]
        if not ends or ends[-1] != len(self.body):
            ends.append(len(self.body))
        return [self.body[a:b] for a, b in zip([0, *ends], ends, strict=False)]


class Recordings:
    """The recordings of a folder with one subfolder per family; each file is read once."""

    def __init__(self, folder: Path = DEFAULT) -> None:
        self._folder = folder
        self._kept: dict[tuple[str, str, bool], Recording | None] = {}

    def find(self, family: str, stem: str, prefer_stream: bool = True) -> Recording | None:
        """The recording, or None.

        Of files with the same stem the stream is taken, or with `prefer_stream` False the JSON.
        """
        asked = (family, stem, prefer_stream)
        if asked not in self._kept:
            found = self._read(*asked)
            if found is None:
                return None
            self._kept[asked] = found
        return self._kept[asked]

    def names(self, family: str) -> list[str]:
        """The names of a family's recordings."""
        folder = self._folder / family
        files = sorted(folder.iterdir()) if folder.is_dir() else []
        return [file.stem for file in files if file.stem not in INDEXES]

    def _read(self, family: str, stem: str, prefer_stream: bool) -> Recording | None:
        if not re.fullmatch(r"[\w.-]+", stem) or stem in INDEXES:
            return None
        endings = [".sse", ".json", ".txt"] if prefer_stream else [".json", ".sse", ".txt"]
        for ending in endings:
            file = self._folder / family / (stem + ending)
            if file.is_file():
                kept = self._kept_headers(family, file.name)
                headers: dict[str, str] = dict(kept.get("headers", {}))
                content_type = headers.pop("content-type", TYPES.get(ending, "text/plain"))
                return Recording(
                    file.read_bytes(),
                    int(kept.get("status", 200)),
                    list(headers.items()),
                    content_type,
                    ending != ".json",
                )
        return None

    def _kept_headers(self, family: str, name: str) -> dict[str, Any]:
        """The recorder's notes: `responses.json`, or the answer's side of `requests.json`."""
        for index in ("responses.json", "requests.json"):
            file = self._folder / family / index
            if file.is_file():
                notes: Any = msgspec.json.decode(file.read_bytes())
                note = notes.get(name) if isinstance(notes, dict) else None
                if isinstance(note, dict) and "status" in note:
                    return {
                        "status": note["status"],
                        "headers": note.get("headers") or note.get("response_headers") or {},
                    }
        return {}


async def send_recording(
    request: Request,
    fault: Fault,
    family: str,
    dialect: Dialect,
    missing: Callable[[str], HTTPResponse],
    *,
    prefer_stream: bool,
) -> HTTPResponse | None:
    """Sends the recording that `fault.replay` names, or `missing(message)` when there is none."""
    recordings: Recordings = request.app.ctx.recordings
    found = recordings.find(family, fault.replay, prefer_stream)
    if found is None:
        names = ", ".join(recordings.names(family)) or "none"
        return missing(f"There is no recording {fault.replay!r}. There are: {names}.")
    common: dict[str, Any] = {
        "headers": found.headers,
        "status": found.status,
        "content_type": found.content_type,
    }
    if found.is_stream:
        return await send_events(request, fault, found.events(), dialect, **common)
    return await send_body(request, fault, found.body, dialect, **common)
