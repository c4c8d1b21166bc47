"""Reload counters and the outcome of the last reload, in shared memory.

The main process writes, the workers read. `_VERSION` is odd while the outcome's text is being
written: a reader that sees it odd or changed reads again (a seqlock).
"""

import asyncio
import os
import signal
from multiprocessing.sharedctypes import RawArray
from typing import Any

import msgspec
from msgspec import Struct

from app.offload import main_process

_ORPHANED = (
    "Nothing was changed: the main process is gone, and its workers leave. Start the gateway."
)
_TEXT_BYTES = 64 * 1024
_ASK_SECONDS = 60.0
_BEGUN, _ENDED, _VERSION, _SIZE, _REVIVED, _STOPPING = range(6)


class Outcome(Struct, kw_only=True):
    """How a reload ended. `kept` lists config keys that stay as they were until a restart."""

    ok: bool
    message: str
    problems: list[str] = []
    warnings: list[str] = []
    kept: list[str] = []


_decoder = msgspec.json.Decoder(Outcome)


class ReloadStatus:
    """Reload counters and the last outcome as JSON.

    The main process makes it; a worker attaches with `handles`.
    """

    def __init__(self, handles: tuple[Any, Any] | None = None) -> None:
        self.handles = handles or (RawArray("q", 8), RawArray("c", _TEXT_BYTES))
        self._cells, self._text = self.handles

    # -- the main process

    def begin(self) -> int:
        """Counts a reload that begins and returns its number."""
        self._cells[_BEGUN] += 1
        return int(self._cells[_BEGUN])

    def end(self, number: int, outcome: Outcome) -> None:
        """Publishes how reload `number` ended; a text that is too long is cut to 50 problems."""
        text = msgspec.json.encode(outcome)
        if len(text) > _TEXT_BYTES:
            first = [line[:500] for line in outcome.problems[:50]]
            outcome = Outcome(
                ok=outcome.ok, message=outcome.message, problems=first, kept=outcome.kept
            )
            text = msgspec.json.encode(outcome)
        self._cells[_VERSION] += 1  # odd: being written
        self._text[: len(text)] = text
        self._cells[_SIZE] = len(text)
        self._cells[_VERSION] += 1
        self._cells[_ENDED] = number

    def count_revived(self) -> None:
        """Counts a worker that died and was started again."""
        self._cells[_REVIVED] += 1

    def stop(self) -> None:
        """Announces that the whole gateway stops."""
        self._cells[_STOPPING] = 1

    # -- the workers

    @property
    def revived(self) -> int:
        """The number of workers that died and were started again."""
        return int(self._cells[_REVIVED])

    @property
    def reloads(self) -> int:
        """The number of the last reload that ended."""
        return int(self._cells[_ENDED])

    @property
    def stopping(self) -> bool:
        """Whether the whole gateway stops, not only this worker."""
        return bool(self._cells[_STOPPING])

    async def ask(self, main_pid: int) -> Outcome | None:
        """Makes the main process, this one's parent, reload. Returns the outcome, None when the
        reload has not ended within a minute."""
        begun = self._cells[_BEGUN]
        if main_process.is_alive():  # else the pid may belong to another process by now
            os.kill(main_pid, signal.SIGHUP)
        # A reload under way may have read the file too early: wait for one begun after this.
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                while self._cells[_ENDED] <= begun:
                    if not main_process.is_alive():
                        return Outcome(ok=False, message=_ORPHANED)
                    await asyncio.sleep(0.02)
        except TimeoutError:
            return None
        return self.outcome()

    def outcome(self) -> Outcome | None:
        """Returns the outcome of the last reload, None before the first."""
        while True:
            version, size = self._cells[_VERSION], self._cells[_SIZE]
            text: Any = self._text[:size]
            if version % 2 == 0 and version == self._cells[_VERSION]:
                return _decoder.decode(text) if size else None
