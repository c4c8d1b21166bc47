"""Bing chat: conversation, picture, the hub's frames under every split, and all its refusals."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.config.schema import Config
from app.wire.errors import GatewayError
from app.wire.events import End, Event, Finish, Reply, Session, Started, Text, Unknown
from app.wire.framing import RecordParser
from app.wire.provider import Call
from app.wire.snapshot import Snapshot
from app.wire.upstream import UpstreamReply, UpstreamRequest
from providers.bing import conversations, schema, web
from providers.bing.question import question
from tests.calls import asked_of, read_by

RECORDED = Path(__file__).parents[2] / "recorded" / "bing"
Make = Callable[..., Call]
OK = b"{}\x1e"


def rs(*frames: Any) -> bytes:
    return b"".join(msgspec.json.encode(frame) + b"\x1e" for frame in frames)


def update(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    argument = ({"messages": list(messages)} if messages else {}) | more
    return {"type": 1, "target": "update", "arguments": [argument]}


def bot(text: str | None, id: str = "m1", **more: Any) -> dict[str, Any]:
    said = {} if text is None else {"text": text}
    return {"author": "bot", "messageId": id, "contentOrigin": "DeepLeo"} | said | more


def final(*messages: dict[str, Any], value: str = "Success", **more: Any) -> dict[str, Any]:
    item: dict[str, Any] = {
        "messages": list(messages),
        "firstNewMessageIndex": 0,
        "result": {"value": value, "message": "Hi"},
    }
    return {"type": 2, "invocationId": "0", "item": item | more}


def run(call: Call, pieces: Iterable[bytes]) -> list[Event]:
    decoder = web.HubDecoder(call)
    events: list[Event] = []
    for piece in pieces:
        events += decoder.feed(piece)
    events += decoder.finish()
    return events


def outcome(call: Call, pieces: Iterable[bytes]) -> Any:
    """Events without the questions asked (their ids count up), texts joined; or the error."""
    try:
        events = run(call, pieces)
    except GatewayError as error:
        return error.status, error.code
    joined: list[Event] = []
    for event in events:
        if isinstance(event, Text) and joined and isinstance(joined[-1], Text):
            joined[-1] = Text(joined[-1].text + event.text)
        elif not isinstance(event, Reply):
            joined.append(event)
    return joined


def text_of(events: Any) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))


def reason_of(events: Any) -> str:
    (reason,) = [event.reason for event in events if isinstance(event, Finish)]
    return str(reason)


# -- recordings and the example frames, under every split


def recorded_frame(name: str) -> bytes:
    return rs(msgspec.json.decode((RECORDED / name).read_bytes()))


def recorded_answer(name: str) -> tuple[str, list[dict[str, Any]]]:
    frame = msgspec.json.decode((RECORDED / name).read_bytes())
    (answer,) = [
        message
        for message in frame["item"]["messages"]
        if message["author"] == "bot" and "messageType" not in message
    ]
    return answer["text"], answer["sourceAttributions"]


THROTTLING = {"throttling": {"maxNumUserMessagesInConversation": 30}}

# The shapes that the protocol's descriptions give; ids shortened.
EXAMPLES: dict[str, tuple[bytes, Any]] = {
    "search answer": (
        OK
        + rs(
            {"type": 6},
            update(throttling={"maxNumUserMessagesInConversation": 30}, requestId="6d94"),
            update(
                bot(
                    "Searching the web for: `Cake recipe`",
                    "2c22",
                    hiddenText="Cake recipe",
                    messageType="InternalSearchQuery",
                    adaptiveCards=[{"type": "AdaptiveCard", "body": [{"type": "RichTextBlock"}]}],
                )
            ),
            update(bot('{"results":[]}', "a1b7", messageType="InternalSearchResult")),
            update(
                bot("Certainly", "e1", offense="Unknown", sourceAttributions=[]),
                cursor={"j": "$['e1..'].adaptiveCards[0].body[0].text", "p": -1},
            ),
            update(bot("Certainly! Here are", "e1")),
            final(
                {"author": "user", "text": "Cake recipe"},
                bot("Certainly! Here are two.", "e1"),
                bot("Cake recipe", "e7", messageType="RenderCardRequest"),
                throttling={
                    "maxNumUserMessagesInConversation": 30,
                    "numUserMessagesInConversation": 1,
                },
            ),
            {"type": 3, "invocationId": "0"},
        ),
        [
            Started("", "gpt-4"),
            Text("Certainly! Here are two."),
            Session({"throttling": {"used": 1, "max": 30}}),
            Finish("stop"),
            End(),
        ],
    ),
    "drawing order": (
        OK
        + rs(
            update(
                bot(
                    "food & wine",
                    "0683",
                    contentType="IMAGE",
                    messageType="GenerateContentQuery",
                    invocation='graphic_art(prompt="food")',
                )
            ),
            final(
                bot("food & wine", "0683", contentType="IMAGE", messageType="GenerateContentQuery"),
                bot("I'll try to create that.", "ebe1"),
            ),
        ),
        [
            Started("", "gpt-4"),
            Text("https://www.bing.com/images/create?q=food+%26+wine\n\nI'll try to create that."),
            Finish("stop"),
            End(),
        ],
    ),
    "disengaged": (
        OK
        + rs(
            update(bot("Well", "w1")),
            update(
                bot(
                    None,
                    "c5ff",
                    hiddenText="> Conversation disengaged",
                    messageType="Disengaged",
                    invocation="withdraw()",
                )
            ),
        ),
        [Started("", "gpt-4"), Text("Well"), Finish("content_filter"), End()],
    ),
    "disengaged at once": (
        OK + rs(update(bot(None, "c5ff", messageType="Disengaged"))),
        [Started("", "gpt-4"), Finish("content_filter"), End()],
    ),
    "apology": (
        OK
        + rs(
            update(bot("I will now", "w1")),
            update(bot(None, "w1", contentOrigin="Apology", hiddenText="Sorry!")),
        ),
        [Started("", "gpt-4"), Text("I will now"), Finish("content_filter"), End()],
    ),
    "apology at once": (
        OK + rs(update(bot(None, "w1", contentOrigin="Apology", spokenText="Sorry!"))),
        [Started("", "gpt-4"), Text("Sorry!"), Finish("content_filter"), End()],
    ),
    "throttled": (
        OK
        + rs(
            {
                "type": 2,
                "invocationId": "0",
                "item": {
                    "firstNewMessageIndex": None,
                    "conversationId": "51D|BingProd|..",
                    "telemetry": {"metrics": None},
                    "result": {
                        "value": "Throttled",
                        "message": "Request is throttled.",
                        "error": "Request is throttled.",
                    },
                },
            }
        ),
        (429, "rate_limit_exceeded"),
    ),
    "captcha": (
        OK
        + rs(
            {
                "type": 2,
                "item": {
                    "firstNewMessageIndex": None,
                    "result": {
                        "value": "CaptchaChallenge",
                        "message": "User needs to solve CAPTCHA to continue.",
                        "error": "User needs to solve CAPTCHA to continue.",
                    },
                },
            }
        ),
        (403, "captcha_required"),
    ),
    "expired": (
        OK + rs({"type": 2, "item": {"result": {"value": "InvalidSession", "error": "expired"}}}),
        (400, "conversation_expired"),
    ),
    "unauthorized": (
        OK + rs({"type": 2, "item": {"result": {"value": "UnauthorizedRequest", "error": "x"}}}),
        (502, "upstream_unauthorized"),
    ),
    "unknown refusal": (
        OK + rs({"type": 2, "item": {"result": {"value": "Novel", "error": "x"}}}),
        (502, "upstream_error"),
    ),
    "turns used up": (
        OK
        + rs(
            final(
                throttling={
                    "maxNumUserMessagesInConversation": 5,
                    "numUserMessagesInConversation": 5,
                }
            )
        ),
        (400, "conversation_limit"),
    ),
    "no answer": (OK + rs(final()), (502, "upstream_bad_response")),
    "refused handshake": (
        rs({"error": "Requested protocol 'json' is not available."}),
        (502, "upstream_error"),
    ),
    "closed": (
        OK + rs({"type": 7, "error": "Connection closed with an error.", "allowReconnect": True}),
        (502, "upstream_error"),
    ),
    "completion error": (
        OK + rs({"type": 3, "invocationId": "0", "error": "boom"}),
        (502, "upstream_error"),
    ),
    "completion without a final item": (
        OK + rs(update(bot("Cert")), {"type": 3, "invocationId": "0"}, {"type": 6}),
        (502, "upstream_error"),
    ),
    "cut": (OK + rs(update(bot("Cert"))), (502, "upstream_cut")),
    "no JSON": (OK + b"<html>\x1e", (502, "upstream_bad_response")),
    "odd order of members and empty records": (
        b'{}\x1e\x1e{"arguments":[{"messages":[{"messageId":"a","author":"bot","text":"Hi"}]}],'
        b'"target":"update","type":1}\x1e' + rs(final(bot("Hi", "a"))),
        [Started("", "gpt-4"), Text("Hi"), Finish("stop"), End()],
    ),
    "sibling hub": (
        (RECORDED / "m365-chathub-frames.rs-delimited.txt").read_bytes(),
        [
            Started("", "gpt-4"),
            Text(
                "Apple. \n\nWould you like me to list more fruits or give you some interesting "
                "facts about apples?"
            ),
            Finish("stop"),
            End(),
        ],
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_gives_the_same_events_under_every_split(make_call: Make, name: str) -> None:
    data, expected = EXAMPLES[name]
    call = make_call()
    assert outcome(call, [data]) == expected
    assert outcome(call, [data[i : i + 1] for i in range(len(data))]) == expected
    for cut in range(len(data) + 1):
        assert outcome(call, [data[:cut], data[cut:]]) == expected, cut


def test_the_recorded_search_answer_is_its_plain_text_and_its_sources(make_call: Make) -> None:
    name = "chat-type2-search-answer.json"
    answer, sources = recorded_answer(name)
    events = outcome(make_call(), [OK, recorded_frame(name)])
    text = text_of(events)
    assert text.startswith(answer + "\n\n[^1^]: [The Perfect Chocolate Cake](https://iambaker.net")
    assert text.count("\n[^") == len(sources)
    assert "recipe_search_results" not in text
    assert "Searching the web" not in text
    assert "Generating answers" not in text
    assert Session({"throttling": {"used": 1, "max": 30}}) in events
    assert reason_of(events) == "stop"


def test_the_recorded_drawing_order_becomes_a_link(make_call: Make) -> None:
    events = outcome(make_call(), [OK, recorded_frame("chat-type2-image-generation.json")])
    assert text_of(events) == (
        "https://www.bing.com/images/create?q=food\n\nI'll try to create that."
    )


@pytest.mark.parametrize(
    "name", ["chat-type2-search-answer.json", "chat-type2-image-generation.json"]
)
def test_a_recorded_final_frame_survives_every_split(make_call: Make, name: str) -> None:
    data = OK + recorded_frame(name) + rs({"type": 3, "invocationId": "3"})
    call = make_call()
    expected = outcome(call, [data])
    assert outcome(call, [data[i : i + 1] for i in range(len(data))]) == expected
    for cut in range(len(data) + 1):
        assert outcome(call, [data[:cut], data[cut:]]) == expected, cut


# -- snapshots


def test_answers_of_two_messages_are_set_apart(make_call: Make) -> None:
    frames = rs(
        update(bot("One", "a")), update(bot("Two", "b")), final(bot("One", "a"), bot("Two!", "b"))
    )
    assert text_of(outcome(make_call(), [OK, frames])) == "One\n\nTwo!"


def test_an_edited_snapshot_is_not_told_twice(make_call: Make) -> None:
    frames = rs(
        update(bot("Hello wrld")),
        update(bot("Hello world")),
        final(bot("Hello world, fine")),
    )
    assert text_of(outcome(make_call(), [OK, frames])) == "Hello wrldorld, fine"


def test_text_that_is_taken_back_ends_the_answer_as_filtered(make_call: Make) -> None:
    events = outcome(make_call(), [OK, rs(update(bot("Too much said")), final(bot("Too much")))])
    assert (text_of(events), reason_of(events)) == ("Too much said", "content_filter")


def test_earlier_turns_in_the_final_item_are_not_told_again(make_call: Make) -> None:
    frames = rs(final(bot("old", "o"), bot("new", "n"), firstNewMessageIndex=1))
    assert text_of(outcome(make_call(), [OK, frames])) == "new"


def test_an_error_after_some_text_is_no_quiet_end(make_call: Make) -> None:
    frames = rs(
        update(bot("Some")),
        {"type": 2, "item": {"result": {"value": "Throttled", "error": "Request is throttled."}}},
    )
    assert outcome(make_call(), [OK, frames]) == (429, "rate_limit_exceeded")


def test_snapshot_tells_only_what_is_new() -> None:
    snapshot = Snapshot()
    assert [snapshot.delta(text) for text in ("a", "ab", "ab", "ax", "abc")] == [
        "a",
        "b",
        "",
        "",
        "c",
    ]
    assert (snapshot.last("abd!"), snapshot.text) == ("d!", "abd!")
    assert snapshot.last("ab") == ""


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=12), max_size=6), st.text(max_size=12))
def test_growing_snapshots_add_up_to_the_final_text(pieces: list[str], tail: str) -> None:
    snapshot, told, whole = Snapshot(), "", ""
    for piece in pieces:
        whole += piece
        told += snapshot.delta(whole)
    told += snapshot.last(whole + tail)
    assert told == whole + tail


# -- talking back


def replies(events: Iterable[Event]) -> list[str]:
    return [str(event.data) for event in events if isinstance(event, Reply)]


def test_the_question_follows_the_handshake_and_pings_are_answered(make_call: Make) -> None:
    decoder = web.HubDecoder(make_call())
    (first,) = replies(decoder.feed(OK))
    assert first.startswith('{"type":6}\x1e{"')
    assert first.endswith("\x1e")
    assert replies(decoder.feed(rs({"type": 6}))) == ['{"type":6}\x1e']


def test_a_long_answer_is_accompanied_by_pings_of_our_own(make_call: Make) -> None:
    decoder = web.HubDecoder(make_call())
    decoder.feed(OK)
    frames = rs(*(update(bot("x" * (i + 1))) for i in range(100)))
    assert replies(decoder.feed(frames)) == ['{"type":6}\x1e'] * 2


def test_unknown_record_types_are_counted_and_known_idle_ones_ignored(make_call: Make) -> None:
    decoder = web.HubDecoder(make_call())
    decoder.feed(OK)
    assert decoder.feed(rs({"type": 99}, {"type": 8, "sequenceId": 1})) == [Unknown("type 99")]


def asked(call: Call) -> dict[str, Any]:
    record = question(call)
    assert record.endswith("\x1e")
    frame = msgspec.json.decode(record[:-1])
    assert (frame["type"], frame["target"]) == (4, "chat")
    (argument,) = frame["arguments"]
    assert isinstance(argument, dict)
    return argument


def test_a_question_names_its_conversation_and_itself(make_call: Make) -> None:
    argument = asked(make_call())
    assert argument["conversationId"] == "51D|BingProd|00"
    assert argument["participant"] == {"id": "c1"}
    assert argument["traceId"] == "t1"
    assert argument["isStartOfSession"] is True
    message = argument["message"]
    assert message["text"] == "Hi"
    assert message["requestId"] == message["messageId"] == argument["requestId"]
    assert message["timestamp"] == "2023-11-14T22:13:20+00:00"
    assert "imageUrl" not in message
    assert "Disengaged" in argument["allowedMessageTypes"]
    assert "InternalSearchResult" not in argument["allowedMessageTypes"]
    assert "previousMessages" not in argument


def test_a_question_has_the_members_of_the_recorded_one(make_call: Make) -> None:
    recorded = msgspec.json.decode((RECORDED / "chat-type4-request-2023-02.json").read_bytes())
    known = {"conversationSignature", "previousMessages"}  # of the older form
    assert set(recorded["arguments"][0]) - known <= set(asked(make_call()))


@pytest.mark.parametrize(
    ("model", "tone", "option"),
    [
        ("gpt-4", "Creative", "h3imaginative"),
        ("Bing-Balanced", "Balanced", "galileo"),
        ("bing-precise", "Precise", "h3precise"),
    ],
)
def test_the_tone_comes_from_the_models_name(
    make_call: Make, model: str, tone: str, option: str
) -> None:
    argument = asked(make_call(model=model))
    assert argument["tone"] == tone
    assert option in argument["optionsSets"]


def test_a_new_conversation_is_told_what_came_before(make_call: Make) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": "Two?"},
    ]
    argument = asked(make_call({"messages": messages}))
    assert argument["message"]["text"] == "Two?"
    (context,) = argument["previousMessages"]
    assert context["description"] == "[system]\nBe brief.\n\n[user]\nOne?\n\n[assistant]\n1"
    assert context["messageType"] == "Context"
    continued = asked(make_call({"messages": messages}, is_start=False))
    assert "previousMessages" not in continued
    assert continued["isStartOfSession"] is False


def test_the_hub_is_opened_with_the_quoted_signature(make_call: Make) -> None:
    request = web.request(make_call({"temperature": 1}, bing={"proxy_url": "http://p:1"}))
    assert request.url == "wss://sydney.bing.com/sydney/ChatHub?sec_access_token=s%2B%2F%3D"
    assert (request.via, request.proxy) == ("websocket", "http://p:1")
    assert request.messages == ['{"protocol":"json","version":1}\x1e']


# -- the `bing` member


@pytest.mark.parametrize(
    "member",
    [
        {
            "conversation": {
                "conversationId": "c",
                "clientId": "i",
                "signature": "s",
                "traceId": "t",
            }
        },
        {
            "conversation": {
                "conversationId": "c",
                "clientId": "i",
                "Signature": "s",
                "TraceId": "t",
            }
        },
        {"conversationId": "c", "clientId": "i", "Signature": "s", "TraceId": "t"},
        {
            "Conversation": {
                "ConversationID": "c",
                "CLIENTID": "i",
                "signature": "s",
                "traceid": "t",
            }
        },
    ],
)
def test_a_conversation_is_understood_in_every_spelling(member: Any) -> None:
    read = read_by(web.PROVIDER, asked_of({"messages": [], "bing": member}))
    assert read.bing.conversation == schema.Conversation("c", "i", "s", "t")


@pytest.mark.parametrize(
    ("member", "param"),
    [
        ({"conversation": {"conversationId": "c", "clientId": "i"}}, "bing.conversation.signature"),
        ({"conversation": {"clientId": "i"}}, "bing.conversation.conversationId"),
        ({"conversation": {"conversationId": 5}}, "bing.conversation.conversationId"),
        ({"imageBase64": 5}, "bing.imageBase64"),
        (5, "bing"),
    ],
)
def test_a_broken_member_is_a_400_that_names_the_place(member: Any, param: str) -> None:
    with pytest.raises(GatewayError) as caught:
        read_by(web.PROVIDER, asked_of({"messages": [], "bing": member}))
    assert (caught.value.status, caught.value.param) == (400, param)


# -- prepare


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


CREATED = UpstreamReply(
    200,
    {"x-sydney-encryptedconversationsignature": "sig+="},
    b'{"conversationId":"51D|x","clientId":"9","result":{"value":"Success","message":null}}',
)


def test_a_conversation_is_created_and_its_signature_taken_from_the_header(make_call: Make) -> None:
    upstream = FakeUpstream(CREATED)
    call = drive(web.prepare(make_call(conversation=None), upstream))
    assert call.learned.is_start
    assert web.session(call) == {
        "bing": {
            "conversationId": "51D|x",
            "clientId": "9",
            "signature": "sig+=",
            "traceId": call.learned.conversation.trace_id,
        }
    }
    assert len(call.learned.conversation.trace_id) == 32
    (request,) = upstream.sent
    assert request.url == ("https://www.bing.com/turing/conversation/create?bundleVersion=1.1694.0")
    assert request.via == "browser"
    headers = dict(request.headers)
    assert headers["cookie"].endswith("SRCHHPGUSR=HV=1700000000; _Rwho=u=d&ts=2023-11-14")
    assert headers["x-ms-client-request-id"] == "00000000-0000-0000-0000-000000000001"


def test_a_given_conversation_is_continued_without_asking(make_call: Make) -> None:
    member = {
        "conversationId": "c",
        "clientId": "i",
        "signature": "s",
        "traceId": "t",
        "imageUrl": "https://old/picture",
    }
    call = drive(web.prepare(make_call({"bing": member}, conversation=None), FakeUpstream()))
    assert not call.learned.is_start
    # The picture of an earlier turn is not attached again.
    assert call.learned.conversation == schema.Conversation("c", "i", "s", "t")


@pytest.mark.parametrize(
    ("reply", "status", "code"),
    [
        (UpstreamReply(404, {}, b""), 502, "upstream_unauthorized"),
        (UpstreamReply(403, {}, b"<html>"), 502, "upstream_unauthorized"),
        (UpstreamReply(500, {}, b""), 502, "upstream_error"),
        (UpstreamReply(429, {}, b""), 429, "rate_limit_exceeded"),
        (UpstreamReply(200, {}, b""), 502, "upstream_unauthorized"),
        (UpstreamReply(200, {}, b"<html>"), 502, "upstream_unauthorized"),
        (UpstreamReply(200, {}, CREATED.body), 502, "upstream_unauthorized"),
        (
            UpstreamReply(
                200,
                CREATED.headers,
                b'{"conversationId":null,"clientId":null,'
                b'"result":{"value":"UnauthorizedRequest","message":"Sorry, you need to login."}}',
            ),
            502,
            "upstream_unauthorized",
        ),
        (
            UpstreamReply(200, {}, b'{"result":{"value":"Forbidden","message":"no"}}'),
            502,
            "upstream_unauthorized",
        ),
        (
            UpstreamReply(200, {}, b'{"result":{"value":"CaptchaChallenge","message":"no"}}'),
            403,
            "captcha_required",
        ),
    ],
)
def test_every_failed_creation_is_a_clear_error(
    make_call: Make, reply: UpstreamReply, status: int, code: str
) -> None:
    with pytest.raises(GatewayError) as caught:
        drive(web.prepare(make_call(conversation=None), FakeUpstream(reply)))
    assert (caught.value.status, caught.value.code) == (status, code)


def with_picture(url: str) -> dict[str, Any]:
    content = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": url}},
    ]
    return {"messages": [{"role": "user", "content": content}]}


@pytest.mark.parametrize(
    "body",
    [
        {"bing": {"imageBase64": "/9j/4AAQ"}},
        {"bing": {"imageBase64": "data:image/jpeg;base64,/9j/4AAQ"}},
        with_picture("data:image/jpeg;base64,/9j/4AAQ"),
    ],
)
def test_a_jpeg_is_uploaded_and_attached_to_its_turn(make_call: Make, body: Any) -> None:
    upstream = FakeUpstream(
        CREATED, UpstreamReply(200, {}, b'{"blobId":"b","processedBlobId":"p p"}')
    )
    call = drive(web.prepare(make_call(body, conversation=None), upstream))
    upload = upstream.sent[1]
    assert upload.url == "https://www.bing.com/images/kblob"
    boundary = dict(upload.headers)["content-type"].partition("boundary=")[2]
    assert boundary.startswith("----WebKitFormBoundary")
    assert isinstance(upload.body, bytes)
    assert upload.body.endswith(
        b'\r\nContent-Disposition: form-data; name="imageBase64"\r\n\r\n/9j/4AAQ\r\n--'
        + boundary.encode()
        + b"--\r\n"
    )
    address = "https://www.bing.com/images/blob?bcid=p%20p"
    assert web.session(call)["bing"]["imageUrl"] == address
    message = asked(call)["message"]
    assert message["imageUrl"] == message["originalImageUrl"] == address


def test_a_remote_picture_is_fetched_by_bing_itself(make_call: Make) -> None:
    upstream = FakeUpstream(CREATED, UpstreamReply(200, {}, b'{"blobId":"b","processedBlobId":""}'))
    call = drive(
        web.prepare(make_call(with_picture("https://x/y.jpg"), conversation=None), upstream)
    )
    body = upstream.sent[1].body
    assert isinstance(body, bytes)
    assert b'"imageInfo":{"url":"https://x/y.jpg"}' in body
    assert b'name="imageBase64"' not in body
    assert call.learned.conversation.image_url.endswith("bcid=b")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (with_picture("data:image/png;base64,iVBORw0KGgo="), "messages[0].content[1]"),
        (with_picture("data:image/jpeg;base64,/9j/4AA!"), "messages[0].content[1]"),
        (with_picture("data:image/jpeg;base64,/9j/4AAé"), "messages[0].content[1]"),
        (with_picture("data:,"), "messages[0].content[1]"),
        (with_picture("data:image/jpeg;base64,"), "messages[0].content[1]"),
        (with_picture(""), "messages[0].content[1]"),
        ({"bing": {"imageBase64": "iVBORw0KGgo="}}, "bing.imageBase64"),
        ({"bing": {"imageBase64": "/9j/4AA!"}}, "bing.imageBase64"),
        ({"bing": {"imageBase64": "https://x/y.jpg"}}, "bing.imageBase64"),
        (
            with_picture("/9j/4AAQ") | {"bing": {"imageBase64": "/9j/4AAQ"}},
            "messages[0].content[1]",
        ),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages"),
        (
            {"messages": [{"role": "user", "content": [{"type": "file"}]}]},
            "messages[0].content[0].type",
        ),
    ],
)
def test_a_picture_that_bing_cannot_take_is_a_400(make_call: Make, body: Any, param: str) -> None:
    with pytest.raises(GatewayError) as caught:
        drive(web.prepare(make_call(body, conversation=None), FakeUpstream(CREATED)))
    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize(
    "reply",
    [
        UpstreamReply(200, {}, b'{"blobId":""}'),
        UpstreamReply(413, {}, b""),
        UpstreamReply(200, {}, b""),
    ],
)
def test_a_refused_upload_is_the_callers_to_know(make_call: Make, reply: UpstreamReply) -> None:
    body = {"bing": {"imageBase64": "/9j/4AAQ"}}
    with pytest.raises(GatewayError) as caught:
        drive(web.prepare(make_call(body, conversation=None), FakeUpstream(CREATED, reply)))
    assert (caught.value.status, caught.value.code) == (400, "image_upload_failed")


def test_an_empty_question_is_refused(make_call: Make) -> None:
    with pytest.raises(GatewayError) as caught:
        question(make_call({"messages": [{"role": "user", "content": ""}]}))
    assert (caught.value.status, caught.value.param) == (400, "messages[0].content")


# -- list and delete

CONFIG = Config()


def new_id() -> str:
    return "0" * 32


def test_a_conversation_is_deleted_by_post() -> None:
    body = b'{"conversationId":"c","conversationSignature":"s","participant":{"id":"p"}}'
    request = conversations.delete_request(CONFIG, body, 0, new_id)
    assert (request.method, request.url) == (
        "POST",
        "https://sydney.bing.com/sydney/DeleteSingleConversation",
    )
    assert ("content-type", "application/json") in request.headers
    assert msgspec.json.decode(request.body) == {
        "conversationId": "c",
        "conversationSignature": "s",
        "participant": {"id": "p"},
        "source": "cib",
        "optionsSets": ["autosave"],
    }


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{}", "conversationId"),
        (b'{"conversationId":"c"}', "conversationSignature"),
        (b'{"conversationId":"c","conversationSignature":"s"}', "participant.id"),
        (b'{"conversationId":5}', "conversationId"),
        (b"{", None),
        (b"", None),
    ],
)
def test_a_delete_without_its_three_members_is_a_400(body: bytes, param: str | None) -> None:
    with pytest.raises(GatewayError) as caught:
        conversations.delete_request(CONFIG, body, 0, new_id)
    assert (caught.value.status, caught.value.param) == (400, param)


def test_a_list_is_passed_on_as_it_is() -> None:
    assert conversations.list_request(CONFIG, 0, new_id).url.endswith("/turing/conversation/chats")
    assert conversations.read_passed(UpstreamReply(200, {}, b'{"chats":[]}')) == b'{"chats":[]}'
    with pytest.raises(GatewayError):
        conversations.read_passed(UpstreamReply(401, {}, b""))


def test_no_request_shares_its_headers_with_another() -> None:
    first = conversations.create_request(CONFIG, 0, new_id)
    first.headers.append(("x", "y"))
    assert ("x", "y") not in conversations.create_request(CONFIG, 0, new_id).headers


# -- fuzz


@settings(max_examples=80, deadline=None)
@given(st.lists(st.binary(max_size=30)), st.lists(st.integers(1, 9), min_size=1))
def test_records_survive_any_split(records: list[bytes], sizes: list[int]) -> None:
    records = [record.replace(b"\x1e", b"") for record in records]
    data = b"".join(record + b"\x1e" for record in records) + b"rest"
    parser, found, at, turn = RecordParser(), list[bytes](), 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        found += parser.feed(data[at : at + size])
        at, turn = at + size, turn + 1
    assert found == [record for record in records if record]
    assert parser.finish() == b"rest"


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.sampled_from(
                [b"\x1e", b"{}", b'{"type":1,"arguments":[null]}', b'{"type":2,"item":null}']
            ),
        ),
        max_size=8,
    )
)
def test_any_bytes_give_events_or_a_gateway_error(make_call: Make, pieces: list[bytes]) -> None:
    outcome(make_call(), pieces)
