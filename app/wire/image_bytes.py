"""The images of a chat request: their bytes, media type and size.

Only for `data:` URLs: the gateway would have to fetch an http(s) URL for whoever sends it, which
opens its network to them. The type is read from the bytes, because labels are often wrong.
"""

import base64
import binascii
import re
import struct

from msgspec import Struct

from app.wire.chat import Part
from app.wire.errors import bad_request
from app.wire.media_types import media_type

_DATA_URL = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)
_ENDINGS = {"image/png": "png", "image/jpeg": "jpg", "image/gif": "gif", "image/webp": "webp"}


class Picture(Struct, frozen=True):
    """An image; `width` and `height` are pixels, 0 if the file does not say them."""

    media_type: str
    data: bytes
    width: int
    height: int

    def name(self, number: int) -> str:
        """A file name with the right ending."""
        return f"image-{number}.{_ENDINGS[self.media_type]}"


def picture_type(data: bytes) -> str | None:
    """Returns the media type by the first bytes; None if it is not PNG, JPEG, GIF or WebP."""
    kind = media_type(data)
    return kind if kind in _ENDINGS else None


def read_picture(part: Part, at: str) -> Picture:
    """Decodes an `image_url` part. Raises GatewayError 400 with `at` as its param."""
    url = part.image_address().strip()
    head = _DATA_URL.match(url)
    if head is None:
        raise bad_request(
            "This upstream takes images only as data: URLs in base64; fetch the image and send "
            "its bytes.",
            param=at,
            code="unsupported_content",
        )
    try:
        data = base64.b64decode(url[head.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise bad_request("The image's base64 is broken.", param=at) from None
    if not data:
        raise bad_request("The image is empty; send its bytes, or leave it out.", param=at)
    kind = picture_type(data)
    if kind is None:
        raise bad_request(
            "The image is none of PNG, JPEG, GIF, WebP.", param=at, code="unsupported_content"
        )
    return Picture(kind, data, *_size(kind, data))


def _size(kind: str, data: bytes) -> tuple[int, int]:
    """Width and height, (0, 0) if the file does not have them in the usual place."""
    try:
        match kind:
            case "image/png":
                return struct.unpack(">II", data[16:24])
            case "image/gif":
                return struct.unpack("<HH", data[6:10])
            case "image/jpeg":
                return _jpeg_size(data)
            case _:
                return _webp_size(data)
    except (struct.error, IndexError):
        return 0, 0


def _jpeg_size(data: bytes) -> tuple[int, int]:
    at = 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in (0x01, *range(0xD0, 0xD9)):  # markers that hold nothing
            at += 2
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return 0, 0


def _webp_size(data: bytes) -> tuple[int, int]:
    match data[12:16]:
        case b"VP8 ":
            width, height = struct.unpack("<HH", data[26:30])
            return width & 0x3FFF, height & 0x3FFF
        case b"VP8L":
            bits = int.from_bytes(data[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X":
            return (
                int.from_bytes(data[24:27], "little") + 1,
                int.from_bytes(data[27:30], "little") + 1,
            )
    return 0, 0
