"""What leaves the gateway by the Gemini front, byte for byte."""

import json

import pytest
from msgspec.structs import replace

from app.fronts.gemini.answer import WholeAnswer
from app.fronts.gemini.errors import (
    array_error_body,
    array_error_event,
    error_body,
    error_event,
    error_status,
)
from app.fronts.gemini.front import array_keep_alive, copy, keep_alive
from app.fronts.gemini.passthrough import ArrayPassthrough, EventPassthrough, WholeBody
from app.fronts.gemini.stream import ChunkArray, ChunkStream
from app.wire.errors import GatewayError
from app.wire.events import (
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
from app.wire.signature_mark import read_mark
from app.wire.stream_start import Stage
from tests.fronts.gemini_calls import answering, asked_of, chat_of, config_of
from tests.fronts.test_property import Given
from tests.recorded import recorded

GEMINI = recorded("gemini")
STREAMS = sorted(path.name for path in GEMINI.glob("*.sse"))
ARRAYS = sorted(path.name for path in GEMINI.glob("array-*.json"))
BODIES = ["parallel-tool-calls.json", "safety-blocked.json", "max-tokens-empty.json"]
SHOWN = config_of(thinkingConfig={"includeThoughts": True})
END = [Finish("stop"), Usage(7, 5)]


class Pieces(Given):
    """A decoder that gives one event for each piece it is fed."""

    def feed(self, data):
        return [self.events.pop(0)]

    def finish(self):
        return self.events


def chunks(*events, chat=None, kind=ChunkStream, pieces=0, **told) -> list[dict]:
    """The chunks of this answer; `pieces` events come in reads of their own."""
    decoder = Pieces([Started("u", "true-model"), *events])
    front = kind(answering(chat, **told), decoder)
    out = b"".join(front.feed(b"") for _ in range(pieces or len(events) + 1)) + front.finish()
    if kind is not ChunkStream:
        return json.loads(out)
    return [json.loads(line[6:]) for line in out.split(b"\r\n\r\n") if line]


def parts(chunk: dict) -> list[dict]:
    return chunk["candidates"][0]["content"]["parts"]


def whole(*events, chat=None) -> dict:
    front = WholeAnswer(answering(chat), Given([Started("u", "m"), *events]))
    front.feed(b"")
    return json.loads(front.finish())


# --- chunks -----------------------------------------------------------------------------------


def test_the_bytes_of_a_stream():
    front = ChunkStream(answering(), Given([Started("u", "x"), Text("a"), *END]))
    told_by = b'"modelVersion":"m","responseId":"%b"}\r\n\r\n' % (b"i" * 24)
    assert front.feed(b"") + front.finish() == (
        b'data: {"candidates":[{"content":{"role":"model","parts":[{"text":"a"}]},"index":0}],'
        + told_by
        + b'data: {"candidates":[{"content":{"role":"model","parts":[{"text":""}]},'
        b'"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":7,'
        b'"candidatesTokenCount":5,"totalTokenCount":12},' + told_by
    )


def test_a_call_in_seven_pieces_is_one_part_beside_the_reason():
    arguments = '{"city": "Oslo", "days": 10000000000000000000001}'
    cut = [arguments[at : at + 8] for at in range(0, len(arguments), 8)]
    events = [ToolCall("call_1", "weather", ""), *(ToolArguments(piece) for piece in cut)]
    (last,) = chunks(*events, Finish("tool_calls"), Usage(1, 1))
    (part,) = parts(last)
    assert part == {
        "functionCall": {"id": "call_1", "name": "weather", "args": json.loads(arguments)}
    }
    assert last["candidates"][0]["finishReason"] == "STOP"


def test_a_later_candidate_may_speak_before_the_first_one():
    events = [Text("b", 1), Text("a"), Text("c", 1), Text("d"), Finish("stop"), Finish("stop", 1)]
    told = chunks(*events)
    said = {0: "", 1: ""}
    for chunk in told:
        said[chunk["candidates"][0]["index"]] += parts(chunk)[0]["text"]
    assert said == {0: "ad", 1: "bc"}


def test_calls_in_turns_leave_together_in_order_and_before_later_text():
    two = [ToolCall("a", "f", "", 0), ToolCall("b", "g", "", 1)]
    turns = [ToolArguments("{", 1), ToolArguments("{}", 0), ToolArguments("}", 1)]
    told = chunks(Text("I look."), *two, *turns, Text("Wait."), *END)
    names = [[part.get("functionCall", {}).get("name") for part in parts(chunk)] for chunk in told]
    assert names == [[None], ["f", "g", None], [None]]
    assert parts(told[1])[2] == {"text": "Wait."}


def test_arguments_that_are_no_object_end_as_malformed_and_cut_ones_are_left_out():
    broken = [ToolCall("a", "f", '{"x": '), ToolCall("b", "g", "{}", 1)]
    (last,) = chunks(*broken, Finish("tool_calls"))
    assert last["candidates"][0]["finishReason"] == "MALFORMED_FUNCTION_CALL"
    assert "'f'" in last["candidates"][0]["finishMessage"]
    assert [part["functionCall"]["name"] for part in parts(last)] == ["g"]
    (last,) = chunks(*broken, Finish("length"))
    assert last["candidates"][0]["finishReason"] == "MAX_TOKENS"
    assert [part["functionCall"]["name"] for part in parts(last)] == ["g"]


def test_thoughts_are_shown_only_when_asked_for():
    events = [Reasoning("hm"), Text("Yes."), *END]
    assert parts(chunks(*events, chat=SHOWN)[0]) == [{"text": "hm", "thought": True}]
    assert "thought" not in json.dumps(chunks(*events))
    assert whole(*events, chat=SHOWN)["candidates"][0]["content"]["parts"] == [
        {"text": "hm", "thought": True},
        {"text": "Yes."},
    ]


def test_thoughts_are_counted_beside_the_candidates():
    usage = Usage(10, 8, None, 4, None, 3)
    told = chunks(Text("x"), Finish("stop"), usage)[-1]["usageMetadata"]
    assert told == {
        "promptTokenCount": 10,
        "candidatesTokenCount": 5,
        "thoughtsTokenCount": 3,
        "cachedContentTokenCount": 4,
        "totalTokenCount": 18,
    }


def test_counts_that_nobody_tells_are_estimated():
    told = chunks(Text("x" * 35), Finish("stop"), chat=chat_of({"contents": "y" * 350}))
    counts = told[-1]["usageMetadata"]
    assert counts["promptTokenCount"] > 90
    assert counts["candidatesTokenCount"] == 10


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("stop", "STOP"),
        ("tool_calls", "STOP"),
        ("length", "MAX_TOKENS"),
        ("content_filter", "SAFETY"),
    ],
)
def test_reasons_stand_beside_parts(reason, word):
    last = chunks(Text("x"), Finish(reason))[-1]["candidates"][0]
    assert last["finishReason"] == word
    assert last["content"]["parts"] == [{"text": ""}]


def test_a_refusal_is_text_and_the_reason():
    told = chunks(Refusal("I will"), Refusal(" not."), Finish("stop"))
    assert "".join(parts(chunk)[0]["text"] for chunk in told) == "I will not."
    assert told[-1]["candidates"][0]["finishReason"] == "SAFETY"
    assert told[-1]["candidates"][0]["finishMessage"] == "I will not."


def test_claudes_thought_rides_on_the_first_call():
    thought = Thought("Let me see.", "c2ln")
    (last,) = chunks(thought, ToolCall("a", "f", "{}"), ToolCall("b", "g", "{}", 1), *END)
    first, second = parts(last)
    kind, payload = read_mark(first["thoughtSignature"])
    assert kind == "c"
    assert json.loads(payload) == [
        {"type": "thinking", "thinking": "Let me see.", "signature": "c2ln"}
    ]
    assert "thoughtSignature" not in second


def test_a_signature_that_is_not_base64_is_told_to_nobody():
    (last,) = chunks(ToolCall("a", "f", "{}", signature="no base64!"), *END)
    assert parts(last) == [{"functionCall": {"id": "a", "name": "f", "args": {}}}]


def test_one_word_is_told_without_its_json():
    word = {"type": "STRING", "enum": ["red", "blue"]}
    chat = config_of(responseMimeType="text/x.enum", responseSchema=word)
    for said in ('{"value": "blue"}', '"blue"', "blue"):
        told = chunks(Text(said[:3]), Text(said[3:]), *END, chat=chat)
        assert parts(told[-1]) == [{"text": "blue"}]


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize(
    ("said", "value"),
    [
        ('{"value": ["a", {"b": {}}]}', '["a", {"b": {}}]'),
        ('\n{ "value" :{"b": {"c": 1} } \n}\n', '{"b": {"c": 1} }'),
        ('{"value":"}"}', '"}"'),
        ('{"value":[1, 2', "[1, 2"),
        ('{"val', '{"val'),
        ('["a", {}]', '["a", {}]'),
        ('{"values": [] }', '{"values": [] }'),
        ("I look first. {}", "I look first. {}"),
    ],
)
def test_an_answer_that_is_no_object_is_taken_out_of_its_own(said, value, size):
    schema = {"type": "ARRAY", "items": {}}
    chat = config_of(responseMimeType="application/json", responseSchema=schema)
    events = [Text(said[at : at + size]) for at in range(0, len(said), size)]
    for kind in (ChunkStream, ChunkArray):
        told = chunks(*events, *END, chat=chat, kind=kind)
        assert "".join(part["text"] for chunk in told for part in parts(chunk)) == value
    assert whole(*events, *END, chat=chat)["candidates"][0]["content"]["parts"][0]["text"] == value


def test_a_stop_sequence_that_the_upstream_cannot_stop_at():
    for kind in (ChunkStream, ChunkArray):
        told = chunks(Text("one EN"), Text("D two"), pieces=3, kind=kind, cuts=("END",))
        assert "".join(parts(chunk)[0]["text"] for chunk in told) == "one "
        assert told[-1]["candidates"][0]["finishReason"] == "STOP"


def test_an_error_comes_after_what_was_said_in_the_same_read():
    class Breaks(Given):
        def feed(self, data):
            yield Text("so far")
            raise GatewayError(503, "overloaded")

    front = ChunkStream(answering(), Breaks([]))
    with pytest.raises(GatewayError) as caught:
        front.feed(b"")
    assert b'"so far"' in caught.value.said


def test_an_answer_without_an_end_is_cut():
    for kind in (ChunkStream, ChunkArray, WholeAnswer):
        front = kind(answering(), Given([Started("u", "m"), Text("x")]))
        front.feed(b"")
        with pytest.raises(GatewayError) as caught:
            front.finish()
        assert caught.value.code == "upstream_cut"


def test_several_candidates_end_each_for_itself():
    told = chunks(Text("a"), Text("b", 1), Finish("stop"), Finish("length", 1))
    ends = {
        candidate["index"]: candidate["finishReason"]
        for chunk in told
        for candidate in chunk["candidates"]
        if "finishReason" in candidate
    }
    assert ends == {0: "STOP", 1: "MAX_TOKENS"}
    assert [("usageMetadata" in chunk) for chunk in told[-2:]] == [False, True]


# --- arrays -----------------------------------------------------------------------------------


def test_an_array_is_valid_at_every_cut_with_an_error_element():
    error = GatewayError(503, "overloaded")
    events = [Started("u", "m"), Text("a"), Text("b"), *END]
    for cut in range(2, len(events)):
        front = ChunkArray(answering(), Pieces(list(events)))
        out = b"".join(front.feed(b"") for _ in range(cut))
        told = json.loads(out + array_error_event(error))
        assert told[-1]["error"]["status"] == "UNAVAILABLE"
        assert len(told) > 1


def test_silence_in_an_array_is_a_line_break_between_elements():
    assert array_keep_alive(asked_of({}), False) == b""
    front = ChunkArray(answering(), Pieces([Text("a"), Text("b"), *END]))
    out = front.feed(b"") + array_keep_alive(asked_of({}), True) + front.feed(b"")
    assert len(json.loads(out + front.finish())) == 3


def test_silence_in_a_stream_is_a_chunk_without_candidates():
    told = keep_alive(asked_of({"contents": "x" * 400, "blob": "A" * 5000}), True)
    assert told.startswith(b"data: {")
    assert told.endswith(b"}\r\n\r\n")
    chunk = json.loads(told[6:])
    assert set(chunk) == {"usageMetadata", "modelVersion"}
    assert 1700 < chunk["usageMetadata"]["promptTokenCount"] < 1800


# --- byte for byte ----------------------------------------------------------------------------


def through(renderer, pieces):
    renderer.labelled("text/event-stream")
    return b"".join(renderer.feed(piece) for piece in pieces) + renderer.finish()


def passthrough(kind):
    return kind(answering(None))


@pytest.mark.parametrize(
    ("name", "kind"),
    [*((name, EventPassthrough) for name in STREAMS), *((n, ArrayPassthrough) for n in ARRAYS)],
)
def test_a_recorded_answer_passes_untouched_under_every_split(name, kind):
    data = (GEMINI / name).read_bytes()
    step = 1 if len(data) < 4000 else 17
    for at in range(0, len(data) + 1, step):
        assert through(passthrough(kind), [data[:at], data[at:]]) == data
    bytewise = passthrough(kind)
    assert through(bytewise, [data[i : i + 1] for i in range(len(data))]) == data
    assert bytewise.usage.prompt_tokens > 0
    assert not bytewise.refused


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_that_is_cut_anywhere_can_still_be_closed(name):
    data = (GEMINI / name).read_bytes()
    for at in range(0, len(data) - 1, 7):
        renderer = passthrough(ArrayPassthrough)
        out = renderer.feed(data[:at])
        with pytest.raises(GatewayError) as caught:
            renderer.finish(is_cut=True)
        assert caught.value.code == "upstream_cut"
        if out:
            assert renderer.opening(out) in (Stage.BEGUN, Stage.SAID)
            assert "error" in json.loads(out + array_error_event(caught.value))[-1]


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_is_cut_is_known_and_ends_between_events(name):
    data = (GEMINI / name).read_bytes()
    for at in range(0, data.rindex(b'"finishReason"'), 11):
        renderer = passthrough(EventPassthrough)
        renderer.labelled("text/event-stream")
        out = renderer.feed(data[:at])
        assert out == b"" or out.endswith(b"\r\n\r\n")
        with pytest.raises(GatewayError):
            renderer.finish(is_cut=True)


def test_googles_break_off_outside_of_events_is_told_as_an_error():
    first = (GEMINI / "sse-text.sse").read_bytes().split(b"\r\n\r\n")[0] + b"\r\n\r\n"
    stray = b'{\n  "error": {\n    "code": 503,\n    "message": "overloaded",\n'
    stray += b'    "status": "UNAVAILABLE"\n  }\n}\n'
    renderer = passthrough(EventPassthrough)
    renderer.labelled("text/event-stream")
    assert renderer.feed(first + stray) == first
    with pytest.raises(GatewayError) as caught:
        renderer.finish()
    assert (caught.value.status, caught.value.message) == (503, "overloaded")


def test_an_error_inside_either_framing_is_noted():
    told = b'{"error":{"code":429,"message":"slow","status":"RESOURCE_EXHAUSTED"}}'
    events = passthrough(EventPassthrough)
    assert through(events, [b"data: " + told + b"\r\n\r\n"]) == b"data: " + told + b"\r\n\r\n"
    array = passthrough(ArrayPassthrough)
    assert through(array, [b"[" + told + b"]"]) == b"[" + told + b"]"
    for renderer in (events, array):
        assert renderer.error.status == 429
        with pytest.raises(GatewayError):
            renderer.opening(b"data: " + told + b"\r\n\r\n")


@pytest.mark.parametrize("name", BODIES)
def test_a_recorded_body_passes_untouched(name):
    data = (GEMINI / name).read_bytes()
    renderer = passthrough(WholeBody)
    assert through(renderer, [data[:50], data[50:]]) == data
    assert renderer.usage.prompt_tokens > 0


def test_the_request_decides_which_copy():
    kinds = {
        "v1beta/models/m:streamGenerateContent?alt=sse": EventPassthrough,
        "v1/models/m:streamGenerateContent": ArrayPassthrough,
        "v1beta/m:streamGenerateContent?alt=json": ArrayPassthrough,
        "v1beta/models/m:generateContent": WholeBody,
        "v1beta/models/m:countTokens": WholeBody,
    }
    for path, kind in kinds.items():
        told = replace(answering(), asked=asked_of({}, f"/c/{path}"))
        assert type(copy(told, None)) is kind


# --- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "word"),
    [
        (GatewayError(400, "no"), 400, "INVALID_ARGUMENT"),
        (GatewayError(422, "no"), 400, "INVALID_ARGUMENT"),
        (GatewayError(413, "large"), 413, "INVALID_ARGUMENT"),
        (GatewayError(401, "who"), 401, "UNAUTHENTICATED"),
        (GatewayError(403, "no"), 403, "PERMISSION_DENIED"),
        (GatewayError(404, "no model", code="model_not_found"), 404, "NOT_FOUND"),
        (GatewayError(400, "no model", code="model_not_found"), 404, "NOT_FOUND"),
        (GatewayError(429, "slow"), 429, "RESOURCE_EXHAUSTED"),
        (GatewayError(402, "pay"), 429, "RESOURCE_EXHAUSTED"),
        (GatewayError(500, "oh"), 500, "INTERNAL"),
        (GatewayError(502, "oh"), 500, "INTERNAL"),
        (GatewayError(503, "full"), 503, "UNAVAILABLE"),
        (GatewayError(529, "full"), 503, "UNAVAILABLE"),
        (GatewayError(504, "late"), 504, "DEADLINE_EXCEEDED"),
    ],
)
def test_statuses_are_googles(error, status, word):
    told = json.loads(error_body(error))["error"]
    assert (told["code"], told["status"]) == (status, word)
    assert error_status(error) == status
    event = error_event(error)
    assert json.loads(event.removeprefix(b"data: "))["error"] == told
    assert event.endswith(b"}\r\n\r\n")
    assert json.loads(array_error_body(error)) == [{"error": told}]


def details(error: GatewayError) -> list[dict]:
    return json.loads(error_body(error))["error"]["details"]


def test_details_tell_what_to_do():
    (wait,) = details(GatewayError(429, "slow", retry_after=11.2))
    assert wait["retryDelay"] == "12s"
    assert wait["@type"].endswith("RetryInfo")
    (quota,) = details(GatewayError(429, "spent", code="insufficient_quota", retry_after=60))
    assert "PerDay" in quota["violations"][0]["quotaId"]
    (info,) = details(GatewayError(401, "who"))
    assert info["reason"] == "API_KEY_INVALID"


def test_a_prompt_that_is_too_long_is_told_in_googles_words():
    said = "This model's maximum context length is 128000 tokens. Your messages resulted in 130000."
    error = GatewayError(400, said, code="context_length_exceeded")
    message = json.loads(error_body(error))["error"]["message"]
    assert message.startswith(
        "The input token count (130000) exceeds the maximum number of tokens allowed (128000)."
    )
    assert message.endswith(said)


def test_googles_own_error_passes_as_it_is():
    error = GatewayError(429, "slow")
    error.raw, error.raw_wire = (GEMINI / "error-429-quota.json").read_bytes(), "gemini"
    assert error_body(error) == error.raw
    assert json.loads(array_error_body(error)) == [json.loads(error.raw)]
    error.raw_wire = "anthropic"
    assert error_body(error) != error.raw
