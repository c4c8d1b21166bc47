"""Errors in the words that callers of Responses act on."""

import json

import pytest

from app.wire.errors import GatewayError
from tests.calls import FRONTS

FRONT = FRONTS["openai-responses"]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (GatewayError(400, "x is wrong", code="invalid_parameter", param="x"), 400, None),
        (GatewayError(413, "too large", code="request_too_large"), 400, "request_too_large"),
        (GatewayError(400, "prompt is too long: 9 > 5"), 400, "context_length_exceeded"),
        (GatewayError(404, "no such", code="model_not_found"), 400, "model_not_found"),
        (GatewayError(401, "no"), 401, "invalid_api_key"),
        (GatewayError(403, "not for you", code="not_allowed"), 403, "not_allowed"),
        (GatewayError(429, "slow"), 429, "rate_limit_exceeded"),
        (GatewayError(429, "pay", code="insufficient_quota"), 429, "insufficient_quota"),
        (GatewayError(402, "pay"), 429, "insufficient_quota"),
        (GatewayError(503, "busy"), 503, "server_is_overloaded"),
        (GatewayError(529, "busy"), 503, "server_is_overloaded"),
        (GatewayError(500, "x"), 500, "server_error"),
        (GatewayError(502, "x", code="upstream_cut"), 502, "server_error"),
        (GatewayError(504, "x"), 504, "server_error"),
    ],
)
def test_status_and_code(error, status, code):
    assert FRONT.error_status(error) == status
    told = json.loads(FRONT.error_body(error, "r"))["error"]
    assert set(told) == {"message", "type", "param", "code"}
    assert told["code"] == (code or error.code)


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (GatewayError(429, "slow"), [("retry-after", "10")]),
        (GatewayError(429, "slow", retry_after=3), []),  # told by the engine
        (GatewayError(503, "busy"), [("retry-after", "10")]),
        (GatewayError(429, "pay", code="insufficient_quota"), []),  # waiting does not help
        (GatewayError(400, "x"), []),
    ],
)
def test_who_may_come_again_is_told_when(error, headers):
    assert FRONT.error_headers(error) == headers


def test_a_rate_limit_says_in_words_how_long_to_wait():
    told = json.loads(FRONT.error_body(GatewayError(429, "Slow down.", retry_after=11.2), "r"))
    assert told["error"]["message"] == "Slow down. Please try again in 12s."


def test_an_error_of_another_wire_is_told_in_this_ones_words():
    error = GatewayError(404, "The model `x` does not exist", code="model_not_found")
    error.raw = b'{"error":{}}'
    assert FRONT.error_status(error) == 400
    assert json.loads(FRONT.error_body(error, "r"))["error"]["param"] == "model"
