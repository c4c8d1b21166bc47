"""Which parameters are named as dropped."""

from typing import Any

import pytest

from app.wire.dropped import ALL_BUT_MESSAGES, dropped_parameters
from tests.calls import chat_of

HI = {"role": "user", "content": "Hi"}
MARKED = {
    "role": "user",
    "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}],
}


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({"messages": [HI]}, []),
        ({"messages": [HI], "stop": "x", "temperature": 0, "seed": None}, ["temperature", "stop"]),
        ({"messages": [MARKED], "user": "u"}, ["user", "cache_control"]),
    ],
)
def test_what_the_caller_set_is_named_in_the_tables_order(
    body: dict[str, Any], names: list[str]
) -> None:
    assert dropped_parameters(chat_of(body)) == names


def test_an_upstream_may_take_some_of_them() -> None:
    chat = chat_of({"messages": [HI], "n": 2, "seed": 1})
    kept = [name for name in ALL_BUT_MESSAGES if name != "seed"]
    assert dropped_parameters(chat, kept) == ["n"]


DEFAULTS = {
    "frequency_penalty": 0,
    "presence_penalty": 0.0,
    "logit_bias": {},
    "logprobs": False,
    "top_logprobs": 0,
    "n": 1,
    "stop": [],
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_value_that_says_as_much_as_none_is_not_named(name: str) -> None:
    assert dropped_parameters(chat_of({"messages": [HI], name: DEFAULTS[name]})) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("n", 2), ("stop", "x"), ("logprobs", True), ("top_logprobs", 3), ("presence_penalty", -1)],
)
def test_another_value_of_the_same_is_named(name: str, value: object) -> None:
    assert dropped_parameters(chat_of({"messages": [HI], name: value})) == [name]
