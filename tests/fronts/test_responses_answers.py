"""What the Responses front makes of events: recorded ones of every upstream, and made-up ones."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import ResponseItem
from pydantic import TypeAdapter

from app.fronts.openai_responses.response import WholeResponse, as_told
from app.fronts.openai_responses.stream import ResponseStream
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
    Usage,
)
from app.wire.front import Incoming
from app.wire.signature_mark import mark
from tests import responses_types
from tests.calls import FRONTS, answering
from tests.fronts.test_messages_property import ORDERS, answers, interleaved
from tests.fronts.test_property import ALL, Given, recorded_events

FRONT = FRONTS["openai-responses"]
NEW_ID = "0123456789abcdef0123456789abcdef"
STARTED = Started("up-1", "m-1")


def answering_of(body: dict[str, Any], headers: dict[str, str] | None = None, **more: Any) -> Any:
    given = {"model": "m", "input": "Hi"} | body
    asked = FRONT.glance(
        Incoming("/c/v1/responses", {}, "", headers or {}, msgspec.json.encode(given))
    )
    assert FRONT.read is not None
    return answering(asked=asked, chat=FRONT.read(asked), new_id=NEW_ID, **more)


def streamed(events: list[Event], body: dict[str, Any] | None = None, **more: Any) -> bytes:
    front = ResponseStream(answering_of(body or {}, **more), Given(events))
    return front.feed(b"") + front.finish()


def whole(events: list[Event], body: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    front = WholeResponse(answering_of(body or {}, **more), Given(events))
    assert front.feed(b"") == b""
    data = front.finish()
    responses_types.response(data)
    told: dict[str, Any] = msgspec.json.decode(data)
    return told


def told(events: list[Event], body: dict[str, Any] | None = None, **more: Any) -> list[Any]:
    """The events of the stream, once they are known to be good and to say what the twin says."""
    said = responses_types.events_of(streamed(events, body, **more))
    twin = whole(events, body, **more)
    assert responses_types.without_ids(said[-1]["response"]) == responses_types.without_ids(twin)
    return said


def short(events: list[Any]) -> list[str]:
    """The types of events as the sheet abbreviates them."""
    words = {"output_item.added": "+", "output_item.done": "-", "created": "c", "in_progress": "i"}
    kinds = [event["type"].removeprefix("response.") for event in events]
    return [words.get(kind, kind) for kind in kinds]


TEXT = ["+", "content_part.added", "output_text.delta", "output_text.done", "content_part.done"]
THOUGHT = [
    "+",
    "reasoning_summary_part.added",
    "reasoning_summary_text.delta",
    "reasoning_summary_text.done",
    "reasoning_summary_part.done",
]
CALL = ["+", "function_call_arguments.delta", "function_call_arguments.done"]


@pytest.mark.parametrize(("family", "name"), ALL)
def test_a_recorded_answer_is_told_by_the_rules(family, name):
    events = recorded_events(family, name)
    finish = next(e for e in events if isinstance(e, Finish) and not e.index)
    if finish.reason == "content_filter":
        return  # see below
    said = told(events)
    deltas = "".join(
        event["delta"] for event in said if event["type"] == "response.output_text.delta"
    )
    assert deltas == "".join(e.text for e in events if isinstance(e, Text) and not e.index)
    calls = [item for item in said[-1]["response"]["output"] if item["type"] == "function_call"]
    assert [call["name"] for call in calls] == [
        event.name for event in events if isinstance(event, ToolCall) and not event.index
    ]


class TestOrder:
    """Protocol sheet front-responses, 4.3."""

    def test_text(self):
        said = told([STARTED, Text("a"), Text("b"), Finish("stop")])
        text = [*TEXT[:3], *TEXT[2:]]
        assert short(said) == ["c", "i", *text, "-", "completed"]

    def test_thoughts_and_text(self):
        said = told([STARTED, Reasoning("hm"), Text("a"), Finish("stop")])
        assert short(said) == ["c", "i", *THOUGHT, "-", *TEXT, "-", "completed"]
        assert said[-1]["response"]["output"][0]["encrypted_content"] == mark("t")

    def test_thoughts_without_text(self):
        said = told([STARTED, Thought(redacted="blob"), Text("a"), Finish("stop")])
        assert short(said) == ["c", "i", "+", "-", *TEXT, "-", "completed"]
        block = '[{"type":"redacted_thinking","data":"blob"}]'
        assert said[3]["item"]["encrypted_content"] == mark("c", block)
        assert said[3]["item"]["summary"] == []

    def test_thoughts_and_texts_in_turns_stay_in_their_order(self):
        events = [STARTED, Reasoning("1"), Text("a"), Reasoning("2"), Text("b"), Finish("stop")]
        types = [item["type"] for item in told(events)[-1]["response"]["output"]]
        assert types == ["reasoning", "message", "reasoning", "message"]

    def test_two_calls(self):
        events = [
            STARTED,
            ToolCall("call_a", "f", '{"x":1}'),
            ToolCall("call_b", "g", '{"y":2}', tool=1),
            Finish("tool_calls"),
        ]
        said = told(events)
        assert short(said) == ["c", "i", *CALL, "-", *CALL, "-", "completed"]
        assert [item["call_id"] for item in said[-1]["response"]["output"]] == ["call_a", "call_b"]

    def test_a_refusal(self):
        said = told([STARTED, Refusal("no"), Finish("content_filter")])
        refusal = ["+", "content_part.added", "refusal.delta", "refusal.done", "content_part.done"]
        assert short(said) == ["c", "i", *refusal, "-", "completed"]

    def test_a_refusal_is_a_text_for_codex(self):
        headers = {"originator": "codex_exec"}
        said = told([STARTED, Refusal("no"), Finish("content_filter")], headers=headers)
        assert short(said) == ["c", "i", *TEXT, "-", "completed"]

    def test_the_token_limit(self):
        said = told([STARTED, Text("a"), Finish("length")])
        assert short(said)[-1] == "incomplete"
        answer = said[-1]["response"]
        assert answer["incomplete_details"] == {"reason": "max_output_tokens"}
        assert answer["output"][0]["status"] == "incomplete"
        assert answer["completed_at"] is None

    def test_the_token_limit_in_the_middle_of_a_call(self):
        events = [STARTED, ToolCall("call_a", "f", '{"x":'), Finish("length")]
        item = told(events)[-1]["response"]["output"][0]
        assert (item["status"], item["arguments"]) == ("incomplete", '{"x":')

    def test_a_filter_after_some_text(self):
        said = told([STARTED, Text("a"), Finish("content_filter")])
        assert said[-1]["response"]["incomplete_details"] == {"reason": "content_filter"}

    @pytest.mark.parametrize(
        ("events", "headers"),
        [
            ([STARTED, Finish("content_filter")], {}),
            ([STARTED, Reasoning("hm"), Finish("content_filter")], {}),
            ([STARTED, Text("a"), Finish("content_filter")], {"originator": "codex_cli_rs"}),
        ],
    )
    def test_a_filter_that_leaves_nothing_to_retry(self, events, headers):
        front = WholeResponse(answering_of({}, headers=headers), Given(events))
        front.feed(b"")
        with pytest.raises(GatewayError) as caught:
            front.finish()
        assert (caught.value.status, caught.value.code) == (400, "invalid_prompt")

    def test_nothing_at_all(self):
        said = told([STARTED, Finish("stop")])
        assert short(said) == ["c", "i", "completed"]
        assert said[-1]["response"]["output"] == []

    def test_an_error_in_a_stream_leaves_its_items_open(self):
        told_of = answering_of({})
        front = ResponseStream(told_of, Given([STARTED, Text("a")]))
        out = front.feed(b"")
        front.opening(out)
        error = GatewayError(429, "Slow down.", retry_after=12)
        assert FRONT.fail is not None
        out += FRONT.fail(told_of.asked, error, "r-1")
        said = responses_types.events_of(out)
        assert short(said)[-2:] == ["error", "failed"]
        assert said[-2]["error"]["code"] == "rate_limit_exceeded"
        assert said[-1]["response"]["error"] == {
            "code": "rate_limit_exceeded",
            "message": "Slow down. Please try again in 12s.",
        }

    def test_silence_is_bridged_by_an_event_with_the_next_number(self):
        told_of = answering_of({})
        front = ResponseStream(told_of, Given([STARTED, Text("a")]))
        assert FRONT.wake is not None
        assert FRONT.wake(told_of.asked) == b""  # nothing has begun
        out = front.feed(b"")
        front.opening(out)
        out += FRONT.wake(told_of.asked)
        front.decoder = Given([Text("b"), Finish("stop")])
        out += front.feed(b"")
        assert FRONT.wake(told_of.asked) == b""  # the end is near
        front.decoder = Given([])
        said = responses_types.events_of(out + front.finish())
        assert short(said)[5] == "i" and said[5]["sequence_number"] == 5


class TestThoughts:
    def test_a_signed_thought_of_claude_is_held_whole(self):
        events = [STARTED, Reasoning("hm"), Thought("hm", "sig"), Text("a"), Finish("stop")]
        said = told(events)
        block = '[{"type":"thinking","thinking":"hm","signature":"sig"}]'
        item = said[-1]["response"]["output"][0]
        assert item["encrypted_content"] == mark("c", block)
        assert item["summary"] == [{"type": "summary_text", "text": "hm"}]

    def test_geminis_signature_signs_the_thought_before_the_call(self):
        call = ToolCall("call_a", "f", "{}", signature="gsig")
        output = told([STARTED, Reasoning("hm"), call, Finish("tool_calls")])[-1]["response"][
            "output"
        ]
        assert [item["type"] for item in output] == ["reasoning", "function_call"]
        assert output[0]["encrypted_content"] == mark("g", "gsig")
        output = told([STARTED, call, Finish("tool_calls")])[-1]["response"]["output"]
        assert output[0]["summary"] == [] and output[0]["encrypted_content"] == mark("g", "gsig")


TOOLS = [
    {"type": "custom", "name": "apply_patch"},
    {
        "type": "namespace",
        "name": "git",
        "description": "Git.",
        "tools": [{"type": "function", "name": "log", "parameters": None, "strict": False}],
    },
    {"type": "tool_search", "execution": "client", "description": "d", "parameters": {}},
    {"type": "local_shell"},
    {"type": "shell", "environment": {"type": "local"}},
]


class TestCalls:
    @pytest.mark.parametrize(
        "arguments",
        ['{"input": "*** Begin\\n+\\u00e4\\ud83d\\ude00 \\"x\\" \\\\n"}', '{"input":""}'],
    )
    def test_a_custom_tools_input_under_every_cut(self, arguments):
        wanted = msgspec.json.decode(arguments)["input"]
        for cut in range(len(arguments) + 1):
            pieces = [ToolArguments(arguments[:cut]), ToolArguments(arguments[cut:])]
            events = [STARTED, ToolCall("call_a", "apply_patch"), *pieces, Finish("tool_calls")]
            said = told(events, {"tools": TOOLS})
            item = said[-1]["response"]["output"][0]
            assert (item["type"], item["input"], item["name"]) == (
                "custom_tool_call",
                wanted,
                "apply_patch",
            )
            assert responses_types.joined(said).get(0, "") == wanted

    @pytest.mark.parametrize("arguments", ['{"patch":"x"}', "*** Begin Patch", '"x"', "[1]"])
    def test_arguments_without_the_wrapper_are_the_input(self, arguments):
        events = [STARTED, ToolCall("call_a", "apply_patch", arguments), Finish("tool_calls")]
        assert told(events, {"tools": TOOLS})[-1]["response"]["output"][0]["input"] == arguments

    @pytest.mark.parametrize("name", ["git__log", "log"])
    def test_a_tool_of_a_namespace_is_told_in_two_parts(self, name):
        events = [STARTED, ToolCall("call_a", name, "{}"), Finish("tool_calls")]
        item = told(events, {"tools": TOOLS})[-1]["response"]["output"][0]
        assert (item["namespace"], item["name"]) == ("git", "log")

    def test_a_tool_search_has_an_object(self):
        call = ToolCall("call_a", "tool_search", '{"query":"git"}')
        said = told([STARTED, call, Finish("tool_calls")], {"tools": TOOLS})
        assert short(said) == ["c", "i", "+", "-", "completed"]
        item = said[3]["item"]
        assert (item["arguments"], item["execution"]) == ({"query": "git"}, "client")

    def test_shells_have_their_actions(self):
        calls = [
            ToolCall("call_a", "local_shell", '{"command":["ls"]}'),
            ToolCall("call_b", "shell", '{"commands":["ls"]}', tool=1),
        ]
        output = told([STARTED, *calls, Finish("tool_calls")], {"tools": TOOLS})[-1]["response"][
            "output"
        ]
        assert output[0]["action"] == {"type": "exec", "command": ["ls"], "env": {}}
        assert output[1]["action"]["commands"] == ["ls"]

    def test_a_call_without_arguments_has_an_empty_object(self):
        said = told([STARTED, ToolCall("call_a", "f"), Finish("tool_calls")])
        assert responses_types.joined(said) == {0: "{}"}
        assert said[-1]["response"]["output"][0]["arguments"] == "{}"

    def test_calls_in_turns_are_told_one_after_the_other(self):
        events = [
            STARTED,
            ToolCall("call_a", "f"),
            ToolCall("call_b", "g", tool=1),
            ToolArguments('{"y"', 1),
            ToolArguments('{"x":', 0),
            ToolArguments(":2}", 1),
            ToolArguments("1}", 0),
            Finish("tool_calls"),
        ]
        said = told(events)
        assert responses_types.joined(said) == {0: '{"x":1}', 1: '{"y":2}'}

    @pytest.mark.parametrize("given", ["", "functions.f:0", "x" * 65, "call_0"])
    def test_an_id_that_is_odd_or_was_there_before_is_replaced(self, given):
        before = [
            {"type": "function_call", "call_id": "call_0", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_0", "output": "1"},
        ]
        events = [STARTED, ToolCall(given, "f", "{}"), Finish("tool_calls")]
        item = told(events, {"input": [{"role": "user", "content": "Hi"}, *before]})[-1][
            "response"
        ]["output"][0]
        assert item["call_id"].startswith("call_") and len(item["call_id"]) == 29

    def test_arguments_that_are_no_json_are_an_error_where_a_status_can_say_so(self):
        events = [STARTED, ToolCall("call_a", "f", '{"x"'), Finish("tool_calls")]
        responses_types.events_of(streamed(events))
        front = WholeResponse(answering_of({}), Given(events))
        front.feed(b"")
        with pytest.raises(GatewayError) as caught:
            front.finish()
        assert caught.value.status == 502


class TestObject:
    def test_what_was_asked_is_told_again(self):
        body = {
            "instructions": "Be short.",
            "temperature": 0.5,
            "max_output_tokens": 100,
            "metadata": {"a": "b"},
            "parallel_tool_calls": False,
            "reasoning": {"effort": "low"},
            "text": {"verbosity": "low"},
            "tools": [{"type": "function", "name": "f", "parameters": {}, "strict": False}],
            "tool_choice": "required",
        }
        answer = told([STARTED, Text("a"), Finish("stop")], body)[-1]["response"]
        for name in body:
            if name not in ("reasoning", "text"):
                assert answer[name] == body[name]
        assert answer["reasoning"] == {"effort": "low", "summary": None}
        assert answer["text"] == {"format": {"type": "text"}, "verbosity": "low"}
        assert (answer["model"], answer["store"]) == ("m", False)

    def test_large_tools_are_told_once(self):
        function = {"type": "function", "name": "f", "parameters": {}, "strict": False}
        tools = [function | {"description": "d" * 20_000}]
        said = told([STARTED, Text("a"), Finish("stop")], {"tools": tools})
        assert [event["response"]["tools"] for event in said if "response" in event] == [
            [],
            [],
            tools,
        ]

    def test_usage_has_its_five_numbers(self):
        usage = Usage(10, 5, cached_tokens=4, reasoning_tokens=2)
        events = [STARTED, Text("a"), Finish("stop"), usage]
        assert told(events)[-1]["response"]["usage"] == {
            "input_tokens": 10,
            "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
            "output_tokens": 5,
            "output_tokens_details": {"reasoning_tokens": 2},
            "total_tokens": 15,
        }

    def test_usage_that_nobody_tells_is_estimated(self):
        usage = told([STARTED, Text("a" * 70), Finish("stop")])[-1]["response"]["usage"]
        assert usage["input_tokens"] > 0 and usage["output_tokens"] == 20
        assert usage["total_tokens"] == usage["input_tokens"] + 20


class TestKeeping:
    def test_an_answer_is_kept_before_its_end_is_told(self):
        kept: list[Any] = []
        answer = whole([STARTED, Text("a"), Finish("stop")], keep=kept.append)
        [turn] = kept
        assert answer["store"] is True and turn.id == answer["id"]
        assert [msgspec.json.decode(raw) for raw in turn.output] == answer["output"]
        assert [msgspec.json.decode(raw) for raw in turn.input] == [
            {"role": "user", "content": "Hi"}
        ]

    @pytest.mark.parametrize("body", [{"store": False}, {"input": "x" * (9 << 20)}])
    def test_what_may_not_or_cannot_be_kept_is_told_so(self, body):
        kept: list[Any] = []
        answer = whole([STARTED, Text("a"), Finish("stop")], body, keep=kept.append)
        assert answer["store"] is False and kept == []


@pytest.mark.parametrize(
    "item",
    [
        {"role": "user", "content": "Hi"},
        {"id": None, "type": None, "role": "developer", "content": "Hi"},
        {"role": "assistant", "content": "Hi"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {"type": "reasoning", "summary": [], "content": None},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "x"},
        {"type": "custom_tool_call_output", "call_id": "c", "output": "x"},
    ],
)
def test_input_items_are_told_in_the_form_of_the_published_types(item):
    told = as_told(item, "item_1")
    TypeAdapter(ResponseItem).validate_python(told, strict=True)
    assert told["id"] == "item_1"


@given(answer=answers(), order=ORDERS)
@settings(max_examples=80, deadline=None)
def test_an_answer_of_anything_is_told_by_the_rules(answer, order):
    events = interleaved(answer, order)
    front = ResponseStream(answering_of({"tools": TOOLS}), Given(events))
    try:
        said = responses_types.events_of(front.feed(b"") + front.finish())
    except GatewayError as error:
        assert error.code == "invalid_prompt"
        return
    assert "".join(
        event["delta"] for event in said if event["type"] == "response.output_text.delta"
    ) == "".join(e.text for e in events if isinstance(e, Text) and not e.index)
    if front.unreadable is None or said[-1]["type"] == "response.incomplete":
        twin = whole(events, {"tools": TOOLS})
        assert responses_types.without_ids(said[-1]["response"]) == responses_types.without_ids(
            twin
        )


@given(choose=st.data())
@settings(max_examples=30, deadline=None)
def test_recorded_bytes_cut_anywhere_make_the_same_items(choose):
    family, name = choose.draw(st.sampled_from(ALL))
    events = recorded_events(family, name)
    at = choose.draw(st.integers(0, len(events)))
    front = ResponseStream(answering_of({}), Given(events[:at]))
    try:
        out = front.feed(b"")
        front.decoder = Given(events[at:])
        out += front.feed(b"")
        front.decoder = Given([])
        out += front.finish()
    except GatewayError as error:
        assert error.code == "invalid_prompt"
        return
    assert out == streamed(events)
