"""Error bodies in the shapes that servers of OpenAI's wire have."""

import json

import pytest

from app.fronts.openai_chat.errors import error_body
from app.wire.refusals import as_close_error, as_error
from app.wire.upstream import UpstreamReply
from providers.openai.api import PROVIDER
from tests.recorded import recorded

RECORDED = json.loads((recorded("openai-compatible") / "errors.json").read_text())


def told(body, status=400, told_status=None):
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    error = PROVIDER.read_error(UpstreamReply(status, {}, body))
    assert error.status == (told_status or status)
    detail = json.loads(error_body(error))
    assert set(detail) == {"error"}
    detail = detail["error"]
    assert isinstance(detail["message"], str) and detail["message"]
    for name in ("type", "code", "param"):
        assert isinstance(detail.get(name), str | None)
    assert error.code == detail.get("code")
    return detail


@pytest.mark.parametrize("case", RECORDED)
def test_a_recorded_refusal_is_told_in_openais_shape_with_its_own_words(case):
    one = RECORDED[case]
    given = json.loads(one["body"])
    words = given.get("error") or given
    words = words.get("message") or words.get("detail") if isinstance(words, dict) else words
    # A key that is refused with 400 is told as what it is.
    status = 401 if case == "xai-400-wrong-key" else one["status"]
    detail = told(one["body"].encode(), one["status"], status)
    assert words in detail["message"]
    assert b"user_EXAMPLE" not in json.dumps(detail).encode()


@pytest.mark.parametrize(
    "body, message, code, param",
    [
        ({"error": {"message": "m", "code": 401}}, "m", "401", None),
        ({"error": {"code": "1113", "message": "m"}}, "m", "1113", None),
        ({"error": "m", "code": "invalid-argument"}, "m", "invalid-argument", None),
        ({"detail": "m"}, "m", None, None),
        (
            {"detail": [{"type": "missing", "loc": ["body", "messages", 0], "msg": "m"}]},
            "m",
            None,
            "messages.0",
        ),
        ({"object": "error", "message": "m", "type": "t", "code": 40303}, "m", "40303", None),
        (
            {"object": "error", "message": {"detail": [{"loc": ["body", "n"], "msg": "m"}]}},
            "m",
            None,
            "n",
        ),
        ({"message": "m", "type": "t", "param": "p", "code": "c"}, "m", "c", "p"),
        ({"code": 20012, "message": "m", "data": None}, "m", "20012", None),
        ({"error_type": "t", "message": "m"}, "m", None, None),
        ({"status": 404, "title": "t", "detail": "m"}, "m", None, None),
        ([{"error": {"code": 400, "message": "m", "status": "X"}}], "m", "400", None),
        ({"errors": [{"message": "m"}]}, "m", None, None),
        ({"msg": "m"}, "m", None, None),
        (b"m", "m", None, None),
        (b'{"error":{"message":"m\\ud83d"}}', "m\ufffd", None, None),
    ],
)
def test_each_shape_is_read(body, message, code, param):
    detail = told(body)
    assert (detail["message"], detail.get("code"), detail.get("param")) == (message, code, param)


def test_what_the_provider_behind_a_router_said_is_told():
    body = {"error": {"message": "Provider returned error", "code": 400, "metadata": {}}}
    body["error"]["metadata"]["raw"] = '{"error":{"message":"images are not read"}}'
    assert told(body)["message"] == "Provider returned error: images are not read"


ACCOUNTS = {
    "acc-1": {"status": 404, "detail": "Function 'f' Not found for account 'acc-1'"},
    "org_01h0abcdefghij": {
        "error": {
            "message": "Rate limit reached in organization `org_01h0abcdefghij` on tokens",
            "type": "tokens",
            "code": "rate_limit_exceeded",
        }
    },
    "org-AbCdEfGhIjKlMn": {
        "error": {
            "message": "Rate limit reached for gpt-4o in organization org-AbCdEfGhIjKlMn on TPM",
            "type": "tokens",
            "param": None,
            "code": "rate_limit_exceeded",
        }
    },
    "ak-abcdefghijklm": {"error": {"message": "Your account <ak-abcdefghijklm> is suspended"}},
    "1b2c3d4e-0000-4000-8000-0123456789ab": {
        "code": "x",
        "error": "Your team 1b2c3d4e-0000-4000-8000-0123456789ab has no credits",
    },
    "user_2abcdefghijklm": {
        "error": {"message": "no", "user_id": "user_2abcdefghijklm"},
        "user_id": "user_2abcdefghijklm",
    },
}


@pytest.mark.parametrize("account", ACCOUNTS)
def test_the_operators_account_is_not_named(account):
    assert account not in json.dumps(told(ACCOUNTS[account]))


def test_words_that_look_like_no_account_stay():
    for words in (
        "organization is over quota",
        "user-agent missing",
        "model proj-x unknown",
        "sk-proj-abcdefghijkl",
    ):
        body = {"error": {"message": words, "type": "t", "param": None, "code": None}}
        assert told(body)["message"] == words


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"code": 429}, 429),
        ({"code": "429"}, 429),
        ({"code": 529}, 529),
        ({"code": 599}, 599),
        ({"code": 600}, 502),
        ({"code": 200}, 502),
        ({"code": 1302}, 429),
        ({"code": True}, 502),
        ({"status_code": 503, "code": 400, "type": "tokens"}, 503),
        ({"code": 400, "type": "rate_limit_error"}, 400),
        ({"code": "insufficient_quota"}, 429),
        ({"type": "exceeded_current_quota_error"}, 429),
        ({"type": "authentication_error", "code": "x"}, 401),
        ({"type": "permission_error"}, 403),
        ({"type": "server_error"}, 502),
        ("in words", 502),
    ],
)
def test_an_error_inside_a_stream_has_the_status_that_it_names(error, status):
    assert as_error(error if isinstance(error, str) else error | {"message": "m"}).status == status


def test_members_that_clients_act_on_are_kept():
    body = {"error": {"message": "m", "code": 400, "failed_generation": "{"}}
    assert told(body)["failed_generation"] == "{"


@pytest.mark.parametrize(
    "body", [b"<html>busy</html>", b"", b"[]", b"{}", b"null", b"\xff\xfe", b"{"]
)
def test_what_says_nothing_is_summed_up(body):
    assert "HTTP 500" in told(body, 500)["message"]


@pytest.mark.parametrize(
    ("reason", "status", "code"),
    [
        ("invalid_request_error.invalid_api_key", 401, "invalid_api_key"),
        ("rate_limit_exceeded", 429, "rate_limit_exceeded"),
        ("keepalive ping timeout", 502, "keepalive ping timeout"),
    ],
)
def test_the_reason_of_a_close_frame(reason, status, code):
    error = as_close_error(reason)
    assert (error.status, error.code) == (status, code)
