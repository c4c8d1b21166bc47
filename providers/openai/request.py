"""The neutral chat request as an OpenAI chat body.

Its words are OpenAI's already: what other families added to them is left out and named, members
that only the caller's own wire knew travel when that was OpenAI's.
"""

import re
from typing import Any

import msgspec

from app.wire.chat import ChatRequest, Message, Tool
from app.wire.dropped import dropped_parameters
from app.wire.provider import Call
from app.wire.upstream import Headers

WIRE = "openai-chat"
# Words of other families in the neutral request, which OpenAI's API does not take.
_FOREIGN = ("top_k", "thinking")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MOST_EXTRAS = 32
_SPECIAL = frozenset(
    ("messages", "tools", "model", "stream", "extras", "extras_wire", "cache_control", *_FOREIGN)
)


def json_kinds(call: Call) -> Headers:
    """The headers that say the type of a JSON body and of its answer."""
    return [
        ("Content-Type", "application/json"),
        ("Accept", "text/event-stream" if call.stream else "application/json"),
    ]


def encode_request(call: Call) -> bytes:
    """The body, UTF-8 JSON. What is left out is named in `call.dropped`."""
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
    call.dropped += [name for name in _left_out(chat) if name not in call.dropped]
    if not call.stream:
        body.pop("stream_options", None)
    return msgspec.json.encode(body)


def _left_out(chat: ChatRequest) -> list[str]:
    """The members that OpenAI's API does not take, and those of another wire."""
    names = dropped_parameters(chat, _FOREIGN)
    if chat.extras_wire != WIRE:
        # The names go into a response header: those of unusual characters are left out.
        extras = (name for name, raw in chat.extras.items() if bytes(raw) != b"null")
        names += [name for name in extras if _PLAIN_NAME.fullmatch(name)][:_MOST_EXTRAS]
    return names


def _message(message: Message) -> dict[str, Any]:
    """One message. Thoughts of other models and their signatures mean nothing here."""
    said: dict[str, Any] = _sayable(message)
    for name in ("reasoning_content", "thinking_blocks", "cache_control"):
        said.pop(name, None)
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
