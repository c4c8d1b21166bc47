"""Coze's open API: requests as Coze wants them, answers under every split, each error code."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.pool.outcomes import Outcome, of_error
from app.wire.errors import GatewayError
from app.wire.events import Event, Finish, Reasoning, Session, Started, Text, Unknown, Usage
from app.wire.provider import Call, Decoder, Key
from app.wire.upstream import UpstreamReply, UpstreamRequest
from providers.coze import api, errors, schema
from tests.calls import asked_of

RECORDED = Path(__file__).parents[2] / "recorded" / "coze"
Make = Callable[..., Call]


def run(decoder: Decoder, pieces: Iterable[bytes]) -> list[Event]:
    events: list[Event] = []
    for piece in pieces:
        events += decoder.feed(piece)
    events += decoder.finish()
    joined: list[Event] = []  # how a text is cut into pieces is not what these tests are about
    for event in events:
        if isinstance(event, Text) and joined and isinstance(joined[-1], Text):
            joined[-1] = Text(joined[-1].text + event.text)
        else:
            joined.append(event)
    return joined


def outcome(call: Call, pieces: Iterable[bytes]) -> list[Event] | tuple[int, str | None]:
    try:
        return run(api.decoder(call), pieces)
    except GatewayError as error:
        return error.status, error.code


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))


def sse(*events: tuple[str, Any], blank: str = "") -> bytes:
    return b"".join(
        f"event:{blank}{name}\ndata:{blank}".encode() + msgspec.json.encode(data) + b"\n\n"
        for name, data in events
    )


CREATED = ("conversation.chat.created", {"id": "c1", "conversation_id": "k1"})
COMPLETED = (
    "conversation.chat.completed",
    {"usage": {"token_count": 5, "output_count": 2, "input_count": 3}},
)


def delta(id: str, content: str, **more: Any) -> tuple[str, Any]:
    message = {"id": id, "type": "answer", "content": content, "chat_id": "c1"} | more
    return ("conversation.message.delta", message)


def completed(id: str, content: str, type: str = "answer") -> tuple[str, Any]:
    return ("conversation.message.completed", {"id": id, "type": type, "content": content})


# -- recordings

EXPECTED: dict[str, list[Event] | tuple[int, str | None]] = {
    "v3-chat-text-stream.sse": [
        Started("chatcmpl-7382159487131697202", "coze-api"),
        Session({"conversation_id": "7381473525342978089"}),
        Text("20星期三。"),
        Usage(614, 19, 633),
        Finish("stop"),
    ],
    "v3-chat-docs-image-stream.sse": [
        Started("chatcmpl-7382158397837344768", "coze-api"),
        Session({"conversation_id": "7381473525342978089"}),
        Text("这是树木。"),
        Usage(2197, 111, 2308),
        Finish("stop"),
    ],
    "v1-workflows-chat-stream.sse": [
        Started("chatcmpl-id_1111", "coze-api"),
        Session({"conversation_id": "conv_111111111"}),
        Text("I'm fine, thank you. How about you?"),
        Usage(21, 11, 32),
        Finish("stop"),
    ],
    "v3-chat-failed.sse": (502, "coze_5000"),
    "v3-chat-error-event.sse": (502, "coze_0"),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_recording_gives_the_same_events_under_every_split(make_call: Make, name: str) -> None:
    data = (RECORDED / name).read_bytes()
    call = make_call()
    expected = EXPECTED[name]
    assert outcome(call, [data]) == expected
    assert outcome(call, [data[i : i + 1] for i in range(len(data))]) == expected
    for cut in range(len(data) + 1):
        assert outcome(call, [data[:cut], data[cut:]]) == expected, cut


@pytest.mark.parametrize("name", EXPECTED)
def test_line_ends_of_other_systems_change_nothing(make_call: Make, name: str) -> None:
    data = (RECORDED / name).read_bytes()
    for line_end in (b"\r\n", b"\r"):
        assert outcome(make_call(), [data.replace(b"\n", line_end)]) == EXPECTED[name]


def test_a_recording_cut_anywhere_before_its_end_is_an_error(make_call: Make) -> None:
    data = (RECORDED / "v3-chat-text-stream.sse").read_bytes()
    end = data.index(b"event:conversation.chat.completed")
    for cut in range(0, end, 7):
        with pytest.raises(GatewayError) as caught:
            run(api.decoder(make_call()), [data[:cut]])
        assert caught.value.status == 502


# -- v3's surprises


def test_completed_text_fills_a_gap_and_is_never_told_twice(make_call: Make) -> None:
    data = sse(CREATED, delta("m", "Hel"), completed("m", "Hello"), COMPLETED, ("done", "[DONE]"))
    assert text_of(run(api.decoder(make_call()), [data])) == "Hello"


def test_an_answer_without_deltas_is_taken_from_its_completion(make_call: Make) -> None:
    data = sse(CREATED, completed("m", "card text"), COMPLETED)
    assert text_of(run(api.decoder(make_call()), [data])) == "card text"


def test_two_answers_are_joined_by_a_blank_line(make_call: Make) -> None:
    data = sse(
        CREATED,
        delta("a", "one"),
        completed("a", "one"),
        delta("b", "two"),
        completed("b", "two"),
        completed("a", "one"),
        COMPLETED,
    )
    assert text_of(run(api.decoder(make_call()), [data])) == "one\n\ntwo"


@pytest.mark.parametrize(
    "type",
    ["verbose", "follow_up", "function_call", "tool_response", "tool_output", "knowledge"],
)
def test_what_is_no_answer_never_reaches_the_text(make_call: Make, type: str) -> None:
    data = sse(CREATED, completed("x", "secret", type), delta("m", "ok"), COMPLETED)
    assert text_of(run(api.decoder(make_call()), [data])) == "ok"


@pytest.mark.parametrize("done", [b'"[DONE]"', b"[DONE]", b'{"debug_url":"x"}', b""])
def test_done_is_known_by_its_name_alone(make_call: Make, done: bytes) -> None:
    data = sse(CREATED, delta("m", "ok")) + b"event:done\ndata:" + done
    assert run(api.decoder(make_call()), [data])[-1] == Finish("stop")


def test_reasoning_is_told_apart_from_the_answer(make_call: Make) -> None:
    data = sse(CREATED, delta("m", "", reasoning_content="hmm"), delta("m", "ok"), COMPLETED)
    events = run(api.decoder(make_call()), [data])
    assert Reasoning("hmm") in events
    assert text_of(events) == "ok"


def test_missing_usage_and_unknown_events_are_no_errors(make_call: Make) -> None:
    data = sse(
        CREATED,
        ("conversation.new.thing", {}),
        delta("m", "ok"),
        ("conversation.chat.completed", {}),
    )
    events = run(api.decoder(make_call()), [data])
    assert Unknown("conversation.new.thing") in events
    assert not any(isinstance(event, Usage) for event in events)
    assert events[-1] == Finish("stop")


def test_the_bare_form_of_a_failed_chat_is_read(make_call: Make) -> None:
    data = sse(("conversation.chat.failed", {"code": 701231, "msg": "error"}))
    assert outcome(make_call(), [data]) == (502, "coze_701231")


def test_a_tool_that_the_caller_should_run_is_refused_in_words(make_call: Make) -> None:
    data = sse(CREATED, ("conversation.chat.requires_action", {"id": "c1"}))
    assert outcome(make_call(), [data]) == (502, "coze_requires_action")


@pytest.mark.parametrize(
    "data", [b"event:conversation.message.delta\ndata:{\n\n", b"<html></html>"]
)
def test_what_is_not_the_protocol_is_a_bad_response(make_call: Make, data: bytes) -> None:
    assert outcome(make_call(), [data]) == (502, "upstream_bad_response")


def test_a_left_chat_can_be_cancelled_until_it_has_ended(make_call: Make) -> None:
    decoder = api.DecoderV3(make_call())
    assert decoder.cancel_request() is None
    decoder.feed(sse(CREATED))
    request = decoder.cancel_request()
    assert request is not None
    assert request.url == "https://api.coze.com/v3/chat/cancel"
    assert msgspec.json.decode(request.body) == {"conversation_id": "k1", "chat_id": "c1"}
    decoder.feed(sse(COMPLETED))
    assert decoder.cancel_request() is None


# -- v2

V2 = {"api_chat": {"version": "v2"}}


def v2(*events: Any) -> bytes:
    return b"".join(b"data:" + msgspec.json.encode(event) + b"\n\n" for event in events)


def v2_message(content: str, index: int = 0, type: str = "answer") -> dict[str, Any]:
    return {
        "event": "message",
        "message": {"role": "assistant", "type": type, "content": content, "content_type": "text"},
        "is_finish": False,
        "index": index,
        "conversation_id": "123",
    }


V2_STREAM = v2(
    v2_message("Hel"),
    v2_message("lo"),
    v2_message('{"msg_type":"generate_answer_finish"}', 1, "verbose"),
    v2_message("Another question?", 2, "follow_up"),
    {"event": "ping"},
    v2_message("Bye", 3),
    {"event": "done"},
)


def test_a_v2_stream_gives_the_same_events_under_every_split(make_call: Make) -> None:
    call = make_call(coze=V2)
    expected = run(api.decoder(call), [V2_STREAM])
    assert [type(event) for event in expected] == [Started, Session, Text, Finish]
    assert text_of(expected) == "Hello\n\nBye"
    assert expected[1] == Session({"conversation_id": "123"})
    for cut in range(len(V2_STREAM) + 1):
        events = run(api.decoder(call), [V2_STREAM[:cut], V2_STREAM[cut:]])
        assert events[1:] == expected[1:], cut


@pytest.mark.parametrize(
    "error",
    [
        {"event": "error", "error_information": {"code": 700007, "msg": "no"}},
        {"event": "error", "error_information": {"err_code": 700007, "err_msg": "no"}},
        {"event": "error", "error_information": {"code": "700007", "msg": "no"}},
        {"event": "error", "error_information": {"code": 700007, "msg": None}},
        {"event": "error", "code": 700007, "msg": "no"},
    ],
)
def test_v2_says_errors_in_several_spellings(make_call: Make, error: Any) -> None:
    assert outcome(make_call(coze=V2), [v2(error)]) == (502, "coze_700007")


def test_a_v2_error_of_another_shape_is_an_error_all_the_same(make_call: Make) -> None:
    odd = {"event": "error", "error_information": {"code": [700007], "msg": "no"}}
    assert outcome(make_call(coze=V2), [v2(odd)]) == (502, "upstream_bad_response")


def test_a_v2_event_without_a_message_is_skipped(make_call: Make) -> None:
    data = v2({"event": "message"}, v2_message("ok"), {"event": "done"})
    assert text_of(run(api.decoder(make_call(coze=V2)), [data])) == "ok"


# -- errors


@pytest.mark.parametrize("version", ["v2", "v3"])
@pytest.mark.parametrize("code", schema.ERRORS)
def test_every_code_is_mapped_alike_in_all_its_forms(
    make_call: Make, code: int, version: str
) -> None:
    meaning = schema.ERRORS[code]
    expected = (meaning.status, meaning.code or f"coze_{code}")
    call = make_call(coze={"api_chat": {"version": version}})
    body = msgspec.json.encode({"code": code, "msg": "why", "detail": {"logid": "L1"}})
    for cut in range(len(body) + 1):  # HTTP 200 with JSON in place of a stream
        assert outcome(call, [body[:cut], body[cut:]]) == expected
    error = errors.read_error(UpstreamReply(400, {}, body))
    assert (error.status, error.code) == expected
    assert "L1" in error.message
    assert "why" in error.message
    event = (
        sse(("error", {"code": code, "msg": "why"}))
        if version == "v3"
        else v2({"event": "error", "error_information": {"code": code, "msg": "why"}})
    )
    assert outcome(call, [event]) == expected


def test_the_log_id_of_the_header_wins_and_is_told() -> None:
    reply = UpstreamReply(200, {"x-tt-logid": "H"}, b'{"code":4100,"msg":"bad"}')
    error = errors.read_error(reply)
    assert (error.status, "logid H" in error.message) == (401, True)


def test_the_spelling_of_the_authentication_endpoints_is_read() -> None:
    body = b'{"error_code":"4100","error_message":"bad token"}'
    error = errors.read_error(UpstreamReply(401, {}, body))
    assert (error.status, error.code, "bad token" in error.message) == (401, "coze_4100", True)


@pytest.mark.parametrize(("status", "told"), [(401, 401), (429, 429), (500, 502), (503, 502)])
def test_an_error_without_a_code_keeps_what_its_status_means(status: int, told: int) -> None:
    assert errors.read_error(UpstreamReply(status, {}, b"<html>")).status == told


def test_an_exhausted_bot_is_not_asked_again_by_sdks() -> None:
    error = errors.coze_error(4008, "")
    assert (error.status, error.headers) == (429, (("x-should-retry", "false"),))


@pytest.mark.parametrize("code", [4008, 4011, 4019, 4022])
def test_what_is_used_up_rests_longer_than_what_came_too_fast(code: int) -> None:
    assert of_error(errors.coze_error(code, "")) is Outcome.SPENT
    assert of_error(errors.coze_error(4020, "")) is Outcome.LIMITED
    assert of_error(errors.read_error(UpstreamReply(402, {}, b""))) is Outcome.SPENT


def test_a_busy_conversation_is_not_a_conflict_that_sdks_repeat() -> None:
    assert errors.coze_error(4016, "").status == 400


# -- requests


def body_of(call: Call) -> Any:
    return msgspec.json.decode(api.request(call).body)


def test_a_v3_request_says_who_what_and_where(make_call: Make) -> None:
    call = make_call({"temperature": 0.5}, coze={"api_url": "https://api.coze.cn/"})
    request = api.request(call)
    assert (request.method, request.url) == ("POST", "https://api.coze.cn/v3/chat")
    assert ("authorization", "Bearer pat_secret") in request.headers
    assert body_of(call) == {
        "bot_id": "7379",
        "user_id": "u1",
        "additional_messages": [
            {"role": "user", "type": "question", "content": "Hi", "content_type": "text"}
        ],
        "stream": True,
        "auto_save_history": True,
    }
    assert call.dropped == ["temperature"]


HISTORY = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "One?"},
    {"role": "assistant", "content": "1"},
    {"role": "user", "content": "Two?"},
]


def test_history_travels_as_additional_messages_and_system_with_the_first_question(
    make_call: Make,
) -> None:
    messages = body_of(make_call({"messages": HISTORY}))["additional_messages"]
    assert [(m["role"], m["type"], m["content"]) for m in messages] == [
        ("user", "question", "Be brief.\n\nOne?"),
        ("assistant", "answer", "1"),
        ("user", "question", "Two?"),
    ]


def test_a_continued_conversation_gets_only_the_new_question(make_call: Make) -> None:
    call = make_call(
        {"messages": HISTORY, "coze": {"conversation": {"conversation_id": 7381473525342978089}}}
    )
    request = api.request(call)
    assert request.url.endswith("/v3/chat?conversation_id=7381473525342978089")
    assert [m["content"] for m in body_of(call)["additional_messages"]] == ["Two?"]


def test_a_conversation_id_is_quoted_in_the_address(make_call: Make) -> None:
    call = make_call({"coze": {"conversation": {"conversation_id": "a&b=c/d"}}})
    assert api.request(call).url.endswith("?conversation_id=a%26b%3Dc%2Fd")


def test_a_picture_address_becomes_an_object_string(make_call: Make) -> None:
    content = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
    ]
    (message,) = body_of(make_call({"messages": [{"role": "user", "content": content}]}))[
        "additional_messages"
    ]
    assert message["content_type"] == "object_string"
    assert msgspec.json.decode(message["content"]) == [
        {"type": "text", "text": "What is it?"},
        {"type": "image", "file_url": "https://x/y.png"},
    ]


class FakeUpstream:
    """Answers each request with the next reply."""

    def __init__(self, *replies: UpstreamReply) -> None:
        self.replies, self.sent = list(replies), list[UpstreamRequest]()

    async def send(self, request: UpstreamRequest) -> UpstreamReply:
        self.sent.append(request)
        return self.replies.pop(0)

    async def offload(self, function: Any, *args: Any) -> Any:
        return function(*args)


def drive(coroutine: Any) -> Any:
    """Runs a coroutine that never really waits."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waited")


DATA_PICTURE = [
    {"type": "text", "text": "What?"},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
    {"type": "file", "file": {"file_data": "data:text/plain;base64,aGk=", "filename": 'a"b.txt'}},
    {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
]


def test_data_is_uploaded_first_and_named_by_its_file_id(make_call: Make) -> None:
    call = make_call({"messages": [{"role": "user", "content": DATA_PICTURE}]})
    upstream = FakeUpstream(
        *(UpstreamReply(200, {}, b'{"code":0,"data":{"id":"f%d"}}' % i) for i in (1, 2, 3))
    )
    call = drive(api.prepare(call, upstream))
    first = upstream.sent[0]
    assert first.url == "https://api.coze.com/v1/files/upload"
    assert isinstance(first.body, bytes)
    boundary = dict(first.headers)["content-type"].partition("boundary=")[2]
    assert first.body.startswith(f"--{boundary}\r\n".encode())
    assert first.body.endswith(b"\r\n\r\n\x89PNG\r\n" + f"--{boundary}--\r\n".encode())
    assert b'filename="a_b.txt"' in bytes(upstream.sent[1].body)  # type: ignore[arg-type]
    (message,) = body_of(call)["additional_messages"]
    assert msgspec.json.decode(message["content"]) == [
        {"type": "text", "text": "What?"},
        {"type": "image", "file_id": "f1"},
        {"type": "file", "file_id": "f2"},
        {"type": "audio", "file_id": "f3"},
    ]


def test_pictures_of_turns_that_are_not_sent_are_not_uploaded(make_call: Make) -> None:
    call = make_call(
        {
            "messages": [
                {"role": "user", "content": DATA_PICTURE},
                {"role": "assistant", "content": "A dot."},
                {"role": "user", "content": "Sure?"},
            ],
            "coze": {"conversation": {"conversation_id": "1"}},
        }
    )
    assert drive(api.prepare(call, FakeUpstream())) is call


def test_a_refused_upload_is_told_with_its_code(make_call: Make) -> None:
    call = make_call({"messages": [{"role": "user", "content": DATA_PICTURE}]})
    upstream = FakeUpstream(UpstreamReply(200, {}, b'{"code":4302,"msg":"too big"}'))
    with pytest.raises(GatewayError) as caught:
        drive(api.prepare(call, upstream))
    assert (caught.value.status, caught.value.code) == (400, "coze_4302")


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([{"role": "assistant", "content": "x"}], "messages"),
        ([{"role": "user", "content": ""}], "messages[0].content"),
        ([{"role": "tool", "content": "x"}, {"role": "user", "content": "y"}], "messages[0].role"),
        ([{"role": "user", "content": "x"}] * 101, "messages"),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "ftp://x"}}]}],
            "messages[0].content[0]",
        ),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": "https://x/y"}]}],
            "messages",
        ),
        ([{"role": "user", "content": [{"type": "video"}]}], "messages[0].content[0].type"),
    ],
)
def test_what_coze_cannot_be_asked_is_a_400_that_names_the_place(
    make_call: Make, messages: Any, param: str
) -> None:
    with pytest.raises(GatewayError) as caught:
        api.request(make_call({"messages": messages}))
    assert (caught.value.status, caught.value.param) == (400, param)


def test_a_file_is_uploaded_as_what_it_is(make_call: Make) -> None:
    content = [
        {"type": "image_url", "image_url": "data:application/octet-stream;base64,iVBORw0KGgo="},
        {"type": "file", "file": {"file_data": "data:x;base64,JVBERi0=", "filename": "a.txt"}},
        {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "audio/x-wav"}},
        {"type": "file", "file": {"file_data": "data:x;base64,aGk="}},
    ]
    upstream = FakeUpstream(*[UpstreamReply(200, {}, b'{"code":0,"data":{"id":"f"}}')] * 4)
    drive(api.prepare(make_call({"messages": [{"role": "user", "content": content}]}), upstream))
    told = [bytes(request.body).partition(b"\r\n\r\n")[0] for request in upstream.sent]  # type: ignore[arg-type]
    assert [re.findall(rb'filename="(.*)"\r\nContent-Type: (.*)', head)[0] for head in told] == [
        (b"image.png", b"image/png"),
        (b"a.txt", b"application/pdf"),
        (b"audio.wav", b"audio/wav"),
        (b"file", b"application/octet-stream"),
    ]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": "data:image/png;base64,"},
        {"type": "file", "file": {"file_data": "data:;base64,", "filename": "a.pdf"}},
        {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
    ],
)
def test_an_empty_part_is_a_400_that_names_it(make_call: Make, part: Any) -> None:
    content = [{"type": "text", "text": "?"}, part]
    call = make_call({"messages": [{"role": "user", "content": content}]})
    with pytest.raises(GatewayError) as caught:
        drive(api.prepare(call, FakeUpstream()))
    assert (caught.value.status, caught.value.param) == (400, "messages[0].content[1]")
    assert "empty" in caught.value.message


@pytest.mark.parametrize(
    "url",
    ["data:image/png;base64,%%%", "data:image/png;base64,é", "data:image/png,abc", "data:,"],
)
def test_broken_data_is_a_400_that_names_the_part(make_call: Make, url: str) -> None:
    content = [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {"url": url}}]
    with pytest.raises(GatewayError) as caught:
        drive(
            api.prepare(
                make_call({"messages": [{"role": "user", "content": content}]}), FakeUpstream()
            )
        )
    assert (caught.value.status, caught.value.param) == (400, "messages[0].content[1]")


def test_a_v2_request_separates_question_and_history(make_call: Make) -> None:
    call = make_call({"messages": HISTORY}, coze=V2)
    request = api.request(call)
    assert request.url == "https://api.coze.com/open_api/v2/chat"
    assert body_of(make_call({"messages": HISTORY}, coze=V2)) == {
        "bot_id": "7379",
        "user": "u1",
        "query": "Two?",
        "conversation_id": f"{1:032x}",
        "chat_history": [
            {
                "role": "user",
                "content": "Be brief.\n\nOne?",
                "type": "query",
                "content_type": "text",
            },
            {"role": "assistant", "content": "1", "type": "answer", "content_type": "text"},
        ],
        "stream": True,
    }


def test_the_proxy_of_coze_wins_over_the_global_one(make_call: Make) -> None:
    assert api.request(make_call()).proxy is None
    assert api.request(make_call(coze={"proxy_url": "http://p:1"})).proxy == "http://p:1"


# -- which bot, which token


KEYS = [
    Key(api.POOL, "u1/b1", "t1", {"bot_id": "b1", "user": "u1"}),
    Key(api.POOL, "u2/b1", "t2", {"bot_id": "b1", "user": "u2"}),
    Key(api.POOL, "u2/b2", "", {"bot_id": "b2", "user": "u2"}),
]


def chosen(
    own: str, headers: dict[str, str], conversation: dict[str, str]
) -> list[tuple[str, ...]]:
    body = msgspec.json.encode({"coze": {"conversation": conversation}})
    return [
        (key.id, key.val, key.fields["bot_id"], key.fields["user"])
        for key in api.candidates(KEYS, own, headers, asked_of(body))
    ]


@pytest.mark.parametrize(
    ("own", "headers", "conversation", "expected"),
    [
        ("", {}, {}, [("u1/b1", "t1", "b1", "u1"), ("u2/b1", "t2", "b1", "u2")]),
        ("", {"x-bot-id": "b1"}, {}, [("u1/b1", "t1", "b1", "u1"), ("u2/b1", "t2", "b1", "u2")]),
        ("", {"x-auth-id": "u1"}, {}, [("u1/b1", "t1", "b1", "u1")]),
        ("", {}, {"user": "u2", "bot_id": "b1"}, [("u2/b1", "t2", "b1", "u2")]),
        ("", {"x-auth-id": "u1"}, {"user": "u2", "bot_id": "b1"}, [("u1/b1", "t1", "b1", "u1")]),
        ("mine", {"x-auth-id": "z", "x-bot-id": "y"}, {}, [("", "mine", "y", "z")]),
        ("mine", {"x-auth-id": "z"}, {"bot_id": "y"}, [("", "mine", "y", "z")]),
        ("mine", {"x-bot-id": "b2"}, {}, [("", "mine", "b2", "u2")]),
        ("mine", {"x-auth-id": "u1"}, {}, [("", "mine", "b1", "u1")]),
    ],
)
def test_bot_user_and_token_are_chosen_field_by_field(
    own: str, headers: dict[str, str], conversation: dict[str, str], expected: Any
) -> None:
    assert chosen(own, headers, conversation) == expected


@pytest.mark.parametrize(
    ("own", "headers", "status"),
    [
        ("", {"x-bot-id": "nope"}, 400),
        ("mine", {"x-bot-id": "nope"}, 400),
        ("", {"x-auth-id": "u1", "x-bot-id": "b2"}, 400),
        ("", {"x-bot-id": "b2"}, 401),
    ],
)
def test_a_bot_that_cannot_be_asked_is_refused_in_words(
    own: str, headers: dict[str, str], status: int
) -> None:
    with pytest.raises(GatewayError) as caught:
        chosen(own, headers, {})
    assert caught.value.status == status


def test_without_any_bot_the_caller_is_told_what_to_send() -> None:
    with pytest.raises(GatewayError) as caught:
        api.candidates([], "", {}, asked_of(b"{}"))
    assert caught.value.status == 401
    assert "x-bot-id" in caught.value.message


def test_the_session_names_bot_and_user(make_call: Make) -> None:
    assert api.session(make_call()) == {
        "coze": {"type": "api", "bot_id": "7379", "conversation_id": "", "user": "u1"}
    }


# -- fuzz: Coze's two spellings of server-sent events


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20), max_size=8
    ),
    st.sampled_from(["", " "]),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.lists(st.integers(1, 40), min_size=1, max_size=8),
)
def test_any_text_survives_any_spelling_and_any_split(
    make_call: Make, texts: list[str], blank: str, line_end: bytes, sizes: list[int]
) -> None:
    data = sse(CREATED, *(delta("m", text) for text in texts), COMPLETED, blank=blank)
    data = data.replace(b"\n", line_end)
    pieces, at, turn = [], 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        pieces.append(data[at : at + size])
        at, turn = at + size, turn + 1
    assert text_of(run(api.decoder(make_call()), pieces)) == "".join(texts)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.binary(max_size=60), max_size=6))
def test_any_bytes_give_events_or_a_gateway_error(make_call: Make, pieces: list[bytes]) -> None:
    for version in ("v2", "v3"):
        outcome(make_call(coze={"api_chat": {"version": version}}), pieces)
