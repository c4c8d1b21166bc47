"""A few hundred of the fuzzer's cases; tests/fuzz/responses.py asks by the million."""

import random

import pytest

from app.wire.errors import GatewayError
from app.wire.front import Incoming
from tests.calls import FRONTS
from tests.fuzz.responses import CHECKS


@pytest.mark.parametrize("start", range(0, 60, 20))
@pytest.mark.parametrize("what", CHECKS)
def test_what_is_odd_ends_in_json_or_in_an_error_that_says_so(what, start):
    for at in range(start, start + 20):
        CHECKS[what](random.Random(f"make test/{at}"))


def test_broken_utf8_in_a_schema_is_refused():
    front = FRONTS["openai-responses"]
    schema = b'{"type":"object","description":"\xff"}'
    tool = b'{"type":"function","name":"f","parameters":%b}' % schema
    raw = b'{"model":"m","input":"Hi","tools":[%b]}' % tool
    asked = front.glance(Incoming("/c/v1/responses", {}, {}, {}, raw))
    with pytest.raises(GatewayError) as caught:
        front.read(asked)
    assert caught.value.status == 400
