"""Streams that begin and say nothing, over real sockets: another key's answer comes whole."""

import socketserver
import threading
import time
from contextlib import suppress

import httpx
import pytest

from tests.engine.test_failover import CLAUDE_PIECES, DONE, EVENT, ROLE
from tests.engine.test_silent_starts import FAILED, OVERLOADED, PING, START, texts
from tests.server.running import running

CHAT = "/c/v1/chat/completions"


class Upstream(socketserver.ThreadingTCPServer):
    """Answers each request with the next of `answers`: lists of pieces, numbers being pauses."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Answering)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.answers = []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Answering(socketserver.StreamRequestHandler):
    def handle(self):
        length = 0
        while (line := self.rfile.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        self.rfile.read(length)
        self.wfile.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        with suppress(ConnectionError):  # it was let go
            for piece in self.server.answers.pop(0):
                if isinstance(piece, float):
                    time.sleep(piece)
                else:
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                    self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")


@pytest.fixture(scope="module")
def upstream():
    server = Upstream()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def gateway(upstream, tmp_path_factory):
    keys = [{"id": f"k{n}", "val": f"sk-upstream-{n}{n}{n}{n}"} for n in range(2)]
    config = {
        "openai": {"api_url": upstream.url, "api_keys": keys},
        "claude": {"api_url": upstream.url, "api_keys": keys},
        "fallbacks": {"gpt-4o": ["claude/claude-sonnet-4-5"]},
        "fallback_after": 0.3,
    }
    with running(tmp_path_factory.mktemp("gateway"), config) as own:
        yield own


def ask(gateway, path, model):
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    return httpx.post(gateway.url + path, json=body, timeout=10)


CASES = {
    "OpenAI": (CHAT, "gpt-4o-mini", [ROLE, 0.05, FAILED], [ROLE, EVENT, EVENT + DONE], "aa"),
    "Claude": (CHAT, "claude/x", [START, PING, 0.05, OVERLOADED], CLAUDE_PIECES, "hi"),
    "raw OpenAI": ("/v1/chat/completions", "gpt-4o", [ROLE, 0.05, FAILED], [EVENT, DONE], "a"),
}


@pytest.mark.parametrize("case", CASES)
def test_another_keys_whole_answer_comes(gateway, upstream, case):
    path, model, broken, good, text = CASES[case]
    upstream.answers[:] = [broken, good]
    answer = ask(gateway, path, model)
    assert texts(answer.content) == text and answer.content.endswith(DONE)
    assert answer.headers["x-attempts"] == "2"


def test_a_fallback_beside_a_silent_upstream_answers_and_both_are_in_the_trail(gateway, upstream):
    upstream.answers[:] = [[ROLE, 2.0, EVENT, DONE], CLAUDE_PIECES]
    answer = ask(gateway, CHAT, "gpt-4o")
    assert texts(answer.content) == "hi" and answer.content.endswith(DONE)
    assert answer.headers["x-gateway-model"] == "claude/claude-sonnet-4-5"
    wanted = answer.headers["x-request-id"]
    gateway.wait_log(1, request_id=wanted)
    told = httpx.get(f"{gateway.url}/admin/requests/{wanted}").json()
    attempts = told["calls"][0]["attempts"]
    assert [(one["provider"], one["class"], one["next"]) for one in attempts] == [
        ("openai-api", "overtaken", "let go"),
        ("claude-api", "ok", ""),
    ]
