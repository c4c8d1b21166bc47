"""Gemini model names: which features a model of a given name and API version has."""

import re

from app.wire.errors import bad_request
from app.wire.token_limit import AnswerLimits

LIMITS = AnswerLimits()  # by the models' paths


class Model:
    """The URL path of a model and the request features it supports. Immutable: calls share it.

    Raises GatewayError 400 for a name that cannot be a Gemini model's.
    """

    def __init__(self, name: str, version: str) -> None:
        if not _MODEL.fullmatch(name) or ".." in name or len(name) > 200:
            raise bad_request(
                f"{name[:100]!r} is not a name of a Gemini model; GET /c/v1/models lists them.",
                "model",
            )
        self.name = name
        self.path = name if "/" in name else f"models/{name}"
        self.version = version
        bare = name.rpartition("/")[2].lower()
        self.generation = _generation(bare)
        self.is_pro = "-pro" in bare
        # v1 has no systemInstruction, and neither have the Gemma models.
        self.takes_system = version != "v1" and not bare.startswith("gemma")
        self.fetches_urls = self.generation >= (2, 5)
        self.insists_on_signatures = self.generation >= (3, 0)
        # Older ones take a result's pictures only beside it.
        newest = self.generation >= (3, 0) and version != "v1"
        self.in_results = _IN_RESULTS if newest else frozenset()
        self.thinks = (
            self.generation >= (2, 5)
            and version != "v1"
            and not any(kind in bare for kind in ("-image", "-tts", "-live", "embedding"))
        )


_MODEL = re.compile(r"(?:[A-Za-z0-9_-]+/)*[A-Za-z0-9][\w.@-]*", re.ASCII)
_IN_RESULTS = frozenset(("image/png", "image/jpeg", "image/webp", "application/pdf", "text/plain"))
_GENERATION = re.compile(r"gemini-(\d{1,3})(?:\.(\d{1,3}))?(?![\d.])")


def _generation(bare: str) -> tuple[int, int]:
    found = _GENERATION.match(bare)
    if found:
        return int(found[1]), int(found[2] or 0)
    if re.fullmatch(r"gemini-(pro|flash|flash-lite)-latest", bare):
        return 3, 6 if "flash" in bare else 1
    return 0, 0  # unknown: no newer feature is assumed
