"""An upstream that answers as it was told, in order, and remembers what it was asked.

A module that imports `gateway` and `upstream` has a gateway of its own before such an upstream.
"""

import json
import socketserver
import threading

import pytest

from tests.server.running import Running


class Asked:
    """One request as it stood on the wire."""

    def __init__(self, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        self.method, self.target, self.headers, self.body = method, target, headers, body

    def json(self):
        return json.loads(self.body)

    @property
    def key(self) -> str:
        """The credential it came with, wherever its family puts it."""
        bearer = self.headers.get("authorization", "").removeprefix("Bearer ")
        named = (self.headers.get(name, "") for name in ("x-api-key", "x-goog-api-key"))
        return next(filter(None, (bearer, *named)), self.target.partition("key=")[2])


class ScriptedUpstream:
    """A server on a free port. `socks`: it is reached through SOCKS5, and is the proxy as well."""

    def __init__(self, socks: bool = False) -> None:
        self.asked: list[Asked] = []
        self.names: list[tuple[int, str]] = []  # what the proxy was asked for: (address type, name)
        self._answers: list[dict] = []
        upstream = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                if socks:
                    upstream._greet(self.rfile, self.wfile)
                while upstream._serve(self.rfile, self.wfile):
                    pass

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, request, client_address) -> None:
                """A gateway that ends breaks its connections off."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def script(self, answers: list[dict]) -> None:
        """The answers to the next requests; `asked` begins anew."""
        self._answers = list(answers)
        self.asked.clear()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _serve(self, reader, writer) -> bool:
        """One request and its answer; False at the end of the connection."""
        line = reader.readline()
        if not line.strip():
            return False
        method, target, _ = line.decode("latin-1").split(" ", 2)
        headers = {}
        while (line := reader.readline()).strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        body = reader.read(int(headers.get("content-length", 0)))
        if headers.get("transfer-encoding") == "chunked":
            while size := int(reader.readline(), 16):
                body += reader.read(size)
                reader.readline()
            reader.readline()
        self.asked.append(Asked(method, target, headers, body))
        unexpected = {"status": 599, "body": {"error": {"message": "nothing was expected here"}}}
        answer = self._answers.pop(0) if self._answers else unexpected
        content = _content(answer)
        lines = [f"HTTP/1.1 {answer['status']} X", f"content-length: {len(content)}"]
        lines += [f"{name}: {value}" for name, value in answer.get("headers", {}).items()]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + content)
        return True

    def _greet(self, reader, writer) -> None:
        """SOCKS5 without a password, up to the answer that the connection stands."""
        _, count = reader.read(2)
        reader.read(count)
        writer.write(b"\x05\x00")
        _, _, _, kind = reader.read(4)
        name = reader.read(reader.read(1)[0] if kind == 3 else 4 if kind == 1 else 16)
        reader.read(2)
        self.names.append((kind, name.decode("latin-1")))
        writer.write(b"\x05\x00\x00\x01\0\0\0\0\0\0")


@pytest.fixture(scope="module")
def upstream():
    scripted = ScriptedUpstream()
    yield scripted
    scripted.stop()


@pytest.fixture(scope="module")
def gateway(upstream, tmp_path_factory):
    """OpenAI, Claude and Gemini are the scripted upstream; as many keys as a module wears out."""
    keys = [{"id": f"k{n}", "val": f"sk-up-{n}"} for n in range(12)]
    config = {
        name: {"api_url": upstream.url, "api_keys": keys}
        for name in ("openai", "claude", "google_gemini")
    }
    running = Running(tmp_path_factory.mktemp("scripted"), config)
    yield running.wait()
    assert running.stop() == 0


def _content(answer: dict) -> bytes:
    if "bytes" in answer:  # as a packed body is
        return answer["bytes"]
    parts = answer.get("body_parts") or [answer["body"]]
    return b"".join(_bytes(part) for part in parts)


def _bytes(part) -> bytes:
    if isinstance(part, str):
        return part.encode()
    if "repeat" in part:
        return part["repeat"].encode() * part["times"]
    return json.dumps(part).encode()
