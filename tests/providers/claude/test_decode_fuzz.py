"""Whatever comes in, only GatewayError may come out; tests/fuzz/claude.py asks by the million."""

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from app.wire.errors import GatewayError
from providers.claude.api import PROVIDER
from tests.fuzz.claude import ASKS, WHOLE, call_for, check_decoder, check_request, outcome

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
ROLES = st.sampled_from(["system", "developer", "user", "assistant", "tool", "function", "x"])
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": ROLES},
        optional={
            "content": st.text(max_size=8) | JSON,
            "name": st.text(max_size=4) | st.none(),
            "tool_call_id": st.sampled_from(["a", "b", ""]) | st.none(),
            "tool_calls": st.lists(
                st.fixed_dictionaries(
                    {
                        "id": st.sampled_from(["a", "b", ""]),
                        "function": st.fixed_dictionaries(
                            {"name": st.text(max_size=4), "arguments": st.text(max_size=6)}
                        ),
                    }
                ),
                max_size=2,
            ),
            "thinking_blocks": JSON,
        },
    ),
    max_size=5,
)
REQUESTS = st.fixed_dictionaries(
    {"model": st.sampled_from(["m", "claude-3-opus-20240229", "claude-sonnet-5"])},
    optional={
        "messages": MESSAGES | JSON,
        "tools": JSON,
        "tool_choice": JSON,
        "response_format": JSON,
        "stop": JSON,
        "thinking": JSON,
        "max_tokens": st.integers(),
        "temperature": JSON,
        "user": st.text(),
    },
)


@given(st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_mutated_recordings_give_events_or_one_error_however_they_are_cut(chance):
    check_decoder(chance)


@given(st.binary(max_size=400), st.sampled_from([*ASKS, WHOLE]))
@settings(max_examples=200, deadline=None)
def test_random_bytes_never_make_a_whole_answer(data, call):
    events, error = outcome([data], call)
    assert error, events


@given(st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_mutated_requests_keep_anthropics_rules_or_are_a_400(chance):
    check_request(chance)


@given(REQUESTS)
@settings(max_examples=300, deadline=None)
def test_random_requests_are_sent_or_a_400(body):
    try:
        request = PROVIDER.request(call_for(msgspec.json.encode(body)))
    except GatewayError as error:
        assert error.status == 400
    else:
        assert isinstance(msgspec.json.decode(request.body or b""), dict)
