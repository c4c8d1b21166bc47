"""What the Messages front renders is read back by Claude's decoder as what it was made of.

The events are those of every recorded answer of every upstream, and made-up ones: any text,
thoughts, calls and choices among each other. `heard` says what Messages can carry of them.
"""

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from app.fronts.anthropic.message import WholeMessage
from app.fronts.anthropic.stream import MessageStream
from app.wire.chat import ChatRequest, Message
from app.wire.events import (
    Event,
    Finish,
    Reasoning,
    Refusal,
    Started,
    Text,
    Thought,
    ToolArguments,
    ToolCall,
    Usage,
)
from app.wire.signature_mark import mark
from providers.claude import api as claude
from tests import anthropic_types
from tests.calls import answering, asked_of, call_of
from tests.fronts.test_property import (
    ALL,
    CUTS,
    HELLO,
    NAMES,
    REASONS,
    TEXTS,
    Given,
    pieces_of,
    recorded_events,
    usages,
)

NEW_ID = "0123456789abcdef0123456789abcdef"
LEGAL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch


def render(
    renderer: type[MessageStream | WholeMessage], events: list[Event], thoughts: str = "shown"
) -> bytes:
    chat = ChatRequest(messages=[Message("user", "Hi")], thoughts=thoughts)
    front = renderer(
        answering(asked=asked_of({"model": "m"}), chat=chat, new_id=NEW_ID), Given(events)
    )
    return front.feed(b"") + front.finish()


def read_back(pieces: list[bytes], *, stream: bool) -> list[Event]:
    call = call_of(claude.PROVIDER, HELLO | {"model": "claude-x"}, stream=stream)
    reader = claude.PROVIDER.decoder(call)
    events = [event for piece in pieces for event in reader.feed(piece)]
    return events + list(reader.finish())


class _Tool:
    def __init__(self, name: str) -> None:
        self.name, self.arguments, self.is_open = name, "", True


def _is_object(text: str) -> bool:
    try:
        return text[:1] == "{" and msgspec.json.decode(text) is not None
    except (msgspec.DecodeError, UnicodeError):
        return False


def blocks_of(events: list[Event]) -> list[Any]:
    """The content blocks of the first choice, as lists of kind and members."""
    blocks: list[list[Any]] = []
    tools: dict[int, _Tool] = {}

    def start(*block: Any) -> list[Any]:
        for tool in tools.values():
            tool.is_open = tool.is_open and not _is_object(tool.arguments)
        blocks.append(list(block))
        return blocks[-1]

    def last(kind: str) -> list[Any] | None:
        return blocks[-1] if blocks and blocks[-1][0] == kind else None

    def open_thought() -> list[Any] | None:
        found = last("thinking")
        return found if found and found[2] is None else None

    def sign(signature: str, text: str) -> None:
        block = open_thought() or start("thinking", text, None)
        block[2] = signature

    for event in events:
        match event:
            case Text() | Refusal() if event.text and not event.index:
                (last("text") or start("text", ""))[1] += event.text
            case Reasoning() if event.text and not event.index:
                (open_thought() or start("thinking", "", None))[1] += event.text
            case Thought() if not event.index:
                if event.redacted is not None:
                    start("redacted_thinking", event.redacted)
                elif event.signature is not None:
                    sign(event.signature, event.text)
            case ToolCall() if not event.index:
                if event.signature is not None:
                    sign(mark("g", event.signature), "")
                tools[event.tool] = _Tool(event.name)
                start("tool_use", tools[event.tool])
                tools[event.tool].arguments = event.arguments
            case ToolArguments() if not event.index:
                if tools[event.tool].is_open:
                    tools[event.tool].arguments += event.arguments
    for block in blocks:
        if block[0] == "thinking" and block[2] is None:
            block[2] = mark("t")
        elif block[0] == "tool_use":
            block[1:] = block[1].name, _plain(block[1].arguments or "{}")
    return blocks


def _plain(arguments: str) -> Any:
    try:
        return msgspec.json.decode(arguments)
    except (msgspec.DecodeError, UnicodeError):
        return arguments


def ending_of(events: list[Event]) -> tuple[Any, ...]:
    """stop_reason, stop_sequence and explanation that Messages has for the answer."""
    mine = [event for event in events if not getattr(event, "index", 0)]
    finish = next(event for event in mine if isinstance(event, Finish))
    refusal = "".join(event.text for event in mine if isinstance(event, Refusal))
    if finish.reason == "length":
        return "max_tokens", None, ""
    if any(isinstance(event, ToolCall) for event in mine):
        return "tool_use", None, ""
    if finish.reason == "content_filter" or refusal:
        return "refusal", None, refusal
    if finish.stop_sequence is not None:
        return "stop_sequence", finish.stop_sequence, ""
    return "end_turn", None, ""


def told_ending(events: list[Event]) -> tuple[Any, ...]:
    """The same of what was read back."""
    finish = next(event for event in events if isinstance(event, Finish))
    refusal = "".join(event.text for event in events if isinstance(event, Refusal))
    return finish.native, finish.stop_sequence, refusal


def check(events: list[Event], back: list[Event]) -> None:
    assert blocks_of([e for e in back if not isinstance(e, Refusal)]) == blocks_of(events)
    assert told_ending(back) == ending_of(events)
    [started] = [event for event in back if isinstance(event, Started)]
    assert (started.id, started.model) == (f"msg_{NEW_ID[:24]}", "m")
    ids = [event.id for event in back if isinstance(event, ToolCall)]
    assert len(set(ids)) == len(ids) and all(map(LEGAL_ID, ids))
    given_usage = [event for event in events if isinstance(event, Usage)]
    told = [event for event in back if isinstance(event, Usage)][-1]
    assert told.prompt_tokens > 0
    if given_usage and given_usage[-1].prompt_tokens:
        usage = given_usage[-1]
        cached, written = usage.cached_tokens, usage.cache_write_tokens or 0
        assert told.prompt_tokens == max(usage.prompt_tokens, cached + written)
        assert (told.cached_tokens, told.cache_write_tokens) == (cached, written)
        assert told.reasoning_tokens == usage.reasoning_tokens
        if usage.completion_tokens:
            assert told.completion_tokens == usage.completion_tokens


@pytest.mark.parametrize(("family", "name"), ALL)
def test_a_recorded_answer_is_read_back_from_a_stream(family, name):
    events = recorded_events(family, name)
    data = render(MessageStream, events)
    for pieces in ([data], [data[i : i + 1] for i in range(len(data))]):
        check(events, read_back(pieces, stream=True))


@pytest.mark.parametrize(("family", "name"), ALL)
def test_a_recorded_answer_is_read_back_from_a_whole_message(family, name):
    events = recorded_events(family, name)
    data = render(WholeMessage, events)
    check(events, read_back([data], stream=False))


@pytest.mark.parametrize(("family", "name"), ALL)
def test_the_official_sdk_folds_the_stream_into_the_whole_message(family, name):
    events = recorded_events(family, name)
    folded = anthropic_types.folded(render(MessageStream, events))
    whole = anthropic_types.message(render(WholeMessage, events))
    if any(isinstance(event, Usage) for event in events):
        assert folded.usage == whole.usage
    else:  # estimated by the bytes, which are not quite the same
        assert folded.usage.output_tokens == pytest.approx(whole.usage.output_tokens, 0.1, abs=1)
    told, wanted = folded.model_dump(), whole.model_dump()
    assert told["content"] == wanted["content"]
    for name in ("id", "type", "role", "model", "stop_reason", "stop_sequence", "stop_details"):
        assert told[name] == wanted[name]


@pytest.mark.parametrize(("family", "name"), ALL)
@pytest.mark.parametrize("thoughts", ["omitted", "off"])
def test_thoughts_that_nobody_asked_to_see_are_not_told(family, name, thoughts):
    events = recorded_events(family, name)
    for renderer in (MessageStream, WholeMessage):
        data = render(renderer, events, thoughts)
        back = read_back([data], stream=renderer is MessageStream)
        assert not any(isinstance(event, Reasoning) for event in back)
        blocks = [block for block in blocks_of(back) if block[0] == "thinking"]
        wanted = [block for block in blocks_of(events) if block[0] == "thinking"]
        assert blocks == [["thinking", "", s] for _, _, s in wanted if s != mark("t")]


@given(choose=st.data(), cuts=CUTS)
@settings(max_examples=150, deadline=None)
def test_a_recorded_answer_is_read_back_however_it_is_cut(choose, cuts):
    family, name = choose.draw(st.sampled_from(ALL))
    events = recorded_events(family, name)
    check(events, read_back(pieces_of(render(MessageStream, events), cuts), stream=True))
    check(events, read_back(pieces_of(render(WholeMessage, events), cuts), stream=False))


# --- made-up answers --------------------------------------------------------------------------

IDS = st.sampled_from(["", "call_0", "functions.read:0", "toolu_01ABCDEFGH", "x" * 65]) | TEXTS
SIGNATURES = st.text("abcXYZ019+/=", min_size=1, max_size=12)
OBJECTS = st.dictionaries(TEXTS, TEXTS | st.integers() | st.lists(TEXTS), max_size=2).map(
    lambda value: msgspec.json.encode(value).decode()
)
SAID = st.one_of(
    st.builds(Text, TEXTS),
    st.builds(Reasoning, TEXTS),
    st.builds(Refusal, TEXTS),
    st.builds(Thought, TEXTS, SIGNATURES),
    st.builds(lambda data: Thought(redacted=data), SIGNATURES),
    st.builds(
        lambda id, name, text, signature: ToolCall(id, name, text, signature=signature),
        IDS,
        NAMES,
        OBJECTS | st.just(""),
        st.none() | SIGNATURES,
    ),
)


@st.composite
def answers(draw: st.DrawFn) -> list[Event]:
    """The events of an answer whose calls come in pieces, among other things."""
    events: list[Event] = [Started(draw(NAMES), draw(NAMES))]
    calls: dict[int, int] = {}
    for event in draw(st.lists(SAID, max_size=12)):
        event = replace(event, index=draw(st.sampled_from([0, 0, 0, 1])))
        events.append(event)
        if isinstance(event, ToolCall):
            event.tool = calls.get(event.index, 0)
            calls[event.index] = event.tool + 1
            whole, cut = event.arguments, draw(st.integers(0, 40))
            event.arguments = whole[:cut]
            events.append(ToolArguments(whole[cut:], event.tool, event.index))
    events.append(Finish(draw(REASONS), 0, draw(NAMES), draw(st.none() | NAMES)))
    for usage in draw(st.lists(usages(), max_size=2)):
        events.insert(draw(st.integers(1, len(events))), usage)
    return events


def interleaved(events: list[Event], steps: list[int]) -> list[Event]:
    """The same events, the rest of each call's arguments moved behind some of what follows it."""
    rest = [event for event in events if not isinstance(event, ToolArguments)]
    late = [event for event in events if isinstance(event, ToolArguments)]
    for event, step in zip(late, steps, strict=False):
        kinds = [type(other) for other in rest]
        begins = next(
            at
            for at, other in enumerate(rest)
            if isinstance(other, ToolCall)
            and (other.tool, other.index) == (event.tool, event.index)
        )
        rest.insert(begins + 1 + step % (kinds.index(Finish) - begins), event)
    return rest


ORDERS = st.lists(st.integers(0, 20), min_size=12, max_size=12)


@given(answer=answers(), order=ORDERS, cuts=CUTS)
@settings(max_examples=250, deadline=None)
def test_a_stream_of_anything_is_read_back_as_it_was(answer, order, cuts):
    events = interleaved(answer, order)
    data = render(MessageStream, events)
    anthropic_types.events_of(data)
    check(events, read_back(pieces_of(data, cuts), stream=True))


@given(answer=answers(), order=ORDERS)
@settings(max_examples=250, deadline=None)
def test_a_whole_message_of_anything_is_read_back_as_it_was(answer, order):
    events = interleaved(answer, order)
    data = render(WholeMessage, events)
    anthropic_types.message(data)
    check(events, read_back([data], stream=False))
