"""A prompt that is larger than the model's context window, in the words of whoever refuses it."""

import re

from app.wire.errors import GatewayError

_CODES = frozenset(
    (
        "context_length_exceeded",
        "context_window_exceeded",
        "exceed_context_size_error",
        "message_length_exceeds_limit",
        "string_above_max_length",
        "tokens_limit_reached",
    )
)
# As said by OpenAI and vLLM, Anthropic, Gemini, Mistral, xAI, Moonshot, Qwen, Cohere, Together.
_WORDS = re.compile(
    r"context (?:length|window|limit|size)|prompt is too long|input is too long"
    r"|token count.{0,40}exceeds the maximum|maximum (?:prompt|input) length"
    r"|exceeded model token limit|range of input length|too many (?:input )?tokens"
    r"|reduce the length of the (?:messages|prompt|input)|max_new_tokens.{0,20}must be <=",
    re.IGNORECASE,
)
_COUNTED = re.compile(
    r"(?:resulted in|requested(?: about)?|contains|token count(?: is| of)?|too long:"
    r"|input length is) \(?(\d{3,})",
    re.IGNORECASE,
)
_ALLOWED = re.compile(
    r"(?:context length(?: is| of)?|tokens allowed|supports up to|context size(?: is| of)?|tokens >"
    r"|maximum input length of|limit(?: is| of)?:?) \(?(\d{3,})|model with (\d{3,}) maximum",
    re.IGNORECASE,
)


def is_too_long(error: GatewayError) -> bool:
    """Whether the request is too long for this model. A model with a larger window may take it."""
    if error.status not in (400, 413, 422):
        return False
    return error.code in _CODES or _WORDS.search(error.message) is not None


def counted_tokens(message: str) -> tuple[int, int] | None:
    """The tokens asked and those allowed, where a refusal tells both."""
    asked, allowed = _COUNTED.search(message), _ALLOWED.search(message)
    if asked is None or allowed is None:
        return None
    return int(asked[1]), int(allowed[1] or allowed[2])
