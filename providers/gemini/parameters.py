"""OpenAI's sampling, format and reasoning parameters as Gemini's `generationConfig`.

Parameters without a counterpart are dropped and named when that is harmless, and refused with 400
when the answer would differ from what was asked for. Source: Google's GenerationConfig reference.
"""

import re
from collections.abc import Mapping
from typing import Any

from msgspec import UNSET, Raw

from app.wire.dropped import dropped_in_messages, says_nothing
from app.wire.errors import bad_request
from providers.gemini.models import LIMITS, Model
from providers.gemini.openai_request import Chat, GoogleExtras
from providers.gemini.raw_json import checked_utf8, encode, json_schema, read_object

MOST_STOPS = 5
_DROPPED = (
    "metadata",
    "moderation",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "service_tier",
    "store",
    "verbosity",
    "web_search_options",
)


def dropped_parameters(chat: Chat) -> list[str]:
    """Names of the parameters in the request that are left out, in the order they are told.

    Raises GatewayError 400 for `audio`, which would change what the caller gets.
    """
    if chat.google.audio is not UNSET and bytes(chat.google.audio) != b"null":
        raise bad_request("Gemini's chat answers have no audio; leave `audio` out.", "audio")
    dropped = [
        name
        for name in _DROPPED
        if (value := getattr(chat.google, name)) is not UNSET
        and not says_nothing(name, bytes(value))
    ]
    if chat.tools and chat.functions:
        dropped.append("functions")
    if chat.logit_bias:
        dropped.append("logit_bias")
    # Most current models refuse penalties altogether, and a chat without them is no worse.
    if chat.presence_penalty:
        dropped.append("presence_penalty")
    if chat.frequency_penalty:
        dropped.append("frequency_penalty")
    if chat.parallel_tool_calls is False:
        dropped.append("parallel_tool_calls")
    if chat.user:
        dropped.append("user")
    if chat.safety_identifier:
        dropped.append("safety_identifier")
    if chat.has_cache_marks():
        dropped.append("cache_control")
    return dropped + dropped_in_messages(chat)


def google_extras(chat: Chat) -> GoogleExtras:
    """Google's members, those inside `extra_body.google` before those beside `messages`."""
    google = chat.google
    inner = (google.extra_body and google.extra_body.google) or GoogleExtras()
    return GoogleExtras(
        inner.safety_settings or google.safety_settings,
        inner.generation_config or google.generation_config,
        inner.thinking_config or google.thinking_config,
        inner.cached_content or google.cached_content or None,
    )


def generation_config(
    chat: Chat, model: Model, extras: GoogleExtras, dropped: list[str]
) -> dict[str, Any]:
    """Gemini's `generationConfig`. Adds the parameters it leaves out to `dropped`.

    Google's own members in `extras` win over OpenAI's. Raises GatewayError 400 for values outside
    what Gemini takes.
    """
    config: dict[str, Any] = {}
    limit, at = chat.max_completion_tokens, "max_completion_tokens"
    if limit is None:
        limit, at = chat.max_tokens, "max_tokens"
    if limit is not None:
        limit = _within(limit, at, 1, 2**31 - 1) + _room_to_think(chat, model, limit)
        config["maxOutputTokens"] = LIMITS.within(model.path, limit)
    if chat.temperature is not None:
        config["temperature"] = _within(chat.temperature, "temperature", 0, 2)
    if chat.top_p is not None:
        config["topP"] = _within(chat.top_p, "top_p", 0, 1)
    if chat.top_k is not None:
        config["topK"] = _within(chat.top_k, "top_k", 1, 2**31 - 1)
    if chat.n is not None and _within(chat.n, "n", 1, 8) > 1:
        config["candidateCount"] = chat.n
    stop = chat.stops()
    if len(stop) > MOST_STOPS and not chat.cuts_stops:
        raise bad_request(f"Gemini takes at most {MOST_STOPS} stop sequences.", "stop")
    if 0 < len(stop) <= MOST_STOPS:
        config["stopSequences"] = stop
    if chat.seed is not None:
        # OpenAI's seed has 64 bits, Gemini's 32: equal seeds stay equal.
        config["seed"] = (chat.seed + 2**31) % 2**32 - 2**31
    if chat.logprobs:
        config["responseLogprobs"] = True
    if chat.top_logprobs is not None:
        if not chat.logprobs:
            raise bad_request("top_logprobs needs `logprobs: true`.", "top_logprobs")
        config["logprobs"] = min(_within(chat.top_logprobs, "top_logprobs", 0, 2**31), 20)
    _say_modalities(chat, config)
    _say_response_format(chat, config)
    _say_thinking(chat, model, extras, config, dropped)
    if extras.generation_config:
        given = _camel_keys(extras.generation_config)
        if "responseSchema" in given:
            config.pop("responseJsonSchema", None)
        thinking = given.get("thinkingConfig")
        if thinking is not None and bytes(thinking).startswith(b"{"):
            given["thinkingConfig"] = Raw(encode(_camel_keys(read_object(thinking))))
        config.update(given)
    if extras.thinking_config:
        config["thinkingConfig"] = _camel_keys(extras.thinking_config)
    return config


def _room_to_think(chat: Chat, model: Model, limit: int) -> int:
    """What a short answer needs more where thinking, though unwanted, cannot be switched off."""
    is_unwanted = chat.thoughts is not None and chat.reasoning_effort == "none"
    insists = model.thinks and (model.is_pro or model.generation >= (3, 0))
    return _ROOM_TO_THINK if is_unwanted and insists and limit < _ROOM_TO_THINK else 0


def _within(value: Any, name: str, low: float, high: float) -> Any:
    if not low <= value <= high:
        raise bad_request(f"{name} must be between {low} and {high}.", name)
    return value


def _say_modalities(chat: Chat, config: dict[str, Any]) -> None:
    wanted = [word.lower() for word in chat.modalities or []]
    for word in wanted:
        if word not in ("text", "image"):
            raise bad_request(
                f"Gemini's chat answers cannot be {word!r}; use text or image.", "modalities"
            )
    if "image" in wanted:
        config["responseModalities"] = [word.upper() for word in wanted]


def _say_response_format(chat: Chat, config: dict[str, Any]) -> None:
    wanted = chat.wanted
    if wanted is None or wanted.type == "text":
        return
    if wanted.type not in ("json_object", "json_schema"):
        raise bad_request("Use text, json_object or json_schema.", "response_format.type")
    config["responseMimeType"] = "application/json"
    if wanted.type == "json_object":
        return
    if wanted.json_schema is None:
        raise bad_request(
            "json_schema must be an object with a `schema`.", "response_format.json_schema"
        )
    if wanted.json_schema.schema is not None:
        config["responseJsonSchema"] = json_schema(wanted.json_schema.schema)


_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 8192}
_MOST_BUDGET, _MOST_BUDGET_PRO = 24576, 32768
_ROOM_TO_THINK = 2048


def _say_thinking(
    chat: Chat,
    model: Model,
    extras: GoogleExtras,
    config: dict[str, Any],
    dropped: list[str],
) -> None:
    effort, budget = chat.reasoning_effort, chat.thinking_budget
    if effort is None and budget is None:
        return
    if effort is not None and effort not in _EFFORTS:
        raise bad_request(f"Use one of {', '.join(_EFFORTS)}.", "reasoning_effort")
    if extras.thinking_config:
        return  # the caller's own setting wins
    if not model.thinks:
        if chat.thoughts is None or effort != "none":
            dropped.append("reasoning_effort")
        return
    thinking: dict[str, Any] = {}
    if model.generation >= (3, 0):
        if effort is not None:
            thinking["thinkingLevel"] = _level(effort, model)
    elif budget is not None:
        thinking["thinkingBudget"] = min(budget, _MOST_BUDGET_PRO if model.is_pro else _MOST_BUDGET)
    elif effort == "none":
        thinking["thinkingBudget"] = 128 if model.is_pro else 0  # 2.5 Pro cannot stop thinking
    else:
        thinking["thinkingBudget"] = _BUDGETS.get(effort or "", _MOST_BUDGET)
    if effort != "none" if chat.thoughts is None else chat.thoughts == "shown":
        thinking["includeThoughts"] = True
    if thinking:
        config["thinkingConfig"] = thinking


def _level(effort: str, model: Model) -> str:
    has_minimal = not model.is_pro and model.generation != (3, 7)
    match effort:
        case "none" | "minimal":
            return "MINIMAL" if has_minimal else "LOW"
        case "low":
            return "LOW"
        case "medium":
            return "HIGH" if model.is_pro and model.generation == (3, 0) else "MEDIUM"
        case _:
            return "HIGH"


def _camel_keys(given: Mapping[str, Raw]) -> dict[str, Raw]:
    """snake_case names as camelCase: Gemini refuses a member that is there in both."""
    return {
        re.sub(r"_([a-z])", lambda m: m[1].upper(), name): checked_utf8(v)
        for name, v in given.items()
    }
