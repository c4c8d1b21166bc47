"""Coze over Discord as a provider: the question for the bridge, and what becomes of replies."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from app.fronts.openai_chat.errors import error_body
from app.wire.errors import GatewayError
from app.wire.events import End, Event, Finish, Session, Started, Text
from app.wire.provider import Call, Key
from app.wire.upstream import UpstreamReply
from providers.coze import discord, schema

RECORDED = Path(__file__).parents[2] / "recorded" / "discord"
Make = Callable[..., Call]
encode = msgspec.json.encode


DISCORD = {"discord": {"enable": True, "chat_bot_token": "BOT", "coze_bot": ["11", "22"]}}


@pytest.fixture
def ask(make_call: Make) -> Callable[..., schema.BridgeRequest]:
    def of(body: dict[str, Any], headers: dict[str, str] | None = None) -> schema.BridgeRequest:
        key = Key(discord.POOL, "discord", "BOT")
        call = make_call(body, coze=DISCORD, key=key, headers=headers)
        request = discord.request(call)
        assert request.url == "http://127.0.0.1:8997/ask"
        assert ("authorization", f"Bearer {discord.bridge_secret('BOT')}") in request.headers
        assert b"BOT" not in bytes(request.body)  # type: ignore[arg-type]
        return msgspec.json.decode(request.body, type=schema.BridgeRequest)  # type: ignore[arg-type]

    return of


def test_the_last_user_message_is_the_question(ask: Callable[..., schema.BridgeRequest]) -> None:
    messages = [
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": r"Two\n & <three>?"},
    ]
    assert ask({"messages": messages}) == schema.BridgeRequest(r"Two\n & <three>?", "", True, [])
    assert ask({"messages": messages}, {"x-bot-id": "22"}).bot_id == "22"


def test_pictures_travel_as_addresses_or_as_files(ask: Callable[..., schema.BridgeRequest]) -> None:
    content = [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
        {"type": "text", "text": "What?"},
        {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
    ]
    asked = ask({"messages": [{"role": "user", "content": content}]})
    assert asked.text == "What?\nhttps://x/y.png"
    assert asked.files == [schema.BridgeFile("image.png", "image/png", "iVBORw==")]


def test_a_file_travels_as_what_it_is(ask: Callable[..., schema.BridgeRequest]) -> None:
    content = [
        {"type": "text", "text": "What?"},
        {"type": "image_url", "image_url": {"url": "data:image/*;base64,iVBORw0KGgo="}},
        {"type": "file", "file": {"file_data": "data:x;base64,aGk=", "filename": "a.csv"}},
        {"type": "file", "file": {"file_data": "data:;base64,aGk="}},
    ]
    assert ask({"messages": [{"role": "user", "content": content}]}).files == [
        schema.BridgeFile("image.png", "image/png", "iVBORw0KGgo="),
        schema.BridgeFile("a.csv", "text/csv", "aGk="),
        schema.BridgeFile("file", "application/octet-stream", "aGk="),
    ]


@pytest.mark.parametrize(
    ("content", "param"),
    [
        ("", "messages[0].content"),
        ("x" * 1889, "messages"),
        ([{"type": "input_audio"}], "messages[0].content[0].type"),
        ([{"type": "image_url", "image_url": {"url": "ftp://x"}}], "messages[0].content[0]"),
        ([{"type": "image_url", "image_url": {"url": "data:,"}}], "messages[0].content[0]"),
        ([{"type": "image_url", "image_url": "data:image/png;base64,"}], "messages[0].content[0]"),
        ([{"type": "file", "file": {"file_data": "data:;base64,"}}], "messages[0].content[0]"),
    ],
)
def test_what_discord_cannot_be_asked_is_a_400(
    ask: Callable[..., schema.BridgeRequest], content: Any, param: str
) -> None:
    with pytest.raises(GatewayError) as caught:
        ask({"messages": [{"role": "user", "content": content}]})
    assert (caught.value.status, caught.value.param) == (400, param)


def test_a_bot_that_is_not_configured_is_a_400(ask: Callable[..., schema.BridgeRequest]) -> None:
    with pytest.raises(GatewayError) as caught:
        ask({}, {"x-bot-id": "33"})
    assert (caught.value.status, caught.value.code) == (400, "unknown_bot")


def test_where_discord_is_off_the_caller_is_told_what_to_do(make_call: Make) -> None:
    with pytest.raises(GatewayError) as caught:
        discord.candidates([], "", {}, make_call().asked)
    assert caught.value.status == 400
    assert "coze-api" in caught.value.message


def events(*said: tuple[str, Any]) -> bytes:
    return b"".join(f"event: {n}\ndata: ".encode() + encode(d) + b"\n\n" for n, d in said)


def state(text: str, id: str = "R", done: bool = False, extra: Iterable[str] = ()) -> Any:
    return ("reply", schema.ReplyState(id, text, list(extra), done))


ASKED = ("asked", schema.Asked("11"))


def run(call: Call, pieces: Iterable[bytes]) -> list[Event]:
    decoder = discord.ReplyDecoder(call)
    out: list[Event] = []
    for piece in pieces:
        out += decoder.feed(piece)
    return out + decoder.finish()


STREAMS: dict[str, tuple[bytes, str]] = {
    "edits": (
        events(ASKED, state("Hel"), state("Hello"), state("Hello!", done=True)),
        "Hello!",
    ),
    "quiet": (events(ASKED, state("Hel"), state("Hello"), ("quiet", {})), "Hello"),
    "edited text": (
        events(ASKED, state("Hello wrld"), state("Hello world"), state("Hello world!", done=True)),
        "Hello wrldorld!",
    ),
    "two replies": (events(ASKED, state("A"), state("B", "R2"), state("B!", "R2", True)), "A\nB!"),
    "picture": (
        events(
            ASKED, state("See"), state("See", done=True, extra=["https://p\n![Image](https://p)"])
        ),
        "See\nhttps://p\n![Image](https://p)",
    ),
    "picture only": (
        events(ASKED, state("", done=True, extra=["![Image](https://p)"])),
        "![Image](https://p)",
    ),
    "waiting": (
        events(ASKED) + b": waiting\n\n" + events(state("A", done=True), state("late")),
        "A",
    ),
}


@pytest.mark.parametrize("name", STREAMS)
def test_replies_become_deltas_under_every_split(make_call: Make, name: str) -> None:
    data, expected = STREAMS[name]
    whole = run(make_call(), [data])
    assert whole[0] == Started("chatcmpl-R", "coze-discord")
    assert whole[1] == Session({"bot_id": "11"})
    assert whole[-2:] == [Finish("stop"), End()]
    assert "".join(e.text for e in whole if isinstance(e, Text)) == expected
    for cut in range(len(data) + 1):
        assert run(make_call(), [data[:cut], data[cut:]]) == whole, cut


def test_a_failure_after_the_post_is_not_repeated_by_sdks(make_call: Make) -> None:
    data = events(ASKED, ("failed", schema.Failure(429, "spent", "coze_quota", 60)))
    with pytest.raises(GatewayError) as caught:
        run(make_call(), [data])
    error = caught.value
    assert (error.status, error.code, error.retry_after) == (429, "coze_quota", 60)
    assert ("x-should-retry", "false") in error.headers


def test_a_bridge_that_dies_is_an_error_and_no_short_answer(make_call: Make) -> None:
    with pytest.raises(GatewayError) as caught:
        run(make_call(), [events(ASKED, state("Hel"))])
    assert (caught.value.status, caught.value.code) == (502, "upstream_cut")


def test_an_empty_answer_names_the_likely_cause(make_call: Make) -> None:
    with pytest.raises(GatewayError) as caught:
        run(make_call(), [events(ASKED, state("", done=True))])
    assert "content intent" in caught.value.message


def test_the_bridges_refusals_keep_their_shape() -> None:
    told = GatewayError(503, "No session.", code="no_session")
    error = discord.read_error(UpstreamReply(503, {"retry-after": "5"}, error_body(told)))
    assert (error.status, error.code, error.retry_after) == (503, "no_session", 5.0)
    assert discord.read_error(UpstreamReply(500, {}, b"oops")).status == 502
