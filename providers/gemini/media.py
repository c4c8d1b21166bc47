"""Images, sound and files of a chat message as Gemini parts: data inline, or a URL to fetch.

Nothing is downloaded here. Current models fetch http(s) URLs themselves; for older ones the
gateway's guarded fetch has put the bytes into `learned` before the request is built.
"""

import base64
import binascii
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes, urlsplit

from app.wire.chat import ChatRequest, File, ImageUrl, InputAudio, Part
from app.wire.errors import bad_request
from providers.gemini.schema import Blob, FileData, RequestPart

Learned = Mapping[str, tuple[str, bytes]]  # url -> (mime type, content)

_AUDIO = {
    "wav": "audio/wav",
    "mp3": "audio/mp3",
    "aiff": "audio/aiff",
    "aac": "audio/aac",
    "ogg": "audio/ogg",
    "flac": "audio/flac",
}

_BY_EXTENSION = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "heic": "image/heic",
    "heif": "image/heif",
    "bmp": "image/bmp",
    "avif": "image/avif",
    "svg": "image/svg+xml",
    "pdf": "application/pdf",
    "txt": "text/plain",
    "md": "text/markdown",
    "csv": "text/csv",
    "html": "text/html",
    "json": "application/json",
    "xml": "text/xml",
    "mp4": "video/mp4",
    "mov": "video/mov",
    "webm": "video/webm",
    "mpeg": "video/mpeg",
    **_AUDIO,
}

_MAGIC = (
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"%PDF", "application/pdf"),
)

_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_="

# Gemini resolves these itself on every model, and knows what they are.
_OWN_HOSTS = ("generativelanguage.googleapis.com", "youtube.com", "www.youtube.com", "youtu.be")


def to_media(part: Part, at: str, learned: Learned) -> RequestPart:
    """An image_url, input_audio or file part; `at` is its path for error messages."""
    match part.type:
        case "image_url" if part.image_url is not None:
            return _image(part.image_url, f"{at}.image_url", learned)
        case "input_audio" if part.input_audio is not None:
            return _audio(part.input_audio, f"{at}.input_audio")
        case "file" if part.file is not None:
            return _file(part.file, f"{at}.file")
        case "image_url" | "input_audio" | "file":
            raise bad_request(f"A part of type {part.type} needs the member {part.type}.", at)
        case _:
            raise bad_request(
                f"Gemini cannot be sent a content part of type {part.type!r};"
                " use text, image_url, input_audio or file.",
                f"{at}.type",
            )


def urls_to_fetch(chat: ChatRequest) -> list[str]:
    """The http(s) image URLs of a chat that a model without URL fetching cannot resolve."""
    urls: dict[str, None] = {}
    for message in chat.messages:
        for part in message.parts():
            if part.type == "image_url" and part.image_url is not None:
                url = _url(part.image_url)
                if url[:8].lower().startswith(("http://", "https://")) and _host(url) not in (
                    _OWN_HOSTS
                ):
                    urls[url] = None
    return list(urls)


def _url(image: ImageUrl | str) -> str:
    return (image if isinstance(image, str) else image.url).strip()


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _image(image: ImageUrl | str, at: str, learned: Learned) -> RequestPart:
    url = _url(image)
    at = at if isinstance(image, str) else f"{at}.url"
    scheme = url[:8].lower()
    if scheme.startswith("data:"):
        return _inline(url, at)
    if url in learned:
        mime, content = learned[url]
        mime = mime.partition(";")[0].strip().lower()
        if not mime.startswith("image/"):
            mime = _sniffed(content[:16]) or _by_extension(url) or mime or "image/jpeg"
        return _blob(mime, base64.b64encode(content).decode())
    if scheme.startswith(("http://", "https://", "gs://")):
        host = _host(url)
        if not host:
            raise bad_request(f"{url[:200]!r} is not a URL.", at)
        known = None if host in _OWN_HOSTS else _by_extension(url) or "image/jpeg"
        return RequestPart(file_data=FileData(known, url))
    raise bad_request("An image must be a data: URL or an http(s) URL.", at)


def _audio(audio: InputAudio, at: str) -> RequestPart:
    mime = _AUDIO.get(audio.format.lower())
    if mime is None:
        raise bad_request(
            f"Gemini does not take audio of the format {audio.format!r};"
            f" use one of {', '.join(_AUDIO)}.",
            f"{at}.format",
        )
    return _blob(mime, _checked(audio.data, f"{at}.data"))


def _file(file: File, at: str) -> RequestPart:
    if file.file_data is None:
        raise bad_request(
            "Gemini does not know OpenAI's file ids; send the content in file_data.",
            f"{at}.file_id" if file.file_id else at,
        )
    if file.file_data[:5].lower() == "data:":
        return _inline(file.file_data, f"{at}.file_data")
    mime = _by_extension(file.filename or "")
    if mime is None:
        raise bad_request(
            "file_data must be a data: URL, or base64 with a filename whose ending tells the type.",
            f"{at}.file_data",
        )
    return _blob(mime, _checked(file.file_data, f"{at}.file_data"))


def _inline(url: str, at: str) -> RequestPart:
    """data:[mime][;parameter...][;base64],payload"""
    head, comma, payload = url[5:].partition(",")
    if not comma:
        raise bad_request("A data: URL needs a comma before its content.", at)
    mime, *parameters = [word.strip().lower() for word in head.split(";")]
    if "base64" in parameters:
        data = _checked(payload, at)
    else:
        data = base64.b64encode(unquote_to_bytes(payload)).decode()
    if not mime:
        try:
            mime = _sniffed(binascii.a2b_base64(data[:32])) or "text/plain"
        except ValueError:
            mime = "text/plain"
    return _blob(mime, data)


def _blob(mime: str, data: str) -> RequestPart:
    return RequestPart(inline_data=Blob("image/jpeg" if mime == "image/jpg" else mime, data))


def _checked(text: str, at: str) -> str:
    """Base64 text as it is, or put right; refused here rather than after a long upload."""
    odd = text.encode().translate(None, _BASE64)  # what is left: far quicker than a regex
    if odd:
        text = "".join(unquote_to_bytes(text).decode("latin-1").split())
        odd = text.encode().translate(None, _BASE64)
    if odd or not text:
        raise bad_request("This is not base64." if odd else "There is no content.", at)
    return text


def _by_extension(name: str) -> str | None:
    try:
        path = urlsplit(name).path
    except ValueError:
        return None
    return _BY_EXTENSION.get(path.rpartition(".")[2].lower())


def _sniffed(content: bytes) -> str | None:
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return next((mime for magic, mime in _MAGIC if content.startswith(magic)), None)
