"""Simulated embeddings: unit vectors that depend on nothing but the input."""

import array
import hashlib
import math
from base64 import b64encode
from typing import Any

import msgspec


def embed(text: Any, size: int) -> "array.array[float]":
    """A unit vector of float32 that depends on nothing but the input."""
    seed = hashlib.shake_256(msgspec.json.encode(text)).digest(size * 2)
    values = [float(value) + 0.5 for value in array.array("h", seed)]
    length = math.sqrt(sum(value * value for value in values))
    return array.array("f", [value / length for value in values])


def embedding_list(model: str, asked: Any, size: int, form: str) -> dict[str, Any]:
    """OpenAI's list of embeddings of `input`: a text, token ids, or a list of either; `form` is
    float or base64."""
    single = isinstance(asked, str) or isinstance(asked[0], int)
    inputs = [asked] if single else asked
    data = []
    for index, text in enumerate(inputs):
        vector = embed(text, size)
        value = vector.tolist() if form == "float" else b64encode(vector.tobytes()).decode()
        data.append({"object": "embedding", "index": index, "embedding": value})
    count = sum(len(text.split()) if isinstance(text, str) else len(text) for text in inputs)
    usage = {"prompt_tokens": count, "total_tokens": count}
    return {"object": "list", "data": data, "model": model, "usage": usage}
