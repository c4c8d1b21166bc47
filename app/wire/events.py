"""What a decoder may say. Six words carry every chat; the rest is for awkward upstreams.

`index` is always the choice (0 unless the caller asked for several); `tool` counts the tool calls
of one choice from 0, whatever numbering the upstream has.
"""

from typing import Any

from msgspec import Raw, Struct

from app.wire.upstream import UpstreamRequest


class Started(Struct):
    """The upstream has begun to answer. `id` and `model` are used in every chunk.

    `legacy_functions`: the caller asked with `functions`, so the first tool call is told as
    `function_call` (delta and message alike) and not as `tool_calls`.
    """

    id: str
    model: str
    legacy_functions: bool = False


class Text(Struct):
    text: str
    index: int = 0
    logprobs: Any = None  # OpenAI's {"content": [...], "refusal": ...}, or None


class Reasoning(Struct):
    """A piece of the model's thinking; becomes `reasoning_content`."""

    text: str
    index: int = 0


class Refusal(Struct):
    text: str
    index: int = 0


class ToolCall(Struct):
    """A tool call begins; `arguments` may already hold all of its JSON text."""

    id: str
    name: str
    arguments: str = ""
    tool: int = 0
    index: int = 0
    extra_content: Any = None  # vendor data that must come back with the call, e.g. signatures


class ToolArguments(Struct):
    """The next piece of the JSON text of a tool call's arguments."""

    arguments: str
    tool: int = 0
    index: int = 0


class Extension(Struct):
    """Documented non-OpenAI members to merge into the delta or the message, e.g. signatures.

    In a folded message lists are appended to, everything else is replaced.
    """

    fields: dict[str, Any]
    index: int = 0


class Finish(Struct):
    """stop, length, tool_calls, content_filter or function_call; once per choice."""

    reason: str
    index: int = 0


class Usage(Struct):
    """Token counts; the last one said holds. `raw` is an OpenAI-shaped object to use as it is."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int | None = None  # None: the sum
    cached_tokens: int = 0
    cache_write_tokens: int | None = None
    reasoning_tokens: int = 0
    raw: Raw | None = None


class Session(Struct):
    """Conversation state for the caller's next turn, merged into the provider's own object."""

    fields: dict[str, Any]


class Follow(Struct):
    """The answer goes on elsewhere: the exchange opens this request and reads on from it."""

    request: UpstreamRequest


class Reply(Struct):
    """The upstream wants an answer back on the same websocket."""

    data: str | bytes


class End(Struct):
    """The answer is whole though the connection stays open: the exchange reads no further."""


class Piece(Struct):
    """Bytes of the upstream's own stream, for a caller who asked for just that."""

    data: bytes


class Unknown(Struct):
    """An event type this gateway does not know; counted, never fatal."""

    name: str


Event = (
    Started
    | Text
    | Reasoning
    | Refusal
    | ToolCall
    | ToolArguments
    | Extension
    | Finish
    | Usage
    | Session
    | Follow
    | Reply
    | End
    | Piece
    | Unknown
)
