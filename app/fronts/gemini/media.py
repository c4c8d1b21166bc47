"""Files inside a content as parts of the neutral request."""

from urllib.parse import urlsplit

from app.fronts.gemini.schema import Blob, FileData
from app.wire.chat import File, ImageUrl, InputAudio, Part
from app.wire.errors import GatewayError, bad_request
from app.wire.media_types import file_name, first_bytes, media_type

_SOUNDS = {"audio/wav": "wav", "audio/mpeg": "mp3"}
OTHER_ALPHABET = str.maketrans("-_", "+/")
_AT_GOOGLE = ("generativelanguage.googleapis.com", "youtube.com", "youtu.be")


def media_part(path: str, held: Blob | FileData) -> Part:
    """The part. Raises GatewayError 400 for what only Gemini can read."""
    return _inline(path, held) if isinstance(held, Blob) else _at_uri(path, held)


def _inline(path: str, blob: Blob) -> Part:
    data = (blob.data or "").translate(OTHER_ALPHABET).rstrip("=")
    data += "=" * (-len(data) % 4)
    declared = blob.mime_type or ""
    kind = media_type(first_bytes(data), declared) or declared
    if kind.startswith("image/"):
        return Part("image_url", image_url=ImageUrl(f"data:{kind};base64,{data}"))
    if sound := _SOUNDS.get(kind):
        return Part("input_audio", input_audio=InputAudio(data, sound))
    if kind == "application/pdf" or kind.startswith("text/"):
        file = File(file_data=f"data:{kind};base64,{data}", filename=file_name(kind))
        return Part("file", file=file)
    raise _only_gemini(path, f"a file of type {(declared or 'unknown')[:64]!r}")


def _at_uri(path: str, file: FileData) -> Part:
    uri = file.file_uri or ""
    try:
        address = urlsplit(uri)
        host = address.hostname or ""
    except ValueError:
        host = ""
    if not host or address.scheme.lower() not in ("http", "https"):
        raise _only_gemini(path, f"the address {uri[:100]!r}")
    if any(host == known or host.endswith(f".{known}") for known in _AT_GOOGLE):
        raise _only_gemini(path, f"the address {uri[:100]!r}")
    kind = media_type(b"", file.mime_type or "", uri) or ""
    if kind.startswith("image/"):
        return Part("image_url", image_url=ImageUrl(uri))
    if kind.startswith(("audio/", "video/")):
        raise _only_gemini(path, f"a file of type {kind!r}")
    return Part("file", file=File(filename=file_name(kind or None), url=uri))


def _only_gemini(path: str, what: str) -> GatewayError:
    return bad_request(
        f"{path}: {what} works with Gemini's own API only; send images, PDF, text, WAV or MP3 as "
        "inlineData, or ask for a gemini model.",
        path,
    )
