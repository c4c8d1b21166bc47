"""/openapi.json, and /docs: a viewer of it that asks nobody else for anything."""

import asyncio
import base64
import gzip
import hashlib
from pathlib import Path

from sanic import HTTPResponse, Request

from app.http import openapi
from app.http.responses import App, headers_for
from app.wire.renderer import JSON

_FOLDER = Path(__file__).parents[1] / "api_viewer"
_PAGE = (_FOLDER / "page.html").read_bytes()
_VIEWER = (_FOLDER / "rapidoc-min.js.gz").read_bytes()
_INLINE = _PAGE.partition(b"<script>")[2].partition(b"</script>")[0]
# RapiDoc sets styles on its elements; scripts are the page's own two.
_POLICY = (
    "default-src 'none'; connect-src 'self'; img-src 'self' data:; style-src 'unsafe-inline'; "
    f"script-src 'self' 'sha256-{base64.b64encode(hashlib.sha256(_INLINE).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def register(app: App) -> None:
    """Adds the routes of this module. No upstream is called, so no key is needed, nor a token."""
    app.ctx.api_document = None
    for handler, path in (
        (document, "/openapi.json"),
        (page, "/docs"),
        (viewer, "/docs/rapidoc.js"),
    ):
        app.add_route(
            handler,
            path,
            methods=["GET", "HEAD"],
            name=f"api_{handler.__name__}",
            ctx_own_credential=True,
        )


async def document(request: Request) -> HTTPResponse:
    """The OpenAPI document, made at the first request to this worker."""
    ctx = request.app.ctx
    if ctx.api_document is None:
        ctx.api_document = await asyncio.to_thread(openapi.document, request.app)
    return HTTPResponse(ctx.api_document, 200, headers_for(request), JSON)


async def page(request: Request) -> HTTPResponse:
    """The viewer's page."""
    headers = headers_for(request)
    headers["content-security-policy"] = _POLICY
    headers["x-content-type-options"] = "nosniff"
    headers["referrer-policy"] = "no-referrer"
    return HTTPResponse(_PAGE, 200, headers, "text/html; charset=utf-8")


async def viewer(request: Request) -> HTTPResponse:
    """RapiDoc, see NOTICE-rapidoc.txt."""
    headers = headers_for(request)
    headers["cache-control"] = "max-age=86400"
    headers["vary"] = "accept-encoding"
    body = _VIEWER
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["content-encoding"] = "gzip"
    else:
        body = await asyncio.to_thread(gzip.decompress, _VIEWER)
    return HTTPResponse(body, 200, headers, "text/javascript; charset=utf-8")
