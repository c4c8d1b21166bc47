"""What a Messages body holds, as far as other upstreams can be told of it.

Members that are not here are skipped at every depth: callers are ahead of the published types.
Protocol sheet: front-messages.
"""

from typing import Any

from msgspec import Raw, Struct


class Source(Struct):
    """Where an image or a document is: base64, url, text, content or file by `type`."""

    type: str = ""
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    content: "str | list[Block] | None" = None


class Block(Struct):
    """Any content block; which members are set follows from `type`."""

    type: str
    text: str | None = None
    source: Source | str | None = None  # a search result's is its address
    title: str | None = None
    context: str | None = None
    url: str | None = None
    citations: Any = None
    id: str | None = None
    name: str | None = None
    input: Raw = Raw(b"")
    tool_use_id: str | None = None
    content: "str | list[Block] | dict[str, Any] | None" = None
    is_error: bool | None = None
    thinking: str | None = None
    signature: str | None = None
    tool_name: str | None = None
    tool: dict[str, Raw] | None = None  # of tool_addition and tool_removal


class Format(Struct):
    """The shape of the answer: `type` is json_schema."""

    type: str = ""
    schema: dict[str, Raw] | None = None


class OutputConfig(Struct):
    """How hard the model tries, and the shape of its answer."""

    effort: str | None = None
    format: Format | None = None
    task_budget: Any = None


class Message(Struct):
    """One message; `role` is user, assistant or system."""

    role: str
    content: str | list[Block] | None = None
    output_config: OutputConfig | None = None


class Thinking(Struct):
    """`type` is disabled, adaptive, between_tools or enabled."""

    type: str = ""
    budget_tokens: int | None = None
    display: str | None = None


class Tool(Struct):
    """A tool: the caller's own without `type` or with `custom`, else one of Anthropic's."""

    type: str | None = None
    name: str = ""
    description: str | None = None
    input_schema: dict[str, Raw] | None = None
    strict: bool | None = None
    defer_loading: bool | None = None
    input_examples: list[Raw] | None = None
    allowed_callers: list[str] | None = None


class ToolChoice(Struct):
    """`type` is auto, any, tool (then with `name`) or none."""

    type: str = ""
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Body(Struct, kw_only=True):
    """The body of POST /v1/messages. Those typed `Any` are only looked at for being there."""

    messages: list[Message]
    model: str | None = None
    max_tokens: int | None = None
    system: str | list[Block] | None = None
    stream: bool | None = None
    stop_sequences: list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: Format | None = None  # the older spelling of output_config.format
    service_tier: str | None = None
    inference_geo: str | None = None
    container: Any = None
    mcp_servers: Any = None
    thread: Any = None
    compaction: Any = None
    metadata: Any = None
    cache_control: Any = None
