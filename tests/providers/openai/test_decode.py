"""The decoder of OpenAI chat answers against recorded bytes, however they are cut.

expected/answers.json was not written by the decoder: a few lines of plain JSON joined what stands
in the recordings; ids that are made up and counts in other dialects were put in by hand.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.wire.events import (
    Extension,
    Finish,
    Reasoning,
    Refusal,
    Started,
    Text,
    Thought,
    ToolArguments,
    ToolCall,
    Unknown,
    Usage,
)
from tests.providers.openai.chat_answers import DONE, RECORDINGS, comparable, outcome

EXPECTED: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent / "expected" / "answers.json").read_text("utf-8")
)
ERRORS = {
    "groq-error-event.sse": (400, "tool_use_failed", "Tool call validation failed"),
    "openrouter-error-in-stream.sse": (400, "400", "Token limit reached"),
    "llamacpp-error-line.sse": (502, "upstream_error", "failed to decode, try again"),
}
STREAMS = sorted(name for name in RECORDINGS if name.endswith(".sse"))
SMALL = sorted(name for name, data in RECORDINGS.items() if len(data) < 6000)
N = {"chat-stream-n3.sse": 3}


def decoded(name, pieces):
    return comparable(outcome(pieces, N.get(name, 1)))


def summary(events):
    """What the events say, put together as in expected/answers.json."""
    found: dict[str, Any] = {"finish": {}, "usage": None}
    calls: dict[int, list[str]] = {}
    for event in events:
        match event:
            case Started():
                found |= {"id": event.id, "model": event.model}
            case Text():
                texts = found.setdefault("text", {})
                texts[str(event.index)] = texts.get(str(event.index), "") + event.text
            case Reasoning():
                found["reasoning"] = found.get("reasoning", "") + event.text
            case Refusal():
                found["refusal"] = found.get("refusal", "") + event.text
            case ToolCall():
                assert event.tool == len(calls)
                calls[event.tool] = [event.id, event.name, event.arguments]
            case ToolArguments():
                calls[event.tool][2] += event.arguments
            case Finish():
                assert str(event.index) not in found["finish"]
                found["finish"][str(event.index)] = event.reason
            case Usage():
                assert found["usage"] is None
                found["usage"] = [
                    event.prompt_tokens,
                    event.completion_tokens,
                    event.total_tokens,
                    event.cached_tokens,
                    event.reasoning_tokens,
                ]
            case Thought():  # all of it was told before
                assert event.text == found["reasoning"] and event.signature
            case Extension():
                pass
            case _:
                raise AssertionError(event)
    if calls:
        found["calls"] = list(calls.values())
    return found


@pytest.mark.parametrize("name", sorted(RECORDINGS))
def test_a_recorded_answer_gives_what_stands_in_it(name):
    events, error = decoded(name, [RECORDINGS[name]])
    assert summary(events) == EXPECTED[name]
    assert (error is None) == (name not in ERRORS)
    if name in ERRORS:
        status, code, words = ERRORS[name]
        assert error[:2] == (status, code)
        assert error[2].startswith(words)


@pytest.mark.parametrize("name", sorted(RECORDINGS))
def test_started_comes_first_and_the_ends_last(name):
    events, _ = decoded(name, [RECORDINGS[name]])
    assert isinstance(events[0], Started)
    kinds = [type(event) for event in events]
    assert kinds.count(Started) == 1
    if name not in ERRORS:
        ends = len(EXPECTED[name]["finish"]) + (EXPECTED[name]["usage"] is not None)
        assert set(kinds[-ends:]) <= {Finish, Usage}
        assert Finish not in kinds[:-ends]


def test_every_recording_is_expected():
    assert set(EXPECTED) == set(RECORDINGS)


@pytest.mark.parametrize("name", sorted(RECORDINGS))
def test_a_recorded_answer_read_byte_by_byte_is_the_same(name):
    data = RECORDINGS[name]
    assert decoded(name, [data[i : i + 1] for i in range(len(data))]) == decoded(name, [data])


@pytest.mark.parametrize("name", SMALL)
def test_a_small_recorded_answer_cut_at_any_byte_is_the_same(name):
    data = RECORDINGS[name]
    unsplit = decoded(name, [data])
    for at in range(1, len(data)):
        assert decoded(name, [data[:at], data[at:]]) == unsplit, at


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), 43])
@pytest.mark.parametrize("name", sorted(set(RECORDINGS) - set(SMALL)))
def test_a_large_recorded_answer_cut_in_two_is_the_same(name, step):
    data = RECORDINGS[name]
    unsplit = decoded(name, [data])
    for at in range(1, len(data), step):
        assert decoded(name, [data[:at], data[at:]]) == unsplit, at


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_recorded_answer_cut_anyhow_is_the_same(choose):
    name = choose.draw(st.sampled_from(sorted(RECORDINGS)))
    data = RECORDINGS[name]
    cuts = sorted(choose.draw(st.sets(st.integers(1, len(data) - 1), max_size=12)))
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    assert decoded(name, pieces) == decoded(name, [data])


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize("line_end", [b"\r\n", b"\r"])
@pytest.mark.parametrize("name", STREAMS)
def test_other_line_ends_a_byte_order_mark_and_comments_change_nothing(name, line_end, size):
    data = RECORDINGS[name]
    assert b"\r" not in data
    other = b"\xef\xbb\xbf: hello\n\n" + data.replace(b"\n\n", b"\n\n: keep-alive\n\n")
    other = other.replace(b"\n", line_end)
    pieces = [other[at : at + size] for at in range(0, len(other), size)]
    assert decoded(name, pieces) == decoded(name, [data])


@pytest.mark.parametrize("name", sorted(set(STREAMS) - set(ERRORS)))
def test_a_stream_needs_no_done_once_its_choices_have_finished(name):
    data = RECORDINGS[name]
    events, error = decoded(name, [data.replace(DONE, b"")])
    if name == "snowflake-no-finish.sse":  # [DONE] is all that says it is whole
        assert error is not None and error[1] == "upstream_cut"
    else:
        assert (events, error) == decoded(name, [data])


@pytest.mark.parametrize("name", sorted(set(STREAMS) - set(ERRORS)))
def test_a_stream_that_breaks_before_its_finish_reason_is_cut_wherever_it_breaks(name):
    data = RECORDINGS[name]
    end = data.find(b'"finish_reason":"')
    end = data.rindex(b"\n\n", 0, end if end >= 0 else data.index(DONE)) + 2
    records = [at + 2 for at in range(end) if data.startswith(b"\n\n", at)]
    for at in {0, *records, *(at - 10 for at in records)}:
        events, error = decoded(name, [data[:at]])
        assert error is not None, at
        assert error[1] in ("upstream_cut", "upstream_bad_response")
        assert not any(isinstance(event, Finish) for event in events)


@pytest.mark.parametrize("name", sorted(set(STREAMS) - set(ERRORS)))
def test_what_came_before_a_cut_is_told(name):
    data = RECORDINGS[name]
    whole, _ = decoded(name, [data])
    half = data[: data.index(b"\n\n", len(data) // 3) + 2]
    events, error = decoded(name, [half])
    told = [event for event in events if not isinstance(event, Unknown | Finish | Usage)]
    if error is not None:
        assert told == whole[: len(told)] and told


@pytest.mark.parametrize("name", sorted(set(RECORDINGS) - set(STREAMS)))
def test_a_whole_answer_that_is_cut_is_no_answer(name):
    data = RECORDINGS[name].rstrip()
    for at in range(0, len(data), 13):
        events, error = decoded(name, [data[:at]])
        assert events == [] and error is not None, at
