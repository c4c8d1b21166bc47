"""The neutral chat request: what a front makes of a caller's body and a provider translates.

Its words are OpenAI's (published document 2.3.0), with what other families add. Every upstream has
a table of what it can say of it.
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from app.wire.errors import GatewayError, bad_request, from_validation


class ImageUrl(Struct):
    """An image by its http(s) or data: URL."""

    url: str
    detail: str | None = None


class InputAudio(Struct):
    """Sound in base64; `format` is wav or mp3."""

    data: str
    format: str


class File(Struct):
    """A file: by the id of an upload, or inline as a data: URL or base64."""

    file_id: str | None = None
    file_data: str | None = None
    filename: str | None = None


class Part(Struct):
    """One content part; which member is set follows from `type`."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: ImageUrl | str | None = None
    input_audio: InputAudio | None = None
    file: File | None = None
    cache_control: dict[str, Any] | None = None  # Anthropic's mark of a prompt cache

    def image_address(self) -> str:
        """The URL of an `image_url` part, in either of its two forms; "" for none."""
        held = self.image_url
        return held.url if isinstance(held, ImageUrl) else held or ""


class FunctionCall(Struct):
    """The name of a called function, and its arguments as JSON text."""

    name: str = ""
    arguments: str | None = ""


class ToolCallRequest(Struct):
    """A tool call of an earlier answer, as the caller sends it back."""

    id: str | None = None
    type: str = "function"
    function: FunctionCall | None = None
    extra_content: dict[str, Any] | None = None


class Message(Struct):
    """One message; the role says which members are set."""

    role: str
    content: str | list[Part] | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCallRequest] | None = None
    tool_call_id: str | None = None
    function_call: FunctionCall | None = None
    reasoning_content: str | None = None
    thinking_blocks: list[dict[str, Any]] | None = None
    cache_control: dict[str, Any] | None = None

    def text(self) -> str:
        """All text of the message joined, other parts left out."""
        if self.content is None:
            return ""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text or "" for part in self.content)

    def parts(self) -> list[Part]:
        """The content as parts, a plain string being one text part."""
        if self.content is None:
            return []
        if isinstance(self.content, str):
            return [Part("text", text=self.content)] if self.content else []
        return self.content


class Function(Struct):
    """A function that the model may call."""

    name: str
    description: str | None = None
    parameters: dict[str, Raw] | None = None  # a JSON Schema; numbers keep every digit
    strict: bool | None = None
    cache_control: dict[str, Any] | None = None


class Tool(Struct):
    """A tool; only functions are known."""

    type: str = "function"
    function: Function | None = None
    cache_control: dict[str, Any] | None = None


class StreamOptions(Struct):
    """OpenAI's options of a streamed answer."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ChatRequest(Struct, kw_only=True):
    """The request as the translators see it. Numbers keep the caller's int or float."""

    messages: list[Message]
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    n: int | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[Tool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    functions: list[Function] | None = None
    function_call: str | dict[str, Any] | None = None
    response_format: dict[str, Raw] | None = None
    reasoning_effort: str | None = None
    thinking: dict[str, Any] | None = None  # Anthropic's own object, an extension
    modalities: list[str] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    cache_control: dict[str, Any] | None = None
    # Members that this vocabulary does not know, as they stand in the body of the wire that
    # `extras_wire` names. No body can name these two.
    extras: dict[str, Raw] = msgspec.field(default_factory=dict, name=" extras")
    extras_wire: str = msgspec.field(default="", name=" extras_wire")

    def has_cache_marks(self) -> bool:
        """Anywhere: an upstream without such marks drops them all."""
        tools = [tool.function for tool in self.tools or () if tool.function is not None]
        parts = [part for m in self.messages if isinstance(m.content, list) for part in m.content]
        marked = (
            self,
            *self.messages,
            *parts,
            *tools,
            *(self.tools or ()),
            *(self.functions or ()),
        )
        return any(each.cache_control is not None for each in marked)

    @property
    def uses_functions(self) -> bool:
        """The caller speaks the older `functions` and looks for `function_call` in the answer."""
        return bool(self.functions) and not self.tools


_members = msgspec.json.Decoder(dict[str, Raw])


def read_members(body: bytes) -> dict[str, Raw]:
    """The body's top-level members, their values untouched bytes."""
    try:
        return _members.decode(body)
    except msgspec.ValidationError as error:
        raise from_validation(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise not_json(body, error) from None


def plain(members: dict[str, Raw]) -> dict[str, Any]:
    """The members' values decoded. Numbers become Python's, which do not keep every digit."""
    decoded: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(members))
    return decoded


def not_json(body: bytes, error: Exception) -> GatewayError:
    """The error for a body that is no JSON, to be raised."""
    if not body.strip():
        return bad_request("The request body is empty; send a JSON object.", code="invalid_json")
    return bad_request(f"The request body is not valid JSON: {error}.", code="invalid_json")
