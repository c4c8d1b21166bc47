"""For operators and load balancers: is it alive, is it ready, what does it do, reload."""

from typing import Any

import msgspec
from sanic import HTTPResponse, Request

from app.reload import Board
from app.render import JSON
from app.routes.answers import App, gateway_of, json_answer, request_id
from app.routes.operator import check_operator
from app.wire.errors import GatewayError


def register(app: App) -> None:
    app.add_route(ping, "/ping", methods=["GET", "HEAD"])
    app.add_route(healthz, "/healthz", methods=["GET", "HEAD"])
    app.add_route(readyz, "/readyz", methods=["GET", "HEAD"])
    app.add_route(reload, "/admin/reload", methods=["POST"])


async def ping(request: Request) -> HTTPResponse:
    return json_answer(request, {"ping": "ok"})


async def healthz(request: Request) -> HTTPResponse:
    """Alive: this worker's event loop answers."""
    return json_answer(request, {"status": "ok"})


async def readyz(request: Request) -> HTTPResponse:
    """Ready for new calls: 503 from the moment a shutdown begins."""
    if gateway_of(request).ready:
        return json_answer(request, {"status": "ready"})
    return json_answer(request, {"status": "draining"}, 503)


async def reload(request: Request) -> HTTPResponse:
    """Reads the config anew, in all workers or, when it has mistakes, in none."""
    check_operator(request)
    board: Board | None = request.app.ctx.board
    if board is None:
        raise GatewayError(
            501, "A gateway in a single process does not reload.", code="not_reloadable"
        )
    outcome = await board.ask(request.app.shared_ctx.family[0])
    if outcome is None:
        raise GatewayError(
            504,
            "The reload has not ended within a minute; the log has more.",
            code="reload_unfinished",
        )
    status = 200 if outcome.ok else 400 if outcome.problems else 503
    body: dict[str, Any] = msgspec.to_builtins(outcome)
    if not outcome.ok:
        code = "config_has_mistakes" if outcome.problems else "reload_failed"
        lines = "\n".join([outcome.message, *outcome.problems])
        kind = "invalid_request_error" if status == 400 else "server_error"
        body["error"] = {"message": lines, "type": kind, "param": None, "code": code}
    return operator_answer(request, body, status)


def operator_answer(request: Request, body: Any, status: int = 200) -> HTTPResponse:
    """JSON that no other website's script may read, and no cache keep."""
    headers = {"x-request-id": request_id(request), "cache-control": "no-store"}
    return HTTPResponse(msgspec.json.encode(body), status, headers, JSON)
