"""Error bodies in the shapes that servers of OpenAI's wire have."""

import json

import pytest

from app.fronts.openai_chat.errors import error_body
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


def test_an_account_is_not_named():
    told_of = told({"status": 404, "detail": "Function 'f' Not found for account 'acc-1'"}, 404)
    assert "acc-1" not in told_of["message"]


def test_members_that_clients_act_on_are_kept():
    body = {"error": {"message": "m", "code": 400, "failed_generation": "{"}}
    assert told(body)["failed_generation"] == "{"


@pytest.mark.parametrize(
    "body", [b"<html>busy</html>", b"", b"[]", b"{}", b"null", b"\xff\xfe", b"{"]
)
def test_what_says_nothing_is_summed_up(body):
    assert "HTTP 500" in told(body, 500)["message"]
