"""The neutral chat request as an OpenAI chat body, for a host of this dialect.

Its words are OpenAI's already: what other families added to them is left out and named, members
that only the caller's own wire knew travel when that was OpenAI's. What providers/openai/repairs.py
can change in a written body is left to it.
Source: protocol sheet openai-compatible, section 7, its last paragraph.
"""

import re
from typing import Any

import msgspec
from msgspec import Raw

from app.wire.chat import ChatRequest, Message, Tool
from app.wire.dialect import Dialect
from app.wire.dropped import dropped_parameters
from app.wire.provider import Call

WIRE = "openai-chat"
# Words of other families in the neutral request, which OpenAI's API does not take.
_FOREIGN = ("top_k", "thinking")
# What DashScope and SiliconFlow take as thinking_budget.
_LEAST_BUDGET, _MOST_BUDGET = 128, 32768
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MOST_EXTRAS = 32
_SPECIAL = frozenset(
    ("messages", "tools", "model", "stream", "extras", "extras_wire", "cache_control", *_FOREIGN)
)


class _JSONSchema(msgspec.Struct):
    """What is read of `response_format.json_schema`."""

    schema: Raw = Raw(b"")


def encode_request(call: Call, dialect: Dialect) -> dict[str, Any]:
    """The members of the body. What is left out is named in `call.dropped`."""
    chat: ChatRequest = call.chat
    body: dict[str, Any] = {"model": call.model, "messages": [_message(m) for m in chat.messages]}
    if call.stream:
        body["stream"] = True
        body["stream_options"] = {**_sayable(chat.stream_options or {}), "include_usage": True}
    for name in ChatRequest.__struct_fields__:
        value = getattr(chat, name)
        if value is not None and name not in _SPECIAL and name not in body:
            body[name] = _sayable(value)
    if chat.tools is not None:
        body["tools"] = [_tool(tool) for tool in chat.tools]
    for function in body.get("functions", ()):
        function.pop("cache_control", None)
    if chat.extras_wire == WIRE:
        body |= {name: raw for name, raw in chat.extras.items() if name not in body}
    if not call.stream:
        body.pop("stream_options", None)
    left_out = _left_out(chat)
    if dialect.thinking != "reasoning_effort" and _switch_thinking(body, chat, dialect, left_out):
        left_out = [name for name in left_out if name != "thinking"]
    if dialect.force_tool == "any" and body.get("tool_choice") == "required":
        body["tool_choice"] = "any"
    elif dialect.force_tool == "no" and body.get("tool_choice") not in (None, "auto", "none"):
        del body["tool_choice"]
        left_out.append("tool_choice")
    if dialect.json_schema == "object":
        _say_schema(body, left_out)
    call.dropped += [name for name in left_out if name not in call.dropped]
    return body


def _switch_thinking(
    body: dict[str, Any], chat: ChatRequest, dialect: Dialect, left_out: list[str]
) -> bool:
    """Says whether to think as this dialect does. Returns whether `thinking` was said by it."""
    own, effort = chat.thinking, chat.reasoning_effort
    if own is None and effort is None:
        return False
    is_on = own.get("type") != "disabled" if own is not None else effort != "none"
    if dialect.thinking == "thinking":
        body["thinking"] = {"type": "enabled" if is_on else "disabled"}
        if not is_on:
            body.pop("reasoning_effort", None)
        return True
    body["enable_thinking"] = is_on
    if body.pop("reasoning_effort", "none") != "none":
        left_out.append("reasoning_effort")
    budget = own.get("budget_tokens") if own is not None else None
    if is_on and isinstance(budget, int):
        body["thinking_budget"] = min(max(budget, _LEAST_BUDGET), _MOST_BUDGET)
    return True


def _say_schema(body: dict[str, Any], left_out: list[str]) -> None:
    """A JSON schema where only `json_object` is known: in words, as the system's last line."""
    asked = body.get("response_format")
    if not isinstance(asked, dict) or bytes(asked.get("type") or b"") != b'"json_schema"':
        return
    body["response_format"] = {"type": "json_object"}
    left_out.append("response_format")
    line = "Answer with a JSON object, and nothing else."
    schema = _schema_of(asked.get("json_schema"))
    if schema:
        line = f"Answer with a JSON object that follows this JSON schema: {schema}"
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


def _left_out(chat: ChatRequest) -> list[str]:
    """The members that OpenAI's API does not take, and those of another wire."""
    names = dropped_parameters(chat, _FOREIGN)
    if chat.extras_wire != WIRE:
        # The names go into a response header: those of unusual characters are left out.
        extras = (name for name, raw in chat.extras.items() if bytes(raw) != b"null")
        names += [name for name in extras if _PLAIN_NAME.fullmatch(name)][:_MOST_EXTRAS]
    return names


def _message(message: Message) -> dict[str, Any]:
    """One message; its thinking stands as it came, and `thinking_back` says where it goes."""
    said: dict[str, Any] = _sayable(message)
    said.pop("cache_control", None)
    for call in said.get("tool_calls", ()):
        call.pop("extra_content", None)
    content = said.get("content")
    for part in content if isinstance(content, list) else ():
        part.pop("cache_control", None)
        if isinstance(part.get("image_url"), str):
            part["image_url"] = {"url": part["image_url"]}
    return said


def _tool(tool: Tool) -> dict[str, Any]:
    said: dict[str, Any] = _sayable(tool)
    said.pop("cache_control", None)
    said.get("function", {}).pop("cache_control", None)
    return said


def _sayable(value: Any) -> Any:
    """Structs as objects, without the members that nobody set."""
    if isinstance(value, msgspec.Struct):
        pairs = ((name, getattr(value, name)) for name in value.__struct_fields__)
        return {name: _sayable(each) for name, each in pairs if each is not None}
    if isinstance(value, list):
        return [_sayable(each) for each in value]
    return value
