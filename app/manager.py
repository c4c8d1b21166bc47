"""Sanic's process manager with what it leaves out.

* A worker that dies is started again, with a back-off so that a crash loop stays visible instead
  of furious. Sanic marks it FAILED and leaves it dead.
* A signal during start-up stops at once. Sanic would wait up to 30 s for workers it has just ended.
* Stopping takes as long as the drain may take, and no longer. Sanic gives up on workers after 10 s.

It stands on Sanic's inner methods, so the version is pinned; the process tests tell when an
upgrade breaks it.
"""

import logging
import os
import time
from contextlib import suppress
from multiprocessing.sharedctypes import RawArray
from signal import SIGKILL
from typing import Any

from sanic.worker.constants import ProcessState
from sanic.worker.manager import MonitorCycle, WorkerManager

_CALM_SECONDS = 30.0  # a process that lived this long starts again without delay
_MAX_DELAY = 30.0
_START_SECONDS = 30.0

logger = logging.getLogger("any_proxy.manager")


class Reviver:
    """Decides which dead processes to start again now. No clock of its own."""

    def __init__(self) -> None:
        self._tries: dict[str, tuple[float, int]] = {}  # name: time of the last start, in a row

    def is_due(self, name: str, now: float) -> bool:
        """True counts as a start."""
        last, row = self._tries.get(name, (float("-inf"), 0))
        if now - last > _CALM_SECONDS:
            row = 0
        delay = 0.0 if row == 0 else min(2.0 ** (row - 1), _MAX_DELAY)
        if now - last < delay:
            return False
        self._tries[name] = (now, row + 1)
        return True


class Manager(WorkerManager):
    """Sanic makes it itself, so what it needs is set on the class before."""

    drain_seconds = 30.0
    stopping = RawArray("b", 1)  # seen by the workers: a signal at the wrong moment may get lost
    _reviver: Reviver | None = None
    _stop_asked = False

    def shutdown_signal(self, signal: Any, frame: Any) -> None:
        # Only a mark: the signal may have interrupted a talk with the table of processes, and
        # using it here, as Sanic does, would garble that talk. A second signal does not wait.
        if self._stop_asked:
            logger.warning("a second signal: every process is killed")
            for process in self.processes:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, SIGKILL)
            os._exit(1)
        self._stop_asked = True

    def _poll_monitor(self) -> MonitorCycle | None:
        if self._stop_asked:
            self.shutdown()
            return MonitorCycle.BREAK
        return super()._poll_monitor()

    def wait_for_ack(self) -> None:
        """Until every worker serves, or a signal, or a worker that cannot start."""
        end = time.monotonic() + _START_SECONDS
        while not self._all_workers_ack():  # type: ignore[no-untyped-call]
            if self._stop_asked:
                return  # monitor() sees it too
            if self.monitor_subscriber.poll(0.05):
                message = self.monitor_subscriber.recv()
                if message == "__TERMINATE_EARLY__":
                    end = 0.0
                else:
                    self.monitor_publisher.send(message)
            if time.monotonic() > end:
                logger.error("a worker could not start: the gateway stops")
                self.kill()  # type: ignore[no-untyped-call]
            self._sync_states()

    def shutdown(self) -> None:
        self.stopping[0] = 1
        # SIGTERM where Sanic sends SIGINT: the same to a worker that serves, but a
        # KeyboardInterrupt with its traceback in one that is still importing.
        for process in self.processes:
            if process.is_alive():
                process.set_state(ProcessState.TERMINATED, True)
                process._current_process.terminate()
        self._shutting_down = True

    def cleanup(self) -> None:
        end = time.monotonic() + self.drain_seconds + 5
        for process in self.processes:
            process._current_process.join(max(end - time.monotonic(), 0))
            if process.is_alive():
                logger.error("%s did not stop in time and is killed", process.name)
                process._current_process.kill()
        super().cleanup()  # type: ignore[no-untyped-call]

    def _sync_states(self) -> None:
        super()._sync_states()  # type: ignore[no-untyped-call]
        if self._shutting_down:
            return
        if self._reviver is None:
            self._reviver = Reviver()
        for process in list(self.processes):
            dead = process.state is ProcessState.FAILED and process.restartable
            if dead and self._reviver.is_due(process.name, time.monotonic()):
                logger.warning("starting %s again, which died", process.name)
                self.restart(process_names=[process.name])
