"""Recorded Anthropic answers in, the events of expected/<recording>.jsonl out, however cut."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from app.wire.errors import GatewayError
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
    Unknown,
    Usage,
)
from providers.claude.api import PROVIDER
from tests.calls import without_native_words

HERE = Path(__file__).parent
RECORDED = HERE.parents[1] / "recorded" / "claude"
EXPECTED = sorted(
    path for path in (HERE / "expected").glob("*.jsonl") if ".openai." not in path.name
)
STREAMS = [path for path in EXPECTED if ".sse." in path.name]

OPENAI = {"model": "claude-haiku-4-5", "messages": [{"role": "user", "content": "Hi"}]}


def plain(event: Event) -> dict[str, Any]:
    """An event as the expectation files have it: its name, and what is not the default."""
    fields, defaults = event.__struct_fields__, event.__struct_defaults__
    known = dict(zip(reversed(fields), reversed(defaults), strict=False))
    said = {name: getattr(event, name) for name in fields}
    return {"event": type(event).__name__} | {
        name: value for name, value in said.items() if name not in known or value != known[name]
    }


def recorded(expected: Path) -> bytes:
    return (RECORDED / expected.name.removesuffix(".jsonl")).read_bytes()


def wanted(expected: Path) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in expected.read_bytes().splitlines()]


@pytest.fixture
def decode(make_call):
    def run(*pieces: bytes, stream: bool = True, finish: bool = True, **body: Any) -> list[Event]:
        decoder = PROVIDER.decoder(make_call(OPENAI | body | {"stream": stream}))
        events = [event for piece in pieces for event in decoder.feed(piece)]
        return without_native_words(events + list(decoder.finish()) if finish else events)

    return run


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(
        b"event: %b\ndata: %b\n\n" % (event["type"].encode(), msgspec.json.encode(event))
        for event in events
    )


START = {
    "type": "message_start",
    "message": {"id": "msg_1", "model": "claude-x", "usage": {"input_tokens": 3}},
}
STOP = {"type": "message_stop"}


def ending(reason: str, usage: dict[str, Any] | None = None, **delta: Any) -> dict[str, Any]:
    told = {"stop_reason": reason} | delta
    return {"type": "message_delta", "delta": told, "usage": usage or {"output_tokens": 5}}


def block(index: int, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": fields}


def delta(index: int, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": fields}


def text(piece: Any, index: int = 0) -> dict[str, Any]:
    return delta(index, type="text_delta", text=piece)


def stop(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def test_every_recorded_answer_has_its_expectation():
    answers = {path.name for path in RECORDED.glob("api-*") if "error" not in path.name}
    assert {path.name.removesuffix(".jsonl") for path in EXPECTED} == answers


@pytest.mark.parametrize("expected", EXPECTED, ids=lambda path: path.name)
class TestRecordings:
    def test_whole(self, expected, decode):
        events = decode(recorded(expected), stream=".sse." in expected.name)
        assert [plain(event) for event in events] == wanted(expected)

    def test_byte_by_byte(self, expected, decode):
        data = recorded(expected)
        pieces = [data[at : at + 1] for at in range(len(data))]
        events = decode(*pieces, stream=".sse." in expected.name)
        assert [plain(event) for event in events] == wanted(expected)

    def test_every_split_in_two(self, expected, decode):
        data, stream = recorded(expected), ".sse." in expected.name
        whole = decode(data, stream=stream)
        for at in range(1, len(data)):
            assert decode(data[:at], data[at:], stream=stream) == whole, at


@pytest.mark.parametrize("expected", STREAMS, ids=lambda path: path.name)
class TestStreams:
    def test_with_crlf_and_no_blank_after_the_colon(self, expected, decode):
        data = recorded(expected).replace(b"\ndata: ", b"\ndata:").replace(b"\n", b"\r\n")
        assert [plain(event) for event in decode(data)] == wanted(expected)

    def test_without_event_names(self, expected, decode):
        lines = recorded(expected).split(b"\n")
        data = b"\n".join(line for line in lines if not line.startswith(b"event:"))
        assert [plain(event) for event in decode(data)] == wanted(expected)

    def test_without_types_in_the_data(self, expected, decode):
        records = recorded(expected).strip().split(b"\n\n")
        pieces = []
        for record in records:
            name, _, data = record.partition(b"\ndata: ")
            fields = msgspec.json.decode(data)
            del fields["type"]
            pieces.append(name + b"\ndata: " + msgspec.json.encode(fields) + b"\n\n")
        assert [plain(event) for event in decode(*pieces)] == wanted(expected)

    def test_a_cut_anywhere_before_the_end_is_an_error_not_an_end(self, expected, decode):
        data = recorded(expected)
        end = data.index(b'"message_stop"') + len(b'"message_stop"')
        for at in [*range(0, end, 7), end]:
            with pytest.raises(GatewayError) as caught:
                decode(data[:at])
            assert (caught.value.status, caught.value.code) == (502, "upstream_cut"), at

    def test_unknown_events_blocks_and_deltas_are_survived(self, expected, decode):
        odd = sse(
            {"type": "content_block_hint", "index": "seven"},
            delta(0, type="citations_delta", citation={"text": []}),
            delta(0, type="quantum_delta", text=5),
            block(99, type="hologram", text={"depth": 3}),
        )
        data = recorded(expected)
        at = data.index(b"event: content_block_stop")
        events = decode(data[:at] + odd + data[at:])
        assert Unknown("content_block_hint") in events
        events.remove(Unknown("content_block_hint"))
        assert [plain(event) for event in events] == wanted(expected)


def test_text_is_told_by_the_deltas_and_not_by_the_empty_message_start(decode):
    # The Go original read message_start.message.content, which is always [], and told no text.
    events = decode(
        sse(START, block(0, type="text", text=""), text("Hel"), text("lo"), stop(0)), finish=False
    )
    assert events == [Started("msg_1", "claude-x"), Text("Hel"), Text("lo")]


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("something_new", "stop"),
    ],
)
def test_stop_reasons(decode, reason, finish):
    streamed = decode(sse(START, ending(reason), STOP))
    whole = decode(
        msgspec.json.encode({"type": "message", "content": [], "stop_reason": reason}), stream=False
    )
    assert Finish(finish) in streamed
    assert Finish(finish) in whole


def test_tool_use_finishes_with_tool_calls_and_tools_are_counted_without_other_blocks(decode):
    events = decode(
        sse(
            START,
            block(0, type="thinking", thinking="", signature=""),
            stop(0),
            block(1, type="text", text=""),
            text("One moment", 1),
            stop(1),
            block(2, type="server_tool_use", id="srvtoolu_1", name="web_search", input={}),
            delta(2, type="input_json_delta", partial_json='{"query":"x"}'),
            stop(2),
            block(3, type="tool_use", id="toolu_1", name="a", input={}),
            block(4, type="tool_use", id="toolu_2", name="b", input={}),
            delta(4, type="input_json_delta", partial_json='{"x":'),
            delta(3, type="input_json_delta", partial_json=""),
            delta(4, type="input_json_delta", partial_json="1}"),
            stop(4),
            stop(3),
            ending("tool_use"),
            STOP,
        )
    )
    assert events[1:-1] == [
        Text("One moment"),
        ToolCall("toolu_1", "a", tool=0),
        ToolCall("toolu_2", "b", tool=1),
        ToolArguments('{"x":', tool=1),
        ToolArguments("1}", tool=1),
        ToolArguments("{}", tool=0),
        Finish("tool_calls"),
    ]


def test_arguments_are_closed_when_the_block_never_is(decode):
    events = decode(
        sse(START, block(0, type="tool_use", id="t", name="a"), ending("tool_use"), STOP)
    )
    assert ToolArguments("{}") in events


def test_input_given_with_the_start_of_the_block_is_not_lost(decode):
    events = decode(
        sse(START, block(0, type="tool_use", id="t", name="a", input={"x": 1}), stop(0), STOP)
    )
    assert events[1:2] == [ToolCall("t", "a", '{"x":1}')]
    assert not any(isinstance(event, ToolArguments) for event in events)


def test_whole_tool_input_is_compact_and_keeps_its_numbers_and_letters(decode):
    body = (
        '{"type":"message","content":[{"type":"tool_use","id":"t","name":"a",'
        '"input":{"n": 12345678901234567890123, "f": 1.10,\n "s": "é"}}],"stop_reason":"tool_use"}'
    )
    events = decode(body.encode(), stream=False)
    assert events[1] == ToolCall("t", "a", '{"n":12345678901234567890123,"f":1.10,"s":"é"}')


def arguments(events):
    """All argument text of the one call."""
    return "".join(e.arguments for e in events if isinstance(e, ToolCall | ToolArguments))


NUMBERS = '{"a":12345678901234567890123,"b":1e400,"c":0.1000000000000000055511,"d":-0,"e":[1E5]}'


def test_the_numbers_of_arguments_keep_their_digits(decode):
    start = block(0, type="tool_use", id="t", name="a", input={})
    pieces = [delta(0, type="input_json_delta", partial_json=c) for c in NUMBERS]
    assert arguments(decode(sse(START, start, *pieces, stop(0), STOP))) == NUMBERS
    call = f'{{"type":"tool_use","id":"t","name":"a","input":{NUMBERS}}}'
    told = b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
    told += b'"content_block":%s}\n\n' % call.encode()
    assert arguments(decode(sse(START) + told + sse(stop(0), STOP))) == NUMBERS
    whole = b'{"type":"message","content":[%s]}' % call.encode()
    assert arguments(decode(whole, stream=False)) == NUMBERS


@pytest.mark.parametrize("at_the_start", [{"q": "x"}, {}])
@pytest.mark.parametrize("pieces", [['{"q":"x"}'], ["", '{"q":', '"x"}'], []])
def test_arguments_that_are_told_twice_are_passed_on_once(decode, at_the_start, pieces):
    stream = sse(
        START,
        block(0, type="tool_use", id="t", name="a", input=at_the_start),
        *[delta(0, type="input_json_delta", partial_json=piece) for piece in pieces],
        stop(0),
        ending("tool_use"),
        STOP,
    )
    wanted = '{"q":"x"}' if pieces or at_the_start else "{}"
    assert arguments(decode(stream)) == wanted


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("end_turn", "tool_calls"),
        ("stop_sequence", "tool_calls"),
        ("pause_turn", "tool_calls"),
        ("yet_unknown", "tool_calls"),
        (None, "tool_calls"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
    ],
)
def test_a_call_in_the_answer_decides_why_it_ended(decode, reason, told, stream):
    call = {"type": "tool_use", "id": "t", "name": "a", "input": {}}
    if stream:
        ends = [ending(reason)] if reason else []
        body = sse(START, block(0, **call), stop(0), *ends, STOP)
    else:
        answer = {"type": "message", "content": [call], "stop_reason": reason}
        body = msgspec.json.encode(answer)
    tools = {"tools": [{"type": "function", "function": {"name": "a"}}]}
    assert finishes(decode(body, stream=stream, **tools)) == [told]
    legacy = decode(body, stream=stream, functions=[{"name": "a"}])
    assert finishes(legacy) == [told]


def finishes(events):
    return [event.reason for event in events if isinstance(event, Finish)]


def test_legacy_functions_are_calls_like_any_other(decode):
    stream = sse(
        START, block(0, type="tool_use", id="t", name="a"), stop(0), ending("tool_use"), STOP
    )
    events = decode(stream, functions=[{"name": "a"}])
    assert events[0] == Started("msg_1", "claude-x")
    assert Finish("tool_calls") in events


def test_names_that_claude_refuses_are_sent_others_and_called_back(decode, make_call):
    odd, long = "mcp.files:read", "m" * 128
    call = {"id": "1", "type": "function", "function": {"name": odd, "arguments": "{}"}}
    body = {
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": "done"},
        ],
        "tools": [{"type": "function", "function": {"name": name}} for name in (odd, long)],
        "tool_choice": {"type": "function", "function": {"name": odd}},
    }
    sent = msgspec.json.decode(PROVIDER.request(make_call(OPENAI | body)).body)
    name, kept = (tool["name"] for tool in sent["tools"])
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) and kept == long
    assert sent["tool_choice"]["name"] == sent["messages"][1]["content"][0]["name"] == name
    block_ = {"type": "tool_use", "id": "t", "name": name, "input": {}}
    whole = decode(msgspec.json.encode({"content": [block_]}), stream=False, **body)
    streamed = decode(sse(START, block(0, **block_), stop(0), ending("tool_use"), STOP), **body)
    assert whole[1].name == streamed[1].name == odd


def test_unknown_blocks_of_a_whole_answer_are_survived_and_broken_known_ones_are_not(decode):
    content = [{"type": "hologram", "text": {"depth": 3}}, {"type": "text", "text": "Hi"}]
    events = decode(msgspec.json.encode({"content": content}), stream=False)
    assert events[1:-1] == [Text("Hi"), Finish("stop")]
    content = [{"type": "text", "text": {"depth": 3}}]
    with pytest.raises(GatewayError, match="malformed block"):
        decode(msgspec.json.encode({"content": content}), stream=False)


def test_the_stand_in_tool_for_json_schema_becomes_content(decode):
    wanted_format = {
        "type": "json_schema",
        "json_schema": {"name": "x", "schema": {"type": "object", "properties": {}}},
    }
    asked = {"model": "claude-3-7-sonnet-20250219", "response_format": wanted_format}
    streamed = decode(
        sse(
            START,
            block(0, type="tool_use", id="t", name="json_output", input={}),
            delta(0, type="input_json_delta", partial_json=""),
            delta(0, type="input_json_delta", partial_json='{"a":1}'),
            stop(0),
            ending("tool_use"),
            STOP,
        ),
        **asked,
    )
    assert streamed[1:-1] == [Text('{"a":1}'), Finish("stop")]
    answer = {
        "type": "message",
        "content": [{"type": "tool_use", "id": "t", "name": "json_output", "input": {"a": 1}}],
        "stop_reason": "tool_use",
    }
    whole = decode(msgspec.json.encode(answer), stream=False, **asked)
    assert whole[1:-1] == [Text('{"a":1}'), Finish("stop")]
    newer = decode(msgspec.json.encode(answer), stream=False, response_format=wanted_format)
    assert isinstance(newer[1], ToolCall)  # a model with structured output gets no stand-in


def test_a_refusal_tells_its_explanation(decode):
    details = {"type": "refusal", "category": "bio", "explanation": "Not this."}
    streamed = decode(sse(START, ending("refusal", stop_details=details), STOP))
    answer = {"type": "message", "content": [], "stop_reason": "refusal", "stop_details": details}
    whole = decode(msgspec.json.encode(answer), stream=False)
    assert [e for e in streamed if isinstance(e, Refusal | Finish)] == [
        Refusal("Not this."),
        Finish("content_filter"),
    ]
    assert [e for e in whole if isinstance(e, Refusal | Finish)] == [
        Refusal("Not this."),
        Finish("content_filter"),
    ]


def test_thinking_comes_back_with_its_signature_and_redacted_thinking_whole(decode):
    content = [
        {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "ZGF0YQ=="},
        {"type": "text", "text": "Yes"},
    ]
    told = [
        Reasoning("Hm."),
        Thought(content[0]["thinking"], content[0]["signature"]),
        Thought(redacted=content[1]["data"]),
        Text("Yes"),
    ]
    answer = {"type": "message", "content": content, "stop_reason": "end_turn"}
    assert decode(msgspec.json.encode(answer), stream=False)[1:-2] == told
    streamed = decode(
        sse(
            START,
            block(0, type="thinking", thinking="", signature=""),
            delta(0, type="thinking_delta", thinking="Hm."),
            delta(0, type="signature_delta", signature="c2ln"),
            stop(0),
            block(1, **content[1]),
            stop(1),
            block(2, type="text", text=""),
            text("Yes", 2),
            stop(2),
            ending("end_turn"),
            STOP,
        )
    )
    assert streamed[1:-2] == told


def test_usage_is_cumulative_and_cached_tokens_are_part_of_the_prompt(decode):
    begin = {
        "type": "message_start",
        "message": {
            "id": "m",
            "model": "c",
            "usage": {
                "input_tokens": 10,
                "cache_creation_input_tokens": 200,
                "cache_read_input_tokens": 3000,
                "output_tokens": 1,
            },
        },
    }
    last = {
        "output_tokens": 50,
        "output_tokens_details": {"thinking_tokens": 40},
        "input_tokens": None,
    }
    events = decode(
        sse(
            begin,
            ending("end_turn", {"output_tokens": 20}),
            {"type": "message_delta", "delta": {}, "usage": last},
            STOP,
        )
    )
    assert events[-1] == Usage(
        prompt_tokens=3210,
        completion_tokens=50,
        cached_tokens=3000,
        cache_write_tokens=200,
        reasoning_tokens=40,
    )
    assert [event for event in events if isinstance(event, Finish)] == [Finish("stop")]


@pytest.mark.parametrize(
    ("kind", "status", "type_", "code"),
    [
        ("invalid_request_error", 400, "invalid_request_error", None),
        ("authentication_error", 401, "authentication_error", "invalid_api_key"),
        ("billing_error", 402, "insufficient_quota", "insufficient_quota"),
        ("permission_error", 403, "permission_error", None),
        ("rate_limit_error", 429, "rate_limit_exceeded", "rate_limit_exceeded"),
        ("api_error", 500, "server_error", None),
        ("timeout_error", 504, "server_error", "timeout_error"),
        ("overloaded_error", 503, "server_error", "overloaded_error"),
        ("novel_error", 502, "server_error", "novel_error"),
    ],
)
def test_an_error_inside_the_stream_ends_it_with_the_tables_status(
    decode, kind, status, type_, code
):
    error = sse({"type": "error", "error": {"details": None, "type": kind, "message": "Why"}})
    for data in (error, sse(START) + error):
        with pytest.raises(GatewayError) as caught:
            decode(data)
        told = caught.value
        assert (told.status, told.type, told.code, told.message) == (status, type_, code, "Why")


def test_what_came_before_an_error_in_the_same_read_is_told_first(make_call):
    error = sse({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
    data = sse(START, text("Hel")) + error
    decoder = PROVIDER.decoder(make_call(OPENAI | {"stream": True}))
    assert decoder.feed(data) == [Started("msg_1", "claude-x"), Text("Hel")]
    for after in (lambda: decoder.feed(sse(text("x"))), decoder.finish):
        with pytest.raises(GatewayError, match="Overloaded"):
            after()


@pytest.mark.parametrize(
    "data",
    [
        b"event: message_start\ndata: {not json\n\n",
        b"event: message_start\ndata: [1]\n\n",
        b'event: message_start\ndata: {"type":"message_start","message":{"id":7}}\n\n',
        sse(START) + sse(text("?")).replace(b"?", b"\xff"),
        sse(text("before message_start")),
        sse(START, text(5)),
        sse(START) + b"data: " + b"[" * 100_000 + b"\n\n",
    ],
)
def test_broken_streams_are_a_bad_response(decode, data):
    with pytest.raises(GatewayError) as caught:
        decode(data, b"", finish=True)
    assert (caught.value.status, caught.value.code) == (502, "upstream_bad_response")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 502, "upstream_cut"),
        (b'{"type":"message","content":[{"type":"te', 502, "upstream_cut"),
        (b"<html>", 502, "upstream_bad_response"),
        (b"[]", 502, "upstream_bad_response"),
        (b'{"type":"message"}', 502, "upstream_bad_response"),
        (b'{"type":"completion","content":[]}', 502, "upstream_bad_response"),
        (b'{"content":[{"type":"tool_use","input":"\xff"}]}', 502, "upstream_bad_response"),
        (
            b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}',
            503,
            "overloaded_error",
        ),
        (b'{"type":"error"}', 502, "upstream_error"),
    ],
)
def test_broken_whole_answers(decode, body, status, code):
    with pytest.raises(GatewayError) as caught:
        decode(body, stream=False)
    assert (caught.value.status, caught.value.code) == (status, code)


def test_a_plain_json_error_where_a_stream_is_due_is_that_error(decode):
    with pytest.raises(GatewayError) as caught:
        decode(b'{"type":"error","error":{"type":"rate_limit_error","message":"Slow down"}}')
    assert (caught.value.status, caught.value.message) == (429, "Slow down")


def test_an_answer_above_the_limit_is_refused(make_call):
    from app.config.schema import Limits

    decoder = PROVIDER.decoder(make_call(OPENAI, limits=Limits(response_bytes=10)))
    with pytest.raises(GatewayError, match="response_bytes"):
        decoder.feed(b"x" * 11)


def test_the_last_event_may_lack_its_blank_line(decode):
    data = sse(START, ending("end_turn"), STOP)
    assert decode(data[:-2]) == decode(data)
    assert decode(data[:-1]) == decode(data)


def test_the_native_route_decodes_alike(make_call):
    data = recorded(EXPECTED[-1])
    body = {"model": "m", "max_tokens": 5, "messages": [], "stream": True}
    decoder = PROVIDER.decoder(make_call(body, native=True))
    events = without_native_words([*decoder.feed(data), *decoder.finish()])
    assert [plain(event) for event in events] == wanted(EXPECTED[-1])
