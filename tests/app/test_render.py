"""What leaves the gateway, byte for byte."""

import json

import msgspec
import pytest

from app.render import DONE, Chunks, Completion, Passthrough, Whole
from app.wire.errors import GatewayError, bad_response, upstream_cut
from app.wire.events import (
    Extension,
    Finish,
    Reasoning,
    Refusal,
    Session,
    Started,
    Text,
    ToolArguments,
    ToolCall,
    Usage,
)
from tests.recorded import recorded

STREAMS = sorted(p.name for p in recorded("openai").glob("chat-stream-*.sse"))
BODIES = sorted(p.name for p in recorded("openai").glob("chat-[!s]*.json"))


def through(renderer, pieces):
    out = b"".join(renderer.feed(piece) for piece in pieces)
    return out + renderer.finish()


@pytest.mark.parametrize("name", STREAMS)
def test_a_recorded_stream_passes_untouched_under_every_two_way_split(name):
    stream = (recorded("openai") / name).read_bytes()
    for at in range(len(stream) + 1):
        assert through(Passthrough(), [stream[:at], stream[at:]]) == stream


@pytest.mark.parametrize("name", STREAMS)
def test_a_recorded_stream_passes_untouched_byte_by_byte(name):
    stream = (recorded("openai") / name).read_bytes()
    assert through(Passthrough(), [stream[i : i + 1] for i in range(len(stream))]) == stream


@pytest.mark.parametrize("name", STREAMS)
def test_a_recorded_stream_cut_at_any_byte_is_an_error_and_never_half_an_event(name):
    stream = (recorded("openai") / name).read_bytes()
    end = stream.index(b"data: [DONE]")
    for at in range(end):
        renderer = Passthrough()
        out = renderer.feed(stream[:at])
        assert out == b"" or out.endswith(b"\n\n")
        assert stream.startswith(out)
        with pytest.raises(GatewayError) as caught:
            renderer.finish()
        assert caught.value.code == "upstream_cut"


def test_the_usage_of_a_stream_is_read_although_another_chunk_follows_it():
    stream = (recorded("openai") / "chat-stream-moderation-after-usage.sse").read_bytes()
    renderer = Passthrough()
    through(renderer, [stream])
    assert renderer.usage.prompt_tokens == 13
    assert renderer.usage.completion_tokens == 11


def test_a_stream_without_usage_has_none():
    stream = (recorded("openai") / "chat-stream-tools-parallel.sse").read_bytes()
    renderer = Passthrough()
    through(renderer, [stream])
    assert renderer.usage is None


def test_done_without_its_last_newlines_is_still_an_end():
    renderer = Passthrough()
    assert through(renderer, [b"data: {}\n\ndata: [DONE]"]) == b"data: {}\n\ndata: [DONE]\n\n"


def test_crlf_streams_pass_untouched():
    stream = (recorded("openai") / "chat-stream-usage.sse").read_bytes().replace(b"\n", b"\r\n")
    for at in range(0, len(stream), 7):
        assert through(Passthrough(), [stream[:at], stream[at:]]) == stream


def test_an_error_object_in_the_stream_is_passed_on_and_is_an_ending():
    event = (
        b'data: {"error":{"message":"sorry","type":"server_error","param":null,"code":null}}\n\n'
    )
    renderer = Passthrough()
    assert through(renderer, [event]) == event
    assert renderer.refused


def test_an_endless_event_is_refused():
    renderer = Passthrough()
    with pytest.raises(GatewayError):
        for _ in range(40):
            renderer.feed(b"x" * 1_000_000)


@pytest.mark.parametrize("name", BODIES)
def test_a_recorded_body_passes_untouched(name):
    body = (recorded("openai") / name).read_bytes()
    renderer = Whole(1 << 20)
    assert through(renderer, [body[:100], body[100:]]) == body
    assert renderer.usage.prompt_tokens > 0


@pytest.mark.parametrize("body", [b"", b"{", b"<html>", b'{"a":1} x', b"\xff", b'{"usage":1,"a":'])
def test_a_body_that_is_no_json_is_a_bad_response(body):
    with pytest.raises(GatewayError) as caught:
        through(Whole(1000), [body])
    assert caught.value.status == 502


def test_a_body_above_the_limit_is_refused():
    with pytest.raises(GatewayError):
        Whole(10).feed(b"x" * 11)


class Script:
    """A decoder that says one prepared event per byte fed."""

    def __init__(self, events):
        self._events = list(events)

    def feed(self, data):
        told, self._events = self._events[: len(data)], self._events[len(data) :]
        return told

    def finish(self):
        return self._events


def chunks_of(events, **options):
    options = {"include_usage": False, "stamp": {}} | options
    renderer = Chunks(Script(events), model="m", created=7, new_id="n", **options)
    out = b"".join(renderer.feed(b".") for _ in events) + renderer.finish()
    lines = [line[6:] for line in out.split(b"\n\n") if line]
    assert out.endswith(DONE)
    return [json.loads(line) for line in lines[:-1]]


def folded(events, **options):
    options = {"stamp": {}} | options
    renderer = Completion(
        Script(events), model="m", created=7, new_id="n", max_bytes=1 << 20, **options
    )
    renderer.feed(b"." * len(events))
    return json.loads(renderer.finish())


TALK = [Started("chatcmpl-1", "model-1"), Text("Hello"), Text(' wörld \n"q" 🙂'), Finish("stop")]


def test_chunks_begin_with_the_role_and_end_with_the_reason():
    chunks = chunks_of(TALK)
    deltas = [c["choices"][0]["delta"] for c in chunks]
    assert deltas == [
        {"role": "assistant", "content": ""},
        {"content": "Hello"},
        {"content": ' wörld \n"q" 🙂'},
        {},
    ]
    assert [c["choices"][0]["finish_reason"] for c in chunks] == [None, None, None, "stop"]
    assert {(c["id"], c["created"], c["model"]) for c in chunks} == {("chatcmpl-1", 7, "model-1")}
    assert all("usage" not in c for c in chunks)


def test_usage_is_the_last_chunk_when_asked_for_and_null_before():
    usage = Usage(10, 5, None, cached_tokens=3, reasoning_tokens=2)
    chunks = chunks_of([*TALK[:-1], usage, TALK[-1]], include_usage=True)
    assert [c["usage"] for c in chunks[:-1]] == [None] * 4
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }


def test_tool_calls_are_told_once_and_then_in_pieces():
    chunks = chunks_of(
        [
            Started("i", "m"),
            ToolCall("call_1", "f"),
            ToolArguments('{"a"'),
            ToolArguments(":1}"),
            ToolCall("call_2", "g", "{}", tool=1, extra_content={"google": {"s": "x"}}),
            Finish("tool_calls"),
        ]
    )
    calls = [c["choices"][0]["delta"].get("tool_calls") for c in chunks]
    assert calls[1:5] == [
        [
            {
                "index": 0,
                "id": "call_1",
                "type": "function",
                "function": {"name": "f", "arguments": ""},
            }
        ],
        [{"index": 0, "function": {"arguments": '{"a"'}}],
        [{"index": 0, "function": {"arguments": ":1}"}}],
        [
            {
                "index": 1,
                "id": "call_2",
                "type": "function",
                "function": {"name": "g", "arguments": "{}"},
                "extra_content": {"google": {"s": "x"}},
            }
        ],
    ]


def test_each_choice_has_its_own_role_and_reason():
    chunks = chunks_of(
        [Started("i", "m"), Text("a"), Text("b", index=1), Finish("stop"), Finish("length", 1)]
    )
    told = [(c["choices"][0]["index"], c["choices"][0]["delta"]) for c in chunks]
    assert told == [
        (0, {"role": "assistant", "content": ""}),
        (0, {"content": "a"}),
        (1, {"role": "assistant", "content": ""}),
        (1, {"content": "b"}),
        (0, {}),
        (1, {}),
    ]


def test_the_stamp_is_in_every_chunk_and_grows_with_the_session():
    stamp = {"claude": {"type": "web", "index": "7"}}
    events = [Started("i", "m"), Text("a"), Session({"conversation": {"uuid": "u"}}), Text("b")]
    chunks = chunks_of([*events, Finish("stop")], stamp=stamp)
    assert chunks[1]["claude"] == {"type": "web", "index": "7"}
    assert chunks[-1]["claude"] == {"type": "web", "index": "7", "conversation": {"uuid": "u"}}


def test_reasoning_refusal_and_extensions_have_their_members():
    events = [
        Started("i", "m"),
        Reasoning("hm"),
        Refusal("no"),
        Extension({"thinking_blocks": [{"n": 1}]}),
        Finish("stop"),
    ]
    deltas = [c["choices"][0]["delta"] for c in chunks_of(events)]
    assert deltas[1:4] == [
        {"reasoning_content": "hm"},
        {"refusal": "no"},
        {"thinking_blocks": [{"index": 0, "n": 1}]},
    ]
    message = folded([*events[:-1], Extension({"thinking_blocks": [{"n": 2}]}), events[-1]])
    message = message["choices"][0]["message"]
    assert message["reasoning_content"] == "hm"
    assert message["refusal"] == "no"
    assert message["content"] is None
    assert message["thinking_blocks"] == [{"n": 1}, {"n": 2}]


def test_an_answer_without_an_ending_is_cut():
    for render in (chunks_of, folded):
        with pytest.raises(GatewayError) as caught:
            render([Started("i", "m"), Text("a")])
        assert caught.value.code == "upstream_cut"


class Breaking(Script):
    """Says its events one after the other and then breaks."""

    def feed(self, data):
        yield from super().feed(data)
        if not self._events:
            raise bad_response("broken")

    def finish(self):
        yield from self._events
        raise upstream_cut()


@pytest.mark.parametrize("at_the_end", [False, True])
def test_what_was_said_before_a_decoder_broke_in_the_same_read_is_not_lost(at_the_end):
    told = {"model": "m", "created": 7, "new_id": "n", "stamp": {}, "include_usage": False}
    renderer = Chunks(Breaking(TALK[:3]), **told)
    sent = renderer.feed(b".")
    with pytest.raises(GatewayError) as caught:
        sent += renderer.finish() if at_the_end else renderer.feed(b"..")
    texts = [
        json.loads(line[6:])["choices"][0]["delta"]["content"]
        for line in (sent + caught.value.said).split(b"\n\n")[:-1]
    ]
    assert texts == ["", *(event.text for event in TALK[1:3])]


def test_the_folded_completion_says_what_the_chunks_say():
    events = [
        *TALK[:-1],
        ToolCall("c", "f"),
        ToolArguments("{}"),
        Usage(1, 2),
        Finish("tool_calls"),
    ]
    whole = folded(events)
    chunks = chunks_of(events)
    assert whole["object"] == "chat.completion"
    assert whole["choices"][0]["message"]["content"] == "".join(
        c["choices"][0]["delta"].get("content") or "" for c in chunks
    )
    assert whole["choices"][0]["message"]["tool_calls"] == [
        {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    ]
    assert whole["choices"][0]["finish_reason"] == "tool_calls"
    assert whole["usage"]["total_tokens"] == 3


def test_older_functions_are_answered_in_their_own_words():
    events = [
        Started("i", "m", legacy_functions=True),
        ToolCall("c", "f"),
        ToolArguments("{}"),
        ToolCall("d", "g", "{}", tool=1),
        Finish("function_call"),
    ]
    deltas = [c["choices"][0]["delta"] for c in chunks_of(events)]
    assert deltas[1:3] == [
        {"function_call": {"name": "f", "arguments": ""}},
        {"function_call": {"arguments": "{}"}},
    ]
    assert folded(events)["choices"][0]["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "function_call": {"name": "f", "arguments": "{}"},
    }


def test_raw_usage_is_used_as_it_is():
    raw = msgspec.Raw(b'{"prompt_tokens":1,"x":2}')
    assert folded([*TALK[:-1], Usage(1, raw=raw), TALK[-1]])["usage"] == {
        "prompt_tokens": 1,
        "x": 2,
    }
