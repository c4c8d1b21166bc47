"""The neutral messages as OpenAI's chat messages.

OpenAI's tool messages hold text only: a result's pictures and files are shown by the user behind
the last result of the turn. Protocol sheets: openai-api; front-messages, 4.2.
"""

import base64
from collections.abc import Mapping
from typing import Any

import msgspec

from app.wire.chat import Message, Part
from app.wire.media_types import HEAD_BYTES, media_type
from app.wire.signature_mark import START
from app.wire.tool_names import ToolNames

Fetched = Mapping[str, tuple[str, bytes]]  # url -> (mime type, content)
_SEE_BELOW = {"image_url": "[image: see below]", "file": "[file: see below]"}


class Conversation:
    """Converts the messages one by one. `thinks_back`: the upstream wants its thoughts back;
    `signs_back`: with their signatures."""

    def __init__(
        self, names: ToolNames, fetched: Fetched, *, thinks_back: bool, signs_back: bool = False
    ) -> None:
        self._names, self._fetched, self._thinks_back = names, fetched, thinks_back
        self._signs_back = signs_back
        self._media: list[Part] = []  # of the results since the last call

    def read(self, messages: list[Message]) -> list[dict[str, Any]]:
        """The messages as JSON objects."""
        out: list[dict[str, Any]] = []
        for message in messages:
            if message.role != "tool":
                self._show(out)
            out.append(self._result(message) if message.role == "tool" else self._said(message))
        self._show(out)
        return out

    def _show(self, out: list[dict[str, Any]]) -> None:
        if self._media:
            out.append({"role": "user", "content": [self._part(part) for part in self._media]})
            self._media = []

    def _said(self, message: Message) -> dict[str, Any]:
        """One message. Thoughts of other models and their signatures mean nothing here."""
        said: dict[str, Any] = sayable(message)
        said.pop("cache_control", None)
        blocks = said.pop("thinking_blocks", None)
        if self._signs_back and blocks:
            said["thinking_blocks"] = [block for block in blocks if not _is_marked(block)]
        if not self._thinks_back:
            said.pop("reasoning_content", None)
        for call in said.get("tool_calls", ()):
            call.pop("extra_content", None)
            function = call.get("function")
            if function is not None:
                function["name"] = self._names.sent(function["name"])
        if isinstance(message.content, list):
            said["content"] = [self._part(part) for part in message.content]
        return said

    def _result(self, message: Message) -> dict[str, Any]:
        media = [part for part in message.parts() if part.type in _SEE_BELOW]
        if not media and not message.is_error:
            return self._said(message)
        self._media += media
        texts = [message.result(), *(_SEE_BELOW[part.type] for part in media)]
        text = "\n".join(filter(None, texts))
        return {"role": "tool", "content": text, "tool_call_id": message.tool_call_id}

    def _part(self, part: Part) -> dict[str, Any]:
        said: dict[str, Any] = sayable(part)
        said.pop("cache_control", None)
        if isinstance(said.get("image_url"), str):
            said["image_url"] = {"url": said["image_url"]}
        if part.file is not None and part.file.url:
            told, content = self._fetched.get(part.file.url, ("", b""))
            kind = media_type(content[:HEAD_BYTES], told, part.file.url) or "application/pdf"
            data = base64.b64encode(content).decode()
            said["file"]["file_data"] = f"data:{kind};base64,{data}"
        return said


def _is_marked(block: dict[str, Any]) -> bool:
    """Whether the signature is the gateway's own mark, of another house's thought."""
    return str(block.get("signature")).startswith(START)


def urls_to_fetch(messages: list[Message]) -> list[str]:
    """The http(s) addresses of files, which OpenAI wants to be sent."""
    parts = [part for message in messages for part in message.parts()]
    return list(dict.fromkeys(part.file.url for part in parts if part.file and part.file.url))


def sayable(value: Any) -> Any:
    """Structs as objects, without the members that nobody set or that only the gateway knows."""
    if isinstance(value, msgspec.Struct):
        names = zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True)
        pairs = ((key, getattr(value, name)) for name, key in names if key[0] != " ")
        return {key: sayable(each) for key, each in pairs if each is not None}
    if isinstance(value, list):
        return [sayable(each) for each in value]
    return value
