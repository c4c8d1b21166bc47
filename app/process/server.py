"""Sanic's life: the one file that knows how the server starts, serves and stops."""

import asyncio
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing import active_children, resource_tracker
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from typing import Any

from sanic import HTTPResponse, Request, Sanic
from sanic.exceptions import MethodNotAllowed, NotFound
from sanic.mixins import startup
from sanic.worker.loader import AppLoader

from app.config.load import Loaded, listen_address, secrets
from app.config.schema import Config
from app.engine.gateway import Gateway
from app.http import dispatch
from app.http.connection import Protocol
from app.http.error_answers import as_gateway_error, error_answer
from app.http.responses import App, gateway_of, headers_for, record_for, request_id
from app.http.routes import (
    admin,
    bing,
    chat,
    chatgpt_pictures,
    landing,
    models,
    openai_platform,
    reverse_proxy,
)
from app.offload import group_signals
from app.pool import cooldown_store
from app.process import discord_bridge
from app.process.har_folder import HarFolder
from app.process.supervisor import Manager, end_children, reload_seconds
from app.state.reload_status import ReloadStatus
from app.state.shared_table import SharedState
from app.state.worker_slots import WorkerRows
from app.telemetry import log_setup

NAME = "any-proxy"
_SWEEP_SECONDS = 0.1
_LAST_SECONDS = 2.0
_ALONE_SECONDS = 2.0  # by then the main process has spoken, if the signal was for the group
_ROUTES = (
    landing,
    chat,
    models,
    bing,
    openai_platform,
    chatgpt_pictures,
    reverse_proxy,
    admin,
)
logger = logging.getLogger("any_proxy.server")


def create_app(config: Config) -> App:
    """The application, in the main process and again in every worker."""
    log_setup.configure(config.log_level, config.log_format, secrets(config))
    app: App = dispatch.Application(NAME, configure_logging=False)
    limits, timeouts = config.limits, config.timeouts
    app.config.update(
        AUTO_EXTEND=False,
        ACCESS_LOG=False,
        MOTD=False,
        NOISY_EXCEPTIONS=False,
        REQUEST_MAX_SIZE=limits.request_bytes,
        REQUEST_MAX_HEADER_SIZE=16384,
        REQUEST_TIMEOUT=timeouts.request,
        # Sanic's is the time between two writes; the exchange keeps the finer clocks.
        RESPONSE_TIMEOUT=max(timeouts.total, timeouts.idle, timeouts.forward_idle) + 30,
        KEEP_ALIVE_TIMEOUT=75,
        # Only for what is left when the drain is over, see _leave.
        GRACEFUL_SHUTDOWN_TIMEOUT=_LAST_SECONDS,
    )
    app.ctx.settings = config
    for routes in _ROUTES:
        routes.register(app)
    app.error_handler.add(Exception, _on_error)
    app.register_listener(_share, "main_process_start")
    app.register_listener(_start_bridge, "main_process_ready")
    app.register_listener(_open, "before_server_start")
    app.register_listener(_look_around, "after_server_start")
    app.register_listener(_before_stop, "before_server_stop")
    app.register_listener(_close, "after_server_stop")
    return app


def serve(config: Config, reread: Callable[[], Loaded]) -> int:
    """Runs until SIGTERM or SIGINT; the exit status. `reread` gives the config of a reload."""
    # Until Sanic's manager takes over, a signal must still end what was started so far.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    # Inherited by what tracks shared memory: a terminal's hangup must not end it.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    host, port = listen_address(config)
    loader = _loader_for(config)
    app = loader.load()
    app.prepare(
        host=host,
        port=port,
        workers=config.workers or os.cpu_count() or 1,
        ssl=_tls(config),
        motd=False,
        access_log=False,
        protocol=Protocol,
        backlog=4096,
    )
    Manager.board, Manager.config = ReloadStatus(), config
    Manager.reread, Manager.loader_for = staticmethod(reread), staticmethod(_loader_for)
    startup.WorkerManager = Manager  # type: ignore[attr-defined]
    # Before: its start would unblock what is blocked here until the manager can take it.
    resource_tracker.ensure_running()
    group_signals.block()
    try:
        Sanic.serve(primary=app, app_loader=loader)
    except BaseException:
        # Python would wait for them, and they for a word of the manager.
        end_children()
        raise
    return 0


def _loader_for(config: Config) -> AppLoader:
    return AppLoader(factory=partial(create_app, config))


def _tls(config: Config) -> dict[str, str] | None:
    info = config.https_info
    return {"cert": info.pem_file, "key": info.key_file} if info.enable else None


def _on_error(request: Request, error: Exception) -> HTTPResponse:
    if request.method == "OPTIONS" and isinstance(error, MethodNotAllowed | NotFound):
        return _preflight(request)
    told = as_gateway_error(request, error)
    if told.code == "route_not_found":
        told.message += landing.advice(request)
    if told.code == "gateway_error":
        logger.error("request %s failed", request_id(request), exc_info=error)
    if not getattr(request.ctx, "carried", False):
        record = getattr(request.ctx, "record", None) or record_for(request, "-")
        record.status, record.code = told.status, told.code or ""
        record.outcome = told.ending(record.attempts > 0)
        gateway_of(request).log.write(record)
    return error_answer(request, told)


def _preflight(request: Request) -> HTTPResponse:
    """A browser asks what it may send: anything, from anywhere, without cookies."""
    wanted = request.headers.get("access-control-request-headers", "*")
    wanted = wanted if wanted.isascii() else "*"
    return HTTPResponse(
        None,
        204,
        headers_for(
            request,
            [
                ("access-control-allow-methods", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
                ("access-control-allow-headers", wanted),
                ("access-control-max-age", "86400"),
            ],
        ),
    )


async def _share(app: App, *_: Any) -> None:
    config: Config = app.ctx.settings
    workers = config.workers or os.cpu_count() or 1
    state = SharedState(workers=workers)
    cooldown_store.load(state, Path(config.state_path), time.time())
    app.shared_ctx.state = state.handles
    app.shared_ctx.rows = WorkerRows(workers=workers).handles
    # Sanic's own helper processes would outlive a killed main process; workers end them then.
    family = [os.getpid(), *(child.pid or 0 for child in active_children())]
    app.shared_ctx.family = RawArray("q", family)
    app.shared_ctx.board = Manager.board.handles


async def _start_bridge(app: App, *_: Any) -> None:
    """One Discord session for all workers, in a process that is started again when it dies."""
    config: Config = app.ctx.settings
    if config.coze.discord.enable:
        # Not named "config": Sanic writes its own into an argument of that name at a restart.
        arguments = {"settings": config, "main_pid": os.getpid()}
        app.manager.manage(discord_bridge.NAME, discord_bridge.run, arguments, restartable=True)


async def _open(app: App, *_: Any) -> None:
    # In a single process (tests) there is no main process that could have made the rows.
    handles = getattr(app.shared_ctx, "state", None)
    board = getattr(app.shared_ctx, "board", None)
    app.ctx.board = ReloadStatus(board) if board else None
    rows = WorkerRows(getattr(app.shared_ctx, "rows", None))
    state = SharedState(handles)
    if handles is None:
        cooldown_store.load(state, Path(app.ctx.settings.state_path), time.time())
    app.ctx.gateway = Gateway(app.ctx.settings, state, rows)


async def _look_around(app: App, *_: Any) -> None:
    # What is there now stays: the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    loop = asyncio.get_running_loop()
    gateway: Gateway = app.ctx.gateway
    keeper = gateway.keeper
    watch = HarFolder(gateway.sessions, app.ctx.settings.hars_path, lambda: keeper.leads)
    # No tasks of Sanic's, which logs a warning for each that is cancelled.
    app.ctx.background = [
        loop.create_task(keeper.run(), name="keep"),
        loop.create_task(watch.run(), name="watch sessions"),
    ]
    if hasattr(app, "multiplexer"):  # not in a single process
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it is for the main process
        loop.add_signal_handler(group_signals.LEAVE, _leave, app)
        for number in (signal.SIGTERM, signal.SIGINT):  # in place of Sanic's
            loop.add_signal_handler(number, loop.call_later, _ALONE_SECONDS, _leave, app)
        group_signals.unblock()
        app.ctx.looking = loop.create_task(_look(app, *app.shared_ctx.family), name="look around")


async def _look(app: App, main_pid: int, *helpers: int) -> None:
    """Once a second: is this worker still wanted, and is there still a main process?"""
    gateway: Gateway = app.ctx.gateway
    board: ReloadStatus = app.ctx.board
    while os.getppid() == main_pid:
        await asyncio.sleep(1)
        if board.stopping:  # it may have come before the loop could take it
            _leave(app)
    # Nobody would ever stop an orphan, nor the helpers of the main process.
    logger.error("the main process is gone: this worker leaves too")
    gateway.end_calls()
    gateway.log.flush()
    await asyncio.sleep(1)
    for pid in (*helpers, os.getpid()):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _leave(app: App) -> None:
    """The word to go: with the whole gateway, or because a reload brought a successor."""
    gateway: Gateway = app.ctx.gateway
    if not gateway.ready:
        return
    gateway.drain()
    # Sanic takes its handlers away in the end: another signal would end the calls with the process.
    group_signals.block()
    board: ReloadStatus = app.ctx.board
    leave = _stop_with_all(app) if board.stopping else _make_room(app, board)
    app.ctx.leaving = asyncio.get_running_loop().create_task(
        leave
    )  # a task nobody holds may vanish


async def _stop_with_all(app: App) -> None:
    """Goes on listening, so that /readyz can say no and new calls are told to come again."""
    gateway: Gateway = app.ctx.gateway
    gateway.refuse()
    await gateway.finish(gateway.config.drain_seconds)
    app.stop(terminate=False)


async def _make_room(app: App, board: ReloadStatus) -> None:
    """Stops listening at once, for the successor does; then the open calls end by themselves."""
    gateway: Gateway = app.ctx.gateway
    loop = asyncio.get_running_loop()
    for task in app.ctx.background:  # its successors do this now
        task.cancel()
    seconds = reload_seconds(gateway.config)
    app.config.GRACEFUL_SHUTDOWN_TIMEOUT = seconds + _LAST_SECONDS
    app.stop(terminate=False)
    end, hurried = loop.time() + seconds, False
    while loop.time() < end:  # Sanic ends with the last connection
        await asyncio.sleep(_SWEEP_SECONDS)
        for connection in list(Protocol.living):
            connection.close_if_idle()
        if board.stopping and not hurried:  # no longer a reload
            hurried = True
            end = min(end, loop.time() + gateway.config.drain_seconds)
    gateway.end_calls()


async def _before_stop(app: App, *_: Any) -> None:
    app.ctx.gateway.drain()


async def _close(app: App, *_: Any) -> None:
    tasks = [
        *getattr(app.ctx, "background", ()),
        *(getattr(app.ctx, name, None) for name in ("looking", "leaving")),
    ]
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await app.ctx.gateway.close()
