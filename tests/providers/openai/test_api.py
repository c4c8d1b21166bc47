"""What goes up to the OpenAI API for a chat call: the caller's own words and nothing made up."""

import json

import pytest

from app.config.schema import Config, OpenAI
from app.wire.provider import Key
from providers.openai import api
from tests.calls import call_of, request_of


def sent(body, headers=None, model=None):
    call = call_of(
        api.PROVIDER,
        body,
        config=Config(openai=OpenAI(api_url="https://up.example/")),
        key=Key(api.POOL, "1", "sk-pool"),
        model=model,
        headers=headers,
        now=1,
    )
    return request_of(api.PROVIDER, call)


def test_the_clients_own_headers_travel_and_the_key_is_the_pools():
    # The Go original put five fixed headers in the place of all of the caller's.
    own = {
        "openai-organization": "org-1",
        "openai-project": "proj-1",
        "openai-beta": "assistants=v2",
        "idempotency-key": "once",
        "x-client-request-id": "c-1",
        "user-agent": "OpenAI/Python 3.54.0",
    }
    headers = dict(sent({"model": "m"}, {**own, "cookie": "a=b", "x-auth-id": "1"}).headers)
    assert own.items() <= headers.items()
    assert headers["Authorization"] == "Bearer sk-pool"
    assert not {"cookie", "x-auth-id"} & set(headers)


@pytest.mark.parametrize("stream", [True, False])
def test_no_compressor_may_hold_events_back_and_no_disguise_is_worn(stream):
    # The Go original asked for gzip, br and zstd whatever its caller took, as an Android phone.
    request = sent({"model": "m", "stream": stream})
    headers = {name.lower(): value for name, value in request.headers}
    assert headers["accept-encoding"] == "identity"
    assert headers["accept"] == ("text/event-stream" if stream else "application/json")
    assert request.via == "api" and "user-agent" not in headers


@pytest.mark.parametrize(
    "member",
    [
        b'"stop":["a","b"]',
        b'"logit_bias":{"5":1.5}',
        b'"messages":[{"role":"user","content":[{"type":"hologram","depth":3}]}]',
        b'"tools":[{"type":"custom","custom":{"name":"x"}}]',
        b'"max_tokens":12345678901234567890',
        b'"new_parameter":{"deep":[1.10,1e3]}',
        b'"temperature":"warm"',
    ],
)
def test_what_the_gateway_does_not_understand_is_not_its_business(member):
    # The Go original read every body into narrow structs first and answered "params error".
    body = b'{"model":"m", ' + member + b"}"
    assert sent(body).body is body


@pytest.mark.parametrize("name", ["provider", "openai", "claude", "gemini", "bing", "coze"])
def test_the_gateways_members_do_not_travel(name):
    value = '"openai"' if name == "provider" else '{"index":"1"}'
    body = f'{{"model":"m","{name}":{value},"user":"the \\"{name}\\" of it"}}'.encode()
    said = json.loads(sent(body).body)
    assert said == {"model": "m", "user": f'the "{name}" of it'}


def test_the_prefix_of_the_model_is_taken_off():
    assert json.loads(sent({"model": "openai/gpt-4o", "n": 1}, model="gpt-4o").body) == {
        "model": "gpt-4o",
        "n": 1,
    }
