"""Whatever a caller sends, bytes go up or a 400 comes back; tests/fuzz/ asks by the million."""

import random

import pytest

from tests.fuzz import gemini_front, messages


@pytest.mark.parametrize("front", [messages, gemini_front], ids=["messages", "gemini"])
def test_mutated_bodies_are_sent_or_refused(front):
    seen = {outcome for at in range(150) for outcome in front.check(random.Random(f"short/{at}"))}
    assert {"sent", "400"} <= seen
