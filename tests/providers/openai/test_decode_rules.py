"""The rules by which OpenAI chat answers become events, one by one, on chunks made by hand."""

import json

import pytest

from app.wire.events import (
    Extension,
    Finish,
    Reasoning,
    Refusal,
    Started,
    Text,
    Thought,
    TokenLogprob,
    Unknown,
    Usage,
)
from tests.providers.openai.chat_answers import DONE, chunk, event, failed, outcome, read, whole

STARTED = Started("c", "m")
STOPPED = Finish("stop", native="stop")
END = chunk({}, "stop")
HELLO = chunk({"content": "Hello"})


def said(*pieces, n=1):
    """What an answer says between its beginning and its ends."""
    events = read(*pieces, n=n)
    assert isinstance(events[0], Started)
    return [e for e in events[1:] if not isinstance(e, Finish | Usage)]


def ends(*pieces, n=1):
    return [e for e in read(*pieces, n=n) if isinstance(e, Finish | Usage)]


# --- framing, [DONE], a whole answer for a stream ---------------------------------------------


@pytest.mark.parametrize(
    "stream",
    [
        HELLO + END,
        (HELLO + END).replace(b"data: ", b"data:"),
        (HELLO + END).replace(b"\n", b"\r\n"),
        (HELLO + END).replace(b"\n", b"\r"),
        b": OPENROUTER PROCESSING\n\n" * 5 + HELLO + b": ping\n\n" + END,
        (HELLO + END).replace(b'"model"', b'\ndata: "model"'),
        b"event: message\nid: 7\nretry: 5\n" + HELLO + END,
        HELLO + END.rstrip(b"\n"),
        b"\n\n" + HELLO + END,
        b"  \n " + HELLO + END,
        HELLO + END + DONE,
        HELLO + END + b"data: [DONE] \n\n",
        HELLO + END + b"data:[DONE]",
    ],
)
def test_every_framing_of_server_sent_events_is_read(stream):
    for pieces in ([stream], [stream[i : i + 1] for i in range(len(stream))]):
        assert read(*pieces) == [STARTED, Text("Hello"), STOPPED]


@pytest.mark.parametrize("before", [b"", b" \n\n  ", b"\xef\xbb\xbf", b"\n" * 3000])
def test_a_whole_answer_in_place_of_a_stream_is_read(before):
    body = before + whole({"content": "Hello"})
    for pieces in ([body], [body[i : i + 1] for i in range(len(body))]):
        assert read(*pieces) == [STARTED, Text("Hello"), STOPPED]


def test_nothing_but_usage_is_taken_after_done():
    usage = event({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}})
    events = read(HELLO + END + DONE + HELLO + chunk({"content": "x"}, "length") + usage)
    assert events == [STARTED, Text("Hello"), STOPPED, Usage(1, 2)]


@pytest.mark.parametrize(
    "other",
    [
        {"reasoning_content": "why"},
        {"refusal": "no"},
        {"content": "x", "annotations": [{"type": "url_citation"}]},
        {"content": [{"type": "text", "text": "x"}]},
        {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "f", "arguments": "{}"}}]},
    ],
)
def test_plain_text_is_told_whatever_comes_between(other):
    numbers = [str(number) for number in range(30)]
    pieces = [chunk({"content": number, "role": "assistant"}) for number in numbers]
    nulls = b'"refusal":null,"tool_calls":null,"reasoning_content":null,"content":'
    pieces[1::2] = [piece.replace(b'"content":', nulls) for piece in pieces[1::2]]
    pieces[2::3] = [
        piece.replace(b'"choices":', b'"usage":null,"error":null,"choices":')
        for piece in pieces[2::3]
    ]
    for at in (0, 1, 5, 29, 30):
        mixed = [*pieces[:at], chunk(other), *pieces[at:], END]
        alone = said(HELLO + chunk(other) + END)[1:]
        assert [e for e in said(*mixed) if e not in alone] == [Text(number) for number in numbers]
        assert sum(e in alone for e in said(*mixed)) == len(alone)


# --- errors -----------------------------------------------------------------------------------

ERROR = {"message": "sorry", "type": "server_error", "code": None}


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (event({"error": ERROR}), 502, "upstream_error"),
        (event({"error": ERROR | {"code": 429}}), 429, "429"),
        (event({"error": ERROR | {"code": "rate_limit_exceeded"}}), 429, "rate_limit_exceeded"),
        (event({"error": ERROR | {"status_code": 400}}), 400, None),
        (event({"error": ERROR | {"status_code": 503, "code": "tokens"}}), 503, "tokens"),
        (event({"error": ERROR | {"code": 529}}), 529, "529"),
        (event({"error": ERROR | {"code": 600}}), 502, "600"),
        (event({"error": ERROR | {"type": "invalid_request_error"}}), 400, None),
        (event({"error": "sorry"}), 502, "upstream_error"),
        (chunk({"content": ""}, "error", error=ERROR | {"code": 503}), 503, "503"),
        (b"event: error\n" + event({"error": ERROR}), 502, "upstream_error"),
        (b"event: error\n" + event({"message": "sorry", "code": 429}), 429, "429"),
        (b"event: error\ndata: sorry\n\n", 502, "upstream_error"),
        (b"error: " + json.dumps({"code": 500, "message": "sorry"}).encode() + b"\n\n", 500, "500"),
    ],
)
def test_an_error_ends_the_answer_with_the_status_that_it_names(error, status, code):
    for before, told in ((b"", []), (HELLO, [STARTED, Text("Hello")])):
        for after in (b"", DONE, END + DONE):
            events, found = outcome([before + error + after])
            assert found is not None and "sorry" in found.message
            assert (found.status, found.code) == (status, code)
            assert events[: len(told)] == told
            assert not any(isinstance(e, Finish) for e in events)


@pytest.mark.parametrize("nothing", [None, False, "", {}, []])
def test_an_error_that_says_nothing_is_none(nothing):
    assert read(chunk({"content": "Hello"}, error=nothing) + END)[1] == Text("Hello")
    assert read(whole({"content": "Hello"}, error=nothing))[1] == Text("Hello")


def test_an_error_in_place_of_a_whole_answer_is_told():
    assert failed(event({"error": ERROR})[6:]).message == "sorry"


def test_an_error_of_the_choice_is_told_with_its_status():
    error = {"code": 429, "message": "sorry"}
    for stream in (chunk({}, "error", choice_error=error), chunk({}, choice_error=error)):
        events, found = outcome([HELLO + stream + END + DONE])
        assert events == [STARTED, Text("Hello")]
        assert found is not None and (found.status, found.message) == (429, "sorry")


@pytest.mark.parametrize("reason", ["error", "network_error"])
def test_a_finish_reason_that_means_failure_is_an_error(reason):
    events, error = outcome([HELLO + chunk({}, reason) + DONE])
    assert events == [STARTED, Text("Hello")]
    assert error is not None and error.status == 502


# --- the beginning ----------------------------------------------------------------------------


def test_the_answer_starts_with_the_first_chunk_that_holds_a_choice():
    filters = {"id": "", "model": "", "choices": [], "prompt_filter_results": [{}]}
    assert read(event(filters) + HELLO + END) == [STARTED, Text("Hello"), STOPPED]


def test_ids_that_differ_from_chunk_to_chunk_are_one_answer():
    other = HELLO.replace(b'"id": "c"', b'"id": "d"').replace(b'"model": "m"', b'"model": "n"')
    assert read(HELLO + other + END) == [STARTED, Text("Hello"), Text("Hello"), STOPPED]


@pytest.mark.parametrize("empty", ["", None])
def test_without_an_id_and_a_model_there_are_ours(empty):
    stream = chunk({"content": "Hello"}, "stop", id=empty, model=empty)
    assert read(stream)[0] == Started(f"chatcmpl-{1:024x}{0:08x}", "asked")


@pytest.mark.parametrize("choices", [{}, {"choices": None}, {"choices": []}])
def test_of_a_chunk_without_choices_only_the_usage_is_taken(choices):
    usage = {"usage": {"prompt_tokens": 1, "completion_tokens": 2}}
    for more in ({}, {"citations": ["x"]}, {"object": "ping"}):
        assert read(event(choices | more) + HELLO + END) == [STARTED, Text("Hello"), STOPPED]
    events = read(event(choices | usage | {"id": "c", "model": "m"}) + HELLO + END)
    assert events == [STARTED, Text("Hello"), STOPPED, Usage(1, 2)]


def test_in_chunks_the_delta_counts_and_the_message_only_without_one():
    so_far = {"role": "assistant", "content": "Hello"}
    both = chunk({"content": ""}, choice_message=so_far)
    assert said(HELLO + both + chunk({}, "stop", choice_message=so_far)) == [Text("Hello")]
    alone = event({"id": "c", "choices": [{"message": so_far, "finish_reason": "stop"}]})
    assert said(alone) == [Text("Hello")]


def test_in_a_whole_answer_the_message_counts_and_the_delta_only_without_one():
    delta = {"delta": {"content": "Hello"}, "finish_reason": "stop"}
    one = {"message": {"content": "Hello"}, "finish_reason": "stop", "delta": {"content": ""}}
    for choice in (delta, one, one | {"delta": {"content": "x"}}, delta | {"message": None}):
        assert said(json.dumps({"choices": [choice]}).encode()) == [Text("Hello")]


def test_members_that_mean_nothing_are_ignored():
    delta = {"content": "Hello", "role": None, "channel": "x", "token_id": 5, "p": "abc"}
    assert said(chunk(delta, choice_text="y", obfuscation="zz", object=7) + END) == [Text("Hello")]


def test_the_only_choice_has_index_0_whatever_it_is_called():
    stream = chunk({"content": "a"}, index=0) + chunk({"content": "b"}, index=5)
    assert read(stream + chunk({}, "stop", index=9))[1:] == [Text("a"), Text("b"), STOPPED]


def test_of_several_choices_each_has_its_index_and_a_missing_one_is_0():
    stream = chunk({"content": "a"}, index=None) + chunk({"content": "b"}, index=1)
    stream += chunk({}, "length", index=1) + chunk({}, "stop", index=None)
    ends = [STOPPED, Finish("length", 1, "length")]
    assert read(stream, n=2)[1:] == [Text("a"), Text("b", 1), *ends]


# --- thinking, content, refusals, extensions --------------------------------------------------


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning_content": "hm"},
        {"reasoning": "hm"},
        {"reasoning": {"content": "hm"}},
        {"reasoning_content": "hm", "reasoning": "hm"},
        {"reasoning_content": "", "reasoning": "hm"},
        {"reasoning_content": None, "reasoning": "hm", "content": None},
        {"reasoning": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
        {"reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "h"}, {"text": "m"}]},
        {"content": [{"type": "thinking", "thinking": "hm"}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]},
    ],
)
def test_thinking_is_told_once_under_whichever_name_it_came(delta):
    assert said(chunk(delta) + END) == [Reasoning("hm")]
    assert said(whole(delta)) == [Reasoning("hm")]
    if not isinstance(delta.get("content"), list):
        both = delta | {"content": "Hello"}
        assert said(HELLO + chunk(both) + END) == [Text("Hello"), Reasoning("hm"), Text("Hello")]


@pytest.mark.parametrize("member", ["signature", "data", "id"])
def test_details_that_must_come_back_are_an_extension(member):
    plain = {"type": "reasoning.text", "text": "hm", member: None}
    kept = {"type": "reasoning.encrypted", member: "abc", "index": 0}
    found = said(chunk({"reasoning": "hm", "reasoning_details": [plain, kept]}) + END)
    assert found == [Reasoning("hm"), Extension({"reasoning_details": [kept]})]


def test_a_signed_thought_is_told_once_and_comes_back_whole():
    detail = lambda **more: {"type": "reasoning.text", "index": 0, **more}  # noqa: E731
    stream = b"".join(
        chunk({"content": "", "reasoning": text, "reasoning_details": [detail(text=text)]})
        for text in ("h", "m")
    )
    stream += chunk({"content": "", "reasoning_details": [detail(signature="s")]})
    assert said(stream + HELLO + END) == [
        Reasoning("h"),
        Reasoning("m"),
        Thought("hm", "s"),
        Text("Hello"),
    ]
    both = [detail(text="h", signature="s"), detail(text="m", signature="t")]
    for told in ({"reasoning": "hm"}, {"reasoning_content": "hm"}, {}):
        assert said(whole({"content": None, "reasoning_details": both, **told})) == [
            Reasoning("h"),
            Thought("h", "s"),
            Reasoning("m"),
            Thought("m", "t"),
        ]


def test_thinking_in_other_words_than_its_details_is_told_once():
    details = [{"type": "reasoning.text", "text": "in full", "signature": "s"}]
    found = said(chunk({"reasoning": "in short", "reasoning_details": details}) + END)
    assert found == [Reasoning("in short"), Thought("in full", "s")]


def test_encrypted_thinking_of_anthropics_models_is_a_thought():
    detail = {"type": "reasoning.encrypted", "data": "d", "format": "anthropic-claude-v1"}
    assert said(chunk({"reasoning_details": [detail]}) + END) == [Thought(redacted="d")]


def test_pieces_of_one_detail_come_back_as_one():
    detail = {
        "type": "reasoning.summary",
        "index": 0,
        "id": "rs_1",
        "format": "openai-responses-v1",
    }
    locked = detail | {"type": "reasoning.encrypted", "data": "d", "index": 1}
    stream = b"".join(
        chunk({"reasoning": text, "reasoning_details": [detail | {"summary": text, "id": id}]})
        for text, id in (("h", "rs_1"), ("m", None))
    )
    stream += chunk({"reasoning_details": [locked]}) + HELLO
    assert said(stream + END) == [
        Reasoning("h"),
        Reasoning("m"),
        Text("Hello"),
        Extension({"reasoning_details": [detail | {"summary": "hm"}, locked]}),
    ]


def test_details_that_nobody_wants_back_are_told_as_thinking_only():
    details = [{"type": "reasoning.text", "text": "hm", "id": None, "signature": ""}]
    assert said(chunk({"reasoning_details": details}) + END) == [Reasoning("hm")]


def test_a_list_of_content_is_told_part_by_part():
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    reference = {"type": "reference", "reference_ids": [1, 2]}
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": ""}, image, reference]
    novel = {"type": "novel", "text": "of no known kind"}
    assert said(chunk({"content": [*parts, novel]}) + END) == [
        Text("a"),
        Extension({"images": [image]}),
        Extension({"references": [reference]}),
        Unknown("content_novel"),
    ]


def test_thinking_tags_are_text_where_nothing_else_was_asked():
    for text in ("<think>a</think>b", "a <think>b", "a</think>b"):
        assert said(chunk({"content": text}) + END) == [Text(text)]


@pytest.mark.parametrize("empty", ["", None])
def test_a_refusal_is_told_and_an_empty_one_is_none(empty):
    stream = chunk({"refusal": empty}) + chunk({"refusal": "No"}) + chunk({"refusal": empty}) + END
    assert said(stream) == [Refusal("No")]
    assert said(whole({"content": "a", "refusal": empty})) == [Text("a")]


def test_logprobs_go_with_their_text():
    token = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}
    stream = HELLO + chunk({"content": "a"}, choice_logprobs={"content": [token], "refusal": None})
    probable = Text("a", logprobs=[TokenLogprob("a", -0.5, [97])])
    assert said(stream + END) == [Text("Hello"), probable]


@pytest.mark.parametrize("odd", [[], "x", {"content": [{"token": 5}]}, {"content": "x"}])
def test_logprobs_of_another_shape_do_not_lose_the_text(odd):
    stream = HELLO + chunk({"content": "a"}, choice_logprobs=odd)
    assert said(stream + END) == [Text("Hello"), Unknown("logprobs"), Text("a")]
    assert said(HELLO + chunk({"content": "a"}, choice_logprobs={"tokens": []}) + END)[1:] == [
        Text("a")
    ]


@pytest.mark.parametrize("extra", [None, 5, {}, {"google": None}, {"google": {"thought": True}}])
def test_a_signature_beside_a_text_comes_back(extra):
    google = {"google": {"thought_signature": "sig"}}
    stream = HELLO + chunk({"content": "a", "extra_content": google})
    stream += chunk({"content": "b", "extra_content": extra})
    assert said(stream + END) == [
        *(Text("Hello"), Text("a"), Text("b")),
        Extension({"extra_content": google}),
    ]


@pytest.mark.parametrize("name", ["citations", "search_results"])
def test_an_extension_beside_the_choices_is_told_when_it_changes(name):
    told = lambda *values: chunk({"content": "a"}, **{name: list(values)})  # noqa: E731
    found = said(HELLO + told("x") + told("x") + told("x", "y") + END)
    extensions = [e for e in found if isinstance(e, Extension)]
    assert extensions == [Extension({name: ["x"]}), Extension({name: ["x", "y"]})]
    assert [e.text for e in found if isinstance(e, Text)] == ["Hello", "a", "a", "a"]


@pytest.mark.parametrize("name", ["annotations", "images"])
def test_an_extension_of_a_choice_is_told_when_it_changes_whatever_shares_its_chunk(name):
    told = lambda value, index: chunk({"content": "a", name: [value]}, index=index)  # noqa: E731
    stream = HELLO + told("x", 0) + told("x", 0) + told("x", 1) + told("y", 0)
    found = said(stream + chunk({}, "stop") + chunk({}, "stop", index=1), n=2)
    assert [e for e in found if isinstance(e, Extension)] == [
        Extension({name: ["x"]}),
        Extension({name: ["x"]}, 1),
        Extension({name: ["y"]}),
    ]


def test_thinking_blocks_are_whole_thoughts_whatever_shares_their_chunk():
    blocks = [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "d"},
    ]
    found = said(HELLO + chunk({"content": "a", "thinking_blocks": blocks}) + END)
    assert found[1:] == [Thought("hm", "s"), Thought(redacted="d"), Text("a")]


# --- the end ----------------------------------------------------------------------------------

WORDS = {
    "stop": ("stop", "eos", "end_turn", "stop_sequence"),
    "length": ("length", "max_tokens", "model_length", "model_context_window_exceeded"),
    "content_filter": ("content_filter", "sensitive", "refusal"),
}


@pytest.mark.parametrize(("reason", "word"), [(r, w) for r, words in WORDS.items() for w in words])
def test_each_word_for_an_ending_has_its_meaning(reason, word):
    assert ends(HELLO + chunk({}, word)) == [Finish(reason, native=word)]


def test_an_unknown_word_for_an_ending_is_stop_and_counted():
    assert read(HELLO + chunk({}, "novel"))[2:] == [
        Unknown("finish_reason_novel"),
        Finish("stop", native="novel"),
    ]


def test_the_first_finish_reason_holds_and_is_told_at_the_end():
    stream = chunk({}, "") + chunk({"content": "a"}, "length") + chunk({"content": "b"}, "stop")
    assert read(stream)[1:] == [Text("a"), Text("b"), Finish("length", native="length")]


def test_a_filter_that_took_something_out_is_the_reason_where_there_is_no_other():
    results = {"hate": {"filtered": False}, "violence": {"filtered": True}}
    filtered = chunk({"content": "a"}, choice_content_filter_results=results)
    assert ends(HELLO + filtered + DONE) == [Finish("content_filter", native="content_filter")]
    harmless = chunk({"content": "a"}, choice_content_filter_results={"hate": {"filtered": False}})
    assert ends(HELLO + harmless + END) == [STOPPED]


@pytest.mark.parametrize("n", [1, 3])
def test_without_a_finish_reason_done_makes_an_answer_whole_if_anything_was_said(n):
    for delta in ({"content": "a"}, {"reasoning": "a"}, {"refusal": "a"}):
        assert ends(chunk(delta) + DONE, n=n) == [Finish("stop")]


def test_done_ends_every_choice_once_one_of_them_has_said_anything():
    stream = chunk({"content": "a"}, index=1) + chunk({"role": "assistant"}, index=0) + DONE
    assert ends(stream, n=2) == [Finish("stop"), Finish("stop", 1)]


def test_an_empty_answer_that_stops_is_an_answer():
    assert read(chunk({"content": ""}, "stop")) == [STARTED, STOPPED]
    assert read(whole({"content": None})) == [STARTED, STOPPED]


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        (DONE, "upstream_bad_response"),
        (chunk({"role": "assistant", "content": ""}) + DONE, "upstream_bad_response"),
        (b"", "upstream_cut"),
        (b": ping\n\n", "upstream_cut"),
        (HELLO, "upstream_cut"),
        (HELLO + b"data: {unreadable\n\n", "upstream_cut"),
        (b"data: {unreadable\n\n", "upstream_bad_response"),
        (b"<html>", "upstream_cut"),
        (b'{"choices": []}', "upstream_bad_response"),
        (b"{}", "upstream_bad_response"),
        (b"[]", "upstream_bad_response"),
        (whole({"content": "a"})[:-1], "upstream_bad_response"),
    ],
)
def test_what_is_no_whole_answer_is_an_error(stream, code):
    assert failed(stream).code == code


def test_with_several_choices_each_must_have_finished():
    stream = chunk({"content": "a"}) + chunk({"content": "b"}, index=1) + chunk({}, "stop")
    assert failed(stream, n=2).code == "upstream_cut"


@pytest.mark.parametrize("bad", [b"{", b"", b"\xff", b'"text"', b"[" * 5000, b'{"choices": 5}'])
def test_one_unreadable_event_is_counted_and_left_out(bad):
    events = read(HELLO + b"data: " + bad + b"\n\n" + HELLO + END)
    assert events == [STARTED, Text("Hello"), Unknown("unreadable"), Text("Hello"), STOPPED]


def test_halves_of_a_character_in_two_chunks_are_joined():
    stream = chunk({"content": "\ud83d"}) + chunk({"content": "\ude00"}) + END
    assert "".join(e.text for e in said(HELLO + stream)) == "Hello😀"
