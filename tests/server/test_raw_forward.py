"""The raw doors over real sockets: what goes up and what comes down, byte for byte."""

import gzip
import hashlib
import json
import socket
import socketserver
import threading

import httpx
import pytest

from tests.server.running import Running


@pytest.fixture(scope="module")
def http(gateway):
    with httpx.Client(base_url=gateway.url, timeout=20) as client:
        yield client


def echo(http, method="GET", path="/v1/_echo/x", **options):
    return http.request(method, path, **options).json()


def names(seen):
    return {name.lower() for name, _ in seen["headers"]}


def raw(gateway: Running, request: bytes) -> bytes:
    """One request as these very bytes, and all that comes back."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as sock:
        sock.sendall(request)
        answer = b""
        while piece := sock.recv(65536):
            answer += piece
    return answer


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_any_method_travels(http, method):
    seen = echo(http, method)
    assert seen["method"] == method


def test_path_and_query_travel_as_they_were_written(http):
    seen = echo(http, path="/v1/_echo/a%20b/c:d@e?x=1&x=2&y=%2F&z")
    assert seen["path"] == "/openai/v1/_echo/a%20b/c:d@e"
    assert seen["query"] == "x=1&x=2&y=%2F&z"


def test_the_upstream_sees_a_pool_key_and_nothing_of_the_caller(http):
    seen = echo(
        http,
        headers={
            "Cookie": "session=1",
            "x-auth-id": "k2",
            "OpenAI-Beta": "assistants=v2",
            "OpenAI-Organization": "org-callers",
        },
    )
    headers = {name.lower(): value for name, value in seen["headers"]}
    assert headers["authorization"] == "Bearer sk-two-2222"
    assert headers["openai-beta"] == "assistants=v2"
    assert headers["openai-organization"] == "org-callers"
    assert not {"cookie", "x-auth-id"} & names(seen)


def test_the_upstream_is_not_told_where_the_caller_is(http):
    where = {"X-Forwarded-For": "10.1.2.3", "Forwarded": "for=x", "Via": "1.1 x", "X-Real-IP": "x"}
    seen = echo(http, headers={"Authorization": "Bearer sk-own"} | where)
    assert not {name.lower() for name in where} & names(seen)


def test_the_dashboard_is_forwarded_too(http):
    assert http.get("/dashboard/billing/usage").status_code == 200


def test_a_body_of_declared_length_keeps_its_length(http):
    seen = echo(http, "POST", content=b"x" * 100_000)
    assert (seen["body_bytes"], seen["body_sha256"]) == (
        100_000,
        hashlib.sha256(b"x" * 100_000).hexdigest(),
    )
    headers = {name.lower(): value for name, value in seen["headers"]}
    assert headers["content-length"] == "100000" and "transfer-encoding" not in headers


def test_a_chunked_body_arrives_whole(http):
    pieces = [bytes([n]) * 1000 for n in range(200)]
    seen = echo(http, "POST", content=iter(pieces))
    assert seen["body_sha256"] == hashlib.sha256(b"".join(pieces)).hexdigest()


def test_a_get_without_a_body_has_none(http):
    seen = echo(http)
    assert seen["body_bytes"] == 0
    assert not {"content-length", "transfer-encoding"} & names(seen)


def test_compressed_answers_travel_untouched(http):
    with http.stream("GET", "/v1/_echo/x?gzip=1") as answer:
        packed = b"".join(answer.iter_raw())
        assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed)


def test_ranges_and_validators_work(http):
    content = bytes(range(256)) * 40
    made = http.post(
        "/v1/files", files={"file": ("a.bin", content)}, data={"purpose": "user_data"}
    ).json()
    url = f"/v1/files/{made['id']}/content"
    whole = http.get(url)
    assert whole.content == content
    part = http.get(url, headers={"range": "bytes=10-19"})
    assert part.status_code == 206 and part.content == content[10:20]
    assert part.headers["content-range"] == f"bytes 10-19/{len(content)}"
    same = http.get(url, headers={"if-none-match": whole.headers["etag"]})
    assert same.status_code == 304 and same.content == b""


def test_hop_by_hop_headers_of_the_answer_stay_here(http):
    answer = http.get("/v1/_echo/x?hop=1")
    assert answer.json()["method"] == "GET"
    assert not {"keep-alive", "proxy-authenticate", "trailer", "x-private-hop"} & set(
        answer.headers
    )


@pytest.mark.parametrize("status", [204, 304])
def test_answers_without_a_body_leave_the_connection_good(http, status):
    answer = http.get(f"/v1/_echo/x?status={status}")
    assert answer.status_code == status and answer.content == b""
    assert http.get("/ping").status_code == 200


def test_head_has_the_headers_and_no_body(http):
    answer = http.head("/v1/models")
    assert answer.status_code == 200 and answer.content == b""
    assert http.get("/v1/models").status_code == 200  # the connection is still good


class _NoLength(socketserver.StreamRequestHandler):
    """Answers HEAD as servers do for what they would send in chunks."""

    def handle(self):
        while self.rfile.readline().strip():
            pass
        self.wfile.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nx-a: b\r\n\r\n")


def test_head_names_no_length_where_the_upstream_names_none(tmp_path):
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _NoLength) as upstream:
        threading.Thread(target=upstream.serve_forever, args=(0.05,)).start()
        address = f"http://127.0.0.1:{upstream.server_address[1]}"
        openai = {"api_url": address, "api_keys": [{"id": "1", "val": "sk-x"}]}
        running = Running(tmp_path, {"workers": 1, "openai": openai}).wait()
        with httpx.Client(base_url=running.url) as client:
            answer = client.head("/v1/models")
            assert (answer.status_code, answer.headers["x-a"]) == (200, "b")
            assert "content-length" not in answer.headers
            assert client.get("/ping").status_code == 200  # the connection is still good
        assert running.stop() == 0
        upstream.shutdown()


def test_an_upstream_redirect_is_handed_on_not_followed(http):
    answer = http.post("/v1/chat/completions", json={"model": "sim-redirect", "messages": []})
    assert answer.status_code == 307
    assert answer.headers["location"].endswith("/elsewhere")


def test_private_headers_of_the_answer_stay_here(http):
    answer = http.get("/v1/models")
    assert answer.headers["x-auth-id"] in ("k1", "k2")
    assert answer.headers["x-upstream-request-id"]
    assert not {"set-cookie", "openai-organization", "server"} & set(answer.headers)


@pytest.mark.parametrize(
    "target",
    [
        "/v1/../dashboard/x",
        "/v1/%2e%2e/dashboard/x",
        "/v1/..%2f..%2fetc",
        "/v1/%252e%252e/x",
        "/v1/a\\..\\x",
        "/v1/x%00",
        "/v1/%0d%0aX-Evil:%201",
    ],
)
def test_no_path_leaves_the_prefix(gateway, simulator, target):
    answer = raw(gateway, f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"code":"bad_path"' in answer


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1:1", "x"])
def test_the_callers_host_header_chooses_nothing(gateway, host):
    own = "Authorization: sk-own\r\nConnection: close\r\n"
    answer = raw(gateway, f"GET /v1/_echo/x HTTP/1.1\r\nHost: {host}\r\n{own}\r\n".encode())
    seen = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert next(v for n, v in seen["headers"] if n.lower() == "host").startswith("127.0.0.1")


@pytest.mark.parametrize("model", ["sim-cut-after-3", "sim-cut-at-byte-900", "sim-close-after-3"])
def test_a_cut_upstream_is_visibly_cut(gateway, http, model):
    body = {"model": model, "messages": [{"role": "user", "content": "x"}], "stream": True}
    with (
        pytest.raises(httpx.RemoteProtocolError),
        http.stream("POST", "/v1/chat/completions", json=body) as answer,
    ):
        answer.read()


def test_an_upload_above_the_limit_is_refused(simulator, tmp_path):
    from tests.server.conftest import config_for
    from tests.server.running import running

    config = config_for(simulator.url, limits={"upload_bytes": 100_000})
    with running(tmp_path, config) as small:
        answer = httpx.post(f"{small.url}/v1/_echo/x", content=iter([b"x" * 60_000] * 3))
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "request_too_large"
        small.wait_log(code="request_too_large", outcome="refused")


def test_an_upload_that_is_malformed_is_refused_and_no_fault_of_ours(gateway):
    head = b"POST /v1/_echo/malformed HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    before = len(gateway.log(route="/v1/*", status=400, outcome="refused"))
    answer = raw(gateway, head + b"5\r\nhello\r\nZZ\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ") and b'"code":"bad_request"' in answer
    gateway.wait_log(before + 1, route="/v1/*", status=400, outcome="refused")


def test_a_body_of_no_bytes_is_no_body_that_was_left_unread(gateway, http):
    seen = echo(http, "POST", content=b"")
    assert "body not consumed" not in gateway.err.read_text() and seen["method"] == "POST"


def test_no_key_at_all_is_a_401_that_says_what_to_do(simulator, tmp_path):
    from tests.server.running import running

    config = {"openai": {"api_url": f"{simulator.url}/openai"}}
    with running(tmp_path, config) as bare:
        answer = httpx.get(f"{bare.url}/v1/models")
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "no_api_key"
        own = httpx.get(f"{bare.url}/v1/models", headers={"authorization": "Bearer sk-own"})
        assert own.status_code == 200
