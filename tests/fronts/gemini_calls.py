"""Requests and answers of the Gemini front, for tests that need no server."""

import json
from typing import Any

import pytest

import providers
from app.config.schema import Config
from app.fronts.gemini.front import fronts
from app.wire.asked import Asked
from app.wire.chat import ChatRequest
from app.wire.errors import GatewayError
from app.wire.front import Answering, Incoming
from app.wire.provider import Call, Key, Provider
from tests.calls import DIRECTORY, counted_ids
from tests.recorded import recorded

EVENTS, ARRAY = fronts(providers.MEMBERS)
RECORDED = recorded("gemini-cli")


def recordings() -> dict[str, dict[str, Any]]:
    """Every recorded request by a name: of gemini-cli, and of the other clients."""
    found = {}
    for file in sorted(RECORDED.glob("*.json")):
        told = json.loads(file.read_bytes())
        several = told if isinstance(told, list) else [told]
        for number, request in enumerate(several):
            name = file.stem if len(several) == 1 else f"{file.stem}-{number}"
            found[name] = request
    return found


def asked_of(
    body: Any, path: str = "/c/v1beta/models/m:streamGenerateContent?alt=sse", **headers: str
) -> Asked:
    """The request as the front glances at it."""
    path, _, query = path.partition("?")
    _, _, version, target = path.split("/", 3)
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    incoming = Incoming(
        path=path,
        params={"version": version, "target": target},
        query=query,
        headers=headers,
        body=raw,
    )
    return EVENTS.glance(incoming)


def chat_of(body: Any, **more: Any) -> ChatRequest:
    """The neutral request of a generateContent body."""
    given = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]} | body | more
    assert EVENTS.read is not None
    return EVENTS.read(asked_of(given))


def config_of(**config: Any) -> ChatRequest:
    """The neutral request of a body with this generationConfig."""
    return chat_of({"generationConfig": config})


def answering(chat: ChatRequest | None = None, **more: Any) -> Answering:
    """What a renderer is told of a call."""
    told: dict[str, Any] = {
        "asked": asked_of({}),
        "chat": chat if chat is not None else chat_of({}),
        "model": "m",
        "created": 1,
        "new_id": "i" * 32,
        "session": {},
        "max_bytes": 16 << 20,
    }
    return Answering(**(told | more))


RECORDINGS = recordings()
PNG = RECORDINGS["other-clients-0"]["body"]["contents"][0]["parts"][1]["inlineData"]["data"]


def told(provider: Provider, chat: ChatRequest, model: str, stream: bool = False) -> dict:
    """The body that this provider sends upstream."""
    call = Call(
        config=Config(),
        asked=asked_of({}),
        chat=provider.read(chat, asked_of({})),
        key=Key(provider.pool, "k1", "s3cret"),
        model=model,
        stream=stream,
        headers={},
        now=1,
        new_id=counted_ids(),
        dropped=[],
    )
    body = json.loads(provider.request(call).body)
    body[" dropped"] = call.dropped
    return body


def to_openai(chat: ChatRequest) -> dict:
    return told(DIRECTORY.pinned["openai"], chat, "gpt-4o")


def to_claude(chat: ChatRequest, model: str = "claude-sonnet-4-5") -> dict:
    return told(DIRECTORY.pinned["claude"], chat, model)


def refusal(body: dict) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        chat_of(body)
    assert caught.value.status == 400
    return caught.value


def user(*parts: dict) -> dict:
    return {"role": "user", "parts": list(parts)}


def model(*parts: dict) -> dict:
    return {"role": "model", "parts": list(parts)}


def called(name: str, **more) -> dict:
    return {"functionCall": {"name": name, "args": {}} | more}


def result(name: str, text: str, **more) -> dict:
    return {"functionResponse": {"name": name, "response": {"output": text}} | more}


def talk(*contents: dict) -> ChatRequest:
    return chat_of({"contents": [user({"text": "go"}), *contents]})
