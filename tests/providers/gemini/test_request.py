"""Whole requests, against what official and other clients were recorded to send."""

import json
from typing import Any

import pytest

from app.fronts.openai_chat.base import extra_content
from tests.providers.gemini.bodies import assistant, chat, tool
from tests.providers.gemini.calls import RECORDED, decode, sent


def test_a_recorded_tool_loop_is_said_the_way_the_upstream_accepted_it() -> None:
    recorded = json.loads((RECORDED / "requests.json").read_text())
    body = recorded["array-tool-result-followup.json"]["request_body"]
    call, result = body["contents"][1]["parts"][1], body["contents"][2]["parts"][0]
    message = assistant(("call_" + "0" * 24, "multiply", '{"y":3,"x":5}'))
    message["tool_calls"][0]["extra_content"] = {
        "google": {"thought_signature": call["thoughtSignature"]}
    }
    declared = body["tools"][0]["functionDeclarations"][0]
    out = sent(
        chat(
            {"role": "user", "content": "What is 5 times 3?"},
            message,
            tool("call_" + "0" * 24, '{"output": "15"}'),
            tools=[{"type": "function", "function": declared}],
            model="gemini-3-flash-preview",
            extra_body={"google": {"safety_settings": body["safetySettings"]}},
        )
    )
    assert out == {
        "contents": [
            body["contents"][0],
            {
                "role": "model",
                "parts": [
                    {
                        "functionCall": call["function_call"],
                        "thoughtSignature": call["thoughtSignature"],
                    }
                ],
            },
            {"role": "user", "parts": [{"functionResponse": result["function_response"]}]},
        ],
        "safetySettings": body["safetySettings"],
        "tools": [
            {
                "functionDeclarations": [
                    {
                        "name": "multiply",
                        "description": declared["description"],
                        "parametersJsonSchema": declared["parameters"],
                    }
                ]
            }
        ],
    }


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("sse-text-one-chunk.sse", chat({"role": "user", "content": "Count from 1 to 3"})),
        (
            "safety-blocked.json",
            chat(
                {"role": "system", "content": "You hate the world!"},
                {"role": "user", "content": "Tell me a joke about a Brazilians."},
                safety_settings=[
                    {"category": "HARM_CATEGORY_HATE_SPEECH", "threshold": "BLOCK_LOW_AND_ABOVE"}
                ],
            ),
        ),
        (
            "max-tokens-empty.json",
            chat(
                {"role": "system", "content": "You are a helpful chatbot."},
                {"role": "user", "content": "What is the capital of France?"},
                max_tokens=5,
                generation_config={"response_modalities": ["TEXT"]},
            ),
        ),
        (
            "array-thoughts.json",
            chat(
                {"role": "user", "content": "Name for a pet pelican, just the name"},
                thinking_config={"include_thoughts": True},
                safety_settings=[
                    {"category": f"HARM_CATEGORY_{word}", "threshold": "BLOCK_NONE"}
                    for word in (
                        "DANGEROUS_CONTENT",
                        "SEXUALLY_EXPLICIT",
                        "HATE_SPEECH",
                        "HARASSMENT",
                    )
                ],
            ),
        ),
    ],
)
def test_a_recorded_request_can_be_said_in_openais_words(name: str, body: Any) -> None:
    recorded = json.loads((RECORDED / "requests.json").read_text())[name]["request_body"]
    recorded.get("systemInstruction", {}).pop("role", None)  # ignored by the upstream
    if not recorded.get("generationConfig", True):
        del recorded["generationConfig"]
    assert sent(body) == recorded


def test_a_whole_tool_round_through_an_openai_client_keeps_everything() -> None:
    events = decode((RECORDED / "parallel-tool-calls.json").read_bytes(), stream=False)
    calls = [
        {
            "id": event.id,
            "type": "function",
            "function": {"name": event.name, "arguments": event.arguments},
            **extra_content(event),
        }
        for event in events
        if type(event).__name__ == "ToolCall"
    ]
    out = sent(
        chat(
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": None, "tool_calls": calls},
            *(tool(call["id"], "ok") for call in calls),
        )
    )
    recorded = json.loads((RECORDED / "parallel-tool-calls.json").read_bytes())
    assert out["contents"][1]["parts"] == recorded["candidates"][0]["content"]["parts"]
