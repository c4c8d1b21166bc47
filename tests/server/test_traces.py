"""Traces of a running gateway, as a collector and an upstream get them."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from tests.server.load import CHAT
from tests.server.running import free_port, running, until
from tests.telemetry.otlp_receiver import Receiver

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
PROMPT = "a prompt that nobody else may read"
TOKEN = "traces-0123456789-token"
KEY = "sk-traces-0001-secret"
HEADER = "collector-secret-0123456789"
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": PROMPT}]}


@pytest.fixture
def upstream():
    """An upstream that keeps the heads of its requests; its first answer is a 429."""
    heads: list[dict[str, str]] = []
    answer = {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o",
        "choices": [{"index": 0, "finish_reason": "stop",
                     "message": {"role": "assistant", "content": "an answer for one only"}}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12},
    }  # fmt: skip

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            heads.append({k.lower(): v for k, v in self.headers.items()})
            body = json.dumps({"error": {"message": "slow"}} if len(heads) == 1 else answer)
            self.send_response(429 if len(heads) == 1 else 200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", heads
    server.shutdown()
    server.server_close()
    thread.join()


def config_of(upstream: str, collector: str, **more) -> dict:
    return {
        "openai": {
            "api_url": upstream,
            "api_keys": [{"id": "k1", "val": KEY}, {"id": "k2", "val": f"{KEY}-2"}],
        },
        "access": {"tokens": [{"id": "alice", "val": TOKEN}]},
        "traces": {"endpoint": collector, "headers": {"authorization": HEADER}} | more,
    }


def ask(gateway, path=CHAT, **headers) -> httpx.Response:
    headers |= {"authorization": f"Bearer {TOKEN}"}
    return httpx.post(f"{gateway.url}{path}", json=BODY, headers=headers, timeout=20)


def test_a_call_is_told_to_the_collector_and_to_the_upstream(upstream, tmp_path):
    address, heads = upstream
    receiver = Receiver()
    try:
        with running(tmp_path, config_of(address, receiver.url, propagate=True)) as gateway:
            assert ask(gateway, **PARENT).status_code == 200
            assert ask(gateway, "/v1/chat/completions", **PARENT).status_code == 200
            until(lambda: len(receiver.spans) == 5)
            (line, raw) = gateway.wait_log(2, trace_id=TRACE)
    finally:
        receiver.close()
    root, failed, answered, raw_root, raw_child = receiver.spans
    assert (root["trace"], root["parent"], root["id"]) == (TRACE, SPAN, line["span_id"])
    assert root["name"] == "chat gpt-4o"
    told = root["attributes"]
    assert told["gen_ai.usage.input_tokens"] == 7 and told["gen_ai.usage.output_tokens"] == 5
    assert told["gateway.token"] == "alice" and told["gateway.request_id"] == line["request_id"]
    assert failed["is_error"] and failed["attributes"]["http.response.status_code"] == 429
    assert failed["start"] < failed["end"] <= answered["start"] < answered["end"] == root["end"]
    assert {failed["parent"], answered["parent"]} == {root["id"]}
    assert raw_root["trace"] == TRACE and raw_child["parent"] == raw_root["id"] == raw["span_id"]
    assert raw_root["attributes"]["gen_ai.usage.input_tokens"] == 7
    of_call, of_raw = (f"00-{TRACE}-{one['span_id']}-01" for one in (line, raw))
    assert [head["traceparent"] for head in heads] == [of_call, of_call, of_raw]
    assert receiver.heads[0]["authorization"] == HEADER
    sent = receiver.raw.decode("utf-8", "replace")
    for secret in (PROMPT, "an answer for one only", TOKEN, KEY, HEADER):
        assert secret not in sent
    assert HEADER not in gateway.err.read_text() + gateway.out.read_text()


def test_without_a_collector_no_call_fails_and_no_upstream_is_told(upstream, tmp_path):
    address, heads = upstream
    config = config_of(address, f"http://127.0.0.1:{free_port()}")
    with running(tmp_path, config) as gateway:
        assert [ask(gateway, **PARENT).status_code for _ in range(5)] == [200] * 5
        until(lambda: "traces cannot be sent" in gateway.err.read_text(), 12)
        lost = "gateway_traces_dropped_total 5"
        until(lambda: lost in httpx.get(f"{gateway.url}/metrics").text, 12)
        assert gateway.stop() == 0
    assert "Traceback" not in gateway.err.read_text()
    assert not any("traceparent" in head for head in heads)
