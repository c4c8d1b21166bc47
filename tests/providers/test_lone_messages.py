"""Instructions and no question: the APIs answer as OpenAI does; a website cannot be asked so."""

import asyncio
import json
from typing import Any

import pytest

from app.config.schema import Config
from app.wire.errors import GatewayError
from app.wire.provider import Key
from tests.calls import DIRECTORY, asked_of, call_of, request_of

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
    read = asked_of(body)
    provider, model, _ = DIRECTORY.choose(read.provider, read.model, read)
    call = call_of(
        provider,
        read.body,
        config=Config(),
        key=Key(provider.pool, "1", "a-key", {"bot_id": "b", "user": "u"}),
        model=model,
        headers={},
        now=1,
    )
    if provider.prepare is not None:
        call = await provider.prepare(call, None)  # type: ignore[arg-type]
    return request_of(provider, call)


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
