"""OpenAI's embeddings in Gemini's words, and its answers in OpenAI's."""

import json
import math
from array import array
from base64 import b64decode
from itertools import pairwise

import pytest

from app.config.schema import Config, Limits
from app.wire.asked import Asked
from app.wire.errors import GatewayError
from app.wire.events import Piece, Usage
from app.wire.provider import Call, Key
from providers.gemini import api
from providers.gemini.embeddings import EmbeddingsDecoder, batch_body, converted, read
from tests.calls import FRONTS, asked_of
from tests.recorded import recorded

FRONT = FRONTS["openai-embeddings"]
RECORDED = (recorded("gemini") / "embeddings-batch.json").read_bytes()
VALUES = json.loads(RECORDED)["embeddings"][0]["values"]
M1, M2 = "models/gemini-embedding-001", "models/gemini-embedding-2"


def asked(**members) -> Asked:
    return asked_of({"model": "gemini-embedding-001", "input": "hi"} | members, FRONT)


def requests(model=M1, **members):
    found = read(asked(**members))
    return [json.loads(batch_body(found, texts, model))["requests"] for texts in found.batches()]


def call(learned=None, config=None, **members) -> Call:
    front = asked(**members)
    return Call(
        config=config or Config(),
        asked=front,
        chat=read(front),
        key=Key(api.POOL, "1", "AIza-key"),
        model=front.model,
        stream=False,
        headers={},
        now=1,
        new_id=lambda: "i",
        learned=learned,
    )


def answer(replies, **members):
    """The answer's body, and the events beside it."""
    *before, last = replies
    how = 1 << 20, "dimensions" in members, members.get("encoding_format") == "base64"
    decoder = EmbeddingsDecoder(call([converted(each, *how) for each in before], **members))
    events = [*decoder.feed(last), *decoder.finish()]
    assert isinstance(events[0], Piece)
    return json.loads(events[0].data), events[1:]


def reply(vectors, tokens=None) -> bytes:
    usage = {} if tokens is None else {"usageMetadata": {"promptTokenCount": tokens}}
    return json.dumps({"embeddings": [{"values": v} for v in vectors]} | usage).encode()


def test_a_text_is_the_recorded_request():
    (batch,) = requests(M2, input="Some text goes here", dimensions=768)
    assert batch == [
        {
            "model": M2,
            "content": {"parts": [{"text": "Some text goes here"}]},
            "outputDimensionality": 768,
        }
    ]


def test_two_hundred_and_fifty_texts_are_three_batches_in_order():
    texts = [f"text {n}" for n in range(250)]
    batches = requests(input=texts)
    assert [len(batch) for batch in batches] == [100, 100, 50]
    assert [one["content"]["parts"][0]["text"] for batch in batches for one in batch] == texts


@pytest.mark.parametrize(
    ("options", "older", "newer"),
    [
        ({}, {}, "hi"),
        (
            {"task_type": "retrieval_query"},
            {"taskType": "RETRIEVAL_QUERY"},
            "task: search result | query: hi",
        ),
        (
            {"task_type": "RETRIEVAL_DOCUMENT", "title": "T"},
            {"taskType": "RETRIEVAL_DOCUMENT", "title": "T"},
            "title: T | text: hi",
        ),
        (
            {"task_type": "RETRIEVAL_DOCUMENT"},
            {"taskType": "RETRIEVAL_DOCUMENT"},
            "title: none | text: hi",
        ),
        (
            {"task_type": "SEMANTIC_SIMILARITY"},
            {"taskType": "SEMANTIC_SIMILARITY"},
            "task: sentence similarity | query: hi",
        ),
        ({"task_type": "NEW_ONE"}, {"taskType": "NEW_ONE"}, "hi"),
    ],
)
def test_the_task_is_a_member_or_the_beginning_of_the_text(options, older, newer):
    ((one,),) = requests(M1, gemini=options)
    assert one == {"model": M1, "content": {"parts": [{"text": "hi"}]}} | older
    ((one,),) = requests(M2, gemini=options)
    assert one == {"model": M2, "content": {"parts": [{"text": newer}]}}


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"input": [1, 2, 3]}, "input"),
        ({"input": [[1, 2], [3]]}, "input"),
        ({"input": ["a", 1]}, "input"),
        ({"input": []}, "input"),
        ({"input": None}, "input"),
        ({"input": 5}, "input"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": "many"}, "dimensions"),
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"gemini": {"task_type": 1}}, "gemini.task_type"),
    ],
)
def test_what_gemini_cannot_be_asked_is_a_400_that_names_the_member(members, param):
    with pytest.raises(GatewayError) as caught:
        read(asked(**members))
    told = caught.value
    assert (told.status, told.code, told.param) == (400, "invalid_parameter", param)


def test_a_user_is_dropped_and_named_and_the_key_is_in_no_url():
    asking = call(user="u-1")
    request = api.embeddings_request(asking)
    assert asking.dropped == ["user"]
    assert request.url.endswith("/v1beta/models/gemini-embedding-001:batchEmbedContents")
    assert ("x-goog-api-key", "AIza-key") in request.headers and "AIza" not in request.url
    assert b"u-1" not in request.body


def test_the_recorded_answer_is_openais_list():
    body, events = answer([RECORDED])
    assert body == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": VALUES}],
        "model": "gemini-embedding-001",
        "usage": {"prompt_tokens": 4, "total_tokens": 4},
    }
    assert events == [Usage(4, 0, 4)]


def test_the_recorded_answer_in_base64_has_the_same_numbers():
    body, _ = answer([RECORDED], encoding_format="base64", dimensions=768)
    packed = array("f", b64decode(body["data"][0]["embedding"]))
    assert packed.tolist() == pytest.approx(VALUES, rel=1e-6)


def test_every_split_of_the_recorded_answer_gives_the_same():
    whole = [Piece(data=b"")]
    for size in (1, 7, 997, len(RECORDED)):
        decoder = EmbeddingsDecoder(call([]))
        for start, end in pairwise([*range(0, len(RECORDED), size), len(RECORDED)]):
            assert list(decoder.feed(RECORDED[start:end])) == []
        events = decoder.finish()
        whole = whole if whole[0].data else events
        assert events == whole


def test_the_batches_are_joined_in_order_and_their_tokens_add_up():
    replies = [reply([[float(n)] for n in range(at, at + 100)], 7) for at in (0, 100)]
    replies.append(reply([[float(n)] for n in range(200, 250)], 3))
    body, events = answer(replies, input=["x"] * 250)
    assert [(one["index"], one["embedding"]) for one in body["data"]] == [
        (n, [float(n)]) for n in range(250)
    ]
    assert body["usage"]["prompt_tokens"] == 17 and events == [Usage(17, 0, 17)]


def test_without_usage_the_body_says_0_and_the_engine_guesses():
    body, events = answer([reply([[1.0]])])
    assert body["usage"] == {"prompt_tokens": 0, "total_tokens": 0} and events == []


def test_a_shortened_vector_gets_length_1_and_a_whole_one_keeps_its_digits():
    short = [value * 0.58 for value in VALUES]
    body, _ = answer([reply([short])], dimensions=768)
    found = body["data"][0]["embedding"]
    assert math.hypot(*found) == pytest.approx(1) and found == pytest.approx(VALUES, rel=1e-5)
    body, _ = answer([b'{"embeddings":[{"values":[0.10, 2e-1]}]}'])
    assert body["data"][0]["embedding"] == [0.1, 0.2]


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        RECORDED.rstrip()[:-1],
        b"[]",
        b'{"embeddings":null}',
        b'{"embeddings":[]}',
        reply([[1.0], [2.0]]),
        b'{"embeddings":[{"values":["a"]}]}',
        b'{"embeddings":[{"values":[1e400]}]}',
        b'{"embeddings":[{"values":[1,,2]}]}',
        b'{"embeddings":[{"values":5}]}',
        b'{"embeddings":[{}]}',
    ],
)
def test_an_answer_that_is_not_one_vector_for_each_text_is_a_502(broken):
    decoder = EmbeddingsDecoder(call([], encoding_format="base64"))
    with pytest.raises(GatewayError) as caught:
        decoder.feed(broken)
        decoder.finish()
    assert (caught.value.status, caught.value.code) == (502, "upstream_bad_response")


def test_a_broken_answer_to_an_earlier_batch_is_a_502():
    with pytest.raises(GatewayError) as caught:
        answer([b"{", reply([[1.0]])], input=["x"] * 101)
    assert caught.value.status == 502


def test_an_answer_above_the_limit_is_a_502():
    config = Config(limits=Limits(response_bytes=100))
    decoder = EmbeddingsDecoder(call([], config))
    decoder.feed(b"x" * 100)
    with pytest.raises(GatewayError) as caught:
        decoder.feed(b"x")
    assert caught.value.status == 502
