"""What Google's Gemini API says and is told: generateContent bodies, stream chunks, errors.

Source: Google's Gemini API reference (v1beta) and recorded answers. Everything an upstream sends
may be missing or null; members nobody reads here are left out and ignored. (`Raw` with an empty
default, because msgspec reads `Raw | None` as null only.)
"""

import re
from typing import Any

from msgspec import Raw, Struct


class FunctionCall(Struct, rename="camel", omit_defaults=True):
    """`args` stays the bytes it came in: numbers keep every digit on both ways."""

    name: str | None = None
    args: Raw = Raw(b"")
    id: str | None = None


class Blob(Struct, rename="camel", omit_defaults=True):
    """A file in base64."""

    mime_type: str | None = None
    data: str | None = None


class ResponsePart(Struct, rename="camel"):
    """A picture or a document inside a function's result."""

    inline_data: Blob


class FunctionResponse(Struct, rename="camel", omit_defaults=True):
    """A function's result."""

    name: str
    response: Any  # must be an object
    id: str | None = None
    parts: list[ResponsePart] | None = None


class FileData(Struct, rename="camel", omit_defaults=True):
    """A file at a URI."""

    mime_type: str | None = None
    file_uri: str | None = None


class ExecutableCode(Struct, rename="camel"):
    """Code that the model has run."""

    language: str | None = None
    code: str | None = None


class CodeExecutionResult(Struct, rename="camel"):
    """What the code printed."""

    outcome: str | None = None
    output: str | None = None


# The next five are made per chunk and hold no cycles: nothing for the garbage collector (gc=False).


class Part(Struct, rename="camel", gc=False):
    """One part of an answer; a part in which nothing is set is of a kind unknown here."""

    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: FunctionCall | None = None
    inline_data: Blob | None = None
    file_data: FileData | None = None
    executable_code: ExecutableCode | None = None
    code_execution_result: CodeExecutionResult | None = None


class Content(Struct, rename="camel", gc=False):
    """The content of a candidate."""

    parts: list[Part] | None = None


class Candidate(Struct, rename="camel", gc=False):
    """One choice of an answer."""

    content: Content | None = None
    finish_reason: str | None = None
    finish_message: str | None = None
    index: int | None = None
    logprobs_result: Raw = Raw(b"")


class PromptFeedback(Struct, rename="camel"):
    """Why the prompt was blocked."""

    block_reason: str | None = None
    block_reason_message: str | None = None


class Chunk(Struct, rename="camel", gc=False):
    """GenerateContentResponse: one event of a stream, or the whole answer.

    Usage is in every chunk and cumulative, so only the last one is worth decoding.
    """

    candidates: list[Candidate] | None = None
    prompt_feedback: PromptFeedback | None = None
    usage_metadata: Raw = Raw(b"")
    error: Raw = Raw(b"")
    response_id: str | None = None
    model_version: str | None = None


class LaterChunk(Struct, rename="camel", gc=False):
    """The same without what was said by the first one."""

    candidates: list[Candidate] | None = None
    prompt_feedback: PromptFeedback | None = None
    usage_metadata: Raw = Raw(b"")
    error: Raw = Raw(b"")


class NamedContent(Struct):
    """See `NamedParts`."""

    parts: list[dict[str, Raw]] | None = None


class NamedCandidate(Struct):
    """See `NamedParts`."""

    content: NamedContent | None = None


class NamedParts(Struct):
    """A chunk again, to learn what the members of unknown parts are called."""

    candidates: list[NamedCandidate] | None = None


class ModalityCount(Struct, rename="camel"):
    """The tokens of one kind of content."""

    modality: str | None = None
    token_count: int | None = None


class UsageMetadata(Struct, rename="camel"):
    """Token counts; candidates do not include thoughts."""

    prompt_token_count: int | None = None
    candidates_token_count: int | None = None
    total_token_count: int | None = None
    thoughts_token_count: int | None = None
    cached_content_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None
    prompt_tokens_details: list[ModalityCount] | None = None
    candidates_tokens_details: list[ModalityCount] | None = None


class LogprobsCandidate(Struct, rename="camel"):
    """A token and its log probability."""

    token: str | None = None
    log_probability: float | None = None


class TopCandidates(Struct, rename="camel"):
    """The likeliest tokens at one place."""

    candidates: list[LogprobsCandidate] | None = None


class LogprobsResult(Struct, rename="camel"):
    """Log probabilities of an answer, token by token."""

    chosen_candidates: list[LogprobsCandidate] | None = None
    top_candidates: list[TopCandidates] | None = None


class QuotaViolation(Struct, rename="camel"):
    """A quota that was exceeded."""

    quota_id: str | None = None
    quota_dimensions: dict[str, Any] | None = None  # "model": which one's


class Detail(Struct, rename="camel"):
    """One of several google.rpc messages, told apart by which members are there."""

    reason: str | None = None  # ErrorInfo
    metadata: dict[str, Any] | None = None
    violations: list[QuotaViolation] | None = None  # QuotaFailure
    retry_delay: str | None = None  # RetryInfo: "48s", "34.4s"


class Status(Struct, rename="camel"):
    """google.rpc.Status, the value of an answer's `error` member."""

    code: int | str | None = None  # as text by something in between
    message: str | None = None
    status: str | None = None
    details: list[Raw] | None = None  # of many kinds, one by one a Detail

    @property
    def http_status(self) -> int:
        """Of an error inside a 200."""
        text = str(self.code)
        return int(text) if re.fullmatch(r"[45]\d\d", text, re.ASCII) else 502


class ErrorAnswer(Struct):
    """The body of a refusal."""

    error: Status | None = None


class Model(Struct, rename="camel"):
    """One entry of the list of models."""

    name: str | None = None
    supported_generation_methods: list[str] | None = None


class ModelList(Struct, rename="camel"):
    """A page of GET /v1beta/models."""

    models: list[Model] | None = None
    next_page_token: str | None = None


class TokenCount(Struct, rename="camel"):
    """The answer of countTokens."""

    total_tokens: int


# What is sent. Parts of a request are built in many shapes, hence a struct of their own.


class RequestPart(Struct, rename="camel", omit_defaults=True):
    """One part of a request, of any kind."""

    text: str | None = None
    inline_data: Blob | None = None
    file_data: FileData | None = None
    function_call: FunctionCall | None = None
    function_response: FunctionResponse | None = None
    thought_signature: str | None = None


class RequestContent(Struct, rename="camel", omit_defaults=True):
    """One message of a request, or the system instruction."""

    parts: list[RequestPart]
    role: str | None = None


class FunctionDeclaration(Struct, rename="camel", omit_defaults=True):
    """A function that the model may call."""

    name: str
    description: str | None = None
    parameters_json_schema: dict[str, Raw] | None = None


class ToolList(Struct, rename="camel", omit_defaults=True):
    """Functions, or one of the tools that Google runs."""

    function_declarations: list[FunctionDeclaration] | None = None
    google_search: dict[str, Any] | None = None
    url_context: dict[str, Any] | None = None


class FunctionCallingConfig(Struct, rename="camel", omit_defaults=True):
    """Whether and which functions must be called: AUTO, ANY, NONE or VALIDATED."""

    mode: str
    allowed_function_names: list[str] | None = None


class ToolConfig(Struct, rename="camel"):
    """The configuration of the tools."""

    function_calling_config: FunctionCallingConfig


class GenerateContentRequest(Struct, rename="camel", omit_defaults=True, kw_only=True):
    """The body of generateContent and streamGenerateContent."""

    contents: list[RequestContent]
    system_instruction: RequestContent | None = None
    tools: list[ToolList] | None = None
    tool_config: ToolConfig | None = None
    generation_config: dict[str, Any] = {}
    safety_settings: Any = None
    cached_content: str | None = None
