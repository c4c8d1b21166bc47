"""Sanic's life: the one file that knows how the server starts, serves and stops."""

import asyncio
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from functools import partial
from multiprocessing import active_children
from multiprocessing.sharedctypes import RawArray
from typing import Any

from sanic import HTTPResponse, Request, Sanic
from sanic.exceptions import MethodNotAllowed, NotFound
from sanic.mixins import startup
from sanic.server.protocols.http_protocol import HttpProtocol
from sanic.worker.loader import AppLoader

from app import discord_bridge, logs
from app.config import listen_address, secrets
from app.gateway import Gateway
from app.har_watch import HarWatch
from app.manager import Manager
from app.routes import admin, bing, chat, forward, models, sessions
from app.routes.answers import (
    App,
    as_gateway_error,
    error_answer,
    gateway_of,
    headers_for,
    record_for,
)
from app.shared_state import SharedState
from app.wire.settings import Config

NAME = "any-proxy"
logger = logging.getLogger("any_proxy.server")


class Protocol(HttpProtocol):
    """Sanic's protocol, with small writes sent at once on every event loop."""

    def connection_made(self, transport: Any) -> None:
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().connection_made(transport)  # type: ignore[no-untyped-call]


def create_app(config: Config) -> App:
    """The application, in the main process and again in every worker."""
    logs.configure(config.log_level, config.log_format, secrets(config))
    app: App = Sanic(NAME, configure_logging=False)
    limits, timeouts = config.limits, config.timeouts
    app.config.update(
        AUTO_EXTEND=False,
        ACCESS_LOG=False,
        MOTD=False,
        NOISY_EXCEPTIONS=False,
        REQUEST_MAX_SIZE=limits.request_bytes,
        REQUEST_TIMEOUT=60,
        # Sanic's is the time between two writes; the exchange keeps the finer clocks.
        RESPONSE_TIMEOUT=max(timeouts.total, timeouts.idle, timeouts.forward_idle) + 30,
        KEEP_ALIVE_TIMEOUT=75,
        GRACEFUL_SHUTDOWN_TIMEOUT=30,
    )
    app.ctx.settings = config
    for room in (chat, models, bing, sessions, forward, admin):
        room.register(app)
    app.error_handler.add(Exception, _on_error)
    app.register_listener(_share, "main_process_start")
    app.register_listener(_start_bridge, "main_process_ready")
    app.register_listener(_open, "before_server_start")
    app.register_listener(_look_around, "after_server_start")
    app.register_listener(_watch_sessions, "after_server_start")
    app.register_listener(_drain, "before_server_stop")
    app.register_listener(_close, "after_server_stop")
    return app


def serve(config: Config) -> int:
    """Runs until SIGTERM or SIGINT; the exit status."""
    # Until Sanic's manager takes over, a signal must still end what was started so far.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    host, port = listen_address(config)
    loader = AppLoader(factory=partial(create_app, config))
    app = loader.load()
    app.prepare(
        host=host,
        port=port,
        workers=config.workers or os.cpu_count() or 1,
        ssl=_tls(config),
        motd=False,
        access_log=False,
        protocol=Protocol,
    )
    Manager.drain_seconds = app.config.GRACEFUL_SHUTDOWN_TIMEOUT
    startup.WorkerManager = Manager  # type: ignore[attr-defined]
    Sanic.serve(primary=app, app_loader=loader)
    return 0


def _tls(config: Config) -> dict[str, str] | None:
    info = config.https_info
    return {"cert": info.pem_file, "key": info.key_file} if info.enable else None


def _on_error(request: Request, error: Exception) -> HTTPResponse:
    if request.method == "OPTIONS" and isinstance(error, MethodNotAllowed | NotFound):
        return _preflight(request)
    told = as_gateway_error(request, error)
    if told.code == "gateway_error":
        logger.error("request %s failed", _id(request), exc_info=error)
    if not getattr(request.ctx, "carried", False):
        record = getattr(request.ctx, "record", None) or record_for(request, "-")
        record.status, record.code, record.outcome = told.status, told.code or "", "refused"
        gateway_of(request).log.write(record)
    return error_answer(request, told)


def _id(request: Request) -> str:
    return getattr(request.ctx, "request_id", "-")


def _preflight(request: Request) -> HTTPResponse:
    """A browser asks what it may send: anything, from anywhere, without cookies."""
    wanted = request.headers.get("access-control-request-headers", "*")
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
    app.shared_ctx.state = SharedState().handles
    # Sanic's own helper processes would outlive a killed main process; workers end them then.
    family = [os.getpid(), *(child.pid or 0 for child in active_children())]
    app.shared_ctx.family = RawArray("q", family)
    app.shared_ctx.stopping = Manager.stopping


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
    app.ctx.gateway = Gateway(app.ctx.settings, SharedState(handles))


async def _watch_sessions(app: App, *_: Any) -> None:
    speaks = os.environ.get("SANIC_WORKER_NAME", "Sanic-Server-0-0").endswith("-0-0")
    watch = HarWatch(app.ctx.gateway.sessions, app.ctx.settings.hars_path, speaks)
    app.add_task(watch.run(), name="watch_sessions")


async def _look_around(app: App, *_: Any) -> None:
    if hasattr(app, "multiplexer"):  # not in a single process
        looking = asyncio.get_running_loop().create_task(_look(app, *app.shared_ctx.family))
        app.ctx.looking = looking  # a task nobody holds may vanish


async def _look(app: App, main_pid: int, *helpers: int) -> None:
    """Once a second: is this worker still wanted, and is there still a main process?"""
    gateway: Gateway = app.ctx.gateway
    stopping = app.shared_ctx.stopping
    while os.getppid() == main_pid:
        await asyncio.sleep(1)
        if stopping[0] and gateway.ready:  # the signal came before the loop could take it
            os.kill(os.getpid(), signal.SIGTERM)
    # Nobody would ever stop an orphan, nor the helpers of the main process.
    logger.error("the main process is gone: this worker leaves too")
    gateway.end_calls()
    gateway.log.flush()
    await asyncio.sleep(1)
    for pid in (*helpers, os.getpid()):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


async def _drain(app: App, *_: Any) -> None:
    gateway: Gateway = app.ctx.gateway
    gateway.drain()
    grace = app.config.GRACEFUL_SHUTDOWN_TIMEOUT
    asyncio.get_running_loop().call_later(max(grace - 2, 0), gateway.end_calls)


async def _close(app: App, *_: Any) -> None:
    await app.ctx.gateway.close()
