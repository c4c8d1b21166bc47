"""Tools, tool choices and function names."""

import json
from typing import Any

import pytest

from providers.gemini.api import PROVIDER
from tests.providers.gemini.bodies import HELLO, NO_PARAMETERS, WEATHER, assistant, chat, tool
from tests.providers.gemini.calls import make_call, sent, user


def test_tools_become_one_list_of_declarations() -> None:
    body = user(tools=[WEATHER, NO_PARAMETERS])
    assert sent(body) == {
        "contents": HELLO,
        "tools": [
            {
                "functionDeclarations": [
                    {
                        "name": "weather",
                        "description": "Gets current weather",
                        "parametersJsonSchema": {
                            "type": "object",
                            "properties": {"city": {"type": ["string", "null"]}},
                            "additionalProperties": False,
                        },
                    },
                    {"name": "now"},
                ]
            }
        ],
    }


STRICT = {"type": "function", "function": {"name": "now", "strict": True}}


def _allowed(mode: str, *names: str) -> Any:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


@pytest.mark.parametrize(
    ("tools", "choice", "config"),
    [
        ([WEATHER], None, None),
        ([WEATHER], "auto", None),
        ([WEATHER], "none", {"mode": "NONE"}),
        ([WEATHER], "required", {"mode": "ANY"}),
        (
            [WEATHER],
            {"type": "function", "function": {"name": "weather"}},
            {"mode": "ANY", "allowedFunctionNames": ["weather"]},
        ),
        ([STRICT], None, {"mode": "VALIDATED"}),
        ([STRICT], "none", {"mode": "NONE"}),
        (
            [WEATHER, NO_PARAMETERS],
            _allowed("required", "now"),
            {"mode": "ANY", "allowedFunctionNames": ["now"]},
        ),
        (
            [WEATHER, NO_PARAMETERS],
            _allowed("auto", "now", "weather"),
            {"mode": "VALIDATED", "allowedFunctionNames": ["now", "weather"]},
        ),
        ([], "none", None),
        ([], "auto", None),
    ],
)
def test_tool_choice_becomes_a_mode(tools: Any, choice: Any, config: Any) -> None:
    expected = None if config is None else {"functionCallingConfig": config}
    assert sent(user(tools=tools, tool_choice=choice)).get("toolConfig") == expected


def test_the_older_functions_become_tools() -> None:
    body = user(functions=[{"name": "f", "parameters": {}}], function_call={"name": "f"})
    assert sent(body) == {
        "contents": HELLO,
        "tools": [{"functionDeclarations": [{"name": "f"}]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
    }


def test_names_gemini_refuses_are_changed_everywhere_and_changed_back() -> None:
    def named(name: str) -> Any:
        return {"type": "function", "function": {"name": name}}

    body = chat(
        {"role": "user", "content": "Hi"},
        assistant(("c1", "do it", "{}")),
        tool("c1", "ok"),
        tools=[named("do_it"), named("do it"), named("do/it"), named("1st"), named("x" * 90)],
        tool_choice={"type": "function", "function": {"name": "do/it"}},
        stream=True,
    )
    out = sent(body)
    names = [one["name"] for one in out["tools"][0]["functionDeclarations"]]
    assert names == ["do_it", "do_it_2", "do_it_3", "_1st", "x" * 60]
    assert out["contents"][1]["parts"][0]["functionCall"]["name"] == "do_it_2"
    assert out["contents"][2]["parts"][0]["functionResponse"]["name"] == "do_it_2"
    config = out["toolConfig"]["functionCallingConfig"]
    assert config["allowedFunctionNames"] == ["do_it_3"]

    assert PROVIDER.decoder is not None
    decoder = PROVIDER.decoder(make_call(body))
    answer = {
        "candidates": [
            {
                "content": {"parts": [{"functionCall": {"name": n}} for n in names]},
                "finishReason": "STOP",
            }
        ]
    }
    events = list(decoder.feed(b"data: " + json.dumps(answer).encode() + b"\r\n\r\n"))
    told = [event.name for event in events[1:]]  # type: ignore[union-attr]
    assert told == ["do_it", "do it", "do/it", "1st", "x" * 90]
