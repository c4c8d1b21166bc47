"""What the OpenAI chat front renders is read back as the events it was made of, however it is cut.

The events are those of every recorded answer, and ones made up: any text, thoughts, calls and
choices among each other. `heard` says what the format cannot carry, and why.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from app.fronts.openai_chat.completion import Completion
from app.fronts.openai_chat.stream import ChatStream
from app.wire.events import (
    End,
    Event,
    Extension,
    Finish,
    Follow,
    Piece,
    Reasoning,
    Refusal,
    Reply,
    Session,
    Started,
    Text,
    Thought,
    TokenLogprob,
    ToolArguments,
    ToolCall,
    TopLogprob,
    Unknown,
    Usage,
)
from app.wire.provider import Decoder, Key
from providers.bing import schema as bing_schema
from providers.bing import web as bing
from providers.bing.question import Learned
from providers.coze import api as coze
from tests import openai_types
from tests.calls import answering, call_of
from tests.providers.claude.test_web_decode import decoder as claude_web
from tests.providers.openai.chat_answers import RECORDINGS, fresh, outcome
from tests.providers.openai.test_web_decode import decoder as chatgpt_web
from tests.providers.test_expected_answers import ANSWERS, STREAMS, call_for, data_of

Heard = dict[int, list[Any]]
# The order in which a completion is read: it has one place for each kind.
KINDS = (Reasoning, Thought, Extension, Text, Refusal, ToolCall)


class Given:
    """A decoder that has decoded already."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.events = list(events)

    def feed(self, data: bytes) -> list[Event]:
        return self.events

    def finish(self) -> list[Event]:
        return []


def render(renderer: type[ChatStream | Completion], events: list[Event]) -> bytes:
    body = {"stream": True, "stream_options": {"include_usage": True}}
    front = renderer(answering(body=body), Given(events))
    return front.feed(b"") + front.finish()


def read_back(pieces: list[bytes], n: int) -> list[Event]:
    reader = fresh(n)
    events = [event for piece in pieces for event in reader.feed(piece)]
    return events + list(reader.finish())


def heard(events: list[Event], *, folded: bool) -> tuple[Any, Heard, dict[int, str], Usage]:
    """The events as far as an OpenAI chat answer can carry them: who, what, ends, usage."""
    who: Any = None
    said: Heard = {0: []}  # the front tells choice 0 also where nothing was said
    calls: dict[tuple[int, int], ToolCall] = {}
    ends: dict[int, str] = {}
    usage = Usage()  # nobody's usage is told as zeros
    for event in events:
        match event:
            case Session() | Follow() | Reply() | End() | Piece() | Unknown():
                continue  # no part of the answer itself: for the engine and the next turn
            case Started():
                # An upstream that gives no id is told with the gateway's.
                who = replace(event, id=event.id or "chatcmpl-i")
            case Finish():
                # The upstream's own word and the stop sequence have no place in OpenAI's answer.
                ends.setdefault(event.index, event.reason)
                said.setdefault(event.index, [])
            case Usage():
                # The last one holds. What only prices need has no place in OpenAI's answer.
                usage = replace(event, cost=None, cache_write_1h_tokens=0, is_estimated=False)
            case Text() | Reasoning() | Refusal():
                told = said.setdefault(event.index, [])
                if isinstance(event, Text) and not event.logprobs:
                    event = replace(event, logprobs=None)  # none are told like an empty list
                if event.text or (isinstance(event, Text) and event.logprobs):
                    told.append(replace(event))  # an empty piece says nothing
            case ToolCall():
                call = calls[event.index, event.tool] = replace(event)
                said.setdefault(event.index, []).append(call)
            case ToolArguments():
                # The cuts between the pieces of one call are not kept.
                calls[event.index, event.tool].arguments += event.arguments
            case Thought():
                said.setdefault(event.index, []).append(event)
            case Extension():
                # Other members have no place in OpenAI's message: clients find them, the decoder
                # reads only those which upstreams use.
                for name in ("images", "annotations", "reasoning_details"):
                    if name in event.fields:
                        entries = [_unnumbered(entry) for entry in event.fields[name]]
                        said.setdefault(event.index, []).append(Extension({name: entries}))
    for call in calls.values():
        call.arguments = call.arguments or "{}"  # a call without arguments has none
    for index, told in said.items():
        if folded:
            told.sort(key=lambda event: KINDS.index(type(event)))  # one place for each kind
        said[index] = _joined(told)
        # Whether calls were made decides between these two words; no word at all is `stop`.
        if ends.get(index, "stop") in ("stop", "tool_calls"):
            has_calls = any(isinstance(event, ToolCall) for event in told)
            ends[index] = "tool_calls" if has_calls else "stop"
    total = usage.total_tokens or usage.prompt_tokens + usage.completion_tokens  # none: the sum
    written = usage.cache_write_tokens or None  # none and 0 are one
    return who, said, ends, replace(usage, total_tokens=total, cache_write_tokens=written)


def _unnumbered(entry: Any) -> Any:
    """OpenAI's client joins entries by an `index` that the front adds."""
    return {k: v for k, v in entry.items() if k != "index"} if isinstance(entry, dict) else entry


def _joined(told: list[Any]) -> list[Any]:
    """Neighbours of one kind as one: where a text was cut is not kept."""
    out: list[Any] = []
    for event in told:
        last = out[-1] if out else None
        if type(event) is not type(last) or isinstance(event, ToolCall | Thought):
            out.append(event)
        elif isinstance(event, Extension):
            name, entries = next(iter(event.fields.items()))
            last.fields = {**last.fields, name: last.fields.get(name, []) + entries}
        else:
            last.text += event.text
            if isinstance(event, Text) and event.logprobs is not None:
                last.logprobs = (last.logprobs or []) + event.logprobs
    return out


def pieces_of(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    at = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(at)]


CUTS = st.lists(st.integers(0, 1 << 16), max_size=8)


def web_decoder(name: str) -> Decoder:
    """The decoder for one of the recordings in WEB."""
    key = Key("pool", "1", "s3cret")
    match name:
        case _ if name.startswith("chatgpt-web"):
            return chatgpt_web()
        case _ if name.startswith("web-"):
            return claude_web()
        case _ if name.startswith("chat-type2"):
            learned = Learned(bing_schema.Conversation("51D", "c1", "s", "t1"), True)
            call = call_of(bing.PROVIDER, HELLO, key=key, model="gpt-4", learned=learned)
            decoder = bing.PROVIDER.decoder(call)
            list(decoder.feed(b"{}\x1e"))  # the hub's handshake
            return decoder
    return coze.PROVIDER.decoder(call_of(coze.PROVIDER, HELLO, key=key, model="coze-api"))


def recorded_events(family: str, name: str) -> list[Event]:
    if name in WEB:
        decoder, data = web_decoder(name), data_of(family, name)
        data += b"\x1e" if family == "bing" else b""
        return [*decoder.feed(data), *decoder.finish()]
    if family == "openai":
        events, error = outcome([RECORDINGS[name]], 3 if "-n3" in name else 1)
        assert error is None
        return events
    provider, call = call_for(family, (family, name) in STREAMS)
    decoder = provider.decoder(call)
    return [*decoder.feed(data_of(family, name)), *decoder.finish()]


BROKEN = ("groq-error-event.sse", "openrouter-error-in-stream.sse", "llamacpp-error-line.sse")
HELLO = {"messages": [{"role": "user", "content": "Hi"}], "stream": True}
WEB = {
    "chatgpt-web-delta-v1.sse": "openai",
    "web-completion-messages-2026-08.sse": "claude",
    "web-completion-raw-2023.sse": "claude",
    "chat-type2-image-generation.json": "bing",
    "chat-type2-search-answer.json": "bing",
    "v1-workflows-chat-stream.sse": "coze",
    "v3-chat-docs-image-stream.sse": "coze",
    "v3-chat-text-stream.sse": "coze",
}
ALL = [
    *ANSWERS,
    *((family, name) for name, family in WEB.items()),
    *(("openai", name) for name in RECORDINGS if name not in BROKEN),
]


@pytest.mark.parametrize("renderer", [ChatStream, Completion])
@pytest.mark.parametrize(("family", "name"), ALL)
def test_a_recorded_answer_is_read_back_as_it_was(family, name, renderer):
    events = recorded_events(family, name)
    folded = renderer is Completion
    expected = heard(events, folded=folded)
    assert expected[2] and expected[0] is not None
    data = render(renderer, events)
    if name not in RECORDINGS:  # the SDK reads it; for those see test_decoded_answers
        (openai_types.completion if folded else openai_types.chunks_of)(data)
    bytewise = [data[i : i + 1] for i in range(len(data))]
    for pieces in ([data], bytewise):
        assert heard(read_back(pieces, 3), folded=folded) == expected


@given(choose=st.data(), cuts=CUTS)
@settings(max_examples=150, deadline=None)
def test_a_recorded_answer_is_read_back_however_it_is_cut(choose, cuts):
    family, name = choose.draw(st.sampled_from(ALL))
    events = recorded_events(family, name)
    for renderer in (ChatStream, Completion):
        folded = renderer is Completion
        pieces = pieces_of(render(renderer, events), cuts)
        assert heard(read_back(pieces, 3), folded=folded) == heard(events, folded=folded)


# --- made-up answers --------------------------------------------------------------------------

AWKWARD = st.sampled_from(
    [
        "\\ud83d",
        "\\\\ud83d\\ude00",
        "\n\ndata: [DONE]\n\n",
        "[DONE]",
        "\r",
        "\r\n",
        "\x00\x7f\u2028\u2029\x85\ufeff",
        '"error":{"message":"x"}',
        "error: x",
        ": ping",
        "<think>hm</think>",
        "\U0001f600\u00e9\ufffd",
        '"usage":{"prompt_tokens":5}',
    ]
)
TEXTS = st.text(max_size=12) | AWKWARD
ARGUMENTS = TEXTS.filter(lambda text: text != "null")  # which says that there are none
NAMES = st.text(min_size=1, max_size=8)
COUNTS = st.integers(0, 10**9)
LOGPROBS = st.lists(
    st.builds(
        TokenLogprob,
        TEXTS,
        st.floats(-1000, 0),
        st.none() | st.lists(st.integers(0, 255), max_size=3),
        st.lists(st.builds(TopLogprob, TEXTS, st.floats(-1000, 0)), max_size=2),
    ),
    min_size=1,
    max_size=2,
)
THOUGHTS = st.builds(Thought, TEXTS, st.none() | TEXTS) | st.builds(
    lambda data: Thought(redacted=data), TEXTS
)
SAID = st.one_of(
    st.builds(Text, TEXTS),
    # The text is never empty: a completion with calls and no text has nowhere to put logprobs.
    st.builds(lambda text, logprobs: Text(text, logprobs=logprobs), NAMES, LOGPROBS),
    st.builds(Reasoning, TEXTS),
    st.builds(Refusal, TEXTS),
    THOUGHTS,
    st.builds(lambda name, text: ToolCall("", name, text), NAMES, ARGUMENTS),
    st.builds(
        lambda name, text, signature: ToolCall("", name, text, signature=signature),
        NAMES,
        ARGUMENTS,
        TEXTS,
    ),
    st.builds(ToolArguments, ARGUMENTS),
    st.builds(lambda url: Extension({"images": [{"type": "image_url", "url": url}]}), TEXTS),
    st.builds(Unknown, NAMES),
    st.builds(lambda key: Session({"key": key}), NAMES),
)
REASONS = st.sampled_from(["stop", "length", "tool_calls", "content_filter"])


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    prompt, completion = draw(COUNTS), draw(COUNTS)
    return Usage(
        prompt,
        completion,
        draw(st.none() | st.just(prompt + completion)),
        draw(COUNTS),
        draw(st.none() | COUNTS),
        draw(COUNTS),
    )


@st.composite
def answers(draw: st.DrawFn) -> tuple[list[Event], int]:
    """The events of an answer and how many choices it has."""
    n = draw(st.integers(1, 3))
    events: list[Event] = [Started(draw(NAMES), draw(NAMES))]
    calls: dict[int, int] = {}
    for event in draw(st.lists(SAID, max_size=12)):
        event = replace(event)
        if hasattr(event, "index"):
            event.index = draw(st.integers(0, n - 1))
        if isinstance(event, ToolCall):
            event.tool = calls.get(event.index, 0)
            calls[event.index] = event.tool + 1
            event.id = f"{event.tool}-{draw(TEXTS)}"
        elif isinstance(event, ToolArguments):
            if not calls.get(event.index):
                continue  # arguments of no call
            event.tool = draw(st.integers(0, calls[event.index] - 1))
        events.append(event)
    for index in draw(st.permutations(range(n))):
        events.append(Finish(draw(REASONS), index, draw(NAMES), draw(st.none() | NAMES)))
    for usage in draw(st.lists(usages(), max_size=2)):
        events.insert(draw(st.integers(1, len(events))), usage)
    return events, n


@given(answer=answers(), cuts=CUTS)
@settings(max_examples=250, deadline=None)
def test_a_stream_of_anything_is_read_back_as_it_was(answer, cuts):
    events, n = answer
    pieces = pieces_of(render(ChatStream, events), cuts)
    assert heard(read_back(pieces, n), folded=False) == heard(events, folded=False)


@given(answer=answers(), cuts=CUTS)
@settings(max_examples=250, deadline=None)
def test_a_completion_of_anything_is_read_back_as_it_was(answer, cuts):
    events, n = answer
    pieces = pieces_of(render(Completion, events), cuts)
    assert heard(read_back(pieces, n), folded=True) == heard(events, folded=True)


@given(answer=answers())
@settings(max_examples=100, deadline=None)
def test_a_stream_and_a_completion_say_the_same(answer):
    events, n = answer
    stream = read_back([render(ChatStream, events)], n)
    whole = read_back([render(Completion, events)], n)
    assert heard(stream, folded=True) == heard(whole, folded=True)
