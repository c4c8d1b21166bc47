"""What a caller says in a generateContent body, in the words of Google's API.

Members unknown here are skipped; clients are ahead of us. Google takes each name in camelCase and
in snake_case, and google-genai mixes them at any depth: `in_camel_case` brings the known ones into
one spelling. What is only passed on stays bytes (`Raw`), so that numbers keep every digit.
Protocol sheets: front-gemini, 3; gemini, 3.
"""

import re
import typing
from typing import Any

import msgspec
from msgspec import Raw, Struct

# Some clients write whole numbers as floats.
Whole = int | float


class Blob(Struct, rename="camel"):
    """A file in base64, of either alphabet."""

    mime_type: str | None = None
    data: str | None = None


class FileData(Struct, rename="camel"):
    """A file at a URI."""

    mime_type: str | None = None
    file_uri: str | None = None


class FunctionCall(Struct, rename="camel"):
    """A call that the model has made."""

    id: str | None = None
    name: str | None = None
    args: Raw = Raw(b"null")


class ResponsePart(Struct, rename="camel"):
    """A picture or a document inside a function's result."""

    inline_data: Blob | None = None
    file_data: FileData | None = None


class FunctionResponse(Struct, rename="camel"):
    """A function's result."""

    id: str | None = None
    name: str | None = None
    response: Raw = Raw(b"null")
    parts: list[ResponsePart] | None = None


class ExecutableCode(Struct, rename="camel"):
    """Code that the model has run at Google."""

    language: str | None = None
    code: str | None = None


class CodeExecutionResult(Struct, rename="camel"):
    """What that code printed."""

    output: str | None = None


class Part(Struct, rename="camel"):
    """One part of a content; a part in which nothing is set is of a kind unknown here."""

    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    inline_data: Blob | None = None
    file_data: FileData | None = None
    function_call: FunctionCall | None = None
    function_response: FunctionResponse | None = None
    executable_code: ExecutableCode | None = None
    code_execution_result: CodeExecutionResult | None = None


class Content(Struct, rename="camel"):
    """One turn. `text` is set where a part stands in a content's place."""

    role: str | None = None
    parts: list[Part] | Part | None = None
    text: str | None = None

    def all_parts(self) -> list[Part]:
        """The parts as a list, whichever way they were written."""
        if self.parts is None:
            return [] if self.text is None else [Part(self.text)]
        return [self.parts] if isinstance(self.parts, Part) else self.parts


class FunctionDeclaration(Struct, rename="camel"):
    """A function that the model may call: a schema of Google's own kind, or a JSON Schema."""

    name: str | None = None
    description: str | None = None
    parameters: dict[str, Raw] | None = None
    parameters_json_schema: dict[str, Raw] | None = None


class Tool(Struct, rename="camel"):
    """One entry of `tools`, as far as it holds functions."""

    function_declarations: list[FunctionDeclaration] | None = None


class FunctionCallingConfig(Struct, rename="camel"):
    """Whether, and which, functions must be called: AUTO, VALIDATED, ANY or NONE."""

    mode: str | None = None
    allowed_function_names: list[str] | None = None


class ToolConfig(Struct, rename="camel"):
    """The configuration of the tools."""

    function_calling_config: FunctionCallingConfig | None = None


class ThinkingConfig(Struct, rename="camel"):
    """How much the model is to think, and whether that is shown."""

    include_thoughts: bool | None = None
    thinking_budget: Whole | None = None
    thinking_level: str | None = None


class TextFormat(Struct, rename="camel"):
    """The newer way to ask for JSON."""

    mime_type: str | None = None
    schema: dict[str, Raw] | None = None


class ResponseFormat(Struct, rename="camel"):
    """An entry of `responseFormat`; sound, images and films are for Gemini alone."""

    text: TextFormat | None = None
    audio: Any = None
    image: Any = None
    video: Any = None


class GenerationConfig(Struct, rename="camel"):
    """The parameters of an answer."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: Whole | None = None
    candidate_count: Whole | None = None
    max_output_tokens: Whole | None = None
    stop_sequences: list[str] | None = None
    seed: Whole | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    response_logprobs: bool | None = None
    logprobs: Whole | None = None
    response_mime_type: str | None = None
    response_schema: dict[str, Raw] | None = None
    response_json_schema: dict[str, Raw] | None = None
    response_format: list[ResponseFormat] | ResponseFormat | None = None
    response_modalities: list[str] | None = None
    speech_config: Any = None
    image_config: Any = None
    thinking_config: ThinkingConfig | None = None


class Body(Struct, rename="camel"):
    """The body of generateContent, streamGenerateContent, and of countTokens without the model.

    `generation_config` and the entries of `tools` are decoded by themselves, so that what is
    unknown in them can be named.
    """

    contents: list[Content | str] | Content | str | None = None
    system_instruction: list[Content | str] | Content | str | None = None
    tools: list[Raw] | None = None
    tool_config: ToolConfig | None = None
    generation_config: Raw = Raw(b"null")
    safety_settings: Any = None
    cached_content: str | None = None
    service_tier: str | None = None
    labels: Any = None
    store: Any = None


class EmbedContent(Struct, rename="camel"):
    """The body of embedContent, and an entry of batchEmbedContents."""

    content: Content | str | None = None
    output_dimensionality: Whole | None = None


class EmbedContents(Struct, rename="camel"):
    """The body of batchEmbedContents."""

    requests: list[EmbedContent] | None = None


class CountTokens(Struct, rename="camel"):
    """The body of countTokens: a conversation alone, or a whole request."""

    generate_content_request: Raw = Raw(b"null")


# --- the two spellings --------------------------------------------------------------------------

# Shapes behind members that are kept as bytes.
_RAW: dict[tuple[str, str], type[Struct]] = {
    ("Body", "tools"): Tool,
    ("Body", "generation_config"): GenerationConfig,
    ("CountTokens", "generate_content_request"): Body,
}


def _shape_in(annotation: Any) -> type[Struct] | None:
    """The struct that this annotation holds, if any."""
    if isinstance(annotation, type) and issubclass(annotation, Struct):
        return annotation
    found = (_shape_in(each) for each in typing.get_args(annotation))
    return next((shape for shape in found if shape is not None), None)


class _Spelling(Struct):
    """Of one struct: each name in either spelling -> camelCase, and the shape of its value."""

    names: dict[str, str] = {}
    shapes: dict[str, type[Struct]] = {}


_SPELLINGS: dict[type[Struct], _Spelling] = {}


def _learn(shape: type[Struct]) -> None:
    """Takes in the spellings of a struct and of all that it holds."""
    if shape in _SPELLINGS:
        return
    spelling = _SPELLINGS[shape] = _Spelling()
    hints = typing.get_type_hints(shape)
    fields = zip(shape.__struct_fields__, shape.__struct_encode_fields__, strict=True)
    for snake, camel in fields:
        spelling.names[snake] = camel
        inner = _RAW.get((shape.__name__, snake)) or _shape_in(hints[snake])
        if inner is not None:
            spelling.shapes[camel] = inner
            _learn(inner)


_learn(CountTokens)
_learn(EmbedContents)
_SNAKE = sorted({name for s in _SPELLINGS.values() for name in s.names if "_" in name})
_has_snake = re.compile(rb'"(?:%b)"\s*:' % "|".join(_SNAKE).encode()).search
_members = msgspec.json.Decoder(dict[str, Raw])
_items = msgspec.json.Decoder(list[Raw])


def in_camel_case(body: bytes, shape: type[Struct] = Body) -> bytes:
    """The body with the known names in camelCase; itself where there is none to change.

    Raises what msgspec raises for what is no JSON.
    """
    return bytes(_respelled(Raw(body), shape)) if _has_snake(body) else body


def _respelled(raw: Raw, shape: type[Struct]) -> Raw:
    first = bytes(raw).lstrip()[:1]
    if first == b"[":
        return Raw(msgspec.json.encode([_respelled(each, shape) for each in _items.decode(raw)]))
    if first != b"{":
        return raw
    spelling = _SPELLINGS[shape]
    out: dict[str, Raw] = {}
    for name, value in _members.decode(raw).items():
        camel = spelling.names.get(name, name)
        inner = spelling.shapes.get(camel)
        out[camel] = value if inner is None else _respelled(value, inner)
    return Raw(msgspec.json.encode(out))
