"""The simulated Anthropic API's files, which need their beta header under version 2023-06-01."""

from datetime import UTC, datetime

from sanic import Blueprint, HTTPResponse, Request

from app.simulator.claude_common import (
    FAMILY,
    JSON,
    answer,
    answer_page,
    bad_request,
    check_request,
    common_headers,
    dialect,
    not_found,
    version_of,
)
from app.simulator.claude_messages import token
from app.simulator.claude_rules import VERSIONS
from app.simulator.delivery import send_body
from app.simulator.routing import route
from app.simulator.uploads import FileStore, Malformed, StoredFile, Upload, receive_upload

blueprint = Blueprint(f"{FAMILY}-files", url_prefix="/claude")
store = FileStore()
FILES_BETA = "files-api-2025-04-14"


def without_beta(request: Request) -> HTTPResponse | None:
    """The 404 for a request that lacks the files beta; None when it has it."""
    betas = ",".join(request.headers.getall("anthropic-beta", []))
    if FILES_BETA in betas or version_of(request) != VERSIONS[0]:
        return None
    return not_found("Not found")


def file_object(file: StoredFile) -> JSON:
    """Anthropic's FileMetadata, and the hash for tests to compare."""
    return {
        "type": "file",
        "id": file.id,
        "filename": file.filename,
        "mime_type": "application/pdf" if file.filename.endswith(".pdf") else "text/plain",
        "size_bytes": file.bytes,
        "created_at": datetime.fromtimestamp(file.created, UTC).isoformat(),
        "downloadable": True,
        "sha256": file.sha256,
    }


@route(blueprint, "/v1/files", "POST", stream=True)
async def upload_file(request: Request) -> HTTPResponse | None:
    """Stores an uploaded file."""
    fault, refused = await check_request(request)
    upload, malformed = await receive(request)
    if stopped := refused or without_beta(request) or malformed:
        return stopped
    if upload is None or upload.file is None:
        return bad_request("file: Field required")
    upload.file.id = token("file_")
    store.put(upload.file)
    return await answer(request, fault, file_object(upload.file))


async def receive(request: Request) -> tuple[Upload | None, HTTPResponse | None]:
    """The upload, or the 400 for a body that is no multipart."""
    try:
        return await receive_upload(request), None
    except Malformed as error:
        return None, bad_request(f"Could not parse multipart form: {error}.")


@route(blueprint, "/v1/files", "GET")
async def list_files(request: Request) -> HTTPResponse | None:
    """The stored files, newest first, paged."""
    fault, refused = await check_request(request)
    if stopped := refused or without_beta(request):
        return stopped
    return await answer_page(request, fault, [file_object(file) for file in store.all()])


@route(blueprint, "/v1/files/<identity>", "GET", "DELETE")
async def one_file(request: Request, identity: str) -> HTTPResponse | None:
    """Returns or deletes a file's metadata."""
    fault, refused = await check_request(request)
    if stopped := refused or without_beta(request):
        return stopped
    file = store.get(identity)
    if file is None:
        return not_found(f"File not found: {identity}")
    if request.method == "GET":
        return await answer(request, fault, file_object(file))
    store.remove(identity)
    return await answer(request, fault, {"id": identity, "type": "file_deleted"})


@route(blueprint, "/v1/files/<identity>/content", "GET")
async def file_content(request: Request, identity: str) -> HTTPResponse | None:
    """The bytes of a file."""
    fault, refused = await check_request(request)
    if stopped := refused or without_beta(request):
        return stopped
    file = store.get(identity)
    if file is None:
        return not_found(f"File not found: {identity}")
    content = file.read(0, file.bytes)
    return await send_body(
        request,
        fault,
        content,
        dialect(),
        headers=common_headers(),
        content_type="application/octet-stream",
    )
