"""A few hundred of the fuzzer's cases, and properties that hold for any answer."""

import json
import random
from itertools import pairwise
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.wire.events import Finish, Reasoning, Text
from tests.fuzz.gemini import REQUESTS, decoder_seeds, fuzz_decoder, fuzz_request
from tests.providers.gemini.calls import chunk, decode, sse

PIECES = st.lists(st.tuples(st.text(), st.booleans()), max_size=5)


@settings(max_examples=100, deadline=None)
@given(answer=st.lists(PIECES, min_size=1, max_size=5), cuts=st.lists(st.integers(0, 3000)))
def test_any_text_survives_in_every_transport_and_split(answer: list[Any], cuts: list[int]) -> None:
    chunks = [chunk(*({"text": t, "thought": thought} for t, thought in ps)) for ps in answer]
    chunks.append(chunk(finish="STOP"))
    told = [t for pieces in answer for t, thought in pieces if t and not thought]
    thought = [t for pieces in answer for t, thought in pieces if t and thought]
    for data in (
        sse(*chunks),
        json.dumps(chunks, indent=2).encode(),
        json.dumps(chunks, ensure_ascii=False).encode(),
    ):
        at = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
        pieces = [data[a:b] for a, b in pairwise(at)]
        events = decode(*pieces)
        assert [e.text for e in events if isinstance(e, Text)] == told
        assert [e.text for e in events if isinstance(e, Reasoning)] == thought
        assert events[-1] == Finish("stop")


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_damaged_answer_gives_events_or_an_error_whatever_the_split(seed: int) -> None:
    fuzz_decoder(random.Random(seed), SEEDS)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32))
@example(seed=1121)  # broken UTF-8 inside response_format
def test_a_damaged_request_gives_json_or_a_400(seed: int) -> None:
    fuzz_request(random.Random(seed), REQUESTS)


SEEDS = decoder_seeds()
