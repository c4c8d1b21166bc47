"""What the web providers' tests share: a call as the engine makes it, and a scripted upstream."""

import json
from collections.abc import Callable
from typing import Any

from app.config.schema import Config
from app.wire.provider import Call, Key, Provider
from app.wire.upstream import UpstreamReply, UpstreamRequest
from tests import calls

NOW = 1_780_000_000


def call_of(
    provider: Provider,
    body: dict[str, Any],
    key: Key | None = None,
    config: Config | None = None,
    headers: dict[str, str] | None = None,
    native: bool | None = None,
) -> Call:
    """`new_id` counts, so that the same call twice gives the same bytes."""
    return calls.call_of(
        provider,
        body,
        native=native,
        key=key,
        config=config,
        headers=headers or {"host": "gateway.example:8999"},
        now=NOW,
    )


def reply(
    body: Any = None,
    status: int = 200,
    set_cookies: tuple[str, ...] = (),
    headers: dict[str, str] | None = None,
) -> UpstreamReply:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = "text/html" if raw.startswith(b"<") else "application/json"
    return UpstreamReply(status, {"content-type": kind, **(headers or {})}, raw, list(set_cookies))


Answer = UpstreamReply | list[UpstreamReply]


class ScriptedUpstream:
    """Answers by method and path; a list is answered one by one. Remembers what it was asked."""

    def __init__(self, answers: dict[str, Answer]) -> None:
        self._answers = answers
        self.asked: list[UpstreamRequest] = []
        self.renewed: list[Key] = []
        self.offloaded = 0

    async def send(self, request: UpstreamRequest) -> UpstreamReply:
        self.asked.append(request)
        path = "/" + request.url.split("/", 3)[3]
        answer = self._answers[f"{request.method} {path}"]
        return answer.pop(0) if isinstance(answer, list) else answer

    async def offload(self, function: Callable[..., Any], *args: Any) -> Any:
        self.offloaded += 1
        return function(*args)

    async def renew(self, key: Key) -> None:
        self.renewed.append(key)


def header(request: UpstreamRequest, name: str) -> str | None:
    found = [value for given, value in request.headers if given.lower() == name]
    assert len(found) < 2, f"{name} is sent twice"
    return found[0] if found else None
