"""Messages as contents and a system instruction."""

from typing import Any

import pytest

from tests.providers.gemini.bodies import HELLO, assistant, chat, refused, tool
from tests.providers.gemini.calls import sent


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        pytest.param([{"role": "user", "content": "Hi"}], {"contents": HELLO}, id="a question"),
        pytest.param(
            [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hi"},
                {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
                {"role": "system", "content": ""},
            ],
            {
                "contents": HELLO,
                "systemInstruction": {"parts": [{"text": "Be brief."}, {"text": "Be kind."}]},
            },
            id="all instructions in order",
        ),
        pytest.param(
            [
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "a"}, {"type": "text", "text": ""}],
                },
                {"role": "user", "content": "b", "name": "Bo"},
                {"role": "assistant", "content": "c"},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "text", "text": "d"},
                        {"type": "refusal", "refusal": "no"},
                    ],
                },
                {"role": "assistant", "content": None, "refusal": "never"},
            ],
            {
                "contents": [
                    {"role": "user", "parts": [{"text": "a"}, {"text": "b"}]},
                    {
                        "role": "model",
                        "parts": [{"text": "c"}, {"text": "d"}, {"text": "no"}, {"text": "never"}],
                    },
                ]
            },
            id="neighbours of one role are merged",
        ),
        pytest.param(
            [{"role": "assistant", "content": "Hello!"}, {"role": "user", "content": "Hi"}],
            {
                "contents": [
                    {"role": "user", "parts": [{"text": "."}]},
                    {"role": "model", "parts": [{"text": "Hello!"}]},
                    *HELLO,
                ]
            },
            id="the first word is the user's",
        ),
        pytest.param(
            [{"role": "user", "content": ""}],
            {"contents": [{"role": "user", "parts": [{"text": ""}]}]},
            id="an empty question",
        ),
        pytest.param(
            [
                {"role": "user", "content": "Hi"},
                assistant(("c1", "weather", '{"city": "Bonn", "n": 1.50}'), ("c2", "now", "")),
                tool("c2", "12:00"),
                tool("c1", ' {"sky": "blue"} '),
                {"role": "user", "content": "So?"},
            ],
            {
                "contents": [
                    *HELLO,
                    {
                        "role": "model",
                        "parts": [
                            {
                                "functionCall": {
                                    "name": "weather",
                                    "args": {"city": "Bonn", "n": 1.5},
                                    "id": "c1",
                                }
                            },
                            {"functionCall": {"name": "now", "args": {}, "id": "c2"}},
                        ],
                    },
                    {
                        "role": "user",
                        "parts": [
                            {
                                "functionResponse": {
                                    "name": "weather",
                                    "response": {"sky": "blue"},
                                    "id": "c1",
                                }
                            },
                            {
                                "functionResponse": {
                                    "name": "now",
                                    "response": {"result": "12:00"},
                                    "id": "c2",
                                }
                            },
                            {"text": "So?"},
                        ],
                    },
                ]
            },
            id="results in the order of their calls",
        ),
        pytest.param(
            [
                {"role": "user", "content": "Hi"},
                assistant(
                    ("call_" + "a" * 24, "f", "{}"), ("call_" + "b" * 24, "f", "{}"), text="Wait."
                ),
                tool(
                    "call_" + "b" * 24,
                    [{"type": "text", "text": "[1,"}, {"type": "text", "text": "2]"}],
                ),
            ],
            {
                "contents": [
                    *HELLO,
                    {
                        "role": "model",
                        "parts": [
                            {"text": "Wait."},
                            {"functionCall": {"name": "f", "args": {}}},
                            {"functionCall": {"name": "f", "args": {}}},
                        ],
                    },
                    {
                        "role": "user",
                        "parts": [
                            {"functionResponse": {"name": "f", "response": {"result": ""}}},
                            {"functionResponse": {"name": "f", "response": {"result": "[1,2]"}}},
                        ],
                    },
                ]
            },
            id="a missing result is filled, ids of our own stay here",
        ),
        pytest.param(
            [
                {"role": "user", "content": "Hi"},
                assistant(("c1", "f", "{}")),
                {"role": "user", "content": "Never mind"},
            ],
            {
                "contents": [
                    *HELLO,
                    {
                        "role": "model",
                        "parts": [{"functionCall": {"name": "f", "args": {}, "id": "c1"}}],
                    },
                    {
                        "role": "user",
                        "parts": [
                            {
                                "functionResponse": {
                                    "name": "f",
                                    "response": {"result": ""},
                                    "id": "c1",
                                }
                            },
                            {"text": "Never mind"},
                        ],
                    },
                ]
            },
            id="calls nobody answered",
        ),
        pytest.param(
            [{"role": "user", "content": "Hi"}, assistant(("c1", "f", "{}"))],
            {
                "contents": [
                    *HELLO,
                    {
                        "role": "model",
                        "parts": [{"functionCall": {"name": "f", "args": {}, "id": "c1"}}],
                    },
                ]
            },
            id="a call at the very end waits",
        ),
        pytest.param(
            [
                {"role": "user", "content": "Hi"},
                {
                    "role": "assistant",
                    "content": None,
                    "function_call": {"name": "f", "arguments": '{"a":1}'},
                },
                {"role": "function", "name": "f", "content": "done"},
            ],
            {
                "contents": [
                    *HELLO,
                    {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {"a": 1}}}]},
                    {
                        "role": "user",
                        "parts": [
                            {"functionResponse": {"name": "f", "response": {"result": "done"}}}
                        ],
                    },
                ]
            },
            id="the older functions",
        ),
    ],
)
def test_messages_become_contents(messages: list[Any], expected: Any) -> None:
    assert sent({"model": "gemini-2.5-flash", "messages": messages}) == expected


@pytest.mark.parametrize("model", ["gemma-3-27b-it", "models/gemma-3n-e4b-it"])
def test_instructions_for_gemma_stand_before_the_first_question(model: str) -> None:
    body = chat({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"})
    assert sent(body | {"model": model}) == {
        "contents": [{"role": "user", "parts": [{"text": "Be brief."}, {"text": "Hi"}]}]
    }


def test_instructions_for_v1_stand_before_the_first_question() -> None:
    body = chat({"role": "system", "content": "Be brief."}, {"role": "assistant", "content": "Hi"})
    assert sent(body, headers={"x-version": "v1"}) == {
        "contents": [
            {"role": "user", "parts": [{"text": "Be brief."}]},
            {"role": "model", "parts": [{"text": "Hi"}]},
        ]
    }


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([], "messages"),
        ([{"role": "narrator", "content": "x"}], "messages[0].role"),
        ([{"role": "user", "content": "x"}, tool("c9", "x")], "messages[1].tool_call_id"),
        (
            [{"role": "user", "content": "x"}, assistant(("a", "f", "{}")), tool("b", "x")],
            "messages[2].tool_call_id",
        ),
        (
            [assistant(("a", "f", "{}")), tool("a", "x"), tool("a", "y")],
            "messages[2].tool_call_id",
        ),
        (
            [assistant(("a", "f", "{}")), {"role": "user", "content": "x"}, tool("a", "x")],
            "messages[2].tool_call_id",
        ),
        ([assistant(("a", "f", "[1]"))], "messages[0].tool_calls[0].function.arguments"),
        ([assistant(("a", "f", "{"))], "messages[0].tool_calls[0].function.arguments"),
        ([assistant(("a", "", "{}"))], "messages[0].tool_calls[0].function"),
        (
            [{"role": "assistant", "tool_calls": [{"id": "a", "type": "custom"}]}],
            "messages[0].tool_calls[0].function",
        ),
        (
            [{"role": "assistant", "function_call": {"name": "f", "arguments": "x"}}],
            "messages[0].function_call.arguments",
        ),
        ([{"role": "function", "name": "f", "content": "x"}], "messages[0].name"),
        (
            [{"role": "system", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
            "messages[0].content[0].type",
        ),
        ([{"role": "user", "content": [{"type": "video_url"}]}], "messages[0].content[0].type"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "messages[0].content[0]"),
        (
            [
                assistant(("a", "f", "{}")),
                tool("a", [{"type": "image_url", "image_url": {"url": "x"}}]),
            ],
            "messages[1].content[0].image_url.url",
        ),
        (
            [assistant(("a", "f", "{}")), tool("a", [{"type": "video_url"}])],
            "messages[1].content[0].type",
        ),
    ],
)
def test_messages_that_make_no_sense_are_refused_by_path(messages: list[Any], param: str) -> None:
    assert refused({"model": "gemini-2.5-flash", "messages": messages}).param == param
