"""What is changed in a chat body for an upstream that would refuse it as it is.

Each edit works on the body's top-level members and tells whether it changed them. Members are plain
values or `Raw`, as they came; of those only `messages` is ever decoded.
Source: protocol sheet openai-compatible, sections 5.5 and 6.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import blake2b
from itertools import pairwise
from typing import Any

import msgspec
from msgspec import Raw

from app.wire.dialect import Dialect

Body = dict[str, Any]
Edit = Callable[[Body, Dialect], bool]

# Where an earlier turn may hold its thinking.
THINKING = ("reasoning_content", "reasoning", "reasoning_details", "thinking_blocks")
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_NINE = re.compile(r"[A-Za-z0-9]{9}").fullmatch


def without(name: str) -> Edit:
    """The edit that takes a top-level member out."""
    return lambda body, dialect: body.pop(name, None) is not None


def numbers_for_base64(body: Body, dialect: Dialect) -> bool:
    """Embeddings are asked for as numbers: the front makes base64 of them."""
    name = "encoding_format"
    if name not in body or bytes(body[name]) != b'"base64"':
        return False
    body[name] = Raw(b'"float"')
    return True


def without_reasoning_items(body: Body, dialect: Dialect) -> bool:
    """A Responses body without the thoughts of earlier turns."""
    items = body["input"]
    body["input"] = [item for item in items if item["type"] != "reasoning"]
    return len(body["input"]) < len(items)


def without_summaries(body: Body, dialect: Dialect) -> bool:
    """A Responses body that does not ask to be told the thoughts."""
    return _without_inner(body, "reasoning", "summary")


def without_verbosity(body: Body, dialect: Dialect) -> bool:
    """A Responses body that does not say how wordy the answer is to be."""
    return _without_inner(body, "text", "verbosity")


def _without_inner(body: Body, name: str, inner: str) -> bool:
    held = body.get(name)
    if not isinstance(held, dict) or inner not in held:
        return False
    body[name] = {key: value for key, value in held.items() if key != inner}
    if not body[name]:
        del body[name]
    return True


def renamed(old: str, new: str) -> Edit:
    """The edit that renames a member; where the new name is taken, the old one goes."""

    def edit(body: Body, dialect: Dialect) -> bool:
        if old not in body:
            return False
        value = body.pop(old)
        body.setdefault(new, value)
        return True

    return edit


def developer_as_system(body: Body, dialect: Dialect) -> bool:
    """Messages of the role `developer` become `system`."""
    found = [message for message in _messages(body) if message.get("role") == "developer"]
    for message in found:
        message["role"] = "system"
    return bool(found)


def without_names(body: Body, dialect: Dialect) -> bool:
    """The members `name` of messages go."""
    found = [message.pop("name") for message in _messages(body) if "name" in message]
    return bool(found)


def thinking_returned(body: Body, dialect: Dialect) -> bool:
    """Earlier thinking stands where the dialect's `thinking_back` says, whatever it came as."""
    return _return_thinking(body, dialect.thinking_back)


def without_thinking(body: Body, dialect: Dialect) -> bool:
    """Earlier thinking goes."""
    return _return_thinking(body, "none")


def _return_thinking(body: Body, where: str) -> bool:
    is_changed = False
    for message in _messages(body):
        held = {name: message[name] for name in THINKING if message.get(name)}
        if message.get("role") != "assistant" or not held:
            continue
        before = dict(message)
        for name in THINKING:
            message.pop(name, None)
        text = _thinking_text(held)
        if where in ("reasoning_content", "reasoning", "reasoning_details") and text:
            message["reasoning_content" if where == "reasoning_content" else "reasoning"] = text
        if where == "reasoning_details" and (details := _details(held)):
            message["reasoning_details"] = details
        if where == "part" and text:
            thinking = {"type": "thinking", "thinking": [{"type": "text", "text": text}]}
            message["content"] = [thinking, *_parts(message.get("content"))]
        is_changed = is_changed or message != before
    return is_changed


def _thinking_text(held: dict[str, Any]) -> str:
    for name in ("reasoning_content", "reasoning"):
        if isinstance(held.get(name), str):
            return str(held[name])
    texts = [block.get("thinking") for block in _objects(held.get("thinking_blocks"))]
    texts += [] if texts else [entry.get("text") for entry in _objects(held.get(THINKING[2]))]
    return "".join(text for text in texts if isinstance(text, str))


def _details(held: dict[str, Any]) -> list[dict[str, Any]]:
    """OpenRouter's entries: its own verbatim, else those that signed thoughts of Claude make."""
    own = _objects(held.get("reasoning_details"))
    if own:
        return own
    made: list[dict[str, Any]] = []
    for block in _objects(held.get("thinking_blocks")):
        entry: dict[str, Any] = {"format": "anthropic-claude-v1", "index": len(made)}
        if block.get("type") == "redacted_thinking":
            made.append({"type": "reasoning.encrypted", "data": block.get("data"), **entry})
        elif block.get("signature"):
            text, signature = block.get("thinking"), block["signature"]
            made.append({"type": "reasoning.text", "text": text, "signature": signature, **entry})
    return made


def nine_character_ids(body: Body, dialect: Dialect) -> bool:
    """Ids of tool calls become nine letters and digits, the same in calls and results."""
    is_changed = False
    for message in _messages(body):
        for holder, name in (
            (message, "tool_call_id"),
            *((call, "id") for call in _objects(message.get("tool_calls"))),
        ):
            known = holder.get(name)
            if isinstance(known, str) and not _NINE(known):
                holder[name] = _nine(known)
                is_changed = True
    return is_changed


def _nine(id: str) -> str:
    number = int.from_bytes(blake2b(id.encode("utf-8", "replace")).digest(), "big")
    digits = ""
    for _ in range(9):
        number, digit = divmod(number, len(_DIGITS))
        digits += _DIGITS[digit]
    return digits


def answered_tools(body: Body, dialect: Dialect) -> bool:
    """The model says a word between the results of tools and what the user says then."""
    messages = _messages(body)
    roles = [each.get("role") for each in messages]
    places = [at for at, pair in enumerate(pairwise(roles), 1) if pair == ("tool", "user")]
    for at in reversed(places):
        messages.insert(at, {"role": "assistant", "content": "OK."})
    if places:
        body["messages"] = messages
    return bool(places)


def alternating_turns(body: Body, dialect: Dialect) -> bool:
    """What one says in several messages stands in one; calls of tools stay for themselves."""
    messages, joined = _messages(body), list[dict[str, Any]]()
    for message in messages:
        last = joined[-1] if joined else {}
        is_neighbour = message.get("role") == last.get("role") in ("user", "assistant")
        if is_neighbour and not last.get("tool_calls") and not message.get("tool_calls"):
            last["content"] = _together(last.get("content"), message.get("content"))
        else:
            joined.append(message)
    is_changed = len(joined) < len(messages)
    if is_changed:
        body["messages"] = joined
    return is_changed


def _together(one: Any, other: Any) -> Any:
    if isinstance(one, list) or isinstance(other, list):
        return [*_parts(one), *_parts(other)]
    return "\n\n".join(filter(None, (one, other)))


def thinking_off(body: Body, dialect: Dialect) -> bool:
    """The model is told not to think, where the dialect has a switch for that."""
    if dialect.thinking == "reasoning_effort":
        return False
    before = body.get(dialect.thinking)
    switch_thinking(body, dialect, False)
    body.pop("reasoning_effort", None)
    body.pop("thinking_budget", None)
    return bool(body[dialect.thinking] != before)


def switch_thinking(body: Body, dialect: Dialect, is_on: bool) -> None:
    """Says whether to think by the switch of a dialect that has one."""
    if dialect.thinking == "thinking":
        body["thinking"] = {"type": "enabled" if is_on else "disabled"}
    else:
        body["enable_thinking"] = is_on


def content_as_text(body: Body, dialect: Dialect) -> bool:
    """Lists of text parts become one text; a list with anything else stays as it is."""
    is_changed = False
    for message in _messages(body):
        parts = message.get("content")
        if not isinstance(parts, list):
            continue
        texts = [part.get("text") for part in _objects(parts) if part.get("type") == "text"]
        if len(texts) == len(parts) and all(isinstance(text, str) for text in texts):
            message["content"] = "\n".join(map(str, texts))
            is_changed = True
    return is_changed


def _messages(body: Body) -> list[dict[str, Any]]:
    """The body's messages to be changed in place; [] for what is no list."""
    held = body.get("messages")
    if isinstance(held, Raw):
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            held = body["messages"] = msgspec.json.decode(held)
    return _objects(held)


def _objects(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _parts(content: Any) -> Iterator[Any]:
    if isinstance(content, list):
        yield from content
    elif content:
        yield {"type": "text", "text": content}
