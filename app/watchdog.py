"""Brings back what Sanic's manager leaves dead.

The manager marks a killed process FAILED and does not restart it. This small process of its own
looks at the shared process table and asks the manager to restart what failed, with a back-off so
that a crash loop stays visible instead of furious. Workers look back at it in the same way.
"""

import logging
import os
import signal
import time
from collections.abc import MutableMapping
from multiprocessing.connection import Connection
from typing import Any

NAME = "Watchdog"
PROCESS = f"Sanic-{NAME}-0"
_LOOK_SECONDS = 0.5
_CALM_SECONDS = 30.0  # a process that lived this long starts again without delay
_MAX_DELAY = 30.0

logger = logging.getLogger("any_proxy.watchdog")


class Reviver:
    """Decides which failed processes to restart now. No clock of its own."""

    def __init__(self) -> None:
        self._tries: dict[str, tuple[float, int]] = {}  # name: time of the last restart, in a row

    def due(self, states: dict[str, Any], now: float) -> list[str]:
        """Names of the processes to restart; asking counts as a restart."""
        due = []
        for name, state in states.items():
            if not isinstance(state, dict) or state.get("state") != "FAILED":
                continue
            last, row = self._tries.get(name, (0.0, 0))
            if now - last > _CALM_SECONDS:
                row = 0
            delay = 0.0 if row == 0 else min(2.0 ** (row - 1), _MAX_DELAY)
            if now - last >= delay:
                self._tries[name] = (now, row + 1)
                due.append(name)
        return due


def watch(publisher: Connection, states: MutableMapping[str, Any], main_pid: int) -> None:
    """The process: looks, restarts, and leaves when the main process is gone."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    reviver = Reviver()
    while os.getppid() == main_pid:
        time.sleep(_LOOK_SECONDS)
        try:
            table = {n: dict(s) for n, s in states.items() if n != PROCESS}
            for name in reviver.due(table, time.monotonic()):
                logger.warning("restarting %s, which died", name)
                publisher.send(f"{name}:")
        except (OSError, EOFError):
            return  # the manager is gone
