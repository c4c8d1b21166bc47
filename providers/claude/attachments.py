"""Images and files: `data:` URLs become base64 or text sources, http(s) URLs stay URLs.

Nothing is downloaded here; Anthropic fetches URLs itself. Anthropic compares a label with the
bytes, so what is sent is what the bytes are, whatever the caller calls it. What Claude cannot read
is refused with 400 naming the part.
"""

import re
from base64 import b64encode
from binascii import a2b_base64
from urllib.parse import unquote_to_bytes

from app.wire.chat import File, ImageUrl, Part
from app.wire.errors import bad_request
from app.wire.media_types import first_bytes, media_type
from providers.claude.schema import (
    Base64Source,
    DocumentBlock,
    ImageBlock,
    TextSource,
    UrlSource,
)

_IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/=]")
_NOT_IN_TEXT = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


def image(part: Part, at: str) -> ImageBlock | DocumentBlock:
    """An `image_url` part as a block; `at` is its path for error messages.

    A PDF becomes a document block. Raises GatewayError 400 for another type or broken data.
    """
    held = part.image_url
    url = (held.url if isinstance(held, ImageUrl) else held or "").strip()
    where = f"{at}.url" if isinstance(held, ImageUrl) else at
    scheme = url[:8].lower()
    if scheme.startswith(("https://", "http://")):
        return ImageBlock(UrlSource(url))
    if not scheme.startswith("data:"):
        raise bad_request("An image must be a data: URL or an http(s) URL.", param=where)
    kind, data = _data_url(url, where)
    if kind == "application/pdf":
        return DocumentBlock(Base64Source(kind, data))
    if kind not in _IMAGE_TYPES:
        raise bad_request(
            f"Claude takes images of type {', '.join(_IMAGE_TYPES)}; this is "
            f"{kind or 'of no known type'}.",
            param=where,
        )
    return ImageBlock(Base64Source(kind, data))


def document(file: File | None, at: str) -> DocumentBlock | ImageBlock:
    """A `file` part as a block: a PDF or text document, or an image.

    Raises GatewayError 400 for another type, broken data, or a file that is named by id only.
    """
    if file is not None and file.url:
        return DocumentBlock(UrlSource(file.url), title=file.filename or None)
    if file is None or not file.file_data:
        raise bad_request(
            "Send the file itself in file_data; ids of files stored elsewhere are unknown here.",
            param=f"{at}.file_data",
        )
    where = f"{at}.file_data"
    said = file.file_data.strip()
    if said[:5].lower() != "data:":
        said = "data:;base64," + said  # OpenAI's document allows the bare base64 text too
    kind, data = _data_url(said, where)
    if kind in _IMAGE_TYPES:
        return ImageBlock(Base64Source(kind, data))
    title = file.filename or None
    if kind == "application/pdf":
        return DocumentBlock(Base64Source(kind, data), title=title)
    text = _text(data)
    if text is not None and text.strip():
        return DocumentBlock(TextSource("text/plain", text), title=title)
    if text is not None:
        raise bad_request("The file is empty.", param=where)
    if kind.startswith("text/"):
        raise bad_request("A text file must be UTF-8.", param=where)
    raise bad_request(
        f"Claude takes PDF and text files; this is {kind or 'of no known type'}.",
        param=where,
    )


def _text(data: str) -> str | None:
    """The text of a file; None for a binary one. Text files come with many media types."""
    try:
        text = a2b_base64(data).decode()
    except ValueError:  # no base64, or no UTF-8
        return None
    return None if _NOT_IN_TEXT.search(text) else text


def _data_url(url: str, at: str) -> tuple[str, str]:
    """The media type, by the bytes or else by the label, and the payload as plain base64."""
    head, comma, payload = url[5:].partition(",")
    if not comma:
        raise bad_request("A data: URL needs a comma before its data.", param=at)
    told, *parameters = (word.strip().lower() for word in head.split(";"))
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
    return media_type(first_bytes(payload), told) or told, payload
