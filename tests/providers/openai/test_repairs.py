"""Bodies that an upstream refuses: which words mean which repair, and what it changes."""

import json
import re

import pytest

from app.wire.chat import ChatRequest
from app.wire.dialect import Dialect
from app.wire.upstream import UpstreamReply
from providers.openai.learned import Learned, learn
from providers.openai.repairs import (
    MEMBERS,
    TABLE,
    TRANSLATED_TABLE,
    Memory,
    Repair,
    meant_by,
    repaired,
    required_by,
    written_for,
)

ANY = Dialect()
# As upstreams were seen to say it, or as their documents have it.
REFUSALS = {
    "openai max_tokens": (
        "Unsupported parameter: 'max_tokens' is not supported with this model. "
        "Use 'max_completion_tokens' instead.",
        {"max_tokens": 5},
        {"max_completion_tokens": 5},
        "max_tokens",
    ),
    "azure max_completion_tokens": (
        "Unrecognized request argument supplied: max_completion_tokens",
        {"max_completion_tokens": 5},
        {"max_tokens": 5},
        "max_completion_tokens",
    ),
    "google max_completion_tokens": (
        'Invalid JSON payload received. Unknown name "max_completion_tokens": Cannot find field.',
        {"max_completion_tokens": 5},
        {"max_tokens": 5},
        "max_completion_tokens",
    ),
    "deepseek developer": (
        "Failed to deserialize the JSON body into the target type: messages[0].role: unknown "
        "variant `developer`, expected one of `system`, `user`, `assistant`, `tool`",
        {"messages": [{"role": "developer", "content": "x"}]},
        {"messages": [{"role": "system", "content": "x"}]},
        "developer",
    ),
    "dashscope developer": (
        "developer is not one of ['system', 'assistant', 'user', 'tool'] - 'messages.['0].role'",
        {"messages": [{"role": "developer", "content": "x"}]},
        {"messages": [{"role": "system", "content": "x"}]},
        "developer",
    ),
    "azure stream_options": (
        "Unrecognized request argument supplied: stream_options",
        {"stream_options": {"include_usage": True}},
        {},
        "stream_options",
    ),
    "groq reasoning_content": (
        "'messages.1' : for 'role:assistant' the following must be satisfied"
        "[('messages.1' : property 'reasoning_content' is unsupported)]",
        {"messages": [{"role": "assistant", "content": "a", "reasoning_content": "t"}]},
        {"messages": [{"role": "assistant", "content": "a"}]},
        "reasoning_content",
    ),
    "xai presencePenalty": (
        "Model grok-4 does not support parameter presencePenalty.",
        {"presence_penalty": 1},
        {},
        "presence_penalty",
    ),
    "nvidia parallel_tool_calls": (
        "Validation: Unsupported parameter(s): `parallel_tool_calls`",
        {"parallel_tool_calls": True},
        {},
        "parallel_tool_calls",
    ),
    "groq name": (
        "'messages.0' : property 'messages.0.name' is unsupported",
        {"messages": [{"role": "user", "content": "a", "name": "n"}]},
        {"messages": [{"role": "user", "content": "a"}]},
        "name",
    ),
    "a list of parts": (
        "messages[0]: invalid type: sequence, expected a string at line 1 column 60",
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}] * 2}]},
        {"messages": [{"role": "user", "content": "a\na"}]},
        "content",
    ),
}


def refusal(message: str, status: int = 400, **more) -> UpstreamReply:
    return UpstreamReply(status, {}, json.dumps({"error": {"message": message, **more}}).encode())


def after(reply: UpstreamReply, members: dict, dialect: Dialect = ANY):
    """The body after the first row that the refusal means and that changes it."""
    body = json.dumps({"model": "m", **members}).encode()
    for row in meant_by(reply):
        changed, names = repaired(body, [row], dialect)
        if names:
            return json.loads(changed), names
    return None


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("case", REFUSALS)
def test_each_row_knows_its_refusal_and_repairs_the_body(case, status):
    message, sent, wanted, name = REFUSALS[case]
    assert after(refusal(message, status), sent) == ({"model": "m", **wanted}, [name])


@pytest.mark.parametrize("name", MEMBERS)
def test_each_member_of_the_fixed_list_is_left_out_when_it_is_refused(name):
    told = {"detail": [{"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs"}]}
    reply = UpstreamReply(422, {}, json.dumps(told).encode())
    assert after(reply, {name: 1, "keep": [1.50]}) == ({"model": "m", "keep": [1.5]}, [name])


def test_mistrals_ids_become_nine_signs_the_same_in_calls_and_results():
    message = "Tool call id was call_abc but must be a-z, A-Z, 0-9, with a length of 9."
    calls = [{"id": "call_abc", "function": {"name": "f"}}, {"id": "aB3dE6gH9", "function": {}}]
    said = [
        {"role": "assistant", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call_abc", "content": "1"},
        {"role": "tool", "tool_call_id": "aB3dE6gH9", "content": "2"},
    ]
    found = after(refusal(message), {"messages": said})
    assert found is not None and found[1] == ["tool_call_id"]
    assistant, one, two = found[0]["messages"]
    ids = [call["id"] for call in assistant["tool_calls"]]
    assert ids == [one["tool_call_id"], two["tool_call_id"]]
    assert re.fullmatch("[A-Za-z0-9]{9}", ids[0]) and ids[1] == "aB3dE6gH9"


@pytest.mark.parametrize(
    ("back", "wanted"),
    [
        ("reasoning", {"content": "a", "reasoning": "t"}),
        (
            "part",
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "t"}]},
                    {"type": "text", "text": "a"},
                ]
            },
        ),
        ("none", {"content": "a"}),
    ],
)
def test_refused_thinking_goes_where_the_dialect_wants_it(back, wanted):
    said = {"role": "assistant", "content": "a", "reasoning_content": "t"}
    reply = refusal("Extra inputs are not permitted", param="messages.0.reasoning_content")
    found = after(reply, {"messages": [said]}, Dialect(thinking_back=back))
    assert found is not None and found[0]["messages"] == [{"role": "assistant", **wanted}]


@pytest.mark.parametrize(
    "message",
    [
        "max_tokens is too large: 200000. This model supports at most 16384 completion tokens.",
        "Invalid 'max_tokens': integer below minimum value.",
        "Missing `reasoning_content` field in the assistant message at message index 1",
        "Unsupported value: 'verbosity' does not support 'low' with this model.",
        "tool_choice 'required' is not supported while thinking is enabled",
        "This response_format type is unavailable now",
        "image_url is only supported by certain models",
        "The 'n' parameter is not supported.",
        "Your prompt was refused: user input is unsafe",
        "",
    ],
)
def test_what_would_change_the_answers_meaning_is_told(message):
    body = {name: 1 for name in (*MEMBERS, "max_tokens", "tool_choice", "response_format", "n")}
    body["messages"] = [{"role": "assistant", "content": "a", "reasoning_content": "t"}]
    assert after(refusal(message), body) is None


@pytest.mark.parametrize("status", [401, 404, 413, 429, 500])
def test_only_a_refused_body_is_repaired(status):
    assert meant_by(refusal("Unsupported parameter: 'stop'", status)) == []


def test_a_body_that_needs_no_row_is_the_very_same():
    body = b'{"model":"m", "big":123456789012345678901234567890, "x":1.50}'
    assert repaired(body, TABLE, ANY)[0] is body
    for text in (b'{"messages":[{"role":"user","content":"say \\"stop\\""}]}', b'{"a":"\\u00e9"}'):
        assert repaired(text, TABLE, ANY) == (text, [])


def test_what_a_repair_does_not_concern_keeps_its_digits():
    body = b'{"stop":["a"],"big":123456789012345678901234567890,"x":1.50}'
    rows = required_by(Dialect(refuses=frozenset({"stop"})))
    wanted = b'{"big":123456789012345678901234567890,"x":1.50}', ["stop"]
    assert repaired(body, rows, ANY) == wanted
    assert repaired(body.replace(b'"stop"', b'"st\\u006fp"'), rows, ANY) == wanted


def test_what_was_learned_is_kept_for_an_hour_and_not_without_end():
    memory, rows = Memory(), TABLE[:1]
    memory.keep("u", "m", rows, 1000)
    assert memory.rows("u", "m", 1000 + 3599) == rows
    assert memory.rows("u", "m", 1000 + 3600) == () == memory.rows("u", "other", 1000)
    for number in range(3000):
        memory.keep("u", str(number), rows, 1000)
    assert len(memory.kept) == 1000 and memory.rows("u", "2999", 1000) == rows


# --- the gateway's own bodies ---------------------------------------------------------------------


def rewritten(row: Repair, messages: list, **dialect) -> dict:
    body = json.dumps({"model": "m", "messages": messages}).encode()
    return json.loads(repaired(body, [row], Dialect(**dialect))[0])


def translated_row(message: str) -> Repair:
    row, *_ = meant_by(refusal(message), TRANSLATED_TABLE)
    assert row not in TABLE  # callers of this very wire are told
    return row


def test_mistrals_users_do_not_speak_right_after_a_tool():
    row = translated_row("Unexpected role 'user' after role 'tool'")
    said = [
        {"role": "tool", "content": "1"},
        {"role": "tool", "content": "2"},
        {"role": "user", "content": "and?"},
    ]
    roles = [each["role"] for each in rewritten(row, said)["messages"]]
    assert roles == ["tool", "tool", "assistant", "user"]
    assert rewritten(row, said[:2])["messages"] == said[:2]
    assert row in written_for(Dialect(turns="answered"))


def test_neighbours_of_one_role_become_one_message():
    row = translated_row("user or tool message(s) should alternate with assistant message(s).")
    picture = {"type": "image_url", "image_url": {"url": "https://x/y.png"}}
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "a"}]}
    said = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "a"},
        {"role": "user", "content": "b"},
        {"role": "user", "content": [picture]},
        {"role": "assistant", "content": "c"},
        call,
    ]
    system, user, *rest = rewritten(row, said)["messages"]
    assert system == said[0] and rest == said[4:]
    assert user["content"] == [{"type": "text", "text": "a\n\nb"}, picture]
    assert rewritten(row, said[:3])["messages"][1]["content"] == "a\n\nb"
    assert row in written_for(Dialect(turns="alternate"))


@pytest.mark.parametrize(
    "message",
    [
        "The `reasoning_content` in the thinking mode must be passed back to the API.",
        "thinking is enabled but reasoning_content is missing in assistant tool call message",
        "tool_choice 'specified' is incompatible with thinking enabled",
        "parameter.enable_thinking must be set to false for non-streaming calls",
    ],
)
def test_a_model_that_cannot_think_this_time_does_not(message):
    row = translated_row(message)
    assert not row.lasts
    assert rewritten(row, [], thinking="thinking")["thinking"] == {"type": "disabled"}
    assert rewritten(row, [], thinking="enable_thinking")["enable_thinking"] is False
    assert rewritten(row, []) == {"model": "m", "messages": []}


@pytest.mark.parametrize("message", ["must be passed back to the API", "is missing"])
def test_thinking_that_is_wanted_back_is_not_taken_for_refused(message):
    known = Learned()
    said = refusal(f"The `reasoning_content` in the thinking mode {message}.")
    assert not learn(known, said, ChatRequest(messages=[], model="m"), None)
    assert known.refused == set()
