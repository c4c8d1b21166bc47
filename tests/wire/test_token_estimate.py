"""The estimate of a prompt's tokens, and what is learned of each model."""

import pytest

from app.wire.token_estimate import LearnedFactors, prompt_tokens, text_tokens
from tests.calls import chat_of


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [("", 0, 0), ("x" * 35, 10, 10), ("\u4f60\u597d" * 5, 8, 8), ("a\u4f60", 1.0, 1.2)],
)
def test_a_text_counts_by_its_signs(text, least, most):
    assert least <= text_tokens(text) <= most


def test_every_part_of_a_prompt_counts():
    def of(**more):
        return prompt_tokens(chat_of({"messages": [{"role": "user", "content": "Hi"}]} | more))

    plain = of()
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 90_000}}
    image = of(messages=[{"role": "user", "content": [part]}])
    assert 1600 <= image <= 1700  # whatever its size
    pdf = {"type": "file", "file": {"file_data": "data:application/pdf;base64," + "A" * 140_000}}
    assert 4000 <= of(messages=[{"role": "user", "content": [pdf]}]) <= 4100
    function = {"name": "read", "description": "d" * 70, "parameters": {"x": "y" * 70}}
    assert of(tools=[{"type": "function", "function": function}]) >= plain + 40
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "a" * 350}}
    history = [{"role": "assistant", "content": None, "tool_calls": [call]}]
    assert of(messages=history) >= 100


def test_what_an_upstream_counts_is_learned_within_bounds():
    learned = LearnedFactors()
    assert learned.applied("m", 1000) == 1000
    learned.learn("m", 1000, 1300)
    assert learned.applied("m", 1000) == 1300
    assert learned.applied("other", 1000) == 1000
    learned.learn("m", 1000, 1300_000)
    assert 1300 < learned.applied("m", 1000) <= 1600
    for nothing in ((0, 5), (5, 0)):
        learned.learn("n", *nothing)
    assert learned.applied("n", 1000) == 1000


def test_the_models_that_are_remembered_are_bounded():
    learned = LearnedFactors()
    for number in range(300):
        learned.learn(f"m{number}", 1000, 1300)
    assert learned.applied("m0", 1000) == 1000
    assert learned.applied("m299", 1000) == 1300
