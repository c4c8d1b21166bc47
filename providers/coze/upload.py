"""Files that a request holds as data, uploaded to Coze before the question.

Source: Coze's documentation of POST /v1/files/upload.
"""

import base64

import msgspec

from app.wire.chat import Part
from app.wire.errors import bad_request
from app.wire.media_types import HEAD_BYTES, file_name, media_type
from app.wire.multipart import form_data
from app.wire.provider import Call
from app.wire.upstream import UpstreamReply, UpstreamRequest
from providers.coze import schema
from providers.coze.errors import read_error
from providers.coze.open_api import post, read_json

_upload_decoder = msgspec.json.Decoder(schema.UploadReply)


def needs_upload(part: Part) -> bool:
    """Whether a content part holds its file as data, not as an address or a file id."""
    match part.type:
        case "image_url":
            return part.image_address().startswith("data:")
        case "file":
            return part.file is not None and bool(part.file.file_data)
        case _:
            return part.type == "input_audio"


def read_file(part: Part, where: str) -> tuple[str, str, bytes]:
    """File name, media type and content of a part that holds data.

    Raises GatewayError 400 naming `where` for what is empty or not base64.
    """
    try:
        if part.input_audio is not None:
            label, name, body = part.input_audio.format, "", part.input_audio.data
        else:
            file = part.file
            is_image = part.type == "image_url"
            url = part.image_address() if is_image else (file and file.file_data) or ""
            head, _, body = url.partition(",")
            if not head.startswith("data:") or not head.endswith(";base64"):
                raise bad_request("Expected a data: URL in base64.", param=where)
            label, name = head[5:-7], (file and file.filename) or ""
        data = base64.b64decode(body, validate=True)
    except ValueError:
        raise bad_request("This is not valid base64.", param=where) from None
    if not data:
        raise bad_request("This is empty; send content, or leave the part out.", param=where)
    kind = media_type(data[:HEAD_BYTES], label, name)
    return name or file_name(kind), kind or "application/octet-stream", data


def upload_request(call: Call, name: str, media_type: str, data: bytes) -> UpstreamRequest:
    """Uploads one file under the key of the call."""
    boundary = call.new_id()
    safe = name.replace("\\", "_").replace('"', "_").replace("\r", "_").replace("\n", "_")
    body = form_data(boundary, [(f'name="file"; filename="{safe}"', media_type, data)])
    return post(call, "/v1/files/upload", body, f"multipart/form-data; boundary={boundary}")


def read_uploaded(reply: UpstreamReply) -> str:
    """The id of the uploaded file. Raises the error that came in its place."""
    if reply.status >= 400:
        raise read_error(reply)
    uploaded = read_json(_upload_decoder, reply.body)
    if uploaded.code or uploaded.data is None or not uploaded.data.id:
        raise read_error(reply)
    return uploaded.data.id
