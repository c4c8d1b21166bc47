"""What callers of OpenAI-compatible upstreams get: recorded answers through both paths.

Bytes where the caller speaks OpenAI's wire too, else what every other front is made of: events.
"""

import json

import pytest

from app.config.schema import Holdback
from app.fronts.openai_chat.stream import ChatStream
from app.wire.errors import GatewayError
from app.wire.events import (
    Extension,
    Finish,
    Reasoning,
    Started,
    Text,
    Thought,
    ToolArguments,
    ToolCall,
    Usage,
)
from tests.calls import answering
from tests.engine.fakes import CUT, FakeResponse
from tests.engine.test_failover import EVENT, ROLE, good
from tests.engine.test_silent_starts import bench_of
from tests.providers.openai.chat_answers import (
    DONE,
    RECORDINGS,
    chunk,
    event,
    failed,
    fresh,
    read,
    tool,
)
from tests.providers.openai.test_decode import EXPECTED
from tests.recorded import recorded

FOLDER = recorded("openai-compatible")
STREAMS = {path.name: path.read_bytes() for path in sorted(FOLDER.glob("*.sse"))}
ERRORS = ("groq-error-event.sse", "llamacpp-error-line.sse", "openrouter-error-in-stream.sse")
WHOLE = sorted(set(STREAMS) - set(ERRORS))
COMMENTS = STREAMS["openrouter-error-in-stream.sse"].partition(b"data:")[0]


def events_in(stream):
    """The stream event by event."""
    return [part + b"\n\n" for part in stream.split(b"\n\n")[:-1]]


def answered(name, pieces=None, *, asks_usage=True):
    """The upstream answers like this; its answer came to the caller through the whole engine."""
    bench = bench_of(FakeResponse(pieces=pieces or events_in(STREAMS[name])))
    bench.run(**{"stream_options": {"include_usage": True}} if asks_usage else {})
    return bench


def joined(events, kind):
    return "".join(e.text for e in events if isinstance(e, kind))


def calls_of(events):
    """Each call with its joined arguments."""
    found = {e.tool: [e.id, e.name, e.arguments] for e in events if isinstance(e, ToolCall)}
    for e in events:
        if isinstance(e, ToolArguments):
            found[e.tool][2] += e.arguments
    return found


# 9. Every recording through both paths.


@pytest.mark.parametrize("size", [0, 100, 1 << 20])
@pytest.mark.parametrize("name", WHOLE)
def test_a_recorded_stream_comes_as_it_was_sent_and_is_counted(name, size):
    data = STREAMS[name]
    pieces = [data[at : at + size] for at in range(0, len(data), size)] if size else None
    bench = answered(name, pieces)
    assert bench.sink.body == data and bench.record.outcome == "complete"
    if usage := EXPECTED[name]["usage"]:  # else the gateway counts for itself
        assert [bench.record.prompt_tokens, bench.record.completion_tokens] == usage[:2]


@pytest.mark.parametrize("name", WHOLE)
def test_usage_that_the_caller_did_not_ask_for_is_taken_out_and_counted(name):
    bench = answered(name, asks_usage=False)
    only_usage = [
        e for e in events_in(STREAMS[name]) if b'"choices":[],' in e and b'"usage":{' in e
    ]
    kept = [e for e in events_in(STREAMS[name]) if e not in only_usage]
    assert bench.sink.body == b"".join(kept) and len(only_usage) <= 1
    if usage := EXPECTED[name]["usage"]:
        assert bench.record.completion_tokens == usage[1]


@pytest.mark.parametrize("name", sorted(set(RECORDINGS) - set(ERRORS)))
def test_the_arguments_of_every_recorded_call_are_json(name):
    data = RECORDINGS[name]
    n = 3 if "n3" in name else 1
    for pieces in ([data], [data[at : at + 1] for at in range(len(data))]):
        for _, _, arguments in calls_of(read(*pieces, n=n)).values():
            assert isinstance(json.loads(arguments), dict)


# 10. Comments commit to nothing.


def test_comments_alone_do_not_commit_and_an_error_behind_them_goes_to_the_next_key():
    slow = event({"error": {"code": 429, "message": "Provider returned error"}})
    for pieces in ([*events_in(COMMENTS), slow], [COMMENTS + slow], [COMMENTS, CUT], [COMMENTS]):
        bench = bench_of(FakeResponse(pieces=list(pieces)), good())
        assert bench.run() == EVENT + EVENT + DONE and len(bench.used) == 2
    bench = bench_of(*(FakeResponse(pieces=[COMMENTS, slow]) for _ in "ab"))
    error = bench.fail()
    assert (error.status, error.message) == (429, "Provider returned error")
    assert not bench.sink.started


def test_the_recorded_error_behind_comments_keeps_its_status():
    *_, error, _ = events_in(STREAMS["openrouter-error-in-stream.sse"])
    told = bench_of(FakeResponse(pieces=[COMMENTS, error, DONE])).fail()
    assert (told.status, told.code, told.message) == (400, "400", "Token limit reached")


def test_comments_do_not_count_as_held_tokens():
    pieces = [COMMENTS + ROLE + EVENT, CUT]
    bench = bench_of(FakeResponse(pieces=pieces), good(), holdback=Holdback(tokens=5))
    assert bench.run() == EVENT + EVENT + DONE and len(bench.used) == 2
    windows = [piece.replace(b"\n", b"\r\n") for piece in (EVENT, EVENT, EVENT)]
    bench = bench_of(FakeResponse(pieces=[*windows, CUT]), holdback=Holdback(tokens=2))
    bench.run()
    assert bench.sink.sent[0] == b"".join(windows[:2])


# 11. An error inside a stream.


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_inside_a_stream_is_told_once_and_logged(name):
    bench = answered(name)
    body = bench.sink.body
    assert body.startswith(STREAMS[name]) and bench.record.outcome == "upstream_error"
    seen = [json.loads(line[6:]) for line in body.splitlines() if line.startswith(b"data: {")]
    assert sum("error" in value for value in seen) == 1
    front = ChatStream(answering(), fresh())
    with pytest.raises(GatewayError) as caught:
        front.feed(STREAMS[name])
        front.finish()
    assert b'"finish_reason":"' not in caught.value.said and DONE not in caught.value.said


# 12. Thinking with a signature, parallel calls.


def test_thinking_is_said_once_and_its_signature_is_kept():
    events = read(STREAMS["openrouter-claude-thinking-tool.sse"])
    (thought,) = (e for e in events if isinstance(e, Thought))
    assert thought.text == joined(events, Reasoning) and len(thought.signature) > 200
    assert not any(isinstance(e, Extension) for e in events)
    assert [e.reason for e in events if isinstance(e, Finish)] == ["tool_calls"]
    assert len(calls_of(events)) == 1


def test_two_calls_of_one_answer_stay_two():
    calls = calls_of(read(STREAMS["groq-tools.sse"]))
    assert sorted(calls) == [0, 1] and len({id for id, _, _ in calls.values()}) == 2


# 13. Tokens.


def test_thinking_outside_the_completion_is_counted_once():
    name = "xai-reasoning-tool.sse"
    usage = Usage(288, 340, 628, cached_tokens=287, reasoning_tokens=313, cost=191_825)
    assert read(STREAMS[name])[-1] == usage
    assert answered(name).record.completion_tokens == 340


def test_cumulative_usage_and_repeated_sources_are_told_once():
    name = "perplexity-citations.sse"
    events = read(STREAMS[name])
    assert events[-1].completion_tokens == 336
    assert [type(e) for e in events].count(Usage) == 1
    assert sum("citations" in e.fields for e in events if isinstance(e, Extension)) == 1
    assert answered(name).record.completion_tokens == 336


# 14. One call each.


@pytest.mark.parametrize(
    "name",
    [
        "mistral-tool.sse",
        "dashscope-tool.sse",
        "anthropic-compat-tool-index-1.sse",
        "gemini-compat-tool.json",
    ],
)
def test_one_call_is_one_call_with_an_id_and_the_number_0(name):
    events = read(RECORDINGS[name])
    (call,) = (e for e in events if isinstance(e, ToolCall))
    assert call.id and call.name and call.tool == 0
    assert (call.signature is not None) == name.startswith("gemini")
    assert calls_of(events).keys() == {0}


# 15. Equal indexes, arguments before the name: made up after what others reported.


def test_two_calls_of_one_index_stay_two_and_early_arguments_are_not_lost():
    end = chunk({}, "tool_calls")
    stream = tool('{"a":1}', name="f", index=0, id="x") + tool('{"b":2}', name="f", index=0, id="y")
    assert list(calls_of(read(stream + end)).values()) == [
        ["x", "f", '{"a":1}'],
        ["y", "f", '{"b":2}'],
    ]
    stream = tool('{"a"', index=0, id="x") + tool(":1}", index=0) + tool(None, name="f", index=0)
    assert list(calls_of(read(stream + end)).values()) == [["x", "f", '{"a":1}']]


# 16. Thinking as parts of the content, and as tags in the text.


def test_thinking_parts_come_before_the_text_and_no_content_is_a_list():
    data = STREAMS["mistral-thinking.sse"]
    kinds = [type(e) for e in read(data) if isinstance(e, Reasoning | Text)]
    assert kinds == sorted(kinds, key=[Reasoning, Text].index) and set(kinds) == {Reasoning, Text}
    front = ChatStream(answering(), fresh())
    for line in (front.feed(data) + front.finish()).splitlines():
        if line.startswith(b"data: {"):
            for choice in json.loads(line[6:])["choices"]:
                assert isinstance(choice["delta"].get("content", ""), str)


def test_a_tag_at_the_start_is_thinking_and_one_in_the_middle_is_text():
    events = read(STREAMS["think-tags.sse"], think_tags=True)
    assert joined(events, Reasoning) and "think>" not in joined(events, Text)
    stream = chunk({"content": "See <think>"}) + chunk({"content": "x</think>"}, "stop")
    assert joined(read(stream, think_tags=True), Text) == "See <think>x</think>"


# 17. What is whole.


def test_an_answer_without_a_finish_reason_or_without_done_is_whole():
    snowflake = "snowflake-no-finish.sse"
    assert [e.reason for e in read(STREAMS[snowflake]) if isinstance(e, Finish)] == ["stop"]
    assert answered(snowflake).record.outcome == "complete"
    # A good answer of GPUStack: the recorded one, had it not failed.
    good_answer = STREAMS["llamacpp-error-line.sse"].partition(b"error:")[0] + chunk({}, "stop")
    assert read(good_answer)[-1].reason == "stop"
    bench = answered("", events_in(good_answer))
    assert bench.sink.body == good_answer + DONE and bench.record.outcome == "complete"
    cut = good_answer.removesuffix(chunk({}, "stop"))
    assert failed(cut).code == "upstream_cut"
    bench = answered("", events_in(cut))
    assert bench.record.outcome == "upstream_cut" and DONE not in bench.sink.body


def test_done_alone_is_no_answer_and_the_next_key_gives_one():
    assert failed(DONE).code == "upstream_bad_response"
    for pieces in ([DONE], [b"data: [DONE]"], [COMMENTS, DONE], [ROLE, DONE], [ROLE + DONE]):
        bench = bench_of(FakeResponse(pieces=list(pieces)), good())
        assert bench.run() == EVENT + EVENT + DONE and len(bench.used) == 2
    assert bench_of(*(FakeResponse(pieces=[DONE]) for _ in "ab")).fail().status == 502


def test_an_empty_answer_that_stops_is_one():
    stream = chunk({"role": "assistant", "content": ""}) + chunk({}, "stop") + DONE
    assert read(stream)[-1].reason == "stop"
    bench = answered("", events_in(stream))
    assert bench.sink.body == stream and bench.record.outcome == "complete"


def test_a_chunk_of_filter_results_is_harmless():
    name = "azure-filter-chunk.sse"
    expected = Started("chatcmpl-DuLYtUePDgoybMkZrAI7utkb2fiRp", "gpt-5-mini-2025-08-07")
    assert read(STREAMS[name])[0] == expected
    first = events_in(STREAMS[name])[0]
    bench = bench_of(FakeResponse(pieces=[first, CUT]), good())
    assert bench.run() == EVENT + EVENT + DONE and len(bench.used) == 2
