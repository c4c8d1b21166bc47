"""A Messages body on its way to Anthropic, byte for byte but for what only the gateway understands.

The gateway's own members, the name of the model where the caller's is an alias, and thinking blocks
that Anthropic has not signed: it would refuse the conversation for good. Each is looked for in the
bytes, so the usual body is never taken apart. Protocol sheet: front-messages, 3.
"""

import re
from typing import Any

import msgspec
from msgspec import Raw, Struct

from app.wire.asked import UNREADABLE, Asked, as_bad_request
from app.wire.chat import read_members
from app.wire.signature_mark import START

_FOREIGN = re.compile(rb'"%b|"signature"\s*:\s*""' % START.encode())


class _Thought(Struct):
    """What tells a thinking block of Anthropic's from another."""

    type: str = ""
    signature: str | None = None
    data: str | None = None


_thought = msgspec.json.Decoder(_Thought)
_messages = msgspec.json.Decoder(list[dict[str, Raw]])
_content = msgspec.json.Decoder(list[Raw] | str | None)


def read_native(asked: Asked) -> bytes:
    """The caller's bytes without the gateway's own members and without foreign thoughts."""
    body = asked.body
    has_foreign = _FOREIGN.search(body)
    if not asked.own_names and not has_foreign:
        return body
    members = read_members(body)
    for name in asked.own_names:
        members.pop(name, None)
    if has_foreign and "messages" in members:
        try:
            kept = _without_foreign(_messages.decode(members["messages"]))
        except UNREADABLE as error:
            raise as_bad_request(error, body) from None
        members["messages"] = Raw(msgspec.json.encode(kept))
    return msgspec.json.encode(members)


def _without_foreign(messages: list[dict[str, Raw]]) -> list[dict[str, Any]]:
    kept: list[dict[str, Any]] = []
    for message in messages:
        content = _content.decode(message.get("content", b"null"))
        if isinstance(content, list):
            blocks = [block for block in content if not _is_foreign(block)]
            if content and not blocks:
                continue
            if len(blocks) < len(content):
                message = {**message, "content": Raw(msgspec.json.encode(blocks))}
        kept.append(message)
    return kept


def _is_foreign(block: Raw) -> bool:
    try:
        said = _thought.decode(block)
    except UNREADABLE:
        return False  # Anthropic will say what is wrong with it
    if said.type == "redacted_thinking":
        return (said.data or "").startswith(START)
    return said.type == "thinking" and (not said.signature or said.signature.startswith(START))
