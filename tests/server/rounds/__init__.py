"""One day with the OpenAI client, told alike by three clients, and what it must come to."""

from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
KEYS = {"openai": "sk-callers", "claude": "sk-ant-api03-callers", "gemini": "AIza-callers"}
MODELS = {"openai": "gpt-4o", "claude": "claude-haiku-4-5", "gemini": "gemini-2.5-flash"}
POOLED = {"openai": {"k1", "k2"}, "claude": {"a1", "a2"}, "gemini": {"g1", "g2"}}
PROVIDERS = list(MODELS)

_CALLED = {
    "names": ["get_weather", "get_news"],
    "arguments": [{"city": "Paris"}, {"city": "Oslo"}],
    "ids": True,
    "end": "tool_calls",
}
_ERRORS = {
    "sim-400": ["BadRequestError", 400, None],
    "sim-401": ["AuthenticationError", 401, None],
    "sim-403": ["PermissionDeniedError", 403, None],
    "missing-model": ["NotFoundError", 404, None],
    "sim-429-after-7": ["RateLimitError", 429, "7"],
    "sim-500": ["InternalServerError", 500, None],
}


def expected(provider: str) -> dict[str, Any]:
    # The simulated OpenAI repeats the last message only, and so the last result.
    used = [provider != "openai", True]
    return {
        "whole": {
            "text": "You said: blue moon",
            "role": "assistant",
            "end": "stop",
            "counts": True,
        },
        "streamed": {
            "text": "You said: blue moon",
            "role": "assistant",
            "pieces": True,
            "ends": ["stop"],
            "one_id": True,
            "usage_unasked": False,
            "usage_last": True,
        },
        "system": "You said: blue moon",
        "turns": "You said: blue moon",
        "image": "You said: blue moon",
        "tools": _CALLED | {"used": used},
        "streamed_tools": _CALLED | {"used": used},
        "one_tool": _CALLED | {"names": ["get_news"], "arguments": [{"city": "example"}]},
        "schema": {"city": "Paris"},
        "headers": {"request": "mine-7", "text": "You said: a"},
        "errors": _ERRORS,
        "streamed_errors": _ERRORS,
        "broken": [True, "upstream_cut"],
        "models": [["claude", "gemini", "openai"], True, True],
        "beside": [1, "gpt-4o", 102_400, True, True],
    }


def check(said: dict[str, Any], provider: str, version: str) -> None:
    assert said.pop("version") == version
    assert said["headers"].pop("key") in POOLED[provider]
    assert said == expected(provider)


def wishes(url: str, provider: str, prefixed: bool) -> dict[str, str]:
    """What a round is told: the provider by the model's prefix, or by the body's `provider`."""
    model = f"{provider}/{MODELS[provider]}" if prefixed else MODELS[provider]
    return {
        "BASE": url,
        "KEY": KEYS[provider],
        "MODEL": model,
        "PROVIDER": "" if prefixed else provider,
    }
