"""What the Gemini front renders is read back as the events it was made of, however it is cut.

The other half is the decoder of Google's own answers. The events are those of every recorded answer
of every provider, and ones made up. `heard` says what the format cannot carry, and why.
"""

import itertools
import json
from base64 import b64encode
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from app.fronts.gemini.answer import WholeAnswer
from app.fronts.gemini.stream import ChunkArray, ChunkStream
from app.wire.events import (
    Event,
    Finish,
    Reasoning,
    Refusal,
    Started,
    Text,
    TokenLogprob,
    ToolArguments,
    ToolCall,
    TopLogprob,
    Usage,
)
from app.wire.signature_mark import START
from providers.gemini.answer import AnswerDecoder
from providers.gemini.signatures import Signatures
from tests.fronts.gemini_calls import answering, config_of
from tests.fronts.test_property import ALL, CUTS, Given, pieces_of, recorded_events

SHOWN = config_of(thinkingConfig={"includeThoughts": True})
KINDS = [ChunkStream, ChunkArray, WholeAnswer]


def render(kind: Any, events: list[Event]) -> bytes:
    front = kind(answering(SHOWN), Given(events))
    return front.feed(b"") + front.finish()


def read_back(kind: Any, pieces: Iterable[bytes]) -> list[Event]:
    ids = itertools.count()
    decoder = AnswerDecoder(
        model="?",
        new_id=lambda: f"{next(ids):032x}",
        stream=kind is not WholeAnswer,
        signatures=Signatures(),
    )
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return events + decoder.finish()


class Heard:
    """One candidate's words by kind. How they were cut, and calls among text, is not kept."""

    def __init__(self) -> None:
        self.thinking = self.text = self.reason = ""
        self.has_refused = False
        self.calls: dict[int, ToolCall] = {}
        self.logprobs: list[TokenLogprob] = []

    def told(self) -> tuple[Any, ...]:
        calls = [
            (call.id, call.name, json.loads(call.arguments or "{}"), _upstreams(call.signature))
            for call in self.calls.values()
        ]
        reason = self.reason or "stop"
        if reason in ("stop", "tool_calls"):
            reason = "tool_calls" if calls else "stop"
        # A refusal is told as text, and as the reason.
        if self.has_refused and reason == "stop":
            reason = "content_filter"
        return self.thinking, self.text, sorted(calls, key=str), reason, self.logprobs


def _upstreams(signature: str | None) -> str | None:
    """A signature of the upstream's, not the gateway's own that carries a thought."""
    return None if not signature or signature.startswith(START) else signature


def heard(events: list[Event]) -> dict[int, tuple[Any, ...]]:
    found: dict[int, Heard] = {}
    for event in events:
        if not isinstance(event, Text | Reasoning | Refusal | ToolCall | ToolArguments | Finish):
            continue
        one = found.setdefault(event.index, Heard())
        match event:
            case Text():
                one.text += event.text
                one.logprobs += event.logprobs or []
            case Reasoning():
                one.thinking += event.text
            case Refusal():
                one.text += event.text
                one.has_refused = one.has_refused or bool(event.text)
            case ToolCall():
                one.calls[event.tool] = replace(event)
            case ToolArguments():
                one.calls[event.tool].arguments += event.arguments
            case Finish():
                one.reason = one.reason or event.reason
    return {index: one.told() for index, one in found.items()}


def counted(events: list[Event]) -> tuple[int, int, int, int] | None:
    """The last counts; None where nobody counted, so that they are estimated."""
    usage = Usage()
    for event in events:
        usage = event if isinstance(event, Usage) else usage
    if not (usage.prompt_tokens and usage.completion_tokens):
        return None
    thoughts = min(usage.reasoning_tokens, usage.completion_tokens)
    return usage.prompt_tokens, usage.completion_tokens, thoughts, usage.cached_tokens


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("family", "name"), ALL)
def test_a_recorded_answer_is_read_back_as_it_was(family, name, kind):
    events = recorded_events(family, name)
    data = render(kind, events)
    bytewise = [data[i : i + 1] for i in range(len(data))]
    for pieces in ([data], bytewise):
        back = read_back(kind, pieces)
        assert isinstance(back[0], Started)
        assert heard(back) == heard(events)
        if (expected := counted(events)) is not None:
            assert counted(back) == expected


@given(choose=st.data(), cuts=CUTS)
@settings(max_examples=150, deadline=None)
def test_a_recorded_answer_is_read_back_however_it_is_cut(choose, cuts):
    family, name = choose.draw(st.sampled_from(ALL))
    kind = choose.draw(st.sampled_from(KINDS))
    events = recorded_events(family, name)
    pieces = pieces_of(render(kind, events), cuts)
    assert heard(read_back(kind, pieces)) == heard(events)


# --- made-up answers --------------------------------------------------------------------------

TEXTS = st.text(max_size=12) | st.sampled_from(
    ["\r\n\r\ndata: {}\r\n\r\n", "]", "[DONE]", '"error":{}', '{"finishReason":"STOP"}', "\u2028"]
)
NAMES = st.text(st.characters(codec="ascii", categories=["L"]), min_size=1, max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=6,
)
OBJECTS = st.dictionaries(TEXTS, JSON, max_size=3).map(json.dumps)
LOGPROBS = st.lists(
    st.builds(
        lambda token, value, other: TokenLogprob(
            token, value, list(token.encode()), [TopLogprob(other, value, list(other.encode()))]
        ),
        NAMES,
        st.floats(-1000, 0),
        NAMES,
    ),
    min_size=1,
    max_size=2,
)
SIGNATURES = st.none() | st.binary(min_size=1, max_size=12).map(
    lambda data: b64encode(data).decode()
)
SAID = st.one_of(
    st.builds(Text, TEXTS),
    st.builds(lambda text, logprobs: Text(text, logprobs=logprobs), NAMES, LOGPROBS),
    st.builds(Reasoning, TEXTS),
    st.builds(Refusal, TEXTS),
    st.tuples(NAMES, OBJECTS, SIGNATURES, st.integers(0, 20)),
)


@st.composite
def answers(draw: st.DrawFn) -> list[Event]:
    n = draw(st.integers(1, 2))
    events: list[Event] = [Started("", "m")]
    tools = [0] * n
    later: list[Event] = []
    for said in draw(st.lists(SAID, max_size=10)):
        index = draw(st.integers(0, n - 1))
        if not isinstance(said, tuple):
            events.append(replace(said, index=index))
            continue
        name, arguments, signature, at = said
        tool = tools[index]
        tools[index] += 1
        call_id = f"call-{index}-{tool}"
        events.append(ToolCall(call_id, name, arguments[:at], tool, index, signature))
        rest = ToolArguments(arguments[at:], tool, index)
        # Some upstreams tell the pieces of several calls in turns.
        (later if draw(st.booleans()) else events).append(rest)
    events += later
    for index in range(n):
        events.append(Finish(draw(st.sampled_from(["stop", "length", "tool_calls"])), index))
    events.append(Usage(7, 5, None, 2, None, 3))
    return events


@pytest.mark.parametrize("kind", KINDS)
@given(events=answers(), cuts=CUTS)
@settings(max_examples=200, deadline=None)
def test_an_answer_of_anything_is_read_back_as_it_was(kind, events, cuts):
    back = read_back(kind, pieces_of(render(kind, events), cuts))
    assert heard(back) == heard(events)
    assert counted(back) == counted(events)


@given(events=answers())
@settings(max_examples=100, deadline=None)
def test_a_stream_holds_data_lines_alone(events):
    data = render(ChunkStream, events)
    assert data.endswith(b"\r\n\r\n")
    for line in data.removesuffix(b"\r\n\r\n").split(b"\r\n\r\n"):
        assert line.startswith(b"data: {")
        assert b"\n" not in line
        assert b"\r" not in line
        json.loads(line[6:])


@given(events=answers())
@settings(max_examples=100, deadline=None)
def test_an_array_is_one_json_value(events):
    told = json.loads(render(ChunkArray, events))
    assert all(len(each["candidates"]) == 1 for each in told)
    assert "finishReason" in told[-1]["candidates"][0]
    assert "usageMetadata" in told[-1]
