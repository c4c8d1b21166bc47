"""The shapes of Anthropic's Messages API, both directions.

Source: Anthropic Messages API, version 2023-06-01, its SDK types and recorded traffic. What comes
in ignores unknown members and needs none of the known ones, for new fields turn up without notice.
What goes out leaves out every member that holds its default.
"""

from typing import Any

from msgspec import Raw, Struct

# --- the gateway's own member of an OpenAI body -------------------------------------------------


class ClaudeMember(Struct):
    """`claude` in the request body: which way to Claude, and which key."""

    type: str | None = None  # "api" (or absent) or "web"
    index: str | int | None = None


# --- request ------------------------------------------------------------------------------------


class Base64Source(Struct, tag_field="type", tag="base64"):
    """A file in base64."""

    media_type: str
    data: str


class UrlSource(Struct, tag_field="type", tag="url"):
    """A file that Anthropic fetches itself."""

    url: str


class TextSource(Struct, tag_field="type", tag="text"):
    """A document as plain text."""

    media_type: str
    data: str


Mark = dict[str, Any]  # {"type": "ephemeral", "ttl"?}: the prompt cache reaches up to this block


class TextBlock(Struct, tag_field="type", tag="text", omit_defaults=True):
    """A text."""

    text: str
    cache_control: Mark | None = None


class ImageBlock(Struct, tag_field="type", tag="image", omit_defaults=True):
    """An image."""

    source: Base64Source | UrlSource
    cache_control: Mark | None = None


class DocumentBlock(Struct, tag_field="type", tag="document", omit_defaults=True):
    """A PDF or a text document."""

    source: Base64Source | TextSource | UrlSource
    title: str | None = None
    cache_control: Mark | None = None


class ToolUseBlock(Struct, tag_field="type", tag="tool_use", omit_defaults=True):
    """A tool call of an earlier answer."""

    id: str
    name: str
    input: Raw  # the caller's own JSON text: numbers and escapes stay as they were
    cache_control: Mark | None = None


class ToolResultBlock(Struct, tag_field="type", tag="tool_result", omit_defaults=True):
    """The result of a tool call."""

    tool_use_id: str
    content: str | list[TextBlock | ImageBlock | DocumentBlock] | None = None
    cache_control: Mark | None = None
    is_error: bool = False


class ThinkingBlock(Struct, tag_field="type", tag="thinking"):
    """Thinking of an earlier answer, with the signature that proves it."""

    thinking: str
    signature: str


class RedactedThinkingBlock(Struct, tag_field="type", tag="redacted_thinking"):
    """Encrypted thinking of an earlier answer."""

    data: str


Block = (
    TextBlock
    | ImageBlock
    | DocumentBlock
    | ToolUseBlock
    | ToolResultBlock
    | ThinkingBlock
    | RedactedThinkingBlock
)


class MessageParam(Struct):
    """One message of a request; neighbours never share a role."""

    role: str
    content: list[Block]


class ToolDefinition(Struct, omit_defaults=True):
    """A tool that the model may call."""

    name: str
    input_schema: dict[str, Any]
    description: str | None = None
    strict: bool = False
    cache_control: Mark | None = None


class ToolChoice(Struct, omit_defaults=True):
    """Which tool the model must call."""

    type: str  # auto, any, tool or none
    name: str | None = None
    disable_parallel_tool_use: bool = False


class UserMetadata(Struct):
    """An opaque id of the end user."""

    user_id: str


class MessagesRequest(Struct, omit_defaults=True, kw_only=True):
    """The body of POST /v1/messages."""

    model: str
    max_tokens: int
    messages: list[MessageParam]
    system: str | list[TextBlock] | None = None
    stream: bool = False
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    tools: list[ToolDefinition] | None = None
    tool_choice: ToolChoice | None = None
    thinking: dict[str, Any] | None = None
    output_config: dict[str, Any] | None = None
    metadata: UserMetadata | None = None
    cache_control: Mark | None = None


# --- answer -------------------------------------------------------------------------------------


class UsageDetails(Struct):
    """What `output_tokens` includes."""

    thinking_tokens: int | None = None


class CacheWrites(Struct):
    """How long what was written into the cache is kept."""

    ephemeral_1h_input_tokens: int | None = None


class UsageCounts(Struct):
    """Cumulative wherever it stands. `input_tokens` leaves the cached ones out."""

    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation: CacheWrites | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None
    output_tokens_details: UsageDetails | None = None


class StopDetails(Struct):
    """Why the model refused."""

    explanation: str | None = None


class ContentBlock(Struct):
    """Any block of an answer; which members are set follows from `type`."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: Raw = Raw()  # empty: absent


class ErrorDetails(Struct):
    """The error in a refusal or a stream."""

    type: str | None = None
    message: str | None = None


class MessageAnswer(Struct):
    """The whole answer, the skeleton in `message_start`, and the error body alike."""

    type: str | None = None
    id: str | None = None
    model: str | None = None
    content: list[Raw] | None = None  # blocks; read one by one, for some may be unknown
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: StopDetails | None = None
    usage: UsageCounts | None = None
    error: ErrorDetails | None = None


class Delta(Struct):
    """The delta of a content block, or of the message."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: StopDetails | None = None


class StreamEvent(Struct):
    """Any event of a stream."""

    type: str = ""
    index: int = 0
    message: MessageAnswer | None = None
    content_block: ContentBlock | None = None
    delta: Delta | None = None
    usage: UsageCounts | None = None
    error: ErrorDetails | None = None


class Kind(Struct):
    """Only the name of something whose other members are not what we know."""

    type: str = ""


class EventKind(Struct):
    """Only the names in an event whose other members are not what we know."""

    type: str = ""
    delta: Kind | None = None
    content_block: Kind | None = None


class TextDelta(Struct, tag_field="type", tag="text_delta", gc=False):
    """More text."""

    text: str


class ThinkingDelta(Struct, tag_field="type", tag="thinking_delta", gc=False):
    """More thinking."""

    thinking: str


class ArgumentsDelta(Struct, tag_field="type", tag="input_json_delta", gc=False):
    """More of a tool call's arguments, as JSON text."""

    partial_json: str


class CommonDelta(Struct, tag_field="type", tag="content_block_delta", gc=False):
    """Nearly every event of a stream. Its own narrow type: decoding it is the hot path."""

    delta: TextDelta | ThinkingDelta | ArgumentsDelta
    index: int = 0


class TokenCount(Struct):
    """The answer of POST /v1/messages/count_tokens."""

    input_tokens: int


# --- models -------------------------------------------------------------------------------------


class ModelInfo(Struct):
    """One entry of the list of models; `created_at` is RFC 3339."""

    id: str = ""
    created_at: str | None = None


class ModelsAnswer(Struct):
    """A page of GET /v1/models."""

    data: list[ModelInfo] = []
    has_more: bool | None = None
    last_id: str | None = None
