"""Errors of the gateway's own, in the shape that the callers of each path read."""

import contextlib
import socket

import anthropic
import httpx
import pytest
from google import genai
from google.genai import errors as genai_errors

from tests.server.conftest import CLAUDE_KEYS, GEMINI_KEYS, config_for
from tests.server.running import running

TOKEN, SLOW, NARROW = "native-0123456789-token", "slow-0123456789-token", "openai-0123456789-token"
MESSAGES = "/claude/api/v1/messages"
GENERATE = "/gemini/v1beta/models/gemini-2.5-flash:generateContent"


def families(simulator):
    """Claude's own keys are missing, Gemini has two."""
    return config_for(simulator.url) | {
        "claude": {"api_url": f"{simulator.url}/claude"},
        "google_gemini": {
            "api_url": f"{simulator.url}/gemini",
            "api_keys": [{"id": i, "val": v} for i, v in GEMINI_KEYS.items()],
        },
    }


@pytest.fixture(scope="module")
def locked(simulator, tmp_path_factory):
    tokens = [
        {"id": "all", "val": TOKEN},
        {"id": "slow", "val": SLOW, "rpm": 1},
        {"id": "narrow", "val": NARROW, "providers": ["openai"]},
    ]
    config = families(simulator) | {
        "access": {"tokens": tokens},
        "limits": {"upload_bytes": 100_000, "request_bytes": 100_000},
    }
    with running(tmp_path_factory.mktemp("native"), config) as gateway:
        yield gateway


OWN = {"x-api-key": "sk-ant-own", "x-goog-api-key": "AIza-own", "authorization": "Bearer sk-own"}


def asked(gateway, method, path, token=TOKEN, own=False, **options):
    headers = {"x-request-id": "mine"} | (OWN if own else {})
    headers |= {"x-access-token": token} if token else {}
    return httpx.request(method, gateway.url + path, headers=headers, timeout=20, **options)


def is_anthropics(answer, status, kind):
    said = answer.json()
    assert answer.status_code == status, said
    assert set(said) == {"type", "error", "request_id"} and said["type"] == "error"
    assert set(said["error"]) == {"type", "message"} and said["error"]["message"]
    assert said["request_id"] == answer.headers["x-request-id"] == "mine"
    assert answer.headers["content-type"] == "application/json"
    return said["error"]["type"] == kind


def is_googles(answer, status, word):
    said = answer.json()
    assert answer.status_code == status and set(said) == {"error"}, said
    error = said["error"]
    assert error["code"] == status and error["message"] and set(error) <= {
        "code", "message", "status", "details",
    }  # fmt: skip
    return error["status"] == word


def is_openais(answer, status, kind):
    error = answer.json()["error"]
    assert answer.status_code == status and set(error) == {"message", "type", "param", "code"}
    return error["type"] == kind


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "anthropics", "googles"),
    [
        ("POST", "v1/x", {"token": ""}, 401, "authentication_error", "UNAUTHENTICATED"),
        ("POST", "v1/x", {"token": NARROW}, 403, "permission_error", "PERMISSION_DENIED"),
        ("OPTION", "v1/x", {}, 405, "invalid_request_error", "INVALID_ARGUMENT"),
        ("GET", "v1/%2e%2e/x", {"own": True}, 400, "invalid_request_error", "INVALID_ARGUMENT"),
        ("POST", "v1/x", {"content": b"x" * 200_000}, 413, "request_too_large", "INVALID_ARGUMENT"),
    ],
)
def test_a_refusal_has_the_shape_of_its_path(
    locked, method, path, options, status, anthropics, googles
):
    assert is_anthropics(
        asked(locked, method, f"/claude/api/{path}", **options), status, anthropics
    )
    assert is_googles(asked(locked, method, f"/gemini/{path}", **options), status, googles)
    kind = {401: "authentication_error", 403: "permission_error"}.get(
        status, "invalid_request_error"
    )
    if "token" not in options or not options["token"]:
        assert is_openais(asked(locked, method, f"/v1/{path}", **options), status, kind)


@pytest.mark.parametrize(
    "path",
    ["/claude/api/openai", "/gemini/openai", "/gemini/v1beta/openai/chat/completions"],
)
def test_the_doors_that_answer_in_openais_shape_refuse_in_it(locked, path):
    assert is_openais(asked(locked, "POST", path, token=""), 401, "authentication_error")
    assert is_openais(asked(locked, "POST", path, token=NARROW, json={}), 403, "permission_error")


def test_no_route_below_a_native_path_is_told_in_its_shape(locked):
    assert is_anthropics(asked(locked, "GET", "/claude/api"), 404, "not_found_error")
    assert is_googles(asked(locked, "GET", "/gemini"), 404, "NOT_FOUND")


def test_a_pool_without_keys_is_a_401_in_the_shape_of_its_path(locked):
    answer = asked(locked, "POST", MESSAGES, json={"model": "x"})
    assert is_anthropics(answer, 401, "authentication_error")
    assert answer.headers["x-gateway-error"] == "no_api_key"


def test_a_429_says_when_to_come_again(locked):
    for path in (MESSAGES, GENERATE):
        asked(locked, "GET", "/v1/models", token=SLOW)
        answer = asked(locked, "POST", path, token=SLOW, json={})
        wait = answer.headers["retry-after"]
        if path == MESSAGES:
            assert is_anthropics(answer, 429, "rate_limit_error")
        else:
            assert is_googles(answer, 429, "RESOURCE_EXHAUSTED")
            assert answer.json()["error"]["details"] == [
                {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{wait}s"}
            ]


def test_a_request_that_cannot_be_read_is_refused_in_the_shape_of_its_path(locked):
    for path, marks in ((MESSAGES, b'"type":"error"'), (GENERATE, b'"INVALID_ARGUMENT"')):
        with socket.create_connection(("127.0.0.1", locked.port), timeout=10) as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n".encode())
            answer = b""
            while piece := sock.recv(65536):
                answer += piece
        assert answer.startswith(b"HTTP/1.1 400 ") and marks in answer


def test_an_upstream_that_is_not_there_is_told_in_the_shape_of_its_path(simulator, tmp_path):
    config = families(simulator)
    config["claude"] = {
        "api_url": "http://127.0.0.1:1",
        "api_keys": [{"id": i, "val": v} for i, v in CLAUDE_KEYS.items()],
    }
    config["google_gemini"]["api_url"] = "http://127.0.0.1:1"
    with running(tmp_path, config) as gateway:
        assert is_anthropics(asked(gateway, "POST", MESSAGES, "", json={}), 502, "api_error")
        assert is_googles(asked(gateway, "POST", GENERATE, "", json={}), 502, "UNAVAILABLE")


def test_the_vendors_own_sdks_understand_it(locked):
    made = anthropic.Anthropic(
        base_url=f"{locked.url}/claude/api", api_key="no-such", max_retries=0
    )
    with contextlib.closing(made), pytest.raises(anthropic.AuthenticationError) as caught:
        made.models.list()
    assert caught.value.body["error"]["type"] == "authentication_error"
    client = genai.Client(api_key="no-such", http_options={"base_url": f"{locked.url}/gemini"})
    with pytest.raises(genai_errors.ClientError) as refused:
        client.models.generate_content(model="gemini-2.5-flash", contents="hi")
    assert (refused.value.code, refused.value.status) == (401, "UNAUTHENTICATED")
    assert "access token" in refused.value.message


# -- a wrong base URL


def test_a_wrong_base_url_is_told_the_right_one(locked):
    for path in ("/v1/messages", "/v1/messages/count_tokens", "/v1/messages?beta=true"):
        answer = asked(locked, "POST", path, json={"model": "claude-sonnet-4-5"})
        assert is_anthropics(answer, 501, "api_error")
        assert f"{locked.url}/c" in answer.json()["error"]["message"]
        assert answer.headers["x-should-retry"] == "false"
    for path in ("/v1beta/models/gemini-2.5-flash:generateContent", "/v1beta/models"):
        for method in ("GET", "POST"):
            answer = asked(locked, method, path)
            assert is_googles(answer, 501, "UNIMPLEMENTED")
            assert f"{locked.url}/c" in answer.json()["error"]["message"]


@pytest.mark.parametrize("base", ["/c/v1", "/c/v1beta"])
@pytest.mark.parametrize("version", ["v1beta", "v1alpha", "v1"])
@pytest.mark.parametrize("method", ["generateContent", "streamGenerateContent", "countTokens"])
def test_a_base_url_with_a_version_is_told_googles_clients(locked, base, version, method):
    path = f"{base}/{version}/models/gemini-2.5-flash:{method}"
    answer = asked(locked, "POST", path, json={})
    assert is_googles(answer, 501, "UNIMPLEMENTED")
    assert answer.json()["error"]["message"].endswith(
        f"set the client's base URL to {locked.url}/c"
    )


@pytest.mark.parametrize("path", ["/chat/completions", "/c/chat/completions", "/openai/responses"])
def test_a_chat_without_its_prefix_is_told_where_chat_is(locked, path):
    answer = asked(locked, "POST", path, json={})
    assert is_openais(answer, 404, "invalid_request_error")
    assert f"{locked.url}/c/v1" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "base"),
    [
        ("/c/messages", "/c/v1"),  # Cline: it adds only /messages
        ("/c/messages/count_tokens", "/c/v1"),
        ("/c/v1/v1/messages", "/c"),  # LibreChat, and whoever uses Anthropic's SDK
        ("/c/v1/v1/messages/count_tokens", "/c"),
        ("/c/models", "/c/v1"),  # Open WebUI
    ],
)
def test_messages_and_models_below_a_wrong_base_url_are_told_the_right_one(locked, path, base):
    answer = asked(locked, "GET" if path == "/c/models" else "POST", path)
    assert answer.status_code == 404
    if path.startswith("/c/messages"):  # in another shape Vercel's AI SDK shows no message
        assert is_anthropics(answer, 404, "not_found_error")
    assert answer.json()["error"]["message"].endswith(
        f" take {locked.url}{base} as their base URL."
    )


@pytest.mark.parametrize(
    ("model", "is_told"),
    [
        ("claude/claude-sonnet-4-5", True),
        ("gemini/gemini-2.5-flash", True),
        ("anthropic/claude-sonnet-4-5", False),
        ("gpt-4o", False),
        ("missing-x", False),
    ],
)
def test_a_forgotten_c_is_told_beside_the_upstreams_own_words(locked, model, is_told):
    body = {"model": model, "messages": []}
    plain = asked(locked, "POST", "/v1/chat/completions", json=body)
    assert plain.status_code in (400, 404)
    assert ("/c/v1" in plain.json()["error"]["message"]) is is_told
    assert int(plain.headers["content-length"]) == len(plain.content)


def test_the_landing_answer_says_what_this_is_and_where_chat_is(locked):
    answer = httpx.get(f"{locked.url}/")  # also to who has no token yet
    assert answer.status_code == 200
    told = answer.json()
    assert told["name"] == "any-proxy" and told["docs"].endswith("/docs")
    assert told["openai"]["base_url"] == f"{locked.url}/c/v1"
    assert told["openai"]["chat"] == "/c/v1/chat/completions"
    assert told["anthropic"]["base_url"] == f"{locked.url}/c"
    assert told["google-genai"]["base_url"] == f"{locked.url}/c"
    assert httpx.head(f"{locked.url}/").status_code == 200
