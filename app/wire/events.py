"""What a decoder may say. Six words carry every chat; the rest is for awkward upstreams.

`index` is always the choice (0 unless the caller asked for several); `tool` counts the tool calls
of one choice from 0, whatever numbering the upstream has.
"""

from typing import Any

from msgspec import Struct

from app.wire.upstream import UpstreamRequest


class Started(Struct):
    """The upstream has begun to answer, as `id` and with `model`."""

    id: str
    model: str


class TopLogprob(Struct):
    """One of the likeliest tokens at a place, with its natural logarithm of probability."""

    token: str
    logprob: float
    bytes: list[int] | None = None


class TokenLogprob(Struct):
    """A token of the answer, and which others were likely in its place."""

    token: str
    logprob: float
    bytes: list[int] | None = None
    top_logprobs: list[TopLogprob] = []


class Text(Struct):
    """A piece of the answer's text."""

    text: str
    index: int = 0
    logprobs: list[TokenLogprob] | None = None


class Reasoning(Struct):
    """A piece of the model's thinking; becomes `reasoning_content`."""

    text: str
    index: int = 0


class Thought(Struct):
    """A thought is whole: what must come back with the next turn, so that the model thinks on.

    `text` is all of it, told before as Reasoning. `redacted` is a thought that nobody may read.
    """

    text: str = ""
    signature: str | None = None
    redacted: str | None = None
    index: int = 0


class Refusal(Struct):
    """A piece of the model's own words for not answering."""

    text: str
    index: int = 0


class ToolCall(Struct):
    """A tool call begins; `arguments` may already hold all of its JSON text."""

    id: str
    name: str
    arguments: str = ""
    tool: int = 0
    index: int = 0
    signature: str | None = None  # of the thought before it; must come back with the call


class ToolArguments(Struct):
    """The next piece of the JSON text of a tool call's arguments."""

    arguments: str
    tool: int = 0
    index: int = 0


class Extension(Struct):
    """An upstream's own members of an answer that have no word here, e.g. citations.

    In a folded message lists are appended to, everything else is replaced.
    """

    fields: dict[str, Any]
    index: int = 0


class Finish(Struct):
    """Why a choice ended: stop, length, tool_calls or content_filter; once per choice.

    `native` is the upstream's own word. `stop_sequence` is the one that ended the answer.
    """

    reason: str
    index: int = 0
    native: str = ""
    stop_sequence: str | None = None


class Usage(Struct):
    """Token counts; the last one said holds.

    `prompt_tokens` includes `cached_tokens`, `cache_write_tokens` and `audio_tokens`;
    `completion_tokens` includes `reasoning_tokens` and `completion_audio_tokens`.
    `cache_write_tokens` includes `cache_write_1h_tokens`, those written to be kept for an hour.
    `cost` is what the upstream itself says that the answer costs, in nano-USD (1e-9 USD);
    None where it says nothing. `is_estimated`: the decoder's guess, of an upstream that does not
    count.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int | None = None  # None: the sum
    cached_tokens: int = 0
    cache_write_tokens: int | None = None
    reasoning_tokens: int = 0
    cache_write_1h_tokens: int = 0
    audio_tokens: int = 0
    completion_audio_tokens: int = 0
    cost: int | None = None
    is_estimated: bool = False


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
    | Thought
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
