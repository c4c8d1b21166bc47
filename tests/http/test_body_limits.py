"""JSON bodies with too many values."""

import pytest

from app.http import body_limits
from app.wire.errors import GatewayError


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"[]," * 600_000 + b"[]]",
        b'{"a":[' + b"1," * 600_000 + b"1]}",
        b'{"s":"' + b"," * 600_000 + b'","a":[' + b"{}," * 600_000 + b"{}]}",
    ],
)
def test_too_many_values_are_refused_before_they_become_objects(body):
    with pytest.raises(GatewayError) as caught:
        body_limits.check_values(body)
    assert caught.value.status == 413


def test_text_may_be_full_of_commas():
    body_limits.check_values(b'{"content": "' + b',{[\\"' * 1_000_000 + b'"}')


def test_a_form_is_no_json():
    body_limits.check_values(b"--boundary\r\n\r\n" + b",[{" * 1_000_000)
