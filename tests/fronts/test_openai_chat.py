"""What leaves the gateway, byte for byte."""

import json

import pytest

from app.fronts.openai_chat.completion import Completion
from app.fronts.openai_chat.passthrough import Passthrough, Whole
from app.fronts.openai_chat.stream import DONE, ChatStream
from app.wire.errors import GatewayError, bad_response, upstream_cut
from app.wire.events import (
    Extension,
    Finish,
    Reasoning,
    Refusal,
    Session,
    Started,
    Text,
    Thought,
    ToolArguments,
    ToolCall,
    Usage,
)
from app.wire.stream_start import Stage
from tests.calls import answering, chat_of
from tests.recorded import recorded

CHUNK = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m",'
    b'"choices":[{"index":%d,"delta":{%b},"finish_reason":%b}]%b}\n\n'
)


def said(text=b'"content":"x"', index=0, reason=b"null", more=b""):
    return CHUNK % (index, text, reason, more)


ENDED = said(b"", reason=b'"stop"')
STREAMS = sorted(p.name for p in recorded("openai").glob("chat-stream-*.sse"))
BODIES = sorted(p.name for p in recorded("openai").glob("chat-[!s]*.json"))


def passthrough(label="text/event-stream", **told):
    renderer = Passthrough(answering(**told))
    renderer.labelled(label)
    return renderer


def whole(max_bytes, label="application/json"):
    renderer = Whole(answering(max_bytes=max_bytes))
    renderer.labelled(label)
    return renderer


def through(renderer, pieces):
    """What the caller gets: as the engine does it, the beginning is looked at."""
    out, stage = b"", Stage.WAITING
    for piece in pieces:
        more = renderer.feed(piece)
        if more and stage is not Stage.SAID:
            stage = renderer.opening(more)
        out += more
    return out + renderer.finish()


@pytest.mark.parametrize("name", STREAMS)
def test_a_recorded_stream_passes_untouched_under_every_two_way_split(name):
    stream = (recorded("openai") / name).read_bytes()
    for at in range(len(stream) + 1):
        assert through(passthrough(), [stream[:at], stream[at:]]) == stream


@pytest.mark.parametrize("name", STREAMS)
def test_a_recorded_stream_passes_untouched_byte_by_byte(name):
    stream = (recorded("openai") / name).read_bytes()
    assert through(passthrough(), [stream[i : i + 1] for i in range(len(stream))]) == stream


@pytest.mark.parametrize("name", STREAMS)
def test_a_recorded_stream_cut_at_any_byte_is_an_error_and_never_half_an_event(name):
    stream = (recorded("openai") / name).read_bytes()
    end = stream.index(b"data: [DONE]")
    for at in range(end):
        renderer = passthrough()
        out = renderer.feed(stream[:at])
        assert out == b"" or out.endswith(b"\n\n")
        assert stream.startswith(out)
        with pytest.raises(GatewayError) as caught:
            renderer.finish(is_cut=True)
        assert caught.value.code == "upstream_cut"


def test_the_usage_of_a_stream_is_read_although_another_chunk_follows_it():
    stream = (recorded("openai") / "chat-stream-moderation-after-usage.sse").read_bytes()
    renderer = passthrough()
    through(renderer, [stream])
    assert renderer.usage.prompt_tokens == 13
    assert renderer.usage.completion_tokens == 11


def test_a_stream_without_usage_has_none():
    stream = (recorded("openai") / "chat-stream-tools-parallel.sse").read_bytes()
    renderer = passthrough()
    through(renderer, [stream])
    assert renderer.usage is None


def test_done_without_its_last_newlines_is_still_an_end():
    renderer = passthrough()
    assert through(renderer, [b"data: {}\n\ndata: [DONE]"]) == b"data: {}\n\ndata: [DONE]\n\n"


def test_crlf_streams_pass_untouched():
    stream = (recorded("openai") / "chat-stream-usage.sse").read_bytes().replace(b"\n", b"\r\n")
    for at in range(0, len(stream), 7):
        assert through(passthrough(), [stream[:at], stream[at:]]) == stream


def test_an_error_object_in_the_stream_is_passed_on_and_is_an_ending():
    event = (
        b'data: {"error":{"message":"sorry","type":"server_error","param":null,"code":null}}\n\n'
    )
    renderer = passthrough()
    assert through(renderer, [said(), event]) == said() + event
    assert renderer.refused


def test_a_stream_that_finished_each_choice_and_ends_cleanly_gets_its_done():
    for end in (ENDED, ENDED[:-1], ENDED[:-2], ENDED.replace(b":", b": ")):
        renderer = passthrough()
        assert through(renderer, [said(), end]) == said() + end.rstrip(b"\n") + b"\n\n" + DONE
        assert not renderer.refused


def test_comments_and_usage_may_stand_behind_the_finish_reason():
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2}}\n\n'
    stream = said() + ENDED + usage + b": bye\n\n"
    assert through(passthrough(), [stream]) == stream + DONE


@pytest.mark.parametrize(
    "pieces",
    [
        [said()],
        [said(), ENDED[:-10]],
        [b": hello\n\n"],
        [b'data: {"choices":[]}\n\n'],
    ],
)
def test_a_clean_end_before_each_choice_has_finished_is_a_cut(pieces):
    with pytest.raises(GatewayError) as caught:
        through(passthrough(), pieces)
    assert caught.value.code == "upstream_cut"


def test_the_only_choice_has_ended_whatever_its_index():
    stream = said() + said(index=1) + said(b"", index=2, reason=b'"stop"')
    assert through(passthrough(), [stream]) == stream + DONE


def test_a_broken_connection_after_the_finish_reason_is_a_cut():
    renderer = passthrough()
    renderer.feed(said() + ENDED)
    with pytest.raises(GatewayError):
        renderer.finish(is_cut=True)


def test_of_several_choices_each_must_have_finished_however_long_ago():
    first = said(b"", 0, b'"stop"')
    second = said(b"", 1, b'"stop"')
    talk = [said(index=1)] * 100
    renderer = passthrough(body={"n": 2})
    assert through(renderer, [said(), first, *talk, second]).endswith(second + DONE)
    with pytest.raises(GatewayError):
        through(passthrough(body={"n": 2}), [said(index=1), *[said()] * 100, first])


def test_the_word_error_in_a_text_is_none():
    stream = said(b'"content":"\\"error\\": {}"') + ENDED + DONE
    renderer = passthrough()
    assert through(renderer, [stream]) == stream
    assert not renderer.refused


@pytest.mark.parametrize(
    "usage, counted",
    [
        (b'"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}', (3, 4)),
        (b'"x_groq":{"id":"r","usage":{"prompt_tokens":3,"completion_tokens":4}}', (3, 4)),
        (b'"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":19}', (9, 10)),
        (
            b'"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":387,'
            b'"prompt_tokens_details":{"audio_tokens":375}}',
            (380, 7),
        ),
        (b'"usage": {"prompt_tokens": 3, "completion_tokens": null}', (3, 0)),
        (b'"usage":{"prompt_tokens":-3,"completion_tokens":1e300}', (0, 0)),
    ],
)
def test_usage_is_read_wherever_it_stands(usage, counted):
    end = said(b"", reason=b'"stop"', more=b"," + usage)
    renderer = passthrough()
    through(renderer, [said(), end, DONE])
    assert (renderer.usage.prompt_tokens, renderer.usage.completion_tokens) == counted
    renderer = whole(1 << 20)
    through(renderer, [b'{"choices":[{"index":0}],' + usage + b"}"])
    assert (renderer.usage.prompt_tokens, renderer.usage.completion_tokens) == counted


@pytest.mark.parametrize("empty", [b'"choices":[]', b'"choices": []'])
def test_usage_that_only_the_gateway_asked_for_is_taken_out_again(empty):
    usage = b'data: {"id":"c",%b,"usage":{"prompt_tokens":5,"completion_tokens":2}}\n\n' % empty
    opening = b'data: {"id":"c",%b,"prompt_filter_results":[]}\n\n' % empty
    text = said().replace(b'"choices":[', b'"choices": [') if b" " in empty else said()
    stream = opening + text + ENDED + usage + DONE
    for size in (1, 50, 1 << 20):
        renderer = passthrough(adds_usage=True)
        pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
        assert through(renderer, pieces) == opening + text + ENDED + DONE
        assert renderer.usage.prompt_tokens == 5


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b"\n\n", b": hi\n\n", b"event: x\n"])
def test_events_are_events_whatever_their_label_says(before, size):
    stream = before + said() + ENDED + DONE
    renderer = passthrough(label="application/json")
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    assert through(renderer, pieces) == stream


@pytest.mark.parametrize(
    "body",
    [
        b"<html><body>log in</body></html>",
        b"<!doctype html>\n\n<p>log in</p>\n\n",
        b'{"id":"c","choices":[]}',
        b"",
        b"dat",
    ],
)
def test_what_is_no_event_stream_is_refused_by_its_bytes(body):
    with pytest.raises(GatewayError) as caught:
        through(passthrough(label="text/html; charset=x"), [body])
    assert (caught.value.status, caught.value.code) == (502, "upstream_bad_response")
    assert "'text/html'" in caught.value.message


def test_a_json_error_in_place_of_a_stream_is_told_as_it_is():
    with pytest.raises(GatewayError) as caught:
        passthrough(label="application/json").feed(b'{"error":{"message":"no","code":429}}')
    assert (caught.value.status, caught.value.message) == (429, "no")


def test_a_whole_answer_may_have_any_label_and_a_page_may_not():
    assert through(whole(99, "text/plain"), [b'{"choices":[]}']) == b'{"choices":[]}'
    with pytest.raises(GatewayError, match="'text/html'"):
        through(whole(99, "text/html"), [b"<html>"])


def test_a_whole_answer_that_is_nothing_but_an_error_is_one():
    with pytest.raises(GatewayError) as caught:
        through(whole(99), [b'{"error":{"message":"slow","code":429}}'])
    assert caught.value.status == 429


def test_half_a_surrogate_pair_does_not_make_an_answer_unreadable():
    body = b'{"choices":[{"index":0,"message":{"content":"a\\ud83d"}}],"usage":{"prompt_tokens":1}}'
    renderer = whole(1 << 20)
    assert through(renderer, [body]) == body.replace(b"\\ud83d", b"\\ufffd")
    assert renderer.usage.prompt_tokens == 1
    stream = said(b'"content":"\\ud83d"') + said(b'"content":"\\ude00"', reason=b'"stop"')
    assert through(passthrough(), [stream]) == stream + DONE


def test_an_endless_event_is_refused():
    renderer = passthrough(max_bytes=20_000_000)
    with pytest.raises(GatewayError):
        for _ in range(40):
            renderer.feed(b"x" * 1_000_000)


@pytest.mark.parametrize("name", BODIES)
def test_a_recorded_body_passes_untouched(name):
    body = (recorded("openai") / name).read_bytes()
    renderer = whole(1 << 20)
    assert through(renderer, [body[:100], body[100:]]) == body
    assert renderer.usage.prompt_tokens > 0


@pytest.mark.parametrize("body", [b"", b"{", b"<html>", b'{"a":1} x', b"\xff", b'{"usage":1,"a":'])
def test_a_body_that_is_no_json_is_a_bad_response(body):
    with pytest.raises(GatewayError) as caught:
        through(whole(1000), [body])
    assert caught.value.status == 502


def test_a_body_above_the_limit_is_refused():
    with pytest.raises(GatewayError):
        whole(10).feed(b"x" * 11)


class Script:
    """A decoder that says one prepared event per byte fed."""

    def __init__(self, events):
        self._events = list(events)

    def feed(self, data):
        told, self._events = self._events[: len(data)], self._events[len(data) :]
        return told

    def finish(self):
        return self._events


def told_of(include_usage=False, **told):
    body = {"stream": True, "stream_options": {"include_usage": True}} if include_usage else {}
    return answering(**{"body": body, "model": "m", "created": 7, "new_id": "n"} | told)


def chunks_of(events, **options):
    renderer = ChatStream(told_of(**options), Script(events))
    out = b"".join(renderer.feed(b".") for _ in events) + renderer.finish()
    lines = [line[6:] for line in out.split(b"\n\n") if line]
    assert out.endswith(DONE)
    return [json.loads(line) for line in lines[:-1]]


def folded(events, **options):
    renderer = Completion(told_of(**options), Script(events))
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
            ToolCall("call_2", "g", "{}", tool=1, signature="x"),
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
                "extra_content": {"google": {"thought_signature": "x"}},
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


def test_the_session_is_in_every_chunk_and_grows_with_the_session():
    stamp = {"claude": {"type": "web", "index": "7"}}
    events = [Started("i", "m"), Text("a"), Session({"conversation": {"uuid": "u"}}), Text("b")]
    chunks = chunks_of([*events, Finish("stop")], session=stamp)
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


def test_thoughts_are_told_as_the_blocks_that_come_back():
    events = [
        Started("i", "m"),
        Reasoning("hm"),
        Thought("hm", "c2ln"),
        Thought(redacted="ZGF0YQ=="),
        Finish("stop"),
    ]
    blocks = [
        {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "ZGF0YQ=="},
    ]
    deltas = [c["choices"][0]["delta"] for c in chunks_of(events)]
    told = [block for delta in deltas for block in delta.get("thinking_blocks", [])]
    assert told == [{"index": at, **block} for at, block in enumerate(blocks)]
    assert folded(events)["choices"][0]["message"]["thinking_blocks"] == blocks


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
    renderer = ChatStream(told_of(), Breaking(TALK[:3]))
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
        Started("i", "m"),
        ToolCall("c", "f"),
        ToolArguments("{}"),
        ToolCall("d", "g", "{}", tool=1),
        Finish("tool_calls"),
    ]
    chat = chat_of({"messages": [], "functions": [{"name": "f"}]})
    chunks = chunks_of(events, chat=chat)
    assert chunks[-1]["choices"][0]["finish_reason"] == "function_call"
    deltas = [c["choices"][0]["delta"] for c in chunks]
    assert deltas[1:3] == [
        {"function_call": {"name": "f", "arguments": ""}},
        {"function_call": {"arguments": "{}"}},
    ]
    assert folded(events, chat=chat)["choices"][0]["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "function_call": {"name": "f", "arguments": "{}"},
    }
