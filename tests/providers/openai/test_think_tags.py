"""Thinking as tagged text, for upstreams whose row says so: told as thinking under every split."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.wire.events import Finish, Reasoning, Text, TokenLogprob, ToolCall
from tests.providers.openai.chat_answers import (
    DONE,
    RECORDINGS,
    chunk,
    comparable,
    outcome,
    read,
    tool,
    whole,
)

END = chunk({}, "stop")
NAME = "think-tags.sse"


def told(texts, *after, n=1):
    """The thinking and the text of an answer in these pieces."""
    stream = b"".join(chunk({"content": text}) for text in texts)
    events = read(stream, *after or (END,), n=n, think_tags=True)
    thinking = "".join(e.text for e in events if isinstance(e, Reasoning))
    kinds = [type(e) for e in events if isinstance(e, Text | Reasoning)]
    assert kinds == sorted(kinds, key=[Reasoning, Text].index)
    return thinking, "".join(e.text for e in events if isinstance(e, Text))


ANSWERS = {
    "<think>hm</think>Hello": ("hm", "Hello"),
    "<thinking>hm</thinking>Hello": ("hm", "Hello"),
    "<think>\nhm\n</think>\n\nHello": ("\nhm\n", "\nHello"),
    "<think>hm</think>\r\nHello": ("hm", "Hello"),
    " \n <think>hm</think>Hello": ("hm", "Hello"),
    "<think></think>Hello": ("", "Hello"),
    "<think>a < b </thin </think>Hello": ("a < b </thin ", "Hello"),
    "<think>a</thinking></think>Hello": ("a</thinking>", "Hello"),
    "<think>hm": ("hm", ""),
    "<think>hm</": ("hm</", ""),
    "<think>hm</think>": ("hm", ""),
    "<think>hm</think>\n": ("hm", ""),
    "<think>a</think><think>b</think>": ("a", "<think>b</think>"),
    "Hello <think>hm</think>": ("", "Hello <think>hm</think>"),
    "hm</think>Hello": ("", "hm</think>Hello"),
    "<thin": ("", "<thin"),
    "<thinner": ("", "<thinner"),
    " \n Hello": ("", " \n Hello"),
    " \n ": ("", " \n "),
    "<b>Hello</b>": ("", "<b>Hello</b>"),
}


@pytest.mark.parametrize("text", ANSWERS)
def test_a_tag_at_the_beginning_is_thinking_under_every_split(text):
    assert told([text]) == ANSWERS[text]
    assert told(list(text)) == ANSWERS[text]
    for at in range(len(text)):
        assert told([text[:at], text[at:]]) == ANSWERS[text], at
    events = read(whole({"content": text}), think_tags=True)
    assert "".join(e.text for e in events if isinstance(e, Reasoning)) == ANSWERS[text][0]


@given(st.lists(st.sampled_from(["<think>", "</think>", "<", "think", ">", "\n", "a"])))
def test_pieces_of_tags_are_told_as_the_whole_is(pieces):
    if not "".join(pieces):
        return
    assert told(pieces) == told(["".join(pieces)])


def test_no_more_is_held_back_than_may_be_a_tag():
    reader = outcome([chunk({"content": "<think>a"})], think_tags=True)[0]
    assert reader[1:] == [Reasoning("a")]
    for text in ("Hello", "<b", "<thinl", "\n" * 300):
        events, _ = outcome([chunk({"content": text})], think_tags=True)
        assert events[1] == Text(text)
    thinking = [chunk({"content": "<think>"}), chunk({"content": "a <"}), chunk({"content": "b"})]
    assert outcome(thinking, think_tags=True)[0][1:] == [Reasoning("a "), Reasoning("<b")]


def test_each_choice_has_its_own_beginning():
    stream = chunk({"content": "<think>a"}) + chunk({"content": "<think>b</think>c"}, index=1)
    stream += chunk({"content": "</think>d"}) + END + chunk({}, "stop", index=1)
    found = [e for e in read(stream, n=2, think_tags=True) if isinstance(e, Text | Reasoning)]
    assert found == [Reasoning("a"), Reasoning("b", 1), Text("c", 1), Text("d")]


def test_what_is_held_back_comes_before_a_call():
    stream = chunk({"content": "<th"}) + tool("{}", name="f", index=0, id="a")
    events = read(stream + chunk({}, "tool_calls"), think_tags=True)[1:]
    assert events[:2] == [Text("<th"), ToolCall("a", "f", "{}")]
    stream = chunk({"content": "<think>a</t"}) + tool("{}", name="f", index=0, id="a") + END
    assert read(stream, think_tags=True)[1:3] == [Reasoning("a"), Reasoning("</t")]


def test_what_is_held_back_is_told_before_a_cut_and_counts_as_said():
    events, error = outcome([chunk({"content": "<th"})], think_tags=True)
    assert events[1:] == [Text("<th")] and error is not None and error.code == "upstream_cut"
    assert read(chunk({"content": "<th"}) + DONE, think_tags=True)[1:] == [
        Text("<th"),
        Finish("stop"),
    ]


def test_logprobs_stay_with_the_text_and_not_with_the_thinking():
    def said(text):
        token = {"token": text, "logprob": -0.5}
        return chunk({"content": text}, choice_logprobs={"content": [token]})

    stream = said("<think>") + said("a") + said("</think>") + said("\n") + said("b") + END
    events = read(stream, think_tags=True)[1:-1]
    assert events == [Reasoning("a"), Text("b", logprobs=[TokenLogprob("b", -0.5)])]
    stream = said("<") + said("b") + END
    probable = [TokenLogprob(t, -0.5) for t in "<b"]
    assert read(stream, think_tags=True)[1:-1] == [Text("<b", logprobs=probable)]


@pytest.mark.parametrize("name", sorted(set(RECORDINGS) - {NAME}))
def test_other_recorded_answers_are_told_as_ever(name):
    n = 3 if "n3" in name else 1
    assert comparable(outcome([RECORDINGS[name]], n, think_tags=True)) == comparable(
        outcome([RECORDINGS[name]], n)
    )


def test_the_recorded_answer_shows_no_tag_under_any_split():
    data = RECORDINGS[NAME]
    plain = "".join(e.text for e in read(data) if isinstance(e, Text))
    thinking, _, text = plain.removeprefix("<think>").partition("</think>")
    for size in (1, 7, 100, len(data)):
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        events = read(*pieces, think_tags=True)
        assert "".join(e.text for e in events if isinstance(e, Reasoning)) == thinking
        assert "".join(e.text for e in events if isinstance(e, Text)) == text.removeprefix("\n")
