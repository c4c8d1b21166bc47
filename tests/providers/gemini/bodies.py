"""Chat bodies for Gemini, and what is made or refused of them."""

from typing import Any

import pytest

from app.wire.errors import GatewayError
from providers.gemini.api import PROVIDER
from tests.providers.gemini.calls import make_call

HELLO = [{"role": "user", "parts": [{"text": "Hi"}]}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Gets current weather",
        "parameters": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {"city": {"type": ["string", "null"]}},
            "additionalProperties": False,
        },
    },
}
NO_PARAMETERS = {"type": "function", "function": {"name": "now"}}


def assistant(*calls: tuple[str, str, str], text: str | None = None) -> dict[str, Any]:
    """An assistant message with (id, name, arguments) calls."""
    return {
        "role": "assistant",
        "content": text,
        "tool_calls": [
            {"id": i, "type": "function", "function": {"name": n, "arguments": a}}
            for i, n, a in calls
        ],
    }


def tool(call_id: str, content: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def chat(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": "gemini-2.5-flash", "messages": list(messages), **more}


def refused(body: Any, **more: Any) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        PROVIDER.request(make_call(body, **more))
    assert caught.value.status == 400
    return caught.value


def dropped(body: Any) -> list[str]:
    call = make_call(body)
    PROVIDER.request(call)
    return call.dropped
