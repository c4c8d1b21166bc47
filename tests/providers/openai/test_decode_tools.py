"""The rules by which tool calls and token counts of OpenAI chat answers become events."""

import pytest

from app.wire.events import Finish, Text, ToolArguments, ToolCall, Unknown, Usage
from tests.providers.openai.chat_answers import DONE, chunk, event, read, tool, whole

END = chunk({}, "tool_calls")
CALLED = Finish("tool_calls", native="tool_calls")


def calls(*pieces):
    """Each call's id, name and joined arguments, by the number it was told under."""
    found: dict[int, list[str]] = {}
    for each in read(*pieces):
        if isinstance(each, ToolCall):
            assert each.tool == len(found)
            found[each.tool] = [each.id, each.name, each.arguments]
        elif isinstance(each, ToolArguments):
            found[each.tool][2] += each.arguments
    return list(found.values())


def made_up(number):
    return f"call_{number:024x}"


def test_a_call_in_pieces_is_told_once_and_then_in_pieces():
    stream = tool("", name="f", index=0, id="a") + tool('{"x"', index=0) + tool(":1}", index=0)
    assert read(stream + END)[1:] == [
        ToolCall("a", "f"),
        ToolArguments('{"x"'),
        ToolArguments(":1}"),
        CALLED,
    ]


def test_calls_are_numbered_from_0_whatever_their_index():
    stream = tool("{}", name="f", index=4, id="a") + tool("{}", name="g", index=2, id="b")
    assert calls(stream + END) == [["a", "f", "{}"], ["b", "g", "{}"]]


def test_pieces_of_parallel_calls_find_their_call_by_index():
    stream = tool("", name="f", index=0, id="a") + tool("", name="g", index=1, id="b")
    stream += tool("[1", index=0) + tool("[2", index=1) + tool("]", index=0) + tool("]", index=1)
    assert calls(stream + END) == [["a", "f", "[1]"], ["b", "g", "[2]"]]


def test_another_id_under_the_same_index_is_another_call():
    stream = tool("{}", name="f", index=0, id="a") + tool("{}", name="f", index=0, id="b")
    assert calls(stream + END) == [["a", "f", "{}"], ["b", "f", "{}"]]


def test_without_an_index_the_id_tells_which_call_it_is():
    stream = tool("[", name="f", id="a") + tool("[", name="g", id="b")
    stream += tool("1]", id="a") + tool("2]", id="b")
    assert calls(stream + END) == [["a", "f", "[1]"], ["b", "g", "[2]"]]


def test_without_index_and_id_a_name_begins_a_call_and_its_lack_goes_on():
    stream = tool("[", name="f") + tool("1]") + tool("[2]", name="f")
    found = calls(stream + END)
    assert [call[1:] for call in found] == [["f", "[1]"], ["f", "[2]"]]
    assert found[0][0] != found[1][0]


@pytest.mark.parametrize("missing", [{}, {"id": ""}, {"id": None}])
def test_a_call_without_an_id_gets_one_and_keeps_it(missing):
    stream = tool("[", name="f", index=0, **missing) + tool("1]", index=0, id="")
    [[id, *rest]] = calls(chunk({"content": "a"}) + stream + END)
    assert rest == ["f", "[1]"]
    assert len(id) == 29 and id.startswith("call_")
    assert int(id.removeprefix("call_"), 16) > 0


@pytest.mark.parametrize("index", [{"index": 0}, {}])
def test_an_id_that_comes_late_belongs_to_the_call_that_had_none(index):
    stream = tool("[", name="f", **index) + tool("1", id="a", **index) + tool("]", **index)
    [[id, *rest]] = calls(stream + END)
    assert id.startswith("call_") and rest == ["f", "[1]"]
    stream += tool("[2", name="g", id="b", **index) + tool("]", id="b", **index)
    assert [call[1:] for call in calls(stream + END)] == [["f", "[1]"], ["g", "[2]"]]


@pytest.mark.parametrize("index", [{"index": 0}, {}])
def test_a_call_with_id_and_name_is_another_than_the_one_without_an_id(index):
    stream = tool("[1]", name="f", **index) + tool("[2]", name="f", id="b", **index)
    assert [call[1:] for call in calls(stream + END)] == [["f", "[1]"], ["f", "[2]"]]


def test_an_id_that_comes_before_the_name_is_the_calls():
    stream = tool("[", index=0) + tool("1]", name="f", index=0, id="a")
    assert calls(stream + END) == [["a", "f", "[1]"]]


def test_of_a_whole_answer_each_entry_is_a_call():
    for same in ({"index": 0}, {"id": ""}, {"id": "a"}, {}):
        parts = [{"function": {"name": "f", "arguments": f"[{n}]"}, **same} for n in (1, 2)]
        found = calls(whole({"tool_calls": parts}, "tool_calls"))
        assert [call[1:] for call in found] == [["f", "[1]"], ["f", "[2]"]]


def test_an_empty_id_later_changes_nothing():
    stream = tool("[", name="f", index=0, id="a") + tool("1]", index=0, id="")
    assert calls(stream + END) == [["a", "f", "[1]"]]


def test_a_name_told_again_is_ignored_and_an_empty_one_too():
    stream = tool("[", name="f", index=0, id="a") + tool("1", name="", index=0)
    assert calls(stream + tool("]", name="g", index=0) + END) == [["a", "f", "[1]"]]


def test_arguments_that_come_before_the_name_wait_for_it():
    stream = tool("[1", index=0, id="a") + tool(",2", index=0) + tool("]", name="f", index=0)
    assert read(stream + END)[1:] == [ToolCall("a", "f", "[1,2]"), CALLED]
    stream = tool("[1") + tool(",2]") + tool(None, name="f") + tool("[3]", name="g")
    assert [call[1:] for call in calls(stream + END)] == [["f", "[1,2]"], ["g", "[3]"]]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"x": [1, 2.50], "y": {"z": None}}, '{"x":[1,2.5],"y":{"z":null}}'),
        ([1, 2], "[1,2]"),
        (None, "{}"),
        ("", "{}"),
        ("null", "{}"),
        ("{}", "{}"),
        ('{"a": "\u00e9\\n"}', '{"a": "\u00e9\\n"}'),
    ],
)
def test_arguments_of_any_kind_become_json_text(arguments, told):
    part = {"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}}
    assert calls(chunk({"tool_calls": [part]}) + END) == [["a", "f", told]]
    assert calls(whole({"tool_calls": [part]}, "tool_calls")) == [["a", "f", told]]


@pytest.mark.parametrize("arguments", [b"\"['\xff']\"", b'{"x": "\xff"}'])
def test_broken_utf8_in_arguments_is_replaced(arguments):
    part = b'{"id": "a", "function": {"name": "f", "arguments": %b}}' % arguments
    [[_, _, told]] = calls(chunk({"tool_calls": ["HERE"]}).replace(b'"HERE"', part) + END)
    assert told in ("['\ufffd']", '{"x":"\ufffd"}')


def test_arguments_as_an_object_keep_every_digit():
    part = b'{"id": "a", "function": {"name": "f", "arguments": {"x": 0.10000000000000000555}}}'
    stream = chunk({"tool_calls": ["HERE"]}).replace(b'"HERE"', part)
    assert calls(stream + END) == [["a", "f", '{"x":0.10000000000000000555}']]


@pytest.mark.parametrize("part", [{}, {"function": None}, {"function": {"arguments": None}}])
def test_a_call_without_any_arguments_has_none(part):
    stream = tool(None, name="f", index=0, id="a") + chunk({"tool_calls": [part | {"index": 0}]})
    assert calls(stream + END) == [["a", "f", "{}"]]


def test_a_signature_beside_a_call_goes_with_it():
    extra = {"google": {"thought_signature": "sig"}}
    [call] = [
        e
        for e in read(tool("{}", name="f", index=0, id="a", extra_content=extra) + END)
        if isinstance(e, ToolCall)
    ]
    assert call.signature == "sig"


def test_a_signature_of_the_message_goes_with_its_first_call():
    extra = {"google": {"thought": True, "thought_signature": "sig"}}
    parts = [{"id": id, "function": {"name": "f", "arguments": "{}"}} for id in ("a", "b")]
    message = {"extra_content": extra, "tool_calls": parts}
    signed = [ToolCall("a", "f", "{}", signature="sig"), ToolCall("b", "f", "{}", 1)]
    assert read(whole(message, "tool_calls"))[1:-1] == signed
    assert read(chunk(message) + END)[1:-1] == signed
    before = chunk({"content": None, "extra_content": extra})
    assert read(before + chunk({"tool_calls": parts}) + END)[1:-1] == signed
    own = {"google": {"thought_signature": "own"}}
    first = read(whole(message | {"tool_calls": [parts[0] | {"extra_content": own}]}))[1]
    assert first == ToolCall("a", "f", "{}", signature="own")


@pytest.mark.parametrize("extra", [None, 5, {}, {"google": None}, {"google": {"x": 1}}])
def test_other_extra_content_is_no_signature(extra):
    stream = tool("{}", name="f", index=0, id="a", extra_content=extra)
    assert read(stream + END)[1] == ToolCall("a", "f", "{}")


def test_arguments_that_are_no_json_are_passed_on_and_counted():
    stream = tool('{"x": ', name="f", index=0, id="a")
    counted = Unknown("tool_arguments_not_json")
    assert read(stream + END)[1:] == [ToolCall("a", "f", '{"x": '), counted, CALLED]
    assert counted not in read(stream + chunk({}, "length"))


def test_the_older_function_call_is_a_tool_call():
    pieces = ({"name": "f", "arguments": ""}, {"arguments": "[1"}, {"arguments": "]"})
    stream = b"".join(chunk({"function_call": piece, "content": None}) for piece in pieces)
    [[id, *rest]] = calls(stream + chunk({}, "function_call"))
    assert rest == ["f", "[1]"] and id == made_up(int(id[5:], 16))
    beside = chunk({"content": "a"}) + chunk({"content": "b", "function_call": pieces[0]})
    assert [call[1] for call in calls(beside + END)] == ["f"]
    [[_, *rest]] = calls(whole({"function_call": {"name": "f", "arguments": "[1]"}}))
    assert rest == ["f", "[1]"]


@pytest.mark.parametrize("reason", ["stop", "tool_calls", "tool_use", "function_call", "novel"])
def test_an_answer_with_a_call_ends_with_tool_calls(reason):
    finish = read(tool("{}", name="f", index=0, id="a") + chunk({}, reason))[-1]
    assert finish == Finish("tool_calls", native=reason)


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_an_answer_that_broke_off_in_a_call_says_why(reason):
    stream = tool("{", name="f", index=0, id="a") + chunk({}, reason)
    assert read(stream)[-1] == Finish(reason, native=reason)


def test_tool_calls_without_a_call_is_stop():
    assert read(chunk({"content": "a"}) + END)[-1] == Finish("stop", native="tool_calls")


def test_a_call_that_never_had_a_name_is_counted_and_is_none():
    found = read(chunk({"content": "a"}) + tool("{}", index=0, id="a") + END)[1:]
    unnamed = Unknown("tool_call_without_name")
    assert found == [Text("a"), unnamed, Finish("stop", native="tool_calls")]


def test_a_call_that_never_had_a_name_takes_no_number():
    stream = tool("{}", index=0, id="a") + tool("[]", name="g", index=1, id="b")
    assert read(stream + END)[1] == ToolCall("b", "g", "[]")


def test_a_call_and_done_are_a_whole_answer():
    assert read(tool("{}", name="f", index=0, id="a") + DONE)[-1] == Finish("tool_calls")


# --- usage ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "usage"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}, Usage(3, 4, 7)),
        ({"prompt_tokens": 3, "completion_tokens": 4}, Usage(3, 4)),
        ({"prompt_tokens": 3, "completion_tokens": None}, Usage(3)),
        ({"prompt_tokens": -3, "completion_tokens": 1 << 53}, Usage()),
        ({"prompt_tokens": 3, "completion_tokens": 10**30}, Usage(3)),
        ({"prompt_tokens": 3.0, "completion_tokens": 4.0}, Usage(3, 4)),
        # thinking outside the completion
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "total_tokens": 35,
                "completion_tokens_details": {"reasoning_tokens": 20},
            },
            Usage(10, 25, 35, reasoning_tokens=20),
        ),
        (
            {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 35},
            Usage(10, 25, 35, reasoning_tokens=20),
        ),
        # audio outside the prompt
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "total_tokens": 390,
                "prompt_tokens_details": {"audio_tokens": 375},
            },
            Usage(385, 5, 390, audio_tokens=375),
        ),
        ({"completion_tokens": 9, "reasoning_tokens": 4}, Usage(0, 9, reasoning_tokens=4)),
        ({"prompt_tokens_details": {"cached_tokens": 2}}, Usage(cached_tokens=2)),
        ({"prompt_tokens_details": None, "cached_tokens": 2}, Usage(cached_tokens=2)),
        ({"prompt_cache_hit_tokens": 2}, Usage(cached_tokens=2)),
        ({"num_cached_tokens": 2}, Usage(cached_tokens=2)),
        (
            {"prompt_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 3}},
            Usage(cached_tokens=2, cache_write_tokens=3),
        ),
    ],
)
def test_usage_is_counted_in_every_dialect(told, usage):
    hello = chunk({"content": "a"}, "stop")
    for stream in (
        hello + event({"choices": [], "usage": told}),
        chunk({"content": "a"}, "stop", usage=told),
        hello + chunk({}, "stop", usage=told) + DONE,
        hello + DONE + event({"choices": [], "usage": told}),
        hello + event({"choices": [], "x_groq": {"usage": told}}),
        hello + event({"choices": [], "usage": None, "x_groq": {"usage": told}}),
        chunk({"content": "b"}) + chunk({"content": "a"}, x_groq={"usage": told}) + hello,
        whole({"content": "a"}, usage=told),
    ):
        assert [e for e in read(stream) if isinstance(e, Usage)] == [usage]


def test_the_last_usage_holds_and_is_never_a_sum():
    counts = [{"prompt_tokens": 3, "completion_tokens": n} for n in (1, 2, 3)]
    stream = b"".join(chunk({"content": "a"}, usage=told) for told in counts)
    stream += chunk({}, "stop", usage=None) + event({"choices": [], "usage": "x"})
    found = read(stream)
    assert found[-1] == Usage(3, 3) and not any(isinstance(e, Usage) for e in found[:-1])


def test_usage_at_the_top_comes_before_groqs():
    top, groq = {"prompt_tokens": 1}, {"usage": {"prompt_tokens": 2}}
    assert read(chunk({"content": "a"}, "stop", usage=top, x_groq=groq))[-1] == Usage(1)


@pytest.mark.parametrize("usage", [None, [], "none"])
def test_what_is_no_usage_is_not_told(usage):
    stream = chunk({"content": "a"}, "stop", usage=usage, x_groq={"usage": usage})
    assert isinstance(read(stream)[-1], Finish)
