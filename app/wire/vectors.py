"""Embedding vectors as OpenAI's API has them: a list of numbers, or float32 in base64."""

import math
import sys
from array import array
from base64 import b64encode

_UNIT = 1e-6  # how far from 1 a length may be that counts as 1


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
