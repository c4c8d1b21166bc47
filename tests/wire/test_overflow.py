"""Refusals of prompts that are too long, in the words of each upstream."""

import pytest

from app.wire.errors import GatewayError
from app.wire.overflow import counted_tokens, is_too_long

WORDS = {
    "This model's maximum context length is 8192 tokens. However, your messages resulted in 8500 "
    "tokens. Please reduce the length of the messages.": (8500, 8192),
    "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (4000 "
    "in the messages, 1000 in the completion).": (5000, 4096),
    "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).": (
        1200000,
        1048576,
    ),
    "The input token count is 1196265 but model only supports up to 1048576.": (1196265, 1048576),
    "prompt is too long: 3333404 tokens > 200000 maximum": (3333404, 200000),
    "Prompt contains 36000 tokens, too large for model with 32768 maximum context length": (
        36000,
        32768,
    ),
}


@pytest.mark.parametrize(("message", "counts"), WORDS.items())
def test_both_counts_are_found(message, counts):
    assert counted_tokens(message) == counts


def test_without_both_counts_there_are_none():
    assert counted_tokens("Your input exceeds the context window of this model.") is None
    assert counted_tokens("This model's maximum context length is 8192 tokens.") is None


@pytest.mark.parametrize("status", [400, 413, 422])
def test_it_is_known_by_code_and_by_words(status):
    assert is_too_long(GatewayError(status, "No.", code="context_length_exceeded"))
    assert is_too_long(GatewayError(status, "the prompt is too long"))
    assert not is_too_long(GatewayError(status, "No."))
    assert not is_too_long(GatewayError(429, "the prompt is too long"))
