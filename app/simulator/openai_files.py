"""The simulated OpenAI API's uploads: files and audio transcription."""

from sanic import Blueprint, HTTPResponse, Request

from app.simulator.delivery import send_body, with_headers
from app.simulator.faults import Fault
from app.simulator.ledger import record_of
from app.simulator.openai_chat import Problem
from app.simulator.openai_common import (
    FAMILY,
    answer,
    bad_request,
    check_request,
    common_headers,
    dialect,
    not_found,
)
from app.simulator.routing import READS, route
from app.simulator.uploads import (
    FileStore,
    Malformed,
    StoredFile,
    Upload,
    byte_range,
    receive_upload,
)

blueprint = Blueprint(f"{FAMILY}-files", url_prefix="/openai")
store = FileStore()


@blueprint.post("/v1/files", stream=True)
async def upload_file(request: Request) -> HTTPResponse | None:
    """Stores an uploaded file."""
    fault, refused = await check_request(request)
    upload, malformed = await receive(request)
    if refused or upload is None:
        return refused or malformed
    if upload.file is None or not upload.file.purpose:
        missing = "purpose" if upload.file else "file"
        return bad_request(Problem(f"Missing required parameter: '{missing}'.", missing, None))
    store.put(upload.file)
    return await answer(request, fault, upload.file.view())


@route(blueprint, "/v1/audio/translations", "POST", stream=True, name="translate")
@route(blueprint, "/v1/audio/transcriptions", "POST", stream=True)
async def transcribe(request: Request) -> HTTPResponse | None:
    """POST /v1/audio/transcriptions: the text says size and hash of the upload."""
    fault, refused = await check_request(request)
    upload, malformed = await receive(request)
    if refused or upload is None:
        return refused or malformed
    if upload.file is None:
        return bad_request(Problem("Missing required parameter: 'file'.", "file", None))
    heard = f"You sent {upload.file.bytes} bytes with sha256 {upload.file.sha256}."
    upload.file.close()
    if upload.fields.get("response_format") == "text":
        headers, kind = common_headers(), "text/plain; charset=utf-8"
        body = f"{heard}\n".encode()
        return await send_body(
            request, fault, body, dialect(request), headers=headers, content_type=kind
        )
    return await answer(request, fault, {"text": heard})


async def receive(request: Request) -> tuple[Upload | None, HTTPResponse | None]:
    """The upload, or the 400 for a body that is no multipart."""
    try:
        return await receive_upload(request), None
    except Malformed as error:
        return None, bad_request(Problem(f"Could not parse multipart form: {error}.", None, None))


@route(blueprint, "/v1/files", *READS)
async def list_files(request: Request) -> HTTPResponse | None:
    """The stored files, newest first."""
    fault, refused = await check_request(request)
    listed = {"object": "list", "data": [file.view() for file in store.all()], "has_more": False}
    return refused or await answer(request, fault, listed)


@route(blueprint, "/v1/files/<identity>", *READS)
async def one_file(request: Request, identity: str) -> HTTPResponse | None:
    """One file's metadata."""
    fault, refused = await check_request(request)
    file = store.get(identity)
    if refused or file is None:
        return refused or not_found(f"No such File object: {identity}")
    return await answer(request, fault, file.view())


@blueprint.delete("/v1/files/<identity>")
async def delete_file(request: Request, identity: str) -> HTTPResponse | None:
    """Deletes a file."""
    fault, refused = await check_request(request)
    if refused or not store.remove(identity):
        return refused or not_found(f"No such File object: {identity}")
    return await answer(request, fault, {"id": identity, "object": "file", "deleted": True})


@route(blueprint, "/v1/files/<identity>/content", *READS)
async def file_content(request: Request, identity: str) -> HTTPResponse | None:
    """The bytes of a file: etag, 304, single ranges."""
    fault, refused = await check_request(request)
    file = store.get(identity)
    if refused or file is None:
        return refused or not_found(f"No such File object: {identity}")
    headers = [*common_headers(), ("etag", file.etag), ("accept-ranges", "bytes")]
    if request.headers.get("if-none-match") == file.etag:
        return with_headers(HTTPResponse(None, 304), headers)
    headers.append(("content-disposition", f'attachment; filename="{file.filename}"'))
    return await send_part(request, fault, file, headers)


async def send_part(
    request: Request, fault: Fault, file: StoredFile, headers: list[tuple[str, str]]
) -> HTTPResponse | None:
    """Sends the whole file, or the range that was asked for."""
    status, start, end = 200, 0, file.bytes
    try:
        wanted = byte_range(request.headers.get("range", ""), file.bytes)
    except ValueError:
        headers.append(("content-range", f"bytes */{file.bytes}"))
        return with_headers(HTTPResponse(b"", 416), headers)
    if wanted:
        status, (start, end) = 206, wanted
        headers.append(("content-range", f"bytes {start}-{end - 1}/{file.bytes}"))
    if end - start <= 64 * 1024 or request.method == "HEAD" or fault.breaks_body:
        headers.append(("content-type", "application/octet-stream"))
        response = HTTPResponse(file.read(start, end), status)
        if fault.breaks_body:
            body, kind = file.read(start, end), "application/octet-stream"
            return await send_body(
                request, fault, body, dialect(request), headers=headers[:-1], content_type=kind
            )
        return with_headers(response, headers)
    headers += [("content-type", "application/octet-stream"), ("content-length", str(end - start))]
    response = await request.respond(with_headers(HTTPResponse(None, status), headers))
    for at in range(start, end, 64 * 1024):
        piece = file.read(at, min(at + 64 * 1024, end))
        record_of(request).sent_bytes += len(piece)
        await response.send(piece, False)
    await response.eof()
    return None
