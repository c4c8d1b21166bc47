"""The neutral chat request as an OpenAI chat body.

Its words are OpenAI's already: what other families added to them is left out and named, members
that only the caller's own wire knew travel when that was OpenAI's. What this upstream is known to
refuse is left out, see `learned`.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from app.wire.chat import ChatRequest, Tool, plain
from app.wire.dropped import dropped_parameters
from app.wire.provider import Call
from app.wire.strict_schema import is_strict
from app.wire.tool_names import ToolNames
from providers.openai.learned import Learned, learned_of
from providers.openai.messages import Conversation, sayable

WIRE = "openai-chat"
# Words of other families in the neutral request, which OpenAI's API does not take.
_FOREIGN = ("top_k", "thinking")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MOST_EXTRAS = 32
_MADE_HERE = frozenset(
    ("messages", "tools", "tool_choice", "model", "stream", "cache_control", "stop", *_FOREIGN)
)
# Reasoning models: they cannot be told to stop, and from 5.1 on to leave the thinking out.
_REASONS = re.compile(r"(?:.*/)?(?:o\d|gpt-(?:[5-9]|\d\d))(?![a-z])")
_ALWAYS_THINKS = re.compile(r"(?:.*/)?(?:o\d|gpt-5(?!\.\d))")
_MOST_STOPS = 4
# An answer of a few tokens would be all thinking, and empty.
_ROOM_TO_THINK = 2048


def known_of(call: Call, address: str) -> Learned:
    """What this call's model at this address is known to refuse."""
    return learned_of(address, call.model)


def stops(call: Call, known: Learned) -> bool:
    """Whether the upstream is told the stop sequences."""
    chat: ChatRequest = call.chat
    if not chat.cuts_stops:
        return True
    refuses = _REASONS.match(call.model) or "stop" in known.refused
    return len(chat.stops()) <= _MOST_STOPS and not refuses


def effort_of(call: Call, known: Learned) -> str | None:
    """The reasoning_effort that is sent."""
    said = call.chat.reasoning_effort
    return None if said is None else known.effort(said)


def tool_names(chat: ChatRequest) -> ToolNames:
    """How the request's functions are called here."""
    return ToolNames(tool.function.name for tool in chat.tools or () if tool.function is not None)


def encode_request(call: Call, address: str) -> bytes:
    """The body, UTF-8 JSON, for the upstream there. What is left out is named in `call.dropped`."""
    chat: ChatRequest = call.chat
    known, names = known_of(call, address), tool_names(chat)
    is_openai = urlsplit(address).hostname == "api.openai.com"  # it refuses members it knows not
    thinks_back = not is_openai and "reasoning_content" not in known.refused
    messages = Conversation(names, call.learned or {}, thinks_back=thinks_back).read(chat.messages)
    body: dict[str, Any] = {"model": call.model, "messages": messages}
    if call.stream:
        body["stream"] = True
        body["stream_options"] = {**sayable(chat.stream_options or {}), "include_usage": True}
    for name, key in _SAID:
        value = getattr(chat, name)
        if value is not None and key not in body:
            body[key] = sayable(value)
    if chat.stop is not None and stops(call, known):
        body["stop"] = chat.stop
    if chat.tools is not None:
        body["tools"] = [_tool(call, tool, names) for tool in chat.tools]
    if chat.tool_choice is not None:
        body["tool_choice"] = _choice(chat.tool_choice, names)
    for function in body.get("functions", ()):
        function.pop("cache_control", None)
    if chat.extras_wire == WIRE:
        body |= {name: raw for name, raw in chat.extras.items() if name not in body}
    else:
        _fit(call, body, known)
    _drop(call, *_left_out(chat))
    if not call.stream:
        body.pop("stream_options", None)
    return msgspec.json.encode(body)


# The members that are sent as they are, and their names in the body.
_SAID = tuple(
    (name, key.strip())
    for name, key in zip(
        ChatRequest.__struct_fields__, ChatRequest.__struct_encode_fields__, strict=True
    )
    if name not in _MADE_HERE and (key[0] != " " or name in ("prompt_cache_key", "service_tier"))
)


def _drop(call: Call, *names: str) -> None:
    call.dropped += [name for name in names if name not in call.dropped]


def _fit(call: Call, body: dict[str, Any], known: Learned) -> None:
    """Makes a translated body one that this upstream takes."""
    chat: ChatRequest = call.chat
    if body.get("temperature") == 1:
        del body["temperature"]  # the default, which reasoning models refuse to be told
    if chat.reasoning_effort is not None:
        body["reasoning_effort"] = effort = effort_of(call, known)
        if effort is None:
            del body["reasoning_effort"]
            if chat.reasoning_effort != "none":
                _drop(call, "reasoning_effort")
    limit = body.get("max_completion_tokens")
    if limit is not None:
        if chat.reasoning_effort == "none" and _ALWAYS_THINKS.match(call.model):
            limit += _ROOM_TO_THINK if limit < _ROOM_TO_THINK else 0
        limit = min(limit, known.most_tokens or limit)
        older = "max_completion_tokens" in known.refused
        body.pop("max_completion_tokens")
        body["max_tokens" if older else "max_completion_tokens"] = limit
    for name in known.refused - {"max_completion_tokens", "stop", "reasoning_effort"}:
        if body.pop(name, None) is not None and name in ("temperature", "top_p"):
            _drop(call, name)
    if chat.messages and chat.messages[-1].role == "assistant":
        _drop(call, "prefill")  # it is read, and not gone on with


def _left_out(chat: ChatRequest) -> list[str]:
    """The members that OpenAI's API does not take, and those of another wire."""
    names = dropped_parameters(chat, _FOREIGN)
    if chat.extras_wire != WIRE:
        # The names go into a response header: those of unusual characters are left out.
        extras = (name for name, raw in chat.extras.items() if bytes(raw) != b"null")
        names += [name for name in extras if _PLAIN_NAME.fullmatch(name)][:_MOST_EXTRAS]
    return names


def _tool(call: Call, tool: Tool, names: ToolNames) -> dict[str, Any]:
    said: dict[str, Any] = sayable(tool)
    said.pop("cache_control", None)
    function = said.get("function")
    if function is not None:
        function.pop("cache_control", None)
        function["name"] = names.sent(function["name"])
        is_foreign = call.chat.extras_wire != WIRE
        if is_foreign and function.get("strict") and not is_strict(plain(function["parameters"])):
            del function["strict"]
            _drop(call, "tools.function.strict")
    return said


def _choice(choice: str | Mapping[str, Any], names: ToolNames) -> Any:
    match choice:
        case {"type": "function", "function": {"name": str(name)}}:
            return {"type": "function", "function": {"name": names.sent(name)}}
        case _:
            return choice
