"""OpenAI chat requests in, Anthropic Messages requests out.

Each file of requests/ holds one pair and the parameters that were dropped on the way; the numbers
in it count as text, so that 1.10 stays 1.10.
"""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from app.config.schema import Claude
from app.wire.errors import GatewayError
from app.wire.events import ToolCall
from providers.claude.api import PROVIDER
from providers.claude.generations import abilities_of
from providers.claude.parameters import PARAMETERS
from tests.parameters_table import parameters_table

HERE = Path(__file__).parent
PAIRS = sorted((HERE / "requests").glob("*.json"))
USER = {"role": "user", "content": "Hi"}


class Pair(msgspec.Struct, forbid_unknown_fields=True):
    openai: msgspec.Raw
    claude: msgspec.Raw
    dropped: list[str]


@pytest.mark.parametrize("path", PAIRS, ids=lambda path: path.stem)
def test_a_request_is_translated_exactly(path, make_call):
    pair = msgspec.json.decode(path.read_bytes(), type=Pair)
    call = make_call(bytes(pair.openai))
    request = PROVIDER.request(call)
    assert isinstance(request.body, bytes)
    assert msgspec.json.format(request.body) == msgspec.json.format(bytes(pair.claude))
    assert call.dropped == pair.dropped
    # Another key may be tried with the same call: same bytes, no name twice.
    call.new_id = make_call({"messages": [USER]}).new_id
    assert PROVIDER.request(call).body == request.body
    assert call.dropped == pair.dropped


def tool_call(call_id: str, arguments: Any = "{}", **fields: Any) -> dict[str, Any]:
    function = {"name": "a", "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function} | fields


def asks(*calls: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls)} | fields


def image(url: str) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}
        ]
    }


def file(**fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "file", "file": fields}]}]}


def part(**fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [fields]}]}


IMAGE_AT = "messages[0].content[0].image_url.url"
FILE_AT = "messages[0].content[0].file.file_data"
NESTED: dict[str, Any] = {"type": "object"}
for _ in range(120):
    NESTED = {"type": "object", "properties": {"a": NESTED}}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"n": 2}, "n"),
        ({"n": 0}, "n"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "alloy"}}, "audio"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": -1, "max_tokens": 5}, "max_completion_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"top_p": 1.1}, "top_p"),
        ({"reasoning_effort": "enormous"}, "reasoning_effort"),
        ({"model": None}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "system", "content": " "}]}, "messages"),
        ({"messages": [{"role": "user", "content": " \n"}]}, "messages"),
        ({"messages": [{"role": "assistant", "content": "A"}]}, "messages"),
        ({"messages": [{"role": "robot", "content": "A"}]}, "messages[0].role"),
        (
            {"messages": [{"role": "user"}, {"role": "tool", "content": "x"}]},
            "messages[1].tool_call_id",
        ),
        (
            {"messages": [USER, asks(tool_call("a")), {"role": "tool", "tool_call_id": "b"}]},
            "messages[2].tool_call_id",
        ),
        (
            {
                "messages": [
                    USER,
                    asks(tool_call("a")),
                    *[{"role": "tool", "tool_call_id": "a"}] * 2,
                ]
            },
            "messages[3].tool_call_id",
        ),
        (
            {"messages": [USER, asks(tool_call("a"), tool_call("a"))]},
            "messages[1].tool_calls[1].id",
        ),
        ({"messages": [USER, asks(tool_call(""))]}, "messages[1].tool_calls[0].id"),
        (
            {"messages": [USER, asks(tool_call("a", type="custom"))]},
            "messages[1].tool_calls[0].type",
        ),
        (
            {"messages": [USER, asks(tool_call("a", function=None))]},
            "messages[1].tool_calls[0].function.name",
        ),
        *[
            (
                {"messages": [USER, asks(tool_call("a", wrong))]},
                "messages[1].tool_calls[0].function.arguments",
            )
            for wrong in ("[]", "nope", '"x"', "{", '{"a":nope}', "[" * 5000, "1")
        ],
        (
            {"messages": [USER, {"role": "function", "name": "a", "content": "x"}]},
            "messages[1].name",
        ),
        (
            {"messages": [{"role": "system", "content": [{"type": "image_url"}]}, USER]},
            "messages[0].content[0].type",
        ),
        (
            {"messages": [USER, {"role": "assistant", "content": [{"type": "image_url"}]}]},
            "messages[1].content[0].type",
        ),
        (
            part(type="input_audio", input_audio={"data": "x", "format": "wav"}),
            "messages[0].content[0].type",
        ),
        (part(type="hologram"), "messages[0].content[0].type"),
        (image("ftp://example.org/a.png"), IMAGE_AT),
        (image(""), IMAGE_AT),
        (image("data:image/png;base64"), IMAGE_AT),
        (image("data:image/png;base64,"), IMAGE_AT),
        (image("data:image/png;base64,@@@@"), IMAGE_AT),
        (image("data:image/png;base64,AAAAA"), IMAGE_AT),
        (image("data:image/svg+xml;base64,PHN2Zz4="), IMAGE_AT),
        (image("data:;base64,AAAA"), IMAGE_AT),
        (file(file_id="file-1"), FILE_AT),
        (file(file_data="data:application/zip;base64,UEsDBA=="), FILE_AT),
        (file(file_data="AAAA"), FILE_AT),
        (file(file_data="data:text/plain;base64,/w=="), FILE_AT),
        (file(file_data="data:text/plain,%20"), FILE_AT),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0].function.name"),
        (
            {
                "tools": [
                    {"type": "function", "function": {"name": "x", "parameters": {"type": "array"}}}
                ]
            },
            "tools[0].function.parameters.type",
        ),
        ({"functions": [{"name": ""}]}, "functions[0].name"),
        ({"functions": [{"name": "x"}], "function_call": {"name": "y"}}, "function_call"),
        ({"functions": [{"name": "x"}], "function_call": "required"}, "function_call"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"tool_choice": {"type": "custom"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.function.name"),
        (
            {
                "tools": [{"type": "function", "function": {"name": "x"}}],
                "tool_choice": {"type": "function", "function": {"name": "y"}},
            },
            "tool_choice",
        ),
        (
            {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"tools": []}}},
            "tool_choice.allowed_tools.tools",
        ),
        (
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {"mode": "x", "tools": [{"name": "a"}]},
                }
            },
            "tool_choice.allowed_tools.mode",
        ),
        (
            {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"tools": [5]}}},
            "tool_choice.allowed_tools.tools[0].function.name",
        ),
        ({"response_format": {"type": "grammar"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
        (
            {
                "model": "claude-3-opus-20240229",
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"schema": {"type": "array"}},
                },
            },
            "response_format.json_schema.schema.type",
        ),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": NESTED}}}, None),
    ],
)
def test_what_cannot_be_served_is_a_400_that_names_the_place(body, param, make_call):
    call = make_call({"model": "claude-haiku-4-5", "messages": [USER]} | body)
    with pytest.raises(GatewayError) as caught:
        PROVIDER.request(call)
    assert (caught.value.status, caught.value.type) == (400, "invalid_request_error")
    assert caught.value.param == param
    assert caught.value.message.endswith(".")


def test_a_refused_function_call_is_not_offered_a_word_that_only_tool_choice_has(make_call):
    older = {"functions": [{"name": "x"}], "function_call": "required"}
    call = make_call({"model": "claude-haiku-4-5", "messages": [USER]} | older)
    with pytest.raises(GatewayError, match=r"'required' is not one of auto, none\.$"):
        PROVIDER.request(call)


@pytest.mark.parametrize("empty", [[], [{"role": "user", "content": " "}]])
def test_system_messages_alone_are_what_the_user_says(make_call, empty):
    messages = [{"role": "system", "content": "S"}, {"role": "developer", "content": "D"}, *empty]
    call = make_call({"model": "claude-haiku-4-5", "messages": messages})
    sent = msgspec.json.decode(PROVIDER.request(call).body)
    said = [{"type": "text", "text": "S"}, {"type": "text", "text": "D"}]
    assert sent["messages"] == [{"role": "user", "content": said}]
    assert "system" not in sent


NUMBERS = (
    '{"a":12345678901234567890123,"b":1e400,"c":0.1000000000000000055511,"d":-0,"e":[1E5],"f":1.10}'
)


def test_the_numbers_of_arguments_keep_their_digits(make_call):
    history = [USER, asks(tool_call("a", NUMBERS))]
    request = PROVIDER.request(make_call({"model": "claude-haiku-4-5", "messages": history}))
    assert NUMBERS.encode() in request.body


@pytest.mark.parametrize(
    ("model", "sampling", "thinking", "structured", "most_tokens"),
    [
        ("claude-2.1", True, "none", False, 4096),
        ("claude-3-opus-20240229", True, "none", False, 4096),
        ("claude-3-5-sonnet-20241022", True, "none", False, 8192),
        ("claude-3-7-sonnet-latest", True, "budget", False, 64_000),
        ("claude-opus-4-20250514", True, "budget", False, 32_000),
        ("claude-sonnet-4-20250514", True, "budget", False, 64_000),
        ("claude-opus-4-1-20250805", True, "budget", True, 32_000),
        ("claude-sonnet-4-5-20250929", True, "budget", True, 64_000),
        ("claude-haiku-4-5", True, "budget", True, 64_000),
        ("claude-opus-4-5", True, "budget", True, 64_000),
        ("claude-opus-4-6", True, "adaptive", True, 128_000),
        ("claude-opus-4-7", False, "adaptive", True, 128_000),
        ("claude-opus-4-8", False, "adaptive", True, 128_000),
        ("claude-sonnet-5", False, "adaptive", True, 128_000),
        ("claude-fable-5", False, "adaptive", True, 128_000),
        ("claude-mythos-5-20260801", False, "adaptive", True, 128_000),
        ("claude-opus-latest", True, "adaptive", True, 128_000),
    ],
)
def test_a_models_name_tells_its_generation(model, sampling, thinking, structured, most_tokens):
    abilities = abilities_of(model)
    assert abilities.sampling is sampling
    assert abilities.thinking == thinking
    assert abilities.structured is structured
    assert abilities.most_tokens == most_tokens


def test_the_default_limit_comes_from_the_config_and_keeps_to_the_models_own(make_call):
    def limit(model: str) -> int:
        call = make_call(
            {"model": model, "messages": [USER]}, claude=Claude(default_max_tokens=50_000)
        )
        return msgspec.json.decode(PROVIDER.request(call).body)["max_tokens"]

    assert limit("claude-sonnet-4-5") == 50_000
    assert limit("claude-opus-4-1") == 32_000
    assert limit("claude-3-haiku-20240307") == 4096


def test_the_model_of_the_call_counts_not_the_one_in_the_body(make_call):
    call = make_call(
        {"model": "claude/claude-sonnet-5", "messages": [USER]}, model="claude-sonnet-5"
    )
    assert msgspec.json.decode(PROVIDER.request(call).body)["model"] == "claude-sonnet-5"


@pytest.mark.parametrize("how", ["header", "config"])
def test_the_api_version_of_2026_takes_no_sampling_parameters(make_call, how):
    told = {"headers": {"anthropic-version": "2026-10-21"}}
    if how == "config":
        told = {"claude": Claude(api_version="2026-10-21")}
    body = {"model": "claude-haiku-4-5", "messages": [USER], "temperature": 0.5, "top_k": 3}
    call = make_call(body, **told)
    sent = msgspec.json.decode(PROVIDER.request(call).body)
    assert not {"temperature", "top_k"} & set(sent)
    assert call.dropped == ["temperature", "top_k"]


@pytest.mark.parametrize("name", ["files.read:all", "über", "n" * 129])
def test_names_that_claude_refuses_are_others_there_and_the_callers_in_the_answer(make_call, name):
    function = {"name": name, "parameters": {"type": "object"}}
    earlier = {"id": "c1", "type": "function", "function": {"name": name, "arguments": "{}"}}
    call = make_call(
        {
            "model": "claude-sonnet-4-5",
            "messages": [
                USER,
                {"role": "assistant", "tool_calls": [earlier]},
                {"role": "tool", "tool_call_id": "c1", "content": "1"},
            ],
            "tools": [{"type": "function", "function": function}],
            "tool_choice": {"type": "function", "function": {"name": name}},
        }
    )
    sent = msgspec.json.decode(PROVIDER.request(call).body)
    [tool] = sent["tools"]
    assert re.fullmatch("[a-zA-Z0-9_-]{1,128}", tool["name"])
    assert sent["tool_choice"]["name"] == tool["name"]
    assert sent["messages"][1]["content"][0]["name"] == tool["name"]
    used = {"type": "tool_use", "id": "t1", "name": tool["name"], "input": {}}
    answer = {"type": "message", "id": "m", "content": [used], "stop_reason": "tool_use"}
    decoder = PROVIDER.decoder(call)
    events = [*decoder.feed(msgspec.json.encode(answer)), *decoder.finish()]
    assert [each.name for each in events if isinstance(each, ToolCall)] == [name]


def test_names_that_could_break_a_header_are_not_repeated(make_call):
    call = make_call({"messages": [USER], "x\r\ny": 1, "ü": 1, "fine": 1}, model="m")
    PROVIDER.request(call)
    assert call.dropped == ["fine"]


def test_the_printed_table_is_the_table():
    printed = parameters_table("claude")
    said = {
        name: verdict + (f": {how}" if how else "") for name, (verdict, how) in PARAMETERS.items()
    }
    assert {name: cell for name, cell in printed.items() if name in PARAMETERS} == said
    # What only Google has is one of the members Claude drops for not knowing them.
    others = {cell for name, cell in printed.items() if name not in PARAMETERS}
    assert others == {"dropped"}
