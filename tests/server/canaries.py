"""Markers in every secret of a config, and where to look for them when they must be nowhere.

A marker is looked for as it is, URL-encoded, in base64 at any of its three alignments, and by its
first eight characters, which are its own.
"""

import base64
import json
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import get_args, get_origin
from urllib.parse import quote, unquote, urlsplit

from app.config.fields import bare, extra, field_hints
from app.config.schema import Config, Section


class Markers:
    """Makes secrets and knows them all. Upstreams look at how keys begin, hence the prefix."""

    def __init__(self) -> None:
        self.all: list[str] = []

    def __call__(self, prefix: str = "") -> str:
        assert len(prefix) <= 4
        n = len(self.all)
        # Signs that look different in an address, so that no encoding is found by accident.
        marker = f"{prefix}Z{n:02d}q/{n:02d}+Wv{n:02d}=kJ{n:02d}tR{n:02d}mXcB{n:02d}"
        self.all.append(marker)
        return marker

    def leaks(self, places: Iterable[tuple[str, bytes]]) -> list[str]:
        """Which marker was found where, and how it was written."""
        forms = [(marker, how, form) for marker in self.all for how, form in _forms(marker)]
        return [
            f"{marker[:8]}... {how} in {place}"
            for place, data in places
            for marker, how, form in forms
            if form in data
        ]


def _forms(marker: str) -> Iterable[tuple[str, bytes]]:
    yield "plain", marker.encode()
    yield "URL-encoded", quote(marker, safe="").encode()
    yield "by its beginning", marker[:8].encode()
    yield "by its encoded beginning", quote(marker[:8], safe="").encode()
    for before in range(3):
        # Only what depends on nothing around it: whole groups of three bytes.
        whole = base64.b64encode(b"\0" * before + marker.encode())
        core = whole[(0, 2, 3)[before] : -4]
        yield "in base64", core
        yield "in base64 for addresses", core.translate(bytes.maketrans(b"+/", b"-_"))


def unset_secrets(value: object, hint: object = Config, path: str = "") -> list[str]:
    """Secret fields of a config that hold nothing: a marker is missing there."""
    if isinstance(value, Section):
        hints = field_hints(type(value))
        return [
            miss
            for name, inner in hints.items()
            for miss in unset_secrets(getattr(value, name), inner, f"{path}.{name}".lstrip("."))
        ]
    hint = bare(hint)
    if get_origin(hint) is dict:
        return [
            miss for item in value.values() for miss in unset_secrets(item, get_args(hint)[1], path)
        ]
    if get_origin(hint) is list:
        entry = get_args(hint)[0]
        holds = isinstance(entry, type) or extra(entry).get("secret")
        if not value:
            return [path] if holds and not path.startswith(("trusted", "fallbacks")) else []
        missing = [set(unset_secrets(item, entry, path + "[]")) for item in value]
        return sorted(set.intersection(*missing))  # one entry that has it is enough
    told = extra(hint)
    if told.get("secret"):
        return [] if value else [path]
    if told.get("check") in ("proxy", "redis"):
        return [] if urlsplit(str(value)).password else [path]
    return []


def config_of(mark: Markers, url: str, folder: Path, bridge_port: int, dead_port: int) -> dict:
    """Every secret field of the config is a marker; every upstream is at `url`."""

    def proxy() -> str:
        return f"http://user:{quote(mark(), safe='')}@127.0.0.1:{dead_port}"

    return {
        "workers": 2,
        "host": "127.0.0.1",
        "proxy_url": proxy(),
        "log_level": "debug",
        "state_path": str(folder / "data" / "rests.json"),
        "redis_url": f"redis://user:{quote(mark(), safe='')}@127.0.0.1:{dead_port}",
        "admin": {"token": mark()},
        "access": {"tokens": [{"id": "alice", "val": mark()}, {"id": "bob", "val": mark()}]},
        "timeouts": {"connect": 1, "first_event": 1.5, "idle": 1.5, "total": 4, "forward_idle": 2},
        "openai": {
            "api_url": f"{url}/openai",
            "chat_web_url": f"{url}/chatgpt",
            "auth_url": f"{url}/chatgpt",
            "proxy_url": proxy(),
            "auth_proxy_url": proxy(),
            "cookie_path": str(folder / "data" / "sessions"),
            "image_path": str(folder / "data" / "images"),
            "api_keys": [{"id": "o1", "val": mark("sk-")}, {"id": "o2", "val": mark("sk-")}],
            "web_sessions": [{"id": "w1", "val": mark()}, {"id": "w2", "val": mark()}],
        },
        "claude": {
            "api_url": f"{url}/claude",
            "web_url": f"{url}/claude-web",
            "proxy_url": proxy(),
            "api_keys": [{"id": "c1", "val": mark("sk-")}, {"id": "c2", "val": mark("sk-")}],
            "web_sessions": [{"id": "s1", "val": mark("sk-")}, {"id": "s2", "val": mark("sk-")}],
        },
        "google_gemini": {
            "api_url": f"{url}/gemini",
            "proxy_url": proxy(),
            "api_keys": [{"id": "g1", "val": mark("AI")}, {"id": "g2", "val": mark("AI")}],
        },
        "upstreams": [
            {
                "name": "lab",
                "api_url": f"{url}/lab/v1",
                "api_keys": [{"id": "1", "val": mark("sk-")}],
                "headers": {"CF-Access-Client-Secret": mark()},
                "proxy_url": proxy(),
            }
        ],
        "bing": {
            "web_url": f"{url}/bing",
            "ws_url": url.replace("http", "ws") + "/bing",
            "proxy_url": proxy(),
        },
        "coze": {
            "api_url": f"{url}/coze",
            "proxy_url": proxy(),
            "api_chat": {
                "access_token": mark("pat_"),
                "bots": [
                    {"bot_id": "7340000000000000001", "user": "b1"},
                    {"bot_id": "7340000000000000002", "user": "b2", "access_token": mark("pat_")},
                ],
            },
            "discord": {
                "enable": True,
                "api_url": f"{url}/discord",
                "gateway_url": url.replace("http", "ws") + "/discord/gw",
                "guild_id": "1100000000000000001",
                "channel_id": "1300000000000000001",
                "chat_bot_token": mark("bot-"),
                "coze_bot": ["1400000000000000001"],
                "auth": [mark(), mark()],
                "request_out_time": 1,
                "request_stream_out_time": 1,
                "quiet_seconds": 0.2,
                "bridge_port": bridge_port,
            },
        },
    }


def without_proxies(config: dict) -> dict:
    """The same, straight to the upstreams."""
    return {
        name: without_proxies(value) if isinstance(value, dict) else value
        for name, value in config.items()
        if not name.endswith("proxy_url")
    }


class Echo:
    """The worst of upstreams: refuses everything and quotes all it was sent, in every shape."""

    def __init__(self) -> None:
        self.status, self.shape = 401, "openai"
        self.seen: list[str] = []
        echo = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one piece: the second would wait for the first's ACK

            def log_message(self, *_: object) -> None:
                pass

            def handle(self) -> None:
                with suppress(ConnectionError):
                    super().handle()

            def do_GET(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                sent = self.rfile.read(length).decode("latin-1")
                told = f"{self.command} {self.path} {dict(self.headers)} {sent}"
                echo.seen.append(unquote(told))
                body, kind = echo._body(told)
                self.send_response(echo.status)
                for name, value in (
                    ("content-type", kind),
                    ("content-length", str(len(body))),
                    ("x-request-id", "req_1"),
                    ("x-ratelimit-told", self.headers.get("authorization", "")),
                ):
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_GET

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _body(self, told: str) -> tuple[bytes, str]:
        if self.shape == "text":
            return told.encode("latin-1", "replace"), "text/plain"
        if self.shape == "google":
            error = {"code": self.status, "message": told, "status": "X", "details": [told]}
        else:
            error = {"message": told, "type": told, "code": told, "param": told}
        more = {"type": "error", "detail": told, "msg": told, "code": 4000} if (
            self.shape == "odd"
        ) else {}  # fmt: skip
        return json.dumps({"error": error} | more).encode(), "application/json"


def files_below(folder: Path) -> Iterable[tuple[str, bytes]]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield str(path), path.read_bytes()


def command_lines(pids: Iterable[int]) -> Iterable[tuple[str, bytes]]:
    for pid in pids:
        try:
            yield f"the command line of {pid}", Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue  # it ended


def settle(seconds: float = 0.3) -> None:
    """Log lines are written a moment after their call."""
    time.sleep(seconds)
