"""For operators and load balancers: is it alive, is it ready."""

from sanic import HTTPResponse, Request

from app.routes.answers import App, gateway_of, json_answer


def register(app: App) -> None:
    app.add_route(ping, "/ping", methods=["GET", "HEAD"])
    app.add_route(healthz, "/healthz", methods=["GET", "HEAD"])
    app.add_route(readyz, "/readyz", methods=["GET", "HEAD"])


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
