"""Instructions and no question: the APIs answer as OpenAI does; a website cannot be asked so."""

import asyncio
import json
from typing import Any

import pytest

import providers
from app.config.schema import Config
from app.wire.chat import read_envelope
from app.wire.errors import GatewayError
from app.wire.provider import Call, Key

ASKED: dict[str, dict[str, Any]] = {
    "gemini": {"model": "gemini/gemini-2.5-flash"},
    "claude": {"model": "claude/claude-sonnet-4-5"},
    "claude web": {"provider": "claude", "claude": {"type": "web"}},
    "chatgpt web": {"provider": "openai-chat-web"},
    "coze": {"provider": "coze", "model": "coze-api"},
    "discord": {"provider": "coze"},
    "bing": {"provider": "bing"},
}
SYSTEM = {"role": "system", "content": "Be brief."}
MESSAGES = {
    "none": [],
    "instructions": [SYSTEM],
    "instructions in parts": [{"role": "system", "content": [{"type": "text", "text": "x"}]}],
    "two kinds of them": [SYSTEM, {"role": "developer", "content": "Be kind."}],
}


async def asked(body: bytes) -> Any:
    envelope = read_envelope(body)
    provider, model = providers.choose(envelope)
    call = Call(
        config=Config(),
        envelope=envelope,
        body=body,
        chat=provider.read(body),
        key=Key(provider.pool, "1", "a-key", {"bot_id": "b", "user": "u"}),
        model=model,
        stream=False,
        headers={},
        now=1,
        new_id=lambda: "0" * 32,
    )
    if provider.prepare is not None:
        call = await provider.prepare(call, None)  # type: ignore[arg-type]
    return provider.request(call)


ANSWERING = ("claude", "gemini")


@pytest.mark.parametrize("who", ASKED)
@pytest.mark.parametrize("what", MESSAGES)
def test_instructions_without_a_question_are_answered_or_a_400(who: str, what: str) -> None:
    body = json.dumps({"messages": MESSAGES[what], **ASKED[who]}).encode()
    if who in ANSWERING and MESSAGES[what]:
        sent = json.loads(asyncio.run(asked(body)).body)
        (turn,) = sent.get("messages") or sent["contents"]
        text = json.dumps(turn)
        assert turn["role"] == "user" and ("Be brief." in text or '"x"' in text)
        assert not (sent.get("system") or sent.get("systemInstruction"))
        return
    with pytest.raises(GatewayError) as caught:
        asyncio.run(asked(body))
    assert (caught.value.status, caught.value.param) == (400, "messages")
    assert "message" in caught.value.message
