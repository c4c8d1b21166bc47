"""The supervisor of the worker processes: Sanic's manager with restarts, reload and draining.

* A worker that dies is started again, with a back-off so that a crash loop stays visible instead
  of furious. Sanic marks it FAILED and leaves it dead.
* A reload (SIGHUP) starts new workers beside the old ones. Once all of them serve, the old ones are
  told to leave, and finish their calls first. Sanic restarts each under its old name at once.
* A signal during start-up stops at once. Sanic would wait up to 30 s for workers it has just ended.
* A stop waits for as long as draining may take. Sanic kills workers after 10 s.
* A signal to the whole process group reaches this process alone (see group_signals), and the
  Discord bridge goes last: open calls need it.

It overrides inner methods of Sanic, whose version is pinned; test_borrowed_names.py lists them.
"""

import logging
import os
import signal as signals
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing import active_children, current_process
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
# What a worker needs beyond its drain to end.
FAREWELL_SECONDS = 5.0
# `timeout` signals its command and then the whole group; the two count as one.
_SAME_SIGNAL_SECONDS = 1.0
_EARLY = "__TERMINATE_EARLY__"  # Sanic's message of a worker that could not start

logger = logging.getLogger("any_proxy.manager")


class RestartBackoff:
    """Exponential back-off for restarts of each process. The caller gives the time."""

    def __init__(self) -> None:
        self._tries: dict[str, tuple[float, int]] = {}  # name: time of the last start, in a row

    def is_due(self, name: str, now: float) -> bool:
        """Whether the process may be started now (monotonic seconds); True counts as a start."""
        last, row = self._tries.get(name, (float("-inf"), 0))
        if now - last > _CALM_SECONDS:
            row = 0
        delay = 0.0 if row == 0 else min(2.0 ** (row - 1), _MAX_DELAY)
        if now - last < delay:
            return False
        self._tries[name] = (now, row + 1)
        return True


class Rollout(Struct):
    """A reload under way: the new workers and the config they start with."""

    number: int
    config: Config
    loader: AppLoader
    outcome: Outcome
    workers: list[Worker]
    until: float


def reload_seconds(config: Config) -> float:
    """Seconds that a replaced worker gets for its open calls: as long as any call may last."""
    return max(config.drain_seconds, config.timeouts.total)


class Supervisor(WorkerManager):
    """The process manager. Sanic creates it, so its parameters are set on the class before."""

    reload_status: ReloadStatus
    config: Config
    reread: Callable[[], Loaded]
    loader_for: Callable[[Config], AppLoader]
    _stop_requested_at: float | None = None
    _reload_requested = False
    _rollout: Rollout | None = None
    _synced_at = 0.0

    def __init__(self, number: int, serve: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(number, partial(_serve_named, serve), *args, **kwargs)
        self._backoff = RestartBackoff()
        self._leaving: list[tuple[float, WorkerProcess]] = []  # (killed after that time, process)
        signals.signal(SIGHUP, self.reload_signal)

    def reload_signal(self, signal: Any, frame: Any) -> None:
        """SIGHUP: requests a reload."""
        self._reload_requested = True  # only a mark, as in shutdown_signal

    def shutdown_signal(self, signal: Any, frame: Any) -> None:
        """SIGTERM or SIGINT: requests a stop; a second one kills every process."""
        # Only a mark: the signal may have interrupted a message to the table of processes, and
        # using the table here, as Sanic does, would garble that message.
        now = time.monotonic()
        if self._stop_requested_at is None:
            self._stop_requested_at = now
        elif now - self._stop_requested_at > _SAME_SIGNAL_SECONDS:
            logger.warning("a second signal: every process is killed")
            end_children()
            log_writer.flush()
            os._exit(1)

    def kill(self) -> NoReturn:
        """Kills every child. Sanic's kills the process group, the caller's shell included."""
        end_children()
        log_writer.flush()  # Sanic ends this process at once
        raise ServerKilled

    def start(self) -> None:
        """Starts the workers, then handles the signals that came meanwhile."""
        super().start()  # type: ignore[no-untyped-call]
        group_signals.unblock()

    def restart(self, *args: Any, **kwargs: Any) -> None:
        """Sanic's restart, with group signals blocked until the child has its own handlers."""
        with group_signals.blocked():
            super().restart(*args, **kwargs)

    def _poll_monitor(self) -> MonitorCycle | None:
        if self._stop_requested_at is not None:
            self.shutdown()
            return MonitorCycle.BREAK
        self._continue_reload()
        self._reap()
        return super()._poll_monitor()

    def _handle_message(self, message: str) -> MonitorCycle | None:
        if message == _EARLY:
            return None  # its process ends, which `_sync_states` sees
        return super()._handle_message(message)

    def wait_for_ack(self) -> None:
        """Waits until every worker serves, or a signal; kills all if a worker cannot start."""
        end = time.monotonic() + _START_SECONDS
        while not self._all_workers_ack():  # type: ignore[no-untyped-call]
            if self._stop_requested_at is not None:
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
        """Tells every process to leave; `cleanup` waits for them."""
        self.reload_status.stop()  # workers that a reload replaced hurry then
        if self._rollout is not None:
            self.reload_status.end(self._rollout.number, _failed("the gateway stops"))
            self._rollout = None
        for process in self.transient_processes:
            _signal_to_leave(process)
        for process in self.processes:
            process.set_state(ProcessState.TERMINATED, True)
        self._shutting_down = True

    def cleanup(self) -> None:
        """Waits for the workers, then ends the rest: the Discord bridge goes last."""
        end = time.monotonic() + self.config.drain_seconds + FAREWELL_SECONDS
        _join([*self.transient_processes, *(process for _, process in self._leaving)], end)
        others = list(self.durable_processes)
        for process in others:
            _signal_to_leave(process)
        _join(others, time.monotonic() + FAREWELL_SECONDS)
        for _, process in self._leaving:
            process.exit()  # type: ignore[no-untyped-call]
        super().cleanup()  # type: ignore[no-untyped-call]

    def _sync_states(self) -> None:
        now = time.monotonic()
        if (
            now - self._synced_at < _SYNC_SECONDS
            and self._rollout is None
            and not self._leaving
            and all(process.is_alive() for process in self.processes)
        ):
            return  # the table of states is in another process, so that reading it costs
        self._synced_at = now
        super()._sync_states()  # type: ignore[no-untyped-call]
        if self._shutting_down:
            return
        rollout = self._rollout.workers if self._rollout else []
        for worker in self.workers:
            if worker in rollout or not worker.restartable:
                continue
            for process in worker.processes:
                if process.state not in (ProcessState.FAILED, ProcessState.COMPLETED):
                    continue
                if self._backoff.is_due(process.name, time.monotonic()):
                    logger.warning("starting %s again, which died", process.name)
                    self.reload_status.count_revived()
                    self.restart(process_names=[process.name])

    # -- reload

    def _continue_reload(self) -> None:
        if self._rollout is not None:
            self._check_rollout(self._rollout)
        elif self._reload_requested:
            self._reload_requested = False
            self._begin_reload()

    def _begin_reload(self) -> None:
        number = self.reload_status.begin()
        try:
            loaded = type(self).reread()
        except ConfigError as error:
            for problem in error.problems:
                logger.error("reload refused: %s", problem)
            self.reload_status.end(
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
            self.reload_status.end(
                number, _failed(f"the config cannot be read ({type(error).__name__})")
            )
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
        self._rollout = Rollout(number, config, loader, outcome, workers, until)
        with group_signals.blocked():
            for process in _processes(workers):
                process.start()  # type: ignore[no-untyped-call]

    def _check_rollout(self, rollout: Rollout) -> None:
        processes = _processes(rollout.workers)
        if not all(process._current_process.is_alive() for process in processes):
            self._abandon(rollout, "a new worker could not start; the log says why")
        elif time.monotonic() > rollout.until:
            self._abandon(rollout, f"a new worker did not start within {_START_SECONDS:.0f} s")
        elif all(
            self.worker_state[process.name].get("state") == ProcessState.ACKED.name
            for process in processes
        ):
            self._complete(rollout)

    def _abandon(self, rollout: Rollout, why: str) -> None:
        self._rollout = None
        logger.error("reload taken back: %s", why)
        self._dismiss(rollout.workers, 0)
        self.reload_status.end(rollout.number, _failed(why))

    def _complete(self, rollout: Rollout) -> None:
        self._rollout = None
        before = [
            worker
            for worker in self.transient.values()
            if worker.name.startswith(WorkerProcess.SERVER_LABEL) and worker not in rollout.workers
        ]
        seconds = reload_seconds(self.config)
        self.config = type(self).config = rollout.config
        self._server_settings = {**self._server_settings, "app_loader": rollout.loader}
        self.num_server = len(rollout.workers)
        config = rollout.config
        log_setup.configure(config.log_level, config.log_format, secrets(config))
        for warning in rollout.outcome.warnings:
            logger.warning("%s", warning)
        for key in rollout.outcome.kept:
            logger.warning("%s is changed only by a restart; it stays as it was", key)
        logger.info("reloaded: %d workers", self.num_server)
        # First: the worker that waits for this outcome is among those that leave.
        self.reload_status.end(rollout.number, rollout.outcome)
        self._dismiss(before, seconds)

    def _dismiss(self, workers: list[Worker], seconds: float) -> None:
        until = time.monotonic() + seconds + FAREWELL_SECONDS
        for worker in workers:
            del self.transient[worker.name]
            for process in worker.processes:
                process.set_state(ProcessState.TERMINATED, True)
                _signal_to_leave(process)
                self._leaving.append((until, process))

    def _reap(self) -> None:
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


def _serve_named(serve: Callable[..., Any], **settings: Any) -> None:
    """Runs a worker. Its name, which Sanic puts into the environment, does not reach a fork."""
    os.environ["SANIC_WORKER_NAME"] = current_process().name
    serve(**settings)


def _processes(workers: list[Worker]) -> list[WorkerProcess]:
    return [process for worker in workers for process in worker.processes]


def _signal_to_leave(process: WorkerProcess) -> None:
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
    """Kills every child process, Sanic's helper included.

    The resource tracker of shared memory cleans up and ends by itself when nobody is left.
    """
    for child in active_children():
        child.kill()


def _failed(why: str) -> Outcome:
    return Outcome(ok=False, message=f"Nothing was changed: {why}.")
