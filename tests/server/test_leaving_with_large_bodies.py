"""A caller who leaves is noticed whatever the size of the body that was sent, on every way."""

import json
import socket
import socketserver
import threading
import time
from contextlib import suppress

import pytest

from tests.server.running import running

KEYS = [{"id": "k", "val": "sk-upstream-1111"}]
CHAT = ("/c/v1/chat/completions", "gpt-4o")
WAYS = {
    "chat": CHAT,
    "chat to Claude": (CHAT[0], "claude/claude-sonnet-4-5"),
    "chat to Gemini": (CHAT[0], "gemini/gemini-2.5-flash"),
    "native Claude": ("/claude/api/openai", "claude-sonnet-4-5"),
    "native Gemini": ("/gemini/openai", "gemini-2.5-flash"),
    "forward to OpenAI": ("/v1/chat/completions", "gpt-4o"),
    "forward to the dashboard": ("/dashboard/x", "gpt-4o"),
    "forward to Claude": ("/claude/api/v1/messages", "claude-sonnet-4-5"),
    "forward to Gemini": ("/gemini/v1beta/models/gemini-2.5-flash:generateContent", ""),
    "forward to Gemini's OpenAI layer": ("/gemini/v1beta/openai/chat/completions", "g"),
    "forward to ChatGPT": ("/backend-api/x", "auto"),
    "forward to ChatGPT's public part": ("/public-api/x", "auto"),
    "forward to Claude's site": ("/claude/web/api/x", "auto"),
}


class Mute(socketserver.ThreadingTCPServer):
    """An upstream that takes a whole request in and never answers; who leaves it is counted."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Listener)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.asked = threading.Semaphore(0)
        self.left = threading.Semaphore(0)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Listener(socketserver.StreamRequestHandler):
    def handle(self):
        length = 0
        while (line := self.rfile.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
            elif name.lower() == b"transfer-encoding":
                length = -1
        if length < 0:
            while size := int(self.rfile.readline(), 16):
                self.rfile.read(size + 2)
            self.rfile.readline()
        else:
            self.rfile.read(length)
        self.server.asked.release()
        with suppress(ConnectionError):
            self.rfile.read(1)
        self.server.left.release()


@pytest.fixture(scope="module")
def upstream():
    server = Mute()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def gateway(upstream, tmp_path_factory):
    config = {
        "openai": {"api_url": upstream.url, "chat_web_url": upstream.url, "api_keys": KEYS},
        "claude": {"api_url": upstream.url, "web_url": upstream.url, "api_keys": KEYS},
        "google_gemini": {"api_url": upstream.url, "api_keys": KEYS},
    }
    with running(tmp_path_factory.mktemp("gateway"), config) as own:
        yield own


def request(path, model, size, chunked):
    text = "x" * size
    body = {"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": text}]}
    if path == "/gemini/openai":
        body = {"model": model, "contents": [{"role": "user", "parts": [{"text": text}]}]}
    raw = json.dumps(body).encode()
    own = "Authorization: Bearer ey-mine\r\n" if "-api/" in path or "web" in path else ""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\n{own}"
    if chunked:
        pieces = [raw[at : at + 30_000] for at in range(0, len(raw), 30_000)]
        framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        return f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + framed + b"0\r\n\r\n"
    return f"{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("size", [1_000, 100_000, 2_000_000], ids=["1 KB", "100 KB", "2 MB"])
@pytest.mark.parametrize("way", WAYS)
def test_a_caller_who_leaves_ends_the_upstreams_work(gateway, upstream, way, size, chunked):
    path, model = WAYS[way]
    before = len(gateway.log(outcome="client_gone"))
    with socket.create_connection(("127.0.0.1", gateway.port)) as caller:
        caller.sendall(request(path, model, size, chunked))
        assert upstream.asked.acquire(timeout=20)
        time.sleep(0.05)  # it waits for an answer
    assert upstream.left.acquire(timeout=20)
    gateway.wait_log(before + 1, outcome="client_gone")
