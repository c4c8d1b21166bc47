"""Embedding vectors of the simulated models."""

import array
import hashlib
import math
from typing import Any

import msgspec


def embed(text: Any, size: int) -> "array.array[float]":
    """A unit vector of float32 that depends on nothing but the input."""
    seed = hashlib.shake_256(msgspec.json.encode(text)).digest(size * 2)
    values = [float(value) + 0.5 for value in array.array("h", seed)]
    length = math.sqrt(sum(value * value for value in values))
    return array.array("f", [value / length for value in values])
