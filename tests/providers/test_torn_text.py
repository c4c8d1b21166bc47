"""Upstreams that cut their texts in the middle of a character, and answers of any size."""

from typing import Any

import msgspec
import pytest

from app.config.schema import Config, Limits
from app.fronts.openai_chat.passthrough import Passthrough
from app.wire.errors import GatewayError
from app.wire.events import Event, Text, ToolArguments
from app.wire.framing import JsonArrayParser, RecordParser, SSEParser
from providers.claude.web_decode import WebDecoder as ClaudeWeb
from providers.claude.web_schema import Conversation
from tests.calls import answering
from tests.providers.claude.test_web_decode import C1 as CLAUDE_C1
from tests.providers.openai.test_web_decode import RECORDING
from tests.providers.openai.test_web_decode import decoder as chatgpt_web
from tests.providers.test_expected_answers import call_for

FACE = "\U0001f600"
HIGH, LOW = r"\ud83d", r"\ude00"


def told(decoder: Any, *pieces: bytes) -> list[Event]:
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return [*events, *decoder.finish()]


def text(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))


def made_for(family: str, *, stream: bool = True) -> Any:
    provider, call = call_for(family, stream)
    assert provider.decoder is not None
    return provider.decoder(call)


def messages(*texts: str, delta: str = '"type":"text_delta","text"') -> bytes:
    blocks = "".join(
        'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
        f'"delta":{{{delta}:"{one}"}}}}\n\n'
        for one in texts
    )
    return (
        'event: message_start\ndata: {"type":"message_start","message":{"id":"m","usage":{}}}\n\n'
        f"{blocks}"
        "event: message_delta\n"
        'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"}}\n\n'
        'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    ).encode()


def candidates(*texts: str) -> list[str]:
    parts = [f'{{"candidates":[{{"content":{{"parts":[{{"text":"{one}"}}]}}}}]}}' for one in texts]
    return [*parts, '{"candidates":[{"finishReason":"STOP"}]}']


def events(*texts: str) -> bytes:
    return "".join(f"data: {one}\r\n\r\n" for one in candidates(*texts)).encode()


def array(*texts: str) -> bytes:
    return f"[{','.join(candidates(*texts))}]".encode()


@pytest.mark.parametrize(
    ("given", "right"),
    [
        (("a", HIGH, LOW + "b"), f"a{FACE}b"),
        (("a" + HIGH, "b"), "a\ufffdb"),
        (("a", LOW + "b"), "a\ufffdb"),
        (("a" + HIGH,), "a\ufffd"),
    ],
)
@pytest.mark.parametrize(
    ("family", "wire"), [("claude", messages), ("gemini", events), ("gemini", array)]
)
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_halves_of_a_character_are_joined_and_end_no_stream(family, wire, given, right, size):
    stream = wire(*given)
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    assert text(told(made_for(family), *pieces)) == right


@pytest.mark.parametrize(
    ("family", "body"),
    [
        ("claude", rb'{"type":"message","content":[{"type":"text","text":"a\ud83d"}]}'),
        (
            "gemini",
            rb'{"candidates":[{"content":{"parts":[{"text":"a\ud83d"}]},"finishReason":"STOP"}]}',
        ),
    ],
)
def test_a_whole_answer_with_half_a_character(family, body):
    assert text(told(made_for(family, stream=False), body)) == "a\ufffd"


def test_the_web_streams_are_joined_too():
    old = b'{"v": "'
    at = RECORDING.index(b"data: " + old)
    torn = b'data: {"v": "\\ud83d"}\n\ndata: {"v": "\\ude00"}\n\n'
    with_face = RECORDING[:at] + torn + RECORDING[at:]
    assert text(told(chatgpt_web(), with_face)).count(FACE) == 1
    claude = ClaudeWeb(Conversation(CLAUDE_C1, name="n"), "asked", 1_755_800_000)
    assert FACE in text(told(claude, messages("a", HIGH, LOW)))


def test_arguments_that_hold_escapes_as_text_are_left_alone():
    delta = '"type":"input_json_delta","partial_json"'
    start = (
        b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
        b'"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}\n\n'
    )
    stream = messages(r"{\"a\":\"\\ud83d", r"\\ude00\"}", delta=delta)
    at = stream.index(b"event: content_block_delta")
    said = told(made_for("claude"), stream[:at] + start + stream[at:])
    arguments = "".join(one.arguments for one in said if isinstance(one, ToolArguments))
    assert msgspec.json.decode(arguments) == {"a": FACE}


LARGE = 17 * 1024 * 1024  # more than any event was allowed once


def in_pieces(feed: Any, data: bytes) -> list[Any]:
    out: list[Any] = []
    for at in range(0, len(data), 1 << 18):
        out += feed(data[at : at + (1 << 18)])
    return out


@pytest.mark.parametrize(
    ("parser", "head", "end"),
    [
        (SSEParser, b'data: {"a":"', b'"}\r\n\r\n'),
        (JsonArrayParser, b'[{"a":"', b'"}]'),
        (RecordParser, b'{"a":"', b'"}\x1e'),
    ],
)
def test_a_large_picture_is_one_event_in_any_framing(parser, head, end):
    data = head + b"A" * LARGE + end
    (record,) = in_pieces(parser().feed, data)
    assert len(record if isinstance(record, bytes) else record[1]) == LARGE + 8
    with pytest.raises(GatewayError):
        in_pieces(parser(max_bytes=LARGE // 8).feed, data)


def test_an_event_of_openais_wire_may_be_as_large():
    data = b'data: {"a":"' + b"A" * LARGE + b'"}\n\n'
    passing = Passthrough(answering(max_bytes=2 * LARGE))
    passing.labelled("text/event-stream")
    assert b"".join(in_pieces(lambda piece: [passing.feed(piece)], data)) == data


@pytest.mark.parametrize("family", ["claude", "gemini"])
def test_the_limit_of_an_event_is_that_of_a_whole_answer(family):
    provider, call = call_for(family, True)
    call.config = Config(limits=Limits(response_bytes=70_000))
    make = provider.decoder
    assert make is not None
    stream = messages("x" * 60_000) if family == "claude" else events("x" * 60_000)
    assert len(text(told(make(call), *[stream[i : i + 999] for i in range(0, len(stream), 999)])))
    stream = messages("x" * 90_000) if family == "claude" else events("x" * 90_000)
    with pytest.raises(GatewayError):
        told(make(call), *[stream[at : at + 999] for at in range(0, len(stream), 999)])
