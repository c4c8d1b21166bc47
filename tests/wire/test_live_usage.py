"""The tokens that messages of the live APIs tell."""

import json

import pytest

from app.wire.stream_end import usage_in_message

# As OpenAI's reference has it: three objects deep.
REALTIME = {
    "total_tokens": 253,
    "input_tokens": 132,
    "output_tokens": 121,
    "input_token_details": {
        "text_tokens": 119,
        "audio_tokens": 13,
        "image_tokens": 0,
        "cached_tokens": 64,
        "cached_tokens_details": {"text_tokens": 64, "audio_tokens": 0, "image_tokens": 0},
    },
    "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
}
LIVE = {
    "promptTokenCount": 10,
    "responseTokenCount": 7,
    "thoughtsTokenCount": 2,
    "totalTokenCount": 19,
    "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 10}],
}


@pytest.mark.parametrize(
    ("message", "tokens"),
    [
        ({"type": "response.done", "response": {"id": "r", "usage": REALTIME}}, (132, 121)),
        ({"response": {"usage": REALTIME, "output": []}, "type": "response.done"}, (132, 121)),
        ({"type": "response.completed", "response": {"usage": REALTIME}}, (132, 121)),
        ({"serverContent": {"turnComplete": True}, "usageMetadata": LIVE}, (10, 9)),
        ({"usageMetadata": {"promptTokenCount": 3}}, (3, 0)),
        # Counted elsewhere, or not at all:
        ({"type": "response.done", "response": {"usage": None}}, None),
        ({"type": "response.done", "response": None}, None),
        ({"type": "response.created", "response": {"usage": REALTIME}}, None),
        ({"type": "response.output_audio.delta", "delta": '"usage'}, None),
        ({"type": "conversation.item.input_audio_transcription.completed", "usage": LIVE}, None),
        ({"serverContent": {}, "usageMetadata": "none"}, None),
    ],
)
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_the_tokens_of_one_answer(message, tokens, kind):
    usage = usage_in_message(kind(json.dumps(message).encode()))
    assert (usage and (usage.prompt_tokens, usage.completion_tokens)) == tokens


@pytest.mark.parametrize(
    "message", [b"", b"no json", b'{"usage', b'"usage"', b"[" * 5000 + b'"usage']
)
def test_what_is_no_message_has_none(message):
    assert usage_in_message(message) is None
