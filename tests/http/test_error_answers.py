"""Errors before the first byte, in the shape of the front whose route it is."""

from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from app.http.error_answers import error_answer
from app.wire.errors import GatewayError
from tests.calls import CHAT


def request_of(route, path="/c/v1/chat/completions"):
    return SimpleNamespace(route=route, path=path, headers={}, ctx=SimpleNamespace(request_id="r1"))


def test_the_front_of_the_route_writes_body_and_headers():
    front = replace(
        CHAT,
        error_body=lambda error, id: f"{error.status} {error.code}".encode(),
        error_headers=lambda error: [("x-theirs", error.code)],
    )
    route = SimpleNamespace(ctx=SimpleNamespace(front=front))
    answer = error_answer(request_of(route), GatewayError(429, "Later.", code="busy"))
    assert (answer.status, answer.body) == (429, b"429 busy")
    assert answer.headers["x-theirs"] == "busy"


@pytest.mark.parametrize(
    ("path", "member"),
    [
        ("/c/v1/nothing", b'"param"'),
        ("/claude/api/v1/x", b'"request_id"'),
        ("/gemini/v1/x", b"INV"),
    ],
)
@pytest.mark.parametrize("route", [None, SimpleNamespace(ctx=SimpleNamespace())])
def test_without_a_front_the_path_says_the_shape(route, path, member):
    answer = error_answer(request_of(route, path), GatewayError(400, "No."))
    assert member in answer.body


def test_the_front_says_the_status_and_where_the_id_stands():
    front = replace(
        CHAT,
        error_body=lambda error, id: id.encode(),
        error_status=lambda error: 529 if error.status == 503 else error.status,
        id_header="request-id",
        id_prefix="req_",
    )
    route = SimpleNamespace(ctx=SimpleNamespace(front=front))
    answer = error_answer(request_of(route), GatewayError(503, "Full."))
    assert answer.status == 529
    assert answer.headers["request-id"] == "req_r1" and answer.headers["x-request-id"] == "r1"
    theirs = GatewayError(503, "Full.", headers=(("request-id", "req_theirs"),))
    assert error_answer(request_of(route), theirs).headers.getall("request-id") == ["req_theirs"]
