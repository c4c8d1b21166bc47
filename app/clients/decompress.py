"""Decompression of response bodies, piece by piece, with a cap against decompression bombs.

Only gzip and deflate: the gateway's own Accept-Encoding never offers brotli or zstd.
"""

import zlib

from app.wire.errors import bad_response

# The Accept-Encoding of requests whose responses the gateway itself reads.
READABLE = "gzip, deflate"

# Empty gzip members cost time and give no output; zlib copies what stands behind each.
_MAX_MEMBERS = 4096
_SLICE = 64 * 1024


class Inflate:
    """gzip or deflate (zlib-wrapped or raw), incremental and bounded."""

    def __init__(self, encoding: str, max_bytes: int) -> None:
        if encoding not in ("gzip", "x-gzip", "deflate"):
            raise bad_response(f"The upstream used the content encoding {encoding!r} unasked.")
        self._encoding = encoding
        self._z: zlib._Decompress | None = None
        self._left = max_bytes
        self._members = 0

    def feed(self, data: bytes) -> bytes:
        """Returns what `data` decompresses to. Raises GatewayError 502: broken or too large."""
        if not data:
            return b""
        if self._z is None:
            # "deflate" is zlib-wrapped by the book and raw from some servers.
            deflate = 15 if data[0] & 0x0F == 8 else -15
            wbits = deflate if self._encoding == "deflate" else 31
            self._z = zlib.decompressobj(wbits)
        if len(data) <= _SLICE:
            return self._inflate(data)
        slices = range(0, len(data), _SLICE)
        return b"".join([self._inflate(data[at : at + _SLICE]) for at in slices])

    def _inflate(self, data: bytes) -> bytes:
        assert self._z is not None
        out = []
        while data:
            try:
                piece = self._z.decompress(data, self._left + 1)
            except zlib.error as error:
                raise bad_response(f"The upstream's {self._encoding} body is broken.") from error
            self._left -= len(piece)
            if self._left < 0:
                raise bad_response("The upstream's answer is too large once decompressed.")
            out.append(piece)
            data = self._z.unconsumed_tail
            if self._z.eof:
                data = self._z.unused_data  # gzip may hold several members
                if data:
                    self._next_member()
        return b"".join(out)

    def _next_member(self) -> None:
        self._members += 1
        if self._members > _MAX_MEMBERS:
            raise bad_response("The upstream's answer is too large: gzip members without end.")
        self._z = zlib.decompressobj(31)

    @property
    def whole(self) -> bool:
        """Whether the compressed body was complete."""
        return self._z is not None and self._z.eof


def decode_body(body: bytes, headers: dict[str, str], max_bytes: int) -> bytes:
    """Decompresses a complete body, and removes content-encoding from `headers`.

    Raises GatewayError 502 for a body that is broken, cut or larger than `max_bytes`.
    """
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding in ("", "identity") or not body:
        return body
    inflate = Inflate(encoding, max_bytes)
    plain = inflate.feed(body)
    if not inflate.whole:
        raise bad_response("The upstream's compressed answer ended early.")
    del headers["content-encoding"]
    headers.pop("content-length", None)
    return plain
