"""The neutral chat request as an OpenAI chat body.

Its words are OpenAI's already: what other families added to them is left out and named, members
that only the caller's own wire knew travel when that was OpenAI's.
"""

from typing import Any

import msgspec

from app.wire.chat import ChatRequest, Message, Tool
from app.wire.provider import Call

WIRE = "openai-chat"
# Words of other families in the neutral request, which OpenAI's API does not take.
_FOREIGN = ("top_k", "thinking", "cache_control")
_SPECIAL = frozenset(("messages", "tools", "model", "stream", "extras", "extras_wire", *_FOREIGN))


def encode_request(call: Call) -> bytes:
    """The body, UTF-8 JSON. What is left out is named in `call.dropped`."""
    chat: ChatRequest = call.chat
    body: dict[str, Any] = {"model": call.model, "messages": [_message(m) for m in chat.messages]}
    if call.stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    for name in ChatRequest.__struct_fields__:
        value = getattr(chat, name)
        if value is not None and name not in _SPECIAL and name not in body:
            body[name] = _sayable(value)
    if chat.tools is not None:
        body["tools"] = [_tool(tool) for tool in chat.tools]
    if chat.extras_wire == WIRE:
        body |= {name: raw for name, raw in chat.extras.items() if name not in body}
    for name in _FOREIGN:
        if getattr(chat, name) is not None and name not in call.dropped:
            call.dropped.append(name)
    if not call.stream:
        body.pop("stream_options", None)
    return msgspec.json.encode(body)


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
