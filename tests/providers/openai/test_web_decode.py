"""Every framing of ChatGPT web's answers, under every split, says the same events."""

import contextlib
import hashlib
import itertools
import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.wire.errors import GatewayError
from app.wire.events import (
    End,
    Event,
    Finish,
    Follow,
    Reasoning,
    Reply,
    Session,
    Started,
    Text,
    Unknown,
    Usage,
)
from providers.openai.web_decode import WebDecoder
from providers.openai.web_frames import AnswerFrames
from providers.openai.web_patches import apply
from tests.providers.openai.web_framings import (
    A1,
    A2,
    C1,
    ECHO,
    ELSEWHERE,
    PIECES,
    TAIL,
    U1,
    deltas,
    ended,
    event,
    frames,
    message,
    snapshot,
    snapshots,
)
from tests.recorded import recorded

RECORDING = (recorded("openai") / "chatgpt-web-delta-v1.sse").read_bytes()
DONE = b"data: [DONE]\n\n"


def decoder(**more: Any) -> WebDecoder:
    given: dict[str, Any] = {
        "image_link": lambda pointer, conversation: f"/gptimage/{pointer[-6:]}?c={conversation}",
        "model": "asked",
        "own_ids": (U1,),
    }
    return WebDecoder(AnswerFrames("https://chatgpt.com", "agent", None), **given | more)


def decode(pieces: Iterable[bytes], into: WebDecoder | None = None) -> list[Event]:
    into = into or decoder()
    events = [event for piece in pieces for event in into.feed(piece)]
    return [*events, *into.finish()]


def text(events: Iterable[Event]) -> str:
    return "".join(e.text for e in events if isinstance(e, Text))


def folded(events: list[Event]) -> list[Event]:
    """Neighbouring texts joined: what a caller gets is the same however it was cut."""
    out: list[Event] = []
    for e in events:
        if isinstance(e, Text) and out and isinstance(out[-1], Text):
            out[-1] = Text(out[-1].text + e.text)
        else:
            out.append(e)
    return out


def reasons(events: Iterable[Event]) -> list[str]:
    return [e.reason for e in events if isinstance(e, Finish)]


WHOLE = "".join(PIECES)
EXPECTED = [
    Session({"conversation_id": C1, "parent_message_id": U1, "last_message_id": A2}),
    Started("", "gpt-4o"),
    Text(WHOLE),
    Usage(0, -(-len(WHOLE) // 4), is_estimated=True),
    Finish("stop"),
]


def test_the_recording_decodes_to_the_known_text() -> None:
    events = decode([RECORDING])
    whole = text(events)
    assert len(whole) == 1467
    assert hashlib.sha256(whole.encode()).hexdigest() == (
        "3fcf80a378214cc654ca56e81f04b2d6c959635e10e0cbb22fc6bdbe3dbd08f5"
    )
    assert whole.startswith("This statement presents a **critique of ")
    assert whole.endswith(", and society.")
    assert reasons(events) == ["stop"]
    assert isinstance(events[0], Session)
    assert events[1] == Started("", "gpt-4o")
    assert not [e for e in events if isinstance(e, Unknown)]


@pytest.mark.parametrize("size", [*range(1, 65), 1000])
def test_the_recording_decodes_alike_at_every_piece_size(size: int) -> None:
    pieces = [RECORDING[at : at + size] for at in range(0, len(RECORDING), size)]
    assert decode(pieces) == decode([RECORDING])


def test_the_recording_decodes_alike_under_every_two_way_split() -> None:
    expected = decode([RECORDING])
    for at in range(0, len(RECORDING), 3):
        assert decode([RECORDING[:at], RECORDING[at:]]) == expected


STREAMS = {
    "snapshots": snapshots(),
    "deltas": deltas(),
    "deltas without event lines": deltas(names=False),
    "mixed": deltas().replace(DONE, b"") + event(TAIL[0]) + DONE,
    "snapshots crlf": snapshots().replace(b"\n", b"\r\n"),
    "deltas crlf": deltas().replace(b"\n", b"\r\n"),
    "padded": b"\n".join(
        line + b" " * (-len(line) % 8) if line else line for line in deltas().split(b"\n")
    ),
}


@pytest.mark.parametrize("name", STREAMS)
def test_every_framing_says_the_same_under_every_split(name: str) -> None:
    data = STREAMS[name]
    assert folded(decode([data])) == EXPECTED
    assert folded(decode(bytes([byte]) for byte in data)) == EXPECTED
    for at in range(1, len(data), 7):
        assert folded(decode([data[:at], data[at:]])) == EXPECTED


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("sse", [snapshots(), deltas()])
def test_the_websocket_says_the_same_and_only_our_answer(wrapped: bool, sse: bytes) -> None:
    body = json.dumps(ELSEWHERE).encode()
    for at in range(1, len(body)):
        into = decoder()
        (follow,) = [e for piece in (body[:at], body[at:]) for e in into.feed(piece)]
        assert isinstance(follow, Follow)
    request = follow.request
    assert (request.url, request.via) == (ELSEWHERE["wss_url"], "websocket")
    assert dict(request.headers) == {
        "User-Agent": "agent",
        "Origin": "https://chatgpt.com",
        "Sec-WebSocket-Protocol": "json.reliable.webpubsub.azure.v1",
    }
    events = decode(frames(sse, wrapped), into)
    assert [e for e in events if isinstance(e, End)]
    rest = [e for e in events if not isinstance(e, End)]
    assert folded(rest) == EXPECTED


def test_the_websocket_is_acknowledged_every_80_messages() -> None:
    into = decoder()
    list(into.feed(json.dumps(ELSEWHERE).encode()))
    many = frames(snapshots([f"{n} " for n in range(200)]), wrapped=True)
    replies = [e.data for e in decode(many, into) if isinstance(e, Reply)]
    assert replies == [
        '{"type":"sequenceAck","sequenceId":80}',
        '{"type":"sequenceAck","sequenceId":160}',
    ]


@pytest.mark.parametrize(
    "frame",
    [b"not json", b'{"type":"message","data":{"body":"!!"}}'],
)
def test_a_broken_websocket_message_is_a_bad_answer(frame: bytes) -> None:
    into = decoder()
    list(into.feed(json.dumps(ELSEWHERE).encode()))
    with pytest.raises(GatewayError) as bad:
        list(into.feed(frame))
    assert bad.value.code == "upstream_bad_response"


@pytest.mark.parametrize(
    "frame",
    [
        b"{}",
        b'{"type":"pong"}',
        b'{"type":"message","data":null}',
        b'{"type":"message","data":"text"}',
        b'{"type":"message","data":{"body":7}}',
        b'{"data":{"body":""}}',
    ],
)
def test_frames_without_a_body_are_passed_over(frame: bytes) -> None:
    into = decoder()
    list(into.feed(json.dumps(ELSEWHERE).encode()))
    assert list(into.feed(frame)) == []
    assert reasons(decode(frames(snapshots(), True), into)) == ["stop"]


def stream(*objects: Any, done: bool = True) -> bytes:
    return b"".join(event(o) for o in objects) + (DONE if done else b"")


def test_a_snapshot_that_was_rewritten_tells_nothing_twice() -> None:
    events = decode(
        [
            stream(
                *(snapshot(message(parts=[t])) for t in ("abc", "abX", "abXdef", "ab")),
                snapshot(ended("abXdefg")),
            )
        ]
    )
    assert text(events) == "abcdefg"


def test_several_answers_of_a_turn_are_set_apart_and_the_last_is_the_one_to_go_on_from() -> None:
    first = message(id=A1, parts=["Let me look."], status="finished_successfully", end_turn=False)
    events = decode([stream(snapshot(first), snapshot(first), snapshot(ended("Here.")))])
    assert text(events) == "Let me look.\n\nHere."
    sessions = [e.fields["last_message_id"] for e in events if isinstance(e, Session)]
    assert sessions == [A1, A2]


NOT_SHOWN = [
    message(parts=["code"], recipient="python"),
    message(parts=["x"], recipient="t2uay3k.sj1i4kz"),
    message(parts=["x"], channel="analysis"),
    message(parts=["x"], channel="commentary"),
    message(content={"content_type": "code", "language": "python", "text": "x"}),
    message(content={"content_type": "execution_output", "text": "x"}),
    message(content={"content_type": "reasoning_recap", "content": "Thought for 5 s"}),
    message(content={"content_type": "user_editable_context"}),
    message(content={"content_type": "tether_quote", "text": "x"}),
    message(role="user", parts=["x"]),
    message(role="system", parts=["x"]),
    message(role="tool", parts=["x"]),
    message(role="critic", parts=["x"]),
    message(parts=["x"], metadata={"is_visually_hidden_from_conversation": True}),
]


@pytest.mark.parametrize("hidden", NOT_SHOWN)
def test_what_is_not_the_answer_is_not_told(hidden: dict[str, Any]) -> None:
    hidden = hidden | {"id": A1}
    whole = hidden | {"status": "finished_successfully"}
    events = decode([stream(snapshot(hidden), snapshot(whole), snapshot(ended("Yes.")))])
    assert text(events) == "Yes."
    assert not [e for e in events if isinstance(e, Reasoning)]
    # and in deltas, where text is appended to the channel it went to
    patches = stream(
        {"p": "", "o": "add", "v": snapshot(hidden), "c": 0},
        {"p": "/message/content/parts/0", "o": "append", "v": "hidden too"},
        {"v": " and this"},
        {"p": "", "o": "add", "v": snapshot(ended("Yes.")), "c": 1},
    )
    assert text(decode([patches])) == "Yes."


def test_an_older_answer_repeated_at_the_start_is_not_told_again() -> None:
    old = message(
        id=A1,
        parts=["Old."],
        status="finished_successfully",
        end_turn=True,
        metadata={"parent_id": "older"},
    )
    for parent in (A1, "00000000-0000-4000-8000-00000000dead"):
        events = decode(
            [stream(snapshot(old), snapshot(ECHO), snapshot(ended("New.")))],
            decoder(parent_id=parent),
        )
        assert text(events) == "New."
        assert reasons(events) == ["stop"]


def test_a_short_answer_that_comes_whole_is_told_in_a_continued_conversation() -> None:
    events = decode([stream(snapshot(ended("New.")))], decoder(parent_id=A1))
    assert text(events) == "New."


def test_thoughts_become_reasoning() -> None:
    def thoughts(*pairs: tuple[str, str], **more: Any) -> dict[str, Any]:
        said = [{"summary": s, "content": c} for s, c in pairs]
        return message(id=A1, content={"content_type": "thoughts", "thoughts": said}, **more)

    done = {"status": "finished_successfully"}
    events = decode(
        [
            stream(
                snapshot(thoughts()),
                snapshot(thoughts(("Plan", "Fi"))),
                snapshot(thoughts(("Plan", "First"), ("Then", ""))),
                snapshot(thoughts(("Plan", "First"), ("Then", "second"), **done)),
                snapshot(ended("Answer.")),
            )
        ]
    )
    told = "".join(e.text for e in events if isinstance(e, Reasoning))
    assert told == "Plan\nFirst\n\nThen\nsecond"
    assert text(events) == "Answer."
    assert next(e for e in events if isinstance(e, Session)).fields["last_message_id"] == A2


def test_a_tool_that_thinks_aloud_becomes_reasoning() -> None:
    thinking = message(
        id=A1,
        role="tool",
        parts=["Weighing"],
        weight=0.0,
        metadata={"initial_text": "Reasoning", "finished_text": ""},
    )
    patches = stream(
        {"p": "", "o": "add", "v": snapshot(thinking), "c": 0},
        {"p": "/message/content/parts/0", "o": "append", "v": " options"},
        {"v": "."},
        {"p": "", "o": "add", "v": snapshot(ended("Yes.")), "c": 1},
    )
    events = decode([patches])
    assert "".join(e.text for e in events if isinstance(e, Reasoning)) == "Weighing options."
    assert text(events) == "Yes."


POINTER = {
    "content_type": "image_asset_pointer",
    "asset_pointer": "file-service://file-3lZoAB",
    "size_bytes": 295596,
    "width": 1024,
    "height": 1024,
    "metadata": {"dalle": {"gen_id": "g", "prompt": "a cat", "seed": 1}},
}


def test_a_picture_becomes_a_link_once() -> None:
    picture = message(
        id=A1,
        role="tool",
        content={"content_type": "multimodal_text", "parts": [POINTER]},
        status="finished_successfully",
    )
    link = f"![image](/gptimage/3lZoAB?c={C1})"
    events = decode([stream(snapshot(picture), snapshot(picture), snapshot(ended("A cat.")))])
    assert text(events) == f"{link}\n\nA cat."
    # the picture alone, without a word after it, is an answer too
    events = decode([stream(snapshot(picture))])
    assert (text(events), reasons(events)) == (link, ["stop"])
    both = message(
        content={"content_type": "multimodal_text", "parts": ["Look:", POINTER]},
        status="finished_successfully",
        end_turn=True,
    )
    assert text(decode([stream(snapshot(both))])) == f"Look:\n\n{link}"


def test_a_picture_of_the_old_code_interpreter_becomes_a_link() -> None:
    shown = {"messages": [{"message_type": "image", "image_url": "file-service://file-3lZoAB"}]}
    ran = message(
        id=A1,
        role="tool",
        content={"content_type": "execution_output", "text": "<<ImageDisplayed>>"},
        status="finished_successfully",
        metadata={"aggregate_result": shown},
    )
    events = decode([stream(snapshot(ran), snapshot(ended("A plot.")))])
    assert text(events) == f"![image](/gptimage/3lZoAB?c={C1})\n\nA plot."


CITE = "\ue200cite\ue202turn0search0\ue201"


def test_citations_become_links_wherever_they_are_split() -> None:
    references = [
        {"matched_text": CITE, "alt": None, "items": [{"title": "T", "url": "https://t.example"}]}
    ]
    known = message(metadata={"content_references": references})
    for at in range(len(CITE) + 1):
        patches = stream(
            {"p": "", "o": "add", "v": snapshot(known), "c": 0},
            {"p": "/message/content/parts/0", "o": "append", "v": "So " + CITE[:at]},
            {"v": CITE[at:] + " it is 【3†source】."},
            {
                "p": "",
                "o": "patch",
                "v": [
                    {"p": "/message/status", "o": "replace", "v": "finished_successfully"},
                    {"p": "/message/end_turn", "o": "replace", "v": True},
                ],
            },
        )
        assert text(decode([patches])) == "So [T](https://t.example) it is 【3†source】."


def test_a_citation_explained_too_late_is_told_at_the_end_and_an_unexplained_one_not_at_all() -> (
    None
):
    late = ended(
        f"A{CITE}B",
        metadata={
            "content_references": [{"matched_text": CITE, "alt": "([T](https://t.example))"}]
        },
    )
    events = decode([stream(snapshot(message(parts=[f"A{CITE}B"])), snapshot(late))])
    assert text(events) == "AB\n\n([T](https://t.example))"
    never = decode([stream(snapshot(ended(f"A{CITE}B\ue203\ue206")))])
    assert text(never) == "AB"
    entity = '\ue200entity\ue202["company","OpenAI","x"]\ue201'
    assert text(decode([stream(snapshot(ended(f"by {entity}.")))])) == "by OpenAI."


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (ended("x"), "stop"),
        (ended("x", metadata={"finish_details": {"type": "max_tokens"}}), "length"),
        (ended("x", metadata={"finish_details": {"type": "interrupted"}}), "stop"),
        (message(parts=["x"], status="finished_partial_completion"), "length"),
        ({"type": "x", "moderation_response": {"blocked": True}}, "content_filter"),
        (message(parts=["x"], status="finished_successfully"), "stop"),
    ],
)
def test_how_it_ended(last: dict[str, Any], reason: str) -> None:
    data = stream(last if "type" in last else snapshot(last))
    assert reasons(decode([data])) == [reason]


def test_text_that_patches_rewrote_is_told_as_if_it_came_in_snapshots() -> None:
    path = "/message/content/parts/0"
    end = [
        {"p": path, "o": "append", "v": "!"},
        {"p": "/message/status", "o": "replace", "v": "finished_successfully"},
        {"p": "/message/end_turn", "o": "replace", "v": True},
    ]
    patches = stream(
        {"p": "", "o": "add", "v": snapshot(message()), "c": 0},
        {"p": path, "o": "append", "v": "Hello wor"},
        {"p": path, "o": "truncate", "v": 5},
        {"p": path, "o": "append", "v": " you"},
        {"v": " all"},
        {"p": "", "o": "patch", "v": end},
    )
    said = ["Hello wor", "Hello", "Hello you", "Hello you all"]
    wholes = stream(
        *(snapshot(message(parts=[part])) for part in said), snapshot(ended("Hello you all!"))
    )
    assert text(decode([patches])) == text(decode([wholes])) == "Hello wor all!"


BLOCKED = {
    "type": "moderation",
    "conversation_id": C1,
    "message_id": A2,
    "is_completion": True,
    "moderation_response": {"flagged": True, "blocked": True, "moderation_id": "modr-1"},
}


def test_an_answer_blocked_after_its_last_word_ends_as_filtered() -> None:
    events = decode([stream(snapshot(ended("Bad.")), *TAIL[:1], BLOCKED)])
    assert (text(events), reasons(events)) == ("Bad.", ["content_filter"])
    assert isinstance(events[-1], Finish)


def test_nothing_is_told_of_an_answer_after_it_was_blocked() -> None:
    begun, more = snapshot(message(parts=["B"])), snapshot(message(parts=["Bad"]))
    events = decode([stream(begun, BLOCKED, more, snapshot(ended("Bad.")))])
    assert (text(events), reasons(events)) == ("B", ["content_filter"])
    assert isinstance(events[-1], Finish)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "upstream_cut"),
        (b"  \n", "upstream_cut"),
        (stream(snapshot(message(parts=["ab"])), done=False), "upstream_cut"),
        (stream(snapshot(message(parts=["ab"]))), "upstream_bad_response"),
        (stream(snapshot(ended("ab")), done=False)[:-40], "upstream_cut"),
        (DONE, "upstream_bad_response"),
        (b'{"wss_url": "wss://', "upstream_bad_response"),
        (b"<!DOCTYPE html><title>Sign in</title>", "upstream_bad_response"),
        (b"<!DOCTYPE html><title>Just a moment...</title>", "cloudflare_challenge"),
        (b'{"detail":"Too many requests in 1 hour"}', "rate_limit_exceeded"),
        (b'{"wss_url":"https://evil.example"}', "upstream_bad_response"),
        (b'{"detail":{"code":"model_cap_exceeded","clears_in":9}}', "model_cap_exceeded"),
        (stream({"type": "stream_handoff", "options": []}), "upstream_handoff_unsupported"),
        (stream(snapshot(message(parts=["a"], status="failed"))), "upstream_bad_response"),
        (stream(snapshot(None, error="Something went wrong.")), "upstream_error"),
        (stream(snapshot(None, error_code="model_cap_exceeded")), "model_cap_exceeded"),
        (
            stream(snapshot(None, error={"message": "m", "code": "model_cap_exceeded"})),
            "model_cap_exceeded",
        ),
        (
            stream(
                {"p": "", "o": "add", "v": snapshot(message()), "c": 0},
                {"p": "/error", "o": "replace", "v": "gone"},
            ),
            "upstream_error",
        ),
        (
            stream(
                {
                    "p": "",
                    "o": "add",
                    "v": snapshot(None, error="x", error_code="conversation_not_found"),
                    "c": 0,
                }
            ),
            "conversation_not_found",
        ),
    ],
)
def test_what_is_no_whole_answer_is_an_error(data: bytes, code: str) -> None:
    with pytest.raises(GatewayError) as bad:
        decode([data] if data else [])
    assert bad.value.code == code


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        ("You've reached our limit of messages per hour. Please try again later.", 429, None),
        ("You have reached your limit for this model.", 429, None),
        ("You've hit the Free plan limit for GPT-5. Responses will use another", 429, None),
        ("Too many requests in 1 hour. Try again later.", 429, None),
        ("You are sending too many messages. Slow down.", 429, None),
        ("Unusual activity has been detected from your device.", 403, "unusual_activity"),
        ("Our systems have detected unusual activity coming from your system.", 403, None),
        ("The message you submitted was too long, please reload", 400, "context_length_exceeded"),
        ("Your authentication token has expired. Please try signing in", 401, "token_expired"),
        ("Something went wrong. If this issue persists please contact us", 502, "upstream_error"),
    ],
)
def test_a_refusal_in_words_inside_a_200_has_the_status_it_means(
    words: str, status: int, code: str | None
) -> None:
    for data in (
        stream(snapshot(None, error=words)),
        stream(snapshot(None, error={"message": words})),
        stream({"p": "", "o": "add", "v": snapshot(None, error=words), "c": 0}),
        json.dumps({"detail": words}).encode(),
    ):
        with pytest.raises(GatewayError) as refused:
            decode([data])
        assert refused.value.status == status
        assert code in (None, refused.value.code)
        assert refused.value.message


def test_what_stands_before_an_error_in_the_same_read_is_told() -> None:
    data = deltas()
    begun = data[: data.index(b'"o": "patch"')].rpartition(b"event: delta")[0]
    events = []
    with pytest.raises(GatewayError):
        for made in decoder().feed(begun + stream(snapshot(None, error="x"))):
            events.append(made)
    assert text(events) == text(decode([data]))[: len(text(events))] != ""


@pytest.mark.parametrize(
    "odd",
    [
        {"type": "brand_new_thing"},
        {"p": "/message/nowhere/5/x", "o": "append", "v": "x"},
        {"p": "", "o": "explode", "v": "x"},
        {"p": 7, "o": "append", "v": "x"},
        {"p": "", "o": "patch", "v": "x", "c": 9},
        {"p": "", "o": "patch", "v": [1], "c": 9},
        {"message": {"author": 7}},
        {"message": "text"},
        {"message": {"content": {"parts": 7}}},
        {"conversation_id": 7},
        {},
        "{broken",
    ],
)
def test_an_unknown_event_is_counted_or_ignored_and_breaks_nothing(odd: Any) -> None:
    events = decode([event(odd) + snapshots()])
    assert text(events) == WHOLE
    assert reasons(events) == ["stop"]


@pytest.mark.parametrize(
    ("root", "path", "operation", "value", "after"),
    [
        ({"a": 1}, "", "add", {"b": 2}, {"b": 2}),
        ({"a": 1}, "", "append", {"b": 2}, {"a": 1, "b": 2}),
        ({"a": "x"}, "/a", "append", "y", {"a": "xy"}),
        ({"a": [1]}, "/a", "append", [2], {"a": [1, 2]}),
        ({}, "/a", "append", "y", {"a": "y"}),
        ({"a": [1, 3]}, "/a/1", "add", 2, {"a": [1, 2, 3]}),
        ({"a": [1]}, "/a/-", "add", 2, {"a": [1, 2]}),
        ({"a": [1]}, "/a/1", "append", 2, {"a": [1, 2]}),
        ({"a": [1, 2]}, "/a/0", "remove", None, {"a": [2]}),
        ({"a": 1, "b": 2}, "/a", "remove", None, {"b": 2}),
        ({"a/b": {"c~d": 1}}, "/a~1b/c~0d", "replace", 2, {"a/b": {"c~d": 2}}),
        ({"a": "xyz"}, "/a", "truncate", 1, {"a": "x"}),
        ({"a": [1, 2, 3]}, "/a", "truncate", 1, {"a": [1]}),
        ({"a": 1}, "", "patch", [{"p": "/a", "o": "replace", "v": 2}], {"a": 2}),
    ],
)
def test_patches_do_what_they_say(
    root: Any, path: str, operation: str, value: Any, after: Any
) -> None:
    assert apply(root, path, operation, value) == after


def test_what_sticks_and_what_does_not() -> None:
    """Path, operation and channel stay; the parts of a patch do not change them."""
    patches = stream(
        {"p": "", "o": "add", "v": snapshot(message()), "c": 3},
        {"p": "/message/content/parts/0", "o": "append", "v": "a"},
        {"v": "b"},
        {"o": "patch", "p": "", "v": [{"p": "/message/content/parts/0", "o": "append", "v": "c"}]},
        {"v": [{"p": "/message/content/parts/0", "o": "append", "v": "d"}]},
        {"o": "add", "v": snapshot(ended("abcde")), "c": 3},
    )
    assert text(decode([patches])) == "abcde"


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=300), st.lists(st.integers(0, 2000), max_size=4))
def test_rubbish_is_refused_or_ignored_but_never_a_crash(junk: bytes, cuts: list[int]) -> None:
    for data in (junk, b"data: " + junk + b"\n\n" + snapshots(), snapshots()[:1500] + junk):
        places = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
        try:
            decode(data[a:b] for a, b in itertools.pairwise(places))
        except GatewayError:
            continue


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["v", "p", "o", "c", "message", "content", "parts", "author", "error",
                         "metadata", "status", "id", "type", "content_references", "thoughts"]),
        inner, max_size=5),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(JSON, max_size=6))
def test_json_of_any_shape_is_refused_or_ignored_but_never_a_crash(objects: list[Any]) -> None:
    with contextlib.suppress(GatewayError):
        decode([stream({"p": "", "o": "add", "v": snapshot(message())}, *objects)])
