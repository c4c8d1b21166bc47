"""Embedding vectors as OpenAI's API has them: a list of numbers, or float32 in base64."""

import math
import sys
from array import array
from base64 import b64encode

from app.wire.errors import bad_response

_UNIT = 1e-6  # how far from 1 a length may be that counts as 1
_OF_NUMBERS = b"0123456789.,-+eE \r\n\t"


class VectorFinder:
    """Finds the lists of numbers in JSON text while it comes.

    A hundred vectors take tens of milliseconds to convert. Done one by one as they arrive, they
    hold up nobody. Raises GatewayError 502 above `max_bytes`.
    """

    def __init__(self, max_bytes: int) -> None:
        self._held = bytearray()
        self._searched = 0  # for the end of a list
        self._after = 0  # behind the last end that was found
        self._left = max_bytes

    def feed(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """Each list that is whole now, behind the text before it."""
        self._left -= len(data)
        if self._left < 0:
            raise bad_response("The upstream's answer is above limits.response_bytes.")
        held, found, begin = self._held, [], 0
        held += data
        while (end := held.find(b"]", self._searched)) >= 0:
            start = held.rfind(b"[", self._after, end)
            self._searched = self._after = end + 1
            if start < 0:
                continue
            vector = bytes(held[start : end + 1])
            if vector.translate(None, _OF_NUMBERS) == b"[]":
                found.append((bytes(held[begin:start]), vector))
                begin = end + 1
        self._searched = len(held) - begin
        if begin:
            self._after -= begin
            del held[:begin]
        return found

    def rest(self) -> bytes:
        """The text after the last list."""
        return bytes(self._held)


def as_base64(values: list[float]) -> str:
    """The numbers as little-endian float32 in base64."""
    packed = array("f", values)
    if sys.byteorder == "big":
        packed.byteswap()
    return b64encode(packed).decode()


def unit(values: list[float]) -> list[float]:
    """The vector at length 1; one without a direction stays as it is."""
    length = math.hypot(*values)
    if not length or abs(length - 1) < _UNIT:
        return values
    return [value / length for value in values]
