"""Whatever an OpenAI-style upstream sends, events or a GatewayError come out, under every split."""

import json
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from app.wire.events import Event, Finish, Started, ToolArguments, ToolCall, Usage
from tests.providers.openai.chat_answers import RECORDINGS, comparable, outcome

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
WORDS = st.text(max_size=6) | st.none()
SMALL = st.integers(-1, 3) | st.none()


def objects(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with any of these members; now and then one is anything at all."""
    odd = {name: st.one_of(told, told, told, JSON) for name, told in members.items()}
    return st.fixed_dictionaries({}, optional=odd)


FUNCTION = objects(name=WORDS, arguments=WORDS | JSON)
DETAILS = st.lists(objects(text=WORDS, summary=WORDS, signature=WORDS, data=WORDS), max_size=2)
PARTS = st.lists(
    objects(
        type=st.sampled_from(["text", "thinking", "reference", "image_url", "x"]),
        text=WORDS,
        thinking=WORDS | st.lists(objects(text=WORDS), max_size=2),
        image_url=WORDS,
        reference_ids=JSON,
    ),
    max_size=2,
)
CALL = objects(index=SMALL, id=WORDS, function=FUNCTION, extra_content=JSON)
DELTA = objects(
    content=WORDS | PARTS,
    reasoning_content=WORDS,
    reasoning=WORDS | objects(content=WORDS),
    reasoning_details=DETAILS,
    thinking_blocks=st.lists(objects(type=WORDS, thinking=WORDS, signature=WORDS), max_size=2),
    refusal=WORDS,
    tool_calls=st.lists(CALL, max_size=2),
    function_call=FUNCTION,
    annotations=JSON,
    images=JSON,
)
REASON = st.sampled_from(["stop", "length", "tool_calls", "error", "", "novel", None])
CHOICE = objects(
    index=SMALL, delta=DELTA, message=DELTA, finish_reason=REASON, content_filter_results=JSON
)
USAGE = objects(prompt_tokens=JSON, completion_tokens=JSON, total_tokens=JSON)
CHUNK = objects(
    id=WORDS,
    model=WORDS,
    choices=st.lists(CHOICE, max_size=2),
    usage=USAGE,
    x_groq=objects(usage=USAGE),
    citations=JSON,
) | objects(error=JSON)
CUTS = st.lists(st.integers(0, 1 << 16), max_size=6)


def check(data: bytes, cuts: list[int], n: int) -> None:
    """The same events under this split, in an order that every front can render."""
    unsplit = comparable(outcome([data], n))
    at = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    pieces = [data[a:b] for a, b in pairwise(at)]
    assert comparable(outcome(pieces, n)) == unsplit
    events, error = unsplit
    check_order(events, n, is_whole=error is None)


def check_order(events: list[Event], n: int, *, is_whole: bool) -> None:
    began: set[tuple[int, int]] = set()
    ended: list[int] = []
    for event in events:
        index = getattr(event, "index", 0)
        assert n > 1 or not index
        match event:
            case Finish():
                assert event.reason in ("stop", "length", "tool_calls", "content_filter")
                ended.append(index)
            case ToolCall():
                assert event.tool == sum(1 for choice, _ in began if choice == index)
                assert event.id and event.name
                began.add((index, event.tool))
            case ToolArguments():
                assert (index, event.tool) in began
    assert len(set(ended)) == len(ended)
    assert bool(ended) == is_whole
    said = [event for event in events if hasattr(event, "index") or isinstance(event, Usage)]
    assert not said or any(isinstance(event, Started) for event in events[: events.index(said[0])])


@given(st.lists(CHUNK, max_size=5), st.booleans(), CUTS, st.integers(1, 2))
@settings(max_examples=400, deadline=None)
def test_a_stream_of_any_chunks_is_events_or_an_error(chunks, has_done, cuts, n):
    stream = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)
    check(stream + b"data: [DONE]\n\n" * has_done, cuts, n)


@given(CHUNK, CUTS, st.integers(1, 2))
@settings(max_examples=200, deadline=None)
def test_a_whole_answer_of_any_members_is_events_or_an_error(answer, cuts, n):
    check(json.dumps(answer).encode(), cuts, n)


@given(st.randoms(use_true_random=False), CUTS)
@settings(max_examples=300, deadline=None)
def test_a_damaged_recording_is_events_or_an_error(chance, cuts):
    data = bytearray(RECORDINGS[chance.choice(sorted(RECORDINGS))])
    for _ in range(chance.randint(1, 5)):
        at = chance.randrange(len(data))
        match chance.randrange(4):
            case 0:
                data[at] = chance.randrange(256)
            case 1:
                del data[at : at + chance.randint(1, 40)]
            case 2:
                data[at:at] = data[at // 2 : at // 2 + chance.randint(1, 40)]
            case _:
                data[at:at] = chance.choice(
                    [b"\n", b"\r", b"null", b'"', b"{}", b"\\ud83d", b"error: "]
                )
    check(bytes(data), cuts, 1)


@given(st.binary(max_size=300), CUTS)
@settings(max_examples=200, deadline=None)
def test_random_bytes_are_never_an_answer(data, cuts):
    check(data, cuts, 1)
    assert outcome([data])[1] is not None
