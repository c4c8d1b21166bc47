"""Messages answers, a test for each rule of what clients insist on."""

import json

import pytest

from app.fronts.anthropic.message import WholeMessage
from app.fronts.anthropic.stream import KEEP_ALIVE, MessageStream
from app.wire.chat import ChatRequest, FunctionCall, Message, ToolCallRequest
from app.wire.errors import GatewayError, upstream_cut
from app.wire.events import (
    End,
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
    Unknown,
    Usage,
)
from app.wire.provider import Decoder
from app.wire.signature_mark import mark
from app.wire.stream_start import Stage
from app.wire.token_estimate import LEARNED
from providers.gemini import api as gemini
from tests import anthropic_types
from tests.calls import answering, asked_of, call_of
from tests.recorded import recorded

NEW_ID = "0123456789abcdef0123456789abcdef"
BOTH = pytest.mark.parametrize("kind", [MessageStream, WholeMessage])


class Reads:
    """A decoder that says one list of events per read; an error among them is raised."""

    def __init__(self, *reads):
        self.reads = list(reads)

    def feed(self, data):
        for event in self.reads.pop(0):
            if isinstance(event, GatewayError):
                raise event
            yield event

    def finish(self):
        while self.reads:
            yield from self.feed(b"")


def chat(thoughts="shown", **more):
    return ChatRequest(messages=[Message("user", "Hello there")], thoughts=thoughts, **more)


def front_of(kind, decoder: Decoder, **more):
    told = {"asked": asked_of({"model": "asked-name"}), "chat": chat(), "new_id": NEW_ID} | more
    return kind(answering(model="true-name", **told), decoder)


def answer(kind, *events, **more):
    """The message that a client ends up with."""
    front = front_of(kind, Reads(events), **more)
    out = front.feed(b"x") + front.finish()
    if kind is MessageStream:
        return anthropic_types.folded(out)
    return anthropic_types.message(out)


def stream(*events, **more):
    front = front_of(MessageStream, Reads(events), **more)
    return front.feed(b"x") + front.finish()


def blocks(message):
    return [
        block.model_dump(exclude_none=True, exclude={"parsed_output"}) for block in message.content
    ]


START = Started("upstream-id", "upstream-model")
STOP = Finish("stop")


def tool(number, arguments="", id="", **more):
    return ToolCall(id or f"call_abcdef{number}", f"tool{number}", arguments, number, **more)


# --- blocks -------------------------------------------------------------------------------------


@BOTH
def test_two_calls_in_turns_are_blocks_without_gaps(kind):
    events = [
        START,
        Text("Let me "),
        Text("see"),
        tool(0),
        ToolArguments('{"a"', 0),
        tool(1),
        ToolArguments('{"b":', 1),
        ToolArguments(":1}", 0),
        ToolArguments("2}", 1),
        Finish("tool_calls"),
    ]
    message = answer(kind, *events)
    assert blocks(message) == [
        {"type": "text", "text": "Let me see"},
        {"type": "tool_use", "id": "call_abcdef0", "name": "tool0", "input": {"a": 1}},
        {"type": "tool_use", "id": "call_abcdef1", "name": "tool1", "input": {"b": 2}},
    ]
    assert message.stop_reason == "tool_use"


@BOTH
def test_thought_text_thought_call_are_four_blocks_in_that_order(kind):
    events = [START, Reasoning("a"), Text("b"), Reasoning("c"), tool(0, "{}"), Finish("stop")]
    message = answer(kind, *events)
    assert [block.type for block in message.content] == ["thinking", "text", "thinking", "tool_use"]
    assert {block.signature for block in message.content if block.type == "thinking"} == {mark("t")}


def test_a_call_that_is_whole_is_closed_before_the_next_block():
    names = [e["type"] for e in anthropic_types.parsed(stream(START, tool(0, "{}"), tool(1), STOP))]
    assert names == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "content_block_start",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


def test_the_piece_that_changes_the_kind_of_a_block_is_in_the_new_one():
    told = anthropic_types.parsed(
        stream(START, Text("a"), Reasoning("b"), tool(0, '{"x":1}'), STOP)
    )
    deltas = [(e["index"], e["delta"]) for e in told if e["type"] == "content_block_delta"]
    assert deltas == [
        (0, {"type": "text_delta", "text": "a"}),
        (1, {"type": "thinking_delta", "thinking": "b"}),
        (1, {"type": "signature_delta", "signature": mark("t")}),
        (2, {"type": "input_json_delta", "partial_json": '{"x":1}'}),
    ]


@BOTH
def test_a_call_without_arguments_has_an_empty_object(kind):
    assert answer(kind, START, tool(0), STOP).content[0].input == {}
    assert answer(kind, START, tool(0), ToolArguments("{}"), STOP).content[0].input == {}


@BOTH
def test_an_empty_answer_is_an_answer(kind):
    message = answer(kind, START, Text(""), STOP)
    assert message.content == [] and message.stop_reason == "end_turn"


@BOTH
def test_other_choices_and_what_messages_cannot_say_are_left_out(kind):
    events = [
        START,
        Text("a"),
        Text("x", 1),
        tool(0, index=1),
        Finish("length", 1),
        Extension({"citations": ["u"]}),
        Session({"conversation": "c"}),
        Text("b"),
        STOP,
    ]
    message = answer(kind, *events)
    assert blocks(message) == [{"type": "text", "text": "ab"}]
    assert message.stop_reason == "end_turn"


def test_commands_and_unknown_events_are_the_engines():
    front = front_of(MessageStream, Reads([START, Unknown("x"), End()]))
    front.feed(b"x")
    assert front.unknown == ["x"] and front.ended


def test_an_answer_that_says_nothing_yet_has_only_begun():
    front = front_of(MessageStream, Reads([START], [Text("a")]))
    assert front.opening(front.feed(b"x")) is Stage.BEGUN
    assert front.opening(front.feed(b"x")) is Stage.SAID


# --- names and ids ------------------------------------------------------------------------------


@BOTH
def test_the_model_is_the_one_that_was_asked_for_and_the_id_is_new(kind):
    ids = set()
    for number in range(1000):
        message = answer(kind, START, Text("a"), STOP, new_id=f"{number:032x}"[::-1])
        assert message.model == "asked-name"
        ids.add(message.id)
    assert len(ids) == 1000 and all(id.startswith("msg_") for id in ids)


@BOTH
def test_ids_of_calls_are_kept_where_they_are_legal_and_new(kind):
    given = ["toolu_01ABCDEFGH", "call_0", "", "functions.read:0", "x" * 65, "call_0"]
    events = [tool(n, "{}") for n in range(len(given))]
    for event, id in zip(events, given, strict=True):
        event.id = id
    ids = [block.id for block in answer(kind, START, *events, STOP).content]
    assert ids[0] == "toolu_01ABCDEFGH"
    assert ids[3] == "hx_" + b"functions.read:0".hex()
    assert len(set(ids)) == len(ids)
    assert all(9 <= len(id) <= 64 and id.replace("_", "").isalnum() for id in ids)


@BOTH
@pytest.mark.parametrize("id", ["functions.read:0", "toolu_01ABCDEFGH"])
def test_an_id_of_an_earlier_turn_is_not_used_again(kind, id):
    call = ToolCallRequest(id, function=FunctionCall("read", "{}"))
    history = [Message("user", "Hi"), Message("assistant", tool_calls=[call])]
    [block] = answer(
        kind, START, tool(0, "{}", id=id), STOP, chat=ChatRequest(messages=history)
    ).content
    assert block.id.startswith("toolu_") and block.id != id


# --- thinking and signatures --------------------------------------------------------------------


@BOTH
def test_geminis_signature_stands_in_the_thought_before_the_call(kind):
    signed = tool(0, "{}", signature="c2ln")
    first, second = answer(kind, START, Reasoning("hm"), signed, STOP).content
    assert (first.thinking, first.signature) == ("hm", mark("g", "c2ln"))
    assert second.type == "tool_use"
    first, second, third = answer(kind, START, Text("a"), signed, STOP).content
    assert (second.thinking, second.signature) == ("", mark("g", "c2ln"))
    assert third.type == "tool_use"


@BOTH
@pytest.mark.parametrize("thoughts", ["omitted", "off"])
def test_thoughts_that_nobody_sees_leave_geminis_signature(kind, thoughts):
    events = [START, Reasoning("hm"), tool(0, "{}", signature="c2ln"), Text("a"), STOP]
    message = answer(kind, *events, chat=chat(thoughts))
    assert [block.type for block in message.content] == ["thinking", "tool_use", "text"]
    assert (message.content[0].thinking, message.content[0].signature) == ("", mark("g", "c2ln"))


@BOTH
def test_claudes_signature_is_passed_on_as_it_is(kind):
    events = [START, Reasoning("h"), Reasoning("m"), Thought("hm", "RXM="), Text("a"), STOP]
    first, _ = answer(kind, *events).content
    assert (first.thinking, first.signature) == ("hm", "RXM=")
    first, *_ = answer(kind, *events, chat=chat("omitted")).content
    assert (first.thinking, first.signature) == ("", "RXM=")


@BOTH
def test_a_thought_that_nobody_may_read_is_a_block_of_its_own(kind):
    message = answer(kind, START, Thought(redacted="ZGF0YQ=="), Text("a"), STOP)
    assert blocks(message)[0] == {"type": "redacted_thinking", "data": "ZGF0YQ=="}


@pytest.mark.parametrize("name", ["sse-tool-call-gemini3.sse", "array-tool-call-thought.json"])
def test_geminis_recorded_signature_reaches_the_client_in_front_of_the_call(name):
    data = (recorded("gemini") / name).read_bytes()
    body = {"model": "gemini-3-pro", "messages": [{"role": "user", "content": "Hi"}]}
    front = front_of(
        MessageStream,
        gemini.PROVIDER.decoder(call_of(gemini.PROVIDER, body | {"stream": True})),
        chat=chat("omitted"),
    )
    message = anthropic_types.folded(front.feed(data) + front.finish())
    at = next(n for n, block in enumerate(message.content) if block.type == "tool_use")
    assert message.content[at - 1].signature.startswith("YW55cHJveHkx")
    assert message.content[-1].type != "thinking"


# --- how it ended -------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    ("events", "stop"),
    [
        ([tool(0, "{}"), Finish("stop")], "tool_use"),
        ([tool(0, "{}"), Finish("length")], "max_tokens"),
        ([tool(0, "{}"), Finish("content_filter")], "tool_use"),
        ([Finish("tool_calls")], "end_turn"),
        ([Finish("stop")], "end_turn"),
        ([Finish("length")], "max_tokens"),
        ([Finish("content_filter")], "refusal"),
        ([Refusal("I will not."), Finish("stop")], "refusal"),
        ([Finish("stop", native="stop_sequence", stop_sequence="END")], "stop_sequence"),
        ([Finish("stop", native="pause_turn")], "pause_turn"),
    ],
)
def test_the_stop_reason_says_what_the_answer_holds(kind, events, stop):
    message = answer(kind, START, *events)
    assert message.stop_reason == stop
    assert message.stop_sequence == ("END" if stop == "stop_sequence" else None)
    assert (message.stop_details is not None) == (stop == "refusal")


@BOTH
def test_a_refusal_is_text_and_its_own_explanation(kind):
    message = answer(kind, START, Refusal("I will "), Refusal("not."), Finish("stop"))
    assert blocks(message) == [{"type": "text", "text": "I will not."}]
    assert message.stop_details.explanation == "I will not."
    assert answer(kind, START, Finish("content_filter")).stop_details.explanation is None


@BOTH
def test_an_answer_that_filled_the_context_window_is_told_as_a_prompt_too_long(kind):
    front = front_of(
        kind, Reads([START, Text("a"), Finish("length", native="model_context_window_exceeded")])
    )
    front.feed(b"x")
    with pytest.raises(GatewayError) as caught:
        front.finish()
    assert caught.value.status == 400 and caught.value.message.startswith("prompt is too long: ")


def test_arguments_that_the_limit_cut_stream_as_they_are_and_are_left_out_of_a_whole_message():
    events = [START, Text("a"), tool(0, '{"x'), Finish("length")]
    assert b'"partial_json":"{\\"x"' in stream(*events)
    message = answer(WholeMessage, *events)
    assert [block.type for block in message.content] == ["text"]
    assert message.stop_reason == "max_tokens"


@pytest.mark.parametrize("arguments", ['{"x', "[1]", '"x"'])
def test_arguments_that_are_no_object_make_no_whole_message(arguments):
    with pytest.raises(GatewayError) as caught:
        answer(WholeMessage, START, tool(0, arguments), STOP)
    assert caught.value.status == 502 and "tool0" in caught.value.message


# --- stop sequences -----------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    "pieces", [["yes</block>no"], ["yes", "</blo", "ck", ">no"], list("yes</block>no")]
)
def test_a_stop_sequence_is_cut_and_the_upstream_is_left(kind, pieces):
    front = front_of(
        kind, Reads([START, *map(Text, pieces), Text("more")], [upstream_cut()]), cuts=("</block>",)
    )
    out = front.feed(b"x")
    assert front.ended
    out += front.finish()
    message = (anthropic_types.folded if kind is MessageStream else anthropic_types.message)(out)
    assert blocks(message) == [{"type": "text", "text": "yes"}]
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "</block>")


def test_an_answer_that_came_whole_tells_its_own_counts_though_it_is_cut():
    whole = [START, Text("yes</block>no"), Usage(10, 5), STOP]
    front = front_of(WholeMessage, Reads(whole), cuts=("</block>",))
    message = anthropic_types.message(front.finish())
    assert blocks(message) == [{"type": "text", "text": "yes"}]
    assert (message.usage.input_tokens, message.usage.output_tokens) == (10, 5)
    assert front.usage == Usage(10, 5)


@BOTH
def test_what_only_began_like_a_stop_sequence_is_told_in_its_place(kind):
    events = [START, Text("a<"), Reasoning("<END>"), Text("b<EN"), tool(0, '{"x":"<END>"}'), STOP]
    message = answer(kind, *events, cuts=("<END>",))
    assert [getattr(b, "text", None) or getattr(b, "thinking", None) for b in message.content] == [
        "a<",
        "<END>",
        "b<EN",
        None,
    ]
    assert message.content[3].input == {"x": "<END>"}
    assert answer(kind, START, Text("a<EN"), STOP, cuts=("<END>",)).content[0].text == "a<EN"


@BOTH
def test_a_stop_sequence_at_the_very_start_leaves_no_block(kind):
    message = answer(kind, START, Text("ENDx"), STOP, cuts=("END",))
    assert message.content == [] and message.stop_sequence == "END"


# --- counts -------------------------------------------------------------------------------------


@BOTH
def test_cached_tokens_are_counted_once_and_a_usage_after_the_end_holds(kind):
    usage = Usage(100, 20, None, 30, 10, 5)
    told = answer(kind, START, Usage(1, 1), Text("a"), STOP, usage).usage
    assert told.input_tokens == 60
    assert (told.cache_read_input_tokens, told.cache_creation_input_tokens) == (30, 10)
    assert told.output_tokens == 20
    assert told.output_tokens_details.thinking_tokens == 5


def test_the_first_usage_is_an_estimate_and_never_zero():
    first = anthropic_types.parsed(stream(START, Text("a"), STOP, Usage(100, 20)))[0]["message"]
    assert first["usage"]["input_tokens"] > 0 and first["usage"]["output_tokens"] == 1
    assert set(first["usage"]) == {
        "input_tokens",
        "cache_creation_input_tokens",
        "cache_read_input_tokens",
        "output_tokens",
    }


@BOTH
def test_counts_that_no_upstream_tells_are_estimated(kind):
    LEARNED.__init__()
    told = answer(kind, START, Text("x" * 350), STOP).usage
    assert told.output_tokens == 100
    assert 5 <= told.input_tokens <= 15


# --- errors and the ends of connections ---------------------------------------------------------


def test_an_error_after_the_first_piece_keeps_what_was_said_and_ends_without_message_stop():
    front = front_of(MessageStream, Reads([START, Text("a"), upstream_cut()]))
    with pytest.raises(GatewayError) as caught:
        front.feed(b"x")
    assert b'"text":"a"' in caught.value.said
    assert b"message_stop" not in caught.value.said


@BOTH
def test_an_answer_without_an_ending_is_cut(kind):
    front = front_of(kind, Reads([START, Text("a")]))
    front.feed(b"x")
    with pytest.raises(GatewayError) as caught:
        front.finish(is_cut=True)
    assert caught.value.code == "upstream_cut"


def test_a_whole_answer_above_the_limit_is_refused():
    front = front_of(WholeMessage, Reads([START]), max_bytes=10)
    with pytest.raises(GatewayError) as caught:
        front.feed(b"x" * 11)
    assert "limits.response_bytes" in caught.value.message


def test_the_keep_alive_is_the_ping_that_every_client_takes():
    name, data = KEEP_ALIVE.decode().removesuffix("\n\n").split("\n")
    assert name == "event: ping" and json.loads(data.removeprefix("data: ")) == {"type": "ping"}
    whole = stream(START, Text("a"), STOP)
    events = whole.split(b"\n\n")[:-1]
    pinged = b"".join(KEEP_ALIVE + event + b"\n\n" for event in events)
    assert anthropic_types.folded(pinged).content[0].text == "a"
