"""OpenAI's endpoints beside chat through the running gateway, with the official client."""

import base64
import hashlib
import json
import math
import socket
from array import array

import httpx
import openai
import pytest

from app.wire.multipart import read_form
from tests.server.conftest import config_for
from tests.server.running import Running
from tests.server.scripted_upstream import ScriptedUpstream

GEMINI = {"g1": "AIza-operators-one", "g2": "AIza-operators-two"}
TOKEN, NARROW = "everything-0123456789-token", "narrow-0123456789-token"


@pytest.fixture(scope="module")
def scripted():
    upstream = ScriptedUpstream()
    yield upstream
    upstream.stop()


@pytest.fixture(scope="module")
def gateway(simulator, scripted, tmp_path_factory):
    """OpenAI, Gemini and two hosts of OpenAI's wire: the simulator's, and a scripted one."""
    host = {"api_url": f"{simulator.url}/openai/v1", "models": ["lab-embed"]}
    config = config_for(simulator.url) | {
        "google_gemini": {
            "api_url": f"{simulator.url}/gemini",
            "api_keys": [{"id": i, "val": v} for i, v in GEMINI.items()],
        },
        "claude": {
            "api_url": f"{simulator.url}/claude",
            "api_keys": [{"id": "c", "val": "sk-ant-api03-c-1111"}],
        },
        "upstreams": [
            {"name": "lab", "api_keys": [{"id": "l", "val": "sk-lab-1111"}], **host},
            {"name": "own", "api_url": f"{scripted.url}/v1", "api_keys": []},
        ],
        "models": {
            "embed": ["gemini/gemini-embedding-001"],
            "vectors": ["lab/text-embedding-3-large"],
            "ears": ["own/whisper"],
        },
        "fallbacks": {"sim-503": ["claude/claude-sonnet-4-5", "lab/text-embedding-3-small"]},
        "access": {
            "tokens": [
                {"id": "all", "val": TOKEN},
                {
                    "id": "narrow",
                    "val": NARROW,
                    "providers": ["gemini", "own"],
                    "models": ["embed"],
                },
            ]
        },
    }
    running = Running(tmp_path_factory.mktemp("endpoints"), config)
    yield running.wait()
    assert running.stop() == 0


def client_of(gateway, token=TOKEN):
    return openai.OpenAI(base_url=f"{gateway.url}/c/v1", api_key=token, max_retries=0)


@pytest.fixture(scope="module")
def client(gateway):
    return client_of(gateway)


def last(simulator, path):
    return httpx.get(f"{simulator.url}/_sim/last", params={"path": path}).json()[-1]


def log_line(gateway, response, **having):
    (line,) = gateway.wait_log(request_id=response.headers["x-request-id"], **having)
    return line


# Embeddings


@pytest.mark.parametrize(
    "model", ["text-embedding-3-small", "lab/text-embedding-3-small", "lab-embed"]
)
def test_embeddings_are_the_same_by_default_and_as_numbers(client, model):
    by_default = client.embeddings.create(model=model, input=["a b", "c"])
    floats = client.embeddings.create(model=model, input=["a b", "c"], encoding_format="float")
    assert [one.index for one in by_default.data] == [0, 1]
    for one, other in zip(by_default.data, floats.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
    assert by_default.usage.prompt_tokens == 3 and by_default.model == model.removeprefix("lab/")


def test_token_ids_go_to_openai_and_are_refused_for_gemini(client):
    found = client.embeddings.create(model="text-embedding-3-small", input=[[1, 2], [3]])
    assert len(found.data) == 2
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="gemini/gemini-embedding-001", input=[[1, 2], [3]])
    assert (caught.value.code, caught.value.param) == ("invalid_parameter", "input")
    assert "token ids" in caught.value.message


@pytest.mark.parametrize("encoding_format", [openai.omit, "float", "base64"])
def test_gemini_embeds_250_texts_of_768_dimensions_in_order_and_of_length_1(
    client, gateway, encoding_format
):
    texts = [f"text number {n}" for n in range(250)]
    raw = client.embeddings.with_raw_response.create(
        model="gemini-embedding-001",
        input=texts,
        dimensions=768,
        encoding_format=encoding_format,
        user="someone",
    )
    found = raw.parse().data
    if encoding_format == "base64":
        for one in found:
            one.embedding = array("f", base64.b64decode(one.embedding)).tolist()
    assert [one.index for one in found] == list(range(250))
    for one in found:
        assert len(one.embedding) == 768
        assert math.hypot(*one.embedding) == pytest.approx(1, abs=1e-5)
    alone = [
        client.embeddings.create(model="gemini-embedding-001", input=text, dimensions=768)
        for text in (texts[0], texts[100], texts[249])
    ]
    for one, place in zip(alone, (0, 100, 249), strict=True):
        assert one.data[0].embedding == pytest.approx(found[place].embedding, abs=1e-6)
    assert raw.headers["x-gateway-dropped-params"] == "user"
    assert raw.headers["x-auth-id"] in GEMINI
    line = log_line(gateway, raw, provider="gemini-api", front="openai-embeddings")
    assert line["prompt_tokens"] == line["bytes_in"] // 4 and not line.get("completion_tokens")


def test_gemini_counts_tokens_where_the_model_does(client, gateway):
    raw = client.embeddings.with_raw_response.create(model="gemini-embedding-2", input=["a", "b"])
    assert raw.parse().usage.prompt_tokens == 8
    assert log_line(gateway, raw)["prompt_tokens"] == 8


def test_a_bad_key_of_geminis_is_told_for_any_batch(gateway):
    for texts in (["a"], ["a"] * 101):
        answer = httpx.post(
            f"{gateway.url}/c/v1/embeddings",
            headers={"x-access-token": TOKEN, "x-goog-api-key": "AIza-bad"},
            json={"model": "gemini/gemini-embedding-001", "input": texts},
        )
        assert answer.status_code == 401, answer.text
        assert answer.json()["error"]["code"] == "invalid_api_key"


REFUSED = {"error": {"message": "base64 encoding is not supported", "type": "BadRequestError"}}
VECTOR = [0.25, -0.5, 1.0]
EMBEDDED = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": VECTOR}],
    "model": "e5",
    "usage": {"prompt_tokens": 2, "total_tokens": 2},
}
JSON = {"content-type": "application/json"}


def test_base64_by_default_against_an_upstream_that_refuses_it(client, scripted):
    ok = {"status": 200, "headers": JSON, "body": EMBEDDED}
    scripted.script([{"status": 400, "headers": JSON, "body": REFUSED}, ok, ok])
    for _ in range(2):
        assert client.embeddings.create(model="own/e5", input="hi").data[0].embedding == VECTOR
    asked = [one.json()["encoding_format"] for one in scripted.asked]
    assert asked == ["base64", "float", "float"]
    assert {one.json()["model"] for one in scripted.asked} == {"e5"}


def test_base64_from_an_upstream_that_ignores_the_wish(gateway, scripted):
    scripted.script([{"status": 200, "headers": JSON, "body": EMBEDDED}])
    answer = httpx.post(
        f"{gateway.url}/c/v1/embeddings",
        headers={"authorization": f"Bearer {TOKEN}"},
        json={"model": "own/numbers", "input": "hi", "encoding_format": "base64"},
    )
    assert answer.json()["data"][0]["embedding"] == "AACAPgAAAL8AAIA/"


# The other endpoints


def test_text_completions_whole_and_streamed(client, gateway):
    whole = client.completions.create(model="lab/gpt-3.5-turbo", prompt="blue moon")
    assert whole.choices[0].text == " You said: blue moon" and whole.usage.total_tokens == 6
    raw = client.completions.with_raw_response.create(
        model="openai/gpt-3.5-turbo",
        prompt="blue moon",
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(raw.parse())
    assert "".join(c.choices[0].text for c in chunks if c.choices) == " You said: blue moon"
    assert chunks[-1].usage.completion_tokens == 4
    line = log_line(gateway, raw, stream=True, front="openai-completions")
    assert (line["prompt_tokens"], line["completion_tokens"]) == (2, 4)


def test_a_completion_that_breaks_off_is_an_error_event(client):
    stream = client.completions.create(model="sim-cut-after-2", prompt="a b c d", stream=True)
    with pytest.raises(openai.APIError) as caught:
        list(stream)
    assert caught.value.code == "upstream_cut"


def test_pictures_whole_and_streamed(client, gateway):
    whole = client.images.generate(model="lab/gpt-image-1", prompt="a cat", n=2)
    assert len(whole.data) == 2 and whole.usage.output_tokens == 272
    raw = client.images.with_raw_response.generate(
        model="gpt-image-1", prompt="a cat", stream=True, partial_images=2
    )
    events = list(raw.parse())
    assert [event.type for event in events] == [
        "image_generation.partial_image",
        "image_generation.partial_image",
        "image_generation.completed",
    ]
    assert events[-1].b64_json == whole.data[0].b64_json
    assert log_line(gateway, raw, stream=True)["completion_tokens"] == 272


def test_moderations_need_no_model(client):
    found = client.moderations.create(input=["kill", "love"])
    assert [one.flagged for one in found.results] == [True, False]


def test_rerank(gateway, client):
    found = client.post(
        "/rerank",
        cast_to=httpx.Response,
        body={"model": "lab/bge", "query": "a b", "documents": ["c", "a b"], "top_n": 1},
    ).json()
    assert [one["index"] for one in found["results"]] == [1] and found["model"] == "bge"


def test_speech_is_a_stream_of_sound(client, gateway):
    with client.audio.speech.with_streaming_response.create(
        model="lab/gpt-4o-mini-tts", voice="alloy", input="one two three"
    ) as response:
        sound = b"".join(response.iter_bytes())
    expected = [hashlib.shake_256(w).digest(16384) for w in (b"one", b"two", b"three")]
    assert sound == b"".join(expected)
    assert response.headers["content-type"] == "audio/mpeg"
    assert log_line(gateway, response, stream=True)["bytes_out"] == 3 * 16384


def test_speech_that_breaks_off_does_not_look_whole(gateway):
    body = {"model": "sim-cut-after-2", "voice": "alloy", "input": "one two three four"}
    got = b""
    with (
        pytest.raises(httpx.RemoteProtocolError),
        httpx.stream(
            "POST",
            f"{gateway.url}/c/v1/audio/speech",
            headers={"authorization": f"Bearer {TOKEN}"},
            json=body,
        ) as answer,
    ):
        for piece in answer.iter_bytes():
            got += piece
    assert got.startswith(hashlib.shake_256(b"one").digest(16384)) and b"upstream_cut" not in got
    (line,) = gateway.wait_log(request_id=answer.headers["x-request-id"])
    assert (line["outcome"], line["code"]) == ("upstream_cut", "upstream_cut")


SOUND = bytes(range(256)) * 4096  # 1 MiB that looks like JSON with too many values to no one


def test_a_transcription_is_sent_with_the_model_the_upstream_knows(client, scripted):
    scripted.script([{"status": 200, "headers": JSON, "body": {"text": "hello"}}])
    found = client.audio.transcriptions.create(
        model="ears", file=("a b.wav", SOUND, "audio/wav"), language="en"
    )
    assert found.text == "hello"
    (asked,) = scripted.asked
    fields = read_form(asked.body, asked.headers["content-type"])
    texts = {field.name: field.value for field in fields if not field.file}
    assert texts == {"model": b"whisper", "language": b"en"}
    (file,) = [field for field in fields if field.file]
    assert file.value == SOUND and file.file == '; filename="a b.wav"'
    assert asked.target == "/v1/audio/transcriptions"


def test_transcriptions_and_translations_in_json_and_as_text(client, gateway):
    heard = f"You sent {len(SOUND)} bytes with sha256 {hashlib.sha256(SOUND).hexdigest()}."
    file = ("a.mp3", SOUND, "audio/mpeg")
    raw = client.audio.transcriptions.with_raw_response.create(model="whisper-1", file=file)
    assert raw.parse().text == heard
    line = log_line(gateway, raw, provider="openai-api", model="whisper-1")
    assert line["prompt_tokens"] < 200  # of the fields beside the sound
    found = httpx.post(
        f"{gateway.url}/c/v1/audio/translations",
        headers={"authorization": f"Bearer {TOKEN}"},
        data={"model": "lab/w", "response_format": "text"},
        files={"file": file},
    )
    assert found.text == f"{heard}\n" and found.headers["content-type"].startswith("text/plain")


def test_a_form_that_is_none_is_a_400(gateway):
    answer = httpx.post(
        f"{gateway.url}/c/v1/audio/transcriptions",
        headers={"authorization": f"Bearer {TOKEN}"},
        json={"model": "whisper-1"},
    )
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "invalid_form"


# What they share with chat


def test_a_key_is_named_by_its_id(client):
    for key in ("k1", "k2"):
        raw = client.embeddings.with_raw_response.create(
            model="text-embedding-3-small", input="x", extra_headers={"x-auth-id": key}
        )
        assert raw.headers["x-auth-id"] == key
    with pytest.raises(openai.AuthenticationError):
        client.moderations.create(input="x", extra_headers={"x-auth-id": "nobody"})


def test_a_callers_own_key_goes_to_openai(gateway, simulator):
    own = openai.OpenAI(
        base_url=f"{gateway.url}/c/v1",
        api_key="sk-own-1234",
        max_retries=0,
        default_headers={"x-access-token": TOKEN},
    )
    own.moderations.create(input="x")
    assert last(simulator, "/openai/v1/moderations")["key"] == "sk-own-1234"


def test_an_alias_leads_to_its_target_and_holds_for_a_token(gateway):
    narrow = client_of(gateway, NARROW)
    raw = narrow.embeddings.with_raw_response.create(model="embed", input="x")
    assert raw.headers["x-gateway-model"] == "gemini/gemini-embedding-001"
    assert raw.parse().model == "embed" and len(raw.parse().data[0].embedding) == 3072
    raw = client_of(gateway).embeddings.with_raw_response.create(model="vectors", input="x")
    assert raw.headers["x-gateway-model"] == "lab/text-embedding-3-large"
    assert raw.parse().model == "vectors" and len(raw.parse().data[0].embedding) == 3072
    for model in ("gemini/gemini-embedding-001", "text-embedding-3-small", "own/x"):
        with pytest.raises(openai.PermissionDeniedError):
            narrow.embeddings.create(model=model, input="x")
    with pytest.raises(openai.PermissionDeniedError):
        narrow.audio.transcriptions.create(model="whisper-1", file=("a.wav", b"RIFF"))
    with pytest.raises(openai.BadRequestError):
        narrow.post(
            "/embeddings",
            cast_to=httpx.Response,
            content=b'{"model":"own/x","input":"x","model":"embed"}',
            options={"headers": {"content-type": "application/json"}},
        )


def test_another_key_answers_before_the_first_byte(simulator, tmp_path):
    keys = [{"id": "dead", "val": "sk-bad-1111"}, {"id": "good", "val": "sk-good-1111"}]
    config = {"openai": {"api_url": f"{simulator.url}/openai", "api_keys": keys}}
    running = Running(tmp_path, config)
    try:
        client = client_of(running.wait(), "pool")
        for _ in range(12):
            raw = client.audio.transcriptions.with_raw_response.create(
                model="whisper-1", file=("a.wav", b"RIFF")
            )
            assert raw.headers["x-auth-id"] == "good"
        assert running.wait_lines(lambda lines: any(line.get("tried") for line in lines))
    finally:
        running.stop()


def test_a_fallback_answers_if_it_has_the_endpoint(client):
    raw = client.embeddings.with_raw_response.create(model="sim-503", input="x")
    assert raw.headers["x-gateway-model"] == "lab/text-embedding-3-small"


def test_who_has_no_such_endpoint_says_who_has(client):
    with pytest.raises(openai.InternalServerError) as caught:
        client.embeddings.create(model="claude/claude-sonnet-4-5", input="x")
    told = caught.value
    assert (told.status_code, told.code) == (501, "not_supported")
    assert "openai, gemini, lab, own" in told.message and "/claude/api/" in told.message


def test_a_refusal_of_the_upstream_is_told_as_it_is(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.images.generate(model="missing-model", prompt="x")
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(model="gpt-image-1", prompt="")
    assert caught.value.param == "prompt"


def test_metrics_count_each_endpoint(gateway, client):
    client.moderations.create(input="x")
    labels = 'provider="openai-api",route="/c/v1/moderations",outcome="complete"'
    assert labels in httpx.get(f"{gateway.url}/metrics").text


def test_a_caller_who_leaves_during_speech_is_noticed(gateway):
    body = json.dumps({"model": "sim-drip-200", "input": "a b c d e f g h", "voice": "alloy"})
    head = (
        f"POST /c/v1/audio/speech HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n"
        f"x-request-id: leaver\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    )
    with socket.create_connection(("127.0.0.1", gateway.port)) as sock:
        sock.sendall(f"{head}\r\n{body}".encode())
        assert sock.recv(100).startswith(b"HTTP/1.1 200")
    (line,) = gateway.wait_log(request_id="leaver")
    assert line["outcome"] == "client_gone"
