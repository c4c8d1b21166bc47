"""Gemini's answers as events: recorded ones under every split, made-up ones for the rest."""

import base64
import json
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
    TokenLogprob,
    ToolCall,
    TopLogprob,
    Unknown,
    Usage,
)
from tests.providers.gemini.calls import HERE, RECORDED, chunk, decode, make_decoder, sse

ANSWERS = sorted(
    path.name
    for path in RECORDED.iterdir()
    if path.suffix in (".sse", ".json")
    and not path.name.startswith(("error-", "requests", "models-", "embeddings-"))
)


def as_lines(events: list[Event]) -> str:
    return "".join(
        json.dumps({type(event).__name__: msgspec.to_builtins(event)}, ensure_ascii=False) + "\n"
        for event in events
    )


def is_streamed(name: str) -> bool:
    return name.endswith(".sse") or name.startswith("array-")


def expected(name: str) -> str:
    return (HERE / "expected" / f"{name}.jsonl").read_text()


@pytest.mark.parametrize("name", ANSWERS)
def test_a_recorded_answer_gives_the_expected_events(name: str) -> None:
    data = (RECORDED / name).read_bytes()
    assert as_lines(decode(data, stream=is_streamed(name))) == expected(name)


@pytest.mark.parametrize("name", ANSWERS)
def test_every_two_way_split_gives_the_same_events(name: str) -> None:
    data, stream = (RECORDED / name).read_bytes(), is_streamed(name)
    whole = decode(data, stream=stream)
    for at in range(len(data) + 1):
        assert decode(data[:at], data[at:], stream=stream) == whole, f"split at byte {at}"


@pytest.mark.parametrize("name", ANSWERS)
def test_byte_by_byte_gives_the_same_events(name: str) -> None:
    data, stream = (RECORDED / name).read_bytes(), is_streamed(name)
    pieces = [data[i : i + 1] for i in range(len(data))]
    assert decode(*pieces, stream=stream) == decode(data, stream=stream)


@pytest.mark.parametrize("name", [name for name in ANSWERS if is_streamed(name)])
def test_a_recorded_stream_cut_anywhere_never_looks_whole(name: str) -> None:
    data = (RECORDED / name).read_bytes()
    last = data.rfind(b"STOP")
    for at in range(0, last, 7):
        with pytest.raises(GatewayError) as caught:
            decode(data[:at])
        assert (caught.value.status, caught.value.code) == (502, "upstream_cut")


@pytest.mark.parametrize("name", [name for name in ANSWERS if not is_streamed(name)])
def test_a_streamed_call_answered_with_one_object_is_read_too(name: str) -> None:
    data = (RECORDED / name).read_bytes()
    assert as_lines(decode(data, stream=True)) == expected(name)


def test_a_call_not_streamed_but_answered_with_events_is_read_too() -> None:
    data = (RECORDED / "sse-text.sse").read_bytes()
    assert as_lines(decode(data, stream=False)) == expected("sse-text.sse")


@pytest.mark.parametrize(
    "before", [b"\xef\xbb\xbf", b" \r\n\n", b"\xef\xbb\xbf \n", b": hello\n\n"]
)
def test_what_stands_before_the_first_event_is_passed_over(before: bytes) -> None:
    data = before + (RECORDED / "sse-text.sse").read_bytes()
    whole = expected("sse-text.sse")
    for at in range(12):
        assert as_lines(decode(data[:at], data[at:])) == whole


def test_lf_framing_reads_like_crlf_framing() -> None:
    data = (RECORDED / "sse-text.sse").read_bytes()
    assert decode(data.replace(b"\r\n", b"\n")) == decode(data)


# Parts


def test_thoughts_and_answer_in_one_chunk_are_told_apart() -> None:
    events = decode(
        sse(chunk({"text": "hm", "thought": True}, {"text": "yes"}, {"text": ""}, finish="STOP"))
    )
    assert events[1:] == [Reasoning("hm"), Text("yes"), Finish("stop")]


def test_tool_calls_are_numbered_over_the_whole_stream() -> None:
    call = {"functionCall": {"name": "f", "args": {"a": 1}}}
    events = decode(
        sse(chunk(call), chunk({"text": "and"}), chunk(call, call), chunk(finish="STOP"))
    )
    calls = [event for event in events if isinstance(event, ToolCall)]
    assert [event.tool for event in calls] == [0, 1, 2]
    assert len({event.id for event in calls}) == 3, "the same function twice needs two ids"
    assert events[-1] == Finish("tool_calls")


def test_an_id_of_geminis_own_is_kept_and_a_repeated_one_replaced() -> None:
    call = {"functionCall": {"name": "f", "id": "theirs"}}
    other = {"functionCall": {"name": "g", "id": "theirs"}}
    events = decode(sse(chunk(call, other, finish="STOP")))
    first, second = [event for event in events if isinstance(event, ToolCall)]
    assert first.id == "theirs"
    assert second.id == "call_000000000000000000000001"
    assert first.arguments == second.arguments == "{}"


@pytest.mark.parametrize(
    ("args", "arguments"),
    [
        (b"null", "{}"),
        (b"{}", "{}"),
        (b"[1]", "{}"),
        (b'{ "a" : 1.50, "b": [ 1, 2 ] }', '{"a":1.50,"b":[1,2]}'),
        (b'{"big": 123456789012345678901234567890}', '{"big":123456789012345678901234567890}'),
        (b'{"html": "\\u003cb\\u003e \xc3\xa9 \\u00e9"}', '{"html":"<b> é é"}'),
        (b'{"far": 1e400, "t": "\\u003c"}', '{"far":1e400,"t":"<"}'),
    ],
)
def test_arguments_keep_their_value_to_the_last_digit(args: bytes, arguments: str) -> None:
    data = b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":%b}}]}}]}'
    call = decode(data % args, stream=False)[1]
    assert isinstance(call, ToolCall)
    assert call.arguments == arguments


def test_a_thought_signature_travels_with_its_call() -> None:
    part = {"functionCall": {"name": "f"}, "thoughtSignature": "c2ln"}
    call = decode(sse(chunk(part, finish="STOP")))[1]
    assert isinstance(call, ToolCall)
    assert call.signature == "c2ln"


def test_an_image_becomes_a_markdown_data_url() -> None:
    data = base64.b64encode(b"png").decode()
    events = decode(
        sse(chunk({"inlineData": {"mimeType": "image/png", "data": data}}, finish="STOP"))
    )
    assert events[1] == Text(f"![image](data:image/png;base64,{data})")


def test_sound_and_file_references_become_links() -> None:
    events = decode(
        sse(
            chunk(
                {"inlineData": {"mimeType": "audio/wav", "data": "AA=="}},
                {"fileData": {"mimeType": "video/mp4", "fileUri": "https://x/y"}},
                finish="STOP",
            )
        )
    )
    assert events[1:3] == [
        Text("[audio/wav](data:audio/wav;base64,AA==)"),
        Text("[video/mp4](https://x/y)"),
    ]


def test_code_execution_becomes_fenced_code_with_a_fence_that_holds() -> None:
    events = decode(
        sse(
            chunk(
                {"executableCode": {"language": "PYTHON", "code": "print('```')"}},
                {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "```\n"}},
                finish="STOP",
            )
        )
    )
    assert events[1:3] == [
        Text("\n````python\nprint('```')\n````\n"),
        Text("\n````\n```\n````\n"),
    ]


def test_an_unknown_kind_of_part_is_counted_and_does_no_harm() -> None:
    events = decode(sse(chunk({"hologram": {"x": 1}}, {"text": "ok"}, finish="STOP")))
    assert events[1:] == [Unknown("part hologram"), Text("ok"), Finish("stop")]


def test_logprobs_travel_with_their_text() -> None:
    result = {
        "chosenCandidates": [{"token": "é", "tokenId": 7, "logProbability": -0.5}],
        "topCandidates": [
            {
                "candidates": [
                    {"token": "é", "logProbability": -0.5},
                    {"token": "e", "logProbability": -1.5},
                ]
            }
        ],
    }
    answer = chunk({"text": "é"}, finish="STOP")
    answer["candidates"][0]["logprobsResult"] = result
    text = decode(sse(answer))[1]
    likely = [TopLogprob("é", -0.5, [195, 169]), TopLogprob("e", -1.5, [101])]
    assert text == Text("é", 0, [TokenLogprob("é", -0.5, [195, 169], likely)])


def test_logprobs_without_a_text_of_their_own_still_arrive() -> None:
    answer = chunk(finish="STOP")
    answer["candidates"][0]["logprobsResult"] = {"chosenCandidates": [{"token": "a"}]}
    text = decode(sse(chunk({"text": "a"}), answer))[2]
    assert isinstance(text, Text)
    assert text.text == ""
    assert text.logprobs[0].top_logprobs == []


def test_several_candidates_keep_their_numbers_and_endings() -> None:
    call = {"functionCall": {"name": "f"}}
    events = decode(
        sse(
            chunk({"text": "a"}),
            chunk({"text": "b"}, index=1),
            chunk(call, index=1),
            chunk(finish="MAX_TOKENS"),
            chunk(finish="STOP", index=1),
        )
    )
    assert [e for e in events if isinstance(e, Text)] == [Text("a", 0), Text("b", 1)]
    assert [e for e in events if isinstance(e, Finish)] == [
        Finish("length", 0),
        Finish("tool_calls", 1),
    ]


def test_one_candidate_left_unfinished_is_a_cut_answer() -> None:
    with pytest.raises(GatewayError) as caught:
        decode(sse(chunk({"text": "a"}, finish="STOP"), chunk({"text": "b"}, index=1)))
    assert caught.value.code == "upstream_cut"


# Endings


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("BLOCKLIST", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        ("SPII", "content_filter"),
        ("IMAGE_SAFETY", "content_filter"),
        ("IMAGE_PROHIBITED_CONTENT", "content_filter"),
        ("IMAGE_RECITATION", "content_filter"),
        ("IMAGE_OTHER", "content_filter"),
        ("LANGUAGE", "stop"),
        ("OTHER", "stop"),
        ("NO_IMAGE", "stop"),
    ],
)
def test_each_finish_reason_has_its_word(reason: str, word: str) -> None:
    assert decode(sse(chunk({"text": "a"}, finish=reason)))[-1] == Finish(word)


def test_a_finish_reason_from_the_future_ends_with_stop_and_is_counted() -> None:
    events = decode(sse(chunk({"text": "a"}, finish="TOO_NEW")))
    assert events[-2:] == [Unknown("finishReason TOO_NEW"), Finish("stop")]


def test_a_stop_in_every_chunk_ends_once_and_at_the_end() -> None:
    events = decode(sse(chunk({"text": "a"}, finish="STOP"), chunk({"text": "b"}, finish="STOP")))
    assert events == [
        Started("chatcmpl-R", "gemini-2.5-flash"),
        Text("a"),
        Text("b"),
        Finish("stop"),
    ]


@pytest.mark.parametrize(
    "reason", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS"]
)
def test_an_unusable_call_is_an_error_when_nothing_was_told(reason: str) -> None:
    answer = chunk({"text": "thinking", "thought": True}, finish=reason)
    answer["candidates"][0]["finishMessage"] = "Malformed function call: f(("
    with pytest.raises(GatewayError) as caught:
        decode(sse(answer))
    assert (caught.value.status, caught.value.code) == (502, "malformed_function_call")
    assert "f((" in caught.value.message


def test_an_unusable_call_after_text_only_ends_the_answer() -> None:
    events = decode(sse(chunk({"text": "a"}), chunk(finish="MALFORMED_FUNCTION_CALL")))
    assert events[-1] == Finish("stop")


@pytest.mark.parametrize("stream", [True, False])
def test_a_blocked_prompt_is_a_refusal_not_an_error(stream: bool) -> None:
    blocked = {
        "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"},
        "usageMetadata": {"promptTokenCount": 4, "totalTokenCount": 4},
        "modelVersion": "gemini-2.5-flash",
        "responseId": "R",
    }
    data = sse(blocked) if stream else json.dumps(blocked).encode()
    assert decode(data, stream=stream) == [
        Started("chatcmpl-R", "gemini-2.5-flash"),
        Refusal("blocked: PROHIBITED_CONTENT"),
        Finish("content_filter"),
        Usage(4, 0, 4),
    ]


def test_a_prompt_blocked_in_the_middle_of_a_stream_ends_it_filtered() -> None:
    events = decode(sse(chunk({"text": "a"}), {"promptFeedback": {"blockReason": "OTHER"}}))
    assert events[1:] == [Text("a"), Finish("content_filter")]


def test_usage_is_the_last_one_said_and_thoughts_count_as_completion() -> None:
    events = decode(
        sse(
            chunk({"text": "a"}, usageMetadata={"promptTokenCount": 1, "totalTokenCount": 1}),
            chunk(
                finish="STOP",
                usageMetadata={
                    "promptTokenCount": 10,
                    "toolUsePromptTokenCount": 5,
                    "candidatesTokenCount": 7,
                    "thoughtsTokenCount": 20,
                    "cachedContentTokenCount": 3,
                    "totalTokenCount": 42,
                },
            ),
        )
    )
    assert events[-1] == Usage(15, 27, 42, cached_tokens=3, reasoning_tokens=20)


def test_an_answer_without_id_and_model_gets_ours() -> None:
    events = decode(
        sse({"candidates": [{"content": {"parts": [{"text": "a"}]}}]}), sse(chunk(finish="STOP"))
    )
    assert events[0] == Started("chatcmpl-00000000000000000000000100000000", "asked-model")


def test_one_whole_object_without_a_finish_reason_was_not_cut() -> None:
    data = json.dumps(chunk({"text": "a"})).encode()
    assert decode(data, stream=False)[-1] == Finish("stop")


@pytest.mark.parametrize("escape", ["", r',"s":"\u003c\\u003e\ud83d\ude00\u0022"'])
def test_the_numbers_of_a_calls_arguments_keep_their_digits(escape: str) -> None:
    numbers = '{"a":12345678901234567890123,"b":1.10,"c":1e400,"d":-0.0,"e":[1E5]'
    data = sse(chunk({"functionCall": {"name": "f", "args": "HERE"}}, finish="STOP"))
    data = data.replace(b'"HERE"', f"{numbers}{escape}}}".encode())
    (call,) = [event for event in decode(data) if isinstance(event, ToolCall)]
    assert call.arguments.startswith(numbers)
    assert json.loads(call.arguments) == json.loads(numbers + escape + "}")
    assert "\\u003c" not in call.arguments  # what Google escapes is plain again


def test_a_call_that_is_told_twice_is_one_call() -> None:
    once = {"functionCall": {"id": "c1", "name": "f", "args": {"x": 1}}}
    other = {"functionCall": {"id": "c1", "name": "f", "args": {"x": 2}}}
    nameless = {"functionCall": {"name": "f", "args": {"x": 1}}}
    events = decode(sse(chunk(once), chunk(once, other), chunk(nameless, nameless, finish="STOP")))
    calls = [event for event in events if isinstance(event, ToolCall)]
    assert [(call.tool, call.arguments) for call in calls] == [
        (0, '{"x":1}'),
        (1, '{"x":2}'),
        (2, '{"x":1}'),  # without an id nothing says that two calls are one
        (3, '{"x":1}'),
    ]
    assert len({call.id for call in calls}) == 4


def test_arguments_in_a_string_are_told_as_the_object_they_hold() -> None:
    part = {"functionCall": {"name": "f", "args": '{"x": 1.10}'}}
    (call,) = [one for one in decode(sse(chunk(part, finish="STOP"))) if isinstance(one, ToolCall)]
    assert call.arguments == '{"x":1.10}'


@pytest.mark.parametrize("reason", ["MISSING_THOUGHT_SIGNATURE", "MALFORMED_RESPONSE"])
@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_that_came_to_nothing_is_an_error(reason: str, stream: bool) -> None:
    empty = chunk(finish=reason)
    data = sse(empty) if stream else json.dumps(empty).encode()
    with pytest.raises(GatewayError) as caught:
        decode(data, stream=stream)
    assert (caught.value.status, caught.value.code) == (502, reason.lower())


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("reason", ["SAFETY", "IMAGE_SAFETY", "PROHIBITED_CONTENT", "RECITATION"])
def test_what_google_says_of_a_filtered_answer_is_its_refusal(reason: str, stream: bool) -> None:
    answer = chunk(finish=reason)
    answer["candidates"][0]["finishMessage"] = "Unable to show the generated image."
    data = sse(answer) if stream else json.dumps(answer).encode()
    assert decode(data, stream=stream)[1:] == [
        Refusal("Unable to show the generated image."),
        Finish("content_filter"),
    ]


def test_the_reason_of_a_blocked_prompt_is_told_with_its_message() -> None:
    feedback = {"blockReason": "OTHER", "blockReasonMessage": "The prompt is in no language."}
    events = decode(sse({"candidates": [], "promptFeedback": feedback}))
    assert events[1] == Refusal("blocked: OTHER (The prompt is in no language.)")


@pytest.mark.parametrize("stream", [True, False])
def test_an_error_in_words_inside_a_200_is_told_with_them(stream: bool) -> None:
    body = {"error": "quota of the relay is used up"}
    with pytest.raises(GatewayError) as caught:
        decode(sse(body) if stream else json.dumps(body).encode(), stream=stream)
    assert caught.value.status == 502
    assert "quota of the relay is used up" in caught.value.message


# Breaks

OVERLOADED: dict[str, Any] = {
    "error": {
        "code": 503,
        "message": "The model is overloaded. Please try again later.",
        "status": "UNAVAILABLE",
    }
}


@pytest.mark.parametrize(
    "stray",
    [
        json.dumps(OVERLOADED, indent=2).encode(),
        json.dumps(OVERLOADED, indent=2).encode().replace(b"\n", b"\r\n") + b"\r\n",
        json.dumps(OVERLOADED).encode() + b"\n",
        json.dumps([OVERLOADED], indent=2).encode() + b"\n",
        sse(OVERLOADED),
        sse({"error": {**OVERLOADED["error"], "code": "503"}}),
        b"data: [" + json.dumps(OVERLOADED).encode() + b"]\n\n",
    ],
)
def test_an_error_in_mid_stream_is_told_after_the_text_under_every_split(stray: bytes) -> None:
    data = sse(chunk({"text": "Okay"})) + stray
    for at in range(len(data) + 1):
        decoder = make_decoder()
        events: list[Event] = []
        with pytest.raises(GatewayError) as caught:
            for piece in (data[:at], data[at:]):
                events += decoder.feed(piece)
            decoder.finish()
        assert events[1:] == [Text("Okay")], f"split at byte {at}"
        assert (caught.value.status, caught.value.code) == (503, "unavailable")


def test_an_error_element_of_an_array_is_told_after_the_text() -> None:
    decoder = make_decoder()
    events = decoder.feed(json.dumps([chunk({"text": "a"}), OVERLOADED], indent=2).encode())
    assert events[1:] == [Text("a")]
    with pytest.raises(GatewayError) as caught:
        decoder.finish()
    assert caught.value.status == 503


@pytest.mark.parametrize("stream", [True, False])
def test_an_error_with_status_200_is_an_error(stream: bool) -> None:
    for data in (json.dumps(OVERLOADED).encode(), json.dumps([OVERLOADED]).encode()):
        with pytest.raises(GatewayError) as caught:
            decode(data, stream=stream)
        assert caught.value.status == 503


def test_half_an_error_is_a_cut_answer() -> None:
    with pytest.raises(GatewayError) as caught:
        decode(sse(chunk({"text": "a"})) + b'\n{\n  "error": {\n    "code": 503,\n')
    assert caught.value.code == "upstream_cut"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "upstream_cut"),
        (b"  \n", "upstream_cut"),
        (b"data: [DONE]\n\n", "upstream_cut"),
        (b"<html>captive portal</html>", "upstream_bad_response"),
        (b"data: {nonsense}\n\n", "upstream_bad_response"),
        (b"data: 17\n\n", "upstream_bad_response"),
        (b'data: {"candidates": "none"}\n\n', "upstream_bad_response"),
        (
            b'data: {"candidates": [{"content": {"parts": [{"text": "\xff"}]}}]}\n\n',
            "upstream_bad_response",
        ),
        (b"[1, 2]", "upstream_cut"),
        (b'data: {"candidates": [' + b"[" * 5000 + b"\n\n", "upstream_bad_response"),
    ],
)
def test_what_is_no_answer_is_a_502(data: bytes, code: str) -> None:
    with pytest.raises(GatewayError) as caught:
        decode(data)
    assert (caught.value.status, caught.value.code) == (502, code)


@pytest.mark.parametrize(
    "data", [b"{}", b'{"usageMetadata": {}}', b'{"candidates": []}', b"[]", b"{"]
)
def test_a_whole_object_without_an_answer_is_a_502(data: bytes) -> None:
    with pytest.raises(GatewayError) as caught:
        decode(data, stream=False)
    assert (caught.value.status, caught.value.code) == (502, "upstream_bad_response")


def test_an_error_before_the_first_text_leaves_nothing_to_be_sent() -> None:
    # Started waits for something to tell, so that the error can still be a true HTTP status.
    decoder = make_decoder()
    assert decoder.feed(sse({"usageMetadata": {}, "responseId": "R"})) == []
    with pytest.raises(GatewayError):
        decoder.feed(sse(OVERLOADED))
