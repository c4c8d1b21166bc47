"""Takes the usage out of a stream of OpenAI's whose caller did not ask for it.

`stream_options.include_usage` adds a chunk without choices before `[DONE]`, and `"usage":null` to
every other chunk. Source: OpenAI's reference, Chat Completions, `stream_options`.
"""

import re
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Struct

# As a body has it: a quote inside a text would be escaped.
_NULL = b',"usage":null'
_EVENT = re.compile(rb".*?(?:\n\n|\r\n\r\n)", re.DOTALL).findall
_MOST_HELD = 256 * 1024  # of an event without an end: no usage is as long

ASKED = b'"stream_options":{"include_usage":true},'


class _Extra(Struct):
    """What the chunk has that is sent when usage was asked for."""

    choices: list[Any]
    usage: dict[str, Any]


_extra = msgspec.json.Decoder(_Extra)


def asking(body: bytes) -> bytes:
    """A JSON object with `stream_options` as its first member, which it must not have yet."""
    at = body.index(b"{") + 1
    return b"".join((body[:at], ASKED, body[at:]))


def without_usage(events: bytes) -> bytes:
    """Whole events but for the chunk that holds nothing but usage."""
    kept = []
    for event in _EVENT(events):
        line = event.strip()
        if b'"usage"' in line and line.startswith(b"data:"):
            with suppress(msgspec.DecodeError, ValueError):
                if not _extra.decode(line[5:]).choices:
                    continue
        kept.append(event)
    return b"".join(kept)


class UsageCutter:
    """A stream piece by piece, as its caller would have got it without asking for usage."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What may be sent on; the start of an event waits for its end."""
        data = self._held + data if self._held else data
        end = max(data.rfind(b"\n\n") + 2, data.rfind(b"\r\n\r\n") + 4)
        if end < 4:
            end = len(data) if len(data) > _MOST_HELD else 0
        self._held = data[end:]
        whole = data[:end]
        if b'"usage"' not in whole:
            return whole
        whole = whole.replace(_NULL, b"")
        return without_usage(whole) if b'"usage"' in whole else whole

    def finish(self) -> bytes:
        """What is left when the stream has ended."""
        rest, self._held = self._held, b""
        return rest
