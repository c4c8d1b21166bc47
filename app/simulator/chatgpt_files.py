"""ChatGPT's files: uploads by their storage address, downloads, and the pictures of answers."""

import base64
import secrets

from sanic import Blueprint, HTTPResponse, Request

from app.simulator.chatgpt_common import answer, check_request, detail, token_of

blueprint = Blueprint("chatgpt-files", url_prefix="/chatgpt")
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
files: dict[str, tuple[str, bytes]] = {}  # id -> account, content


@blueprint.post("/backend-api/files")
async def new_file(request: Request) -> HTTPResponse | None:
    """Registers an upload and returns its storage address."""
    _, refused = await check_request(request)
    if refused:
        return refused
    id = "file-" + secrets.token_hex(12)
    files[id] = (token_of(request), b"")
    place = f"http://{request.headers.get('host')}/chatgpt/storage/{id}?se=1&sig=x"
    return answer({"status": "success", "file_id": id, "upload_url": place})


@blueprint.put("/storage/<id>")
async def store(request: Request, id: str) -> HTTPResponse:
    """Takes the bytes at the storage address, where no token may be sent."""
    if id not in files or "authorization" in request.headers or not request.body:
        return HTTPResponse(b"", 403)
    if request.headers.get("x-ms-blob-type") != "BlockBlob":
        return HTTPResponse(b"", 400)
    files[id] = (files[id][0], request.body)
    return HTTPResponse(b"", 201)


@blueprint.post("/backend-api/files/<id>/uploaded")
async def uploaded(request: Request, id: str) -> HTTPResponse | None:
    """Confirms an upload; `error` when no bytes have come."""
    _, refused = await check_request(request)
    return refused or answer({"status": "success" if files.get(id, ("", b""))[1] else "error"})


async def download(request: Request, id: str, conversation: str = "") -> HTTPResponse | None:
    """The download address of a file, for the account that owns it."""
    _, refused = await check_request(request)
    if refused:
        return refused
    held = files.get(id)
    if held is None or held[0] != token_of(request):
        return detail(404, "File not found")
    base = f"http://{request.headers.get('host')}/chatgpt/backend-api/estuary/content"
    return answer({"status": "success", "download_url": f"{base}?id={id}&sig=y&v=0"})


@blueprint.get("/backend-api/estuary/content")
async def content(request: Request) -> HTTPResponse | None:
    """The bytes of a file."""
    _, refused = await check_request(request)
    held = files.get(request.args.get("id", ""))
    if refused or held is None or held[0] != token_of(request):
        return refused or detail(404, "File not found")
    return HTTPResponse(held[1], 200, content_type="image/png")


blueprint.add_route(download, "/backend-api/files/<id>/download", name="download")
blueprint.add_route(
    download, "/backend-api/conversation/<conversation>/attachment/<id>/download", name="attachment"
)
