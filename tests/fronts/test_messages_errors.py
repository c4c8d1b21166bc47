"""Every GatewayError in Anthropic's shape: status, type, wording that clients act on."""

import json

import anthropic
import httpx2
import pytest

from app.fronts.anthropic.errors import (
    error_body,
    error_event,
    error_headers,
    error_status,
    forward_error_body,
)
from app.fronts.openai_chat.errors import error_body as openai_body
from app.wire.errors import GatewayError, bad_request, bad_response, upstream_cut
from app.wire.upstream import UpstreamReply
from providers.claude import api as claude
from providers.gemini.errors import read_error as gemini_error
from providers.openai.api import PROVIDER as OPENAI
from tests import anthropic_types
from tests.recorded import recorded


def told(error):
    said = json.loads(error_body(error, "abc"))
    assert said["type"] == "error" and said["request_id"] == "req_abc"
    assert set(said) == {"type", "error", "request_id"}
    assert set(said["error"]) == {"type", "message"}
    return error_status(error), said["error"]["type"], said["error"]["message"]


@pytest.mark.parametrize(
    ("status", "code", "wanted"),
    [
        (400, None, (400, "invalid_request_error")),
        (401, "invalid_api_key", (401, "authentication_error")),
        (402, None, (402, "billing_error")),
        (403, None, (403, "permission_error")),
        (404, None, (404, "not_found_error")),
        (400, "model_not_found", (404, "not_found_error")),
        (408, None, (408, "invalid_request_error")),
        (409, None, (409, "invalid_request_error")),
        (413, None, (413, "request_too_large")),
        (415, None, (415, "invalid_request_error")),
        (422, None, (422, "invalid_request_error")),
        (429, "all_keys_cooling", (429, "rate_limit_error")),
        (429, "insufficient_quota", (402, "billing_error")),
        (431, None, (431, "invalid_request_error")),
        (500, None, (500, "api_error")),
        (502, None, (502, "api_error")),
        (503, "queue_full", (529, "overloaded_error")),
        (504, "upstream_timeout", (504, "timeout_error")),
        (529, None, (529, "overloaded_error")),
    ],
)
def test_each_status_has_anthropics_word(status, code, wanted):
    error = GatewayError(status, "What happened.", code=code)
    assert told(error)[:2] == wanted


CLASSES = {
    400: anthropic.BadRequestError,
    401: anthropic.AuthenticationError,
    403: anthropic.PermissionDeniedError,
    404: anthropic.NotFoundError,
    413: anthropic.APIStatusError,
    422: anthropic.UnprocessableEntityError,
    429: anthropic.RateLimitError,
    500: anthropic.InternalServerError,
    503: anthropic.InternalServerError,
    504: anthropic.InternalServerError,
}


@pytest.mark.parametrize(("status", "kind"), CLASSES.items())
def test_the_official_sdk_raises_its_own_class(status, kind):
    error = GatewayError(status, "What happened.")

    def answer(request):
        headers = {"request-id": "req_abc"}
        return httpx2.Response(
            error_status(error), content=error_body(error, "abc"), headers=headers
        )

    client = anthropic.Anthropic(
        api_key="k",
        base_url="http://gateway.test",
        max_retries=0,
        http_client=httpx2.Client(transport=httpx2.MockTransport(answer)),
    )
    with pytest.raises(kind) as caught:
        client.messages.create(
            model="m", max_tokens=1, messages=[{"role": "user", "content": "Hi"}]
        )
    assert "What happened." in str(caught.value)
    assert caught.value.request_id == "req_abc"


OPENAI_TOO_LONG = json.dumps(
    {
        "error": {
            "message": "This model's maximum context length is 8192 tokens. However, your messages "
            "resulted in 8500 tokens.",
            "type": "invalid_request_error",
            "param": "messages",
            "code": "context_length_exceeded",
        }
    }
).encode()
GEMINI_TOO_LONG = json.dumps(
    {
        "error": {
            "code": 400,
            "message": "The input token count (1200000) exceeds the maximum number of tokens "
            "allowed (1048576).",
            "status": "INVALID_ARGUMENT",
        }
    }
).encode()


@pytest.mark.parametrize(
    ("error", "begins"),
    [
        (
            OPENAI.read_error(UpstreamReply(400, {}, OPENAI_TOO_LONG)),
            "prompt is too long: 8500 tokens > 8192 maximum. This model's maximum",
        ),
        (
            gemini_error(UpstreamReply(400, {}, GEMINI_TOO_LONG)),
            "prompt is too long: 1200000 tokens > 1048576 maximum. The input token count",
        ),
        (
            GatewayError(413, "No.", code="context_length_exceeded"),
            "prompt is too long: No.",
        ),
    ],
)
def test_every_overflow_begins_as_claude_code_looks_for_it(error, begins):
    status, kind, message = told(error)
    assert (status, kind) == (400, "invalid_request_error")
    assert message.startswith(begins)


def test_a_sum_of_input_and_max_tokens_keeps_anthropics_words():
    words = "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000"
    assert told(bad_request(words))[2] == words


def test_an_unknown_model_is_named_first():
    assert told(GatewayError(404, "No such.", code="model_not_found"))[2] == "model: No such."


def told_raw(error):
    return json.loads(error_body(error, "abc"))


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("api-error-400-effort.json", 400),
        ("api-error-400-prompt-too-long.json", 400),
        ("api-error-401.json", 401),
        ("api-error-404-model.json", 404),
    ],
)
def test_claudes_own_refusals_are_passed_on_byte_for_byte(name, status):
    body = (recorded("claude") / name).read_bytes()
    error = claude.read_error(UpstreamReply(status, {}, body))
    assert error_body(error, "abc") == body
    assert error_status(error) == status
    assert json.loads(openai_body(error))["error"]["message"]  # others get their own shape


def test_an_overloaded_claude_is_529_again():
    body = b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'
    error = claude.read_error(UpstreamReply(529, {}, body))
    assert (error.status, error_status(error)) == (503, 529)
    assert error_body(error, "abc") == body


def test_the_account_of_a_key_is_cut_out_of_claudes_own_body():
    body = (
        b'{"type":"error","error":{"type":"permission_error","message":'
        b'"org-abcdef123456 may not use this"}}'
    )
    error = claude.read_error(UpstreamReply(403, {}, body))
    assert b"abcdef123456" not in error_body(error, "abc")


def test_a_web_page_of_the_edge_is_not_passed_on():
    error = claude.read_error(UpstreamReply(502, {}, b"<html>Bad gateway</html>"))
    assert error.raw is None and told(error)[:2] == (502, "api_error")


@pytest.mark.parametrize("error", [upstream_cut(), bad_response("x"), GatewayError(503, "y\nz")])
def test_an_error_in_a_stream_is_one_event(error):
    [event] = anthropic_types.parsed(error_event(error, "abc"))
    assert event == told_raw(error)


def test_claudes_own_body_fits_into_an_event():
    body = b'{\n  "type": "error",\n  "error": {"type": "api_error", "message": "Oh"}\n}'
    error = claude.read_error(UpstreamReply(500, {}, body))
    [event] = anthropic_types.parsed(error_event(error, "abc"))
    assert event["error"] == {"type": "api_error", "message": "Oh"}


def test_what_no_retry_can_heal_says_so_once():
    final = ("x-should-retry", "false")
    assert error_headers(GatewayError(401, "No.")) == [final]
    assert error_headers(GatewayError(429, "No.", code="insufficient_quota")) == [final]
    assert error_headers(GatewayError(401, "No.", headers=(final,))) == []
    assert error_headers(GatewayError(429, "Wait.", retry_after=3)) == []
    assert error_headers(GatewayError(503, "Wait.")) == []


def test_a_raw_path_translates_neither_status_nor_words():
    said = json.loads(forward_error_body(GatewayError(400, "the prompt is too long"), "abc"))
    assert said["error"]["message"] == "the prompt is too long"
    assert said["request_id"] == "abc"
