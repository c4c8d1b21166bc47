import base64
import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.logs import Redactor
from app.wire.errors import GatewayError

KEY = "sk-proj-Ab/12+cdEFghIJklMNop=="
SHORT = "hunter2!"
redact = Redactor([KEY, SHORT])


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (f"with {KEY}.", "with [secret]."),
        (f"Bearer {KEY}{KEY}", "Bearer [secret][secret]"),
        ("Incorrect API key: sk-proj-****************op==.", "Incorrect API key: [secret]"),
        ("key sk-proj-Ab/12...Nop rejected", "key [secret] rejected"),
        (f"?key={quote(KEY, safe='')}&x=1", "?key=[secret]&x=1"),
        (f"Basic {base64.b64encode(KEY.encode()).decode()}", "Basic [secret]"),
        (f"http://user:{SHORT}@host", "http://user:[secret]@host"),
        ("sk-proj is how keys begin", "sk-proj is how keys begin"),
        ("", ""),
    ],
)
def test_a_secret_is_replaced_in_every_form(text, clean):
    assert redact(text) == clean


@given(st.text(max_size=40), st.text(max_size=40))
def test_whatever_stands_around_it_no_start_of_a_secret_remains(before, after):
    assert KEY[:8] not in redact(before + KEY + after)


def test_an_error_is_cleaned_whole():
    error = GatewayError(400, f"no {KEY}", code=KEY, headers=(("x-told", f"k={KEY}"),))
    error.raw = b'{"error":{"message":"\xff ' + KEY.encode() + b'"}}'
    redact.clean(error)
    assert error.message == "no [secret]" and error.code == "[secret]"
    assert error.headers == (("x-told", "k=[secret]"),)
    assert error.raw == b'{"error":{"message":"\xff [secret]"}}'


def test_a_secret_learned_later_is_known_to_the_loggers_too():
    one = Redactor()
    assert one("tok-0123456789-abcdef") == "tok-0123456789-abcdef"
    one.learn(["tok-0123456789-abcdef", "", "abc"])
    assert one("tok-0123456789-abcdef abc") == "[secret] abc"


def test_a_thousand_keys_cost_no_more_than_one():
    many = Redactor([f"sk-{n:05d}-{'x' * 40}" for n in range(1000)])
    text = "The upstream said something quite long. " * 100
    began = time.process_time()
    for _ in range(10):
        assert many(text) == text
    assert (time.process_time() - began) / 10 < 0.02
