"""OpenAI's chat completion request, as the translators read it, and the gateway's own members.

Shapes: OpenAI's published document 2.3.0. Unknown members are ignored here: the default upstream
gets the caller's own bytes, and every other upstream has a table of what it can say.
"""

from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from app.wire.errors import GatewayError, bad_request, from_validation
from app.wire.surrogates import mend

T = TypeVar("T")

# Members that belong to the gateway and never travel upstream.
GATEWAY_FIELDS = ("provider", "openai", "gemini", "bing", "coze", "claude")


class ImageUrl(Struct):
    url: str
    detail: str | None = None


class InputAudio(Struct):
    data: str
    format: str


class File(Struct):
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
    name: str = ""
    arguments: str | None = ""


class ToolCallRequest(Struct):
    id: str | None = None
    type: str = "function"
    function: FunctionCall | None = None
    extra_content: dict[str, Any] | None = None


class Message(Struct):
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
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    cache_control: dict[str, Any] | None = None


class Tool(Struct):
    type: str = "function"
    function: Function | None = None
    cache_control: dict[str, Any] | None = None


class StreamOptions(Struct):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Envelope(Struct):
    """What routing needs of a body, read without looking at the rest."""

    provider: str | None = None
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | UnsetType | None = UNSET
    n: Any = None
    openai: Raw | UnsetType = UNSET
    gemini: Raw | UnsetType = UNSET
    bing: Raw | UnsetType = UNSET
    coze: Raw | UnsetType = UNSET
    claude: Raw | UnsetType = UNSET

    @property
    def include_usage(self) -> bool:
        asked = self.stream_options
        return isinstance(asked, StreamOptions) and asked.include_usage is True


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
    response_format: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    thinking: dict[str, Any] | None = None  # Anthropic's own object, an extension
    modalities: list[str] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    cache_control: dict[str, Any] | None = None

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


_envelope = msgspec.json.Decoder(Envelope)
_chat = msgspec.json.Decoder(ChatRequest)
_members = msgspec.json.Decoder(dict[str, Raw])


def read_envelope(body: bytes) -> Envelope:
    """Raises GatewayError 400 for what is not a JSON object with members of the right type."""
    try:
        return _envelope.decode(body)
    except msgspec.ValidationError as error:
        raise from_validation(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise not_json(body, error) from None


def read_request(body: bytes) -> tuple[bytes, Envelope]:
    """The body and its envelope. Clients cut texts in the middle of a character; such a body is
    mended, as msgspec reads no half of one."""
    try:
        return body, read_envelope(body)
    except GatewayError:
        mended = mend(body)
        if mended is body:
            raise
    return mended, read_envelope(mended)


def read_chat(body: bytes) -> ChatRequest:
    """The typed request. Raises GatewayError 400 naming the member that is wrong or missing."""
    try:
        return _chat.decode(body)
    except msgspec.ValidationError as error:
        raise from_validation(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise not_json(body, error) from None


def read_members(body: bytes) -> dict[str, Raw]:
    """The body's top-level members, their values untouched bytes."""
    try:
        return _members.decode(body)
    except msgspec.ValidationError as error:
        raise from_validation(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise not_json(body, error) from None


def read_member(raw: Raw | UnsetType, shape: type[T], name: str) -> T | None:
    """One of the gateway's own members (`claude`, `gemini`, ...) as its family's struct."""
    if raw is UNSET or isinstance(raw, UnsetType):
        return None
    try:
        return msgspec.json.decode(raw, type=shape | None)
    except msgspec.ValidationError as error:
        wrong = from_validation(error)
        wrong.param = f"{name}.{wrong.param}" if wrong.param else name
        raise wrong from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise not_json(bytes(raw), error) from None  # a Raw has not been looked at before


def not_json(body: bytes, error: Exception) -> GatewayError:
    if not body.strip():
        return bad_request("The request body is empty; send a JSON object.", code="invalid_json")
    return bad_request(f"The request body is not valid JSON: {error}.", code="invalid_json")
