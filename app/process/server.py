"""Starts, serves and stops: the Sanic application, its listeners, and what a worker does at each.

The main process runs `serve` and then Sanic's process manager, see supervisor.py. Each worker runs
`create_app` again and the listeners below, but for the two of the main process.
"""

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
from multiprocessing import active_children
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
    api_document,
    bing,
    chat,
    chatgpt_pictures,
    console,
    gemini,
    landing,
    messages,
    models,
    openai_platform,
    responses,
    reverse_proxy,
    tokens,
    usage,
    websockets,
)
from app.offload import group_signals, main_process
from app.pool import cooldown_store
from app.process import discord_bridge, fork_server
from app.process.har_folder import HarFolder
from app.process.supervisor import Supervisor, end_children, reload_seconds
from app.state.reload_status import ReloadStatus
from app.state.shared_table import SharedState
from app.state.worker_slots import WorkerRows
from app.telemetry import log_setup
from providers.directory import Directory

NAME = "any-proxy"
_SWEEP_SECONDS = 0.1
_LAST_SECONDS = 2.0
_ALONE_SECONDS = 2.0  # by then the main process has signalled, if the signal was for the group
_ROUTES = (
    landing,
    api_document,
    chat,
    gemini,
    messages,
    responses,
    models,
    bing,
    openai_platform,
    chatgpt_pictures,
    websockets,
    reverse_proxy,
    admin,
    console,
    tokens,
    usage,
)

logger = logging.getLogger("any_proxy.server")


def create_app(config: Config, reread: Callable[[], Loaded] | None = None) -> App:
    """Builds the application: its routes and listeners, in the main process and each worker.

    `reread` loads the config again, for the console to show what a reload would find.
    """
    log_setup.configure(config.log_level, config.log_format, secrets(config))
    app: App = dispatch.Application(NAME, configure_logging=False)
    limits, timeouts = config.limits, config.timeouts
    app.config.update(
        AUTO_EXTEND=False,
        ACCESS_LOG=False,
        MOTD=False,
        NOISY_EXCEPTIONS=False,
        # For an answer whose caller has left. By default Sanic parses the body to choose its form.
        FALLBACK_ERROR_FORMAT="json",
        REQUEST_MAX_SIZE=limits.request_bytes,
        REQUEST_MAX_HEADER_SIZE=16384,
        REQUEST_TIMEOUT=timeouts.request,
        # Sanic's is the time between two writes; each call has its own deadline.
        RESPONSE_TIMEOUT=max(timeouts.total, timeouts.idle, timeouts.forward_idle) + 30,
        KEEP_ALIVE_TIMEOUT=75,
        # Only for what is left when the drain is over, see _begin_leaving.
        GRACEFUL_SHUTDOWN_TIMEOUT=_LAST_SECONDS,
    )
    app.ctx.settings = config
    app.ctx.reread = reread
    app.ctx.directory = Directory(config)
    for routes in _ROUTES:
        routes.register(app)
    app.error_handler.add(Exception, _on_error)
    app.register_listener(_create_shared_memory, "main_process_start")
    app.register_listener(_start_discord_bridge, "main_process_ready")
    app.register_listener(create_gateway, "before_server_start")
    app.register_listener(_freeze_gc, "after_server_start")
    app.register_listener(_start_background_tasks, "after_server_start")
    app.register_listener(_install_signal_handlers, "after_server_start")
    app.register_listener(_stop_admitting, "before_server_stop")
    app.register_listener(_close_gateway, "after_server_stop")
    return app


def serve(config: Config, reread: Callable[[], Loaded]) -> int:
    """Runs until SIGTERM or SIGINT and returns the exit status. `reread` loads the config again."""
    # Until Sanic's manager takes over, a signal must still end what was started so far.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    fork_server.start()
    # It is set already, which Sanic would take for a mistake.
    Sanic.start_method, Sanic.START_METHOD_SET = "forkserver", True
    host, port = listen_address(config)
    loader = loader_for(config, reread)
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
    Supervisor.reload_status, Supervisor.config = ReloadStatus(), config
    Supervisor.reread, Supervisor.loader_for = (
        staticmethod(reread),
        staticmethod(partial(loader_for, reread=reread)),
    )
    startup.WorkerManager = Supervisor  # type: ignore[attr-defined]
    group_signals.block()
    try:
        Sanic.serve(primary=app, app_loader=loader)
    except BaseException:
        # Python would wait for the children, and they for a word of the manager.
        end_children()
        raise
    return 0


def loader_for(config: Config, reread: Callable[[], Loaded]) -> AppLoader:
    """Sanic's way to build the application again in each worker."""
    return AppLoader(factory=partial(create_app, config, reread))


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


async def _create_shared_memory(app: App, *_: Any) -> None:
    """In the main process: what all workers share, handed to them when they start."""
    config: Config = app.ctx.settings
    workers = config.workers or os.cpu_count() or 1
    state = SharedState(workers=workers)
    cooldown_store.load(state, Path(config.state_path), time.time())
    app.shared_ctx.state = state.handles
    app.shared_ctx.rows = WorkerRows(workers=workers).handles
    # Sanic's own helper processes would outlive a killed main process; workers end them then.
    family = [os.getpid(), *(child.pid or 0 for child in active_children())]
    app.shared_ctx.family = RawArray("q", family)
    app.shared_ctx.reload_status = Supervisor.reload_status.handles


async def _start_discord_bridge(app: App, *_: Any) -> None:
    """Starts the process with the Discord session of all workers; restarted when it dies."""
    config: Config = app.ctx.settings
    if config.coze.discord.enable:
        # Not named "config": Sanic writes its own into an argument of that name at a restart.
        arguments = {"settings": config}
        app.manager.manage(discord_bridge.NAME, discord_bridge.run, arguments, restartable=True)


async def create_gateway(app: App, *_: Any) -> None:
    """In a worker: attaches to the shared memory and builds the gateway on it."""
    # In a single process (tests) there is no main process that could have made the rows.
    handles = getattr(app.shared_ctx, "state", None)
    reloads = getattr(app.shared_ctx, "reload_status", None)
    app.ctx.reload_status = ReloadStatus(reloads) if reloads else None
    rows = WorkerRows(getattr(app.shared_ctx, "rows", None))
    state = SharedState(handles)
    if handles is None:
        cooldown_store.load(state, Path(app.ctx.settings.state_path), time.time())
    app.ctx.gateway = Gateway(app.ctx.settings, state, rows)
    await app.ctx.gateway.tokens.refresh()  # before the first caller comes


async def _freeze_gc(*_: Any) -> None:
    """What exists by now stays for good: the collector skips it, and runs less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


async def _start_background_tasks(app: App, *_: Any) -> None:
    """Starts the leader tasks, the watch over the folder of HAR files, and over access tokens."""
    loop = asyncio.get_running_loop()
    gateway: Gateway = app.ctx.gateway
    keeper = gateway.leader_tasks
    har_folder = HarFolder(gateway.sessions, app.ctx.settings.hars_path, lambda: keeper.leads)
    # No tasks of Sanic's, which logs a warning for each that is cancelled.
    app.ctx.background = [
        loop.create_task(keeper.run(), name="keep"),
        loop.create_task(har_folder.run(), name="har folder"),
        loop.create_task(gateway.tokens.run(), name="access tokens"),
    ]


async def _install_signal_handlers(app: App, *_: Any) -> None:
    """In place of Sanic's: the main process alone decides when a worker leaves.

    A SIGTERM from elsewhere counts too, if the main process says nothing within two seconds. One
    that comes before the worker serves is lost: Sanic ignores the signal for a moment, which drops
    a pending one. Also starts the watch over the main process.
    """
    if not hasattr(app, "multiplexer"):
        return  # a single process (tests): Sanic's handlers do
    loop = asyncio.get_running_loop()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it is for the main process
    loop.add_signal_handler(group_signals.LEAVE, _begin_leaving, app)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, loop.call_later, _ALONE_SECONDS, _begin_leaving, app)
    group_signals.unblock()
    app.ctx.parent_watch = loop.create_task(
        _watch_main_process(app, *app.shared_ctx.family), name="watch main process"
    )


async def _watch_main_process(app: App, _main_pid: int, *helpers: int) -> None:
    """Once a second: leaves when the gateway stops, and ends everything without a main process."""
    gateway: Gateway = app.ctx.gateway
    reload_status: ReloadStatus = app.ctx.reload_status
    while main_process.is_alive():
        await asyncio.sleep(1)
        if reload_status.stopping:  # the signal may have come before its handler was there
            _begin_leaving(app)
    # Nobody else would stop an orphan, nor Sanic's helper processes.
    logger.error("the main process is gone: this worker leaves too")
    gateway.end_calls()
    gateway.log.flush()
    await asyncio.sleep(1)
    for pid in (*helpers, os.getpid()):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _begin_leaving(app: App) -> None:
    """Begins this worker's shutdown: with the whole gateway, or because a reload replaced it."""
    gateway: Gateway = app.ctx.gateway
    if not gateway.ready:
        return
    gateway.drain()
    # Sanic removes its handlers at the end: another signal would then kill the open calls.
    group_signals.block()
    reload_status: ReloadStatus = app.ctx.reload_status
    leave = (
        _stop_with_gateway(app)
        if reload_status.stopping
        else _stop_after_reload(app, reload_status)
    )
    # Held, for the loop keeps weak references to tasks only.
    app.ctx.leaving = asyncio.get_running_loop().create_task(leave)


async def _stop_with_gateway(app: App) -> None:
    """Drains while still listening: /readyz answers 503, and new calls are told to come again."""
    gateway: Gateway = app.ctx.gateway
    gateway.refuse()
    await gateway.finish(gateway.config.drain_seconds)
    app.stop(terminate=False)


async def _stop_after_reload(app: App, reload_status: ReloadStatus) -> None:
    """Stops listening at once, for the successor listens; lets the open calls end by themselves."""
    gateway: Gateway = app.ctx.gateway
    loop = asyncio.get_running_loop()
    for task in app.ctx.background:  # the successor's do this now
        task.cancel()
    seconds = reload_seconds(gateway.config)
    app.config.GRACEFUL_SHUTDOWN_TIMEOUT = seconds + _LAST_SECONDS
    app.stop(terminate=False)
    end, hurried = loop.time() + seconds, False
    while loop.time() < end:  # Sanic ends with the last connection
        await asyncio.sleep(_SWEEP_SECONDS)
        for connection in list(Protocol.open_connections):
            connection.close_if_idle()
        if reload_status.stopping and not hurried:  # no longer a reload
            hurried = True
            end = min(end, loop.time() + gateway.config.drain_seconds)
    gateway.end_calls()


async def _stop_admitting(app: App, *_: Any) -> None:
    app.ctx.gateway.drain()


async def _close_gateway(app: App, *_: Any) -> None:
    tasks = [
        *getattr(app.ctx, "background", ()),
        *(getattr(app.ctx, name, None) for name in ("parent_watch", "leaving")),
    ]
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await app.ctx.gateway.close()
