"""A Discord channel without Discord: which event answers whom, who may post, what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.config.schema import CozeDiscord
from app.wire.errors import GatewayError
from app.wire.provider import Call
from app.wire.upstream import UpstreamReply
from providers.coze import channel, schema
from providers.coze.channel import Channel, Senders

RECORDED = Path(__file__).parents[2] / "recorded" / "discord"
Make = Callable[..., Call]
encode = msgspec.json.encode


def reply(id: str = "R", about: str | None = "Q", **more: Any) -> bytes:
    """A message as the gateway sends it: type 19, with reference, author and empty lists."""
    message: dict[str, Any] = {
        "type": 19,
        "id": id,
        "channel_id": "C",
        "guild_id": "G",
        "author": {"id": "COZE", "username": "coze", "bot": True},
        "content": "Hel",
        "embeds": [],
        "attachments": [],
        "components": [],
        "nonce": None,
        "message_reference": {"type": 0, "channel_id": "C", "guild_id": "G", "message_id": about},
        "referenced_message": {"id": about, "type": 0, "content": "?", "author": {"id": "S"}},
    }
    if about is None:
        del message["message_reference"], message["referenced_message"]
    return encode({k: v for k, v in (message | more).items() if v is not ...})


BUTTONS = [{"type": 1, "components": [{"type": 2, "style": 2, "label": "More", "custom_id": "x"}]}]


def heard(*messages: bytes, channel_: Channel | None = None) -> schema.ReplyState:
    where = channel_ or Channel("C", ["COZE"])
    question = where.expect("Q")
    for message in messages:
        where.hear(message, 0)
    return question.fresh[-1]


# -- matching


def test_an_answer_is_found_by_its_reference_and_grows_by_edits() -> None:
    where = Channel("C", ["COZE"])
    question = where.expect("Q")
    woken: list[int] = []
    question.wake = lambda: woken.append(1)
    where.hear(reply(content="Hel"), 0)
    where.hear(reply(content="Hello"), 0)
    where.hear(reply(content="Hello!", components=BUTTONS), 0)
    assert [(state.text, state.is_done) for state in question.fresh] == [
        ("Hel", False),
        ("Hello", False),
        ("Hello!", True),
    ]
    assert len(woken) == 3


def test_replies_that_come_before_the_post_returns_are_not_lost() -> None:
    where = Channel("C", ["COZE"])
    where.hear(reply(content="Hel"), 0)
    where.hear(reply(content="Hello", components=BUTTONS), 1)
    assert where.expect("Q").fresh == [schema.ReplyState("R", "Hello", [], True)]


def test_two_askers_get_their_own_answers_only() -> None:
    where = Channel("C", ["COZE"])
    one, two = where.expect("Q1"), where.expect("Q2")
    where.hear(reply("R2", "Q2", content="two"), 0)
    where.hear(reply("R1", "Q1", content="one"), 0)
    assert ([s.text for s in one.fresh], [s.text for s in two.fresh]) == (["one"], ["two"])


@pytest.mark.parametrize(
    "message",
    [
        reply(author={"id": "STRANGER"}),
        reply(channel_id="OTHER"),
        reply(about="Q9"),
        reply(about=None),
        reply(author=...),
        b"[]",
        b'{"id":5}',
        b"\xff",
    ],
)
def test_what_is_no_answer_to_the_question_is_ignored(message: bytes) -> None:
    where = Channel("C", ["COZE"])
    question = where.expect("Q")
    where.hear(message, 0)
    assert question.fresh == []


def test_a_missing_or_deleted_copy_of_the_question_does_not_matter() -> None:
    assert heard(reply(referenced_message=...)).text == "Hel"
    assert heard(reply(referenced_message=None)).text == "Hel"


def test_a_copy_of_the_question_is_enough_where_the_reference_is_missing() -> None:
    assert heard(reply(message_reference=...)).text == "Hel"


def test_a_partial_update_changes_only_what_it_names() -> None:
    partial = encode({"id": "R", "channel_id": "C", "components": BUTTONS})
    assert heard(reply(content="Hello"), partial) == schema.ReplyState("R", "Hello", [], True)


def test_an_embed_only_update_does_not_clear_the_text() -> None:
    update = encode({"id": "R", "channel_id": "C", "embeds": [{"image": {"url": "https://p"}}]})
    state = heard(reply(content="Hello"), update)
    assert (state.text, state.extra) == ("Hello", ["https://p\n![Image](https://p)"])


def test_without_the_content_intent_the_answer_stays_empty_and_unfinished() -> None:
    assert heard(reply(content="")) == schema.ReplyState("R")


def test_late_events_reach_nobody_and_are_forgotten_in_time() -> None:
    where = Channel("C", ["COZE"])
    question = where.expect("Q")
    where.hear(reply(), 0)
    where.forget(question)
    question.fresh.clear()
    where.hear(reply(content="late"), 0)
    assert (question.fresh, where.open) == ([], [])
    where.hear(reply("R9", "Q9"), channel.EARLY_SECONDS + 1)
    assert where.expect("Q").fresh == []


def test_replies_to_strangers_are_remembered_within_bounds() -> None:
    where = Channel("C", ["COZE"])
    for i in range(channel.MAX_EARLY + 50):
        where.hear(reply(f"R{i}", f"Q{i}"), 0)
    assert where.expect("Q0").fresh == []
    assert where.expect(f"Q{channel.MAX_EARLY + 49}").fresh != []


@pytest.mark.parametrize(
    ("more", "extra"),
    [
        ({"embeds": [{"image": {"url": "https://p"}}]}, ["https://p\n![Image](https://p)"]),
        ({"embeds": [{"image": {"url": "https://p"}}], "content": "see https://p"}, []),
        (
            {"embeds": [{"type": "rich", "title": "T", "url": "https://u", "description": "D"}]},
            ["[T](https://u)", "D"],
        ),
        ({"embeds": [{"type": "article", "title": "T", "description": "D"}]}, []),
        (
            {"attachments": [{"url": "https://a", "proxy_url": "https://b"}]},
            ["https://b\n![Image](https://b)"],
        ),
    ],
)
def test_pictures_and_embeds_become_markdown(more: dict[str, Any], extra: list[str]) -> None:
    assert heard(reply(**more)).extra == extra


@pytest.mark.parametrize("name", ["message-create-bot-author.json", "message-update.json"])
def test_recorded_messages_are_understood_and_answer_nobody(name: str) -> None:
    data = (RECORDED / name).read_bytes()
    author = msgspec.json.decode(data)["author"]["id"]
    where_it_was = msgspec.json.decode(data)["channel_id"]
    where = Channel(where_it_was, [author])
    question = where.expect("Q")
    where.hear(data, 0)
    assert question.fresh == []
    message = msgspec.json.decode(data, type=schema.DiscordMessage)
    assert message.author is not None
    assert message.author.id == author


# -- posting

CONFIG = CozeDiscord(guild_id="G", channel_id="C", chat_bot_token="BOT", coze_bot=["COZE"])


def test_a_question_ends_in_the_mention_and_calls_nobody_else() -> None:
    request = channel.post_request(CONFIG, None, "USER", "@everyone hi", "COZE", "n1")
    assert request.url == "https://discord.com/api/v10/channels/C/messages"
    assert ("authorization", "USER") in request.headers
    assert msgspec.json.decode(request.body) == {
        "content": "@everyone hi \n <@COZE>",
        "nonce": "n1",
        "enforce_nonce": True,
        "allowed_mentions": {"parse": [], "users": ["COZE"]},
    }


def test_the_longest_question_counts_code_points_and_the_mention() -> None:
    room = channel.MAX_PROMPT - len(" \n <@COZE>")
    assert len(channel.prompt("😀" * room, "COZE")) == channel.MAX_PROMPT
    with pytest.raises(GatewayError) as caught:
        channel.prompt("😀" * (room + 1), "COZE")
    assert (caught.value.status, caught.value.param) == (400, "messages")


def test_an_upload_is_a_message_of_the_own_bot() -> None:
    file = schema.BridgeFile('a"b/ü.png', "image/png\r\nX: y", "")
    request = channel.upload_request(CONFIG, None, file, b"\x89PNG", "BB")
    assert ("authorization", "Bot BOT") in request.headers
    assert request.body == (
        b'--BB\r\nContent-Disposition: form-data; name="payload_json"\r\n'
        b"Content-Type: application/json\r\n\r\n"
        b'{"attachments":[{"id":0,"filename":"a_b__.png"}]}\r\n'
        b'--BB\r\nContent-Disposition: form-data; name="files[0]"; filename="a_b__.png"\r\n'
        b"Content-Type: image/pngX: y\r\n\r\n\x89PNG\r\n--BB--\r\n"
    )


def http(status: int, body: Any = None, **headers: str) -> UpstreamReply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return UpstreamReply(status, named, body if isinstance(body, bytes) else encode(body or {}))


RATE_LIMITS = msgspec.json.decode((RECORDED / "rest-429-docs-examples.json").read_bytes())


@pytest.mark.parametrize("example", RATE_LIMITS, ids=lambda example: example["what"])
def test_a_429_makes_its_sender_wait_as_long_as_it_says(example: dict[str, Any]) -> None:
    headers = {name.lower(): value for name, value in example["headers"].items()}
    senders = Senders(["a", "b"])
    first, second = senders.all
    answer = UpstreamReply(example["status"], headers, encode(example["body"]))
    assert senders.learn(first, answer, 100.0)
    assert first.free_at == 100.0 + example["body"]["retry_after"]
    assert senders.usable(100.0) == [second]


def test_an_empty_bucket_waits_for_its_reset() -> None:
    senders = Senders(["a"])
    answer = http(200, x_ratelimit_remaining="0", x_ratelimit_reset_after="1.5")
    assert not senders.learn(senders.all[0], answer, 10.0)
    assert senders.all[0].free_at == 11.5
    assert senders.usable(10.0) == senders.all  # the first that will be free


@pytest.mark.parametrize(
    "answer",
    [
        http(401, {"message": "401: Unauthorized", "code": 0}),
        http(403, {"message": "You need to verify your account", "code": 40002}),
    ],
)
def test_a_dead_token_is_left_alone(answer: UpstreamReply) -> None:
    senders = Senders(["a", "b"])
    assert senders.learn(senders.all[0], answer, 10.0)
    assert senders.usable(10.0) == [senders.all[1]]
    assert senders.usable(10.0 + channel.DEAD_SECONDS) == senders.all


def test_a_page_in_place_of_a_limit_stops_all_senders() -> None:
    senders = Senders(["a", "b"])
    assert not senders.learn(senders.all[0], http(429, b"<html>"), 10.0)
    assert all(sender.free_at == 10.0 + channel.BAN_SECONDS for sender in senders.all)


@pytest.mark.parametrize("tokens", [[], ["a"]])
def test_without_a_usable_account_the_caller_is_told_at_once(tokens: list[str]) -> None:
    senders = Senders(tokens)
    for sender in senders.all:
        senders.learn(sender, http(401), 10.0)
    with pytest.raises(GatewayError) as caught:
        senders.usable(10.0)
    assert (caught.value.status, caught.value.code) == (503, "no_sender")


def test_a_token_never_shows_in_a_traceback() -> None:
    assert "secret" not in repr(Senders(["secret"]).all)


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (http(400, {"code": 50035, "message": "Invalid Form Body"}), 400, "discord_refused"),
        (http(400, {"code": 200000, "message": "blocked by AutoMod"}), 400, "discord_refused"),
        (http(403, {"code": 50013, "message": "Missing Permissions"}), 502, "discord_refused"),
        (http(404, {"code": 10003, "message": "Unknown Channel"}), 502, "discord_refused"),
        (http(429, {"code": 20016, "message": "slowmode", "retry_after": 3}), 429, "rate_limited"),
        (http(500, b"<html>"), 502, "discord_refused"),
        (http(200, b"<html>"), 502, "discord_refused"),
    ],
)
def test_a_refused_question_is_told_in_words(answer: UpstreamReply, status: int, code: str) -> None:
    with pytest.raises(GatewayError) as caught:
        channel.read_posted(answer)
    assert (caught.value.status, caught.value.code) == (status, code)


# Private: in words of its own, the test would have to keep up with the table.
@pytest.mark.parametrize("each", channel._SPENT, ids=lambda each: each.begins[:20])
def test_a_spent_bot_is_known_by_its_words(each: channel.Spent) -> None:
    assert channel.spent(each.begins + " Try tomorrow.") == each
    assert channel.spent("I was told: " + each.begins) is None
    assert channel.spent_failure(each, each.begins).status == each.status


# -- fuzz


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["Q1", "Q2", "Q3"]),
            st.sampled_from(["R1", "R2", "R3"]),
            st.text(max_size=5),
            st.booleans(),
        ),
        max_size=12,
    ),
    st.lists(st.sampled_from(["Q1", "Q2", "Q3"]), max_size=3, unique=True),
    st.integers(0, 12),
)
def test_every_reply_reaches_its_own_question_whenever_that_is_known(
    said: list[tuple[str, str, str, bool]], asked: list[str], when: int
) -> None:
    """However posts and replies interleave, a question ends with its own last texts."""
    where = Channel("C", ["COZE"])
    questions: dict[str, channel.Question] = {}
    expected: dict[str, dict[str, str]] = {}
    for turn, (about, id, text, done) in enumerate([*said, ("Q9", "R9", "", False)]):
        if turn == min(when, len(said)):
            questions = {question: where.expect(question) for question in asked}
        # a reply's id is unique in Discord
        where.hear(reply(id + about, about, content=text, components=BUTTONS if done else []), 0)
        texts = expected.setdefault(about, {})
        texts[id + about] = text or texts.get(id + about, "")
    for id, question in questions.items():
        found = {reply_id: state.text for reply_id, state in question.replies.items()}
        assert {k: v for k, v in found.items() if v} == {
            k: v for k, v in expected.get(id, {}).items() if v
        }
