"""The neutral chat request as an OpenAI chat body.

Its words are OpenAI's already: what other families added to them is left out and named, members
that only the caller's own wire knew travel when that was OpenAI's. What this upstream is known to
refuse is left out, see `learned`; what can be changed in a written body is left to `repairs`.
Source: protocol sheet openai-compatible, section 7, its last paragraph.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Raw

from app.wire.chat import ChatRequest, Tool, plain
from app.wire.dialect import Dialect
from app.wire.dropped import dropped_parameters, says_nothing
from app.wire.provider import Call
from app.wire.strict_schema import is_strict
from app.wire.tool_names import ToolNames
from providers.openai.body_edits import switch_thinking
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
# Members of other wires of OpenAI that its chat knows by the same name.
_SHARED = ("verbosity",)
# An answer of a few tokens would be all thinking, and empty.
_ROOM_TO_THINK = 2048
JSON_ALONE = "Answer with a JSON object, and nothing else."
# What DashScope and SiliconFlow take as thinking_budget.
_LEAST_BUDGET, _MOST_BUDGET = 128, 32768


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


def room_to_think(call: Call, known: Learned, limit: int) -> int:
    """What a short answer needs more of a model that thinks although it shall not."""
    if call.chat.reasoning_effort != "none" or limit >= _ROOM_TO_THINK:
        return 0
    is_known_to = _ALWAYS_THINKS.match(call.model) or "none" in known.efforts
    return _ROOM_TO_THINK if is_known_to else 0


def tool_names(chat: ChatRequest) -> ToolNames:
    """How the request's functions are called here."""
    return ToolNames(tool.function.name for tool in chat.tools or () if tool.function is not None)


class _JSONSchema(msgspec.Struct):
    """What is read of `response_format.json_schema`."""

    schema: Raw = Raw(b"")


def encode_request(call: Call, address: str, dialect: Dialect) -> dict[str, Any]:
    """The members of the body for the upstream there. What is left out is named in
    `call.dropped`."""
    chat: ChatRequest = call.chat
    known, names = known_of(call, address), tool_names(chat)
    is_openai = urlsplit(address).hostname == "api.openai.com"  # it refuses members it knows not
    thinks_back = not is_openai and "reasoning_content" not in known.refused
    conversation = Conversation(
        names,
        call.learned or {},
        thinks_back=thinks_back,
        signs_back=thinks_back and dialect.thinking_back == "reasoning_details",
    )
    messages = conversation.read(chat.messages)
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
        if is_openai:
            body |= {name: raw for name, raw in chat.extras.items() if name in _SHARED}
    if not call.stream:
        body.pop("stream_options", None)
    left_out = [name for name in _left_out(chat) if name not in body]
    _speak(body, chat, dialect, left_out)
    drop(call, *left_out)
    return body


def _speak(body: dict[str, Any], chat: ChatRequest, dialect: Dialect, left_out: list[str]) -> None:
    """Says in the upstream's dialect what it has other words for."""
    if dialect.thinking != "reasoning_effort" and _switch_thinking(body, chat, dialect, left_out):
        left_out[:] = [name for name in left_out if name != "thinking"]
    if dialect.force_tool == "any" and body.get("tool_choice") == "required":
        body["tool_choice"] = "any"
    elif dialect.force_tool == "no" and body.get("tool_choice") not in (None, "auto", "none"):
        del body["tool_choice"]
        left_out.append("tool_choice")
    if dialect.json_schema == "object":
        _say_schema(body, left_out)


def _switch_thinking(
    body: dict[str, Any], chat: ChatRequest, dialect: Dialect, left_out: list[str]
) -> bool:
    """Says whether to think as this dialect does. Returns whether `thinking` was said by it."""
    own, effort = chat.thinking, chat.reasoning_effort
    if own is None and effort is None:
        return False
    is_on = own.get("type") != "disabled" if own is not None else effort != "none"
    switch_thinking(body, dialect, is_on)
    if dialect.thinking == "thinking":
        if not is_on:
            body.pop("reasoning_effort", None)
        return True
    if body.pop("reasoning_effort", "none") != "none":
        left_out.append("reasoning_effort")
    budget = own.get("budget_tokens") if own is not None else chat.thinking_budget
    if is_on and isinstance(budget, int) and budget > 0:
        body["thinking_budget"] = min(max(budget, _LEAST_BUDGET), _MOST_BUDGET)
    return True


def _say_schema(body: dict[str, Any], left_out: list[str]) -> None:
    """A JSON schema where only `json_object` is known: in words, as the system's last line."""
    asked = body.get("response_format")
    if not isinstance(asked, dict) or bytes(asked.get("type") or b"") != b'"json_schema"':
        return
    body["response_format"] = {"type": "json_object"}
    left_out.append("response_format")
    line = JSON_ALONE
    schema = _schema_of(asked.get("json_schema"))
    if schema:
        line = f"Answer with a JSON object that follows this JSON schema: {schema}"
    _add_to_system(body, line)


def must_name_json(chat: ChatRequest) -> bool:
    """Whether free JSON is asked for and nobody says the word, which OpenAI insists on."""
    asked = bytes((chat.response_format or {}).get("type") or b"")
    if asked != b'"json_object"' or chat.extras_wire == WIRE:
        return False
    return not any("json" in message.text().lower() for message in chat.messages)


def _add_to_system(body: dict[str, Any], line: str) -> None:
    first = body["messages"][0] if body["messages"] else {}
    if first.get("role") not in ("system", "developer"):
        body["messages"].insert(0, {"role": "system", "content": line})
    elif isinstance(first.get("content"), list):
        first["content"].append({"type": "text", "text": line})
    else:
        first["content"] = f"{first.get('content') or ''}\n\n{line}".strip()


def _schema_of(asked: Raw | None) -> str:
    """The schema as JSON text, as the caller wrote it; "" for none."""
    try:
        return bytes(msgspec.json.decode(asked or b"", type=_JSONSchema).schema).decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


# The members that are sent as they are, and their names in the body.
_SAID = tuple(
    (name, key.strip())
    for name, key in zip(
        ChatRequest.__struct_fields__, ChatRequest.__struct_encode_fields__, strict=True
    )
    if name not in _MADE_HERE and (key[0] != " " or name in ("prompt_cache_key", "service_tier"))
)


def drop(call: Call, *names: str) -> None:
    """Names what is left out, once."""
    call.dropped += [name for name in names if name not in call.dropped]


def _fit(call: Call, body: dict[str, Any], known: Learned) -> None:
    """Makes a translated body one that this upstream takes."""
    chat: ChatRequest = call.chat
    if body.get("temperature") == 1:
        del body["temperature"]  # the default, which reasoning models refuse to be told
    if must_name_json(chat):
        _add_to_system(body, JSON_ALONE)
    if chat.reasoning_effort is not None:
        body["reasoning_effort"] = effort = effort_of(call, known)
        if effort is None:
            del body["reasoning_effort"]
            if chat.reasoning_effort != "none":
                drop(call, "reasoning_effort")
    limit = body.get("max_completion_tokens")
    if limit is not None:
        limit += room_to_think(call, known, limit)
        limit = min(limit, known.most_tokens or limit)
        older = "max_completion_tokens" in known.refused
        body.pop("max_completion_tokens")
        body["max_tokens" if older else "max_completion_tokens"] = limit
    for name in known.refused - {"max_completion_tokens", "stop", "reasoning_effort"}:
        if body.pop(name, None) is not None and name in ("temperature", "top_p"):
            drop(call, name)
    if chat.messages and chat.messages[-1].role == "assistant":
        drop(call, "prefill")  # it is read, and not gone on with


def _left_out(chat: ChatRequest) -> list[str]:
    """The members that OpenAI's API does not take, and those of another wire."""
    names = dropped_parameters(chat, _FOREIGN)
    return names if chat.extras_wire == WIRE else names + extra_names(chat)


def extra_names(chat: ChatRequest) -> list[str]:
    """The names of what the front had no word for, fit for a header."""
    said = (name for name, raw in chat.extras.items() if not says_nothing(name, bytes(raw)))
    return [name for name in said if _PLAIN_NAME.fullmatch(name)][:_MOST_EXTRAS]


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
            drop(call, "tools.function.strict")
    return said


def _choice(choice: str | Mapping[str, Any], names: ToolNames) -> Any:
    match choice:
        case {"type": "function", "function": {"name": str(name)}}:
            return {"type": "function", "function": {"name": names.sent(name)}}
        case _:
            return choice
