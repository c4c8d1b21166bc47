"""Sanic's process manager with what it leaves out.

* A worker that dies is started again, with a back-off so that a crash loop stays visible instead
  of furious. Sanic marks it FAILED and leaves it dead.
* A signal during start-up stops at once. Sanic would wait up to 30 s for workers it has just ended.

It stands on Sanic's inner methods, so the version is pinned; the process tests tell when an
upgrade breaks it.
"""

import logging
import time

from sanic.worker.constants import ProcessState
from sanic.worker.manager import WorkerManager

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
    _reviver: Reviver | None = None

    def wait_for_ack(self) -> None:
        """Until every worker serves, or a signal, or a worker that cannot start."""
        end = time.monotonic() + _START_SECONDS
        while not self._all_workers_ack():  # type: ignore[no-untyped-call]
            if self._shutting_down:
                self.monitor_publisher.send(None)  # monitor() is to see it too
                return
            if self.monitor_subscriber.poll(0.05):
                message = self.monitor_subscriber.recv()
                if message is None:
                    continue
                if message == "__TERMINATE_EARLY__":
                    end = 0.0
                else:
                    self.monitor_publisher.send(message)
            if time.monotonic() > end:
                logger.error("a worker could not start: the gateway stops")
                self.kill()  # type: ignore[no-untyped-call]
            self._sync_states()

    def shutdown(self) -> None:
        # SIGTERM where Sanic sends SIGINT: the same to a worker that serves, but a
        # KeyboardInterrupt with its traceback in one that is still importing.
        for process in self.processes:
            if process.is_alive():
                process.set_state(ProcessState.TERMINATED, True)
                process._current_process.terminate()
        self._shutting_down = True

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
