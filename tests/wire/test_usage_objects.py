"""The usage object of OpenAI's own shape is read shortly, and no other than at length."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.wire import stream_end
from app.wire.events import Usage
from app.wire.stream_end import usage_of

COUNTS = st.integers(-2, 50) | st.sampled_from([2**53 - 1, 2**53, 2**70, 1.5, None])
DETAILS = st.none() | st.dictionaries(
    st.sampled_from(
        ["cached_tokens", "audio_tokens", "cache_write_tokens", "reasoning_tokens",
         "accepted_prediction_tokens", "rejected_prediction_tokens", "text_tokens"]
    ), COUNTS, max_size=4
)  # fmt: skip
OBJECTS = st.fixed_dictionaries(
    {"prompt_tokens": COUNTS, "completion_tokens": COUNTS, "total_tokens": COUNTS},
    optional={
        "prompt_tokens_details": DETAILS,
        "completion_tokens_details": DETAILS,
        "cost": COUNTS,
        "input_tokens": COUNTS,
        "prompt_cache_hit_tokens": COUNTS,
    },
)


@given(OBJECTS)
def test_it_is_read_shortly_as_it_is_at_length(found):
    raw = msgspec.Raw(msgspec.json.encode(found))
    try:
        at_length = stream_end._as_usage(stream_end._counts(raw))  # private: the one that can all
    except msgspec.DecodeError:
        at_length = None
    assert usage_of(raw) == at_length


def test_openais_own_object_is_read_shortly(monkeypatch):
    # private: what it must not need
    monkeypatch.setattr(stream_end, "_as_usage", lambda counts: pytest.fail("at length"))
    found = {
        "prompt_tokens": 20, "completion_tokens": 9, "total_tokens": 29,
        "prompt_tokens_details": {"cached_tokens": 7, "audio_tokens": 3},
        "completion_tokens_details": {
            "reasoning_tokens": 4, "audio_tokens": 2, "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }  # fmt: skip
    assert usage_of(msgspec.Raw(msgspec.json.encode(found))) == Usage(
        20, 9, 29, 7, None, 4, audio_tokens=3, completion_audio_tokens=2
    )
