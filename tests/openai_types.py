"""OpenAI's own response types, read strictly: nothing coerced, nothing unknown but our extensions.

`strictly(ChatCompletion, data)` fails for a wrong type, a missing member, and for any member that
neither OpenAI's types know nor EXTENSIONS lists. docs/api.md prints EXTENSIONS; a test compares.
"""

from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

# Where -> the members that may stand there beside OpenAI's own. Where: the path without numbers.
EXTENSIONS: dict[str, set[str]] = {
    "": {"claude", "gemini", "bing", "coze", "openai"},
    "choices[].delta": {"reasoning_content", "thinking_blocks"},
    "choices[].message": {"reasoning_content", "thinking_blocks"},
    "choices[].delta.tool_calls[]": {"extra_content"},
    "choices[].message.tool_calls[]": {"extra_content"},
}

T = TypeVar("T", bound=BaseModel)


def strictly(model: type[T], data: bytes | str | dict[str, Any]) -> T:
    raw = data if isinstance(data, bytes | str) else msgspec.json.encode(data)
    read = model.model_validate_json(raw, strict=True)
    for path, names in _unknown(read, ""):
        allowed = EXTENSIONS.get(path, set())
        assert names <= allowed, f"{model.__name__}: {path or 'top'} has {names - allowed}"
    return read


def completion(data: bytes | str | dict[str, Any]) -> ChatCompletion:
    return strictly(ChatCompletion, data)


def chunks_of(stream: bytes) -> list[ChatCompletionChunk]:
    """Every chunk of a whole event stream, which must end with [DONE] and hold nothing else."""
    *events, last = stream.removesuffix(b"\n\n").split(b"\n\n")
    assert last == b"data: [DONE]"
    told = [event for event in events if event != b": ping"]
    assert all(event.startswith(b"data: ") and b"\n" not in event for event in told)
    return [strictly(ChatCompletionChunk, event[6:]) for event in told]


def _unknown(value: Any, path: str) -> Iterator[tuple[str, set[str]]]:
    if isinstance(value, BaseModel):
        if value.model_extra:
            yield path, set(value.model_extra)
        for name in value.model_fields_set - set(value.model_extra or ()):
            yield from _unknown(getattr(value, name), f"{path}.{name}".lstrip("."))
    elif isinstance(value, list):
        for item in value:
            yield from _unknown(item, path + "[]")
