"""A client that sees what the wire carried: bytes of the body, and how the connection ended."""

import json
import socket
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Seen:
    """`end` is whole (the framing ended), fin (the peer closed), reset, or silent (no more came).

    `writes` are the chunks of a chunked body, one by one.
    """

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    writes: list[bytes] = field(default_factory=list)
    end: str = ""

    def header(self, name: str) -> str | None:
        return next((value for have, value in self.headers if have.lower() == name), None)


def connect(url: str, seconds: float = 1) -> socket.socket:
    address = urlsplit(url)
    return socket.create_connection((address.hostname, address.port), timeout=seconds)


def request_bytes(method: str, path: str, headers=(), body: bytes = b"") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: simulator", *(f"{n}: {v}" for n, v in headers)]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def chat_bytes(model: str, stream: bool = True, key: str = "sk-wire", text: str = "hi") -> bytes:
    messages = [{"role": "user", "content": text}]
    body = json.dumps({"model": model, "stream": stream, "messages": messages}).encode()
    headers = [("Authorization", f"Bearer {key}"), ("Content-Type", "application/json")]
    return request_bytes("POST", "/openai/v1/chat/completions", headers, body)


def chat(url: str, model: str, stream: bool = True, seconds: float = 1, **more) -> Seen:
    with connect(url, seconds) as peer:
        peer.sendall(chat_bytes(model, stream, **more))
        return read(peer)


def ask(url: str, method: str, path: str, headers=(), body: bytes = b"") -> Seen:
    with connect(url) as peer:
        peer.sendall(request_bytes(method, path, headers, body))
        return read(peer, method == "HEAD")


def read(peer: socket.socket, head_only: bool = False) -> Seen:
    """Reads one response; never more than its framing says."""
    seen = Seen()
    stream = peer.makefile("rb")
    try:
        line = stream.readline()
        if not line:
            seen.end = "fin"
            return seen
        seen.status = int(line.split()[1])
        while (line := stream.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode().partition(":")
            seen.headers.append((name, value.strip()))
        if head_only or seen.status in (204, 304):
            seen.end = "whole"
        elif seen.header("transfer-encoding") == "chunked":
            _read_chunks(stream, seen)
        elif (length := seen.header("content-length")) is not None:
            _read_upto(stream, seen, int(length))
            seen.end = "whole" if len(seen.body) == int(length) else "fin"
        else:
            _read_upto(stream, seen, 1 << 40)
            seen.end = "fin"
    except ConnectionResetError:
        seen.end = "reset"
    except TimeoutError:
        seen.end = "silent"
    return seen


def _read_chunks(stream, seen: Seen) -> None:
    while True:
        size = stream.readline()
        if not size:
            seen.end = "fin"
            return
        count = int(size, 16)
        if not count:
            stream.readline()
            seen.end = "whole"
            return
        before = len(seen.body)
        _read_upto(stream, seen, count)
        seen.writes.append(seen.body[before:])
        stream.readline()


def _read_upto(stream, seen: Seen, count: int) -> None:
    while count > 0 and (piece := stream.read1(min(count, 65536))):
        seen.body += piece
        count -= len(piece)
