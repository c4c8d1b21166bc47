"""OpenAI's endpoints beside chat: what is read of their bodies, and what becomes of the answers."""

import json
from array import array
from base64 import b64decode, b64encode

import pytest

from app.fronts.openai_endpoints.copied import Copied
from app.fronts.openai_endpoints.embeddings import Embeddings
from app.wire.endpoints import ENDPOINTS, FORMS
from app.wire.errors import GatewayError
from app.wire.events import Usage
from app.wire.front import Incoming
from app.wire.multipart import form_data
from tests.calls import FRONTS, answering, asked_of
from tests.recorded import recorded

RECORDED = json.loads((recorded("openai-compatible") / "embeddings.json").read_bytes())
FLOATS = ("mistral", "openrouter", "azure-foundry-cohere")
TEXTS = ("perplexity-int8", "voyage", "vllm-2024-float64")


def of(name) -> bytes:
    return json.dumps(RECORDED[name]["body"]).encode()


def wants(encoding_format) -> bytes:
    return json.dumps({"input": "x", "encoding_format": encoding_format}).encode()


def in_asked_format(body: bytes, asked: bytes, at: int = 0) -> bytes:
    """What the caller gets of an answer, which came in two pieces."""
    renderer = Embeddings(answering(body=json.loads(asked)))
    renderer.labelled("application/json")
    assert renderer.feed(body[:at]) + renderer.feed(body[at:]) == b""
    return renderer.finish()


def vectors(body: bytes):
    return [one["embedding"] for one in json.loads(body)["data"]]


@pytest.mark.parametrize("name", FLOATS)
def test_a_recorded_list_of_numbers_is_base64_where_that_was_asked_for(name):
    found = in_asked_format(of(name), wants("base64"))
    for text, numbers in zip(vectors(found), vectors(of(name)), strict=True):
        assert array("f", b64decode(text)).tolist() == pytest.approx(numbers, rel=1e-6)
    rest, before = json.loads(found), json.loads(of(name))
    for one in (*rest["data"], *before["data"]):
        del one["embedding"]
    assert rest == before


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        (name, asked)
        for name in RECORDED
        for asked in ("float", "base64", None, "base64_int8", 5)
        if not (asked == "base64" and name in FLOATS)  # the test above
    ],
)
def test_a_recorded_answer_in_the_asked_format_or_an_odd_one_passes_as_it_came(name, asked):
    body = of(name)
    assert in_asked_format(body, wants(asked)) == body


def test_bytes_that_cannot_be_float32_are_numbers_where_those_were_asked_for():
    odd = json.loads(of("perplexity-int8"))
    odd["data"][0]["embedding"] = b64encode(bytes([1, 255, 0, 128, 127])).decode()
    body = json.dumps(odd).encode()
    assert vectors(in_asked_format(body, wants("float"))) == [[1, -1, 0, -128, 127]]
    assert in_asked_format(body, wants(None)) == body


@pytest.mark.parametrize(
    "body",
    [
        b'{"data":[{"embedding":[[1,2],[3]]}]}',
        b'{"object":"list"}',
        b'{"data":[{"values":[1,2],"embedding":{"int8":[1]}}]}',
        b'{"data":[{"embedding":[[]]}],"x":[1,2]}',
    ],
)
def test_an_answer_of_another_shape_passes_as_it_came(body):
    assert in_asked_format(body, wants("base64")) == body


def test_every_split_gives_the_same():
    body = of("openrouter")
    whole = in_asked_format(body, wants("base64"))
    assert whole != body
    for at in range(len(body)):
        assert in_asked_format(body, wants("base64"), at) == whole


def test_a_list_of_embeddings_tells_its_usage():
    for wanted in ("base64", "float"):
        renderer = Embeddings(answering(body=json.loads(wants(wanted))))
        renderer.labelled("application/json")
        renderer.feed(of("openrouter"))
        renderer.finish()
        assert renderer.usage.prompt_tokens == 7


@pytest.mark.parametrize("body", [b"not json", b"", b'{"data":[{"embedding":[1,2]'])
@pytest.mark.parametrize("asked", ["float", "base64"])
def test_what_is_no_json_is_a_502(body, asked):
    with pytest.raises(GatewayError) as caught:
        in_asked_format(body, wants(asked))
    assert (caught.value.status, caught.value.code) == (502, "upstream_bad_response")


def test_a_list_of_embeddings_above_the_limit_is_a_502():
    for asked in ("float", "base64"):
        renderer = Embeddings(answering(body=json.loads(wants(asked)), max_bytes=10))
        with pytest.raises(GatewayError):
            renderer.feed(b'{"data":[' + b" " * 10)


@pytest.mark.parametrize("is_stream", [True, False])
def test_an_answer_of_any_type_is_copied(is_stream):
    told = answering(body={"stream": is_stream})
    renderer = Copied(told)
    assert renderer.content_type == "application/octet-stream"
    renderer.labelled("audio/mpeg")
    out = [renderer.feed(b"\xff\xfb"), renderer.feed(b"\x00"), renderer.finish()]
    assert out == ([b"\xff\xfb", b"\x00", b""] if is_stream else [b"", b"", b"\xff\xfb\x00"])
    assert renderer.content_type == "audio/mpeg" and renderer.usage is None


def test_events_and_json_tell_their_usage():
    renderer = Copied(answering(body={"stream": True}))
    renderer.labelled("text/event-stream")
    renderer.feed(b'data: {"type":"speech.audio.done","usage":{"input_tokens":3,')
    renderer.feed(b'"output_tokens":9}}\n\n')
    assert renderer.usage == Usage(3, 9)


def test_a_cut_answer_and_one_above_the_limit_are_errors():
    renderer = Copied(answering(max_bytes=3))
    renderer.feed(b"abc")
    with pytest.raises(GatewayError) as caught:
        renderer.finish(is_cut=True)
    assert caught.value.code == "upstream_cut"
    with pytest.raises(GatewayError) as caught:
        renderer.feed(b"d")
    assert caught.value.code == "upstream_bad_response"


def test_each_endpoint_has_a_front_and_no_stream_of_bytes_has_room_for_words():
    fronts = {front.endpoint: front for front in FRONTS.values() if front.endpoint}
    assert set(fronts) == set(ENDPOINTS)
    for endpoint, front in fronts.items():
        assert [route.path for route in front.routes] == [f"/c/v1/{endpoint}"]
        is_text = endpoint == "completions"
        assert (front.error_event is not None) is bool(front.keep_alive) is is_text


def form_asked(*fields, content_type="multipart/form-data; boundary=b"):
    body = form_data("b", fields)
    headers = {"content-type": content_type}
    front = FRONTS["openai-audio-transcriptions"]
    return front.glance(Incoming(path="/", params={}, query="", headers=headers, body=body))


FILE = ('name="file"; filename="a.wav"', "audio/wav", b"RIFF" * 100)


def test_a_form_says_its_model_and_the_sound_counts_for_no_tokens():
    asked = form_asked(('name="model"', "", b"lab/whisper"), FILE, ('name="stream"', "", b"true"))
    assert (asked.model, asked.provider, asked.stream) == ("lab/whisper", None, True)
    assert asked.own_names == () and asked.text_bytes == len(asked.body) - 400
    asked = form_asked(FILE, ('name="provider"', "", b"groq"))
    assert (asked.model, asked.provider, asked.stream) == ("", "groq", False)
    assert asked.own_names == ("provider",)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ([('name="model"', "", b"a"), ('name="model"', "", b"b")], "model"),
        ([('name="Model"', "", b"a")], "model"),
        ([('name="model"; filename="m"', "", b"a")], "model"),
        ([('name="model"', "", b"\xff")], "model"),
        ([('name="provider"', "", b"a"), ('name="PROVIDER"', "", b"b")], "provider"),
    ],
)
def test_a_second_model_in_a_form_is_refused(fields, param):
    with pytest.raises(GatewayError) as caught:
        form_asked(FILE, *fields)
    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize("endpoint", sorted(set(ENDPOINTS) - FORMS))
def test_a_json_body_is_glanced_at_as_a_chats(endpoint):
    front = FRONTS["openai-" + endpoint.replace("/", "-")]
    asked = asked_of({"model": "gemini/x", "provider": "lab", "gemini": {"title": "t"}}, front)
    assert (asked.model, asked.provider) == ("gemini/x", "lab")
    assert set(asked.own_names) == {"provider", "gemini"}
    assert json.loads(asked.carried()) == {"model": "gemini/x"}
