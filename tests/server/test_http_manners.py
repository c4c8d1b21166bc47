"""Errors, limits, CORS and small routes: every refusal has the one shape."""

import gzip
import json
import socket
import zlib

import httpx
import pytest

from tests.server.conftest import config_for
from tests.server.running import running

CHAT = "/c/v1/chat/completions"


@pytest.fixture(scope="module")
def http(gateway):
    with httpx.Client(base_url=gateway.url, timeout=20) as client:
        yield client


def body(**members):
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]} | members


def test_ping_and_health(http):
    assert http.get("/ping").json() == {"ping": "ok"}
    assert http.get("/healthz").status_code == 200
    assert http.get("/readyz").json() == {"status": "ready"}


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/", 405, "method_not_allowed"),
        ("GET", "/nowhere", 404, "route_not_found"),
        ("GET", "/c/v1/chat", 404, "route_not_found"),
        ("GET", CHAT, 405, "method_not_allowed"),
        ("DELETE", "/ping", 405, "method_not_allowed"),
    ],
)
def test_what_is_not_offered_is_told_in_the_one_shape(http, method, path, status, code):
    answer = http.request(method, path)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["code"] == code
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("content", "code", "param"),
    [
        (b"", "invalid_json", None),
        (b"{", "invalid_json", None),
        (b"[]", "invalid_parameter", None),
        (b"\xff\xfe", "invalid_json", None),
        (b'{"model": 1}', "invalid_parameter", "model"),
        (b'{"stream": "yes"}', "invalid_parameter", "stream"),
        (b'{"provider": ["x"]}', "invalid_parameter", "provider"),
        (b'{"stream_options": {"include_usage": 3}}', "invalid_parameter",
         "stream_options.include_usage"),
        (b'{"openai": {"index": 3}}', "invalid_parameter", "openai.index"),
        (b"[" * 200_000, "invalid_parameter", None),
    ],
)  # fmt: skip
def test_a_bad_body_is_a_400_naming_the_place(http, content, code, param):
    answer = http.post(CHAT, content=content)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, code, param)


def test_a_deep_body_is_no_crash(http):
    deep = b'{"model":"m","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert http.post(CHAT, content=deep).status_code == 400


def test_a_compressed_body_is_read(http):
    packed = gzip.compress(json.dumps(body()).encode())
    answer = http.post(CHAT, content=packed, headers={"content-encoding": "gzip"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("packed", "encoding", "status"),
    [
        (b"not gzip", "gzip", 400),
        (gzip.compress(b'{"model":"m"}', mtime=0)[:-9], "gzip", 400),
        (b"x", "br", 415),
        (b"x", "x" * 500, 415),
    ],
)
def test_a_body_that_cannot_be_unpacked_is_refused(http, packed, encoding, status):
    answer = http.post(CHAT, content=packed, headers={"content-encoding": encoding})
    assert answer.status_code == status and answer.json()["error"]["code"] == "bad_encoding"


def test_a_body_above_the_limit_is_a_413_before_and_after_unpacking(simulator, tmp_path):
    config = config_for(simulator.url, limits={"request_bytes": 100_000})
    with running(tmp_path, config) as small:
        plain = httpx.post(small.url + CHAT, content=b" " * 200_000)
        assert plain.status_code == 413
        assert plain.json()["error"]["code"] == "request_too_large"
        bomb = zlib.compress(b" " * 50_000_000)
        packed = httpx.post(small.url + CHAT, content=bomb, headers={"content-encoding": "deflate"})
        assert packed.status_code == 413


def test_a_preflight_is_answered_for_every_door(http):
    for path in (CHAT, "/v1/files", "/c/v1/models"):
        answer = http.options(
            path,
            headers={
                "origin": "http://page",
                "access-control-request-method": "POST",
                "access-control-request-headers": "authorization, x-auth-id",
            },
        )
        assert answer.status_code == 204
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert answer.headers["access-control-allow-headers"] == "authorization, x-auth-id"
    assert http.post(CHAT, json=body()).headers["access-control-allow-origin"] == "*"
    assert http.get("/nowhere").headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(
    ("given", "kept"),
    [("abc-1.2:3_4", True), ("x" * 128, True), ("x" * 129, False), ("a b", False), ("", False)],
)
def test_a_well_formed_request_id_is_kept(http, given, kept):
    told = http.get("/ping", headers={"x-request-id": given}).headers["x-request-id"]
    assert (told == given) is kept and told


def test_keep_alive_comments_bridge_a_slow_start(simulator, tmp_path):
    config = config_for(simulator.url, timeouts={"keep_alive_comment": 0.1, "first_event": 5})
    with running(tmp_path, config) as gateway:
        request = body(model="sim-slow-first-450", stream=True)
        with httpx.stream("POST", gateway.url + CHAT, json=request, timeout=10) as answer:
            text = answer.read()
        assert text.startswith(b": ping\n\n") and text.endswith(b"data: [DONE]\n\n")


def test_the_named_timeouts_end_a_silent_upstream(simulator, tmp_path):
    limits = {"first_event": 0.4, "idle": 0.4, "total": 1.5}
    with running(tmp_path, config_for(simulator.url, timeouts=limits)) as gateway:
        url = gateway.url + CHAT
        silent = httpx.post(url, json=body(model="sim-hang", stream=True), timeout=10)
        assert silent.status_code == 504
        assert silent.json()["error"]["code"] == "upstream_timeout"
        stuck = httpx.post(url, json=body(model="sim-hang-after-3", stream=True), timeout=10)
        assert stuck.status_code == 200 and b"timeouts.idle" in stuck.content
        assert b"[DONE]" not in stuck.content
        whole = httpx.post(url, json=body(model="sim-hang"), timeout=10)
        assert whole.status_code == 504 and "timeouts.total" in whole.json()["error"]["message"]


def test_an_unreachable_upstream_is_a_502(simulator, tmp_path):
    config = config_for(simulator.url)
    config["openai"]["api_url"] = "http://127.0.0.1:1"
    with running(tmp_path, config) as gateway:
        answer = httpx.post(gateway.url + CHAT, json=body())
        assert answer.status_code == 502
        assert answer.json()["error"]["code"] == "upstream_unreachable"


def test_a_pipelined_connection_gets_its_answers_in_order(gateway):
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as sock:
        sock.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
        sock.sendall(b"GET /nope HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b""
        while piece := sock.recv(65536):
            answer += piece
    assert answer.count(b'{"ping":"ok"}') == 2 and b"route_not_found" in answer


def asked_by_http_1_0(gateway, target, content=None, *lines):
    """Head and body of the answer, read until the gateway closes the connection."""
    data = json.dumps(content).encode() if content else b""
    head = [f"{'POST' if content else 'GET'} {target} HTTP/1.0", "Host: x", *lines]
    if content:
        head.append(f"Content-Length: {len(data)}")
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as sock:
        sock.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + data)
        answer = b""
        while piece := sock.recv(65536):
            answer += piece
    told, _, text = answer.partition(b"\r\n\r\n")
    return told.lower(), text


@pytest.mark.parametrize("lines", [(), ("Connection: keep-alive",)])
@pytest.mark.parametrize("target", [CHAT, "/v1/chat/completions"])
def test_a_stream_to_a_caller_of_http_1_0_ends_with_its_connection(gateway, target, lines):
    head, text = asked_by_http_1_0(gateway, target, body(stream=True), *lines)
    assert head.startswith(b"http/1.1 200 ") and b"connection: close" in head
    assert b"transfer-encoding" not in head and b"content-length" not in head
    assert text.startswith(b"data: {") and text.endswith(b"}\n\ndata: [DONE]\n\n")
    events = text.split(b"\n\n")[:-2]
    assert len(events) > 2 and all(json.loads(event.removeprefix(b"data: ")) for event in events)


def test_a_caller_of_http_1_0_may_keep_a_connection_that_needs_no_chunks(gateway):
    target = f"/ping HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\nGET {CHAT}"
    head, text = asked_by_http_1_0(gateway, target)
    assert b"connection: keep-alive" in head and b"content-length: 13" in head
    assert text.startswith(b'{"ping":"ok"}HTTP/1.1 405 ')


def test_a_caller_of_http_1_0_is_sent_no_interim_answer(gateway):
    head, _ = asked_by_http_1_0(gateway, CHAT, body(), "Expect: 100-continue")
    assert head.startswith(b"http/1.1 200 ")


SIDE_ROUTES = (
    ("GET", "/bing/conversation", ""),
    ("POST", "/auth/session/platform", "Bearer eyJ.mine"),
    ("GET", "/gptimage/file-0123456789", "Bearer eyJ.mine"),
)


def test_a_side_route_whose_upstream_is_not_there_is_not_said_to_have_refused(tmp_path):
    nobody = "http://127.0.0.1:1"
    config = {"openai": {"api_url": nobody, "chat_web_url": nobody}, "bing": {"web_url": nobody}}
    with running(tmp_path, config) as gateway:
        for method, path, key in SIDE_ROUTES:
            answer = httpx.request(method, gateway.url + path, headers={"authorization": key})
            assert answer.status_code == 502, (path, answer.text)
            found = answer.headers["x-request-id"]
            (line,) = gateway.wait_log(request_id=found)
            assert (line["outcome"], line["code"]) == (
                "upstream_unreachable",
                "upstream_unreachable",
            )
        counted = httpx.get(gateway.url + "/metrics").text
        assert counted.count('outcome="upstream_unreachable"') == len(SIDE_ROUTES)


def test_a_request_that_is_refused_before_anybody_is_asked_is_logged_as_refused(gateway, http):
    asked = (
        {"json": body(messages="hi", provider="claude")},
        {"content": b"{"},
        {"json": body(), "headers": {"x-auth-id": "nobody"}},
        {"json": body(provider="coze")},
    )
    for options in asked:
        answer = http.post(CHAT, **options)
        assert answer.status_code in (400, 401), answer.text
        (line,) = gateway.wait_log(request_id=answer.headers["x-request-id"])
        assert line["outcome"] == "refused", (options, line)
