"""The simulated Gemini API's files, by resumable upload; only their size and hash are kept."""

import base64
import hashlib
import secrets
import time
from collections import OrderedDict

import msgspec
from sanic import Blueprint, HTTPResponse, Request

from app.simulator import delivery
from app.simulator.delivery import with_headers
from app.simulator.gemini_answer import pretty
from app.simulator.gemini_common import (
    FAMILY,
    TYPE,
    answer,
    bad_request,
    check_request,
    common_headers,
    dialect,
    error_object,
    refused,
)
from app.simulator.gemini_request import JSON, Problem, camel
from app.simulator.request_body import streamed_body
from app.simulator.routing import route

blueprint = Blueprint(f"{FAMILY}-files", url_prefix="/gemini")
MAX_FILES = 64
CHUNK_BYTES = 8 * 1024 * 1024


class Upload:
    """An uploaded file, complete or not: its metadata, size and hash."""

    def __init__(self, version: str, said: JSON, mime_type: str, size: int | None) -> None:
        name = str(said.get("name") or "files/" + secrets.token_hex(6))
        self.name = name if name.startswith("files/") else f"files/{name}"
        self.display_name = str(said.get("displayName") or "")
        self.mime_type = mime_type or str(said.get("mimeType") or "application/octet-stream")
        self.version = version
        self.promised = size
        self.size = 0
        self.hash = hashlib.sha256()
        self.created = time.time()

    def view(self, origin: str) -> JSON:
        """Gemini's File object."""

        def stamp(at: float) -> str:
            return time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(at))

        # The hash is the base64 of its hex digits, as Google has it.
        digest = base64.b64encode(self.hash.hexdigest().encode()).decode()
        return {
            "name": self.name,
            **({"displayName": self.display_name} if self.display_name else {}),
            "mimeType": self.mime_type,
            "sizeBytes": str(self.size),
            "createTime": stamp(self.created),
            "updateTime": stamp(self.created),
            "expirationTime": stamp(self.created + 48 * 3600),
            "sha256Hash": digest,
            "uri": f"{origin}/{self.version}/{self.name}",
            "state": "ACTIVE",
            "source": "UPLOADED",
        }


pending: OrderedDict[str, Upload] = OrderedDict()  # by upload id
files: OrderedDict[str, Upload] = OrderedDict()  # by name


def keep(uploads: OrderedDict[str, Upload], name: str, upload: Upload) -> None:
    """Adds an upload; the oldest are dropped."""
    uploads[name] = upload
    while len(uploads) > MAX_FILES:
        uploads.popitem(last=False)


def origin(request: Request) -> str:
    """The address of this simulated API."""
    return f"http://{request.headers.get('host', '127.0.0.1')}/gemini"


@route(blueprint, "/upload/<version>/files", "POST", "PUT", stream=True)
async def upload_file(request: Request, version: str) -> HTTPResponse | None:
    """The resumable protocol: start returns an address, which takes the bytes in pieces."""
    identity = request.args.get("upload_id")
    if identity is None:
        return await begin_upload(request, version)
    # The address itself is the permission: no key comes with the bytes.
    fault = request.app.ctx.faults.pick(request)
    body = [piece async for piece in streamed_body(request)]
    if answered := await delivery.before_answer(request, fault, dialect(request)):
        return answered
    upload = pending.get(identity)
    if upload is None:
        return refused(request, error_object(404, "Upload has already been terminated."))
    command = request.headers.get("x-goog-upload-command", "").replace(" ", "")
    size = sum(map(len, body))
    if command == "query":
        return upload_reply({}, "active", [("x-goog-upload-size-received", str(upload.size))])
    offset = request.headers.get("x-goog-upload-offset", "0")
    if command not in ("upload", "upload,finalize", "finalize") or offset != str(upload.size):
        said = f"Bad upload command {command!r} at offset {offset}; {upload.size} bytes are here."
        return refused(request, error_object(400, said))
    for piece in body:
        upload.hash.update(piece)
    upload.size += size
    if "finalize" not in command:
        return upload_reply({}, "active", [("x-goog-upload-size-received", str(upload.size))])
    del pending[identity]
    if upload.promised not in (None, upload.size):
        said = f"{upload.promised} bytes were promised, {upload.size} came."
        return refused(request, error_object(400, said))
    keep(files, upload.name, upload)
    return upload_reply({"file": upload.view(origin(request))}, "final", [])


async def begin_upload(request: Request, version: str) -> HTTPResponse | None:
    """The start command: registers the upload and returns its address."""
    _, answered = await check_request(request, version=version)
    raw = b"".join([piece async for piece in streamed_body(request)])
    if answered:
        return answered
    headers = request.headers
    if headers.get("x-goog-upload-command") != "start" or (
        headers.get("x-goog-upload-protocol") != "resumable"
    ):
        return bad_request(request, Problem("Only the resumable upload protocol is simulated."))
    try:
        given = camel(msgspec.json.decode(raw)) if raw.strip() else {}
    except msgspec.DecodeError as error:
        return bad_request(request, Problem(f"Invalid JSON payload received. {error}"))
    size = headers.get("x-goog-upload-header-content-length", "")
    upload = Upload(
        version,
        given.get("file") or {},
        headers.get("x-goog-upload-header-content-type", ""),
        int(size) if size.isdecimal() else None,
    )
    identity = secrets.token_urlsafe(24)
    keep(pending, identity, upload)
    query = f"upload_id={identity}&upload_protocol=resumable"
    where = f"{origin(request)}/upload/{version}/files?{query}"
    more = [
        ("x-goog-upload-url", where),
        ("x-goog-upload-control-url", where),
        ("x-goog-upload-chunk-granularity", str(CHUNK_BYTES)),
    ]
    return upload_reply(None, "active", more)


def upload_reply(value: JSON | None, status: str, more: list[tuple[str, str]]) -> HTTPResponse:
    """An answer of the upload protocol."""
    body = b"" if value is None else pretty(value)
    headers = [*common_headers(), ("x-goog-upload-status", status), *more]
    return with_headers(HTTPResponse(body, 200, content_type=TYPE), headers)


@route(blueprint, "/<version>/files", "GET")
async def list_files(request: Request, version: str) -> HTTPResponse | None:
    """The files, newest first."""
    fault, answered = await check_request(request, version=version)
    listed = [upload.view(origin(request)) for upload in reversed(files.values())]
    return answered or await answer(request, fault, {"files": listed} if listed else {})


@route(blueprint, "/<version>/files/<name>", "GET", "DELETE")
async def one_file(request: Request, version: str, name: str) -> HTTPResponse | None:
    """Returns or deletes a file."""
    fault, answered = await check_request(request, version=version)
    if answered:
        return answered
    upload = files.get(f"files/{name}")
    if upload is None:
        said = f"You do not have permission to access the File {name} or it may not exist."
        return refused(request, error_object(403, said))
    if request.method == "DELETE":
        del files[upload.name]
        return await answer(request, fault, {})
    return await answer(request, fault, upload.view(origin(request)))
