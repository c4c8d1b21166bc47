"""The neutral chat request: what a front makes of a caller's body and a provider translates.

Its words are OpenAI's (published document 2.3.0), with what other families add. Every upstream has
a table of what it can say of it.
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from app.wire.errors import GatewayError, bad_request, from_validation


def _hidden(name: str, default: Any = None) -> Any:
    """A member for fronts to set: with a blank in its name no body can."""
    return msgspec.field(default=default, name=f" {name}")


class ImageUrl(Struct):
    """An image by its http(s) or data: URL."""

    url: str
    detail: str | None = None


class InputAudio(Struct):
    """Sound in base64; `format` is wav or mp3."""

    data: str
    format: str


class File(Struct):
    """A file: by the id of an upload, inline as a data: URL or base64, or by its http(s) URL."""

    file_id: str | None = None
    file_data: str | None = None
    filename: str | None = None
    url: str | None = _hidden("url")


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
    """A tool call of an earlier answer, as the caller sends it back.

    `extra_content` is Google's member: `{"google": {"thought_signature"}}` must go back with the
    call. `thinking_blocks` are Anthropic's, of the thought right before this call.
    """

    id: str | None = None
    type: str = "function"
    function: FunctionCall | None = None
    extra_content: dict[str, Any] | None = None
    thinking_blocks: list[dict[str, Any]] | None = _hidden("thinking_blocks")


class Message(Struct):
    """One message; the role says which members are set.

    `is_error`: the tool whose result this is has failed. `keeps_place`: a system message that came
    up during the conversation. An upstream with one system text at the top is told it in its place,
    as `reminder()` of the user: moved to the top it would change what a prompt cache has seen.
    """

    role: str
    content: str | list[Part] | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCallRequest] | None = None
    tool_call_id: str | None = None
    function_call: FunctionCall | None = None
    audio: dict[str, Any] | None = None  # the id of a spoken answer
    reasoning_content: str | None = None
    thinking_blocks: list[dict[str, Any]] | None = None
    cache_control: dict[str, Any] | None = None
    is_error: bool = _hidden("is_error", False)
    keeps_place: bool = _hidden("keeps_place", False)

    def text(self) -> str:
        """All text of the message joined, other parts left out."""
        if self.content is None:
            return ""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text or "" for part in self.content)

    def reminder(self) -> str:
        """The text of a system message as a user may say it; "" for none."""
        text = self.text()
        return f"<system-reminder>\n{text}\n</system-reminder>" if text else ""

    def result(self) -> str:
        """The text of a tool's result, for an upstream that is told of a failure by it alone."""
        text = self.text()
        if not self.is_error or "error" in text[:64].lower():
            return text
        return f"Error: {text}" if text else "Error: the tool failed."

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


class ServerTool(Struct):
    """A tool that the upstream itself runs: `kind` is web_search or web_fetch."""

    kind: str
    name: str  # the caller's word for it
    path: str  # where it stands in the caller's body


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
    # What follows is the fronts' to set; no body can name it.
    # Members that this vocabulary does not know, as they stand in the body of the wire that
    # `extras_wire` names.
    extras: dict[str, Raw] = msgspec.field(default_factory=dict, name=" extras")
    extras_wire: str = _hidden("extras_wire", "")
    # What the front itself has left out, in the caller's words.
    dropped: list[str] = msgspec.field(default_factory=list, name=" dropped")
    # Members without which the answer would be another one -> what the caller calls them. An
    # upstream that lacks one is not asked.
    insists: dict[str, str] = msgspec.field(default_factory=dict, name=" insists")
    server_tools: list[ServerTool] = msgspec.field(default_factory=list, name=" server_tools")
    # The front ends the answer at `stop` where the upstream cannot.
    cuts_stops: bool = _hidden("cuts_stops", False)
    # What the caller wants of the model's thinking: shown, omitted (it thinks, unseen) or off.
    # None: the wire has no word for it.
    thoughts: str | None = _hidden("thoughts")
    # Tokens to think with, -1 for as many as it takes; `reasoning_effort` says about the same.
    thinking_budget: int | None = _hidden("thinking_budget")
    prompt_cache_key: str | None = _hidden("prompt_cache_key")
    service_tier: str | None = _hidden("service_tier")

    def stops(self) -> list[str]:
        """The stop sequences as a list, empty ones left out."""
        said = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return [stop for stop in said if stop]

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
    """The members' values decoded. Numbers become Python's, which do not keep every digit.

    Raises GatewayError 400 for what is no JSON: such a value was not looked at before.
    """
    body = msgspec.json.encode(members)
    try:
        decoded: dict[str, Any] = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise not_json(body, error) from None
    return decoded


def with_properties(schema: dict[str, Raw]) -> dict[str, Raw]:
    """The schema of a function's input. OpenAI refuses an object without `properties`."""
    if "properties" not in schema and bytes(schema.get("type", b"")) == b'"object"':
        return {**schema, "properties": Raw(b"{}")}
    return schema


def not_json(body: bytes, error: Exception) -> GatewayError:
    """The error for a body that is no JSON, to be raised."""
    if not body.strip():
        return bad_request("The request body is empty; send a JSON object.", code="invalid_json")
    return bad_request(f"The request body is not valid JSON: {error}.", code="invalid_json")
