"""Images, sound and files of a chat message as Gemini parts: data inline, or a URL to fetch.

Nothing is downloaded here. Current models fetch http(s) URLs themselves; for older ones the
gateway's guarded fetch has put the bytes into `learned` before the request is built.
"""

import base64
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes, urlsplit

from app.wire.chat import ChatRequest, File, ImageUrl, InputAudio, Part
from app.wire.errors import bad_request
from app.wire.media_types import HEAD_BYTES, first_bytes, media_type
from providers.gemini.schema import Blob, FileData, RequestPart

Learned = Mapping[str, tuple[str, bytes]]  # url -> (mime type, content)

_AUDIO = ("wav", "mp3", "aiff", "aac", "ogg", "flac")

# Registered media types for which Gemini uses another name.
_OWN_WORDS = {"audio/mpeg": "audio/mp3", "video/quicktime": "video/mov"}

_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_="

# Every model fetches these hosts itself and needs no media type.
_OWN_HOSTS = ("generativelanguage.googleapis.com", "youtube.com", "www.youtube.com", "youtu.be")


def to_media(part: Part, at: str, learned: Learned) -> RequestPart:
    """An image_url, input_audio or file part; `at` is its path for error messages."""
    match part.type:
        case "image_url" if part.image_url is not None:
            return _image(part.image_url, f"{at}.image_url", learned)
        case "input_audio" if part.input_audio is not None:
            return _audio(part.input_audio, f"{at}.input_audio")
        case "file" if part.file is not None:
            return _file(part.file, f"{at}.file", learned)
        case "image_url" | "input_audio" | "file":
            raise bad_request(f"A part of type {part.type} needs the member {part.type}.", at)
        case _:
            raise bad_request(
                f"Gemini cannot be sent a content part of type {part.type!r};"
                " use text, image_url, input_audio or file.",
                f"{at}.type",
            )


def urls_to_fetch(chat: ChatRequest) -> list[str]:
    """The http(s) URLs of a chat that a model without URL fetching cannot resolve."""
    urls: dict[str, None] = {}
    for message in chat.messages:
        for part in message.parts():
            if part.file is not None and part.file.url:
                urls[part.file.url] = None
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
        if not content:
            raise bad_request("There is nothing at this URL.", at)
        told = mime if mime[:6].lower() == "image/" else ""
        kind = media_type(content[:HEAD_BYTES], told, url) or mime or "image/jpeg"
        return _blob(kind, base64.b64encode(content).decode())
    if scheme.startswith(("http://", "https://", "gs://")):
        host = _host(url)
        if not host:
            raise bad_request(f"{url[:200]!r} is not a URL.", at)
        known = None if host in _OWN_HOSTS else media_type(b"", "", url) or "image/jpeg"
        return RequestPart(file_data=FileData(_OWN_WORDS.get(known or "", known), url))
    raise bad_request("An image must be a data: URL or an http(s) URL.", at)


def _audio(audio: InputAudio, at: str) -> RequestPart:
    data = _checked(audio.data, f"{at}.data")
    kind = media_type(first_bytes(data), audio.format)
    if kind is None or not kind.startswith("audio/"):
        raise bad_request(
            f"Gemini does not take audio of the format {audio.format!r};"
            f" use one of {', '.join(_AUDIO)}.",
            f"{at}.format",
        )
    return _blob(kind, data)


def _file(file: File, at: str, learned: Learned) -> RequestPart:
    if file.url is not None:
        return _fetched(file.url, at, learned)
    if file.file_data is None:
        raise bad_request(
            "Gemini does not know OpenAI's file ids; send the content in file_data.",
            f"{at}.file_id" if file.file_id else at,
        )
    at = f"{at}.file_data"
    if file.file_data[:5].lower() == "data:":
        return _inline(file.file_data, at, file.filename or "")
    data = _checked(file.file_data, at)
    return _blob(_type_of(data, "", file.filename or "", at), data)


def _fetched(url: str, at: str, learned: Learned) -> RequestPart:
    """A document by its URL, which is a PDF where nothing says otherwise."""
    if not _host(url) or not url.lower().startswith(("http://", "https://")):
        raise bad_request(f"{url[:200]!r} is not an http(s) URL.", at)
    if url not in learned:
        return RequestPart(file_data=FileData(media_type(b"", "", url) or "application/pdf", url))
    mime, content = learned[url]
    kind = media_type(content[:HEAD_BYTES], mime, url) or "application/pdf"
    return _blob(kind, base64.b64encode(content).decode())


def _inline(url: str, at: str, name: str = "") -> RequestPart:
    """data:[mime][;parameter...][;base64],payload"""
    head, comma, payload = url[5:].partition(",")
    if not comma:
        raise bad_request("A data: URL needs a comma before its content.", at)
    told, *parameters = [word.strip().lower() for word in head.split(";")]
    if "base64" in parameters:
        data = _checked(payload, at)
    else:
        data = _checked(base64.b64encode(unquote_to_bytes(payload)).decode(), at)
    return _blob(_type_of(data, told, name, at), data)


def _type_of(data: str, told: str, name: str, at: str) -> str:
    head = first_bytes(data)
    kind = media_type(head, told, name)
    if kind is None and not told.startswith("image/") and _is_text(head):
        kind = "text/plain"
    if kind is None:
        raise bad_request(
            "What kind of file this is cannot be told, neither by its content nor by its name;"
            " send it as a data: URL with its media type.",
            at,
        )
    return kind


def _blob(kind: str, data: str) -> RequestPart:
    return RequestPart(inline_data=Blob(_OWN_WORDS.get(kind, kind), data))


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3 or len(head) < 1026:
            return False
        text = head[: error.start].decode()  # a character that goes on behind the head
    return "\0" not in text


def _checked(text: str, at: str) -> str:
    """Base64 text as it is, or put right; refused here rather than after a long upload."""
    odd = text.encode().translate(None, _BASE64)  # what is left: far quicker than a regex
    if odd:
        text = "".join(unquote_to_bytes(text).decode("latin-1").split())
        odd = text.encode().translate(None, _BASE64)
    if odd:
        raise bad_request("This is not base64.", at)
    if text[:1] in ("", "="):
        raise bad_request("This is empty; send content, or leave the part out.", at)
    return text
