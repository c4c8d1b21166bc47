"""The marks for Anthropic's prompt cache, which apps set on OpenAI's parts, messages and tools."""

import msgspec
import pytest

from app.wire.errors import GatewayError
from providers.claude.api import PROVIDER

MARK = {"type": "ephemeral"}
HOUR = {"type": "ephemeral", "ttl": "1h"}
USER = {"role": "user", "content": "Hi"}
PNG = "data:image/png;base64,iVBORw0KGgo="
CALL = {"id": "a", "type": "function", "function": {"name": "look", "arguments": "{}"}}
ASKS = {"role": "assistant", "content": None, "tool_calls": [CALL]}


def text(said: str, mark: dict | None = None) -> dict:
    return {"type": "text", "text": said} | ({"cache_control": mark} if mark else {})


@pytest.fixture
def send(make_call):
    def run(*messages: dict, dropped: list[str] | None = None, **members) -> dict:
        call = make_call({"model": "claude-sonnet-4-5", "messages": list(messages)} | members)
        body = msgspec.json.decode(PROVIDER.request(call).body)
        assert call.dropped == (dropped or [])
        return body

    return run


def marks(value) -> list:
    """Every mark in a body, in order."""
    if isinstance(value, list):
        return [mark for inner in value for mark in marks(inner)]
    if not isinstance(value, dict):
        return []
    found = [value["cache_control"]] if "cache_control" in value else []
    return found + [mark for inner in value.values() for mark in marks(inner)]


def test_marked_parts_of_the_user(send):
    image = {"type": "image_url", "image_url": {"url": PNG}, "cache_control": HOUR}
    pdf = {"type": "file", "file": {"file_data": "JVBERi0xLjQ="}, "cache_control": MARK}
    parts = [text("a", MARK), image, pdf, text("b")]
    (turn,) = send({"role": "user", "content": parts})["messages"]
    assert [block.get("cache_control") for block in turn["content"]] == [MARK, HOUR, MARK, None]


def test_a_system_with_marks_is_sent_in_blocks(send):
    body = send(
        {"role": "system", "content": [text("One, "), text("two.", MARK), text("Three.")]},
        {"role": "developer", "content": "Four."},
        USER,
    )
    assert body["system"] == [text("One, two.", MARK), text("Three."), text("Four.")]


def test_a_system_without_marks_stays_one_text(send):
    body = send({"role": "system", "content": [text("One, "), text("two.")]}, USER)
    assert body["system"] == "One, two."


@pytest.mark.parametrize("role", ["system", "user", "assistant"])
def test_a_marked_message_has_its_mark_on_its_last_block(send, role):
    message = {"role": role, "content": "Long", "cache_control": MARK}
    body = send(USER, message, {"role": "user", "content": "Go on"})
    place = body["system"] if role == "system" else body["messages"]
    assert marks(body) == [MARK]
    assert text("Long", MARK) in (place if role == "system" else sum_content(place))


def sum_content(turns: list[dict]) -> list[dict]:
    return [block for turn in turns for block in turn["content"]]


def test_an_assistants_parts_and_calls(send):
    said = {"role": "assistant", "content": [text("Well", HOUR)], "tool_calls": [CALL]}
    result = {"role": "tool", "tool_call_id": "a", "content": "x"}
    body = send(USER, said | {"cache_control": MARK}, result)
    assert body["messages"][1]["content"][0] == text("Well", HOUR)
    assert body["messages"][1]["content"][1]["cache_control"] == MARK


def test_a_prefill_keeps_its_mark(send):
    body = send(USER, {"role": "assistant", "content": [text("So ", MARK)]})
    assert body["messages"][-1]["content"] == [text("So", MARK)]


@pytest.mark.parametrize(
    "result",
    [
        {"content": "x", "cache_control": MARK},
        {"content": [text("x", MARK)]},
        {"content": [text("x", MARK), text("y")]},
        {"content": [{"type": "image_url", "image_url": {"url": PNG}, "cache_control": MARK}]},
    ],
)
def test_a_tools_result_is_marked_as_a_whole(send, result):
    body = send(USER, ASKS, {"role": "tool", "tool_call_id": "a"} | result)
    (block,) = body["messages"][-1]["content"]
    assert block["type"] == "tool_result" and block["cache_control"] == MARK
    assert marks(body) == [MARK]  # parts of a result cannot be marked themselves


def test_a_legacy_result(send):
    asks = {"role": "assistant", "function_call": {"name": "look", "arguments": "{}"}}
    result = {"role": "function", "name": "look", "content": "x", "cache_control": MARK}
    (block,) = send(USER, asks, result)["messages"][-1]["content"]
    assert block["cache_control"] == MARK


@pytest.mark.parametrize("place", ["tool", "function", "legacy"])
def test_marked_tools(send, place):
    function = {"name": "look", "parameters": {"type": "object", "properties": {}}}
    match place:
        case "tool":
            tools = {"tools": [{"type": "function", "function": function, "cache_control": HOUR}]}
        case "function":
            marked = function | {"cache_control": HOUR}
            tools = {"tools": [{"type": "function", "function": marked}]}
        case _:
            tools = {"functions": [function | {"cache_control": HOUR}]}
    (tool,) = send(USER, **tools)["tools"]
    assert tool["cache_control"] == HOUR


def test_the_mark_of_the_whole_request(send):
    assert send(USER, cache_control=MARK)["cache_control"] == MARK


def test_the_mark_of_an_empty_part_goes_to_the_block_before_it(send):
    (turn,) = send({"role": "user", "content": [text("a"), text(" ", MARK)]})["messages"]
    assert turn["content"] == [text("a", MARK)]


def test_a_mark_with_nothing_to_stand_on_is_named(send):
    body = send(
        {"role": "system", "content": [text("", MARK)]},
        {"role": "user", "content": [text("", MARK), text("a")]},
        dropped=["cache_control"],
    )
    assert marks(body) == []


def test_a_mark_that_is_no_object_is_a_400(make_call):
    with pytest.raises(GatewayError) as caught:
        make_call({"messages": [{"role": "user", "content": [text("a") | {"cache_control": 1}]}]})
    assert caught.value.param == "messages[0].content[0].cache_control"


@pytest.mark.parametrize("where", ["part", "tool"])
def test_claude_web_names_what_it_cannot_mark(where):
    from providers.claude.web import PROVIDER as WEB
    from tests.calls import asked_of, read_by

    part = text("a", MARK) if where == "part" else text("a")
    body = {"messages": [{"role": "user", "content": [part]}]}
    assert read_by(WEB, asked_of(body)).dropped == (["cache_control"] if where == "part" else [])
