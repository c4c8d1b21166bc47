"""Requests to OpenAI's endpoints beside chat, of OpenAI and of entries of `upstreams`."""

import itertools
import json

import pytest
from msgspec.structs import replace

from app.config.presets import PRESETS, endpoints_of
from app.config.schema import Config, KeyEntry, Upstream
from app.wire.endpoints import ENDPOINTS, FORMS
from app.wire.errors import GatewayError
from app.wire.front import Incoming
from app.wire.multipart import form_data, read_form
from app.wire.provider import Call, Key
from app.wire.upstream import UpstreamReply
from providers.directory import Directory
from tests.calls import FRONTS, asked_of, counted_ids

HOST = "http://lab.up/api/v4"
UPSTREAMS = [
    Upstream(
        name="lab",
        api_url=HOST,
        api_keys=[KeyEntry(id="a", val="k")],
        headers={"x-site": "1"},
        drop=["user", "language"],
    ),
    Upstream(name="deepseek", api_url=HOST, api_keys=[KeyEntry(id="a", val="k")]),
]
CONFIG = Config(upstreams=UPSTREAMS)
DIRECTORY = Directory(CONFIG)
models = (f"model-{n}" for n in itertools.count())  # what is learned is learned of one model


def at(name, endpoint):
    provider = DIRECTORY.choose(name, "").provider
    return DIRECTORY.at_endpoint(endpoint, provider)


def call_of(provider, endpoint, body, model=None, **headers) -> Call:
    front = FRONTS["openai-" + endpoint.replace("/", "-")]
    if isinstance(body, bytes):
        kind = {"content-type": "multipart/form-data; boundary=b"}
        asked = front.glance(Incoming(path="/", params={}, query="", headers=kind, body=body))
    else:
        asked = asked_of(body, front)
    return Call(
        config=CONFIG,
        asked=asked,
        chat=provider.native.read(asked),
        key=Key(provider.pool, "a", "sk-key"),
        model=asked.model if model is None else model,
        stream=asked.stream,
        headers=headers,
        now=1000,
        new_id=counted_ids(),
    )


@pytest.mark.parametrize("endpoint", sorted(set(ENDPOINTS) - FORMS))
def test_a_json_body_goes_on_as_it_came_to_its_own_path(endpoint):
    body = {"model": "m", "input": "x", "n": 2.50}
    for name, base in (("openai", "https://api.openai.com/v1"), ("lab", HOST)):
        if (name, endpoint) == ("openai", "rerank"):
            continue
        provider = at(name, endpoint)
        call = call_of(provider, endpoint, body)
        request = provider.native.request(call)
        assert request.url == f"{base}/{endpoint}"
        assert request.body is call.asked.body
        headers = {name.lower(): value for name, value in request.headers}
        assert headers["authorization"] == "Bearer sk-key"
        assert headers["content-type"] == "application/json"
        assert headers["accept"] == ("*/*" if endpoint == "audio/speech" else "application/json")
        assert headers.get("x-site") == (None if name == "openai" else "1")


def test_the_prefix_our_members_and_what_is_dropped_are_gone():
    provider = at("lab", "rerank")
    body = {"model": "lab/m", "user": "u", "provider": "lab", "query": "q"}
    request = provider.native.request(call_of(provider, "rerank", body, "m"))
    assert json.loads(request.body) == {"model": "m", "query": "q"}


def test_a_form_is_written_anew_with_the_model_the_upstream_knows():
    file = ('name="file"; filename="a.wav"', "audio/wav", b"\x00RIFF\r\n--")
    fields = [
        ('name="model"', "", b"lab/whisper"),
        file,
        ('name="provider"', "", b"lab"),
        ('name="language"', "", b"en"),
        ('name="include[]"', "", b"logprobs"),
    ]
    provider = at("lab", "audio/transcriptions")
    call = call_of(provider, "audio/transcriptions", form_data("b", fields), "whisper")
    request = provider.native.request(call)
    kind = dict(request.headers)["Content-Type"]
    assert request.url == f"{HOST}/audio/transcriptions"
    assert [(f.disposition, f.media_type, f.value) for f in read_form(request.body, kind)] == [
        ('name="model"', "", b"whisper"),
        file,
        ('name="include[]"', "", b"logprobs"),
    ]


def refusal(said, status=400):
    return UpstreamReply(status, {}, json.dumps(said).encode())


BASE64 = {"encoding_format": "base64"}


FORBIDDEN = "Extra inputs are not permitted"


def forbidden(name):
    return {"detail": [{"type": "extra_forbidden", "loc": ["body", name], "msg": FORBIDDEN}]}


NOT_BASE64 = {"error": {"message": "base64 encoding is not supported"}}
NOT_A_FORMAT = {"detail": [{"loc": ["body", "encoding_format"], "msg": "Input should be 'float'"}]}
FLOAT = {"encoding_format": "float"}


@pytest.mark.parametrize(
    ("asked", "refusals", "sent", "dropped"),
    [
        (BASE64, [NOT_BASE64], FLOAT, ["encoding_format"]),
        (BASE64, [NOT_A_FORMAT], FLOAT, ["encoding_format"]),
        (BASE64, [forbidden("encoding_format")] * 2, {}, ["encoding_format"]),
        ({"user": "u", **BASE64}, [forbidden("user")], BASE64, ["user"]),
        ({"user": "u", **BASE64}, [NOT_BASE64, forbidden("user")], FLOAT, None),
    ],
)
def test_what_is_refused_is_asked_without_and_so_is_the_next_call(asked, refusals, sent, dropped):
    native = at("openai", "embeddings").native
    body = {"model": next(models), "input": "x"}
    call = call_of(at("openai", "embeddings"), "embeddings", body | asked)
    assert json.loads(native.request(call).body) == body | asked
    for said in refusals:
        again = native.retry(call, refusal(said))
    assert again.url.endswith("/v1/embeddings") and json.loads(again.body) == body | sent
    dropped = dropped or ["encoding_format", "user"]
    assert call.dropped == dropped
    native.keep(call)
    later = call_of(at("openai", "embeddings"), "embeddings", body | asked)
    assert json.loads(native.request(later).body) == body | sent and later.dropped == dropped
    much_later = replace(later, now=later.now + 3601)
    assert json.loads(native.request(much_later).body) == body | asked
    other = call_of(at("openai", "embeddings"), "embeddings", {**body, **asked, "model": "other"})
    assert json.loads(native.request(other).body).keys() == (body | asked).keys()


def test_usage_is_asked_for_in_the_callers_stead_where_the_endpoint_tells_it():
    for endpoint, is_asked in (("completions", True), ("images/generations", False)):
        provider = at("openai", endpoint)
        call = call_of(provider, endpoint, {"model": "m", "prompt": "x", "stream": True})
        assert provider.native.adds_usage(call) is is_asked
        assert (b"include_usage" in provider.native.request(call).body) is is_asked


@pytest.mark.parametrize(
    ("asked", "said", "status"),
    [
        (BASE64, {"error": "input is too long"}, 400),
        (BASE64, {"error": "base64 is not supported"}, 500),
        (BASE64, {"error": "base64 is not supported"}, 401),
        ({"encoding_format": "float"}, {"error": "base64 is not supported"}, 400),
        ({"dimensions": 5}, {"error": "dimensions is not supported"}, 400),
        ({"user": "u"}, {"error": "The user must be 18"}, 400),
    ],
)
def test_another_refusal_is_told(asked, said, status):
    provider = at("openai", "embeddings")
    call = call_of(provider, "embeddings", {"model": next(models), "input": "x"} | asked)
    assert provider.native.retry(call, refusal(said, status)) is None


@pytest.mark.parametrize(
    ("name", "endpoint", "having"),
    [
        ("claude", "embeddings", "openai, gemini, lab: name one"),
        ("deepseek", "completions", "openai, lab: name one"),
        ("openai", "rerank", "lab: name one"),
        ("gemini", "images/generations", None),
        ("gemini", "moderations", "openai, lab: name one"),
        ("bing", "audio/speech", "openai, lab: name one"),
    ],
)
def test_who_lacks_an_endpoint_is_told_with_those_that_have_it(name, endpoint, having):
    provider = DIRECTORY.choose(name, "").provider
    if having is None:
        assert DIRECTORY.at_endpoint(endpoint, provider).name == provider.name
        return
    with pytest.raises(GatewayError) as caught:
        DIRECTORY.at_endpoint(endpoint, provider)
    told = caught.value
    assert (told.status, told.code) == (501, "not_supported")
    assert ("x-should-retry", "false") in told.headers
    assert f"{name} has no {endpoint}" in told.message and having in told.message


def test_the_raw_route_of_who_lacks_it_is_told():
    with pytest.raises(GatewayError) as caught:
        at("deepseek", "embeddings")
    assert "below /upstreams/deepseek/" in caught.value.message


def test_a_free_name_is_asked_for_everything_and_a_preset_for_what_it_has():
    assert endpoints_of("lab") == set(ENDPOINTS) == endpoints_of("vllm")
    assert endpoints_of("deepseek") == set() and endpoints_of("kimi") == set()
    assert all(preset.endpoints <= set(ENDPOINTS) for preset in PRESETS)
