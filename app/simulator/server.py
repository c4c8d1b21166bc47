"""The simulator as a program: its families, its control endpoints, its one process.

    GET  /_sim/ready     {"ready": true, "pid": ...}
    GET  /_sim/stats     counts so far, and what is open now; requests to /_sim are not counted
    GET  /_sim/last      the last requests, newest last; ?n= &key= &path= (a prefix) &model=
    POST /_sim/reset     drops counts, records, faults; open requests stay counted
    POST /_sim/faults    {"fault": "503", "times": 3, "key" | "path" | "family" | "model": ...}:
                         for the next 3 requests that match; times -1 means until reset
    GET  /_sim/faults    the faults set that way which are still to come

A new family is one module with a `blueprint` of its own prefix, named in FAMILIES. A large family
has several modules with blueprints of the same prefix: <family>.py, <family>_files.py; what they
share is in <family>_common.py, and what a model answers in <family>_answer.py.
"""

import asyncio
import logging
import os
import socket
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from sanic import HTTPResponse, Request, Sanic
from sanic.exceptions import SanicException
from sanic.response import json as json_response

from app.simulator import (
    bing,
    chatgpt,
    chatgpt_files,
    chatgpt_sentinel,
    claude,
    claude_batches,
    claude_files,
    claude_web,
    compatible,
    coze,
    discord,
    discord_gateway,
    gemini,
    gemini_files,
    gemini_live,
    openai,
    openai_endpoints,
    openai_files,
    openai_live,
)
from app.simulator.faults import Faults, Rule, parse
from app.simulator.ledger import CountingProtocol, Ledger
from app.simulator.recordings import DEFAULT, Recordings

App = Sanic[Any, Any]

FAMILIES = (
    openai,
    openai_endpoints,
    openai_files,
    openai_live,
    compatible,
    chatgpt,
    chatgpt_files,
    chatgpt_sentinel,
    claude,
    claude_batches,
    claude_files,
    claude_web,
    gemini,
    gemini_files,
    gemini_live,
    bing,
    coze,
    discord,
    discord_gateway,
)
PARENT_CHECK_SECONDS = 0.5


def create_app(recordings: Path = DEFAULT) -> App:
    """The simulator as a Sanic app, with its own ledger, faults and recordings."""
    app: App = Sanic("simulator", dumps=msgspec.json.encode)
    app.config.update(
        {
            "ACCESS_LOG": False,
            "AUTO_EXTEND": False,
            "FALLBACK_ERROR_FORMAT": "json",
            "NOISY_EXCEPTIONS": False,
            "REQUEST_MAX_SIZE": 512 * 1024 * 1024,
            # Silence is a fault here: it occurs only when a fault asks for it.
            "REQUEST_TIMEOUT": 86_400,
            "RESPONSE_TIMEOUT": 86_400,
            "KEEP_ALIVE_TIMEOUT": 86_400,
            "GRACEFUL_SHUTDOWN_TIMEOUT": 0.2,
            "GRACEFUL_TCP_CLOSE_TIMEOUT": 0.2,
        }
    )
    app.ctx.ledger = Ledger()
    app.ctx.faults = Faults()
    app.ctx.recordings = Recordings(recordings)
    for family in FAMILIES:
        app.blueprint(family.blueprint)
    app.on_request(_note_request)
    app.on_response(_note_status)  # type: ignore[no-untyped-call]
    app.exception(Exception)(_error_answer)
    app.add_route(_ready, "/_sim/ready")
    app.add_route(_stats, "/_sim/stats")
    app.add_route(_last, "/_sim/last")
    app.add_route(_reset, "/_sim/reset", methods=["POST"])
    app.add_route(_set_fault, "/_sim/faults", methods=["POST"])
    app.add_route(_faults, "/_sim/faults", methods=["GET"], name="list_faults")
    app.add_route(_elsewhere, "/elsewhere", methods=["GET", "POST", "HEAD"])
    return app


def serve(host: str, port: int, recordings: Path = DEFAULT, with_parent: bool = False) -> None:
    """Serves until a signal; with `with_parent` also until the starting process is gone."""
    listener = socket.create_server((host, port), backlog=4096)
    port = listener.getsockname()[1]
    app = create_app(recordings)
    parent = os.getppid()

    async def started(app: App) -> None:
        # Printed a moment later: a signal before Sanic's loop runs would be lost.
        message = f"simulator listening on http://{host}:{port}"
        asyncio.get_running_loop().call_later(0.02, partial(print, message, flush=True))
        if with_parent:
            app.add_task(_stop_with(parent, app), name="stop-with-parent")

    app.after_server_start(started)
    app.prepare(
        sock=listener,
        protocol=CountingProtocol,
        backlog=4096,
        single_process=True,
        access_log=False,
        motd=False,
    )
    for name in ("sanic.root", "sanic.error", "sanic.access", "sanic.server", "sanic.websockets"):
        logging.getLogger(name).setLevel(logging.ERROR)
    Sanic.serve_single(primary=app)


async def _stop_with(parent: int, app: App) -> None:
    while os.getppid() == parent:  # noqa: ASYNC110
        await asyncio.sleep(PARENT_CHECK_SECONDS)
    app.stop()


async def _note_request(request: Request) -> None:
    if hasattr(request.ctx, "record"):
        request.ctx.record.note_route_and_body(request)


async def _note_status(request: Request, response: HTTPResponse) -> None:
    if hasattr(request.ctx, "record"):
        request.ctx.record.status = response.status


async def _error_answer(request: Request, error: Exception) -> HTTPResponse:
    status = error.status_code if isinstance(error, SanicException) else 500
    said = f"Invalid URL ({request.method} {request.path})" if status == 404 else repr(error)
    kind = "invalid_request_error" if status < 500 else "simulator_error"
    if status >= 500:
        logging.getLogger("sanic.error").error("simulator failed", exc_info=error)
    error_object = {"message": said, "type": kind, "param": None, "code": None}
    return json_response({"error": error_object}, status)


async def _ready(request: Request) -> HTTPResponse:
    return json_response({"ready": True, "pid": os.getpid()})


async def _stats(request: Request) -> HTTPResponse:
    return json_response(request.app.ctx.ledger.stats())


async def _last(request: Request) -> HTTPResponse:
    key, path = request.args.get("key"), request.args.get("path", "/")
    model = request.args.get("model")
    found = [
        record
        for record in request.app.ctx.ledger.last
        if key in (None, record.key)
        and model in (None, record.model)
        and record.path.startswith(path)
    ]
    return json_response([record.view() for record in found[-int(request.args.get("n", 20)) :]])


async def _reset(request: Request) -> HTTPResponse:
    request.app.ctx.ledger.reset()
    request.app.ctx.faults.reset()
    return json_response({"reset": True})


async def _set_fault(request: Request) -> HTTPResponse:
    try:
        rule = msgspec.json.decode(request.body, type=Rule)
    except msgspec.DecodeError as error:
        return json_response({"error": str(error)}, 400)
    if unknown := parse(rule.fault.removeprefix("sim-")).unknown:
        return json_response({"error": f"no fault is named {unknown!r}"}, 400)
    request.app.ctx.faults.rules.append(rule)
    return json_response(msgspec.to_builtins(request.app.ctx.faults.rules))


async def _faults(request: Request) -> HTTPResponse:
    return json_response(msgspec.to_builtins(request.app.ctx.faults.rules))


async def _elsewhere(request: Request) -> HTTPResponse:
    """The target of the redirect fault. A gateway that requests it has followed a redirect."""
    return json_response({"elsewhere": True})
