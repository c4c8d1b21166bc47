"""The model that a raw request names, and bodies that name two."""

import pytest

from app.auth import model_scope
from app.wire.errors import GatewayError


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (b'{"model": "gpt-4o"}', "gpt-4o"),
        (b'{"a": {"model": "x"}, "model": "y"}', "y"),
        (b'{"model": "x", "model": "y"}', None),
        (b'{"model": "x", "mod\\u0065l": "y"}', None),
        (b'{"model": "x", "Model": "y"}', None),
        (b'{"MODEL": "x"}', None),
        (b'{"model": 5}', None),
        (b'{"a": 1}', None),
        (b'["model"]', None),
        (b"--boundary", None),
        (b"", None),
        (b"[" * 100_000, None),
        (b'{"model": "x", "n": ' + b"9" * 100_000 + b"}", "x"),
    ],
)
def test_the_model_of_a_body(body, model):
    assert model_scope.model_in_body(body) == model


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("v1beta/models/gemini-2.5-flash:generateContent", "gemini-2.5-flash"),
        ("v1beta/models/gemini%2D2.5:streamGenerateContent", "gemini-2.5"),
        ("v1beta/tunedModels/mine:generateContent", "tunedModels/mine"),
        ("v1beta/openai/chat/completions", None),
    ],
)
def test_the_model_of_a_path(path, model):
    assert model_scope.model_in_path(path) == model


def test_a_model_list_uses_no_model():
    assert model_scope.is_model_list("GET", "models")
    assert model_scope.is_model_list("HEAD", "v1beta/models/x")
    assert not model_scope.is_model_list("DELETE", "models/ft:x")
    assert not model_scope.is_model_list("GET", "files")


def test_a_duplicate_member_is_refused():
    model_scope.check_unambiguous(b'{"model": "x", "a": [{"model": 1}]}', "model", "provider")
    for body in (b'{"model": "x", "model": "x"}', b'{"provider": "a", "Provider": "b"}'):
        with pytest.raises(GatewayError) as caught:
            model_scope.check_unambiguous(body, "model", "provider")
        assert caught.value.status == 400


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"x"}',
        b' {\n "a" : "}" , "model" : "x" , "b" : [ {"model": 1}, "model" ] }\n',
        b'{"caf\\u00e9":"\\"","model":"x","e":{}}',
        '{"café": 1, "model": "x"}'.encode(),
    ],
)
def test_a_body_that_every_reader_understands_alike(body):
    model_scope.check_unambiguous(body, "model")
    assert model_scope.model_in_body(body) == "x"


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1,"model":"x","a":2}',
        b'{"a":1,"model":"x","a":1}',
        b'{"a":{"b":1,"model":"x"},"model":"x","a":7}',
        b'{"model":"x","n":{},"model":"x"}',
    ],
)
def test_a_member_that_stands_twice_is_refused_whichever_it_is(body):
    with pytest.raises(GatewayError):
        model_scope.check_unambiguous(body, "model")
    assert model_scope.model_in_body(body) is None


def test_the_values_of_a_large_body_are_never_made_into_objects(monkeypatch):
    made = []
    monkeypatch.setattr("json.loads", lambda *args, **more: made.append(args))
    body = (
        b'{"messages": [' + b'{"role": "user", "content": "x"}, ' * 50_000 + b'{}], "model": "x"}'
    )
    assert model_scope.model_in_body(body) == "x"
    model_scope.check_unambiguous(body, "model", "provider")
    assert not made


@pytest.mark.parametrize(
    ("message", "models"),
    [
        (b'{"type":"response.create","model":"a"}', ["a"]),
        (b'{"setup":{"model":"models/a"}}', ["models/a"]),
        (b'{"type":"session.update","session":{"model":"a","voice":"b"}}', ["a"]),
        (b'{"type":"response.create","response":{"model":"a"},"model":"b"}', ["b", "a"]),
        (b'{"type":"input_audio_buffer.append","audio":"UklGRg=="}', []),
        (b'{"session":null,"response":"text","setup":[]}', []),
        (b'{"item":{"model":"a"}}', []),
    ],
)
def test_the_models_of_a_message_of_a_live_api(message, models):
    assert model_scope.models_in_message(message) == models


@pytest.mark.parametrize(
    "message",
    [
        b"no json",
        b"[]",
        b'{"model":5}',
        b'{"setup":{"model":"a","model":"b"}}',
        b'{"setup":{"model":"a","Model":"b"}}',
        b'{"setup":{"model":"a"},"se\\u0074up":{"model":"b"}}',
        b'{"setup":{"model":"a"},"Setup":{"model":"b"}}',
        b'{"session":{"model":"a"',
    ],
)
def test_a_message_that_can_be_read_in_two_ways_is_refused(message):
    with pytest.raises(GatewayError):
        model_scope.models_in_message(message)
