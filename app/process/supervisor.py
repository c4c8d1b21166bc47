"""Sanic's process manager with what it leaves out.

* A worker that dies is started again, with a back-off so that a crash loop stays visible instead
  of furious. Sanic marks it FAILED and leaves it dead.
* A reload (SIGHUP) brings up new workers beside the old ones and only then lets the old ones go,
  for as long as their calls last. Sanic restarts each under its old name and forgets what it was.
* A signal during start-up stops at once. Sanic would wait up to 30 s for workers it has just ended.
* Stopping takes as long as the drain may take, and no longer. Sanic gives up on workers after 10 s.
* A signal to the whole process group reaches this process alone (see group_signals), and the
  Discord bridge goes last: open calls need it.

It stands on Sanic's inner methods, so the version is pinned; the process tests tell when an
upgrade breaks it.
"""

import logging
import os
import signal as signals
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import active_children
from signal import SIGHUP
from typing import Any, NoReturn

from msgspec import Struct
from sanic.exceptions import ServerKilled
from sanic.worker.constants import ProcessState
from sanic.worker.loader import AppLoader
from sanic.worker.manager import MonitorCycle, WorkerManager
from sanic.worker.process import Worker, WorkerProcess

from app.config.load import ConfigError, Loaded, secrets
from app.config.reloadable import keep_unreloadable
from app.config.schema import Config
from app.offload import group_signals
from app.state.reload_status import Outcome, ReloadStatus
from app.telemetry import log_setup, log_writer

_CALM_SECONDS = 30.0  # a process that lived this long starts again without delay
_MAX_DELAY = 30.0
_START_SECONDS = 30.0
_SYNC_SECONDS = 0.5
# What a worker needs beyond its drain: to tell the rest that it goes, and to end.
FAREWELL_SECONDS = 5.0
# `timeout` signals its command and then the whole group; both are one wish.
_SAME_SIGNAL_SECONDS = 1.0
_EARLY = "__TERMINATE_EARLY__"  # Sanic's word of a worker that could not start

logger = logging.getLogger("any_proxy.manager")


class RestartBackoff:
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


class Rollout(Struct):
    """A reload under way: the workers that come up with the new config."""

    number: int
    config: Config
    loader: AppLoader
    outcome: Outcome
    workers: list[Worker]
    until: float


def reload_seconds(config: Config) -> float:
    """How long an old worker may go on with the calls it has: no call is meant to last longer."""
    return max(config.drain_seconds, config.timeouts.total)


class Manager(WorkerManager):
    """Sanic makes it itself, so what it needs is set on the class before."""

    board: ReloadStatus
    config: Config
    reread: Callable[[], Loaded]
    loader_for: Callable[[Config], AppLoader]
    _stop_asked_at: float | None = None
    _reload_asked = False
    _rising: Rollout | None = None
    _synced_at = 0.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reviver = RestartBackoff()
        self._leaving: list[tuple[float, WorkerProcess]] = []  # killed after that time
        signals.signal(SIGHUP, self.reload_signal)

    def reload_signal(self, signal: Any, frame: Any) -> None:
        self._reload_asked = True  # only a mark, as below

    def shutdown_signal(self, signal: Any, frame: Any) -> None:
        # Only a mark: the signal may have interrupted a talk with the table of processes, and
        # using it here, as Sanic does, would garble that talk. A second signal does not wait.
        now = time.monotonic()
        if self._stop_asked_at is None:
            self._stop_asked_at = now
        elif now - self._stop_asked_at > _SAME_SIGNAL_SECONDS:
            logger.warning("a second signal: every process is killed")
            end_children()
            log_writer.flush()
            os._exit(1)

    def kill(self) -> NoReturn:
        # Sanic's kills the whole process group, this process and its caller's shell included.
        end_children()
        log_writer.flush()  # Sanic ends this process at once
        raise ServerKilled

    def start(self) -> None:
        super().start()  # type: ignore[no-untyped-call]
        group_signals.unblock()  # a signal that came so far is handled now

    def restart(self, *args: Any, **kwargs: Any) -> None:
        with group_signals.blocked():
            super().restart(*args, **kwargs)

    def _poll_monitor(self) -> MonitorCycle | None:
        if self._stop_asked_at is not None:
            self.shutdown()
            return MonitorCycle.BREAK
        self._go_on_reloading()
        self._bury()
        return super()._poll_monitor()

    def _handle_message(self, message: str) -> MonitorCycle | None:
        if message == _EARLY:
            return None  # its process ends, which is seen below
        return super()._handle_message(message)

    def wait_for_ack(self) -> None:
        """Until every worker serves, or a signal, or a worker that cannot start."""
        end = time.monotonic() + _START_SECONDS
        while not self._all_workers_ack():  # type: ignore[no-untyped-call]
            if self._stop_asked_at is not None:
                return  # monitor() sees it too
            if self.monitor_subscriber.poll(0.05):
                message = self.monitor_subscriber.recv()
                if message == _EARLY:
                    end = 0.0
                else:
                    self.monitor_publisher.send(message)
            if time.monotonic() > end:
                logger.error("a worker could not start: the gateway stops")
                self.kill()
            self._sync_states()

    def shutdown(self) -> None:
        self.board.stop()  # those that leave already see it, and hurry
        if self._rising is not None:
            self.board.end(self._rising.number, _failed("the gateway stops"))
            self._rising = None
        for process in self.transient_processes:
            _send_away(process)
        for process in self.processes:
            process.set_state(ProcessState.TERMINATED, True)
        self._shutting_down = True

    def cleanup(self) -> None:
        end = time.monotonic() + self.config.drain_seconds + FAREWELL_SECONDS
        _join([*self.transient_processes, *(process for _, process in self._leaving)], end)
        others = list(self.durable_processes)
        for process in others:
            _send_away(process)
        _join(others, time.monotonic() + FAREWELL_SECONDS)
        for _, process in self._leaving:
            process.exit()  # type: ignore[no-untyped-call]
        super().cleanup()  # type: ignore[no-untyped-call]

    def _sync_states(self) -> None:
        now = time.monotonic()
        if (
            now - self._synced_at < _SYNC_SECONDS
            and self._rising is None
            and not self._leaving
            and all(process.is_alive() for process in self.processes)
        ):
            return  # the table of states is in another process, and a talk with it costs
        self._synced_at = now
        super()._sync_states()  # type: ignore[no-untyped-call]
        if self._shutting_down:
            return
        rising = self._rising.workers if self._rising else []
        for worker in self.workers:
            if worker in rising or not worker.restartable:
                continue
            for process in worker.processes:
                if process.state not in (ProcessState.FAILED, ProcessState.COMPLETED):
                    continue
                if self._reviver.is_due(process.name, time.monotonic()):
                    logger.warning("starting %s again, which died", process.name)
                    self.board.count_revived()
                    self.restart(process_names=[process.name])

    # -- reload

    def _go_on_reloading(self) -> None:
        if self._rising is not None:
            self._look_at_rising(self._rising)
        elif self._reload_asked:
            self._reload_asked = False
            self._begin_reload()

    def _begin_reload(self) -> None:
        number = self.board.begin()
        try:
            loaded = type(self).reread()
        except ConfigError as error:
            for problem in error.problems:
                logger.error("reload refused: %s", problem)
            self.board.end(
                number,
                Outcome(
                    ok=False,
                    message="The config has mistakes; the gateway goes on with the old one.",
                    problems=error.problems,
                ),
            )
            return
        except Exception as error:
            logger.exception("reload refused")
            self.board.end(number, _failed(f"the config cannot be read ({type(error).__name__})"))
            return
        config, kept = keep_unreloadable(self.config, loaded.config)
        loader = type(self).loader_for(config)
        count = config.workers or os.cpu_count() or 1
        old = self._server_settings
        self._server_settings = {**old, "app_loader": loader}
        workers = [self.create_server() for _ in range(count)]
        self._server_settings = old
        outcome = Outcome(ok=True, message="Reloaded.", warnings=loaded.warnings, kept=kept)
        until = time.monotonic() + _START_SECONDS
        self._rising = Rollout(number, config, loader, outcome, workers, until)
        with group_signals.blocked():
            for process in _processes(workers):
                process.start()  # type: ignore[no-untyped-call]

    def _look_at_rising(self, rising: Rollout) -> None:
        processes = _processes(rising.workers)
        if not all(process._current_process.is_alive() for process in processes):
            self._give_up(rising, "a new worker could not start; the log says why")
        elif time.monotonic() > rising.until:
            self._give_up(rising, f"a new worker did not start within {_START_SECONDS:.0f} s")
        elif all(
            self.worker_state[process.name].get("state") == ProcessState.ACKED.name
            for process in processes
        ):
            self._take_over(rising)

    def _give_up(self, rising: Rollout, why: str) -> None:
        self._rising = None
        logger.error("reload taken back: %s", why)
        self._let_go(rising.workers, 0)
        self.board.end(rising.number, _failed(why))

    def _take_over(self, rising: Rollout) -> None:
        self._rising = None
        before = [
            worker
            for worker in self.transient.values()
            if worker.name.startswith(WorkerProcess.SERVER_LABEL) and worker not in rising.workers
        ]
        seconds = reload_seconds(self.config)
        self.config = type(self).config = rising.config
        self._server_settings = {**self._server_settings, "app_loader": rising.loader}
        self.num_server = len(rising.workers)
        config = rising.config
        log_setup.configure(config.log_level, config.log_format, secrets(config))
        for warning in rising.outcome.warnings:
            logger.warning("%s", warning)
        for key in rising.outcome.kept:
            logger.warning("%s is changed only by a restart; it stays as it was", key)
        logger.info("reloaded: %d workers", self.num_server)
        # The word first: the worker that was asked is among those that go.
        self.board.end(rising.number, rising.outcome)
        self._let_go(before, seconds)

    def _let_go(self, workers: list[Worker], seconds: float) -> None:
        until = time.monotonic() + seconds + FAREWELL_SECONDS
        for worker in workers:
            del self.transient[worker.name]
            for process in worker.processes:
                process.set_state(ProcessState.TERMINATED, True)
                _send_away(process)
                self._leaving.append((until, process))

    def _bury(self) -> None:
        for entry in list(self._leaving):
            until, process = entry
            if process._current_process.is_alive():
                if time.monotonic() > until:
                    logger.error("%s did not leave in time and is killed", process.name)
                    process._current_process.kill()
                continue
            process._current_process.join()
            process.exit()  # type: ignore[no-untyped-call]
            self._leaving.remove(entry)


def _processes(workers: list[Worker]) -> list[WorkerProcess]:
    return [process for worker in workers for process in worker.processes]


def _send_away(process: WorkerProcess) -> None:
    if process.pid and process.is_alive():  # type: ignore[no-untyped-call]
        with suppress(ProcessLookupError):
            os.kill(process.pid, group_signals.LEAVE)


def _join(processes: list[WorkerProcess], end: float) -> None:
    for process in processes:
        if not process.pid:
            continue
        process._current_process.join(max(end - time.monotonic(), 0))
        if process._current_process.is_alive():
            logger.error("%s did not stop in time and is killed", process.name)
            process._current_process.kill()


def end_children() -> None:
    """Kills whatever this process has started, Sanic's helper process included. What tracks shared
    memory cleans up and ends by itself when nobody is left."""
    for child in active_children():
        child.kill()


def _failed(why: str) -> Outcome:
    return Outcome(ok=False, message=f"Nothing was changed: {why}.")
