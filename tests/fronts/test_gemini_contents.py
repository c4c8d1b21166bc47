"""Google's contents as messages: which result belongs to which call, files, signatures."""

import json

import pytest

from app.fronts.gemini.request import read_counted
from app.fronts.gemini.signatures import sign
from app.wire.chat import ChatRequest
from app.wire.errors import GatewayError
from app.wire.events import Thought
from tests.fronts.gemini_calls import (
    PNG,
    RECORDINGS,
    asked_of,
    called,
    model,
    refusal,
    result,
    talk,
    to_claude,
    to_openai,
    user,
)

# --- calls and results ------------------------------------------------------------------------


def pairs(chat: ChatRequest) -> list[tuple[str, str]]:
    """Each call's id and the text of its result, in the order of the results."""
    return [(m.tool_call_id, m.content) for m in chat.messages if m.role == "tool"]


def ids(chat: ChatRequest) -> list[str]:
    return [c.id for m in chat.messages for c in m.tool_calls or ()]


def test_calls_without_ids_are_answered_in_order():
    chat = talk(
        model(called("f"), called("f"), called("g")),
        user(result("g", "3"), result("f", "1"), result("f", "2")),
    )
    assert pairs(chat) == list(zip(ids(chat), ["1", "2", "3"], strict=True))
    assert len(set(ids(chat))) == 3
    assert all(len(each) == 29 and each.startswith("call_") for each in ids(chat))


def test_an_id_that_was_made_up_is_the_same_in_the_next_request():
    first = talk(model(called("f")), user(result("f", "1")))
    second = talk(model(called("f")), user(result("f", "1")), model({"text": "so"}), user())
    assert ids(first) == ids(second)


def test_ids_win_over_order_and_prefixes_are_taken_off():
    chat = talk(
        model(called("f", id="f_1_0"), called("f", id="f_1_1")),
        user(result("f", "second", id="f__f_1_1"), result("f", "first", id="f_1_0")),
    )
    assert pairs(chat) == [("f_1_0", "first"), ("f_1_1", "second")]


def test_results_without_a_name_go_by_place_and_one_too_many_is_refused():
    two = model(called("f"), called("g"))
    chat = talk(two, user(result("", "1"), result("", "2")))
    assert [text for _, text in pairs(chat)] == ["1", "2"]
    with pytest.raises(GatewayError) as caught:
        talk(two, user(result("f", "1"), result("g", "2"), result("g", "3")))
    assert caught.value.status == 400
    assert caught.value.param == "contents[2].parts[2].functionResponse"


def test_a_call_without_a_result_gets_an_empty_one():
    chat = talk(model(called("f"), called("g")), user(result("g", "2"), {"text": "and now?"}))
    assert [text for _, text in pairs(chat)] == ["", "2"]
    assert chat.messages[-1].content == "and now?"


def test_results_may_come_in_contents_of_their_own_and_ids_twice():
    chat = talk(
        model(called("f", id="a")),
        model(called("f", id="a")),
        {"role": "function", "parts": [result("f", "1", id="a")]},
        {"role": "tool", "parts": [result("f", "2", id="a")]},
    )
    assert [text for _, text in pairs(chat)] == ["1", "2"]
    assert len(set(ids(chat))) == 2


@pytest.mark.parametrize(
    ("response", "text", "is_error"),
    [
        ({"output": "x"}, "x", False),
        ({"result": "x"}, "x", False),
        ({"error": "x"}, "x", True),
        ({"result": 3}, '{"result":3}', False),
        ({"output": "x", "more": 1.50}, '{"output":"x","more":1.5}', False),
        ({}, "", False),
        (None, "", False),
    ],
)
def test_a_result_says_what_it_holds(response, text, is_error):
    told_ = {"functionResponse": {"name": "f", "response": response}}
    message = talk(model(called("f")), user(told_)).messages[2]
    assert (message.content, message.is_error) == (text, is_error)


def test_pictures_beside_results_follow_all_results():
    chat = talk(
        model(called("f"), called("g")),
        user(
            result("f", "1"),
            {"inlineData": {"mimeType": "image/png", "data": PNG}},
            result("g", "2"),
        ),
    )
    roles = [message["role"] for message in to_openai(chat)["messages"]]
    assert roles == ["user", "assistant", "tool", "tool", "user"]


def test_pictures_inside_a_result_belong_to_it():
    held = {"inlineData": {"mimeType": "image/png", "data": PNG}}
    chat = talk(model(called("f")), user(result("f", "1", parts=[held])))
    assert [part.type for part in chat.messages[2].content] == ["text", "image_url"]


def test_a_lone_result_can_be_counted():
    request = RECORDINGS["count-tokens"]
    chat = read_counted(asked_of(request["body"], request["path"]))
    assert [message.role for message in chat.messages] == ["tool", "tool", "user"]
    whole = {"generateContentRequest": {"model": "models/m", "contents": ["a", "b"]}}
    assert len(read_counted(asked_of(whole)).messages) == 2


# --- parts ------------------------------------------------------------------------------------


def test_files_of_each_kind():
    chat = talk(
        user(
            {"inlineData": {"mimeType": "image/png", "data": PNG.replace("+", "-")}},
            {"inlineData": {"mimeType": "audio/mp3", "data": "SUQz"}},
            {"inlineData": {"mimeType": "application/pdf", "data": "JVBERi0xLjQ"}},
            {"fileData": {"fileUri": "https://example.com/a.png"}},
            {"fileData": {"fileUri": "https://example.com/a", "mimeType": "application/pdf"}},
        )
    )
    parts = chat.messages[1].content
    assert [part.type for part in parts] == [
        "image_url",
        "input_audio",
        "file",
        "image_url",
        "file",
    ]
    assert parts[0].image_address() == f"data:image/png;base64,{PNG}"
    assert parts[1].input_audio.format == "mp3"
    assert parts[2].file.file_data == "data:application/pdf;base64,JVBERi0xLjQ="
    assert parts[4].file.url == "https://example.com/a"


@pytest.mark.parametrize(
    "part",
    [
        {"inlineData": {"mimeType": "video/mp4", "data": "AAAA"}},
        {"fileData": {"fileUri": "gs://bucket/a.png", "mimeType": "image/png"}},
        {"fileData": {"fileUri": "https://www.youtube.com/watch?v=1"}},
        {"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/a"}},
    ],
)
def test_what_only_gemini_reads_is_refused_with_its_path(part):
    error = refusal({"contents": [user(part)]})
    assert error.param.startswith("contents[0].parts[0].")


def test_code_that_ran_at_google_is_text_and_thoughts_are_nothing():
    chat = talk(
        model(
            {"text": "hm", "thought": True},
            {"executableCode": {"language": "PYTHON", "code": "1+1"}},
            {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "2"}},
            {"text": "Two."},
        )
    )
    assert chat.messages[1].content == "\n```python\n1+1\n```\n\n```\n2\n```\nTwo."


# --- signatures -------------------------------------------------------------------------------

THOUGHT = Thought("Let me see.", "EqMBCkYIBRgC+/==")


@pytest.mark.parametrize("other_alphabet", [False, True])
def test_claudes_thought_comes_back_before_the_call(other_alphabet):
    signature = sign([THOUGHT, Thought(redacted="c2VjcmV0")], "Let me see.", "a")
    if other_alphabet:
        signature = signature.replace("+", "-").replace("/", "_")
    chat = talk(
        model({"text": "I look."}, called("f", id="a") | {"thoughtSignature": signature}),
        user(result("f", "1", id="a")),
    )
    blocks = to_claude(chat)["messages"][1]["content"]
    assert blocks[:2] == [
        {"type": "thinking", "thinking": THOUGHT.text, "signature": THOUGHT.signature},
        {"type": "redacted_thinking", "data": "c2VjcmV0"},
    ]
    assert [block["type"] for block in blocks[2:]] == ["text", "tool_use"]
    assert "anyproxy" not in json.dumps(to_openai(chat))


def test_a_thought_before_a_later_call_comes_back_there():
    first, second = sign([THOUGHT], "", "a"), sign([Thought("More.", "c2ln")], "", "b")
    chat = talk(
        model(
            called("f", id="a") | {"thoughtSignature": first},
            called("g", id="b") | {"thoughtSignature": second},
        ),
        user(result("f", "1", id="a"), result("g", "2", id="b")),
    )
    kinds = [block["type"] for block in to_claude(chat)["messages"][1]["content"]]
    assert kinds == ["thinking", "tool_use", "thinking", "tool_use"]


def test_a_thought_too_large_for_a_signature_is_remembered_by_the_call():
    large = Thought("x" * 70_000, "c2ln")
    assert sign([large], "", "call_large") is None
    chat = talk(model(called("f", id="call_large")), user(result("f", "1", id="call_large")))
    assert chat.messages[1].thinking_blocks[0]["thinking"] == large.text


def test_a_thought_without_a_signature_comes_back_to_the_round_of_its_call():
    """DeepSeek and Kimi refuse a round of tools whose thought is missing."""
    turns = [
        model(called("f", id="a") | {"thoughtSignature": sign([], "I look.", "a")}),
        user(result("f", "1", id="a")),
    ]
    chat = talk(*turns)
    assert chat.messages[1].reasoning_content == "I look."
    assert "thinking" not in json.dumps(to_claude(chat))
    later = talk(*turns, model({"text": "Two."}), user({"text": "And now?"}))
    assert later.messages[1].reasoning_content is None
    assert sign([], "x" * 70_000, "call_long") is None
    long = talk(model(called("f", id="call_long")), user(result("f", "1", id="call_long")))
    assert long.messages[1].reasoning_content == "x" * 70_000


@pytest.mark.parametrize("signature", ["skip_thought_signature_validator", "c2lnbmF0dXJl"])
def test_other_signatures_reach_neither_openai_nor_claude(signature):
    chat = talk(model(called("f") | {"thoughtSignature": signature}), user(result("f", "1")))
    assert signature not in json.dumps([to_openai(chat), to_claude(chat)])
