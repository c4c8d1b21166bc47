"""What a caller of the pool hears on a 429 or 503: our own time until a key may be used."""

import asyncio

import pytest

from app.http.error_answers import error_answer
from app.wire.errors import GatewayError
from tests.engine.test_failover import Bench, good, refusal

POOL = "openai.api_keys"


class _Request:
    path = "/c/v1/chat/completions"
    route = None

    class ctx:
        request_id = "r"


def header(error):
    return error_answer(_Request, error).headers.get("retry-after")


SAID = ["1e12", "9" * 400, "1000000000000", "Wed, 15 Jan 3026 08:00:00 GMT", "soon", "99999", ""]


@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("status", [429, 503])
def test_whatever_the_upstream_says_callers_hear_a_sane_time(status, said):
    for headers in ({}, {"authorization": "Bearer a"}):
        bench = Bench({"a": lambda: refusal(status, headers=[("retry-after", said)])})
        error = bench.fail(headers=headers)
        if headers and error.retry_after is None:
            continue  # a caller's own key: nobody knows
        assert 1 <= int(header(error)) <= 1800


def test_it_is_the_time_of_the_first_key_that_comes_back():
    bench = Bench(
        {
            "a": lambda: refusal(429, headers=[("retry-after", "99999")]),
            "b": lambda: refusal(429, headers=[("retry-after", "5")]),
            "c": lambda: refusal(429),
        }
    )
    assert header(bench.fail()) == "5"
    assert header(bench.fail()) in ("4", "5")
    bench.pool.disable(POOL, "b")
    assert header(bench.fail()) in ("9", "10")
    bench.pool.disable(POOL, "c")
    assert header(bench.fail()) in ("1799", "1800")
    bench.pool.disable(POOL, "a")
    error = bench.fail()
    assert "disabled" in error.message and header(error) == "1800"


def test_a_first_503_is_told_with_the_upstreams_time_and_one_without_with_a_second():
    assert header(Bench({"a": lambda: refusal(503, headers=[("retry-after", "7")])}).fail()) == "7"
    assert header(Bench({"a": lambda: refusal(503)}).fail()) == "1"
    assert header(Bench({"a": lambda: refusal(529)}).fail()) == "1"


def test_a_key_named_by_id_has_its_own_time():
    bench = Bench(
        {
            "a": lambda: refusal(429, headers=[("retry-after", "300")]),
            "b": lambda: refusal(429, headers=[("retry-after", "5")]),
        }
    )
    asked = {"headers": {"x-auth-id": "a"}}
    assert header(bench.fail(**asked)) in ("299", "300")
    assert header(bench.fail(**asked)) in ("299", "300")


def test_an_answer_does_not_carry_the_upstreams_word_for_one_key():
    def answer():
        response = good()
        response.headers = [*response.headers, ("retry-after", "1e12"), ("retry-after-ms", "x")]
        return response

    bench = Bench({"a": answer})
    asyncio.run(bench.ask())
    assert not [name for name, _ in bench.sink.headers if name.startswith("retry-after")]


def test_errors_of_any_kind_are_told_in_whole_seconds():
    assert header(GatewayError(429, "x", retry_after=1e12)) == "1800"
    assert header(GatewayError(503, "x", retry_after=0.01)) == "1"
    assert header(GatewayError(400, "x")) is None
