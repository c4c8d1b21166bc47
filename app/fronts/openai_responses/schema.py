"""What a Responses body holds, as far as other upstreams can be told of it.

Members that are not here are skipped at every depth: Codex sends some that no SDK lists. What has a
shape for each type of item stays `Raw` until the type is known. Protocol sheet: front-responses, 3.
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from app.wire.asked import UNREADABLE
from app.wire.chat import InputAudio, not_json
from app.wire.errors import from_validation

NONE = Raw(b"")


class Part(Struct):
    """A content part, or a part of a reasoning item's summary."""

    type: str = ""
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None
    detail: str | None = None
    file_id: str | None = None
    file_data: str | None = None
    file_url: str | None = None
    filename: str | None = None
    input_audio: InputAudio | None = None


class Tool(Struct):
    """Any tool; which members are set follows from `type`."""

    type: str
    name: str | None = None
    description: str | None = None
    parameters: dict[str, Raw] | None = None
    strict: bool | None = None
    defer_loading: bool | None = None
    format: "Format | None" = None  # of a custom tool's input
    tools: "list[Tool] | None" = None  # of a namespace
    execution: str | None = None  # of tool_search: client or server
    environment: dict[str, Any] | None = None  # of a shell


class Format(Struct):
    """The shape of an answer, or of a custom tool's input."""

    type: str = "text"
    name: str | None = None
    description: str | None = None
    schema: dict[str, Raw] | None = None
    strict: bool | None = None
    syntax: str | None = None
    definition: str | None = None


class Reasoning(Struct):
    """How the model is to think."""

    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None
    mode: str | None = None
    context: str | None = None


class Text(Struct):
    """What the answer's text is to be like."""

    format: Format | None = None
    verbosity: str | None = None


class Item(Struct):
    """An input item; which members are set follows from `type`, "" being a message."""

    type: str | None = None
    id: str | None = None
    role: str | None = None
    content: Raw = NONE
    summary: Raw = NONE
    encrypted_content: str | None = None
    call_id: str | None = None
    name: str | None = None
    namespace: str | None = None
    arguments: Raw = NONE  # JSON text; a tool search's are an object
    input: Raw = NONE
    output: Raw = NONE
    outputs: Raw = NONE  # of a code interpreter
    tools: list[Tool] | None = None
    execution: str | None = None
    action: Raw = NONE
    operation: Raw = NONE
    reasoning: Raw = NONE  # of a configuration_update
    text: Raw = NONE


class AllowedTool(Struct):
    """A tool that `tool_choice` names."""

    type: str = ""
    name: str | None = None
    namespace: str | None = None


class ToolChoice(AllowedTool):
    """Which tool is to be called."""

    mode: str | None = None
    tools: list[AllowedTool] | None = None


class Body(Struct):
    """The body of POST /responses."""

    input: str | list[Raw] | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    max_tool_calls: Any = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = None
    tools: list[Tool] | None = None
    tool_choice: str | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    reasoning: Reasoning | None = None
    text: Text | None = None
    include: list[str] | None = None
    store: bool | None = None
    previous_response_id: str | None = None
    conversation: Any = None
    prompt: Any = None
    moderation: Any = None
    background: Any = None
    truncation: str | None = None
    service_tier: str | None = None
    metadata: Any = None
    prompt_cache_key: str | None = None
    # Without effect here, and not worth a word.
    model: Any = None
    stream: Any = None
    stream_options: Any = None
    safety_identifier: Any = None
    user: Any = None
    client_metadata: Any = None
    background_options: Any = None
    prompt_cache_options: Any = None
    prompt_cache_retention: Any = None


def decoded(raw: Raw, shape: Any, path: str) -> Any:
    """The value as `shape`; None for an absent one. Raises GatewayError 400 naming `path`."""
    data = bytes(raw)
    if not data:
        return None
    try:
        return msgspec.json.decode(data, type=shape)
    except msgspec.ValidationError as error:
        wrong = from_validation(error)
        rest = wrong.param or ""
        wrong.param = path + (rest if rest.startswith("[") or not rest else f".{rest}")
        raise wrong from None
    except UNREADABLE as error:
        raise not_json(data, error) from None
