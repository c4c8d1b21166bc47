"""The media type of an image, a sound, a video or a file: by its bytes, else by its name.

The type that a caller declares is a hint only. Programs send `application/octet-stream`, `image/*`,
`png`, or another format's type; an upstream compares it with the bytes and refuses the request.
"""

import re
from binascii import a2b_base64
from urllib.parse import urlsplit

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
    (b"\xff\xf2", "audio/mpeg"),
    (b"\xff\xf1", "audio/aac"),
    (b"\xff\xf9", "audio/aac"),
    (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"),
    (b"\x1aE\xdf\xa3", "video/webm"),
    (b"FLV\x01", "video/x-flv"),
    (b"\x00\x00\x01\xba", "video/mpeg"),
)
# Containers: the four bytes at 8 name the format.
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/avi"}
_FORM = {b"AIFF": "audio/aiff", b"AIFC": "audio/aiff"}
_FTYP = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"), "image/heic"),
    **dict.fromkeys((b"mif1", b"msf1"), "image/heif"),
    **dict.fromkeys((b"avif", b"avis"), "image/avif"),
    **dict.fromkeys((b"M4A ", b"M4B "), "audio/mp4"),
    b"qt  ": "video/quicktime",
}

_SOUND_OR_FILM = frozenset(("audio/mp4", "audio/ogg", "video/3gpp", "video/mp4", "video/webm"))

_BY_ENDING = {
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
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "aiff": "audio/aiff",
    "aac": "audio/aac",
    "ogg": "audio/ogg",
    "flac": "audio/flac",
    "m4a": "audio/mp4",
    "avi": "video/avi",
    "mp4": "video/mp4",
    "mov": "video/quicktime",
    "webm": "video/webm",
    "mpeg": "video/mpeg",
}
_ENDINGS = {kind: ending for ending, kind in reversed(_BY_ENDING.items())}
# Other names of the same type, each with its registered name.
_SAME = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-png": "image/png",
    "application/x-pdf": "application/pdf",
    "audio/mp3": "audio/mpeg",
    "audio/x-mp3": "audio/mpeg",
    "audio/x-mpeg": "audio/mpeg",
    "audio/wave": "audio/wav",
    "audio/x-wav": "audio/wav",
    "audio/vnd.wave": "audio/wav",
    "audio/x-aiff": "audio/aiff",
    "audio/x-flac": "audio/flac",
    "audio/x-aac": "audio/aac",
    "audio/x-m4a": "audio/mp4",
    "video/mov": "video/quicktime",
}
_GENERIC = ("application/octet-stream", "binary/octet-stream", "application/binary")
_FULL = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]*/[a-z0-9][a-z0-9!#$&^_.+-]*")
HEAD_BYTES = 16  # so many of a file's first bytes are needed
_LOOKED_AT = 1368  # characters of base64: 1026 bytes


def media_type(data: bytes, declared: str = "", name: str = "") -> str | None:
    """Returns the type of a file that begins with `data`; None if nothing shows it.

    `declared` is the caller's, a media type or a word like `png`; `name` is the file's name or URL.
    The bytes win, except for containers that hold either sound or video.
    """
    found = _of_bytes(data)
    if found is not None and found not in _SOUND_OR_FILM:
        return found
    hint = _of_word(declared) or _of_name(name)
    return hint if found is None or (hint or "").startswith(("audio/", "video/")) else found


def first_bytes(text: str) -> bytes:
    """Returns the first bytes of a file in base64, of either alphabet; b"" if it is not base64."""
    head = text[:_LOOKED_AT].rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return a2b_base64(head + "=" * (-len(head) % 4))
    except ValueError:  # also of signs that are not ASCII
        return b""


def file_name(kind: str | None) -> str:
    """A name for a file that has none, with the ending of its type: some upstreams go by that."""
    if kind is None:
        return "file"
    family, _, word = kind.partition("/")
    return f"{family}.{_ENDINGS.get(kind, word)}"


def _of_bytes(data: bytes) -> str | None:
    kind = data[8:12]
    if data[4:8] == b"ftyp":
        return _FTYP.get(kind, "video/3gpp" if kind.startswith(b"3g") else "video/mp4")
    if data[:4] == b"RIFF":
        return _RIFF.get(kind)
    if data[:4] == b"FORM":
        return _FORM.get(kind)
    if data[:2] == b"BM" and data[6:10] == bytes(4):  # two letters alone may be a text, too
        return "image/bmp"
    return next((found for magic, found in _MAGIC if data.startswith(magic)), None)


def _of_word(declared: str) -> str | None:
    word = declared.partition(";")[0].strip().lower()
    if _FULL.fullmatch(word) and word not in _GENERIC:
        return _SAME.get(word, word)
    return _BY_ENDING.get(word.removeprefix("."))


def _of_name(name: str) -> str | None:
    try:
        path = urlsplit(name).path
    except ValueError:
        return None
    return _BY_ENDING.get(path.rpartition(".")[2].lower()) if "." in path else None
