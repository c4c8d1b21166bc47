"""Lists of models as Google's SDKs read them. Protocol sheet: front-gemini, 6."""

from collections.abc import Mapping
from typing import Any

from app.wire.errors import bad_request

_MOST, _USUAL = 1000, 50
_HOUSE = "gemini"
# Of Gemini's current models: told where nobody says, so that no client cuts a conversation short.
_INPUT_TOKENS, _OUTPUT_TOKENS = 1048576, 65536


def models_of(listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """OpenAI model objects, each with its `provider`, as Google's."""
    return [_model(entry) for entry in listed]


def page_of(models: list[dict[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
    """One page; its token is the number of the first model of the next one.

    Raises GatewayError 400 for a size or a token that is no number.
    """
    size = _number(query, "pageSize", "page_size", _USUAL) or _USUAL
    first = _number(query, "pageToken", "page_token", 0)
    end = first + min(size, _MOST)
    page: dict[str, Any] = {"models": models[first:end]}
    return page | ({"nextPageToken": str(end)} if end < len(models) else {})


def model_named(models: list[dict[str, Any]], name: str) -> dict[str, Any] | None:
    """The model of this name, with or without `models/` and the house before it."""
    bare = name.removeprefix("models/")
    wanted = (f"models/{bare}", f"models/{bare.removeprefix(_HOUSE + '/')}")
    return next((model for model in models if model["name"] in wanted), None)


def _number(query: Mapping[str, str], name: str, other: str, usual: int) -> int:
    said = query.get(name) or query.get(other) or str(usual)
    if not (said.isdecimal() and len(said) < 10):
        raise bad_request(f"{name}: must be a whole number that is not negative.", name)
    return int(said)


def _model(entry: Mapping[str, Any]) -> dict[str, Any]:
    house = entry["provider"]
    bare = entry["id"].removeprefix(f"{house}/")
    is_own = house in (_HOUSE, "")
    return {
        "name": f"models/{bare if is_own else f'{house}/{bare}'}",
        "version": "",
        "displayName": bare if is_own else f"{bare} ({house})",
        "description": f"Asked through the gateway at {house or 'several providers'}.",
        "inputTokenLimit": _INPUT_TOKENS,
        "outputTokenLimit": _OUTPUT_TOKENS,
        "supportedGenerationMethods": ["generateContent", "countTokens"],
    }
