"""Images and files: `data:` URLs become base64 or text sources, http(s) URLs stay URLs.

Nothing is downloaded here; Anthropic fetches URLs itself. Media types that Claude cannot read are
refused with 400 naming the part.
"""

import re
from base64 import b64encode
from binascii import Error as Base64Error
from binascii import a2b_base64
from urllib.parse import unquote_to_bytes

from app.wire.chat import File, ImageUrl, Part
from app.wire.errors import bad_request
from providers.claude.schema import (
    Base64Source,
    DocumentBlock,
    ImageBlock,
    TextSource,
    UrlSource,
)

_IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_SIGNATURES = (
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"%PDF", "application/pdf"),
)
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/=]")
_TEXTUAL = ("application/json", "application/xml", "application/yaml", "application/x-yaml")


def image(part: Part, at: str) -> ImageBlock:
    held = part.image_url
    url = (held.url if isinstance(held, ImageUrl) else held or "").strip()
    where = f"{at}.url" if isinstance(held, ImageUrl) else at
    scheme = url[:8].lower()
    if scheme.startswith(("https://", "http://")):
        return ImageBlock(UrlSource(url))
    if not scheme.startswith("data:"):
        raise bad_request("An image must be a data: URL or an http(s) URL.", param=where)
    media_type, data = _data_url(url, where)
    if media_type not in _IMAGE_TYPES:
        raise bad_request(
            f"Claude takes images of type {', '.join(_IMAGE_TYPES)}; this is "
            f"{media_type or 'of no known type'}.",
            param=where,
        )
    return ImageBlock(Base64Source(media_type, data))


def document(file: File | None, at: str) -> DocumentBlock:
    if file is None or not file.file_data:
        raise bad_request(
            "Send the file itself in file_data; ids of files stored elsewhere are unknown here.",
            param=f"{at}.file_data",
        )
    where = f"{at}.file_data"
    said = file.file_data.strip()
    if said[:5].lower() != "data:":
        said = "data:;base64," + said  # OpenAI's document allows the bare base64 text too
    media_type, data = _data_url(said, where)
    if media_type == "application/pdf":
        return DocumentBlock(Base64Source(media_type, data), title=file.filename or None)
    if media_type.startswith("text/") or media_type in _TEXTUAL:
        try:
            text = a2b_base64(data).decode()
        except (Base64Error, UnicodeDecodeError):
            raise bad_request("A text file must be UTF-8.", param=where) from None
        if not text.strip():
            raise bad_request("The file is empty.", param=where)
        return DocumentBlock(TextSource("text/plain", text), title=file.filename or None)
    raise bad_request(
        f"Claude takes PDF and text files; this is {media_type or 'of no known type'}.",
        param=where,
    )


def _data_url(url: str, at: str) -> tuple[str, str]:
    """The media type (lower case, sniffed when missing) and the payload as plain base64."""
    head, comma, payload = url[5:].partition(",")
    if not comma:
        raise bad_request("A data: URL needs a comma before its data.", param=at)
    media_type, *parameters = (word.strip().lower() for word in head.split(";"))
    if "base64" in parameters:
        if "%" in payload:
            payload = unquote_to_bytes(payload).decode("latin-1")
        payload = payload.replace("-", "+").replace("_", "/")
        if _NOT_BASE64.search(payload):
            payload = "".join(payload.split())
            if _NOT_BASE64.search(payload):
                raise bad_request("The data is not base64.", param=at)
        payload = payload.rstrip("=")
        if len(payload) % 4 == 1:
            raise bad_request("The data is not whole base64.", param=at)
        payload += "=" * (-len(payload) % 4)
    else:
        payload = b64encode(unquote_to_bytes(payload)).decode()
    if not payload:
        raise bad_request("The data: URL holds no data.", param=at)
    if media_type == "image/jpg":
        media_type = "image/jpeg"
    if media_type in ("", "application/octet-stream", "image/*"):
        media_type = _sniff(payload)
    return media_type, payload


def _sniff(payload: str) -> str:
    try:
        first = a2b_base64(payload[:32])
    except Base64Error:
        return ""
    if first[:4] == b"RIFF" and first[8:12] == b"WEBP":
        return "image/webp"
    return next((name for mark, name in _SIGNATURES if first.startswith(mark)), "")
